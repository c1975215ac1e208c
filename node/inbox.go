package node

import (
	"context"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/ingress"
)

// inbox is the store's, and lets the senders know of receipts to be folded.
type inbox struct {
	ingress.Inbox
	wake func(parley.Channel)
}

// Append stores a and wakes the senders of the channels that it has receipts of.
func (i inbox) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	rows, err := i.Inbox.Append(ctx, a)
	if err != nil {
		return nil, err
	}
	var last parley.Channel
	for n := range a.Receipts {
		if ch := a.Receipts[n].Channel; ch != last { // receipts come in runs of one channel
			last = ch
			i.wake(ch)
		}
	}
	return rows, nil
}

// reporting is the store's receipts for the senders of the node. What they report is
// appended one after the other: it goes by the connections of the entrance, which
// need them.
type reporting struct {
	egress.Receipts
	inbox inbox
	turn  chan struct{}
}

// Append stores what a sender reports and wakes whoever has the channel now.
func (r reporting) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	select {
	case r.turn <- struct{}{}:
		defer func() { <-r.turn }()
		return r.inbox.Append(ctx, a)
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// quarantine is the store's, with a bound on each call: learning channels may be
// long as a whole, and must not hang.
type quarantine struct{ ingress.Quarantine }

// Quarantined is the store's.
func (q quarantine) Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return q.Quarantine.Quarantined(ctx, app, ch, after, limit)
}

// Release is the store's.
func (q quarantine) Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	ctx, cancel := context.WithTimeout(ctx, storeTimeout)
	defer cancel()
	return q.Quarantine.Release(ctx, ids, a)
}
