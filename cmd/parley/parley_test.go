package main_test

import (
	"bytes"
	"context"
	"errors"
	"flag"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	program "github.com/parleychat/parley/cmd/parley"
	"github.com/parleychat/parley/node"
)

// asCommand names the environment variable that turns the test's program into
// the one under test, so that processes are real and nothing is built.
const (
	asCommand = "BE_PARLEY"
	asItself  = "itself"  // the command as it is
	asFateful = "fateful" // with a bot that can be told to misbehave
	asMended  = "mended"  // with the same bot, after somebody has seen to its panics
)

// commandLimit ends a command that should have ended by itself.
const commandLimit = 90 * time.Second

// updating says whether golden files are rewritten: -update is flow/flowtest's, which the
// node links.
func updating() bool {
	f := flag.Lookup("update")
	return f != nil && f.Value.String() == "true"
}

func TestMain(m *testing.M) {
	switch os.Getenv(asCommand) {
	case asItself:
		go dieWithParent(os.Getppid())
		program.Main()
	case asFateful:
		go dieWithParent(os.Getppid())
		node.Main(fateful())
	case asMended:
		go dieWithParent(os.Getppid())
		node.Main(mended())
	}
	sideBySide()
	os.Exit(cluster.Around(m).Run())
}

// sideBySide has three tests run at a time, unless -parallel says another number: they
// wait for processes and time-outs more than they compute.
func sideBySide() {
	if err := flag.Set("test.parallel", "3"); err != nil {
		panic(err)
	}
}

// dieWithParent ends a process whose test is gone.
func dieWithParent(parent int) {
	for os.Getppid() == parent {
		time.Sleep(200 * time.Millisecond)
	}
	os.Exit(3)
}

// environment is this process's without what would change a command.
func environment(add ...string) []string {
	var env []string
	for _, v := range os.Environ() {
		if !strings.HasPrefix(v, "PARLEY_") {
			env = append(env, v)
		}
	}
	return append(env, add...)
}

func command(ctx context.Context, t *testing.T, as string, args ...string) *exec.Cmd {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(ctx, self, args...)
	cmd.Env = environment(asCommand + "=" + as)
	return cmd
}

// ended is how a command ended.
type ended struct {
	code        int
	out, errors string
}

// run runs the command to its end.
func run(t *testing.T, input string, args ...string) ended {
	t.Helper()
	return runIn(t, nil, input, args...)
}

// runIn is run with more in the environment.
func runIn(t *testing.T, env []string, input string, args ...string) ended {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), commandLimit)
	defer cancel()
	cmd := command(ctx, t, asItself, args...)
	cmd.Env = append(cmd.Env, env...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &errs
	err := cmd.Run()
	var exit *exec.ExitError
	if err != nil && !errors.As(err, &exit) {
		t.Fatalf("parley %s: %v", strings.Join(args, " "), err)
	}
	return ended{code: cmd.ProcessState.ExitCode(), out: out.String(), errors: errs.String()}
}

// want fails the test unless the command ended so, with each of the words on
// standard error.
func (e ended) want(t *testing.T, code int, words ...string) {
	t.Helper()
	if e.code != code {
		t.Errorf("exit code %d, want %d", e.code, code)
	}
	for _, w := range words {
		if !strings.Contains(e.errors, w) {
			t.Errorf("standard error lacks %q", w)
		}
	}
	if t.Failed() {
		t.Logf("standard output:\n%s\nstandard error:\n%s", e.out, e.errors)
	}
}
