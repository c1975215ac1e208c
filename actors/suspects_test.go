package actors_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

var errOutage = errors.New("the store is away")

// outage is a store that goes away at some moment for a moment.
type outage struct {
	town          *town
	name          string
	tryAnswerLost atomic.Bool             // the next Try notes rows, and its answer is lost
	acquits       atomic.Int32            // that fail, of those to come
	commits       atomic.Int32            // as above
	tried         func(rows []parley.Row) // called when rows have been noted
}

func (o *outage) Try(ctx context.Context, rows []parley.Row) ([]parley.Row, error) {
	tried, err := o.town.store.Try(ctx, rows)
	if o.tried != nil {
		o.tried(rows)
	}
	if o.tryAnswerLost.CompareAndSwap(true, false) {
		return nil, errOutage
	}
	return tried, err
}

func (o *outage) Acquit(ctx context.Context, rows []parley.Row) error {
	if o.acquits.Add(-1) >= 0 {
		return errOutage
	}
	return o.town.store.Acquit(ctx, rows)
}

func (o *outage) Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error) {
	return o.town.store.Load(ctx, c, limit)
}

func (o *outage) Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error) {
	return o.town.store.Older(ctx, c, keys)
}

func (o *outage) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	if o.commits.Add(-1) >= 0 {
		return nil, errOutage
	}
	return witness{o.town.store, o.town, o.name}.Commit(ctx, commits)
}

// unsteady adds a host to a town whose store isn't always there.
func (w *town) unsteady(name string) *outage {
	w.Helper()
	o := &outage{town: w, name: name}
	w.settleOn(name, o, o)
	return o
}

// dead is how many events of the town were not run.
func (w *town) dead() int {
	w.Helper()
	dead, err := w.store.DeadLetters(w.Context(), parley.DeadQuery{Brand: "b", Limit: 100})
	if err != nil {
		w.Fatal(err)
	}
	return len(dead)
}

// takeOver lets host a take what belonged to one that has died, with an event that
// nobody has died of.
func takeOver(w *town) (innocent parley.Conversation) {
	const name = "a"
	w.hosts[name].Place(plan{owners: []string{"x", name}, nodes: []string{name, "x"}})
	w.held(map[string]int{name: parley.Shards / 2})
	innocent = parity(0, 2)
	w.say("", innocent, "hi")
	w.hosts[name].Place(plan{owners: []string{name}, nodes: []string{name}})
	return innocent
}

// A store that goes away between the note that an event is about to be run and its
// commit, which is then tried again, says nothing against the event.
func TestAnOutageCondemnsNobody(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*outage){
		"acquittal":     func(o *outage) { o.acquits.Store(1); o.commits.Store(1) },
		"answer to try": func(o *outage) { o.tryAnswerLost.Store(true) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t)
			o := w.unsteady("a")
			fail(o)
			innocent := takeOver(w)
			w.until("the inbox is empty", func() bool {
				l, err := w.store.Load(w.Context(), innocent, 10)
				return err == nil && len(l.Pending) == 0
			})
			if n := w.dead(); n > 0 {
				t.Errorf("%d events were not run, of which nobody has died", n)
			}
			w.counts(innocent, 1)
		})
	}
}

// Whoever lets go of a conversation before it has run what it noted takes the note
// back: the next owner must not take it for a death. Nor if that comes late, when the
// next one has begun already because it heard nothing; or if it fails at first.
func TestLettingGoCondemnsNobody(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		after time.Duration // b is told
		fails int32         // acquittals
	}{
		"soon":            {after: 100 * time.Millisecond},
		"late":            {after: 1500 * time.Millisecond},
		"late, and fails": {after: 1500 * time.Millisecond, fails: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newTown(t)
			w.sweep = time.Second // which makes up for what failed
			o := w.unsteady("a")
			w.settle("b")
			nodes := []string{"a", "b"}
			w.hosts["b"].Place(plan{owners: []string{"x"}, nodes: append(nodes, "x")})
			gate := make(chan struct{})
			begun := make(chan struct{}, 10)
			o.tried = func([]parley.Row) { begun <- struct{}{}; <-gate }
			innocent := takeOver(w)
			<-begun // noted, not run
			o.acquits.Store(row.fails)
			w.hosts["a"].Place(plan{owners: []string{"b"}, nodes: nodes})
			w.hosts["b"].Place(plan{owners: []string{"b"}, nodes: nodes})
			time.AfterFunc(row.after, func() { close(gate) }) // while a is asked to let go
			w.held(map[string]int{"b": parley.Shards})
			w.until("the inbox is empty", func() bool {
				l, err := w.store.Load(w.Context(), innocent, 10)
				return err == nil && len(l.Pending) == 0
			})
			if n := w.dead(); n > 0 {
				t.Errorf("%d events were not run, of which nobody has died", n)
			}
		})
	}
}

// A process that ends in peace before it has run what it noted takes the note back,
// too.
func TestEndingCondemnsNobody(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	o := w.unsteady("a")
	noted := make(chan []parley.Row, 10)
	o.tried = func(rows []parley.Row) {
		o.commits.Store(1000) // nothing is committed any more
		noted <- rows
	}
	o.acquits.Store(1) // nor acquitted at first
	takeOver(w)
	rows := <-noted
	w.ends["a"]()
	if tried, err := w.store.Try(t.Context(), rows); err != nil || len(tried) > 0 {
		t.Errorf("noted still: %v, %v", tried, err)
	}
}

// A process that was killed between the note and the run is started again on its folder,
// finds there that it was not running what it noted, and says so; meanwhile others wait.
func TestStartedAgainItAcquitsWhatItWasNotRunning(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.sweep, w.notes = 200*time.Millisecond, filepath.Join(t.TempDir(), "running")
	o := w.unsteady("a")
	gate, noted := make(chan struct{}), make(chan struct{}, 100)
	o.tried = func([]parley.Row) { noted <- struct{}{}; <-gate }
	t.Cleanup(func() { close(gate) })
	innocent := takeOver(w)
	<-noted
	left, err := os.ReadFile(w.notes) // here it is killed
	if err != nil {
		t.Fatal(err)
	}
	w.notes = ""
	found := make(chan struct{}, 100)
	b := w.unsteady("b")
	b.tried = func([]parley.Row) { found <- struct{}{} }
	w.hosts["b"].Place(plan{owners: []string{"a", "b"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"b": parley.Shards / 2})
	w.hosts["b"].Place(plan{owners: []string{"b"}, nodes: []string{"b"}})
	<-found
	w.notes = filepath.Join(t.TempDir(), "running")
	if err := os.WriteFile(w.notes, left, 0o600); err != nil {
		t.Fatal(err)
	}
	w.settle("a again")
	w.ranOn(innocent, "b")
	w.counts(innocent, 1)
	if n := w.dead(); n > 0 {
		t.Errorf("%d events were not run, of which nobody has died", n)
	}
}

// While the store is asked for a full head, a row comes that was stored before them and
// hinted late. The last of those that were asked for is noted, though it isn't of the
// head any more: it must be acquitted with the rest, or somebody condemns it. And the
// late one has not been tried.
func TestWhatIsTriedIsWhatWasAskedFor(t *testing.T) {
	t.Parallel()
	c := tries(t, 0)
	asked := c.Trying()
	c.Hint([]parley.Pending{row(1)})
	c.Tried(nil, nil)
	if !slices.Equal(c.Noted(), asked) {
		t.Fatalf("%d rows are noted in the store, of which %d are known", len(asked), len(c.Noted()))
	}
	want(t, &c, actors.Try)
	if late := c.Trying(); late[0] != row(1).Row || len(late) != parley.MaxPendingPerTurn {
		t.Fatalf("tried then: %v", late)
	}
	c.Tried(nil, nil)
	want(t, &c, actors.Think)
}

// tries is a machine that wants to try a whole head of rows, of which those are doubted
// that were received in the first second.
func tries(t *testing.T, apart time.Duration) actors.Conversation {
	t.Helper()
	c := actors.NewConversation(someone())
	c.Doubt(time.UnixMilli(1000))
	want(t, &c, actors.Load)
	var rows []parley.Pending
	for i := range parley.MaxPendingPerTurn {
		rows = append(rows, row(parley.Seq(i+2)))
		rows[i].Received = time.UnixMilli(500).Add(time.Duration(i) * apart)
	}
	c.Loaded(parley.Loaded{Snapshot: version(1), Pending: rows}, nil)
	want(t, &c, actors.Try)
	return c
}

// What was noted with a head that it was pushed out of is acquitted by the turn that runs
// it, which nobody asked for.
func TestWhatIsNotedIsAcquittedByTheTurnThatRunsIt(t *testing.T) {
	t.Parallel()
	c := tries(t, time.Second) // only the first is doubted
	c.Hint([]parley.Pending{row(1)})
	c.Tried(nil, nil)
	want(t, &c, actors.Try)
	c.Tried(nil, nil)
	for _, acquitted := range []int{parley.MaxPendingPerTurn, 1} {
		want(t, &c, actors.Think)
		s, _, _ := c.Turn()
		if got := c.Acquitted(); len(got) != acquitted {
			t.Fatalf("%d rows are acquitted, want %d", len(got), acquitted)
		}
		s.Version.Number++
		c.Committed(s, nil)
	}
	if left := c.Noted(); len(left) > 0 {
		t.Fatalf("%d notes are left", len(left))
	}
}
