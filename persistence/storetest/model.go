package storetest

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// model is what a store must be, as far as one caller can see: three
// conversations with their inboxes, versions, outboxes and timers, two of which
// may turn out to be one at any time.
type model struct {
	d        *desk
	lease    parley.Lease
	convs    []*modelConv
	stale    []parley.Commit // commits that were taken, or lost to another
	dead     int
	appended int64 // events
	calls    []*modelCall
	ended    []parley.CallOutcome // of claims that count no more
}

// modelCall is a call that isn't answered yet. Which conversation hears the answer
// is seen then.
type modelCall struct {
	of       *modelConv
	out      parley.OutgoingCall
	due      time.Time
	attempts int
	claim    *parley.ClaimedCall // the last, if no outcome was noted
}

type modelConv struct {
	name     parley.Conversation
	version  parley.Version
	into     *modelConv // what it was merged into
	pending  []parley.Row
	timers   []parley.Timer // live in the due list
	unsent   []parley.ID
	silenced map[parley.ID]bool
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
		m.begin()
		m.takeLease(parley.Lease{})
		rt.Repeat(map[string]func(*rapid.T){
			"append": m.append, "meet": m.meet, "commit": m.commit, "commitStale": m.commitStale, "commitLate": m.commitLate,
			"claim": m.claim, "settle": m.settle, "takeover": m.takeover, "fire": m.fire,
			"wait": m.wait, "claimCalls": m.claimCalls, "settleCalls": m.settleCalls, "settleEnded": m.settleEnded, "reopen": m.reopen, "": m.check,
		})
	})
}

// begin lets the persons become known, in their order.
func (m *model) begin() {
	m.convs, m.stale, m.dead, m.calls, m.ended, m.appended = nil, nil, 0, nil, nil, 0
	for _, key := range []parley.Contact{"phone:a", "bsuid:b", "phone:c"} {
		m.appended++
		row := m.d.say(person(key), "x")
		m.convs = append(m.convs, &modelConv{name: row.Conversation, pending: []parley.Row{row.Row}, silenced: map[parley.ID]bool{}})
	}
}

func (m *model) any(rt *rapid.T) *modelConv {
	return m.convs[rapid.IntRange(0, len(m.convs)-1).Draw(rt, "conversation")]
}

// live is one that has not been merged into another.
func (m *model) live(rt *rapid.T) *modelConv { return m.any(rt).final() }

func (c *modelConv) final() *modelConv {
	for c.into != nil {
		c = c.into
	}
	return c
}

// within reports whether c is d, or was merged into it.
func (c *modelConv) within(d *modelConv) bool {
	return c == d || c.into != nil && c.into.within(d)
}

// find is the conversation that a row or a message names.
func (m *model) find(name parley.Conversation) *modelConv {
	return m.convs[slices.IndexFunc(m.convs, func(c *modelConv) bool { return c.name == name })]
}

// audit holds the counts against what the model has appended, and what is pending:
// timers and answers are among that.
func (m *model) audit(rt *rapid.T, pending int) {
	g := m.d.ledger()
	if problems := problemsOf(&g); len(problems) > 0 {
		rt.Fatalf("ledger: %v", problems)
	}
	sum := g.Sum(nil)
	if sum.Acknowledged != m.appended || sum.Pending > int64(pending) || sum.Effected+sum.Pending != m.appended {
		rt.Fatalf("ledger %+v, want %d acknowledged and at most %d pending", sum, m.appended, pending)
	}
}

func (m *model) append(rt *rapid.T) {
	var events []parley.Event
	for range rapid.IntRange(1, 3).Draw(rt, "events") {
		events = append(events, m.d.event(m.any(rt).name, "x"))
	}
	m.appended += int64(len(events))
	for i, row := range m.d.append(events...) {
		c := m.find(person(events[i].Contacts[0])).final()
		if row.Conversation != c.name {
			rt.Fatalf("event of %v became a row of %s", events[i].Contacts, row.Conversation.Contact)
		}
		c.pending = append(c.pending, row.Row)
	}
}

// meet is an event of two keys. What the store made of the timers is taken from
// it: that they are set anew is parley.Merge's business.
func (m *model) meet(rt *rapid.T) {
	if rapid.IntRange(0, 3).Draw(rt, "rarely") != 0 {
		rt.Skip("not now")
	}
	a, b := m.any(rt), m.any(rt)
	row := meet(m.d, a.name.Contact, b.name.Contact)
	m.appended++
	survivor, younger := a.final(), b.final()
	if slices.Index(m.convs, survivor) > slices.Index(m.convs, younger) {
		survivor, younger = younger, survivor
	}
	if row.Conversation != survivor.name {
		rt.Fatalf("event of %s and %s became a row of %s", a.name.Contact, b.name.Contact, row.Conversation.Contact)
	}
	if survivor != younger {
		m.merged(rt, survivor, younger)
	}
	survivor.pending = append(survivor.pending, row.Row)
}

func (m *model) merged(rt *rapid.T, survivor, younger *modelConv) {
	for _, c := range []*modelConv{survivor, younger} {
		s := m.d.load(c.name).Snapshot
		if s.Version.Number != c.version.Number+1 || s.Version.Token == c.version.Token {
			rt.Fatalf("%s: version %v after %v", c.name.Contact, s.Version, c.version)
		}
		c.version, c.timers = s.Version, s.Timers
	}
	younger.into = survivor
	survivor.pending = append(survivor.pending, younger.pending...)
	slices.SortFunc(survivor.pending, func(a, b parley.Row) int { return cmp.Compare(a.Seq, b.Seq) })
	younger.pending = nil
}

// commit is a turn over some of the first rows, with replies and timers.
func (m *model) commit(rt *rapid.T) {
	c := m.live(rt)
	n := rapid.IntRange(0, len(c.pending)).Draw(rt, "rows")
	loaded, err := m.d.Load(rt.Context(), c.name, n)
	if err != nil {
		rt.Fatal(err)
	}
	turn := m.d.turn(loaded)
	silences := rapid.IntRange(0, 4).Draw(rt, "silence") == 0 && turn.Next.Ordinal > 0
	if silences {
		turn.Silence = turn.Next.Ordinal
	}
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
	m.call(rt, c, &turn)
	m.d.commit(turn)
	if silences {
		m.silence(c)
	}
	c.pending, c.version = c.pending[n:], turn.Next.Version
	c.timers = append(c.timers, turn.SetTimers...)
	for _, o := range turn.Outbox {
		c.unsent = append(c.unsent, o.ID)
	}
	m.stale = append(m.stale, turn)
}

// silence is what a commit of c silences, beside nothing of its own.
func (m *model) silence(c *modelConv) {
	for _, of := range m.convs {
		if !of.within(c) {
			continue
		}
		for _, id := range of.unsent {
			of.silenced[id] = true
		}
	}
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
	c := m.live(rt)
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
		if len(c.unsent) > 0 && !c.claimed && !c.due.After(m.d.clock.Now()) && !m.held(c) {
			ready++
		}
	}
	if len(claimed) != min(ready, limit) {
		rt.Fatalf("claimed %d of %d ready, limit %d", len(claimed), ready, limit)
	}
	for _, got := range claimed {
		c := m.find(got.Conversation)
		if m.held(c) || c.claimed || got.ID != c.unsent[0] || c.due.After(m.d.clock.Now()) || got.Attempts != c.attempts || got.Doubtful != c.doubtful || got.Silenced != c.silenced[got.ID] {
			rt.Fatalf("claimed %+v, model %+v", got, c)
		}
		c.claimed, c.at = true, m.d.clock.Now()
	}
}

// held reports whether one that was merged into c has messages.
func (m *model) held(c *modelConv) bool {
	return slices.ContainsFunc(m.convs, func(d *modelConv) bool { return d != c && d.within(c) && len(d.unsent) > 0 })
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
	l := m.d.leaseOf(number(), "s", have)
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
		c := m.find(p.Conversation)
		in, ok := p.Input.(parley.TimerFired)
		i := slices.IndexFunc(c.timers, func(t parley.Timer) bool { return t.Generation == in.Generation })
		if !ok || i < 0 || c.timers[i].Due.After(now) {
			rt.Fatalf("fired %+v, live %+v at %v", p.Input, c.timers, now)
		}
		c.timers = slices.Delete(c.timers, i, i+1)
		c.pending = append(c.pending, p.Row)
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
	m.d.clock.Add(callLease) // a store may remember the claims of who is gone, or not
	if err := m.d.Close(); err != nil {
		rt.Fatalf("close: %v", err)
	}
	m.ended = nil
	for _, c := range m.calls {
		c.claim = nil
	}
	again := m.d.open(m.d.t, Options{Now: m.d.clock.Now, Reopen: m.d.Store})
	if again == nil {
		m.d.Store = m.d.open(m.d.t, Options{Now: m.d.clock.Now})
		m.begin() // anew
	} else {
		m.d.Store = again
	}
	m.takeLease(parley.Lease{})
}

func (m *model) check(rt *rapid.T) {
	want := parley.Backlog{Dead: m.dead, Calls: len(m.calls)}
	for _, c := range m.convs {
		loaded := m.d.load(c.name)
		var rows []parley.Row
		for _, p := range loaded.Pending {
			rows = append(rows, p.Row)
		}
		if loaded.Snapshot.Version != c.version || !slices.Equal(rows, c.pending) {
			rt.Fatalf("%s: version %v and rows %v, want %v and %v", c.name.Contact,
				loaded.Snapshot.Version, rows, c.version, c.pending)
		}
		if gone := loaded.Snapshot.MergedInto != ""; gone != (c.into != nil) {
			rt.Fatalf("%s: merged into %q", c.name.Contact, loaded.Snapshot.MergedInto)
		}
		want.Pending += len(c.pending)
		want.Unsent += len(c.unsent)
		want.Timers += len(c.timers)
	}
	m.audit(rt, want.Pending)
	got := m.d.backlog()
	if got.Oldest, got.OldestCall = 0, 0; got != want {
		rt.Fatalf("backlog %+v, want %+v", got, want)
	}
}
