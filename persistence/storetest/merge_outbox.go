package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// decided lets both sides have unsent messages, and leases the number.
func decided(d *desk, n int) (l parley.Lease, ofOlder, ofYounger []parley.Outgoing) {
	d.t.Helper()
	strangers(d)
	return d.leaseOf(number(), "s", parley.Lease{}), d.send(older(), make([]string, n)...), d.send(younger(), make([]string, n)...)
}

// sends claims and settles messages one after the other, in just this order.
func (d *desk) sends(l parley.Lease, want ...parley.Outgoing) {
	d.t.Helper()
	for _, o := range want {
		d.claims(l, o)
		d.settle(l, sent(o))
	}
}

func mergeUnsentOfTheYoungerGoFirst(_ *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 2)
	meet(d, "bsuid:x", "phone:1")
	d.same("unsent", d.backlog().Unsent, 4)
	after := d.send(older(), "after the merge")
	d.claims(l, ofYounger[0])
	d.settle(l, parley.Outcome{ID: ofYounger[0].ID, Kind: parley.Retry, Wait: 3 * time.Second})
	if claimed, wait := d.claim(l, 10); len(claimed) > 0 || wait != 3*time.Second {
		d.t.Fatalf("claimed %v, wait %s", claimed, wait)
	}
	d.clock.Add(3 * time.Second)
	d.sends(l, slices.Concat(ofYounger, ofOlder, after)...)
	d.claims(l)
	d.same("unsent", d.backlog().Unsent, 0)
}

// mergeUnsentOfAChain: what lies between the first and the last has none.
func mergeUnsentOfAChain(_ *testing.T, d *desk) {
	last, middle, first := person("phone:a"), person("bsuid:b"), person("bsuid:c")
	for _, c := range []parley.Conversation{last, middle, first} {
		d.say(c, "x")
	}
	l := d.leaseOf(number(), "s", parley.Lease{})
	ofLast, ofFirst := d.send(last, "1", "2"), d.send(first, "1", "2")
	meet(d, "bsuid:b", "bsuid:c")
	meet(d, "phone:a", "bsuid:b")
	d.sends(l, slices.Concat(ofFirst, ofLast)...)
}

func mergeRefusedOfTheYoungerMakesWay(_ *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 1)
	meet(d, "bsuid:x", "phone:1")
	d.claims(l, ofYounger[0])
	d.settle(l, parley.Outcome{ID: ofYounger[0].ID, Kind: parley.Refused, Cause: "no"})
	d.sends(l, ofOlder...)
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 1, Dead: 1})
}

func mergeClaimedMayBeSettled(_ *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 2)
	d.claims(l, ofOlder[0], ofYounger[0])
	meet(d, "bsuid:x", "phone:1")
	d.settle(l, sent(ofOlder[0]))
	d.claims(l)
	d.settle(l, sent(ofYounger[0]))
	d.sends(l, ofYounger[1], ofOlder[1])
	for _, o := range []parley.Outgoing{ofOlder[0], ofYounger[0]} {
		got, ok, err := d.Delivery(d.t.Context(), number(), sent(o).ProviderID)
		if err != nil || !ok || got.ID != o.ID || got.Status != parley.StatusSent {
			d.t.Errorf("delivery %+v %v: %v", got, ok, err)
		}
	}
}

// mergeDoubtfulOfTheYoungerGoFirst: both were claimed by somebody who died.
func mergeDoubtfulOfTheYoungerGoFirst(_ *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 1)
	d.claims(l, ofOlder[0], ofYounger[0])
	meet(d, "bsuid:x", "phone:1")
	l = d.leaseOf(number(), "s", parley.Lease{})
	d.claims(l)
	d.clock.Add(doubtfulWait)
	l = d.leaseOf(number(), "s", l)
	for _, o := range []parley.Outgoing{ofYounger[0], ofOlder[0]} {
		if got := d.claims(l, o); !got[0].Doubtful {
			d.t.Error("it isn't marked as doubtful")
		}
		d.settle(l, sent(o))
	}
}

func mergeFailuresReachTheSurvivor(t *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 1)
	d.claims(l, ofOlder[0], ofYounger[0])
	d.settle(l, sent(ofYounger[0])) // it is known as the younger's
	row := meet(d, "bsuid:x", "phone:1")
	failed := parley.Receipt{Channel: number(), Status: parley.StatusFailed, ProviderID: sent(ofYounger[0]).ProviderID, Code: 1, Contact: "bsuid:x"}
	d.receive(failed)
	rows := d.fold(l, 10, 1)
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	rows[0].Conversation = older() // whatever it was told under
	d.same("pending", d.load(older()).Pending, append([]parley.Pending{row}, rows...))
	d.commit(d.turn(d.load(older())))
	d.same("pending", d.backlog().Pending, 0)
}

func mergeWatermarksOfAllKeys(_ *testing.T, d *desk) {
	l, ofOlder, ofYounger := decided(d, 1)
	d.claims(l, ofOlder[0], ofYounger[0])
	d.settle(l, sent(ofOlder[0]), sent(ofYounger[0]))
	meet(d, "bsuid:x", "phone:1")
	d.receive(parley.Receipt{Channel: number(), Status: parley.StatusRead, Contact: "bsuid:x", Watermark: d.clock.Now()})
	d.fold(l, 10, 1)
	for _, o := range []parley.Outgoing{ofOlder[0], ofYounger[0]} {
		got, ok, err := d.Delivery(d.t.Context(), number(), sent(o).ProviderID)
		if err != nil || !ok || got.Status != parley.StatusRead {
			d.t.Errorf("delivery %+v %v: %v", got, ok, err)
		}
	}
}

// mergeSurvivesReopen: a chain of merges with rows and messages of all, and some
// that come later.
func mergeSurvivesReopen(_ *testing.T, d *desk) {
	third := person("bsuid:third")
	d.say(third, "third") // the oldest of all
	d.commit(d.turn(d.load(third)))
	l, ofOlder, ofYounger := decided(d, 2)
	ofThird := d.send(third, "1", "2")
	d.say(younger(), "1")
	d.say(older(), "2")
	d.say(third, "3")
	turn := d.turn(d.load(younger()))
	turn.Evicted = []parley.SeenKey{{Key: olderKey(1), At: d.clock.Now()}}
	timer := d.timer(&turn, "t", time.Minute)
	turn.Saw, turn.Through = nil, 0
	d.commit(turn)
	meet(d, "bsuid:x", "phone:1")
	d.claims(l, ofYounger[0], ofThird[0])
	meet(d, "phone:1", "bsuid:third")
	before, backlog := d.load(third), d.backlog()
	d.same("rows", len(before.Pending), 5)
	for range 2 {
		d.reopen()
		d.same("the survivor", d.load(third), before)
		d.same("backlog", d.backlog(), backlog)
		d.same("the younger", d.load(younger()).Snapshot.MergedInto != "", true)
		d.same("older keys", olderOf(d, third, olderKey(1)), map[parley.EventKey]bool{olderKey(1): true})
	}
	for _, key := range []parley.Contact{"bsuid:x", "phone:1", "bsuid:third"} {
		expectContact(d, "bsuid:third", key)
	}
	l = d.leaseOf(number(), "s", parley.Lease{})
	d.claims(l)
	d.clock.Add(doubtfulWait)
	l = d.leaseOf(number(), "s", l)
	d.sends(l, slices.Concat(ofYounger, ofOlder, ofThird)...)
	d.clock.Add(timer.Due.Sub(d.clock.Now()))
	fired, _ := fireTimers(d, 10)
	d.same("fired", len(fired), 1)
	d.same("of", fired[0].Conversation, third)
	d.commit(d.turn(d.load(third)))
	d.same("backlog", d.backlog(), parley.Backlog{})
	d.reopen()
	d.same("backlog", d.backlog(), parley.Backlog{})
}

// apart is what a worker of mergeConcurrently knows of its own rows: its events
// come one after the other.
type apart struct {
	row   parley.Pending
	known bool // that the two are one person, when it came in
}

// place is where a row was consumed: by which commit of which conversation.
type place struct {
	survivor bool
	version  uint64
	index    int
}

func (p place) before(q place) bool {
	switch {
	case p.survivor != q.survivor: // the younger has no turns after the merge
		return q.survivor
	case p.version != q.version:
		return p.version < q.version
	}
	return p.index < q.index
}

// meeting is a run of mergeConcurrently.
type meeting struct {
	mu       sync.Mutex
	consumed map[parley.Row][]place
	met      atomic.Bool
}

// take makes one turn of c, which may lose to another, or to a merge.
func (m *meeting) take(ctx context.Context, own *desk, c parley.Conversation) error {
	loaded, err := own.Load(ctx, c, 3)
	if err != nil || loaded.Snapshot.MergedInto != "" {
		return err
	}
	turn := own.turn(loaded)
	errs, err := own.Commit(ctx, []parley.Commit{turn})
	if err != nil || errors.Is(errs[0], parley.ErrConflict) {
		return err
	}
	m.mu.Lock()
	defer m.mu.Unlock()
	for i, row := range turn.Saw {
		m.consumed[row] = append(m.consumed[row], place{survivor: c == older(), version: turn.Next.Version.Number, index: i})
	}
	return errs[0]
}

// work appends events of either key, and at some moment of both, and takes
// turns on both sides all the while.
func (m *meeting) work(ctx context.Context, own *desk, w int) ([]apart, error) {
	var mine []apart
	for i := range 24 {
		e := contactEvent(own, []parley.Contact{"phone:1", "bsuid:x"}[(i+w)%2])
		both := i == 8+w/4
		if both {
			e.Contacts = []parley.Contact{"bsuid:x", "phone:1"}
		}
		known := m.met.Load()
		rows, err := own.Append(ctx, parley.Arrivals{Events: []parley.Event{e}})
		if err != nil {
			return mine, fmt.Errorf("append: %w", err)
		}
		if both {
			m.met.Store(true)
		}
		if (known || both) && rows[0].Conversation != older() {
			return mine, fmt.Errorf("a row of %s though the two have met", rows[0].Conversation.Contact)
		}
		mine = append(mine, apart{row: rows[0], known: known || both})
		for _, c := range []parley.Conversation{older(), younger()} {
			if err := m.take(ctx, own, c); err != nil {
				return mine, fmt.Errorf("turn: %w", err)
			}
		}
	}
	return mine, nil
}

// mergeConcurrently merges amid appends and turns on both sides: each row is
// consumed once, and after those that were acknowledged before it came in.
func mergeConcurrently(t *testing.T, d *desk) {
	strangers(d)
	m := &meeting{consumed: map[parley.Row][]place{}}
	var all [workers][]apart
	d.together(func(ctx context.Context, w int, own *desk) (err error) {
		all[w], err = m.work(ctx, own, w)
		return err
	})
	for len(d.load(older()).Pending) > 0 {
		if err := m.take(t.Context(), d, older()); err != nil {
			t.Fatal(err)
		}
	}
	d.same("backlog", d.backlog(), parley.Backlog{})
	d.same("absorbed", d.load(older()).Snapshot.Absorbed, []parley.Contact{"bsuid:x"})
	for _, mine := range all {
		for j := range mine {
			m.check(t, mine[:j], mine[j])
		}
	}
}

// check holds a row against those of the same worker that came before it.
func (m *meeting) check(t *testing.T, earlier []apart, a apart) {
	t.Helper()
	at := m.consumed[a.row.Row]
	if len(at) != 1 {
		t.Fatalf("row %d was consumed %d times", a.row.Seq, len(at))
	}
	for _, e := range earlier {
		same := a.known || e.row.Conversation == a.row.Conversation
		if same && !m.consumed[e.row.Row][0].before(at[0]) {
			t.Errorf("row %d took effect before row %d", a.row.Seq, e.row.Seq)
		}
	}
}
