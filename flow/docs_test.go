package flow_test

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
)

// block is a piece of code on the page.
type block struct {
	line     int
	file     string // the tutorial writes it there
	run      bool   // the tutorial runs it
	language string
	text     string
}

// blocks reads what docs/bots.md shows.
func blocks(t *testing.T) []block {
	t.Helper()
	page, err := os.ReadFile("../docs/bots.md")
	if err != nil {
		t.Fatal(err)
	}
	fence := regexp.MustCompile("(?m)^(?:<!-- (file: (\\S+)|run) -->\n)?```(\\w+)\n((?s:.*?\n))```$")
	var out []block
	for _, at := range fence.FindAllSubmatchIndex(page, -1) {
		group := func(i int) string {
			if at[2*i] < 0 {
				return ""
			}
			return string(page[at[2*i]:at[2*i+1]])
		}
		out = append(out, block{
			line: 1 + strings.Count(string(page[:at[8]]), "\n"), file: group(2), run: group(1) == "run", language: group(3), text: group(4),
		})
	}
	return out
}

// Whoever follows the tutorial from an empty folder has a bot that passes its test.
func TestTutorial(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("builds a program")
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	dir := t.TempDir()
	files, runs := 0, 0
	for _, b := range blocks(t) {
		switch {
		case b.file != "":
			files++
			write(t, filepath.Join(dir, b.file), b.text)
		case b.run:
			runs++
			follow(t, dir, root, b.text)
		}
	}
	if files < 6 || runs < 4 {
		t.Fatalf("%d files and %d runs: has the form of the page changed?", files, runs)
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// follow runs the lines of a block.
func follow(t *testing.T, dir, root, script string) {
	t.Helper()
	for line := range strings.Lines(script) {
		line = strings.TrimSpace(line)
		if strings.HasPrefix(line, "mkdir ") {
			continue // the folder is there
		}
		goTool(t, dir, strings.Fields(strings.ReplaceAll(line, "../parley", root))...)
	}
}

// goTool runs a command of the go tool. go mod tidy may fetch what Parley itself never
// needed (tests of modules that it uses), from where this machine has its modules.
func goTool(t *testing.T, dir string, command ...string) {
	t.Helper()
	if command[0] != "go" {
		t.Fatalf("%q: the tutorial runs go only", command)
	}
	cmd := exec.CommandContext(t.Context(), "go", command[1:]...) //nolint:gosec // what the page says
	cmd.Dir = dir
	cmd.Env = append(os.Environ(), "GOFLAGS=-mod=mod", "GOSUMDB=off", "GOWORK=off", "GOTOOLCHAIN=local")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command, " "), err, out)
	}
}

// prelude is what the pieces of the reference take for granted.
const prelude = `package page

import (
	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

type order struct {
	Size, Email string
	Guests      int
}

func help(*flow.Turn[order]) error    { return nil }
func buy(*flow.Turn[order]) error     { return nil }
func pay(*flow.Turn[order]) error     { return nil }
func receipt(*flow.Turn[order]) error { return nil }

var _ parley.Bot
`

// The Go code of the reference compiles.
func TestBotsPage(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, filepath.Join(dir, "prelude.go"), prelude)
	pieces := 0
	for _, b := range blocks(t) {
		if b.language != "go" || b.file != "" {
			continue
		}
		pieces++
		write(t, filepath.Join(dir, fmt.Sprintf("line%d.go", b.line)), piece(b))
	}
	if pieces < 8 {
		t.Fatalf("%d pieces: has the form of the page changed?", pieces)
	}
	root, err := filepath.Abs("..")
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.mod"), "module page\n\ngo 1.26\n\nrequire github.com/parleychat/parley v0.0.0\n\nreplace github.com/parleychat/parley => "+root+"\n")
	goTool(t, dir, "go", "build", "./...")
}

// piece makes a file of a piece: of statements that use a turn, or of one value.
func piece(b block) string {
	imports := ""
	for path, name := range map[string]string{
		"time": "time.", "fmt": "fmt.", "github.com/parleychat/parley": "parley.", "github.com/parleychat/parley/flow": "flow.",
	} {
		if path == "github.com/parleychat/parley/flow" || strings.Contains(b.text, name) {
			imports += fmt.Sprintf("import %q\n", path)
		}
	}
	body := b.text
	if regexp.MustCompile(`^flow\.(Flow|Form|Match|On)`).MatchString(body) {
		body = "_ = " + body
	}
	return fmt.Sprintf("package page\n\n%s\nfunc _(t *flow.Turn[order]) {\n//line bots.md:%d\n%s}\n", imports, b.line, body)
}
