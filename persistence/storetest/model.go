package storetest

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// model is what a store must be, as far as one caller can see: three
// conversations with their inboxes, versions, outboxes and timers.
type model struct {
	d     *desk
	lease parley.Lease
	convs []*modelConv
	stale []parley.Commit // commits that were taken, or lost to another
	dead  int
}

type modelConv struct {
	name     parley.Conversation
	version  parley.Version
	pending  []parley.EventKey
	timers   []parley.Timer // live in the due list
	unsent   []parley.ID
	claimed  bool // its head is
	attempts int
	at       time.Time // of the last claim of its head
	due      time.Time // its head may not be claimed before
	doubtful bool
}

func runModel(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"AnyHistoryOfCalls": modelAnyHistoryOfCalls,
	})
}

func modelAnyHistoryOfCalls(t *testing.T, d *desk) {
	rapid.Check(t, func(rt *rapid.T) {
		m := &model{d: sit(t, d.open)}
		defer func() {
			if err := m.d.Close(); err != nil {
				rt.Errorf("close: %v", err)
			}
		}()
		for _, name := range []string{"a", "b", "c"} {
			m.convs = append(m.convs, &modelConv{name: conv(name)})
		}
		m.takeLease(parley.Lease{})
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "commit": m.commit, "commitStale": m.commitStale, "commitLate": m.commitLate,
			"claim": m.claim, "settle": m.settle, "takeover": m.takeover, "fire": m.fire,
			"wait": m.wait, "reopen": m.reopen, "": m.check,
		})
	})
}

func (m *model) any(rt *rapid.T) *modelConv {
	return m.convs[rapid.IntRange(0, len(m.convs)-1).Draw(rt, "conversation")]
}

func (m *model) append(rt *rapid.T) {
	var events []parley.Event
	for range rapid.IntRange(1, 3).Draw(rt, "events") {
		c := m.any(rt)
		e := m.d.event(c.name, "x")
		c.pending = append(c.pending, e.Key)
		events = append(events, e)
	}
	m.d.append(events...)
}

// commit is a turn over some of the first rows, with replies and timers.
func (m *model) commit(rt *rapid.T) {
	c := m.any(rt)
	n := rapid.IntRange(0, len(c.pending)).Draw(rt, "rows")
	loaded, err := m.d.Load(rt.Context(), c.name, n)
	if err != nil {
		rt.Fatal(err)
	}
	turn := m.d.turn(loaded)
	for range rapid.IntRange(0, 2).Draw(rt, "replies") {
		m.d.replies(&turn, "x")
	}
	if rapid.Bool().Draw(rt, "timer") {
		m.d.timer(&turn, fmt.Sprint(turn.Next.Generation), time.Duration(rapid.IntRange(0, 90).Draw(rt, "in"))*time.Second)
	}
	if len(c.timers) > 0 && rapid.Bool().Draw(rt, "cancel") {
		turn.CancelTimers = append(turn.CancelTimers, c.timers[0])
		c.timers = c.timers[1:]
	}
	if rapid.IntRange(0, 5).Draw(rt, "dead") == 0 {
		turn.Dead = append(turn.Dead, parley.DeadLetter{ID: m.d.id(), Conversation: c.name, At: m.d.clock.Now()})
		m.dead++
	}
	m.d.commit(turn)
	c.pending, c.version = c.pending[n:], turn.Next.Version
	c.timers = append(c.timers, turn.SetTimers...)
	for _, o := range turn.Outbox {
		c.unsent = append(c.unsent, o.ID)
	}
	m.stale = append(m.stale, turn)
}

// commitStale tries what has been taken already.
func (m *model) commitStale(rt *rapid.T) {
	if len(m.stale) == 0 {
		rt.Skip("no commit yet")
	}
	i := rapid.IntRange(0, len(m.stale)-1).Draw(rt, "which")
	if errs := m.d.tryCommit(m.stale[i]); !errors.Is(errs[0], parley.ErrConflict) {
		rt.Fatalf("stale commit: %v", errs[0])
	}
}

// commitLate tries a turn that didn't see all rows up to where it reads.
func (m *model) commitLate(rt *rapid.T) {
	c := m.any(rt)
	if len(c.pending) == 0 {
		rt.Skip("nothing pending")
	}
	turn := m.d.turn(m.d.load(c.name))
	i := rapid.IntRange(0, len(turn.Saw)-1).Draw(rt, "unseen")
	turn.Saw = slices.Delete(turn.Saw, i, i+1)
	if errs := m.d.tryCommit(turn); !errors.Is(errs[0], parley.ErrConflict) {
		rt.Fatalf("commit that didn't see row %d: %v", i, errs[0])
	}
}

func (m *model) claim(rt *rapid.T) {
	m.takeLease(m.lease)
	limit := rapid.IntRange(0, 4).Draw(rt, "limit")
	claimed, _ := m.d.claim(m.lease, limit)
	ready := 0
	for _, c := range m.convs {
		if len(c.unsent) > 0 && !c.claimed && !c.due.After(m.d.clock.Now()) {
			ready++
		}
	}
	if len(claimed) != min(ready, limit) {
		rt.Fatalf("claimed %d of %d ready, limit %d", len(claimed), ready, limit)
	}
	for _, got := range claimed {
		c := m.convs[slices.IndexFunc(m.convs, func(c *modelConv) bool { return c.name == got.Conversation })]
		if c.claimed || got.ID != c.unsent[0] || c.due.After(m.d.clock.Now()) || got.Attempts != c.attempts || got.Doubtful != c.doubtful {
			rt.Fatalf("claimed %+v, model %+v", got, c)
		}
		c.claimed, c.at = true, m.d.clock.Now()
	}
}

func (m *model) settle(rt *rapid.T) {
	var outcomes []parley.Outcome
	for _, c := range m.convs {
		if len(c.unsent) == 0 {
			continue
		}
		o := parley.Outcome{ID: c.unsent[0], Kind: parley.OutcomeKind(rapid.IntRange(1, 4).Draw(rt, "kind")), Wait: 20 * time.Second}
		o.ProviderID = o.ID.String()
		outcomes = append(outcomes, o)
		if c.claimed {
			m.settled(c, o)
		}
	}
	m.d.settle(m.lease, outcomes...)
}

func (m *model) settled(c *modelConv, o parley.Outcome) {
	c.claimed = false
	switch o.Kind {
	case parley.Sent, parley.Refused:
		if o.Kind == parley.Refused {
			m.dead++
		}
		c.unsent = c.unsent[1:]
		c.attempts, c.doubtful, c.due = 0, false, time.Time{}
	case parley.Retry:
		c.attempts++
		c.due = m.d.clock.Now().Add(o.Wait)
	case parley.Doubt:
		c.doubtful = true
		c.due = m.d.clock.Now().Add(o.Wait)
	}
}

// takeover is the sender started anew, before or after its lease has expired.
func (m *model) takeover(rt *rapid.T) {
	old := m.lease
	if rapid.Bool().Draw(rt, "expired") {
		m.d.clock.Add(leaseTTL)
	}
	m.takeLease(parley.Lease{})
	if err := m.d.Settle(rt.Context(), old, []parley.Outcome{}); !errors.Is(err, parley.ErrFenced) {
		rt.Fatalf("settle under a lost epoch: %v", err)
	}
}

// takeLease renews the lease or takes it anew: then what is claimed is doubtful
// and waits, from its claim on.
func (m *model) takeLease(have parley.Lease) {
	l := m.d.lease("s", have)
	if l.Epoch != m.lease.Epoch {
		for _, c := range m.convs {
			if c.claimed {
				c.claimed, c.doubtful, c.due = false, true, c.at.Add(doubtfulWait)
			}
		}
	}
	m.lease = l
}

func (m *model) fire(rt *rapid.T) {
	limit := rapid.IntRange(1, 4).Draw(rt, "limit")
	rows, wait, err := m.d.FireTimers(rt.Context(), all, limit, time.Hour)
	if err != nil {
		rt.Fatal(err)
	}
	now := m.d.clock.Now()
	for _, p := range rows {
		c := m.convs[slices.IndexFunc(m.convs, func(c *modelConv) bool { return c.name == p.Conversation })]
		in, ok := p.Input.(parley.TimerFired)
		i := slices.IndexFunc(c.timers, func(t parley.Timer) bool { return t.Generation == in.Generation })
		if !ok || i < 0 || c.timers[i].Due.After(now) {
			rt.Fatalf("fired %+v, live %+v at %v", p.Input, c.timers, now)
		}
		c.timers = slices.Delete(c.timers, i, i+1)
		c.pending = append(c.pending, p.Key)
	}
	next := now.Add(time.Hour)
	for _, c := range m.convs {
		for _, t := range c.timers {
			if t.Due.Before(next) {
				next = t.Due
			}
		}
	}
	if !next.After(now) && len(rows) < limit || wait != max(next.Sub(now), 0) {
		rt.Fatalf("fired %d of limit %d; next in %s, told %s", len(rows), limit, next.Sub(now), wait)
	}
}

func (m *model) wait(rt *rapid.T) {
	m.d.clock.Add(time.Duration(rapid.IntRange(1, 60_000).Draw(rt, "ms")) * time.Millisecond)
}

func (m *model) reopen(rt *rapid.T) {
	if rapid.IntRange(0, 4).Draw(rt, "rarely") != 0 {
		rt.Skip("not now")
	}
	if err := m.d.Close(); err != nil {
		rt.Fatalf("close: %v", err)
	}
	again := m.d.open(m.d.t, Options{Now: m.d.clock.Now, Reopen: m.d.Store})
	if again == nil {
		m.convs, m.stale, m.dead = nil, nil, 0 // it begins anew
		for _, name := range []string{"a", "b", "c"} {
			m.convs = append(m.convs, &modelConv{name: conv(name)})
		}
		again = m.d.open(m.d.t, Options{Now: m.d.clock.Now})
	}
	m.d.Store = again
	m.takeLease(parley.Lease{})
}

func (m *model) check(rt *rapid.T) {
	want := parley.Backlog{Dead: m.dead}
	for _, c := range m.convs {
		loaded := m.d.load(c.name)
		var keys []parley.EventKey
		for _, p := range loaded.Pending {
			keys = append(keys, p.Key)
		}
		if loaded.Snapshot.Version != c.version || !slices.Equal(keys, c.pending) {
			rt.Fatalf("%s: version %v and %d rows, want %v and %d", c.name.Contact,
				loaded.Snapshot.Version, len(keys), c.version, len(c.pending))
		}
		want.Pending += len(c.pending)
		want.Unsent += len(c.unsent)
		want.Timers += len(c.timers)
	}
	got := m.d.backlog()
	if got.Oldest = 0; got != want {
		rt.Fatalf("backlog %+v, want %+v", got, want)
	}
}
