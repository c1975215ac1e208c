package node

import (
	"context"

	"github.com/parleychat/parley"
)

// letterOffice is what the admin API does with dead letters.
type letterOffice struct{ n *Node }

// DeadLetters are the store's.
func (o letterOffice) DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error) {
	if !o.n.serves() {
		return nil, errStarting
	}
	return o.n.store.DeadLetters(ctx, q)
}

// Retry puts a dead letter back on its road, and tells those who wait at the end of
// it, here or on another node. Like any hint that may be lost: then the sweeper finds
// the event, and the sender looks for the message, a little later.
func (o letterOffice) Retry(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	if !o.n.serves() {
		return parley.DeadLetter{}, errStarting
	}
	r, err := o.n.store.RetryDeadLetter(ctx, id)
	if err != nil {
		return r.Letter, err
	}
	if len(r.Rows) > 0 {
		o.n.host.Deliver(r.Rows)
	} else {
		o.n.host.Notify(r.Letter.Conversation.Channel)
	}
	return r.Letter, nil
}

// Drop is the store's.
func (o letterOffice) Drop(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	if !o.n.serves() {
		return parley.DeadLetter{}, errStarting
	}
	return o.n.store.DropDeadLetter(ctx, id)
}
