package egress_test

import (
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
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

// announcing is a sender with messages to a and b under way, of a node that can't reach
// the store any more while others may: each call ends in an error, after took.
func announcing(t *testing.T, took time.Duration) (*rig, *[]parley.Receipt) {
	t.Helper()
	r := newRig(t, egress.Policy{Gather: -1})
	heard := &[]parley.Receipt{}
	r.clerk.Announce = func(sent []parley.Receipt) bool { *heard = append(*heard, sent...); return true }
	r.write(1, "a", "b")
	r.run()
	r.wantCalls(2)
	r.store.fault = func(_ string, after bool) error {
		if after {
			return nil
		}
		r.now += took
		return errStore
	}
	return r, heard
}

func works(string, bool) error { return nil }

// ids are those by which the provider knows what was announced.
func ids(sent []parley.Receipt) (all []string) {
	for i := range sent {
		all = append(all, sent[i].ProviderID)
	}
	return all
}

func sent(id string) egress.Answer { return egress.Answer{Kind: egress.Accepted, ProviderID: id} }

// What was sent and can't be noted is told to other nodes, who may send for the channel
// by now.
func TestSenderAnnounces(t *testing.T) {
	t.Parallel()
	t.Run("WhatItCantNote", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, 0)
		r.answer(sent("m1"))
		r.run()
		first := parley.Receipt{Channel: page, Status: parley.StatusSent, ProviderID: "m1", Row: outgoing(talk(page, "a"), 1).ID}
		if diff := cmp.Diff([]parley.Receipt{first}, *heard); diff != "" {
			t.Fatalf("heard (-want +got):\n%s", diff)
		}
		r.answer(sent("m2")) // it is told at once what is new
		r.run()
		if got := ids(*heard); !slices.Equal(got, []string{"m1", "m2"}) {
			t.Fatalf("heard %v", got)
		}
	})
	t.Run("WhileACallHangs", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, 0)
		r.answer(sent("m1"))
		if a := r.sender.Next(r.now); a.Kind != egress.Settle {
			t.Fatalf("wants to %s", a.Kind)
		}
		r.sleep(900 * time.Millisecond)
		if len(*heard) > 0 {
			t.Errorf("heard %v of a call that may succeed", ids(*heard))
		}
		r.sleep(100 * time.Millisecond)
		r.run()
		r.answer(sent("m2"))
		r.run()
		if got := ids(*heard); !slices.Equal(got, []string{"m1", "m2"}) {
			t.Errorf("heard %v", got)
		}
	})
	t.Run("BeforeTheNextCall", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, egress.StoreTimeout)
		r.write(1, "c")
		r.now += egress.Gather
		if a := r.step(); a.Kind == egress.Rest {
			t.Fatal("nothing is asked of the store")
		}
		r.answer(sent("m1"))
		if a := r.step(); a.Kind != egress.Announce || len(*heard) != 1 {
			t.Errorf("%s comes first", a.Kind)
		}
	})
}

// What nodes tell each other may get lost, and who is to send may change.
func TestSenderAnnouncesAgain(t *testing.T) {
	t.Parallel()
	t.Run("AgainUntilItIsNoted", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, 0)
		r.answer(sent("m1"))
		r.sleep(7 * time.Second) // before another sends it again, it may get lost twice
		if n := len(*heard); n < 3 {
			t.Errorf("announced %d times in 7 s", n)
		}
		r.sleep(53 * time.Second)
		if n := len(*heard); n < 14 || n > 18 {
			t.Errorf("announced %d times in a minute", n)
		}
		r.store.fault = works
		r.sleep(2 * time.Second)
		*heard = nil
		r.sleep(20 * time.Second)
		if len(*heard) > 0 {
			t.Errorf("announced %v, which is noted", ids(*heard))
		}
	})
	t.Run("EachSecondUntilSomebodyIsThere", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, 0)
		tries := 0
		r.clerk.Announce = func(sent []parley.Receipt) bool { *heard, tries = sent, tries+1; return false }
		r.answer(sent("m1"))
		r.run()
		r.answer(sent("m2"))
		r.sleep(20 * time.Second)
		if got := ids(*heard); tries < 19 || tries > 23 || !slices.Equal(got, []string{"m1", "m2"}) {
			t.Errorf("announced %d times in 20 s, last %v", tries, got)
		}
	})
	t.Run("AnewToWhoIsToSend", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, 0)
		r.answer(sent("m1"))
		r.sleep(4 * time.Second)
		*heard = nil
		r.sender.Stop()
		r.run()
		if got := ids(*heard); !slices.Equal(got, []string{"m1"}) {
			t.Errorf("heard %v", got)
		}
	})
}

// Nor is it noted soon where an epoch was lost and the store is slow.
func TestSenderAnnouncesReports(t *testing.T) {
	t.Parallel()
	t.Run("WhatIsReportedSlowly", func(t *testing.T) {
		t.Parallel()
		r := bereft(t)
		var heard []parley.Receipt
		r.clerk.Announce = func(sent []parley.Receipt) bool { heard = append(heard, sent...); return true }
		r.store.fault = func(_ string, after bool) error {
			if after {
				r.now += 4 * time.Second
			}
			return nil
		}
		from := r.now
		r.answer(sent("m1"))
		for len(heard) == 0 && r.now < from+testHearing {
			r.step()
		}
		if late := r.now - from; late > 4*time.Second {
			t.Errorf("announced after %v", late)
		}
	})
	t.Run("WhatItCantReport", func(t *testing.T) {
		t.Parallel()
		r := bereft(t)
		var heard []parley.Receipt
		r.clerk.Announce = func(sent []parley.Receipt) bool { heard = append(heard, sent...); return true }
		r.store.fault = func(step string, _ bool) error {
			if step == "append" {
				return errStore
			}
			return nil
		}
		r.answer(sent("m1"))
		r.answer(sent("m2"))
		r.sleep(3 * time.Second)
		if got := ids(heard); !slices.Contains(got, "m1") || !slices.Contains(got, "m2") {
			t.Errorf("heard %v", got)
		}
	})
}

func TestSenderAnnouncesNothingElse(t *testing.T) {
	t.Parallel()
	t.Run("NothingWhileTheStoreWorks", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, 0)
		r.store.fault = works
		r.answer(sent("m1"))
		r.sleep(5 * time.Second)
		r.answer(sent("m2"))
		r.sleep(5 * time.Second)
		if len(*heard) > 0 {
			t.Errorf("heard %v", ids(*heard))
		}
	})
	t.Run("NotWhatWasNotSent", func(t *testing.T) {
		t.Parallel()
		r, heard := announcing(t, 0)
		r.answer(egress.Answer{Kind: egress.Rejected})
		r.answer(egress.Answer{Kind: egress.Accepted}) // without an id nobody can be told of it
		r.sleep(5 * time.Second)
		if len(*heard) > 0 {
			t.Errorf("heard %+v", *heard)
		}
	})
}
