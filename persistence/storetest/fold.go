package storetest

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"
	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

func runFold(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"LatticeAnyOrder":                   foldLattice,
		"RemovesWhatItFolds":                foldRemovesWhatItFolds,
		"OfItsChannel":                      foldOfItsChannel,
		"FailureBecomesAnEvent":             foldFailureBecomesAnEvent,
		"FailureBeforeSettleBecomesAnEvent": foldFailureBeforeSettleBecomesAnEvent,
		"ReceiptProvesADoubtfulSend":        foldReceiptProvesADoubtfulSend,
		"UnknownMessageIsKept":              foldUnknownMessageIsKept,
		"Watermarks":                        foldWatermarks,
		"AnyName":                           foldAnyName,
	})
}

func foldRemovesWhatItFolds(t *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	for i := range 7 {
		d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: fmt.Sprint("mid", i)})
	}
	d.same("receipts", d.backlog().Receipts, 7)
	for _, want := range []int{3, 3, 1, 0} {
		d.fold(l, 3, want)
	}
	d.same("receipts", d.backlog().Receipts, 0)
	d.status("mid6", parley.StatusRead)
}

// foldAnyName: whatever a receipt says of whom it is about, it doesn't hold up the
// others of its channel.
func foldAnyName(_ *testing.T, d *desk) {
	long := make([]byte, 20_000)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range long { // it can't be compressed
		long[i] = byte(rng.Uint32())
	}
	l := d.lease("s", parley.Lease{})
	for _, name := range []string{"", parley.UserKey, "\x00", "a/b", parley.UserKey + string(long)} {
		r := parley.Receipt{ProviderID: "mid" + name, Contact: parley.Contact(name), Status: parley.StatusRead, Watermark: d.clock.Now()}
		failed := r
		failed.Status = parley.StatusFailed
		d.receive(r, failed)
	}
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: "another"})
	d.fold(l, 100, 11)
	d.status("another", parley.StatusRead)
}

func foldOfItsChannel(t *testing.T, d *desk) {
	other := page()
	other.ID = "other"
	d.receive(parley.Receipt{Channel: other, Status: parley.StatusRead, ProviderID: "mid"})
	d.fold(d.lease("s", parley.Lease{}), 10, 0)
	d.same("receipts", d.backlog().Receipts, 1)
}

func foldFailureBecomesAnEvent(t *testing.T, d *desk) {
	l, out := d.handOver("x")
	failed := parley.Receipt{Status: parley.StatusFailed, ProviderID: sent(out).ProviderID, Code: 131026, Reason: "undeliverable"}
	d.receive(failed, failed)
	rows := d.fold(l, 10, 2)
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1", len(rows))
	}
	want := parley.SendFailed{ID: out.ID, ProviderID: failed.ProviderID, Code: failed.Code, Reason: failed.Reason}
	d.same("input", rows[0].Input, parley.Input(want))
	d.same("pending", d.load(conv("a")).Pending, rows)
	d.receive(failed)
	if rows := d.fold(l, 10, 1); len(rows) > 0 {
		t.Fatalf("told again: %v", rows)
	}
	got, _, err := d.Delivery(t.Context(), page(), failed.ProviderID)
	if err != nil || got.Code != failed.Code || got.Reason != failed.Reason {
		t.Fatalf("delivery %+v: %v", got, err)
	}
}

func foldFailureBeforeSettleBecomesAnEvent(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	d.receive(parley.Receipt{Status: parley.StatusFailed, ProviderID: sent(out).ProviderID, Code: 1})
	if rows := d.fold(l, 10, 1); len(rows) > 0 {
		t.Fatalf("told before it is known whose message it is: %v", rows)
	}
	d.settle(l, sent(out))
	rows := d.load(conv("a")).Pending
	if len(rows) != 1 {
		t.Fatalf("%d rows", len(rows))
	}
	d.same("input", rows[0].Input, parley.Input(parley.SendFailed{ID: out.ID, ProviderID: sent(out).ProviderID, Code: 1}))
}

func foldReceiptProvesADoubtfulSend(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x", "y")
	d.claims(d.lease("s1", parley.Lease{}), out[0])
	d.clock.Add(leaseTTL)
	l := d.lease("s2", parley.Lease{})
	d.receive(parley.Receipt{Status: parley.StatusEchoed, ProviderID: "mid.1", Row: out[0].ID})
	d.fold(l, 10, 1)
	d.same("proven", d.proven, 1)
	d.claims(l, out[1]) // and not the first again
	got, ok, err := d.Delivery(t.Context(), page(), "mid.1")
	if err != nil || !ok || got.ID != out[0].ID || got.Conversation != conv("a") {
		t.Fatalf("delivery %+v %v: %v", got, ok, err)
	}
}

func foldUnknownMessageIsKept(t *testing.T, d *desk) {
	d.receive(parley.Receipt{Status: "warped", ProviderID: "mid.\x00\xff"})
	d.fold(d.lease("s", parley.Lease{}), 10, 1)
	got, ok, err := d.Delivery(t.Context(), page(), "mid.\x00\xff")
	if err != nil || !ok || got.Status != "warped" || !got.ID.IsZero() {
		t.Fatalf("delivery %+v %v: %v", got, ok, err)
	}
	if _, ok, err := d.Delivery(t.Context(), page(), "mid."); ok || err != nil {
		t.Fatalf("delivery of nothing: %v %v", ok, err)
	}
}

func foldWatermarks(t *testing.T, d *desk) {
	l, early := d.handOver("early")
	d.clock.Add(time.Second)
	mark := d.clock.Now()
	d.clock.Add(time.Second)
	late := d.send(conv("a"), "late")[0]
	d.claims(l, late)
	d.settle(l, sent(late))
	upTo := func(s parley.Status, c parley.Conversation) parley.Receipt {
		return parley.Receipt{Status: s, Contact: c.Contact, Watermark: mark}
	}
	d.receive(upTo(parley.StatusRead, conv("b")))
	d.fold(l, 10, 1)
	d.status(sent(early).ProviderID, parley.StatusSent)
	d.receive(upTo(parley.StatusDelivered, conv("a")))
	d.fold(l, 10, 1)
	d.status(sent(early).ProviderID, parley.StatusDelivered)
	d.status(sent(late).ProviderID, parley.StatusSent)
	d.receive(upTo(parley.StatusRead, conv("a")), upTo(parley.StatusDelivered, conv("a")))
	d.fold(l, 10, 2)
	d.status(sent(early).ProviderID, parley.StatusRead)
	d.receive(parley.Receipt{Status: parley.StatusDelivered, ProviderID: sent(early).ProviderID})
	d.fold(l, 10, 1)
	d.status(sent(early).ProviderID, parley.StatusRead)
	d.status(sent(late).ProviderID, parley.StatusSent)
}

func (d *desk) receive(receipts ...parley.Receipt) {
	d.t.Helper()
	for i := range receipts {
		if receipts[i].Channel == (parley.Channel{}) {
			receipts[i].Channel = page()
		}
	}
	if _, err := d.Append(d.t.Context(), parley.Arrivals{Receipts: receipts}); err != nil {
		d.t.Fatalf("append receipts: %v", err)
	}
}

func (d *desk) fold(l parley.Lease, limit, want int) []parley.Pending {
	d.t.Helper()
	f, err := d.Fold(d.t.Context(), l, limit)
	n, rows := f.Receipts, f.Rows
	d.proven = f.Proven
	if err != nil || n != want {
		d.t.Fatalf("folded %d, want %d: %v", n, want, err)
	}
	return rows
}

func (d *desk) status(providerID string, want parley.Status) {
	d.t.Helper()
	got, ok, err := d.Delivery(d.t.Context(), page(), providerID)
	if err != nil || !ok || got.Status != want {
		d.t.Fatalf("delivery of %q is %q (%v, %v), want %q", providerID, got.Status, ok, err, want)
	}
}

// handOver sends one message of a and settles it.
func (d *desk) handOver(text string) (parley.Lease, parley.Outgoing) {
	d.t.Helper()
	out := d.send(conv("a"), text)[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	d.settle(l, sent(out))
	return l, out
}

// foldLattice: any order and any number of the same receipts, cut into any
// folds, with the settling anywhere between them, comes to the same delivery,
// and the same failures are told.
func foldLattice(t *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	statuses := []parley.Status{"warped", parley.StatusSent, parley.StatusDelivered, parley.StatusRead, parley.StatusPlayed, parley.StatusFailed}
	n := 0
	rapid.Check(t, func(rt *rapid.T) {
		receipts := rapid.SliceOfN(rapid.SampledFrom(statuses), 1, 6).Draw(rt, "receipts")
		seed := rapid.Uint64().Draw(rt, "order")
		var deliveries [2]parley.Delivery
		var told [2]int
		for i := range deliveries {
			n++
			rng := rand.New(rand.NewPCG(seed, uint64(i)))
			deliveries[i], told[i] = d.foldInSomeOrder(l, conv(fmt.Sprint("c", n)), receipts, rng)
		}
		same := cmpopts.IgnoreFields(parley.Delivery{}, "ID", "ProviderID", "At", "Conversation")
		if diff := cmp.Diff(deliveries[0], deliveries[1], same); diff != "" {
			rt.Fatalf("two orders, two deliveries:\n%s", diff)
		}
		want := 0
		if slices.Contains(receipts, parley.StatusFailed) {
			want = 1
		}
		if told[0] != want || told[1] != want {
			rt.Fatalf("failures told: %v, want %d", told, want)
		}
	})
}

func (d *desk) foldInSomeOrder(l parley.Lease, c parley.Conversation, statuses []parley.Status, rng *rand.Rand) (parley.Delivery, int) {
	d.t.Helper()
	l = d.lease(l.Holder, l)
	out := d.send(c, "x")[0]
	if claimed, _ := d.claim(l, 100); len(claimed) != 1 {
		d.t.Fatalf("claimed %v", claimed)
	}
	order := append(slices.Clone(statuses), statuses[rng.IntN(len(statuses))]) // one of them twice
	rng.Shuffle(len(order), func(i, j int) { order[i], order[j] = order[j], order[i] })
	settleAt := rng.IntN(len(order) + 1)
	for i, s := range order {
		if i == settleAt {
			d.settle(l, sent(out))
		}
		r := parley.Receipt{Status: s, ProviderID: sent(out).ProviderID}
		if s == parley.StatusFailed {
			r.Code, r.Reason = 7, "because"
		}
		d.receive(r)
		if rng.IntN(2) == 0 {
			d.foldAll(l)
		}
	}
	d.foldAll(l)
	if settleAt == len(order) {
		d.settle(l, sent(out))
	}
	got, ok, err := d.Delivery(d.t.Context(), page(), sent(out).ProviderID)
	if err != nil || !ok {
		d.t.Fatalf("delivery: %v %v", ok, err)
	}
	if got.ID != out.ID || got.Conversation != c {
		d.t.Fatalf("delivery isn't the message's: %+v", got)
	}
	return got, len(d.load(c).Pending)
}

func (d *desk) foldAll(l parley.Lease) {
	d.t.Helper()
	if _, err := d.Fold(d.t.Context(), l, 1000); err != nil {
		d.t.Fatal(err)
	}
}
