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
	// Clock is the one that the Senders are driven by.
	Clock func() time.Duration
}

// Done is what came of an action.
type Done struct {
	Handovers []Handover       // of Claim: to be passed through a Gate now
	Rows      []parley.Pending // of Fold: new inbox rows
	Folded    int              // receipts
	Err       error            // the store's; the Sender knows of it
}

// Do carries out a, which must be what s.Next returned last (with a smaller
// Limit, if the caller likes). It does nothing for a Rest.
func (c Clerk) Do(ctx context.Context, s *Sender, a Action) Done {
	switch a.Kind {
	case TakeLease:
		l, err := c.Outbox.Lease(ctx, s.channel, s.holder, s.policy.LeaseTTL, a.Lease)
		s.Leased(l, err, c.Clock())
		return Done{Err: err}
	case Claim:
		rows, next, err := c.Outbox.Claim(ctx, a.Lease, a.Limit, s.policy.DoubtfulWait, s.policy.Horizon)
		return Done{Handovers: s.Claimed(rows, next, err, c.Clock()), Err: err}
	case Settle:
		err := c.Outbox.Settle(ctx, a.Lease, a.Outcomes)
		s.Settled(err, c.Clock())
		return Done{Err: err}
	case Fold:
		n, rows, err := c.Receipts.Fold(ctx, a.Lease, a.Limit)
		s.Folded(n, err, c.Clock())
		return Done{Rows: rows, Folded: n, Err: err}
	case Rest:
	}
	return Done{}
}
