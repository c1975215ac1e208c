package sim_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
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
	seeds    = flag.Int("seeds", 20, "how many seeds TestSeeds plays")
	first    = flag.Uint64("seed", 0, "the first seed; 0 takes one from the clock")
	messages = flag.Int("messages", 0, "of a run; 0: as the seed has it, as in the flags below")
	users    = flag.Int("users", 0, "of a run")
	crashes  = flag.Int("crashes", 0, "of nodes; negative: none")
	sleeps   = flag.Int("sleeps", 0, "of nodes; negative: none")
	trouble  = flag.Float64("trouble", 0, "chance that an operation of the store goes wrong; negative: none")
	vaulted  = flag.Bool("vault", false, "play each seed on the embedded store, and not only every tenth")
	views    = flag.String("views", "", "true: each seed has nodes with views of each other; false: none; empty: every fifth")
	shrink   = flag.Bool("shrink", true, "look for the smallest run that fails, too")
	without  sim.Kinds
)

func init() { //nolint:gochecknoinits // a flag of a type of our own
	flag.Var(&without, "without", "kinds of trouble to go without, of "+sim.AllKinds.String())
}

// enough seeds meet everything that can happen.
const enough = 200

const (
	progressEvery = 10 * time.Second
	shrinkFor     = 30 * time.Second // at most, for each seed that fails
)

func config(seed uint64) sim.Config {
	c := sim.Config{
		Seed: seed, Bot: bot(seed), Messages: *messages, Users: *users, Crashes: *crashes, Sleeps: *sleeps, Trouble: *trouble, Without: without,
	}
	if *vaulted || vaultHas(seed) {
		c.Vault = &diskVault{}
	}
	c.Views = *views == "true" || *views == "" && viewsHas(seed)
	return c
}

// viewsHas is every fifth seed, in turns one of either bot's, and none on the embedded store.
func viewsHas(seed uint64) bool { return seed%5 == 3 }

// vaultHas is every tenth seed, in turns one of either bot's.
func vaultHas(seed uint64) bool { return seed%10 == seed/10%2 }

// run plays a run, in a vault of its own if it is to have one.
func run(t *testing.T, c sim.Config) (metatest.Verdict, sim.Tally, error) {
	t.Helper()
	if c.Vault == nil {
		return sim.Run(t.Context(), c)
	}
	v := &diskVault{}
	c.Vault = v
	verdict, seen, err := sim.Run(t.Context(), c)
	return verdict, seen, errors.Join(err, v.Close())
}

// TestSeeds plays many seeds, on all processors. Of a failure it looks for the smallest
// run that fails, too, and says how to play it again.
func TestSeeds(t *testing.T) {
	t.Parallel()
	from := *first
	if from == 0 {
		from = uint64(time.Now().UnixNano()) >> 10
	}
	p := player{t: t, from: from, began: time.Now()}
	defer p.report()()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(p.play)
	}
	wg.Wait()
	t.Logf("%d seeds from %d on: %+v", *seeds, from, p.total)
	if missing := kind(p.total); *seeds >= enough && without == 0 && len(missing) > 0 {
		t.Errorf("the simulation is too kind: no %v", missing)
	}
}

// player plays seeds until enough of them have failed.
type player struct {
	t      *testing.T
	from   uint64
	began  time.Time
	next   atomic.Uint64
	failed atomic.Int64

	mu    sync.Mutex
	total sim.Tally
}

func (p *player) play() {
	const most = 5
	for i := p.next.Add(1) - 1; i < uint64(*seeds) && p.failed.Load() < most; i = p.next.Add(1) - 1 {
		cfg := config(p.from + i)
		v, seen, err := run(p.t, cfg)
		if err != nil || !v.Clean() {
			p.failed.Add(1)
			p.t.Errorf("seed %d: %v %v", cfg.Seed, err, problems(v))
			if *shrink {
				p.shrink(cfg)
			}
		}
		p.mu.Lock()
		add(&p.total, seen)
		p.mu.Unlock()
	}
}

func (p *player) shrink(cfg sim.Config) {
	until := time.Now().Add(shrinkFor)
	small := sim.Shrink(cfg, func(c sim.Config) bool { return time.Now().Before(until) && fails(p.t, c) }, sim.ShrinkTries)
	v, _, err := run(p.t, small)
	p.t.Logf("the smallest that fails: %v %v\nplay it again: go test ./sim -run '^TestSeeds$' %s", err, problems(v), small.Flags())
}

func fails(t *testing.T, c sim.Config) bool {
	t.Helper()
	v, _, err := run(t, c)
	return err != nil || !v.Clean()
}

// report says now and then how far a long run is, until it is ended.
func (p *player) report() (end func()) {
	ended := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		tick := time.NewTicker(progressEvery)
		defer tick.Stop()
		for {
			select {
			case <-ended:
				return
			case <-tick.C:
				n := min(p.next.Load(), uint64(*seeds))
				fmt.Fprintf(os.Stderr, "%d of %d seeds, %.0f/s, %d failed\n", n, *seeds, float64(n)/time.Since(p.began).Seconds(), p.failed.Load())
			}
		}
	}()
	return func() {
		close(ended)
		<-done
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

// Each kind of trouble happens, and soon: what a run is not troubled by proves nothing.
func TestKinds(t *testing.T) {
	t.Parallel()
	const most = 100
	var total sim.Tally
	missing := kind(total)
	for seed := uint64(1); seed <= most && len(missing) > 0; seed++ {
		cfg := config(seed)
		v, seen, err := run(t, cfg)
		if err != nil || !v.Clean() {
			t.Fatalf("%v %v: go test ./sim -run '^TestSeeds$' %s", err, problems(v), cfg.Flags())
		}
		add(&total, seen)
		missing = kind(total)
	}
	if len(missing) > 0 {
		t.Errorf("in %d seeds no %v", most, missing)
	}
}

// What a run is to go without doesn't happen.
func TestWithout(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10) {
		_, seen, err := sim.Run(t.Context(), sim.Config{Seed: seed, Bot: bot(seed), Crashes: -1, Sleeps: -1, Trouble: -1, Without: sim.AllKinds, Views: viewsHas(seed)})
		if err != nil {
			t.Fatal(err)
		}
		if n := seen.Crashes + seen.Sleeps + seen.Failed + seen.LostAnswers + seen.Again + seen.Broken + seen.Upgrades + seen.Outages + seen.Spooled +
			seen.LateAppends + seen.DiskFailed + seen.PowerLost + seen.Forged + seen.ClockSteps +
			seen.Rumours + seen.Evictions + seen.MailLost + seen.Inherited; n > 0 {
			t.Errorf("seed %d: %+v", seed, seen)
		}
	}
}

// Kinds are written as they are read.
func TestKindsAsFlag(t *testing.T) {
	t.Parallel()
	for k := range sim.AllKinds + 1 {
		var got sim.Kinds
		if err := got.Set(k.String()); err != nil || got != k {
			t.Fatalf("%s: got %s, %v", k, got, err)
		}
	}
	var k sim.Kinds
	if err := k.Set("again,nonsense"); err == nil {
		t.Error("nonsense was taken for a kind")
	}
}

// The same seed gives the same run: a failure can be replayed. 40 is one on the embedded
// store, 43 one of nodes with views.
func TestReplay(t *testing.T) {
	t.Parallel()
	for _, seed := range []uint64{42, 40, 43} {
		var last sim.Tally
		for i := range 3 {
			_, seen, err := run(t, config(seed))
			if err != nil {
				t.Fatal(err)
			}
			if i > 0 && seen != last {
				t.Fatalf("seed %d: run %d went another way: %+v, before %+v", seed, i, seen, last)
			}
			last = seen
		}
		if (last.Reopened > 0) != vaultHas(seed) {
			t.Errorf("seed %d: the store was opened again %d times", seed, last.Reopened)
		}
	}
}
