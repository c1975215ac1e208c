package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runLease(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"RenewingKeepsTheEpoch":         leaseRenewingKeepsTheEpoch,
		"HeldByOne":                     leaseHeldByOne,
		"RaisedOnTakeover":              leaseRaisedOnTakeover,
		"RaisedWithoutTheEpochInHand":   leaseRaisedWithoutTheEpochInHand,
		"FencedAfterTakeover":           leaseFencedAfterTakeover,
		"ExpiredMayStillSettleNotClaim": leaseExpiredMayStillSettleNotClaim,
		"RenewedAfterExpiryIsTheSame":   leaseRenewedAfterExpiryIsTheSame,
		"ByChannel":                     leaseByChannel,
		"NeverLeasedIsFenced":           leaseNeverLeasedIsFenced,
	})
}

func tryLease(d *desk, holder string, have parley.Lease) (parley.Lease, error) {
	return d.Lease(d.t.Context(), page(), holder, leaseTTL, have)
}

func leaseRenewingKeepsTheEpoch(t *testing.T, d *desk) {
	first := d.lease("s1", parley.Lease{})
	if first.Epoch == 0 || first.Holder != "s1" || first.Channel != page() || first.TTL != leaseTTL {
		t.Fatalf("lease is %+v", first)
	}
	for range 5 {
		d.clock.Add(leaseTTL - time.Second)
		d.same("renewed lease", d.lease("s1", first), first)
	}
}

func leaseHeldByOne(t *testing.T, d *desk) {
	d.lease("s1", parley.Lease{})
	_, err := tryLease(d, "s2", parley.Lease{})
	d.fenced("second holder", err)
	d.clock.Add(leaseTTL - time.Millisecond)
	_, err = tryLease(d, "s2", parley.Lease{})
	d.fenced("second holder just before expiry", err)
}

func leaseRaisedOnTakeover(t *testing.T, d *desk) {
	first := d.lease("s1", parley.Lease{})
	d.clock.Add(leaseTTL)
	second := d.lease("s2", parley.Lease{})
	if second.Epoch <= first.Epoch {
		t.Fatalf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	_, err := tryLease(d, "s1", first)
	d.fenced("renewal after a takeover", err)
}

func leaseRaisedWithoutTheEpochInHand(t *testing.T, d *desk) {
	first := d.lease("s1", parley.Lease{})
	second := d.lease("s1", parley.Lease{}) // the same name: it was started anew
	if second.Epoch <= first.Epoch {
		t.Fatalf("epoch %d after %d", second.Epoch, first.Epoch)
	}
	_, _, err := d.Claim(t.Context(), first, parley.Places{All: 1}, doubtfulWait, time.Minute)
	d.fenced("claim by its earlier self", err)
}

func leaseFencedAfterTakeover(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x")
	first := d.lease("s1", parley.Lease{})
	d.claims(first, out[0])
	d.clock.Add(leaseTTL)
	second := d.lease("s2", parley.Lease{})
	_, _, err := d.Claim(t.Context(), first, parley.Places{All: 1}, doubtfulWait, time.Minute)
	d.fenced("claim", err)
	d.fenced("settle", d.Settle(t.Context(), first, []parley.Outcome{sent(out[0])}))
	_, err = d.Fold(t.Context(), first, 10)
	d.fenced("fold", err)
	d.same("unsent", d.backlog().Unsent, 1)
	d.claims(second)
}

func leaseExpiredMayStillSettleNotClaim(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x", "y")
	l := d.lease("s1", parley.Lease{})
	d.claims(l, out[0])
	d.clock.Add(leaseTTL)
	_, _, err := d.Claim(t.Context(), l, parley.Places{All: 1}, doubtfulWait, time.Minute)
	d.fenced("claim with an expired lease", err)
	d.settle(l, sent(out[0]))
	d.same("unsent", d.backlog().Unsent, 1)
}

func leaseRenewedAfterExpiryIsTheSame(t *testing.T, d *desk) {
	out := d.send(conv("a"), "x", "y")
	first := d.lease("s1", parley.Lease{})
	d.claims(first, out[0])
	d.clock.Add(2 * leaseTTL)
	if again := d.lease("s1", first); again.Epoch != first.Epoch {
		t.Fatalf("epoch %d after %d, though nobody took it", again.Epoch, first.Epoch)
	}
	d.settle(first, sent(out[0])) // not doubtful: its sender knows what became of it
	d.claims(first, out[1])
}

func leaseByChannel(t *testing.T, d *desk) {
	d.lease("s1", parley.Lease{})
	other := page()
	other.Brand = "other"
	if _, err := d.Lease(t.Context(), other, "s2", leaseTTL, parley.Lease{}); err != nil {
		t.Fatal(err)
	}
}

func leaseNeverLeasedIsFenced(t *testing.T, d *desk) {
	d.send(conv("a"), "x")
	_, _, err := d.Claim(t.Context(), parley.Lease{Channel: page()}, parley.Places{All: 1}, doubtfulWait, time.Minute)
	d.fenced("claim", err)
}

func runClaim(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"OrderWithinConversation":       claimOrderWithinConversation,
		"UpToTheLimitThenTheRest":       claimUpToTheLimitThenTheRest,
		"DoubtfulWaits":                 claimDoubtfulWaits,
		"DoubtfulByItsOwnRestart":       claimDoubtfulByItsOwnRestart,
		"DoubtfulIfNobodyHasItOpen":     claimDoubtfulIfNobodyHasItOpen,
		"ByChannel":                     claimByChannel,
		"WaitsForNothingUpToTheHorizon": claimWaitsForNothingUpToTheHorizon,
		"RepliesBeforeBulk":             claimRepliesBeforeBulk,
		"WhatALaneLeavesIsTheOthers":    claimWhatALaneLeavesIsTheOthers,
		"AReplyLiftsItsConversation":    claimAReplyLiftsItsConversation,
		"BulkComesBackAsBulk":           claimBulkComesBackAsBulk,
	})
}

func claimOrderWithinConversation(t *testing.T, d *desk) {
	out := d.send(conv("a"), "1", "2")
	out = append(out, d.send(conv("a"), "3")...)
	other := d.send(conv("b"), "b1")
	l := d.lease("s", parley.Lease{})
	d.claims(l, out[0], other[0])
	d.claims(l)
	for i := range out {
		d.settle(l, sent(out[i]))
		if i+1 < len(out) {
			d.claims(l, out[i+1])
		}
	}
	d.claims(l)
	d.same("unsent", d.backlog().Unsent, 1)
}

func claimUpToTheLimitThenTheRest(t *testing.T, d *desk) {
	for i := range 5 {
		d.send(conv(fmt.Sprint(i)), "x")
	}
	l := d.lease("s", parley.Lease{})
	seen := map[parley.ID]bool{}
	for _, want := range []int{2, 2, 1, 0} {
		claimed, wait := d.claim(l, 2)
		for _, c := range claimed {
			seen[c.ID] = true
		}
		if len(claimed) != want || (len(seen) < 5) != (wait == 0) {
			t.Fatalf("claimed %d, want %d; wait %s with %d of 5 claimed", len(claimed), want, wait, len(seen))
		}
	}
	d.same("different messages", len(seen), 5)
}

func claimDoubtfulWaits(t *testing.T, d *desk) {
	out := d.send(conv("a"), "1", "2")
	d.claims(d.lease("s1", parley.Lease{}), out[0])
	d.clock.Add(leaseTTL)
	l := d.lease("s2", parley.Lease{}) // s1 died without a word
	claimed, wait := d.claim(l, 10)
	if want := doubtfulWait - leaseTTL; len(claimed) > 0 || wait != want {
		t.Fatalf("claimed %v, wait %s; want nothing and %s", claimed, wait, want)
	}
	d.clock.Add(doubtfulWait - leaseTTL - time.Millisecond)
	l = d.lease("s3", l)
	d.claims(l)
	d.clock.Add(time.Millisecond)
	got := d.claims(l, out[0])
	if !got[0].Doubtful {
		t.Error("it isn't marked as doubtful")
	}
	d.settle(l, sent(out[0]))
	if got := d.claims(l, out[1]); got[0].Doubtful {
		t.Error("the next message is doubtful too")
	}
}

func claimDoubtfulByItsOwnRestart(t *testing.T, d *desk) {
	out := d.send(conv("a"), "1")
	d.claims(d.lease("s", parley.Lease{}), out[0])
	l := d.lease("s", parley.Lease{})
	d.claims(l)
	d.clock.Add(doubtfulWait)
	l = d.lease("s", l)
	if got := d.claims(l, out[0]); !got[0].Doubtful {
		t.Error("it isn't marked as doubtful")
	}
}

// claimDoubtfulIfNobodyHasItOpen: a store that has gone back holds messages for
// claimed that their sender has settled.
func claimDoubtfulIfNobodyHasItOpen(t *testing.T, d *desk) {
	known, unknown := d.send(conv("a"), "1")[0], d.send(conv("b"), "1")[0]
	l := d.lease("s", parley.Lease{})
	d.claims(l, known, unknown)
	waiting := d.send(conv("c"), "1")[0]
	for _, want := range []int{1, 0} {
		n, err := d.Recall(t.Context(), l, []parley.ID{known.ID}, doubtfulWait)
		if err != nil || n != want {
			t.Fatalf("recalled %d, want %d: %v", n, want, err)
		}
	}
	d.claims(l, waiting)
	d.clock.Add(doubtfulWait)
	l = d.lease("s", l)
	if got := d.claims(l, unknown); !got[0].Doubtful {
		t.Error("it isn't marked as doubtful")
	}
	d.settle(l, sent(known), sent(unknown), sent(waiting))
	d.same("unsent", d.backlog().Unsent, 0)
	d.clock.Add(leaseTTL)
	_, err := d.Recall(t.Context(), l, nil, doubtfulWait)
	d.fenced("recall with an expired lease", err)
}

func claimByChannel(t *testing.T, d *desk) {
	other := parley.Conversation{Channel: page(), Contact: "user:a"}
	other.Channel.Brand = "other"
	d.send(other, "theirs")
	mine := d.send(conv("a"), "mine")
	d.claims(d.lease("s", parley.Lease{}), mine[0])
}

func claimWaitsForNothingUpToTheHorizon(t *testing.T, d *desk) {
	if claimed, wait := d.claim(d.lease("s", parley.Lease{}), 10); len(claimed) > 0 || wait != time.Hour {
		t.Fatalf("claimed %v, wait %s", claimed, wait)
	}
}

// claimOf claims and expects how many are of either lane.
func (d *desk) claimOf(l parley.Lease, limit, bulk, wantReplies, wantBulk int) []parley.Claimed {
	d.t.Helper()
	claimed, _, err := d.Claim(d.t.Context(), l, parley.Places{All: limit, Bulk: bulk}, doubtfulWait, time.Hour)
	if err != nil {
		d.t.Fatalf("claim: %v", err)
	}
	n := 0
	for i := range claimed {
		if claimed[i].Send.Bulk {
			n++
		}
	}
	if len(claimed)-n != wantReplies || n != wantBulk {
		d.t.Fatalf("%d replies and %d bulk of a claim of %d with %d for bulk; want %d and %d", len(claimed)-n, n, limit, bulk, wantReplies, wantBulk)
	}
	return claimed
}

// claimRepliesBeforeBulk: a campaign came first, and what people ask meanwhile
// goes before it, beside its share.
func claimRepliesBeforeBulk(_ *testing.T, d *desk) {
	for i := range 20 {
		d.sendBulk(conv(fmt.Sprint("c", i)), "campaign")
	}
	for i := range 6 {
		d.send(conv(fmt.Sprint("r", i)), "reply")
	}
	l := d.lease("s", parley.Lease{})
	d.claimOf(l, 5, 1, 4, 1)
	d.claimOf(l, 1, 1, 0, 1)
	d.claimOf(l, 1, 0, 1, 0)
	d.claimOf(l, 0, 0, 0, 0)
	d.claimOf(l, 3, 1, 1, 2)
}

func claimWhatALaneLeavesIsTheOthers(_ *testing.T, d *desk) {
	for i := range 3 {
		d.send(conv(fmt.Sprint("r", i)), "reply")
	}
	l := d.lease("s", parley.Lease{})
	d.claimOf(l, 2, 2, 2, 0)
	d.sendBulk(conv("a"), "1")
	d.sendBulk(conv("b"), "2")
	d.claimOf(l, 10, 0, 1, 2)
}

// claimAReplyLiftsItsConversation: it can't overtake, so what is before it goes
// with it.
func claimAReplyLiftsItsConversation(t *testing.T, d *desk) {
	for i := range 5 {
		d.sendBulk(conv(fmt.Sprint("c", i)), "campaign")
	}
	first := d.sendBulk(conv("z"), "campaign")
	second := d.sendBulk(conv("z"), "more of it")
	reply := d.send(conv("z"), "reply")
	l := d.lease("s", parley.Lease{})
	var got []parley.ID
	for range 4 { // the claim that comes upon the reply may be too late for the first
		claimed, _, err := d.Claim(t.Context(), l, parley.Places{All: 1}, doubtfulWait, time.Hour)
		if err != nil || len(claimed) != 1 {
			t.Fatalf("claimed %v: %v", claimed, err)
		}
		d.settle(l, sent(claimed[0].Outgoing))
		if claimed[0].Conversation == conv("z") {
			got = append(got, claimed[0].ID)
		}
	}
	if len(got) == 3 {
		d.same("order", got, []parley.ID{first[0].ID, second[0].ID, reply[0].ID})
		return
	}
	t.Fatalf("%d of 3 messages of the conversation in 4 claims", len(got))
}

func claimBulkComesBackAsBulk(_ *testing.T, d *desk) {
	out := d.sendBulk(conv("a"), "1")
	next := d.sendBulk(conv("a"), "2")
	l := d.lease("s", parley.Lease{})
	d.claims(l, out[0])
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Retry, Wait: 3 * time.Second})
	d.send(conv("b"), "reply")
	if claimed, wait := d.claim(l, 0); len(claimed) > 0 || wait != 0 {
		d.t.Fatalf("claimed %v, wait %s", claimed, wait)
	}
	d.clock.Add(3 * time.Second)
	d.claimOf(l, 1, 0, 1, 0)
	d.claims(l, out[0])
	d.settle(l, sent(out[0]))
	d.send(conv("c"), "reply")
	d.claimOf(l, 1, 0, 1, 0)
	d.claims(l, next[0])
	if _, wait := d.claim(l, 1); wait != time.Hour {
		d.t.Fatalf("wait %s with nothing left", wait)
	}
}

func runSettle(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"SentBecomesADelivery":         settleSentBecomesADelivery,
		"RefusedBecomesADeadLetter":    settleRefusedBecomesADeadLetter,
		"UncountedRetryIsNoAttempt":    settleUncountedRetryIsNoAttempt,
		"RetryHoldsTheConversation":    settleRetryHoldsTheConversation,
		"DoubtComesBackAsDoubtful":     settleDoubtComesBackAsDoubtful,
		"OnlyWhatIsClaimed":            settleOnlyWhatIsClaimed,
		"NotWhatAnEarlierEpochClaimed": settleNotWhatAnEarlierEpochClaimed,
		"TwiceIsOnce":                  settleTwiceIsOnce,
		"ReturnedIsTold":               settleReturnedIsTold,
	})
}

// beginSettle sends texts in a and claims the first.
func beginSettle(t *testing.T, d *desk, texts ...string) (parley.Lease, []parley.Outgoing) {
	t.Helper()
	out := d.send(conv("a"), texts...)
	l := d.lease("s", parley.Lease{})
	d.claims(l, out[0])
	return l, out
}

func settleSentBecomesADelivery(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x")
	d.settle(l, sent(out[0]))
	got, ok, err := d.Delivery(t.Context(), page(), sent(out[0]).ProviderID)
	if err != nil || !ok {
		t.Fatalf("delivery: %v %v", ok, err)
	}
	d.same("delivery", got, parley.Delivery{
		ID: out[0].ID, Conversation: conv("a"), ProviderID: sent(out[0]).ProviderID,
		Status: parley.StatusSent, At: d.clock.Now(),
	})
	d.same("backlog", d.backlog(), parley.Backlog{})
}

func settleRefusedBecomesADeadLetter(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x", "y")
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Refused, Cause: "window closed", Code: 131047})
	letters, err := d.DeadLetters(t.Context(), parley.DeadQuery{Brand: "acme", Limit: 10})
	if err != nil || len(letters) != 1 {
		t.Fatalf("letters %v: %v", letters, err)
	}
	want, err := parley.EncodeEffect(out[0].Send)
	if err != nil {
		t.Fatal(err)
	}
	d.same("data", letters[0].Data, want)
	d.same("conversation", letters[0].Conversation, conv("a"))
	if letters[0].Seq != 0 || letters[0].Cause == "" {
		t.Errorf("letter is %+v", letters[0])
	}
	d.claims(l, out[1])
}

func settleUncountedRetryIsNoAttempt(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x")
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Retry, Uncounted: true})
	claimed, _ := d.claim(l, 10)
	d.same("claimed", claimed, []parley.Claimed{{Outgoing: out[0]}})
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Retry})
	claimed, _ = d.claim(l, 10)
	d.same("claimed", claimed, []parley.Claimed{{Outgoing: out[0], Attempts: 1}})
}

func settleRetryHoldsTheConversation(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x", "y")
	for attempt := 1; attempt <= 2; attempt++ {
		d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Retry, Wait: 3 * time.Second})
		if claimed, wait := d.claim(l, 10); len(claimed) > 0 || wait != 3*time.Second {
			t.Fatalf("claimed %v, wait %s", claimed, wait)
		}
		d.clock.Add(3 * time.Second)
		if got := d.claims(l, out[0])[0]; got.Attempts != attempt || got.Doubtful {
			t.Fatalf("attempts %d, doubtful %v", got.Attempts, got.Doubtful)
		}
	}
	d.settle(l, sent(out[0]))
	if got := d.claims(l, out[1])[0]; got.Attempts != 0 {
		t.Fatalf("the next message has %d attempts", got.Attempts)
	}
}

func settleDoubtComesBackAsDoubtful(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x")
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Doubt, Wait: 5 * time.Second})
	d.claims(l)
	d.clock.Add(5 * time.Second)
	if got := d.claims(l, out[0])[0]; !got.Doubtful || got.Attempts != 0 {
		t.Fatalf("attempts %d, doubtful %v", got.Attempts, got.Doubtful)
	}
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Retry})
	if got := d.claims(l, out[0])[0]; !got.Doubtful || got.Attempts != 1 {
		t.Fatalf("after a refusal: attempts %d, doubtful %v", got.Attempts, got.Doubtful)
	}
}

func settleOnlyWhatIsClaimed(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x", "y")
	d.settle(l, sent(out[1]), parley.Outcome{ID: d.id(), Kind: parley.Refused})
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 2})
	d.settle(l, sent(out[0]))
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Refused})
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1})
}

func settleNotWhatAnEarlierEpochClaimed(t *testing.T, d *desk) {
	_, out := beginSettle(t, d, "x")
	l := d.lease("s", parley.Lease{})
	d.settle(l, sent(out[0]))
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1})
}

// settleReturnedIsTold: no dead letter, but an event that names the reason.
func settleReturnedIsTold(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x", "y")
	d.settle(l, parley.Outcome{ID: out[0].ID, Kind: parley.Returned, Why: parley.WindowClosed, Cause: "too long ago", Code: 131047})
	rows := d.load(conv("a")).Pending
	if len(rows) != 1 {
		t.Fatalf("%d rows, want 1", len(rows))
	}
	d.same("input", rows[0].Input, parley.Input(parley.SendFailed{ID: out[0].ID, Code: 131047, Reason: "too long ago", Why: parley.WindowClosed}))
	if letters, err := d.DeadLetters(t.Context(), parley.DeadQuery{Limit: 10}); err != nil || len(letters) > 0 {
		t.Fatalf("letters %v: %v", letters, err)
	}
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1, Pending: 1})
	d.claims(l, out[1])
}

func settleTwiceIsOnce(t *testing.T, d *desk) {
	l, out := beginSettle(t, d, "x", "y")
	d.settle(l, sent(out[0]), sent(out[0]))
	d.claims(l, out[1])
	d.settle(l, sent(out[0]))
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 1})
}
