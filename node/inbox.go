package node

import (
	"context"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// inbox is the store's, and lets the senders know of receipts to be folded.
type inbox struct {
	*embedded.Store
	wake func(parley.Channel)
}

// Append stores a and wakes the senders of the channels that it has receipts of.
func (i inbox) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	rows, err := i.Store.Append(ctx, a)
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
