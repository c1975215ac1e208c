package parley_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// mini is a module with one function and its tests, to plant bugs in.
var mini = map[string]string{
	"go.mod":   "module example.com/mini\n\ngo 1.26\n",
	"add.go":   "package mini\n\n// Add adds.\nfunc Add(a, b int) int {\n\treturn a + b\n}\n",
	"other.go": "package mini\n\nfunc one() int { return 1 }\n",
	"add_test.go": `package mini

import "testing"

func TestAdd(t *testing.T) {
	t.Run("small", func(t *testing.T) {
		if got := Add(1, 2); got != 3 {
			t.Errorf("1+2 = %d", got)
		}
	})
}

func TestZero(t *testing.T) {
	if Add(0, 0) != 0 {
		t.Error("0+0")
	}
}

func TestRed(t *testing.T) { t.Error("always") }
`,
}

const (
	minus = "--- a/add.go\n+++ b/add.go\n@@ -4,3 +4,3 @@\n func Add(a, b int) int {\n-\treturn a + b\n+\treturn a - b\n }\n"
	crash = "--- a/add.go\n+++ b/add.go\n@@ -4,3 +4,3 @@\n func Add(a, b int) int {\n-\treturn a + b\n+\tgo panic(a); select {}\n }\n"
	stuck = "--- a/add.go\n+++ b/add.go\n@@ -4,3 +4,3 @@\n func Add(a, b int) int {\n-\treturn a + b\n+\tfor {}\n }\n"
	wrong = "--- a/other.go\n+++ b/other.go\n@@ -3 +3 @@\n-func one() int { return 1 }\n+func one() int { return nope }\n"
	stale = "--- a/add.go\n+++ b/add.go\n@@ -5 +5 @@\n-\treturn b + a\n+\treturn b - a\n"
	stray = "--- a/add.go\n+++ b/add.go\n@@ -5 +5 @@\n-\treturn a + b\n+\treturn a +\n"
)

func TestPlantedRunner(t *testing.T) {
	t.Parallel()
	root := writeModule(t, mini)
	for _, c := range []struct{ name, by, diff, caught, fails string }{
		{name: "caught", by: "-run '^TestAdd$' .", diff: minus, caught: "TestAdd/small"},
		{name: "survives", by: "-run ^TestZero$ .", diff: minus, fails: "survived: go test -run ^TestZero$ . passes with it"},
		{name: "no build", by: ".", diff: wrong, fails: "doesn't build"},
		{name: "no failing test", by: "-run ^TestAdd$ .", diff: crash, fails: "not by a failing test"},
		{name: "never ends", by: "-timeout 2s -run ^TestAdd$ .", diff: stuck, caught: "TestAdd, which never ends"},
		{name: "doesn't apply", by: ".", diff: stale, fails: "add.go: hunk 1, line 5"},
		{name: "doesn't parse", by: ".", diff: stray, fails: "parse what was patched"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			p, err := parsePlant("x.patch", "# bug: "+c.name+"\n# caught-by: go test "+c.by+"\n"+c.diff)
			if err != nil {
				t.Fatal(err)
			}
			caught, err := p.run(t.Context(), root, t.TempDir())
			if caught != c.caught || c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("caught by %q, error %v; want %q, %q", caught, err, c.caught, c.fails)
			}
		})
	}
}

func TestPlantedUnpatched(t *testing.T) {
	t.Parallel()
	root := writeModule(t, mini)
	for _, c := range []struct{ name, by, fails string }{
		{name: "passes", by: "-run ^TestAdd$ ."},
		{name: "fails", by: "-run ^TestRed$ .", fails: "go test -run ^TestRed$ . fails"},
		{name: "names no test", by: "-run ^TestAddd$ .", fails: "runs no test"},
		{name: "names no package", by: "./nowhere", fails: "fails"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			err := runUnpatched(t.Context(), root, splitWords(c.by))
			if c.fails == "" && err != nil || c.fails != "" && (err == nil || !strings.Contains(err.Error(), c.fails)) {
				t.Errorf("error %v, want %q", err, c.fails)
			}
		})
	}
}

func TestPlantedHead(t *testing.T) {
	t.Parallel()
	p, err := parsePlant("x.patch", "# A word on it.\n# bug: it forgets\n# caught-by: go test -race ./a -run '^TestX$/a b' -seed=5\n"+minus)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"-race", "./a", "-run", "^TestX$/a b", "-seed=5"}, p.caughtBy); diff != "" || p.bug != "it forgets" {
		t.Errorf("bug %q, arguments (-want +got):\n%s", p.bug, diff)
	}
	for name, text := range map[string]string{
		"no bug":     "# caught-by: go test .\n" + minus,
		"no catcher": "# bug: x\n" + minus,
		"no patch":   "# bug: x\n# caught-by: go test .\n",
		"no hunk":    "# bug: x\n# caught-by: go test .\n--- a/x.go\n+++ b/x.go\n",
	} {
		if _, err := parsePlant("x.patch", text); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func writeModule(t *testing.T, files map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(root, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}
