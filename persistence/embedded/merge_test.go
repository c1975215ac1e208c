package embedded_test

import (
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

func person(key parley.Contact) parley.Conversation {
	return parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "447000"}, Contact: key}
}

func heard(keys ...parley.Contact) parley.Arrivals {
	e := testEvent(0)
	e.Channel, e.Contacts = person("").Channel, keys
	return parley.Arrivals{Events: []parley.Event{e}}
}

// hear appends an event of these keys and returns its row.
func hear(t *testing.T, s *embedded.Store, keys ...parley.Contact) parley.Pending {
	t.Helper()
	rows, err := s.Append(t.Context(), heard(keys...))
	if err != nil {
		t.Fatal(err)
	}
	return rows[0]
}

// couple is two conversations that turn out to be one, and what was
// acknowledged of them.
type couple struct {
	older, younger parley.Contact
	rows           []parley.EventKey
	met            bool
}

// meetings makes couples and lets them meet, until it is told to stop.
type meetings struct {
	mu      sync.Mutex
	couples []*couple
}

func (m *meetings) one(t *testing.T, s *embedded.Store, id int) error {
	t.Helper()
	c := &couple{older: parley.Contact(fmt.Sprint("phone:", id)), younger: parley.Contact(fmt.Sprint("bsuid:", id))}
	m.mu.Lock()
	m.couples = append(m.couples, c)
	m.mu.Unlock()
	hear := func(keys ...parley.Contact) error {
		rows, err := s.Append(t.Context(), heard(keys...))
		if err == nil {
			m.mu.Lock()
			c.rows, c.met = append(c.rows, rows[0].Key), len(keys) == 2
			m.mu.Unlock()
		}
		return err
	}
	for _, key := range []parley.Contact{c.older, c.younger} {
		if err := errors.Join(hear(key), hear(key)); err != nil {
			return err
		}
		loaded, err := s.Load(t.Context(), person(key), 1)
		if err != nil {
			return err
		}
		turn := benchTurn(&loaded.Pending[0], loaded.Snapshot, rand.New(rand.NewPCG(rand.Uint64(), 1)))
		if errs, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return hear(c.younger, c.older)
}

// check: a couple has been merged or not, in all that tells of it, and nothing
// that was acknowledged is gone.
func (c *couple) check(t *testing.T, s *embedded.Store) {
	t.Helper()
	load := func(key parley.Contact) parley.Loaded {
		l, err := s.Load(t.Context(), person(key), 1<<10)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	a, b := load(c.older), load(c.younger)
	merged := b.Snapshot.MergedInto == c.older
	if merged != slices.Contains(a.Snapshot.Absorbed, c.younger) || c.met && !merged {
		t.Fatalf("met %v; the younger went into %q, the older absorbed %v", c.met, b.Snapshot.MergedInto, a.Snapshot.Absorbed)
	}
	known := map[parley.EventKey]int{}
	for _, l := range []parley.Loaded{a, b} {
		for _, p := range l.Pending {
			known[p.Key]++
		}
		for _, k := range l.Snapshot.Seen {
			known[k.Key]++
		}
	}
	for _, key := range c.rows {
		if known[key] != 1 {
			t.Errorf("an acknowledged event is there %d times", known[key])
		}
	}
	want := c.younger
	if merged {
		want = c.older
	}
	if got := hear(t, s, c.younger).Conversation.Contact; got != want {
		t.Errorf("merged %v, and the younger's key means %s", merged, got)
	}
}

func TestPowerLossAmidMerges(t *testing.T) {
	t.Parallel()
	for seed := range uint64(6) {
		fs := vfs.NewCrashableMem()
		s := open(t, embedded.Config{Dir: "store", FS: slowSync{fs}})
		m := &meetings{}
		stop := make(chan struct{})
		var wg sync.WaitGroup
		for w := range 4 {
			wg.Go(func() {
				for i := 0; ; i++ {
					select {
					case <-stop:
						return
					default:
					}
					if err := m.one(t, s, i*4+w); err != nil {
						t.Error(err)
						return
					}
				}
			})
		}
		var after *vfs.MemFS
		var frozen []couple
		for after == nil {
			time.Sleep(time.Millisecond) // until they have done something
			m.mu.Lock()                  // nothing is acknowledged between here and the crash
			if len(m.couples) > 8+rand.IntN(16) {
				after = fs.CrashClone(vfs.CrashCloneCfg{UnsyncedDataPercent: 50, RNG: rand.New(rand.NewPCG(seed, 9))})
				for _, c := range m.couples {
					frozen = append(frozen, couple{older: c.older, younger: c.younger, rows: slices.Clone(c.rows), met: c.met})
				}
			}
			m.mu.Unlock()
		}
		close(stop)
		wg.Wait()
		again := open(t, embedded.Config{Dir: "store", FS: after})
		for i := range frozen {
			frozen[i].check(t, again)
		}
	}
}

// flaky is a source of random bytes that fails when told to.
type flaky struct{ broken bool }

var errNoise = errors.New("no noise today")

func (f *flaky) Read(b []byte) (int, error) {
	if f.broken {
		return 0, errNoise
	}
	for i := range b {
		b[i] = byte(rand.Uint32())
	}
	return len(b), nil
}

// What an append that failed would have made known isn't.
func TestFailedAppendMakesNothingKnown(t *testing.T) {
	t.Parallel()
	noise := &flaky{broken: true}
	s := open(t, embedded.Config{Dir: "store", FS: vfs.NewMem(), Random: noise})
	if _, err := s.Append(t.Context(), heard("bsuid:x")); !errors.Is(err, errNoise) {
		t.Fatalf("append: %v", err)
	}
	noise.broken = false
	if got := hear(t, s, "phone:1", "bsuid:x").Conversation.Contact; got != "phone:1" {
		t.Errorf("bsuid:x is known by an event that was not stored: %s", got)
	}
	hear(t, s, "phone:2")
	noise.broken = true
	if _, err := s.Append(t.Context(), heard("phone:2", "bsuid:x")); !errors.Is(err, errNoise) {
		t.Fatalf("merge: %v", err)
	}
	noise.broken = false
	if got := hear(t, s, "phone:2").Conversation.Contact; got != "phone:2" {
		t.Errorf("phone:2 means %s after a merge that failed", got)
	}
	if got := hear(t, s, "phone:2", "bsuid:x").Conversation.Contact; got != "phone:1" {
		t.Errorf("phone:2 and bsuid:x mean %s", got)
	}
}

// Stores from before the merging hold aliases without birth numbers: those
// conversations are older than any that is born later, and equal to each other.
func TestAliasesWithoutBirthNumbers(t *testing.T) {
	t.Parallel()
	fs := vfs.NewMem()
	s := open(t, embedded.Config{Dir: "store", FS: fs})
	hear(t, s, "phone:1", "phone:11")
	hear(t, s, "phone:2", "phone:22")
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	forgetBirths(t, fs)
	counted := prometheus.NewRegistry()
	s = open(t, embedded.Config{Dir: "store", FS: fs, Registerer: counted})
	hear(t, s, "bsuid:x")
	for _, c := range []struct {
		want parley.Contact
		keys []parley.Contact
	}{
		{"phone:2", []parley.Contact{"bsuid:x", "phone:22"}},
		{"phone:2", []parley.Contact{"phone:2", "phone:11"}}, // the stronger of two equals
		{"phone:2", []parley.Contact{"phone:1"}},
	} {
		if got := hear(t, s, c.keys...).Conversation.Contact; got != c.want {
			t.Errorf("%v mean %s, want %s", c.keys, got, c.want)
		}
	}
	if got := count(t, counted, "parley_store_conversations_merged_total"); got != 2 {
		t.Errorf("%v merges counted, want 2", got)
	}
}

func count(t *testing.T, from prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			return f.GetMetric()[0].GetCounter().GetValue()
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// forgetBirths writes the alias rows as an older program did.
func forgetBirths(t *testing.T, fs vfs.FS) {
	t.Helper()
	db, err := pebble.Open("store", &pebble.Options{FS: fs})
	if err != nil {
		t.Fatal(err)
	}
	it, err := db.NewIter(&pebble.IterOptions{LowerBound: []byte{'a'}, UpperBound: []byte{'b'}})
	if err != nil {
		t.Fatal(err)
	}
	born := 0
	for it.First(); it.Valid(); it.Next() {
		if v := it.Value(); v[0] == 2 {
			born++
			old := append([]byte{1}, v[1:2+v[1]]...)
			if err := db.Set(slices.Clone(it.Key()), old, pebble.Sync); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := errors.Join(it.Close(), db.Close()); err != nil {
		t.Fatal(err)
	}
	if born != 2 {
		t.Fatalf("%d conversations have a birth number, want 2", born)
	}
}
