package sim_test

import (
	"flag"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/sim"
)

var (
	seeds = flag.Int("seeds", 20, "how many seeds TestSeeds plays")
	first = flag.Uint64("seed", 0, "the first seed; 0 takes one from the clock")
)

// TestSeeds plays many seeds; each failure names the seed that replays it.
func TestSeeds(t *testing.T) {
	t.Parallel()
	from := *first
	if from == 0 {
		from = uint64(time.Now().UnixNano()) >> 10
	}
	t.Logf("replay with: go test ./sim -run TestSeeds -seeds=1 -seed=<the seed that failed>; these begin with %d", from)
	var (
		next   atomic.Uint64
		failed atomic.Int64
		total  sim.Tally
		mu     sync.Mutex
		wg     sync.WaitGroup
	)
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := next.Add(1) - 1; i < uint64(*seeds) && failed.Load() < 5; i = next.Add(1) - 1 {
				seed := from + i
				v, seen, err := sim.Run(t.Context(), sim.Config{Seed: seed, Bot: tally.Bot()})
				if err != nil || !v.Clean() {
					failed.Add(1)
					t.Errorf("seed %d: %v %v", seed, err, problems(v))
				}
				mu.Lock()
				add(&total, seen)
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	t.Logf("%d seeds: %+v", *seeds, total)
	if *seeds >= 20 && (total.Conflicts == 0 || total.LostAnswers == 0 || total.Doubtful == 0 || total.Crashes == 0) {
		t.Errorf("the simulation is too kind: %+v", total)
	}
}

func problems(v metatest.Verdict) []string {
	const most = 6
	return v.Problems()[:min(len(v.Problems()), most)]
}

func add(total *sim.Tally, t sim.Tally) {
	total.Steps += t.Steps
	total.Loads += t.Loads
	total.Commits += t.Commits
	total.Conflicts += t.Conflicts
	total.Failed += t.Failed
	total.LostAnswers += t.LostAnswers
	total.Crashes += t.Crashes
	total.Claims += t.Claims
	total.Sends += t.Sends
	total.Doubtful += t.Doubtful
	total.Woken += t.Woken
}

// The same seed gives the same run: a failure can be replayed.
func TestReplay(t *testing.T) {
	t.Parallel()
	var last sim.Tally
	for i := range 3 {
		_, seen, err := sim.Run(t.Context(), sim.Config{Seed: 42, Bot: tally.Bot()})
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && seen != last {
			t.Fatalf("run %d went another way: %+v, before %+v", i, seen, last)
		}
		last = seen
	}
}
