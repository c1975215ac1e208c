package storetest

import (
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runOperator(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"HistoryInOrderPageByPage": operatorHistoryInOrderPageByPage,
		"UnsentInOrderOfOne":       operatorUnsentInOrderOfOne,
		"RegisterIsFreshOnce":      operatorRegisterIsFreshOnce,
		"BacklogCounts":            operatorBacklogCounts,
		"PruneDropsWhatIsOldOnly":  operatorPrune,
		"SnapshotsPageByPage":      operatorSnapshotsPageByPage,
	})
}

func operatorHistoryInOrderPageByPage(t *testing.T, d *desk) {
	var want [][]byte
	for range 9 {
		turn := d.turn(d.load(conv("a")))
		want = append(want, turn.History)
		d.commit(turn)
		d.commit(d.turn(d.load(conv("ab"))))
		d.clock.Add(9 * time.Hour) // over several days
	}
	var got [][]byte
	for len(got) < 9 {
		page, err := d.History(t.Context(), conv("a"), uint64(len(got)), 4)
		if err != nil || len(page) == 0 {
			t.Fatalf("page after %d: %v", len(got), err)
		}
		got = append(got, page...)
	}
	d.same("history", got, want)
	if rest, err := d.History(t.Context(), conv("a"), 9, 4); err != nil || len(rest) > 0 {
		t.Fatalf("history behind the end: %q %v", rest, err)
	}
}

// All conversations that had a turn come once, as they are loaded, also those whose
// names are beginnings of others'; those that merely have something pending don't.
func operatorSnapshotsPageByPage(t *testing.T, d *desk) {
	want := map[parley.Conversation]parley.Snapshot{}
	for _, contact := range []string{"a", "ab", "b", "abc", "ba", "c/d", "", "é"} {
		for _, ch := range []parley.Channel{page(), number()} {
			c := parley.Conversation{Channel: ch, Contact: parley.UserKey + parley.Contact(contact)}
			turn := d.turn(d.load(c))
			turn.Next.State = []byte(`{"of":"` + contact + `"}`)
			d.commit(turn)
			want[c] = d.load(c).Snapshot
		}
	}
	d.say(conv("pending"), "x")
	got, after := map[parley.Conversation]parley.Snapshot{}, parley.Conversation{}
	for page := 3; page == 3; {
		page = 0
		err := d.Snapshots(t.Context(), after, 3, func(s parley.Snapshot, err error) {
			if err != nil {
				t.Errorf("%s: %v", s.Conversation, err)
			}
			if _, twice := got[s.Conversation]; twice {
				t.Fatalf("%s comes twice", s.Conversation)
			}
			got[s.Conversation], after = s, s.Conversation
			page++
		})
		if err != nil {
			t.Fatal(err)
		}
	}
	d.same("snapshots", got, want)
	if err := d.Snapshots(t.Context(), parley.Conversation{}, 0, func(parley.Snapshot, error) { t.Error("a page of none has one") }); err != nil {
		t.Error(err)
	}
}

func operatorUnsentInOrderOfOne(t *testing.T, d *desk) {
	unsent := func(c parley.Conversation, limit int) []parley.Outgoing {
		t.Helper()
		found, err := d.Unsent(t.Context(), c, limit)
		if err != nil {
			t.Fatal(err)
		}
		return found
	}
	first, second := d.send(conv("a"), "one", "two"), d.send(conv("a"), "three")
	other := d.send(conv("ab"), "another's")
	want := slices.Concat(first, second)
	d.same("unsent", unsent(conv("a"), 10), want)
	d.same("the first unsent", unsent(conv("a"), 2), want[:2])
	d.same("another's unsent", unsent(conv("ab"), 10), other)
	if found := unsent(conv("b"), 10); len(found) > 0 {
		t.Fatalf("%d unsent of nobody", len(found))
	}
	l := d.lease("s1", parley.Lease{})
	d.claims(l, first[0], other[0])
	d.same("unsent while one is claimed", unsent(conv("a"), 10), want)
	d.settle(l, sent(first[0]))
	d.same("unsent once one is sent", unsent(conv("a"), 10), want[1:])
}

func operatorRegisterIsFreshOnce(t *testing.T, d *desk) {
	want := []parley.Registration{{App: "app", Channel: page()}, {App: "app", Channel: number()}, {App: "app2", Channel: page()}}
	for _, fresh := range []bool{true, false} {
		for _, r := range want {
			if got, err := d.Register(t.Context(), r); err != nil || got != fresh {
				t.Fatalf("register %v: fresh %v, %v; want %v", r, got, err, fresh)
			}
		}
	}
	got, err := d.Registered(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for _, r := range want {
		if len(got) != len(want) || !slices.Contains(got, r) {
			t.Fatalf("registered %v, want %v", got, want)
		}
	}
}

func operatorBacklogCounts(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	d.clock.Add(3 * time.Second)
	d.say(conv("b"), "x")
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: "mid"})
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 2, Oldest: 3 * time.Second, Receipts: 1})
	d.commit(d.turn(d.load(conv("a"))))
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 1, Receipts: 1})
}

func operatorPrune(t *testing.T, d *desk) {
	const keep = 5 * 24 * time.Hour
	l, old := d.handOver("old") // history 1
	_, touched := d.handOver("touched")
	untouched, err := d.History(t.Context(), conv("a"), 0, 10)
	if err != nil || len(untouched) != 2 {
		t.Fatalf("history %q: %v", untouched, err)
	}
	pending := d.say(conv("b"), "waits")
	d.clock.Add(keep - time.Hour)
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: sent(touched).ProviderID})
	d.fold(d.lease("s", l), 10, 1)
	d.prune(keep)
	d.status(sent(old).ProviderID, parley.StatusSent)
	if h, err := d.History(t.Context(), conv("a"), 0, 10); err != nil || len(h) != 2 {
		t.Fatalf("pruned too early: %q %v", h, err)
	}
	d.send(conv("a"), "new")
	d.clock.Add(49 * time.Hour)
	d.prune(keep)
	h, err := d.History(t.Context(), conv("a"), 0, 10)
	if err != nil || len(h) != 1 {
		t.Fatalf("history after pruning: %q %v", h, err)
	}
	if _, ok, err := d.Delivery(t.Context(), page(), sent(old).ProviderID); ok || err != nil {
		t.Fatalf("old delivery is still there: %v %v", ok, err)
	}
	d.status(sent(touched).ProviderID, parley.StatusRead)
	d.clock.Add(keep + 2*24*time.Hour)
	d.prune(keep)
	if _, ok, err := d.Delivery(t.Context(), page(), sent(touched).ProviderID); ok || err != nil {
		t.Fatalf("delivery is still there: %v %v", ok, err)
	}
	d.same("pending", d.load(conv("b")).Pending, []parley.Pending{pending})
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 1, Unsent: 1, Oldest: d.clock.Now().Sub(pending.Received)})
	d.same("turns", d.load(conv("a")).Snapshot.Version.Number, uint64(3))
}

func (d *desk) prune(keep time.Duration) {
	d.t.Helper()
	if err := d.Prune(d.t.Context(), keep); err != nil {
		d.t.Fatal(err)
	}
}

func runReopen(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"WhatIsDoneStaysDone":                   reopenWhatIsDoneStaysDone,
		"EverythingIsThere":                     reopenEverything,
		"NumbersGoOnGrowing":                    reopenNumbersGoOnGrowing,
		"EpochsGoOnGrowingAndClaimsAreDoubtful": reopenEpochsGoOnGrowingAndClaimsAreDoubtful,
		"RetriesKeepTheirTimeAndCount":          reopenRetriesKeepTheirTimeAndCount,
		"AnyBytes":                              reopenAnyBytes,
		"DeliveriesAndReceipts":                 reopenDeliveries,
		"Records":                               reopenRecords,
		"Silence":                               reopenSilence,
	})
}

func reopenNumbersGoOnGrowing(t *testing.T, d *desk) {
	last := d.say(conv("a"), "x")
	for range 3 {
		d.commit(d.turn(d.load(conv("a")))) // the row with the largest number is gone
		d.reopen()
		p := d.say(conv("a"), "x")
		if p.Seq <= last.Seq {
			t.Fatalf("number %d after %d", p.Seq, last.Seq)
		}
		last = p
	}
}

func reopenEpochsGoOnGrowingAndClaimsAreDoubtful(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x")
	old := d.lease("s", parley.Lease{})
	d.claims(old, out[0])
	d.reopen()
	d.clock.Add(leaseTTL) // a store that others share can't know that the holder is dead
	l := d.lease("other", parley.Lease{})
	if l.Epoch <= old.Epoch {
		t.Fatalf("epoch %d after %d", l.Epoch, old.Epoch)
	}
	_, _, err := d.Claim(t.Context(), old, parley.Places{All: 1}, doubtfulWait, time.Minute)
	d.fenced("claim with the lease of the dead", err)
	d.claims(l)
	d.clock.Add(doubtfulWait)
	if got := d.claims(d.lease("other", l), out[0]); !got[0].Doubtful {
		t.Error("it isn't doubtful")
	}
}

func reopenRetriesKeepTheirTimeAndCount(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x", "y")
	l := d.lease("s", parley.Lease{})
	d.claims(l, out[0])
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Retry, Wait: time.Minute})
	d.reopen()
	l = d.lease("s", parley.Lease{})
	if claimed, wait := d.claim(l, 10); len(claimed) > 0 || wait != time.Minute {
		t.Fatalf("claimed %v, wait %s", claimed, wait)
	}
	d.clock.Add(time.Minute)
	if got := d.claims(d.lease("s", l), out[0]); got[0].Attempts != 1 || got[0].Doubtful {
		t.Errorf("attempts %d, doubtful %v", got[0].Attempts, got[0].Doubtful)
	}
}

func reopenEverything(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	turn.Next.State = []byte("state")
	turn.Evicted = []parley.SeenKey{{Key: parley.NewEventKey("old"), At: d.clock.Now()}}
	timer := d.timer(&turn, "t", time.Minute)
	out := d.replies(&turn, "1", "2")
	d.commit(turn)
	rows := d.append(d.event(conv("b"), "b"), d.event(conv("a"), "a"), d.event(conv("b"), "b2"))
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: "mid"})
	wa := parley.Event{Channel: number(), Contacts: []parley.Contact{"bsuid:x", "phone:1"}, Input: parley.Message{Text: "x"}}
	d.append(wa)
	entry := parley.Quarantined{App: "app", Kind: page().Kind, ChannelID: page().ID, Body: []byte("{}"), Cause: "c"}
	if _, err := d.Append(t.Context(), parley.Arrivals{Quarantined: []parley.Quarantined{entry}}); err != nil {
		t.Fatal(err)
	}
	before := d.backlog()
	d.reopen()
	d.same("backlog", d.backlog(), before)
	d.same("a", d.load(conv("a")), parley.Loaded{Snapshot: turn.Next, Pending: rows[1:2]})
	d.same("rows of b", d.load(conv("b")).Pending, []parley.Pending{rows[0], rows[2]})
	d.clock.Add(2 * time.Second)
	overdue, err := d.Overdue(t.Context(), all, time.Second, 2)
	if err != nil {
		t.Fatal(err)
	}
	d.same("overdue", overdue, []parley.Conversation{conv("b"), conv("a")})
	reopenTheRest(t, d, out, timer)
	wa.Contacts = []parley.Contact{"phone:1"}
	d.same("contact", d.append(wa)[0].Conversation.Contact, parley.Contact("bsuid:x"))
	found, err := d.Quarantined(t.Context(), "app", page(), parley.ID{}, 10)
	if err != nil || len(found) != 1 {
		t.Fatalf("quarantine %v: %v", found, err)
	}
	entry.ID, entry.Received = found[0].ID, found[0].Received
	d.same("quarantine", found[0], entry)
}

// reopenWhatIsDoneStaysDone: what was taken away is gone for good.
func reopenWhatIsDoneStaysDone(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	d.timer(&turn, "fires", time.Second)
	gone := d.timer(&turn, "cancelled", time.Second)
	out := d.replies(&turn, "sent", "refused")
	d.commit(turn)
	turn = d.turn(d.load(conv("a")))
	turn.CancelTimers = []parley.Timer{gone}
	d.commit(turn)
	l := d.lease("s", parley.Lease{})
	d.claims(l, out[0])
	d.settle(l, sent(out[0]))
	d.claims(l, out[1])
	d.settle(l, parley.Outcome{ID: out[1].ID, Kind: parley.Refused})
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: sent(out[0]).ProviderID})
	d.fold(l, 10, 1)
	entry := parley.Quarantined{App: "app", Kind: page().Kind, ChannelID: page().ID}
	if _, err := d.Append(t.Context(), parley.Arrivals{Quarantined: []parley.Quarantined{entry}}); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Release(t.Context(), []parley.ID{quarRead(d, parley.ID{}, 1)[0].ID}, parley.Arrivals{}); err != nil {
		t.Fatal(err)
	}
	d.clock.Add(time.Second)
	fired := fireOnce(d)
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 1, Dead: 1})
	d.reopen()
	d.same("backlog", d.backlog(), parley.Backlog{Pending: 1, Dead: 1})
	d.same("pending", d.load(conv("a")).Pending, fired)
	d.claims(d.lease("s", parley.Lease{}))
	if again, _, err := d.FireTimers(t.Context(), all, 10, time.Minute); err != nil || len(again) > 0 {
		t.Fatalf("fired again %v: %v", again, err)
	}
	d.same("quarantine", quarRead(d, parley.ID{}, 10), []parley.Quarantined(nil))
	d.status(sent(out[0]).ProviderID, parley.StatusRead)
}

// fireOnce fires the one timer that is due.
func fireOnce(d *desk) []parley.Pending {
	d.t.Helper()
	rows, _, err := d.FireTimers(d.t.Context(), all, 10, time.Minute)
	if err != nil || len(rows) != 1 {
		d.t.Fatalf("fired %v: %v", rows, err)
	}
	return rows
}

func reopenTheRest(t *testing.T, d *desk, out []parley.Outgoing, timer parley.Timer) {
	t.Helper()
	older, err := d.Older(t.Context(), conv("a"), []parley.EventKey{parley.NewEventKey("old")})
	if err != nil || !older[parley.NewEventKey("old")] {
		t.Fatalf("older %v: %v", older, err)
	}
	l := d.lease("s", parley.Lease{})
	d.claims(l, out[0])
	d.settle(l, sent(out[0]))
	d.claims(l, out[1])
	d.fold(l, 10, 1)
	d.status("mid", parley.StatusRead)
	d.clock.Add(time.Minute)
	fired, _, err := d.FireTimers(t.Context(), all, 10, time.Minute)
	if err != nil || len(fired) != 1 {
		t.Fatalf("fired %v: %v", fired, err)
	}
	d.same("timer", fired[0].Input, parley.Input(parley.TimerFired{Name: "t", Generation: timer.Generation, Due: timer.Due}))
}
