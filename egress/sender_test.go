package egress_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// rig drives one Sender by hand.
type rig struct {
	t      *testing.T
	now    time.Duration
	store  *store
	clerk  egress.Clerk
	sender *egress.Sender
	calls  []egress.Handover
}

func newRig(t *testing.T, p egress.Policy) *rig {
	t.Helper()
	r := &rig{t: t, now: time.Hour}
	clock := func() time.Duration { return r.now }
	r.store = newStore(clock)
	r.clerk = egress.Clerk{Outbox: r.store, Receipts: r.store, Clock: clock}
	if p.Random == nil {
		p.Random = middle
	}
	r.sender = egress.NewSender(page, "me", p)
	return r
}

// write adds the first n messages of each contact and wakes the sender.
func (r *rig) write(n int, contacts ...string) {
	for _, c := range contacts {
		for i := range n {
			r.store.add(outgoing(talk(page, c), i+1))
		}
	}
	r.sender.Wake(r.now)
}

// step does one thing.
func (r *rig) step() egress.Action {
	a := r.sender.Next(r.now)
	done := r.clerk.Do(r.t.Context(), r.sender, a)
	r.calls = append(r.calls, done.Handovers...)
	return a
}

// run does what there is to do now, and returns the Rest at its end.
func (r *rig) run() egress.Action {
	r.t.Helper()
	for range 100 {
		if a := r.step(); a.Kind == egress.Rest {
			if a.Until <= r.now {
				r.t.Fatalf("rests until %v at %v", a.Until, r.now)
			}
			return a
		}
	}
	r.t.Fatal("never rests")
	return egress.Action{}
}

// sleep runs, then lets time pass to the next thing to do, at most for d.
func (r *rig) sleep(d time.Duration) {
	r.t.Helper()
	for end := r.now + d; ; {
		r.now = min(end, r.run().Until)
		if r.now == end {
			return
		}
	}
}

// answer ends the oldest call.
func (r *rig) answer(a egress.Answer) {
	r.t.Helper()
	if len(r.calls) == 0 {
		r.t.Fatal("nothing is with the provider")
	}
	h := r.calls[0]
	r.calls = r.calls[1:]
	a.ID, a.Epoch = h.ID, h.Epoch
	r.sender.Answered(a, r.now)
}

func (r *rig) last() parley.Outcome {
	r.t.Helper()
	r.run()
	if len(r.store.outcomes) == 0 {
		r.t.Fatal("nothing was settled")
	}
	return r.store.outcomes[len(r.store.outcomes)-1]
}

func (r *rig) wantCalls(n int) {
	r.t.Helper()
	if len(r.calls) != n {
		r.t.Fatalf("%d messages with the provider, want %d", len(r.calls), n)
	}
}

func takeover(r *rig) parley.Lease {
	r.t.Helper()
	l, err := r.store.Lease(r.t.Context(), page, "other", testTTL, parley.Lease{})
	if err != nil {
		r.t.Fatal(err)
	}
	return l
}

func failOnce(name string, after bool) func(string, bool) error {
	failed := false
	return func(step string, late bool) error {
		if step != name || late != after || failed {
			return nil
		}
		failed = true
		return errStore
	}
}

func TestSenderLease(t *testing.T) {
	t.Parallel()
	t.Run("LostMidFlightLeavesTheMessageToTheNext", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, "a")
		r.run()
		r.wantCalls(1)
		r.now += testTTL
		takeover(r)
		r.answer(egress.Answer{Kind: egress.Retryable})
		r.run()
		if got := r.sender.Forgotten(); got != 1 || len(r.store.sent)+len(r.store.reported) != 0 {
			t.Fatalf("forgotten %d, sent %v, reported %v", got, r.store.sent, r.store.reported)
		}
		r.sleep(testTTL + testDoubt)
		r.wantCalls(1)
		if h := r.calls[0]; !h.Doubtful {
			t.Fatal("handed over again, and not as doubtful")
		}
	})
	t.Run("AnsweredAfterHalfIsWithheldAndSentLater", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{Gather: -1})
		r.store.fault = func(step string, after bool) error {
			if step == "claim" && after && r.store.claims == 1 {
				r.now += testTTL / 2
			}
			return nil
		}
		r.write(1, "a")
		r.run()
		r.wantCalls(1)
		sent := 0
		gate := egress.Gate{
			Provider: provider(func(_ context.Context, m parley.Claimed) egress.Answer { sent++; return accepted(m) }),
			Clock:    r.clerk.Clock, Now: time.Now,
		}
		late := gate.Pass(t.Context(), r.calls[0])
		if late.Kind != egress.Withheld || sent != 0 {
			t.Fatalf("got %v, sent %d", late, sent)
		}
		r.answer(late)
		if o := r.last(); o.Kind != parley.Retry || !o.Uncounted || o.Wait != 0 {
			t.Fatalf("settled as %+v", o)
		}
		r.wantCalls(1)
		if h := r.calls[0]; h.Doubtful || h.Attempts != 0 || h.Until <= r.now {
			t.Fatalf("handed over again as %+v", h)
		}
	})
}

func TestSenderRenews(t *testing.T) {
	t.Parallel()
	t.Run("AtAQuarterAndInTheSameEpoch", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, "a")
		r.run()
		r.sleep(3 * testTTL)
		if r.store.epoch != 1 {
			t.Fatalf("epoch %d", r.store.epoch)
		}
		if r.store.leased < 10 || r.store.leased > 14 {
			t.Fatalf("%d leases in 3 times their length", r.store.leased)
		}
	})
	t.Run("CountedFromTheRequest", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.store.fault = func(step string, after bool) error {
			if step == "lease" && after && r.store.leased == 1 {
				r.now += testTTL * 6 / 10
			}
			return nil
		}
		r.write(1, "a")
		r.run()
		r.wantCalls(1)
		if h := r.calls[0]; r.store.leased != 2 || h.Until != r.now+testTTL/2 {
			t.Fatalf("%d leases; may leave for %v", r.store.leased, h.Until-r.now)
		}
	})
	t.Run("NotKeptForNothing", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, "a")
		r.run()
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.sleep(3 * testTTL)
		if r.store.leased != 1 {
			t.Fatalf("%d leases for one message", r.store.leased)
		}
		if a := r.run(); !a.Idle {
			t.Fatalf("not idle: %+v", a)
		}
	})
}

func TestSenderLeaseLapsed(t *testing.T) {
	t.Parallel()
	t.Run("IsSettledUnderBeforeANewOneIsTaken", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(2, "a")
		r.run()
		r.now += testTTL + 1
		r.run()
		r.store.fault = func(step string, after bool) error {
			if step == "lease" && !after && len(r.store.sent) == 0 {
				t.Error("renewed before the answer was settled")
			}
			return nil
		}
		r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
		r.run()
		if len(r.store.sent) != 1 || r.store.leased != 2 {
			t.Fatalf("sent %v under %d leases", r.store.sent, r.store.leased)
		}
		r.wantCalls(1)
	})
	t.Run("HeldByAnotherIsAskedForAgain", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		takeover(r)
		r.write(1, "a")
		r.run()
		r.wantCalls(0)
		r.sleep(testTTL + testTTL/4)
		r.run()
		r.wantCalls(1)
	})
}

func TestSenderStoreFails(t *testing.T) {
	t.Parallel()
	t.Run("OutcomesAreKeptUntilSettled", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.store.fault = failOnce("settle", false)
		r.write(1, "a")
		r.run()
		r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
		r.run()
		if len(r.store.sent) != 0 {
			t.Fatal("settled at once")
		}
		r.sleep(time.Second)
		if len(r.store.sent) != 1 {
			t.Fatal("the outcome was dropped")
		}
	})
	// The settle took hold and said it had not. Were the message claimed before
	// the settle is repeated, the repetition would release it while it is out.
	t.Run("NothingIsClaimedWhileASettleIsUnsure", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{Gather: -1})
		r.store.fault = failOnce("settle", true)
		r.write(1, "a")
		r.run()
		r.answer(egress.Answer{Kind: egress.Withheld})
		r.run()
		r.sender.Wake(r.now)
		r.run()
		r.wantCalls(0)
		r.sleep(time.Second)
		r.wantCalls(1)
		if n := len(r.store.outcomes); n != 2 {
			t.Fatalf("%d settled, want the same twice", n)
		}
		r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
		r.run()
		r.wantCalls(0)
	})
	t.Run("AClaimWhoseAnswerWasLostEndsTheEpoch", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.store.fault = failOnce("claim", true)
		r.write(1, "a")
		r.run()
		r.wantCalls(0)
		r.sleep(testDoubt - time.Second)
		r.wantCalls(0)
		if r.store.epoch != 2 {
			t.Fatalf("epoch %d", r.store.epoch)
		}
		r.sleep(2 * time.Second)
		r.wantCalls(1)
		if !r.calls[0].Doubtful {
			t.Fatal("not doubtful: nobody knows what became of the mark")
		}
	})
	t.Run("IsNotHammered", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		tries := 0
		r.store.fault = func(string, bool) error { tries++; return errStore }
		r.write(1, "a")
		r.sleep(10 * time.Second)
		if tries < 8 || tries > 30 {
			t.Fatalf("%d tries in 10 s", tries)
		}
	})
}

// What is written soon after a claim shares the next one.
func TestSenderClaimsApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{})
	r.write(1, "a")
	r.run()
	r.wantCalls(1)
	claims := r.store.claims
	r.now++
	r.write(1, "b")
	r.run()
	r.write(1, "c")
	if a := r.run(); r.store.claims != claims || a.Until != r.now-1+egress.Gather {
		t.Fatalf("%d claims more; rests for %v", r.store.claims-claims, a.Until-r.now)
	}
	r.sleep(egress.Gather - 1)
	r.run()
	r.wantCalls(3)
	if r.store.claims != claims+1 {
		t.Fatalf("%d claims more, want 1", r.store.claims-claims)
	}
}

func TestSenderSettlesApart(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{})
	r.write(2, "a")
	r.run()
	r.now += egress.Gather / 2
	r.answer(egress.Answer{Kind: egress.Accepted})
	r.run()
	if r.store.settles != 1 {
		t.Fatal("the first isn't settled, though nothing is to come")
	}
	r.sleep(egress.Gather / 2)
	r.run()
	r.answer(egress.Answer{Kind: egress.Accepted})
	if a := r.run(); r.store.settles != 1 || a.Until != r.now+egress.Gather/2 {
		t.Fatalf("%d settles; rests for %v", r.store.settles, a.Until-r.now)
	}
	r.sleep(egress.Gather / 2)
	r.run()
	if r.store.settles != 2 {
		t.Fatal("the second isn't settled")
	}
}

func TestSenderAnswers(t *testing.T) {
	t.Parallel()
	t.Run("InAnyOrderAreSettledTogether", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, "a", "b", "c")
		r.run()
		r.wantCalls(3)
		r.calls[0], r.calls[2] = r.calls[2], r.calls[0]
		r.answer(egress.Answer{Kind: egress.Accepted})
		if a := r.run(); r.store.settles != 0 || a.Until != r.now+egress.Gather {
			t.Fatalf("%d settles; rests until %v", r.store.settles, a.Until-r.now)
		}
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.run()
		if r.store.settles != 1 || len(r.store.sent) != 3 {
			t.Fatalf("%d settles, sent %v", r.store.settles, r.store.sent)
		}
	})
	t.Run("OfAnEarlierEpochAreIgnored", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, "a")
		r.run()
		old := r.calls[0]
		r.calls = nil
		r.now += testTTL
		takeover(r)
		r.now += testTTL + testDoubt
		r.sender.Wake(r.now)
		r.sleep(time.Minute)
		r.wantCalls(1)
		r.sender.Answered(egress.Answer{Kind: egress.Rejected, ID: old.ID, Epoch: old.Epoch}, r.now)
		r.run()
		if len(r.store.dead) != 0 || r.sender.Open() != 1 {
			t.Fatalf("an answer of epoch %d ended the attempt of epoch %d", old.Epoch, r.calls[0].Epoch)
		}
	})
	t.Run("AThrottledUserHoldsNoOther", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{MaxInFlight: 2})
		r.write(3, "a", "b")
		var waits []time.Duration
		for range 200 {
			r.run()
			if len(r.calls) == 0 {
				r.sleep(time.Second)
				continue
			}
			if strings.HasSuffix(string(r.calls[0].Conversation.Contact), "a") {
				r.answer(egress.Answer{Kind: egress.ThrottledUser, Code: 131056, Cause: "pair rate"})
				waits = append(waits, r.last().Wait.Truncate(time.Second))
				continue
			}
			r.answer(egress.Answer{Kind: egress.Accepted})
		}
		if len(r.store.sent) != 3 || len(r.store.dead) != 0 {
			t.Fatalf("sent %d, dead %d", len(r.store.sent), len(r.store.dead))
		}
		want := []time.Duration{4 * time.Second, 18 * time.Second, 72 * time.Second}
		if diff := cmp.Diff(want, waits[:3]); diff != "" {
			t.Fatalf("waits (-want +got):\n%s", diff)
		}
	})
}

func TestSenderOutcome(t *testing.T) {
	t.Parallel()
	const hour = time.Hour
	upper := func() float64 { return 0.999999 }
	for _, c := range []struct {
		name   string
		before int // attempts
		answer egress.Answer
		want   parley.Outcome
		wait   time.Duration // the outcome's, rounded up to 10 ms
	}{
		{"Accepted", 0, egress.Answer{Kind: egress.Accepted, ProviderID: "m.1"}, parley.Outcome{Kind: parley.Sent, ProviderID: "m.1"}, 0},
		{"FirstRetry", 0, egress.Answer{Kind: egress.Retryable, Cause: "busy", Code: 2}, parley.Outcome{Kind: parley.Retry, Cause: "busy", Code: 2}, egress.RetryBase},
		{"FourthRetry", 3, egress.Answer{Kind: egress.Retryable, Cause: "busy"}, parley.Outcome{Kind: parley.Retry, Cause: "busy"}, 8 * egress.RetryBase},
		{"RetryIsCapped", 20, egress.Answer{Kind: egress.Retryable, Cause: "busy"}, parley.Outcome{Kind: parley.Retry, Cause: "busy"}, egress.RetryCap},
		{"RetryHonoursTheProvider", 0, egress.Answer{Kind: egress.Retryable, Cause: "busy", Wait: hour}, parley.Outcome{Kind: parley.Retry, Cause: "busy"}, hour},
		{"LastRetry", egress.MaxAttempts - 1, egress.Answer{Kind: egress.Retryable, Cause: "busy", Code: 1}, parley.Outcome{Kind: parley.Refused, Cause: "given up after 24 attempts: busy", Code: 1}, 0},
		{"LastOfAFew", 3, egress.Answer{Kind: egress.Retryable, Cause: "unknown", Tries: 4}, parley.Outcome{Kind: parley.Refused, Cause: "given up after 4 attempts: unknown"}, 0},
		{"RetryTooOld", 0, egress.Answer{Kind: egress.Retryable, Cause: "busy", Age: egress.MaxAge}, parley.Outcome{Kind: parley.Refused, Cause: "given up after 1 attempts: busy"}, 0},
		{"ThrottledIsNotCountedOut", egress.MaxAttempts, egress.Answer{Kind: egress.ThrottledUser, Cause: "slow"}, parley.Outcome{Kind: parley.Retry, Cause: "slow"}, egress.RetryCap * 5 / 4},
		{"ThrottledTooOld", 0, egress.Answer{Kind: egress.ThrottledUser, Cause: "slow", Age: egress.MaxAge}, parley.Outcome{Kind: parley.Refused, Cause: "given up after 1 attempts: slow"}, 0},
		{"DeadTokenKillsNoMessage", 99, egress.Answer{Kind: egress.Blocked, Cause: "token", Code: 190, Age: 9 * egress.MaxAge}, parley.Outcome{Kind: parley.Retry, Uncounted: true, Cause: "token", Code: 190}, time.Second},
		{"Rejected", 0, egress.Answer{Kind: egress.Rejected, Cause: "no such user", Code: 100}, parley.Outcome{Kind: parley.Refused, Cause: "no such user", Code: 100}, 0},
		{"Unknown", 0, egress.Answer{Kind: egress.Unknown, Cause: "timeout"}, parley.Outcome{Kind: parley.Doubt, Cause: "timeout"}, egress.DoubtfulWait},
		{"UnknownTooOld", 0, egress.Answer{Kind: egress.Unknown, Cause: "timeout", Age: egress.MaxAge}, parley.Outcome{Kind: parley.Refused, Cause: "given up after 1 lost answers: timeout"}, 0},
		{"Nonsense", 0, egress.Answer{Cause: "?"}, parley.Outcome{Kind: parley.Doubt, Cause: "?"}, egress.DoubtfulWait},
		{"LongCauseIsCut", 0, egress.Answer{Kind: egress.Rejected, Cause: "x" + strings.Repeat("é", 999)}, parley.Outcome{Kind: parley.Refused, Cause: "x" + strings.Repeat("é", 511)}, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			r := newRig(t, egress.Policy{Random: upper})
			r.write(1, "a")
			r.store.rows[0].attempts = c.before
			r.run()
			r.answer(c.answer)
			got := r.last()
			if wait := got.Wait.Round(10 * time.Millisecond); wait != c.wait {
				t.Errorf("wait %v, want %v", wait, c.wait)
			}
			got.Wait, c.want.ID = 0, outgoing(talk(page, "a"), 1).ID
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("outcome (-want +got):\n%s", diff)
			}
		})
	}
	t.Run("DoubtsDoubleAndEnd", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, "a")
		want := egress.DoubtfulWait
		for range egress.MaxDoubts - 1 {
			r.sleep(200 * time.Millisecond) // it is looked for first
			r.answer(egress.Answer{Kind: egress.Unknown, Cause: "timeout"})
			if o := r.last(); o.Kind != parley.Doubt || o.Wait != want {
				t.Fatalf("got %+v, want a doubt of %v", o, want)
			}
			r.sleep(want - 1)
			r.wantCalls(0)
			r.sender.Wake(r.now + 1)
			r.sleep(1)
			want *= 2
		}
		r.sleep(200 * time.Millisecond)
		r.answer(egress.Answer{Kind: egress.Unknown, Cause: "timeout"})
		if o := r.last(); o.Kind != parley.Refused || o.Cause != "given up after 8 lost answers: timeout" {
			t.Fatalf("got %+v", o)
		}
	})
}

func contacts(n int) (out []string) {
	for i := range n {
		out = append(out, fmt.Sprintf("%c", 'a'+i))
	}
	return out
}

func TestSenderPause(t *testing.T) {
	t.Parallel()
	t.Run("TriesOneMessageAtATimeAndResumes", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{MaxInFlight: 4, Gather: -1})
		r.write(1, contacts(8)...)
		r.run()
		r.wantCalls(4)
		blocked := egress.Answer{Kind: egress.Blocked, Code: 190, Cause: "token"}
		for range 4 {
			r.answer(blocked)
		}
		r.run()
		p, ok := r.sender.Paused()
		if !ok || p.Reason != egress.Dead || p.Code != 190 || p.Count != 1 {
			t.Fatalf("four answers of one moment made %+v", p)
		}
		r.sender.Wake(r.now)
		r.sleep(p.Until - r.now - 1)
		r.wantCalls(0)
		r.sleep(1)
		r.run()
		r.wantCalls(1)
		if c := r.calls[0].Conversation.Contact; c != "user:e" {
			t.Fatalf("tried with %s, which met the trouble itself", c)
		}
		r.answer(blocked)
		r.run()
		longer, _ := r.sender.Paused()
		if longer.Count != 2 || longer.Until-r.now <= 30*time.Second {
			t.Fatalf("second pause %+v at %v", longer, r.now)
		}
		r.sleep(longer.Until - r.now)
		r.run()
		r.wantCalls(1)
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.run()
		if _, still := r.sender.Paused(); still {
			t.Fatal("still paused after the provider took one")
		}
		r.wantCalls(4)
		if n := r.store.rows[0].attempts; n != 0 {
			t.Fatalf("the channel's trouble counts as %d attempts of a message", n)
		}
	})
	t.Run("AnOldAnswerDoesNotEndIt", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{MaxInFlight: 2})
		r.write(1, "a", "b")
		r.run()
		r.answer(egress.Answer{Kind: egress.ThrottledChannel, Wait: time.Minute})
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.run()
		if p, ok := r.sender.Paused(); !ok || p.Reason != egress.Throttled || p.Until < r.now+time.Minute {
			t.Fatalf("got %+v %v", p, ok)
		}
	})
}

func TestSenderSilence(t *testing.T) {
	t.Parallel()
	t.Run("OfTheProviderPauses", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, contacts(egress.MaxSilent)...)
		r.run()
		for i := range egress.MaxSilent {
			if _, ok := r.sender.Paused(); ok {
				t.Fatalf("paused after %d", i)
			}
			r.answer(egress.Answer{Kind: egress.Unknown})
		}
		if p, ok := r.sender.Paused(); !ok || p.Reason != egress.Silent {
			t.Fatalf("got %+v %v", p, ok)
		}
	})
	t.Run("ARejectionIsAWord", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.write(1, contacts(20)...)
		r.run()
		for i := range 20 {
			kind := egress.Retryable
			if i == 10 {
				kind = egress.Rejected
			}
			r.answer(egress.Answer{Kind: kind})
		}
		if p, ok := r.sender.Paused(); ok {
			t.Fatalf("got %+v", p)
		}
	})
}

func TestSenderFold(t *testing.T) {
	t.Parallel()
	order := func(r *rig, steps int) (out []egress.ActionKind) {
		for range steps {
			out = append(out, r.step().Kind)
		}
		return out
	}
	t.Run("SendsGoFirst", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{})
		r.store.receipts = 3
		r.write(1, "a")
		want := []egress.ActionKind{egress.TakeLease, egress.Claim, egress.Fold, egress.Rest}
		if diff := cmp.Diff(want, order(r, 4)); diff != "" {
			t.Fatalf("(-want +got):\n%s", diff)
		}
		if r.store.receipts != 0 {
			t.Fatalf("%d left", r.store.receipts)
		}
	})
	t.Run("IsNotPutOffForEver", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{MaxInFlight: 1})
		r.write(100, "a")
		for range 100 { // there is something to claim at every moment
			r.store.receipts++
			r.sender.Wake(r.now)
			for r.step().Kind != egress.Claim {
			}
			r.now += 100 * time.Millisecond
			if len(r.calls) > 0 {
				r.answer(egress.Answer{Kind: egress.Accepted})
			}
		}
		if r.store.folds < 4 || r.store.folds > 11 {
			t.Fatalf("%d folds in 10 s", r.store.folds)
		}
	})
	t.Run("AllOfALongLogWhileIdle", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{FoldLimit: 10})
		r.store.receipts = 95
		r.sender.Wake(r.now)
		if a := r.run(); r.store.receipts != 0 || r.store.folds != 10 || !a.Idle {
			t.Fatalf("%d left after %d folds; %+v", r.store.receipts, r.store.folds, a)
		}
	})
	t.Run("AShareOfTheTimeWhileSending", func(t *testing.T) {
		t.Parallel()
		r := newRig(t, egress.Policy{FoldLimit: 10})
		r.store.fault = func(step string, _ bool) error {
			if step == "fold" {
				r.now += 5 * time.Millisecond
			}
			return nil
		}
		r.store.receipts = 1000
		r.write(1, "a")
		if a := r.run(); r.store.folds != 1 || a.Until != r.now+40*time.Millisecond {
			t.Fatalf("%d folds, rests for %v", r.store.folds, a.Until-r.now)
		}
	})
}

func TestSenderStop(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{MaxInFlight: 2})
	r.write(2, "a", "b", "c")
	r.run()
	r.wantCalls(2)
	r.sender.Stop()
	r.answer(egress.Answer{Kind: egress.Accepted})
	if a := r.run(); a.Idle || r.store.settles != 1 {
		t.Fatalf("%+v after %d settles: one is still out, and what is known is to be noted", a, r.store.settles)
	}
	r.answer(egress.Answer{Kind: egress.Accepted})
	if a := r.run(); !a.Idle || len(r.store.sent) != 2 {
		t.Fatalf("%+v, sent %v", a, r.store.sent)
	}
	r.sender.Wake(r.now)
	r.sleep(time.Minute)
	r.wantCalls(0)
}

func TestSenderStopDuringClaim(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{})
	r.store.fault = func(step string, after bool) error {
		if step == "claim" && after {
			r.sender.Stop()
		}
		return nil
	}
	r.write(1, "a")
	if a := r.run(); !a.Idle {
		t.Fatalf("%+v", a)
	}
	r.wantCalls(0)
	if got := r.store.rows[0]; got.epoch != 0 || got.doubtful || got.attempts != 0 {
		t.Fatalf("the message was not given back: %+v", got)
	}
}

func TestGatePanics(t *testing.T) {
	t.Parallel()
	gate := egress.Gate{
		Provider: provider(func(context.Context, parley.Claimed) egress.Answer { panic("text of the message") }),
		Clock:    func() time.Duration { return 1 }, Now: time.Now,
	}
	o := outgoing(talk(page, "a"), 1)
	a := gate.Pass(t.Context(), egress.Handover{Claimed: parley.Claimed{Outgoing: o}, Epoch: 7, Until: 2})
	if a.Kind != egress.Rejected || a.ID != o.ID || a.Epoch != 7 || strings.Contains(a.Cause, "text") {
		t.Fatalf("got %+v", a)
	}
}

// A store that has gone back holds a message for claimed that was settled: its
// conversation must not wait for it for ever, however busy the channel is. What
// is with the provider, or answered and not settled, is not touched.
func TestSenderFindsClaimsOfALostHistory(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{LeaseTTL: testTTL, DoubtfulWait: testTTL})
	r.write(1, "a")
	r.run()
	r.answer(egress.Answer{Kind: egress.Accepted})
	settled := *r.store.rows[0]
	r.run()
	if r.store.left() != 0 {
		t.Fatal("the message wasn't settled")
	}
	r.now += egress.Gather
	r.write(1, "b", "c")
	r.run()
	r.answer(egress.Answer{Kind: egress.Accepted}) // of b: not settled yet, as others are to be answered
	r.store.rows = append(r.store.rows, &settled)
	r.now += testTTL / 4
	r.store.add(outgoing(talk(page, "d"), 1))
	r.sender.Wake(r.now)
	r.run()
	var open []string
	for _, x := range r.store.rows {
		if x.epoch != 0 && x.epoch != overEpoch {
			open = append(open, string(x.Conversation.Contact))
		}
	}
	if len(r.calls) != 2 || len(open) != 2 {
		t.Errorf("%d messages with the provider, %q open in the store; want two of each", len(r.calls), open)
	}
	r.sleep(2 * testTTL)
	found := false
	for _, h := range r.calls {
		found = found || h.ID == settled.ID && h.Doubtful
	}
	if !found {
		t.Error("the message was never claimed again, as doubtful")
	}
}

// What a fold leaves, since it can't be told yet, is looked at again, and not all the
// time.
func TestSenderFoldsAgainWhatStays(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{FoldLimit: 10})
	r.store.receipts, r.store.held = 40, 10
	r.sender.Wake(r.now)
	if a := r.run(); a.Idle || a.Until > r.now+time.Second {
		t.Fatalf("rests until %v at %v: it forgets what stays", a.Until, r.now)
	}
	r.sleep(10 * time.Second)
	if r.store.folds < 10 || r.store.folds > 30 {
		t.Fatalf("%d folds in 10 s", r.store.folds)
	}
	r.store.held = 0
	r.sleep(time.Second)
	if a := r.run(); r.store.receipts != 0 || !a.Idle {
		t.Fatalf("%d left; %+v", r.store.receipts, a)
	}
}

// What is claimed while the channel turns out to be in trouble waits with the rest: the
// first after the pause is a probe, and alone.
func TestSenderPausesWhileItClaims(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{Gather: -1})
	r.write(1, "a")
	r.run()
	r.wantCalls(1)
	r.write(1, "b", "c", "d")
	a := r.sender.Next(r.now)
	if a.Kind != egress.Claim {
		t.Fatalf("wants to %s", a.Kind)
	}
	asked := r.clerk.Ask(t.Context(), r.sender, a)
	r.answer(egress.Answer{Kind: egress.ThrottledChannel, Cause: "too much"})
	if done := r.clerk.Tell(r.sender, asked, r.now); len(done.Handovers) > 0 {
		t.Fatalf("%d messages are handed over in a pause", len(done.Handovers))
	}
	r.sleep(time.Minute)
	r.wantCalls(1)
	if p, _ := r.sender.Paused(); p.Count != 1 {
		t.Errorf("%d pauses", p.Count)
	}
	r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
	r.sleep(time.Second)
	r.wantCalls(3)
}
