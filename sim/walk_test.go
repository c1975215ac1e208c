package sim_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/memory"
	"github.com/parleychat/parley/persistence/pgserver/pgtest"
	"github.com/parleychat/parley/persistence/postgres"
	"github.com/parleychat/parley/sim"
)

var stride = flag.Int("stride", 32, "of the points of a walk on PostgreSQL every so manyth is taken, of one on the embedded store every quarter of that")

var cluster = pgtest.Cluster{Migrate: func(ctx context.Context, url string) error {
	_, err := postgres.Migrate(ctx, url)
	return err
}}

func TestMain(m *testing.M) { goleak.VerifyTestMain(cluster.Around(m)) }

// memoryVault is a store that no crash takes anything from.
type memoryVault struct{ s *memory.Store }

func (v *memoryVault) Open(_ context.Context, now func() time.Time, random io.Reader) (sim.Store, error) { //nolint:ireturn // sim.Vault has it so
	if v.s == nil {
		v.s = memory.New(memory.Config{Now: now, Random: random})
	}
	return v.s, nil
}

func (v *memoryVault) Close() error { return v.s.Close() }

// diskVault is a store on a disk that forgets what wasn't synced.
type diskVault struct {
	fs *vfs.MemFS
	s  *embedded.Store
}

func (v *diskVault) Open(_ context.Context, now func() time.Time, random io.Reader) (sim.Store, error) { //nolint:ireturn // as above
	if v.fs == nil {
		v.fs = vfs.NewCrashableMem()
	} else {
		crashed := v.fs.CrashClone(vfs.CrashCloneCfg{})
		if err := v.s.Close(); err != nil {
			return nil, err
		}
		v.fs = crashed
	}
	const roomy = 1 << 40
	s, err := embedded.Open(embedded.Config{
		Dir: "walk", FS: v.fs, Now: now, Random: random, SyncEvery: -1, Free: func() (uint64, error) { return roomy, nil },
	})
	v.s = s
	return s, err
}

func (v *diskVault) Close() error {
	if v.s == nil {
		return nil // it was never opened
	}
	return v.s.Close()
}

// databaseVault is a database, whose server doesn't crash. The connections of the
// processes that died stay open to the end: nobody has told the server.
type databaseVault struct {
	url    string
	opened []*postgres.Store
}

func (v *databaseVault) Open(ctx context.Context, now func() time.Time, _ io.Reader) (sim.Store, error) { //nolint:ireturn // as above
	s, err := postgres.Open(ctx, postgres.Config{URL: v.url, Now: now, Conns: 1})
	if err == nil {
		v.opened = append(v.opened, s)
	}
	return s, err
}

func (v *databaseVault) Close() error {
	var errs []error
	for _, s := range v.opened {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

type vault interface {
	sim.Vault
	Close() error
}

// TestWalk crashes before and after each access to the store and the network, on each
// store, and prints a table of it.
func TestWalk(t *testing.T) {
	t.Parallel()
	for _, s := range sim.Scenarios() {
		t.Run("memory/"+string(s), func(t *testing.T) {
			t.Parallel()
			walk(t, s, 1, func() func() vault { return func() vault { return &memoryVault{} } })
		})
		t.Run("postgres/"+string(s), func(t *testing.T) {
			t.Parallel()
			walk(t, s, *stride, func() func() vault {
				url := cluster.Database(t)
				return func() vault { return &databaseVault{url: url} }
			})
		})
		if s == sim.WalkHandOver {
			continue // the embedded store is one process's
		}
		t.Run("embedded/"+string(s), func(t *testing.T) {
			t.Parallel()
			walk(t, s, max(*stride/4, 1), func() func() vault { return func() vault { return &diskVault{} } })
		})
	}
}

// walker walks a scenario, time and again.
type walker struct {
	t    *testing.T
	s    sim.Scenario
	open func() vault // a store that owes nothing to anybody
}

// walk takes each point, or every so manyth, until a run is over before it gets there.
// Each worker has stores of its own.
func walk(t *testing.T, s sim.Scenario, every int, stores func() func() vault) {
	t.Helper()
	first := walker{t, s, stores()}
	whole := first.once("whole", sim.Point{})
	first.check(whole)
	var (
		wg     sync.WaitGroup
		next   atomic.Int64
		beyond atomic.Int64
		failed atomic.Int64
	)
	const workers, enough = 2, 5
	beyond.Store(1 << 30)
	for range workers {
		w := walker{t, s, stores()}
		wg.Go(func() {
			for i := next.Add(1); i < beyond.Load() && failed.Load() < enough; i = next.Add(1) {
				p := sim.Point{Access: 1 + int(i-1)/2*every, After: i%2 == 0}
				if got := w.once(fmt.Sprint("walk-", i), p); got.Crashed == "" {
					beyond.Store(min(beyond.Load(), i))
				} else if t.Failed() {
					failed.Add(1)
				}
			}
		})
	}
	wg.Wait()
	t.Logf("| %s | %d accesses | %d crashes | %s |", t.Name(), whole.Accesses, min(next.Load(), beyond.Load())-1, counts(whole.Named))
}

// check sees that the way is what it is said to be.
func (w walker) check(whole sim.Walked) {
	w.t.Helper()
	met := map[sim.Scenario]bool{
		sim.WalkWebhook: whole.Verdict.Duplicates > 0, sim.WalkTimer: whole.Verdict.TimersRung > 0, sim.WalkMerge: whole.Merged > 0,
		sim.WalkDoubtful: whole.Verdict.Faults.Withheld > 0, sim.WalkCall: whole.Verdict.TimersRung > 0 && whole.Named["SettleCalls"] > 0, sim.WalkHandOver: true,
	}
	for _, name := range []string{"Append", "Load", "Commit", "FireTimers", "Claim", "Settle", "Graph API"} {
		if whole.Named[name] == 0 || !met[w.s] {
			w.t.Fatalf("this isn't the way of %s: %v, merged %d, %+v", w.s, whole.Named, whole.Merged, whole.Verdict)
		}
	}
}

// once walks with one crash, or none.
func (w walker) once(brand string, p sim.Point) sim.Walked {
	w.t.Helper()
	v, bot := w.open(), tally.Bot()
	if w.s == sim.WalkCall {
		bot = tally.Calling(1)
	}
	got, err := sim.Walk(w.t.Context(), sim.WalkConfig{Bot: bot, Scenario: w.s, Vault: v, Brand: parley.Brand(brand), Point: p})
	err = errors.Join(err, v.Close())
	if again := got.Verdict.SendsRepeatedOn; again.Messenger+again.WhatsApp > 0 {
		w.t.Errorf("%s, crash %s (%s): %+v sends repeated, where the provider tells what was sent", w.s, p, got.Crashed, again)
	}
	if err != nil || !got.Verdict.Clean() {
		w.t.Errorf("%s, crash %s (%s): %v %v", w.s, p, got.Crashed, err, problems(got.Verdict))
	}
	return got
}

func counts(named map[string]int) string {
	out := make([]string, 0, len(named))
	for name, n := range named {
		out = append(out, fmt.Sprintf("%s %d", name, n))
	}
	slices.Sort(out)
	return strings.Join(out, ", ")
}
