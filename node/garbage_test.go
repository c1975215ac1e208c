package node_test

import (
	"runtime"
	"runtime/metrics"
	"testing"
	"time"

	"github.com/parleychat/parley/node"
)

func TestGarbagePercent(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		live uint64
		want int
	}{{0, 100}, {1, 1<<31 - 1}, {4 << 20, 1600}, {32 << 20, 200}, {64 << 20, 100}, {4 << 30, 100}} {
		if got := node.GarbagePercentOf(c.live); got != c.want {
			t.Errorf("%d bytes live: %d %%, want %d %%", c.live, got, c.want)
		}
	}
}

// A process that was told how often to collect does as it was told.
func TestGOGCIsHeeded(t *testing.T) {
	t.Parallel()
	if !inProcess(t, "GOGC=50") { // one that has adjusted nothing
		return
	}
	node.CollectSeldom()
	for range 100 {
		runtime.GC()
		if percent := setPercent(); percent != 50 {
			t.Fatalf("%d %%, though GOGC says 50", percent)
		}
	}
}

// A process that keeps little collects seldom, also after what it keeps has changed.
func TestSmallHeapsAreCollectedSeldom(t *testing.T) { // of the whole process, so nothing beside it
	t.Setenv("GOGC", "")
	node.CollectSeldom()
	await := func(what string, done func() bool) {
		t.Helper()
		for began := time.Now(); !done(); {
			if time.Since(began) > 10*time.Second {
				t.Fatalf("%s: %d %% with %d bytes live", what, setPercent(), node.LiveBytes())
			}
			runtime.GC()
			runtime.Gosched()
		}
	}
	follows := func() bool { return setPercent() == node.GarbagePercentOf(node.LiveBytes()) }
	await("with little", follows)
	func() {
		kept := make([]byte, 256<<20)
		await("with much", func() bool { return node.LiveBytes() >= uint64(len(kept)) && setPercent() == 100 })
		runtime.KeepAlive(kept)
	}()
	await("with little again", func() bool { return node.LiveBytes() < 256<<20 && follows() })
}

// setPercent is what GOGC is set to.
func setPercent() int {
	sample := []metrics.Sample{{Name: "/gc/gogc:percent"}}
	metrics.Read(sample)
	return int(sample[0].Value.Uint64())
}
