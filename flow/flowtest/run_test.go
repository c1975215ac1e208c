package flowtest_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
)

// scene names, in the environment, the folder whose transcripts TestScene plays.
const scene = "FLOWTEST_SCENE"

// TestScene is played by other tests, in a process of its own: it may fail there.
func TestScene(t *testing.T) {
	t.Parallel()
	folder := os.Getenv(scene)
	if folder == "" {
		t.Skip("played by TestRun")
	}
	flowtest.Run(t, shop(), filepath.Join(folder, "*.txt"))
}

// TestSceneOfClock is the same with a bot that looks at the clock.
func TestSceneOfClock(t *testing.T) {
	t.Parallel()
	folder := os.Getenv(scene)
	if folder == "" {
		t.Skip("played by TestRun")
	}
	flowtest.Run(t, botOf(func(t *parley.Turn) {
		if time.Now().Year() < 2001 { // in the bubble only: what is written never shows it
			t.Say("It is " + time.Now().Weekday().String())
		}
	}), filepath.Join(folder, "*.txt"))
}

// run plays a test in a process of its own, and returns what it prints.
func run(t *testing.T, test, folder string, args ...string) (string, error) {
	t.Helper()
	exe, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), exe, append([]string{"-test.run", "^" + test + "$"}, args...)...)
	cmd.Env = append(os.Environ(), scene+"="+folder)
	out, err := cmd.CombinedOutput()
	return string(out), err
}

// A transcript that isn't what is said fails the test, which shows where; -update
// writes it, and leaves the rest alone.
func TestRun(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	path := filepath.Join(folder, "order.txt")
	written := "# An order.\nanna:   hi\nbot: Which pasta?\n# Now what?\n\nwait 30 minutes\n"
	if err := os.WriteFile(path, []byte(written), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "TestScene", folder)
	for _, want := range []string{"order.txt:2: anna:   hi\n", "- bot: Which pasta?\n", "+ bot: Which pizza would", "order.txt:6: wait 30 minutes\n", "+ bot: Are you still hungry?"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: want %q in\n%s", err, want, out)
		}
	}
	if out, err := run(t, "TestScene", folder, "-update"); err != nil {
		t.Fatal(err, out)
	}
	want := "# An order.\nanna:   hi\nbot: Which pizza would you like? [Margherita=m] [Salami=s]\n# Now what?\n\nwait 30 minutes\nbot: Are you still hungry?\n"
	if got, err := os.ReadFile(path); err != nil || string(got) != want {
		t.Errorf("written %q (%v)", got, err)
	}
	if out, err := run(t, "TestScene", folder); err != nil {
		t.Error(err, out)
	}
	out, err = run(t, "TestScene", t.TempDir())
	if err == nil || !strings.Contains(out, "no transcript matches") {
		t.Errorf("of an empty folder: %v\n%s", err, out)
	}
}

// A bot that looks at the clock fails the test, whatever is written.
func TestRunFindsTheClock(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	if err := os.WriteFile(filepath.Join(folder, "x.txt"), []byte("anna: hi\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := run(t, "TestSceneOfClock", folder)
	for _, want := range []string{"x.txt:1: the bot is not a pure function", "the clock", "once: bot: It is Saturday", "then: bot: It is Sunday"} {
		if err == nil || !strings.Contains(out, want) {
			t.Errorf("%v: want %q in\n%s", err, want, out)
		}
	}
}
