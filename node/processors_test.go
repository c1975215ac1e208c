package node_test

import (
	"os"
	"os/exec"
	"runtime"
	"testing"
	"time"

	"github.com/parleychat/parley/node"
)

func TestEnoughIsOne(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		what               string
		one                bool
		used, passed, late time.Duration
		live               uint64
		want               bool
	}{
		{"idle", false, 0, time.Second, ms, 10 << 20, true},
		{"little", false, 249 * ms, time.Second, ms, 10 << 20, true},
		{"a quarter", false, 250 * ms, time.Second, ms, 10 << 20, false},
		{"a quarter, on one", true, 50 * ms, 200 * ms, ms, 10 << 20, true},
		{"too much for one", true, 70 * ms, 200 * ms, ms, 10 << 20, false},
		{"several cores", false, 4 * time.Second, time.Second, ms, 10 << 20, false},
		{"it wants more than it gets", true, 10 * ms, 260 * ms, 60 * ms, 10 << 20, false},
		{"it had been stopped", false, 0, time.Minute, time.Minute, 10 << 20, false},
		{"much in memory", true, 0, 200 * ms, ms, 65 << 20, false},
		{"no time", true, 0, 0, 0, 0, false},
	} {
		if got := node.EnoughIsOne(c.one, c.used, c.passed, c.late, c.live); got != c.want {
			t.Errorf("%s: %t, want %t", c.what, got, c.want)
		}
	}
}

// A quiet process runs on one processor, a busy one on all, and one that has stopped to
// choose on all.
func TestProcessorsFollowTheLoad(t *testing.T) {
	t.Parallel()
	if !inProcess(t, "GOMAXPROCS=") {
		return
	}
	all := runtime.GOMAXPROCS(0)
	if all == 1 {
		t.Skip("there is only one")
	}
	stop := node.AdaptProcessors()
	await := func(what string, n int, meanwhile func()) {
		t.Helper()
		for began := time.Now(); runtime.GOMAXPROCS(0) != n; meanwhile() {
			if time.Since(began) > 20*time.Second {
				t.Fatalf("%s: on %d processors, want %d", what, runtime.GOMAXPROCS(0), n)
			}
		}
	}
	quiet := func() { time.Sleep(10 * time.Millisecond) }
	await("quiet", 1, quiet)
	await("busy", all, func() {})
	await("quiet again", 1, quiet)
	stop()
	await("stopped", all, func() { t.Fatal("still on one") })
}

// A process that was told how many to use does as it was told.
func TestGOMAXPROCSIsHeeded(t *testing.T) {
	t.Parallel()
	if !inProcess(t, "GOMAXPROCS=3") {
		return
	}
	defer node.AdaptProcessors()()
	for began := time.Now(); time.Since(began) < 2*time.Second; time.Sleep(50 * time.Millisecond) {
		if n := runtime.GOMAXPROCS(0); n != 3 {
			t.Fatalf("on %d processors, though GOMAXPROCS says 3", n)
		}
	}
}

// inProcess runs the test in a process of its own, where nothing else is under way and
// the environment is as said. It reports whether this is that process.
func inProcess(t *testing.T, env string) bool {
	t.Helper()
	if os.Getenv("PARLEY_TEST_ALONE") != "" {
		return true
	}
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.v", "-test.run=^"+t.Name()+"$")
	cmd.Env = append(os.Environ(), "PARLEY_TEST_ALONE=1", env)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\n%s", err, out)
	}
	return false
}
