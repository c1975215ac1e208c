package egress_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley/egress"
)

// testHearing is how long an epoch is too young to repeat what is doubtful.
const testHearing = 7 * time.Second

// bereft is a sender with a message to each of a and b under way, whose lease
// another has got.
func bereft(t *testing.T) *rig {
	t.Helper()
	r := newRig(t, egress.Policy{Gather: -1})
	r.write(1, "a", "b")
	r.run()
	r.wantCalls(2)
	r.now += testTTL
	takeover(r)
	return r
}

func (r *rig) wantReported(ids ...string) {
	r.t.Helper()
	r.run()
	if len(r.store.reported) != len(ids) {
		r.t.Fatalf("reported %v, want %v", r.store.reported, ids)
	}
	for i, id := range ids {
		if got := r.store.reported[outgoing(talk(page, string(rune('a'+i))), 1).ID]; got != id {
			r.t.Fatalf("reported %v, want %v", r.store.reported, ids)
		}
	}
}

// What was sent under a lease that another has got meanwhile is told as the provider
// would tell it.
func TestSenderReports(t *testing.T) {
	t.Parallel()
	sent := func(id string) egress.Answer { return egress.Answer{Kind: egress.Accepted, ProviderID: id} }
	t.Run("WhatIsAnsweredBeforeAndAfterItKnows", func(t *testing.T) {
		t.Parallel()
		r := bereft(t)
		r.answer(sent("m1"))
		r.wantReported("m1")
		r.answer(sent("m2"))
		r.wantReported("m1", "m2")
		r.sleep(testTTL + testDoubt + testHearing + time.Second)
		r.wantCalls(0)
		if r.store.left() != 0 {
			t.Error("still in the outbox")
		}
	})
	t.Run("AgainIfTheStoreFails", func(t *testing.T) {
		t.Parallel()
		r := bereft(t)
		r.store.fault = failOnce("append", false)
		r.answer(sent("m1"))
		r.wantReported()
		r.sleep(time.Second)
		r.wantReported("m1")
	})
	t.Run("BeforeItIsIdle", func(t *testing.T) {
		t.Parallel()
		r := bereft(t)
		r.answer(sent("m1"))
		r.run()
		r.sender.Stop()
		if a := r.run(); a.Idle {
			t.Fatal("idle while a message is with the provider")
		}
		r.store.fault = failOnce("append", false)
		r.answer(sent("m2"))
		if a := r.run(); a.Idle {
			t.Fatal("idle before it has reported")
		}
		r.sleep(time.Second)
		r.wantReported("m1", "m2")
		if a := r.run(); !a.Idle {
			t.Fatalf("not idle: %+v", a)
		}
	})
	t.Run("NothingElse", func(t *testing.T) {
		t.Parallel()
		r := bereft(t)
		r.answer(egress.Answer{Kind: egress.Rejected})
		r.answer(egress.Answer{Kind: egress.Accepted}) // without an id nobody can be told of it
		r.wantReported()
	})
}

// Whoever gets the lease of a sender that the store had lost hears it out, though
// the doubtful message has waited for long enough.
func TestSenderHearsItsPredecessorOut(t *testing.T) {
	t.Parallel()
	r := lost(t, egress.Policy{})
	r.sender.Wake(r.now)
	r.sleep(testHearing - 100*time.Millisecond)
	r.wantCalls(0)
	r.wantProven()
}

// A claim whose answer is lost begins an epoch that nobody can know better of: what is
// doubtful isn't put off by that, however often it happens.
func TestSenderHearsNobodyOutOfItsOwnEpochs(t *testing.T) {
	t.Parallel()
	r := lost(t, egress.Policy{})
	r.store.fault = func(step string, after bool) error {
		if step == "claim" && !after && r.store.claims%3 == 2 {
			r.store.claims++
			return errStore
		}
		return nil
	}
	for i := range 400 {
		r.store.add(outgoing(talk(page, "b"), i+1))
		r.sender.Wake(r.now)
		r.sleep(50 * time.Millisecond)
		for len(r.calls) > 0 {
			if r.calls[0].Doubtful && r.calls[0].Conversation == talk(page, "a") {
				return
			}
			r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
		}
	}
	t.Error("what is doubtful isn't sent while claims fail now and then")
}

// A caller that never comes back doesn't keep a sender that has lost the lease.
func TestSenderWaitsForCallersForAWhile(t *testing.T) {
	t.Parallel()
	r := bereft(t)
	r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m1"})
	r.run()
	r.sender.Stop()
	r.sleep(testDoubt - time.Second)
	if a := r.run(); a.Idle {
		t.Fatal("idle while a message is with the provider")
	}
	r.sleep(2 * time.Second)
	if a := r.run(); !a.Idle {
		t.Errorf("not idle: %+v", a)
	}
}

// Reports that fail are tried now and then, though all else goes well.
func TestSenderReportsWithBackOff(t *testing.T) {
	t.Parallel()
	r := bereft(t)
	tries := 0
	r.store.fault = func(step string, after bool) error {
		if step != "append" || after {
			return nil
		}
		tries++
		return errStore
	}
	r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m1"})
	r.answer(egress.Answer{Kind: egress.Retryable})
	for i := range 1000 {
		r.store.add(outgoing(talk(page, "c"), i+1))
		r.sender.Wake(r.now)
		r.sleep(60 * time.Millisecond)
		for len(r.calls) > 0 {
			r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
		}
	}
	if tries < 30 || tries > 120 {
		t.Errorf("%d tries in a minute", tries)
	}
}
