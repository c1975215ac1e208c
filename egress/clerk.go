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
	// Announce lets another node append receipts, if there is one that may have a
	// channel of theirs by now and is reached. It doesn't block, and they may get lost.
	// Optional: there is no other.
	Announce func([]parley.Receipt)
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

// Do carries out a, which must be what s.Next returned last (with a smaller
// Limit, if the caller likes). It does nothing for a Rest.
func (c Clerk) Do(ctx context.Context, s *Sender, a Action) Done {
	d := Done{}
	switch a.Kind {
	case TakeLease:
		var l parley.Lease
		l, d.Err = c.Outbox.Lease(ctx, s.channel, s.holder, s.policy.LeaseTTL, a.Lease)
		if d.Err == nil && l.Epoch == a.Lease.Epoch {
			d.Recalled, d.Err = c.Outbox.Recall(ctx, l, a.Open, s.policy.DoubtfulWait)
		}
		d.At = c.Clock()
		s.Leased(l, d.Err, d.At)
		if d.Recalled > 0 {
			s.Wake(d.At)
		}
	case Claim:
		var rows []parley.Claimed
		var next time.Duration
		rows, next, d.Err = c.Outbox.Claim(ctx, a.Lease, s.places(a.Limit), s.policy.DoubtfulWait, s.policy.Horizon)
		d.At = c.Clock()
		d.Handovers = s.Claimed(rows, next, d.Err, d.At)
	case Settle:
		d.Err = c.Outbox.Settle(ctx, a.Lease, a.Outcomes)
		d.At = c.Clock()
		s.Settled(d.Err, d.At)
	case Fold:
		var f parley.Folded
		f, d.Err = c.Receipts.Fold(ctx, a.Lease, a.Limit)
		d.Folded, d.Rows, d.At = f.Receipts, f.Rows, c.Clock()
		s.Folded(f, d.Err, d.At)
	case Report:
		_, d.Err = c.Receipts.Append(ctx, parley.Arrivals{Receipts: a.Receipts})
		d.At = c.Clock()
		s.Reported(d.Err, d.At)
	case Announce:
		if c.Announce != nil {
			c.Announce(a.Receipts)
		}
		d.At = c.Clock()
		s.Announced(d.At)
	case Rest:
	}
	return d
}
