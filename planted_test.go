package parley_test

import (
	"bufio"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"go/parser"
	"go/token"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"
)

// A suite that never failed has proved nothing. Each file of testdata/planted
// puts one bug into the code, as a patch, and names the test that must catch
// it; the tree itself is not touched, go test -overlay builds the patched copy.

var (
	planted = flag.Bool("planted", false, "plant each bug of testdata/planted and see that its test catches it")
	plants  = flag.String("plants", "", "plant only those whose file's name begins with this")
)

const (
	plantedFolder  = "testdata/planted"
	plantedTimeout = 5 * time.Minute  // of one test run, by go test itself
	plantedKill    = 30 * time.Second // what a run gets on top to end by itself
)

// plant is one bug.
type plant struct {
	name     string      // of its file
	bug      string      // what is wrong, in words
	caughtBy []string    // arguments of the go test that must fail
	patches  []filePatch // how to get it
}

// TestPlantedApply keeps the patches fit: each must still apply to the code as
// it is, and give Go that parses. It runs nothing, so it runs always.
func TestPlantedApply(t *testing.T) {
	t.Parallel()
	for _, p := range readPlants(t, plantedFolder) {
		t.Run(p.name, func(t *testing.T) {
			t.Parallel()
			if _, err := p.overlay(".", t.TempDir()); err != nil {
				t.Errorf("%v\nbring the patch up to the code: %s", err, p.bug)
			}
		})
	}
}

// TestPlanted plants every bug. It takes minutes, so it has a flag.
func TestPlanted(t *testing.T) {
	t.Parallel()
	if !*planted {
		t.Skip("make planted runs this")
	}
	all := readPlants(t, plantedFolder)
	all = slices.DeleteFunc(all, func(p plant) bool { return !strings.HasPrefix(p.name, *plants) })
	if len(all) == 0 {
		t.Fatalf("%s holds no patches of that name", plantedFolder)
	}
	checkUnpatched(t, ".", all)
	table := make([]string, 0, len(all))
	for _, p := range all {
		catcher, err := p.run(t.Context(), ".", t.TempDir())
		if err != nil {
			t.Errorf("%s: %v", p.name, err)
		}
		table = append(table, fmt.Sprintf("%-60s -> %s", p.bug, cmp.Or(catcher, "NOT CAUGHT")))
		t.Log(table[len(table)-1])
	}
	t.Logf("%d planted\n%s", len(all), strings.Join(table, "\n"))
}

// checkUnpatched runs each catcher over the code as it is: one that fails there,
// or runs no test at all, would prove nothing by failing.
func checkUnpatched(t *testing.T, dir string, plants []plant) {
	t.Helper()
	done := map[string]bool{}
	for _, p := range plants {
		key := strings.Join(p.caughtBy, " ")
		if done[key] {
			continue
		}
		done[key] = true
		if err := runUnpatched(t.Context(), dir, p.caughtBy); err != nil {
			t.Errorf("%s: without its bug: %v", p.name, err)
			continue
		}
		t.Logf("passes unpatched: go test %s", key)
	}
}

func readPlants(t *testing.T, folder string) []plant {
	t.Helper()
	names, err := filepath.Glob(filepath.Join(folder, "*.patch"))
	if err != nil {
		t.Fatal(err)
	}
	plants := make([]plant, 0, len(names))
	for _, name := range names {
		text, err := os.ReadFile(name)
		if err != nil {
			t.Fatal(err)
		}
		p, err := parsePlant(filepath.Base(name), string(text))
		if err != nil {
			t.Fatalf("%s: %v", name, err)
		}
		plants = append(plants, p)
	}
	return plants
}

// parsePlant reads the head of a patch file, which is lines that begin with #,
// and the diff below it.
func parsePlant(name, text string) (plant, error) {
	p := plant{name: name}
	scanner := bufio.NewScanner(strings.NewReader(text))
	diff := text
	for scanner.Scan() && strings.HasPrefix(scanner.Text(), "#") {
		line := scanner.Text()
		diff = strings.TrimPrefix(diff[len(line):], "\n")
		if bug, ok := strings.CutPrefix(line, "# bug: "); ok {
			p.bug = bug
		}
		if command, ok := strings.CutPrefix(line, "# caught-by: go test "); ok {
			p.caughtBy = splitWords(command)
		}
	}
	if p.bug == "" || len(p.caughtBy) == 0 {
		return plant{}, errors.New(`want a line "# bug: …" and a line "# caught-by: go test …"`)
	}
	var err error
	p.patches, err = parseDiff(diff)
	if err == nil && (len(p.patches) == 0 || slices.ContainsFunc(p.patches, func(f filePatch) bool { return len(f.hunks) == 0 })) {
		err = errors.New("changes nothing")
	}
	return p, err
}

// word is an argument as a shell would take it: quoted, or without spaces.
var word = regexp.MustCompile(`'[^']*'|"[^"]*"|[^\s'"]+`)

func splitWords(command string) []string {
	words := word.FindAllString(command, -1)
	for i, w := range words {
		words[i] = strings.Trim(w, `'"`)
	}
	return words
}

// overlay writes the patched files into folder and returns the name of the file
// that tells go about them. root is the module's folder.
func (p plant) overlay(root, folder string) (string, error) {
	root, err := filepath.Abs(root)
	if err != nil {
		return "", err
	}
	replace := map[string]string{}
	for i, patch := range p.patches {
		original := filepath.Join(root, filepath.FromSlash(patch.path))
		text, err := os.ReadFile(original)
		if err != nil {
			return "", err
		}
		patched, err := patch.apply(string(text))
		if err != nil {
			return "", err
		}
		if _, err := parser.ParseFile(token.NewFileSet(), patch.path, patched, parser.SkipObjectResolution); err != nil {
			return "", fmt.Errorf("parse what was patched: %w", err)
		}
		replace[original] = filepath.Join(folder, fmt.Sprintf("%d-%s", i, filepath.Base(patch.path)))
		if err := os.WriteFile(replace[original], []byte(patched), 0o600); err != nil {
			return "", err
		}
	}
	list, err := json.Marshal(map[string]any{"Replace": replace})
	if err != nil {
		return "", err
	}
	name := filepath.Join(folder, "overlay.json")
	return name, os.WriteFile(name, list, 0o600)
}

// run plants the bug and returns the name of the test that failed. A bug that
// survives is an error, and so is one that doesn't build: that is a bug which
// the compiler catches, and nobody can commit.
func (p plant) run(ctx context.Context, root, folder string) (string, error) {
	overlay, err := p.overlay(root, folder)
	if err != nil {
		return "", err
	}
	out, code, err := goTest(ctx, root, slices.Concat([]string{"-overlay=" + overlay}, p.caughtBy))
	if err != nil {
		return "", err
	}
	name := failedTest(out)
	switch {
	case strings.Contains(out, "[build failed]") || strings.Contains(out, "[setup failed]"):
		return "", fmt.Errorf("patched code doesn't build:\n%s", out)
	case code == 0:
		return "", fmt.Errorf("survived: go test %s passes with it", strings.Join(p.caughtBy, " "))
	case code != 1 || name == "":
		return "", fmt.Errorf("go test ended with %d, but not by a failing test:\n%s", code, out)
	}
	return name, nil
}

func runUnpatched(ctx context.Context, root string, args []string) error {
	out, code, err := goTest(ctx, root, args)
	switch {
	case err != nil:
		return err
	case code != 0:
		return fmt.Errorf("go test %s fails:\n%s", strings.Join(args, " "), out)
	case strings.Contains(out, "[no tests to run]") || strings.Contains(out, "[no test files]"):
		return fmt.Errorf("go test %s runs no test", strings.Join(args, " "))
	}
	return nil
}

// goTest runs go test and returns what it printed and its exit code. The error
// is that it could not be run, or that it didn't end in time.
func goTest(ctx context.Context, dir string, args []string) (string, int, error) {
	ctx, cancel := context.WithTimeout(ctx, plantedTimeout+plantedKill)
	defer cancel()
	all := slices.Concat([]string{"test", "-count=1", "-vet=off", "-timeout=" + plantedTimeout.String()}, args)
	command := exec.CommandContext(ctx, "go", all...)
	command.Dir = dir
	command.WaitDelay = time.Second
	out, err := command.CombinedOutput()
	var exit *exec.ExitError
	if ctx.Err() != nil || err != nil && !errors.As(err, &exit) {
		return string(out), -1, errors.Join(fmt.Errorf("run go test %s", strings.Join(args, " ")), ctx.Err(), err)
	}
	return string(out), command.ProcessState.ExitCode(), nil
}

var failLine = regexp.MustCompile(`(?m)^\s*--- FAIL: (\S+)`)

// stuckLine names a test that was running when its time was over.
var stuckLine = regexp.MustCompile(`panic: test timed out after \S+\n\s*running tests:\n\s*(\S+)`)

// failedTest finds the first test that failed, and in it the innermost. One that never
// ends has failed as well: without the bug it passes.
func failedTest(out string) string {
	if m := stuckLine.FindStringSubmatch(out); m != nil {
		return m[1] + ", which never ends"
	}
	name := ""
	for _, m := range failLine.FindAllStringSubmatch(out, -1) {
		if name == "" || strings.HasPrefix(m[1], name+"/") {
			name = m[1]
		}
	}
	return name
}
