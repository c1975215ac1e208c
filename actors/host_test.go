package actors_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/persistence/memory"
)

func TestMain(m *testing.M) {
	// Turns without end stay, by their nature, until the process ends.
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/parleychat/parley/actors_test.block"))
}

// counts is a bot that answers each message with how many there have been.
type counted struct {
	N int `json:"n"`
}

func counting() *parley.Bot {
	return &parley.Bot{Name: "counting", Behavior: parley.Stateful(func(t *parley.Turn, s *counted) error {
		switch in := t.Input().(type) {
		case parley.Message:
			switch in.Text {
			case "spin":
				spin()
			case "panic":
				panic("a text that must not be kept")
			case "error":
				return errAway
			case "timer":
				t.SetTimer("t", 30*time.Millisecond)
			case "call":
				t.Call(parley.Call{Name: "c", Service: "s"})
			}
			s.N++
			t.Say(fmt.Sprintf("%.20s %d", in.Text, s.N))
		case parley.TimerFired:
			t.Say("rang")
		default: // nothing else happens here
		}
		return nil
	})}
}

// released ends the endless turns when the tests that made them are over.
var released atomic.Bool

// spin is a loop without end, for as long as a test can tell.
func spin() {
	for !released.Load() {
	}
}

// block waits for ever.
func block(*parley.Turn) error { select {} }

// rig is a host on a store in memory, running until the test ends.
type rig struct {
	*actors.Host
	t     *testing.T
	store *memory.Store
	stop  context.CancelFunc
	ended chan error
	n     int
	mu    sync.Mutex
}

func newRig(t *testing.T, adjust func(*actors.Config)) *rig {
	t.Helper()
	store := memory.New(memory.Config{})
	r := &rig{t: t, store: store, ended: make(chan error, 1)}
	cfg := actors.Config{Store: store, Agenda: store, Bot: func(parley.Channel) *parley.Bot { return counting() }}
	if adjust != nil {
		adjust(&cfg)
	}
	host, err := actors.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	r.Host = host
	ctx, stop := context.WithCancel(t.Context())
	r.stop = stop
	go func(ended chan<- error) { ended <- r.Run(ctx) }(r.ended)
	t.Cleanup(func() {
		stop()
		select {
		case err := <-r.ended:
			if err != nil && !errors.Is(err, actors.ErrAbandoned) {
				t.Error(err)
			}
		case <-time.After(20 * time.Second):
			t.Error("the host did not end")
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func talk(i int) parley.Conversation {
	return parley.Conversation{
		Channel: parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "1"},
		Contact: parley.Contact(fmt.Sprintf("user:%d", i)),
	}
}

// message stores a text; hinted says whether the host hears of it.
func (r *rig) message(c parley.Conversation, text string, hinted bool) {
	r.t.Helper()
	r.mu.Lock()
	r.n++
	id := fmt.Sprintf("m%d", r.n)
	r.mu.Unlock()
	rows, err := r.store.Append(r.t.Context(), parley.Arrivals{Events: []parley.Event{{
		Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey(id),
		Input: parley.Message{ID: id, Text: text},
	}}})
	if err != nil {
		r.t.Fatal(err)
	}
	if hinted {
		r.Deliver(rows)
	}
}

// until waits for a condition on a conversation's stored state.
func (r *rig) until(c parley.Conversation, what string, ok func(parley.Loaded) bool) parley.Loaded {
	r.t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for {
		l, err := r.store.Load(r.t.Context(), c, 100)
		if err != nil {
			r.t.Fatal(err)
		}
		if ok(l) {
			return l
		}
		if time.Now().After(deadline) {
			r.t.Fatalf("%s: not within 15 s; version %d, %d pending", what, l.Snapshot.Version.Number, len(l.Pending))
		}
		time.Sleep(2 * time.Millisecond)
	}
}

func state(n int) func(parley.Loaded) bool {
	return func(l parley.Loaded) bool {
		return string(l.Snapshot.State) == fmt.Sprintf(`{"n":%d}`, n) && len(l.Pending) == 0
	}
}

func (r *rig) dead() []parley.DeadLetter {
	r.t.Helper()
	dead, err := r.store.DeadLetters(r.t.Context(), parley.DeadQuery{Brand: "b", Limit: 100})
	if err != nil {
		r.t.Fatal(err)
	}
	return dead
}

func TestHost(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"EachEventTakesEffectOnce":                       hostEachEventTakesEffectOnce,
		"CommitsBeginApart":                              hostCommitsBeginApart,
		"AForgottenHintIsSwept":                          hostAForgottenHintIsSwept,
		"ALostHintBeforeAHintedRowKeepsTheOrder":         hostALostHintBeforeAHintedRowKeepsTheOrder,
		"FailingEventsBecomeDeadLettersAndTheRestGoesOn": hostFailingEventsBecomeDeadLettersAndTheRestGoesOn,
		"TimersFire":                                     hostTimersFire,
		"IdleConversationsLeaveMemory":                   hostIdleConversationsLeaveMemory,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func hostEachEventTakesEffectOnce(t *testing.T) {
	t.Helper()
	r := newRig(t, nil)
	for i := range 50 {
		for range 10 {
			r.message(talk(i), "hi", true)
		}
	}
	for i := range 50 {
		r.until(talk(i), "ten effects", state(10))
	}
}

// paced notes when commits begin.
type paced struct {
	actors.Store
	began chan<- time.Time
}

func (p paced) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	p.began <- time.Now()
	return p.Store.Commit(ctx, commits)
}

func hostCommitsBeginApart(t *testing.T) {
	t.Helper()
	const gather, turns = 20 * time.Millisecond, 12
	began := make(chan time.Time, turns)
	r := newRig(t, func(c *actors.Config) {
		c.Store, c.Gather, c.Sharing = paced{c.Store, began}, gather/4, func() int { return 4 }
	})
	start := time.Now()
	for i := range turns {
		r.message(talk(i), "hi", true)
		time.Sleep(gather / turns)
	}
	for i := range turns {
		r.until(talk(i), "its turn", state(1))
	}
	close(began)
	n, last := 0, start
	for last = range began {
		n++
	}
	// The first waits for nobody, each other one for a beat of its own. A single commit
	// may begin late, and the next one in time.
	if beats := int(last.Truncate(gather).Sub(start.Truncate(gather)) / gather); n-1 > beats {
		t.Errorf("%d commits began on %d beats", n, beats)
	}
}

func hostAForgottenHintIsSwept(t *testing.T) {
	t.Helper()
	r := newRig(t, func(c *actors.Config) { c.SweepEvery = 50 * time.Millisecond })
	r.message(talk(1), "hi", false)
	r.until(talk(1), "effect", state(1))
}

func hostALostHintBeforeAHintedRowKeepsTheOrder(t *testing.T) {
	t.Helper()
	r := newRig(t, nil)
	r.message(talk(1), "first", true)
	r.until(talk(1), "effect", state(1))
	r.message(talk(1), "second", false)
	r.message(talk(1), "third", true)
	l := r.until(talk(1), "effects", state(3))
	if l.Snapshot.Ordinal != 3 {
		t.Fatalf("%d replies, want 3", l.Snapshot.Ordinal)
	}
	h, err := r.store.History(t.Context(), talk(1), 1, 10)
	if err != nil || len(h) != 1 {
		t.Fatalf("want both rows in one turn: %d turns, %v", len(h), err)
	}
}

func hostFailingEventsBecomeDeadLettersAndTheRestGoesOn(t *testing.T) {
	t.Helper()
	r := newRig(t, nil)
	for _, text := range []string{"a", "panic", "b", "error", "c"} {
		r.message(talk(1), text, true)
	}
	r.until(talk(1), "three effects", state(3))
	if dead := r.dead(); len(dead) != 2 {
		t.Fatalf("%d dead letters, want 2", len(dead))
	}
}

func hostTimersFire(t *testing.T) {
	t.Helper()
	r := newRig(t, nil)
	r.message(talk(1), "timer", true)
	r.until(talk(1), "ring", func(l parley.Loaded) bool { return l.Snapshot.Ordinal == 2 })
}

func hostIdleConversationsLeaveMemory(t *testing.T) {
	t.Helper()
	r := newRig(t, func(c *actors.Config) { c.SweepEvery, c.PassivateIn = 5*time.Millisecond, 10*time.Millisecond })
	for i := range 100 {
		r.message(talk(i), "hi", true)
	}
	for i := range 100 {
		r.until(talk(i), "effect", state(1))
	}
	for deadline := time.Now().Add(15 * time.Second); r.Live() > 0; {
		if time.Now().After(deadline) {
			t.Fatalf("%d conversations still in memory", r.Live())
		}
		time.Sleep(time.Millisecond)
	}
	r.message(talk(7), "again", true)
	r.until(talk(7), "effect after passivation", state(2))
}

func TestEndlessTurn(t *testing.T) {
	t.Parallel()
	defer released.Store(true)
	r := newRig(t, func(c *actors.Config) { c.TurnDeadline = 300 * time.Millisecond })
	r.message(talk(1), "a", true)
	r.message(talk(1), "spin", true)
	r.message(talk(1), "b", true)
	r.message(talk(2), "other", true)
	r.until(talk(2), "the other conversation", state(1))
	r.until(talk(1), "the conversation goes on", state(2))
	if dead := r.dead(); len(dead) != 1 {
		t.Fatalf("%d dead letters, want the endless event's", len(dead))
	}
}

// A process that died while an event ran meets it again: the first time it may
// have been innocent, the second it is not run.
func TestNotesCondemnTheSecondTime(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "running")
	row := parley.Row{Seq: 7, Token: 8}
	for attempt := range 2 {
		n, err := actors.OpenNotes(path)
		if err != nil {
			t.Fatal(err)
		}
		if attempt > 0 && n.Attempts(row) != attempt {
			t.Fatalf("start %d: %d attempts", attempt, n.Attempts(row))
		}
		n.Running(3, row) // and here the process dies
	}
	n, err := actors.OpenNotes(path)
	if err != nil {
		t.Fatal(err)
	}
	if n.Attempts(row) != 2 {
		t.Fatalf("%d attempts, want 2", n.Attempts(row))
	}
	n.Settled([]parley.Row{row})
	n, err = actors.OpenNotes(path)
	if err != nil {
		t.Fatal(err)
	}
	if n.Attempts(row) != 0 {
		t.Fatal("an event that took effect is still suspect")
	}
}

// Of what a process has noted among all nodes, the next one knows what wasn't being run
// when it died, until that is acquitted; and what was.
func TestNotesAcquitWhatWasNotRun(t *testing.T) {
	t.Parallel()
	path := filepath.Join(t.TempDir(), "running")
	row := func(seq parley.Seq) parley.Row { return parley.Row{Seq: seq, Token: 9} }
	next := func(innocent ...parley.Row) actors.Notes {
		n, err := actors.OpenNotes(path)
		if err != nil {
			t.Fatal(err)
		}
		got := n.Innocent()
		slices.SortFunc(got, func(a, b parley.Row) int { return cmp.Compare(a.Seq, b.Seq) })
		if !slices.Equal(got, innocent) {
			t.Fatalf("innocent are %v, want %v", got, innocent)
		}
		return n
	}
	n := next()
	n.Try(row(1), row(2), row(3), row(4))
	n.Try(row(3))
	n.Acquit(row(2))
	n.Running(5, row(3)) // and here the process dies
	n = next(row(1), row(4))
	if n.Attempts(row(3)) != 1 || n.Attempts(row(1)) != 0 {
		t.Errorf("attempts: %d and %d", n.Attempts(row(3)), n.Attempts(row(1)))
	}
	n.Try(row(1), row(5)) // and here again
	n = next(row(1), row(4), row(5))
	n.Acquit(row(1), row(4), row(5), row(6))
	many := make([]parley.Row, 3000) // more than there is room for
	for i := range many {
		many[i] = row(parley.Seq(100 + i))
	}
	n.Try(many...)
	n.Acquit(many[:1000]...)
	next(many[1000:1024]...)
}

func TestManyEndlessTurnsAskForANewProcess(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *actors.Config) {
		c.TurnDeadline, c.DrainTimeout = 200*time.Millisecond, time.Second
		c.Bot = func(parley.Channel) *parley.Bot {
			return &parley.Bot{Name: "blocked", Behavior: parley.BehaviorFunc(block)}
		}
	})
	for i := range 12 {
		r.message(talk(i), "hi", true)
	}
	select {
	case err := <-r.ended:
		if !errors.Is(err, actors.ErrAbandoned) {
			t.Fatalf("got %v", err)
		}
		r.ended <- err
	case <-time.After(20 * time.Second):
		t.Fatal("the host goes on")
	}
}
