package sim_test

import (
	"flag"
	"reflect"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/pizzeria"
	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/sim"
)

var (
	seeds = flag.Int("seeds", 20, "how many seeds TestSeeds plays")
	first = flag.Uint64("seed", 0, "the first seed; 0 takes one from the clock")
)

// enough seeds meet everything that can happen.
const enough = 200

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
				v, seen, err := sim.Run(t.Context(), sim.Config{Seed: seed, Bot: bot(seed)})
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
	if missing := kind(total); *seeds >= enough && len(missing) > 0 {
		t.Errorf("the simulation is too kind: no %v", missing)
	}
}

// bot is one of two versions, every other time.
func bot(seed uint64) parley.Bot {
	if seed%2 == 0 {
		return pizzeria.Bot()
	}
	return tally.Calling(3)
}

func problems(v metatest.Verdict) []string {
	const most = 6
	return v.Problems()[:min(len(v.Problems()), most)]
}

func add(total *sim.Tally, t sim.Tally) {
	sum, one := reflect.ValueOf(total).Elem(), reflect.ValueOf(t)
	for i := range sum.NumField() {
		sum.Field(i).SetInt(sum.Field(i).Int() + one.Field(i).Int())
	}
}

// kind names what never happened in these runs.
func kind(total sim.Tally) (missing []string) {
	sum := reflect.ValueOf(total)
	for i := range sum.NumField() {
		if sum.Field(i).IsZero() {
			missing = append(missing, sum.Type().Field(i).Name)
		}
	}
	return missing
}

// The same seed gives the same run: a failure can be replayed.
func TestReplay(t *testing.T) {
	t.Parallel()
	var last sim.Tally
	for i := range 3 {
		_, seen, err := sim.Run(t.Context(), sim.Config{Seed: 42, Bot: pizzeria.Bot()})
		if err != nil {
			t.Fatal(err)
		}
		if i > 0 && seen != last {
			t.Fatalf("run %d went another way: %+v, before %+v", i, seen, last)
		}
		last = seen
	}
}
