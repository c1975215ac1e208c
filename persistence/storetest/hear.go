package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// Echoes that don't say whose message they show (Instagram).

func runHear(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"OthersWordIsAnEvent":          hearOthersWord,
		"OfOursAfterItsAnswer":         hearOfOursAfterItsAnswer,
		"WaitsForTheAnswer":            hearWaitsForTheAnswer,
		"DoesNotWaitForEver":           hearDoesNotWaitForEver,
		"WaitsForPrivateReplies":       hearWaitsForPrivateReplies,
		"DoesNotWaitForOthers":         hearDoesNotWaitForOthers,
		"ProvesADoubtfulSend":          hearProvesADoubtfulSend,
		"OtherWordsAreNoProof":         hearOtherWordsAreNoProof,
		"WhatWaitsHoldsUpNobody":       hearWhatWaitsHoldsUpNobody,
		"WaitsThroughACrash":           hearWaitsThroughACrash,
		"OfAnEarlierProgramIsAReceipt": hearOfAnEarlierProgram,
	})
}

// echo is an echo, on the channel of c, of words that may be anybody's.
func (d *desk) echo(c parley.Conversation, mid, text string) parley.Receipt {
	d.t.Helper()
	r := parley.Receipt{Channel: c.Channel, Status: parley.StatusEchoed, ProviderID: mid, Contact: c.Contact, Time: d.clock.Now()}
	if err := r.Say(parley.Echo{ID: mid, Text: text}); err != nil {
		d.t.Fatal(err)
	}
	return r
}

// hears expects a fold of n receipts, with held of them staying, to tell these words.
func (d *desk) hears(l parley.Lease, n, held int, words ...string) []parley.Pending {
	d.t.Helper()
	f, err := d.Fold(d.t.Context(), l, 100)
	if err != nil {
		d.t.Fatalf("fold: %v", err)
	}
	var got []string
	for _, p := range f.Rows {
		if e, ok := p.Input.(parley.Echo); ok {
			got = append(got, e.Text)
		}
	}
	d.same("echoes", got, words)
	d.same("folded and held", []int{f.Receipts, f.Held}, []int{n, held})
	d.same("receipts", d.backlog().Receipts, held)
	d.proven = f.Proven
	return f.Rows
}

func hearOthersWord(_ *testing.T, d *desk) {
	l := d.lease("s", parley.Lease{})
	r := d.echo(conv("a"), "mid.1", "I take over")
	d.receive(r)
	rows := d.hears(l, 1, 0, "I take over")
	d.same("pending", d.load(conv("a")).Pending, rows)
	d.same("key", rows[0].Key, r.EchoKey())
	d.same("time", rows[0].Time.UTC(), r.Time)
	d.receive(r) // a repeat is a row again, of the same key
	d.same("key of a repeat", d.hears(l, 1, 0, "I take over")[0].Key, rows[0].Key)
}

func hearOfOursAfterItsAnswer(_ *testing.T, d *desk) {
	l, out := d.handOver("x")
	d.receive(d.echo(conv("a"), sent(out).ProviderID, "x"))
	d.hears(l, 1, 0)
	d.status(sent(out).ProviderID, parley.StatusSent)
	d.same("pending", d.load(conv("a")).Pending, []parley.Pending(nil))
}

func hearWaitsForTheAnswer(_ *testing.T, d *desk) {
	out := d.send(conv("a"), "x")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	d.receive(d.echo(conv("a"), sent(out).ProviderID, "x"), d.echo(conv("a"), "mid.person", "y"))
	d.hears(l, 0, 2)
	d.settle(l, sent(out))
	d.hears(l, 2, 0, "y")
	d.hears(l, 0, 0)
}

func hearDoesNotWaitForEver(_ *testing.T, d *desk) {
	out := d.send(conv("a"), "x")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	d.receive(d.echo(conv("a"), "mid.person", "y"))
	d.clock.Add(parley.EchoWait - time.Millisecond)
	d.hears(l, 0, 1)
	d.clock.Add(time.Millisecond)
	d.hears(l, 1, 0, "y")
}

// hearWaitsForPrivateReplies: a private reply is decided in the conversation of a
// post and echoed in that of the person.
func hearWaitsForPrivateReplies(_ *testing.T, d *desk) {
	post := parley.Conversation{Channel: page(), Contact: parley.SubjectKey + "post"}
	out := d.send(post, "x")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	d.receive(d.echo(conv("a"), sent(out).ProviderID, "x"))
	d.hears(l, 0, 1)
	d.settle(l, sent(out))
	d.hears(l, 1, 0)
}

func hearDoesNotWaitForOthers(_ *testing.T, d *desk) {
	b := d.send(conv("b"), "x")[0] // to somebody else
	c := d.send(conv("c"), "x")[0] // refused for a time: it was not sent
	l := d.lease("s", parley.Lease{})
	d.claims(l, b, c)
	d.settle(l, parley.Outcome{ID: c.ID, Kind: parley.Retry, Wait: time.Hour})
	old := d.echo(conv("e"), "mid.e", "older than what was decided since")
	d.clock.Add(time.Minute)
	l = d.lease("s", l)
	e := d.send(conv("e"), "x")[0]
	d.claims(l, e)
	d.receive(d.echo(conv("a"), "mid.a", "x"), d.echo(conv("c"), "mid.c", "x"), old)
	d.hears(l, 3, 0, "x", "x", "older than what was decided since")
}

func hearProvesADoubtfulSend(t *testing.T, d *desk) {
	answerLost := func(l parley.Lease, out parley.Outgoing) parley.Lease {
		d.settle(l, parley.Outcome{ID: out.ID, Kind: parley.Doubt, Wait: doubtfulWait})
		return l
	}
	senderLost := func(parley.Lease, parley.Outgoing) parley.Lease {
		d.clock.Add(leaseTTL)
		return d.lease("s2", parley.Lease{})
	}
	claimedAgain := func(l parley.Lease, out parley.Outgoing) parley.Lease {
		l = answerLost(l, out)
		d.clock.Add(doubtfulWait)
		l = d.lease(l.Holder, l)
		d.claims(l, out)
		return l
	}
	for i, happens := range []func(parley.Lease, parley.Outgoing) parley.Lease{answerLost, claimedAgain, senderLost} {
		c := conv(fmt.Sprint("c", i))
		out := d.send(c, "x", "y")
		l := d.lease("s", parley.Lease{})
		d.claims(l, out[0])
		mid := "mid." + string(c.Contact)
		echo := d.echo(c, mid, "x")
		l = happens(l, out[0])
		d.receive(echo)
		d.hears(l, 1, 0)
		d.same("proven", d.proven, 1)
		d.claims(l, out[1]) // and not the first again
		got, ok, err := d.Delivery(t.Context(), page(), mid)
		if err != nil || !ok || got.ID != out[0].ID || got.Conversation != c {
			t.Fatalf("delivery %+v %v: %v", got, ok, err)
		}
		d.settle(l, sent(out[1]))
		d.clock.Add(time.Hour)
	}
}

func hearOtherWordsAreNoProof(_ *testing.T, d *desk) {
	out := d.send(conv("a"), "x")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	d.settle(l, parley.Outcome{ID: out.ID, Kind: parley.Doubt, Wait: doubtfulWait})
	d.receive(d.echo(conv("a"), "mid.person", "y"), d.echo(conv("a"), "mid.image", ""))
	d.hears(l, 2, 0, "y", "")
	d.clock.Add(doubtfulWait)
	d.claims(d.lease("s", l), out)
}

// hearWhatWaitsHoldsUpNobody: echoes that wait go behind, so that a fold of few
// receipts comes to the others.
func hearWhatWaitsHoldsUpNobody(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	for i := range 4 {
		d.receive(d.echo(conv("a"), fmt.Sprint("mid.", i), "y"))
	}
	d.receive(parley.Receipt{Status: parley.StatusRead, ProviderID: "another"})
	for range 3 {
		if _, err := d.Fold(t.Context(), l, 2); err != nil {
			t.Fatal(err)
		}
	}
	d.status("another", parley.StatusRead)
	d.same("receipts", d.backlog().Receipts, 4)
}

func hearWaitsThroughACrash(_ *testing.T, d *desk) {
	out := d.send(conv("a"), "x")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, out)
	d.receive(d.echo(conv("a"), "mid.person", "y"))
	d.hears(l, 0, 1)
	d.reopen()
	d.clock.Add(leaseTTL)
	d.hears(d.lease("s2", parley.Lease{}), 1, 0, "y")
}

// hearOfAnEarlierProgram: a receipt that doesn't say what it shows is of ours, as it
// always was.
func hearOfAnEarlierProgram(_ *testing.T, d *desk) {
	d.receive(parley.Receipt{Status: parley.StatusEchoed, ProviderID: "mid.1", Contact: conv("a").Contact})
	d.hears(d.lease("s", parley.Lease{}), 1, 0)
	d.status("mid.1", parley.StatusEchoed)
}
