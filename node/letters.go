package node

import (
	"context"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
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
	r, err := o.n.store.RetryDeadLetter(ctx, id, o.n.reads())
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

// reads is the newest generation of stored forms that every member reads.
func (n *Node) reads() int {
	if n.members == nil {
		return parley.Format
	}
	return readByAll(n.members.cluster.View())
}

// readByAll is what the members of a view read. Who doesn't say reads the first.
func readByAll(v *cluster.View) int { return max(1, v.Format()) }

// Drop is the store's.
func (o letterOffice) Drop(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	if !o.n.serves() {
		return parley.DeadLetter{}, errStarting
	}
	return o.n.store.DropDeadLetter(ctx, id)
}
