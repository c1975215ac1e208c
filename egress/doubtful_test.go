package egress_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// lost leaves one message doubtful: its sender is gone, and the wait is over.
func lost(t *testing.T, p egress.Policy) *rig {
	t.Helper()
	r := newRig(t, p)
	r.write(1, "a")
	r.run()
	r.wantCalls(1)
	r.calls = nil
	p.Random = middle
	r.sender = egress.NewSender(page, "its successor", p)
	r.now += egress.LeaseTTL + egress.DoubtfulWait
	return r
}

func TestSenderDoubtful(t *testing.T) {
	t.Parallel()
	id := outgoing(talk(page, "a"), 1).ID
	// The proof came while nobody was there to fold it.
	t.Run("LooksBeforeItSendsAgain", func(t *testing.T) {
		t.Parallel()
		for _, gather := range []time.Duration{-1, egress.Gather} {
			r := lost(t, egress.Policy{Gather: gather})
			r.store.proofs = append(r.store.proofs, id)
			r.sender.Wake(r.now)
			r.sleep(5 * time.Second)
			r.wantCalls(0)
			if r.store.left() != 0 {
				t.Error("it is still in the outbox")
			}
		}
	})
	t.Run("LooksAgainWhileOthersAreSent", func(t *testing.T) {
		t.Parallel()
		r := lost(t, egress.Policy{MaxInFlight: 2})
		for i := range 50 {
			r.store.add(outgoing(talk(page, "b"), i+1))
		}
		r.store.proofs = append(r.store.proofs, id)
		r.sender.Wake(r.now)
		for range 200 {
			r.sleep(20 * time.Millisecond)
			for len(r.calls) > 0 {
				if r.calls[0].ID == id {
					t.Fatal("sent again, though it was proven to have been sent")
				}
				r.answer(egress.Answer{Kind: egress.Accepted})
			}
		}
		if n := r.store.left(); n != 0 {
			t.Errorf("%d left", n)
		}
	})
	t.Run("IsSentAgainIfNothingIsFound", func(t *testing.T) {
		t.Parallel()
		r := lost(t, egress.Policy{})
		r.sender.Wake(r.now)
		r.sleep(testHearing + time.Second)
		r.wantCalls(1)
		if h := r.calls[0]; !h.Doubtful || h.Attempts != 0 {
			t.Errorf("handed over as %+v", h)
		}
	})
	t.Run("IsGivenUpIfThatIsThePolicy", func(t *testing.T) {
		t.Parallel()
		r := lost(t, egress.Policy{GiveUpDoubtful: true})
		r.sender.Wake(r.now)
		r.sleep(testHearing + time.Second)
		r.wantCalls(0)
		if o := r.last(); o.Kind != parley.Returned || o.Why != parley.OutcomeUnknown || o.ID != id {
			t.Errorf("settled as %+v", o)
		}
	})
	t.Run("ASignalIsGivenTwice", func(t *testing.T) {
		t.Parallel()
		r := lost(t, egress.Policy{GiveUpDoubtful: true})
		r.store.rows[0].Send = parley.Send{Signal: &parley.Signal{Kind: parley.Typing}}
		r.sender.Wake(r.now)
		r.sleep(time.Second)
		r.wantCalls(1)
	})
}

// What is silenced isn't handed over: its bot is told. What isn't the bot's is.
func TestSenderSilenced(t *testing.T) {
	t.Parallel()
	silence := func(r *rig, s parley.Send) {
		r.write(1, "a")
		r.store.rows[0].silenced, r.store.rows[0].Send = true, s
		r.sender.Wake(r.now)
		r.sleep(time.Second)
	}
	t.Run("IsGivenBack", func(t *testing.T) {
		t.Parallel()
		for _, s := range []parley.Send{{Text: "x"}, {Text: "x", Bulk: true}, {Template: &parley.Template{Name: "n"}}} {
			r := newRig(t, egress.Policy{})
			silence(r, s)
			r.wantCalls(0)
			if o := r.last(); o.Kind != parley.Returned || o.Why != parley.TakenOver || o.Cause == "" {
				t.Errorf("settled as %+v", o)
			}
		}
	})
	t.Run("IsSentIfItIsNotTheBots", func(t *testing.T) {
		t.Parallel()
		for _, s := range []parley.Send{{Text: "x", HumanAgent: true}, {Signal: &parley.Signal{Kind: parley.Typing}}} {
			r := newRig(t, egress.Policy{})
			silence(r, s)
			r.wantCalls(1)
		}
	})
	t.Run("IsLookedForIfItIsDoubtful", func(t *testing.T) {
		t.Parallel()
		for _, proven := range []bool{true, false} {
			r := lost(t, egress.Policy{})
			r.store.rows[0].silenced = true
			if proven {
				r.store.proofs = append(r.store.proofs, r.store.rows[0].ID)
			}
			r.sender.Wake(r.now)
			r.sleep(testHearing + 5*time.Second)
			r.wantCalls(0)
			if o := r.last(); r.store.left() != 0 || (o.Kind == parley.Returned && o.Why == parley.OutcomeUnknown) == proven {
				t.Errorf("proven %v: %d left, settled as %+v", proven, r.store.left(), o)
			}
		}
	})
}

// A look of a moment before a doubtful message is due doesn't show what came since.
func TestSenderLooksWhenItIsDue(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{})
	r.write(1, "a")
	r.sleep(200 * time.Millisecond)
	r.answer(egress.Answer{Kind: egress.Unknown, Cause: "timeout"})
	r.sleep(egress.DoubtfulWait - 500*time.Millisecond)
	r.sender.Wake(r.now)
	r.sleep(400 * time.Millisecond)
	r.wantProven()
}

// wantProven has the message of a proven, and wants it to be found in time.
func (r *rig) wantProven() {
	r.t.Helper()
	r.store.proofs = append(r.store.proofs, outgoing(talk(page, "a"), 1).ID)
	r.sleep(5 * time.Second)
	r.wantCalls(0)
	if r.store.left() != 0 {
		r.t.Error("it is still in the outbox")
	}
}

// The proof comes when the last claim has looked already: what is behind the message
// that is found doesn't wait for the end of its doubtful wait.
func TestSenderGoesOnAfterAProof(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{})
	r.write(2, "a")
	r.run()
	r.answer(egress.Answer{Kind: egress.Unknown, Cause: "timeout"})
	r.sleep(time.Second)
	r.wantCalls(0)
	r.store.fault = func(step string, after bool) error {
		if step == "claim" && after {
			r.store.proofs = append(r.store.proofs, outgoing(talk(page, "a"), 1).ID)
			r.store.fault = func(string, bool) error { return nil }
		}
		return nil
	}
	r.sender.Wake(r.now)
	r.sleep(time.Second)
	r.wantCalls(1)
}

// The second message leaves when the first has arrived, or when that is waited for
// no longer; others don't wait.
func TestSenderAwaitsDelivery(t *testing.T) {
	t.Parallel()
	first := outgoing(talk(page, "a"), 1).ID
	begin := func(t *testing.T) *rig {
		t.Helper()
		r := newRig(t, egress.Policy{AwaitDelivered: 10 * time.Second})
		r.write(2, "a")
		r.run()
		r.wantCalls(1)
		return r
	}
	t.Run("UntilItIsTold", func(t *testing.T) {
		t.Parallel()
		r := begin(t)
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.sleep(3 * time.Second)
		r.wantCalls(0)
		r.write(1, "b")
		r.sleep(time.Second)
		r.wantCalls(1)
		r.store.told = append(r.store.told, first)
		r.sender.Wake(r.now)
		r.sleep(2 * time.Second)
		r.wantCalls(2)
	})
	t.Run("ToldBeforeTheAnswer", func(t *testing.T) {
		t.Parallel()
		r := begin(t)
		r.store.told = append(r.store.told, first)
		r.sender.Wake(r.now)
		r.sleep(2 * time.Second)
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.sleep(200 * time.Millisecond)
		r.wantCalls(1)
	})
	t.Run("NotForEver", func(t *testing.T) {
		t.Parallel()
		r := begin(t)
		r.answer(egress.Answer{Kind: egress.Accepted})
		r.sleep(9 * time.Second)
		r.wantCalls(0)
		r.sleep(2 * time.Second)
		r.wantCalls(1)
	})
}
