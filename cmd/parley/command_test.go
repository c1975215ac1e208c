package main_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestCommandLine(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args   []string
		code   int
		out    string // in standard output
		errors string // in standard error
	}{
		"Version":        {[]string{"version"}, 0, "parley ", ""},
		"Help":           {[]string{"--help"}, 0, "decode", ""},
		"HelpOfServe":    {[]string{"serve", "--help"}, 0, "Run a node", ""},
		"HelpOfDemo":     {[]string{"demo", "--help"}, 0, "check every promise", ""},
		"HelpOfSim":      {[]string{"sim", "meta", "--help"}, 0, "judge it from outside", ""},
		"WrongTarget":    {[]string{"sim", "meta", "nowhere"}, 1, "", "http://host:port/path"},
		"WrongFraction":  {[]string{"sim", "meta", "http://127.0.0.1:1/", "--duplicates", "2"}, 1, "", "--duplicates: want a fraction"},
		"WrongCode":      {[]string{"sim", "meta", "http://127.0.0.1:1/", "--user-errors", "x"}, 1, "", "want CODE"},
		"HelpOfDecode":   {[]string{"decode", "--help"}, 0, "standard input", ""},
		"HelpOfMigrate":  {[]string{"migrate", "--help"}, 0, "never goes", ""},
		"HelpOfBackup":   {[]string{"store", "backup", "--help"}, 0, "checkpoint", ""},
		"HelpOfCopy":     {[]string{"store", "copy", "--help"}, 0, "goes on where it was", ""},
		"HelpOfRestore":  {[]string{"store", "restore", "--help"}, 0, "stays as it is", ""},
		"HelpOfMembers":  {[]string{"cluster", "members", "--help"}, 0, "Admin address", ""},
		"HelpOfStatus":   {[]string{"cluster", "status", "--help"}, 0, "what to look at", ""},
		"HelpOfWhere":    {[]string{"cluster", "where", "--help"}, 0, "brand/kind/channel/contact", ""},
		"HelpOfDrain":    {[]string{"cluster", "drain", "--help"}, 0, "not ready", ""},
		"HelpOfLetters":  {[]string{"deadletters", "--help"}, 0, "Meta would not take", ""},
		"HelpOfList":     {[]string{"deadletters", "list", "--help"}, 0, "Nothing that people wrote", ""},
		"HelpOfShow":     {[]string{"deadletters", "show", "--help"}, 0, "who looks over your shoulder", ""},
		"HelpOfRetry":    {[]string{"deadletters", "retry", "--help"}, 0, "Turn.Late", ""},
		"HelpOfDrop":     {[]string{"deadletters", "drop", "--help"}, 0, "dropped is gone", ""},
		"HelpOfVersion":  {[]string{"version", "--help"}, 0, "Print the version", ""},
		"Nothing":        {nil, 2, "", "expected one of"},
		"UnknownCommand": {[]string{"dance"}, 2, "", "dance"},
		"UnknownFlag":    {[]string{"serve", "--dance"}, 2, "", "--dance"},
		"WrongValue":     {[]string{"demo", "--duration", "soon"}, 2, "", "duration"},
		"WrongPlace":     {[]string{"cluster", "where", "acme/messenger/1"}, 1, "", "want brand/kind/channel/contact"},
		"NoToken":        {[]string{"cluster", "members", "--token", "env:PARLEY_NONE"}, 1, "", "PARLEY_NONE"},
		"NoFile":         {[]string{"serve", "--config", filepath.Join("testdata", "none.yaml")}, 1, "", "none.yaml"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := run(t, "", row.args...)
			e.want(t, row.code, row.errors)
			if !strings.Contains(e.out, row.out) {
				t.Errorf("standard output lacks %q:\n%s", row.out, e.out)
			}
			if row.code != 0 && e.out != "" {
				t.Errorf("a failure writes to standard output: %q", e.out)
			}
		})
	}
}

// Every flag has words of help: beside it, or on the next line if it is long.
func TestHelpIsWhole(t *testing.T) {
	t.Parallel()
	for _, name := range []string{"serve", "demo", "decode", "migrate up", "migrate status", "store backup", "store restore", "store copy", "cluster members", "cluster status", "cluster where", "cluster drain", "deadletters list", "deadletters show", "deadletters retry", "deadletters drop", "sim meta"} {
		lines := strings.Split(run(t, "", append(strings.Fields(name), "--help")...).out, "\n")
		flags := 0
		for i, line := range lines {
			flag := strings.TrimSpace(line)
			if !strings.HasPrefix(flag, "-") {
				continue
			}
			flags++
			_, beside, _ := strings.Cut(flag, "  ")
			below := i+1 < len(lines) && strings.HasPrefix(lines[i+1], strings.Repeat(" ", 16))
			if strings.TrimSpace(beside) == "" && !below {
				t.Errorf("parley %s: no help for %s", name, flag)
			}
		}
		if flags < 2 {
			t.Errorf("parley %s --help shows %d flags", name, flags)
		}
	}
}

// secretWords stand in the texts of the bodies under testdata/decode, and must
// not be shown.
const secretWords = "zanzibar"

// decode shows what each body would become. Golden files hold exit code,
// standard output and standard error; -update rewrites them.
func TestDecode(t *testing.T) {
	t.Parallel()
	bodies, err := filepath.Glob("testdata/decode/*.json")
	if err != nil {
		t.Fatal(err)
	}
	if len(bodies) < 6 {
		t.Fatalf("only %d bodies", len(bodies))
	}
	for _, path := range bodies {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			text, err := os.ReadFile(path)
			if err != nil {
				t.Fatal(err)
			}
			e := run(t, string(text), "decode", "--app-id", "9001")
			code := 0
			if strings.Contains(path, "not_json") {
				code = 1
			}
			e.want(t, code)
			if !strings.Contains(string(text), secretWords) {
				t.Errorf("the body holds no %q to be kept back", secretWords)
			}
			if strings.Contains(e.out+e.errors, secretWords) {
				t.Errorf("the text of a message is shown:\n%s%s", e.out, e.errors)
			}
			golden(t, strings.TrimSuffix(path, ".json")+".golden", e.out+e.errors)
		})
	}
}

func golden(t *testing.T, path, got string) {
	t.Helper()
	if updating() {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("%s (-want +got):\n%s", path, diff)
	}
}
