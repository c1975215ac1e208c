package sim

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/proto"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/actors/wire"
)

// What nodes with views pass on to each other, as Host.route and the shards of actors do.

// message is a hint for a conversation, or, without rows, a wake.
type message struct {
	id     parley.Conversation
	rows   []parley.Pending
	seek   bool   // see Conversation.Seek
	passes uint32 // by nodes that don't run the shard
}

const mailLoss = 0.05

// mail brings something to the node at an address, whichever that is by then, unless it
// gets lost.
func (n *node) mail(to string, do func(peer *node)) {
	l := n.line
	if l.with(LostHints) && l.chance(mailLoss) {
		l.tally.MailLost++
		return
	}
	l.later(nil, l.answer(), func() {
		if peer := l.at(to); peer != nil && peer.land != nil {
			l.later(peer, 0, func() { do(peer) })
		}
	})
}

// route passes rows that are stored to the owners of their conversations.
func (n *node) route(ctx context.Context, rows []parley.Pending) {
	for _, m := range byTalk(rows) {
		n.toOwner(ctx, m)
	}
}

// byTalk are hints of rows.
func byTalk(rows []parley.Pending) (all []message) {
	at := map[parley.Conversation]int{}
	for _, p := range rows {
		i, ok := at[p.Conversation]
		if !ok {
			i = len(all)
			at[p.Conversation] = i
			all = append(all, message{id: p.Conversation})
		}
		all[i].rows = append(all[i].rows, p)
	}
	return all
}

// toOwner passes a message to the owner of its shard, as far as this node has heard. If
// there is none, it is lost.
func (n *node) toOwner(ctx context.Context, m message) {
	if n.land.now != nil {
		n.pass(ctx, n.land.now.Owner(m.id.Shard()), m)
	}
}

func (n *node) pass(ctx context.Context, to string, m message) {
	switch to {
	case "":
	case n.land.self.Addr:
		n.arrive(ctx, m)
	default:
		n.post(ctx, to, m)
	}
}

// post sends a message to another node. Its rows go as bytes, as they would over a link.
func (n *node) post(ctx context.Context, to string, m message) {
	parcel, err := packed(m.rows, m.passes)
	if err != nil {
		n.line.breaks(err)
		return
	}
	n.mail(to, func(peer *node) {
		rows, err := unpacked(parcel)
		if err != nil || len(rows) != len(m.rows) {
			n.line.breaks(fmt.Errorf("%d rows of a parcel of %d: %w", len(rows), len(m.rows), err))
			return
		}
		came := m
		if came.rows = nil; len(rows) > 0 {
			came.passes = rows[0].Passes
		}
		for i := range rows {
			came.rows = append(came.rows, rows[i].Pending)
		}
		peer.arrive(ctx, came)
	})
}

func packed(rows []parley.Pending, passes uint32) ([]byte, error) {
	routed := make([]actors.Routed, len(rows))
	for i := range rows {
		routed[i] = actors.Routed{Pending: rows[i], Passes: passes}
	}
	encoded, _, err := actors.RowsToWire(routed) // none here is so large that it becomes a wake
	if err != nil {
		return nil, fmt.Errorf("write a parcel: %w", err)
	}
	b, err := proto.Marshal(&wire.Parcel{Rows: encoded})
	if err != nil {
		return nil, fmt.Errorf("write a parcel: %w", err)
	}
	return b, nil
}

func unpacked(b []byte) ([]actors.Routed, error) {
	var p wire.Parcel
	if err := proto.Unmarshal(b, &p); err != nil {
		return nil, fmt.Errorf("read a parcel: %w", err)
	}
	rows, err := actors.RowsFromWire(p.GetRows())
	if err != nil {
		return nil, fmt.Errorf("read a parcel: %w", err)
	}
	return rows, nil
}

// arrive brings a message to its shard.
func (n *node) arrive(ctx context.Context, m message) {
	number := m.id.Shard()
	switch s := n.land.shard(number); s.state {
	case claiming:
		s.back = append(s.back, m)
	case held:
		n.take(ctx, m)
	case foreign:
		n.passOn(ctx, m)
	}
}

// take gives a message to its conversation.
func (n *node) take(ctx context.Context, m message) {
	c := n.talk(m.id)
	switch {
	case len(m.rows) > 0:
		c.Hint(m.rows)
	case m.seek:
		c.Seek()
	default:
		c.Wake()
	}
	n.advance(ctx, c)
}

// passOn passes on what came to a shard that isn't run here. What was passed on too often
// waits for whoever sweeps the shard.
func (n *node) passOn(ctx context.Context, m message) {
	w := n.land
	to := actors.Onward(w.self.Addr, w.now, w.before, m.id.Shard())
	if m.passes >= actors.MaxPasses || to == "" {
		n.line.tally.Dropped++
		return
	}
	n.line.tally.PassedOn++
	m.passes++
	n.pass(ctx, to, m)
}

// notify tells whoever is to send for a channel that there is something to send.
func (n *node) notify(ctx context.Context, ch parley.Channel) {
	if n.land.now == nil {
		return
	}
	if n.sends(ch) {
		n.line.wakeSender(ctx, n, ch)
		return
	}
	if to := n.land.now.Sender(ch.Shard()); to != "" {
		n.mail(to, func(peer *node) { n.line.wakeSender(ctx, peer, ch) })
	}
}
