package metatest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley/meta/metatest"
)

func TestScripts(t *testing.T) {
	t.Parallel()
	const file = `
# two users
hello {n}
/expect hello
/wait 5s
/click MENU
/silent

//help
/#1
`
	want := []metatest.Script{
		{{Text: "hello {n}", Expect: "hello"}, {Text: "MENU", Click: true, Wait: 5 * time.Second, Silent: true}},
		{{Text: "/help"}, {Text: "#1"}},
	}
	got, err := metatest.ParseScripts([]byte(file))
	if err != nil || !cmp.Equal(got, want) {
		t.Errorf("error %v, scripts differ:\n%s", err, cmp.Diff(want, got))
	}
	if len(metatest.BuiltInScripts()) == 0 {
		t.Error("no built-in script")
	}
}

func TestScriptsThatAreWrong(t *testing.T) {
	t.Parallel()
	for file, want := range map[string]string{
		"":                                "no message",
		"# nothing":                       "no message",
		"hi\n/what":                       "line 2",
		"/expect x":                       "line 1",
		"hi\n/silent now":                 "line 2",
		"hi\n/silent\n/expect x":          "line 3",
		"/wait x":                         "line 1",
		"/wait -1s":                       "line 1",
		"hi\n/wait 1s":                    "at the end",
		"/click":                          "line 1",
		"\xff":                            "UTF-8",
		strings.Repeat("x", 2001):         "characters",
		strings.Repeat("x\n", 1001):       "messages",
		strings.Repeat("x\n\n", 1001):     "scripts",
		strings.Repeat("#", 1<<20) + "\n": "bytes",
	} {
		if _, err := metatest.ParseScripts([]byte(file)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%.20q: error %v, want one about %q", file, err, want)
		}
	}
}

// What was read and written again reads the same.
func FuzzScripts(f *testing.F) {
	f.Add([]byte("hello {n}\n/expect hello\n/wait 5s\n/click MENU\n/silent\n\n//help\n/#1"))
	f.Add([]byte("# x\n\n\na"))
	f.Fuzz(func(t *testing.T, file []byte) {
		scripts, err := metatest.ParseScripts(file)
		if err != nil {
			return
		}
		text := metatest.AppendScripts(nil, scripts)
		again, err := metatest.ParseScripts(text)
		if err != nil && bytes.Contains([]byte(err.Error()), []byte("bytes")) {
			return // durations may be written longer
		}
		if err != nil || !cmp.Equal(scripts, again) {
			t.Errorf("error %v, differs:\n%s", err, cmp.Diff(scripts, again))
		}
	})
}
