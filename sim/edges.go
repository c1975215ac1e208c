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
	armed   time.Duration // when a look at it is on the agenda, by the node's clock; 0: none
	stopped bool          // the channel has become another node's
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
	switch a := d.sender.Next(n.clock()); {
	case a.Kind == egress.Rest && d.stopped && a.Idle:
		n.handBack(ctx, ch)
	case a.Kind == egress.Rest:
		if !a.Idle {
			n.arm(ctx, ch, d, a.Until)
		}
	case a.Kind == egress.Announce:
		n.clerk.Do(ctx, d.sender, a)
		l.later(n, l.soon(hop), func() { n.look(ctx, ch) })
	case n.cutOff(): // which it finds out when its time is over
		asked := n.clerk.Ask(ctx, d.sender, a)
		l.later(n, l.soon(egress.StoreTimeout), func() { n.asked(ctx, ch, d, asked) })
		n.look(ctx, ch)
	default:
		if a.Kind == egress.Claim {
			l.tally.Claims++
		}
		n.asked(ctx, ch, d, n.clerk.Ask(ctx, d.sender, a))
	}
}

// arm looks again at a time, or before.
func (n *node) arm(ctx context.Context, ch parley.Channel, d *desk, until time.Duration) {
	now := n.clock()
	if until-now >= time.Hour || d.armed > now && d.armed <= until {
		return
	}
	at := max(until, now+time.Millisecond)
	d.armed = at
	n.line.later(n, at-now, func() {
		if d.armed == at {
			d.armed = 0
			n.look(ctx, ch)
		}
	})
}

// asked tells a Sender what the store said.
func (n *node) asked(ctx context.Context, ch parley.Channel, d *desk, asked egress.Asked) {
	l := n.line
	done := n.clerk.Tell(d.sender, asked, n.clock())
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
// others. It doesn't get lost: with a doubtfulWait as short as here, whoever sends for the
// channel doesn't listen for long enough to be told twice.
func (n *node) announce(ctx context.Context, sent []parley.Receipt) bool {
	l, ch := n.line, sent[0].Channel
	if n.land != nil && (n.land.now == nil || n.sends(ch)) {
		return false
	}
	l.tally.Announced += len(sent)
	for i := range l.nodes {
		if i == n.machine || n.land != nil && addr(i) != n.land.now.Sender(ch.Shard()) {
			continue
		}
		l.later(nil, l.soon(hop), func() {
			l.later(l.nodes[i], 0, func() { l.nodes[i].announced(ctx, sent, announcedTries) })
		})
	}
	return true
}

// announced appends what another node has sent; if that fails, again.
func (n *node) announced(ctx context.Context, sent []parley.Receipt, tries int) {
	l := n.line
	if _, err := n.clerk.Receipts.Append(ctx, parley.Arrivals{Receipts: sent}); err == nil {
		l.wakeSender(ctx, n, sent[0].Channel)
		return
	}
	if tries > 1 {
		l.later(n, announcedWait, func() { n.announced(ctx, sent, tries-1) })
	}
}

const (
	announcedTries = 10
	announcedWait  = 100 * time.Millisecond
)

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
