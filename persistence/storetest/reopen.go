package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// odd is a name or a text of bytes that are neither text nor nothing.
const odd = "\x00\xff/\u00e9\n'\"\\"

// reopenAnyBytes: what came in as bytes comes back as the same bytes.
func reopenAnyBytes(t *testing.T, d *desk) {
	c := conv(odd)
	late := d.event(c, "\x00 text")
	late.Late, late.Time = true, time.Time{}
	rows := d.append(late, d.event(c, "in time"))
	turn := d.turn(d.load(c))
	turn.Saw, turn.Through = turn.Saw[:1], rows[0].Seq
	turn.Next.State, turn.Next.Bot, turn.Next.Behavior = []byte(odd), "bot", odd
	turn.Next.Seen = []parley.SeenKey{{Key: parley.NewEventKey(odd), At: d.clock.Now()}}
	turn.Evicted = []parley.SeenKey{{Key: parley.NewEventKey("evicted"), At: d.clock.Now().Add(-25 * time.Hour)}}
	turn.Dead = []parley.DeadLetter{{ID: d.id(), Conversation: c, At: d.clock.Now(), Cause: odd, Seq: rows[0].Seq, Data: []byte(odd)}}
	out := d.replies(&turn, "\x00 reply")
	d.commit(turn)
	again := d.event(c, "late again")
	again.Late = true
	rows = append(rows[1:], d.append(again)...)
	d.same("late", rows[1].Late, true)
	entry := parley.Quarantined{App: odd, Kind: page().Kind, ChannelID: odd, Cause: odd, Body: []byte(odd)}
	quarKeep(d, entry)

	d.reopen()
	d.same("conversation", d.load(c), parley.Loaded{Snapshot: turn.Next, Pending: rows})
	d.same("older keys", olderOf(d, c, parley.NewEventKey("evicted")), map[parley.EventKey]bool{parley.NewEventKey("evicted"): true})
	dead, err := d.DeadLetters(t.Context(), parley.DeadQuery{Brand: "acme", Limit: 10})
	if err != nil {
		t.Fatal(err)
	}
	d.same("dead letters", dead, turn.Dead)
	found, err := d.Quarantined(t.Context(), odd, parley.Channel{Kind: page().Kind, ID: odd}, parley.ID{}, 10)
	if err != nil || len(found) != 1 {
		t.Fatalf("quarantine %v: %v", found, err)
	}
	entry.ID, entry.Received = found[0].ID, found[0].Received
	d.same("quarantine", found[0], entry)
	d.claims(d.lease("s", parley.Lease{}), out[0])
}

// reopenDeliveries: what is known of what was sent, and receipts that wait.
func reopenDeliveries(t *testing.T, d *desk) {
	l, early := d.handOver("early")
	mark := d.clock.Now()
	d.clock.Add(time.Second)
	late := d.send(conv("a"), "late")[0]
	d.claims(l, late)
	d.settle(l, sent(late))
	failure := func(code int) parley.Receipt {
		return parley.Receipt{Status: parley.StatusFailed, ProviderID: sent(late).ProviderID, Code: code, Reason: fmt.Sprint(odd, code), Time: mark}
	}
	d.receive(parley.Receipt{Status: parley.StatusRead, Contact: conv("a").Contact, Watermark: mark},
		parley.Receipt{Status: "warped", ProviderID: odd, Contact: conv("b").Contact})
	d.fold(l, 10, 2)
	d.receive(failure(1), failure(2), parley.Receipt{Status: parley.StatusDelivered, Contact: conv("a").Contact, Watermark: d.clock.Now()})
	deliveries := func() (all []parley.Delivery) {
		for _, id := range []string{sent(early).ProviderID, sent(late).ProviderID, odd} {
			got, ok, err := d.Delivery(t.Context(), page(), id)
			if err != nil || !ok {
				t.Fatalf("delivery of %q: %v %v", id, ok, err)
			}
			all = append(all, got)
		}
		return all
	}
	before := deliveries()
	d.reopen()
	d.same("deliveries", deliveries(), before)
	d.clock.Add(leaseTTL)
	rows := d.fold(d.lease("s", parley.Lease{}), 10, 3)
	if len(rows) != 1 {
		t.Fatalf("told %d times that it failed", len(rows))
	}
	failed := parley.SendFailed{ID: late.ID, ProviderID: sent(late).ProviderID, Code: 1, Reason: rows[0].Input.(parley.SendFailed).Reason} //nolint:errcheck // it may panic
	d.same("the first failure", rows[0].Input, parley.Input(failed))
	d.status(sent(early).ProviderID, parley.StatusRead)
}

// reopenRecords: what operators read, and who is registered.
func reopenRecords(t *testing.T, d *desk) {
	for range 5 {
		turn := d.turn(d.load(conv("a")))
		turn.History = append(turn.History, odd...)
		turn.Dead = []parley.DeadLetter{{ID: d.id(), Conversation: conv("a"), At: d.clock.Now()}}
		d.commit(turn)
		quarKeep(d, quarEntry("one"), quarEntry("two"))
		d.clock.Add(17 * time.Hour) // over several days
	}
	for _, r := range []parley.Registration{{App: odd, Channel: page()}, {App: "app", Channel: number()}} {
		if _, err := d.Register(t.Context(), r); err != nil {
			t.Fatal(err)
		}
	}
	type records struct {
		history    [][]byte
		dead       []parley.DeadLetter
		quarantine []parley.Quarantined
		registered map[parley.Registration]bool
	}
	read := func() (r records) {
		t.Helper()
		var all []parley.Registration
		var errs [3]error
		r.history, errs[0] = d.History(t.Context(), conv("a"), 1, 10)
		r.dead, errs[1] = d.DeadLetters(t.Context(), parley.DeadQuery{Brand: "acme", Limit: 10})
		all, errs[2] = d.Registered(t.Context())
		if errs != [3]error{} || len(r.history) != 4 || len(r.dead) != 5 || len(all) != 2 {
			t.Fatalf("%d records, %d dead letters, %d registered: %v", len(r.history), len(r.dead), len(all), errs)
		}
		r.quarantine, r.registered = quarRead(d, parley.ID{}, 20), map[parley.Registration]bool{all[0]: true, all[1]: true}
		return r
	}
	before := read()
	d.reopen()
	after := read()
	d.same("history", after.history, before.history)
	d.same("dead letters", after.dead, before.dead)
	d.same("quarantine", after.quarantine, before.quarantine)
	d.same("registered", after.registered, before.registered)
	d.prune(30 * 24 * time.Hour)
	d.same("history after an upkeep", read().history, before.history)
	d.clock.Add(40 * 24 * time.Hour)
	d.prune(30 * 24 * time.Hour)
	if h, err := d.History(t.Context(), conv("a"), 0, 10); err != nil || len(h) > 0 {
		t.Fatalf("%d records are still there: %v", len(h), err)
	}
}
