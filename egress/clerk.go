package egress

import (
	"context"
	"time"

	"github.com/parleychat/parley"
)

// A Clerk carries out what a Sender wants of the store and tells it how that
// ended. It keeps nothing: one serves all Senders of a node, or a simulation.
type Clerk struct {
	Outbox   Outbox
	Receipts Receipts
	// Announce lets another node append receipts of one channel, if there is one that may
	// have that by now, and reports whether there is. It doesn't block, and they may get
	// lost. Optional: there is no other.
	Announce func([]parley.Receipt) bool
	// Clock is the one that the Senders are driven by.
	Clock func() time.Duration
}

// Done is what came of an action.
type Done struct {
	Handovers []Handover       // of Claim: to be passed through a Gate now
	Rows      []parley.Pending // of Fold: new inbox rows
	Folded    int              // receipts
	Recalled  int              // of TakeLease: messages that the store held for claimed, see Outbox.Recall
	At        time.Duration    // when it ended
	Err       error            // the store's; the Sender knows of it
}

// Asked is the store's answer to an action.
type Asked struct {
	action   Action
	lease    parley.Lease
	recalled int
	rows     []parley.Claimed
	next     time.Duration
	folded   parley.Folded
	at       time.Duration
	err      error
}

// Do carries out a, which must be what s.Next returned last (with a smaller
// Limit, if the caller likes). It does nothing for a Rest.
func (c Clerk) Do(ctx context.Context, s *Sender, a Action) Done {
	switch a.Kind {
	case Rest:
		return Done{}
	case Announce:
		at := c.Clock()
		s.Announced(c.Announce != nil && c.Announce(a.Receipts), at)
		return Done{At: at}
	case TakeLease, Claim, Settle, Fold, Report:
	}
	return c.Tell(s, c.Ask(ctx, s, a), 0)
}

// Ask is the first half of Do, for an action of the store: it asks that, and doesn't
// change the Sender, which may meanwhile be told and asked other things.
func (c Clerk) Ask(ctx context.Context, s *Sender, a Action) Asked {
	r := Asked{action: a}
	switch a.Kind {
	case TakeLease:
		r.lease, r.err = c.Outbox.Lease(ctx, s.channel, s.holder, s.policy.LeaseTTL, a.Lease)
		if r.err == nil && r.lease.Epoch == a.Lease.Epoch {
			r.recalled, r.err = c.Outbox.Recall(ctx, r.lease, a.Open, s.policy.DoubtfulWait)
		}
	case Claim:
		r.rows, r.next, r.err = c.Outbox.Claim(ctx, a.Lease, s.places(a.Limit), s.policy.DoubtfulWait, s.policy.Horizon)
	case Settle:
		r.err = c.Outbox.Settle(ctx, a.Lease, a.Outcomes)
	case Fold:
		r.folded, r.err = c.Receipts.Fold(ctx, a.Lease, a.Limit)
	case Report:
		_, r.err = c.Receipts.Append(ctx, parley.Arrivals{Receipts: a.Receipts})
	case Rest, Announce:
	}
	r.at = c.Clock()
	return r
}

// Tell is the other half: it tells the Sender how that ended. now is the latest time that
// the Sender was told meanwhile.
func (c Clerk) Tell(s *Sender, r Asked, now time.Duration) Done {
	r.at = max(r.at, now)
	d := Done{At: r.at, Err: r.err}
	switch r.action.Kind {
	case TakeLease:
		d.Recalled = r.recalled
		s.Leased(r.lease, r.err, r.at)
		if d.Recalled > 0 {
			s.Wake(r.at)
		}
	case Claim:
		d.Handovers = s.Claimed(r.rows, r.next, r.err, r.at)
	case Settle:
		s.Settled(r.err, r.at)
	case Fold:
		d.Folded, d.Rows = r.folded.Receipts, r.folded.Rows
		s.Folded(r.folded, r.err, r.at)
	case Report:
		s.Reported(r.err, r.at)
	case Rest, Announce:
	}
	return d
}
