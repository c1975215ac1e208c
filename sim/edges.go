package sim

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/meta"
	"github.com/parleychat/parley/meta/metatest"
)

// channels are the channels of the simulated brand.
func (l *line) channels() []parley.Channel {
	out := make([]parley.Channel, 0, len(l.world.Channels()))
	for _, c := range l.world.Channels() {
		out = append(out, parley.Channel{Brand: l.cfg.Brand, Kind: parley.ChannelKind(c.Platform), ID: c.ID})
	}
	return out
}

func (l *line) register(ctx context.Context) error {
	for _, ch := range l.channels() {
		if _, err := l.store.Register(ctx, parley.Registration{App: parley.App(l.world.Config().App), Channel: ch}); err != nil {
			return fmt.Errorf("register %s: %w", ch, err)
		}
	}
	return nil
}

// desk is the shell around a Sender, in operations.
type desk struct {
	sender  *egress.Sender
	armed   bool // a look at it is on the agenda
	stopped bool // the channel has become another node's
}

func (n *node) newDesk(ch parley.Channel) *desk {
	return &desk{sender: egress.NewSender(ch, n.name, egress.Policy{
		LeaseTTL: leaseTTL, DoubtfulWait: doubtfulWait, Random: n.line.rng.Float64,
	})}
}

func (l *line) wakeSender(ctx context.Context, n *node, ch parley.Channel) {
	if !n.sends(ch) {
		return
	}
	l.later(n, l.soon(hop), func() {
		n.desks[ch].sender.Wake(n.clock())
		n.look(ctx, ch)
	})
}

// look does what the Sender of a channel wants.
func (n *node) look(ctx context.Context, ch parley.Channel) {
	l, d := n.line, n.desks[ch]
	a := d.sender.Next(n.clock())
	if a.Kind == egress.Rest {
		if d.stopped && a.Idle {
			n.handBack(ctx, ch)
			return
		}
		if wait := a.Until - n.clock(); !a.Idle && wait < time.Hour && !d.armed {
			d.armed = true
			l.later(n, max(wait, time.Millisecond), func() {
				d.armed = false
				n.look(ctx, ch)
			})
		}
		return
	}
	done := n.clerk.Do(ctx, d.sender, a)
	if a.Kind == egress.Claim {
		l.tally.Claims++
	}
	for _, h := range done.Handovers {
		l.later(n, l.soon(hop), func() { n.send(ctx, ch, h) })
	}
	if len(done.Rows) > 0 {
		n.deliver(ctx, done.Rows)
	}
	l.later(n, l.soon(hop), func() { n.look(ctx, ch) })
}

// announce lets another node append what this one has sent and can't note: whoever sends
// for the channel, as far as this node has heard. Where each believes that it does, the
// others.
func (n *node) announce(ctx context.Context, sent []parley.Receipt) {
	l, ch := n.line, sent[0].Channel
	l.tally.Announced += len(sent)
	do := func(peer *node) {
		if _, err := peer.clerk.Receipts.Append(ctx, parley.Arrivals{Receipts: sent}); err == nil {
			l.wakeSender(ctx, peer, ch)
		}
	}
	if n.land == nil {
		for i := range l.nodes {
			if i != n.machine && !(l.with(LostHints) && l.chance(mailLoss)) {
				l.later(nil, l.answer(), func() { l.later(l.nodes[i], 0, func() { do(l.nodes[i]) }) })
			}
		}
		return
	}
	if n.land.now == nil {
		return
	}
	if to := n.land.now.Sender(ch.Shard()); to != "" && to != n.land.self.Addr {
		n.mail(to, do)
	}
}

func (n *node) send(ctx context.Context, ch parley.Channel, h egress.Handover) {
	l := n.line
	l.tally.Sends++
	if h.Doubtful {
		l.tally.Doubtful++
	}
	answer := n.gate.Pass(ctx, h)
	if answer.Kind == egress.Withheld {
		l.tally.Withheld++
	}
	l.later(n, l.soon(hop), func() {
		n.desks[ch].sender.Answered(answer, n.clock())
		n.look(ctx, ch)
	})
}

// graphAPI is the simulated Graph API as a client: the same encoding and the
// same reading of answers as over a socket.
type graphAPI struct{ node *node }

// Send hands a message to the simulated Meta.
func (g graphAPI) Send(_ context.Context, a meta.Account, o *parley.Outgoing) (string, error) {
	path, body, err := meta.EncodeSend(o, a.Sending)
	if err != nil {
		return "", err
	}
	closed := &meta.GraphError{Class: meta.ClassUnknown, Message: "connection closed"}
	l := g.node.line
	if l.with(BrokenSends) && l.chance(0.03) { // the connection breaks before Meta has the message
		l.tally.Broken++
		return "", closed
	}
	answer, err := access(g.node, graphName, func() (metatest.GraphAnswer, error) {
		return l.world.Graph(metatest.GraphRequest{Method: http.MethodPost, Path: "/v26.0/" + path, Token: a.Token, Body: body}, l.now), nil
	})
	if err != nil || answer.Withhold {
		return "", closed
	}
	return meta.ReadAnswer(o.Conversation.Channel.Kind, answer.Status, answer.Body)
}

func (l *line) account(ch parley.Channel) (meta.Account, bool) {
	for _, c := range l.world.Channels() {
		if c.ID == ch.ID {
			return meta.Account{Token: c.Token}, true
		}
	}
	return meta.Account{}, false
}

// faultyOutbox is the store's outbox in trouble: an operation fails before or
// after it took hold.
type faultyOutbox struct {
	store Store
	line  *line
}

func troubled[T any](l *line, do func() (T, error)) (T, error) {
	var none T
	if l.chance(l.cfg.Trouble) {
		return none, errTrouble
	}
	out, err := do()
	if l.chance(l.cfg.Trouble) {
		return none, errTrouble
	}
	return out, err
}

// Lease is the store's.
func (f faultyOutbox) Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	return troubled(f.line, func() (parley.Lease, error) { return f.store.Lease(ctx, ch, holder, ttl, have) })
}

// Recall is the store's.
func (f faultyOutbox) Recall(ctx context.Context, l parley.Lease, open []parley.ID, wait time.Duration) (int, error) {
	return troubled(f.line, func() (int, error) { return f.store.Recall(ctx, l, open, wait) })
}

// Claim is the store's.
func (f faultyOutbox) Claim(ctx context.Context, l parley.Lease, places parley.Places, wait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	var next time.Duration
	rows, err := troubled(f.line, func() (rows []parley.Claimed, err error) {
		rows, next, err = f.store.Claim(ctx, l, places, wait, horizon)
		return rows, err
	})
	return rows, next, err
}

// Settle is the store's.
func (f faultyOutbox) Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	_, err := troubled(f.line, func() (struct{}, error) { return struct{}{}, f.store.Settle(ctx, l, outcomes) })
	return err
}

// Yield is the store's.
func (f faultyOutbox) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	_, err := troubled(f.line, func() (struct{}, error) { return struct{}{}, f.store.Yield(ctx, holder, channels) })
	return err
}

// Fold is the store's.
func (f faultyOutbox) Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error) {
	return troubled(f.line, func() (parley.Folded, error) { return f.store.Fold(ctx, l, limit) })
}

// Append is the store's.
func (f faultyOutbox) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	return troubled(f.line, func() ([]parley.Pending, error) { return f.store.Append(ctx, a) })
}
