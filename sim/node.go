package sim

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/egress"
)

var errTrouble = errors.New("the store is in trouble")

// node is one incarnation of a node: what it knows dies with it.
type node struct {
	line     *line
	bot      *parley.Bot
	name     string
	machine  int
	store    Store // the line's, as this node reaches it
	dead     bool
	rate     float64   // of its clock
	asleep   time.Time // until then
	talks    map[parley.Conversation]*talk
	desks    map[parley.Channel]*desk
	clerk    egress.Clerk
	gate     egress.Gate
	entrance *entrance
	land     *land // nil: all conversations and channels are its own
}

// talk is a conversation in a node's memory: the shell around its machine.
type talk struct {
	actors.Conversation

	awaits  bool         // the answer to a commit, or to the question for suspects
	tried   []parley.Row // which it may have noted as suspects
	leaving bool         // it was told to leave
	forgoes bool         // what it has noted is being acquitted
	left    bool         // it does nothing any more
}

const (
	doubtfulWait = 2 * time.Second
	leaseTTL     = 2 * time.Second
	sweepEvery   = 500 * time.Millisecond
	timersEvery  = 100 * time.Millisecond
	hop          = 20 * time.Millisecond // the longest way of anything between two parts
)

// boot starts a new incarnation of a node.
func (l *line) boot(ctx context.Context, i int) {
	old := l.nodes[i]
	if old != nil && !old.dead || l.shut {
		return // it was started already, or will be with the store
	}
	n := &node{
		line: l, bot: l.bot(i), machine: i, name: fmt.Sprintf("node-%d-%06d", i, l.tally.Steps), rate: 0.8 + 0.4*l.rng.Float64(),
		talks: map[parley.Conversation]*talk{}, desks: map[parley.Channel]*desk{},
	}
	n.store = reached{Store: l.store, node: n}
	faulty := faultyOutbox{store: n.store, line: l}
	n.clerk = egress.Clerk{Outbox: faulty, Receipts: faulty, Clock: n.clock, Announce: func(sent []parley.Receipt) bool { return n.announce(ctx, sent) }}
	n.gate = egress.Gate{Provider: egress.Graph{Client: graphAPI{node: n}, Account: l.account}, Clock: n.clock, Now: n.wall}
	l.nodes[i] = n
	var err error
	switch n.entrance, err = n.open(ctx, i); {
	case errors.Is(err, errDisk): // it ends, and is started again; what is on its folder stays
		if n.dead = true; old != nil {
			l.nodes[i] = old
		}
		l.later(nil, l.soon(bootMax), func() { l.boot(ctx, i) })
		return
	case err != nil:
		l.breaks(err)
		n.dead = true
		return
	}
	if l.cfg.Views {
		n.settle(ctx, l.inherit(old))
	}
	for _, ch := range l.channels() {
		n.desks[ch] = n.newDesk(ch)
		l.wakeSender(ctx, n, ch)
	}
	n.every(sweepEvery, func() { n.sweep(ctx) })
	n.every(timersEvery, func() { n.fire(ctx) })
	if l.walk == nil || l.walk.calls {
		n.every(callsEvery, func() { n.callOut(ctx) })
	}
	n.every(sweepEvery, n.forget)
}

// clock is the node's: it doesn't run at quite the speed of the others'.
func (n *node) clock() time.Duration {
	return time.Hour + time.Duration(n.rate*float64(n.line.now.Sub(n.line.start)))
}

func (n *node) every(d time.Duration, do func()) {
	n.line.later(n, n.line.soon(d), func() {
		do()
		n.every(d, do)
	})
}

// deliver passes rows that are stored to who runs their conversations.
func (n *node) deliver(ctx context.Context, rows []parley.Pending) {
	if n.land != nil {
		n.route(ctx, rows)
		return
	}
	n.line.hint(ctx, rows)
}

// hint passes rows to a node, unless they get lost on the way; sometimes twice,
// and sometimes to both.
func (l *line) hint(ctx context.Context, rows []parley.Pending) {
	for _, n := range l.nodes {
		for l.reaches(n, 0.55) {
			l.later(n, l.answer(), func() { n.hinted(ctx, rows) })
			if !l.with(LostHints) {
				break
			}
		}
	}
}

func (n *node) hinted(ctx context.Context, rows []parley.Pending) {
	byTalk := map[parley.Conversation][]parley.Pending{}
	var order []parley.Conversation
	for _, p := range rows {
		if _, ok := byTalk[p.Conversation]; !ok {
			order = append(order, p.Conversation)
		}
		byTalk[p.Conversation] = append(byTalk[p.Conversation], p)
	}
	for _, id := range order {
		c := n.talk(id)
		c.Hint(byTalk[id])
		n.advance(ctx, c)
	}
}

func (n *node) talk(id parley.Conversation) *talk {
	c, ok := n.talks[id]
	if !ok {
		c = &talk{Conversation: actors.NewConversation(id)}
		n.talks[id] = c
		if n.land != nil {
			n.land.shard(id.Shard()).doubtIn(c)
		}
	}
	return c
}

// forget lets an idle conversation leave memory.
func (n *node) forget() {
	for _, id := range sorted(n.talks) {
		if n.talks[id].Idle() && n.line.chance(0.2) {
			delete(n.talks, id)
		}
	}
}

func sorted[V any](m map[parley.Conversation]V) []parley.Conversation {
	ids := make([]parley.Conversation, 0, len(m))
	for id := range m {
		ids = append(ids, id)
	}
	slices.SortFunc(ids, func(a, b parley.Conversation) int {
		if a.String() < b.String() {
			return -1
		}
		return 1
	})
	return ids
}

// advance does what the machine wants: the shell of actors, in operations.
func (n *node) advance(ctx context.Context, c *talk) {
	l := n.line
	switch c.Next() {
	case actors.Rest:
	case actors.Load:
		l.tally.Loads++
		l.later(n, l.soon(hop), func() { n.load(ctx, c) })
	case actors.Ask:
		l.tally.Asked++
		keys := c.OlderKeys()
		l.later(n, l.soon(hop), func() {
			found, err := n.store.Older(ctx, c.ID(), keys)
			if l.chance(l.cfg.Trouble) {
				found, err = nil, errTrouble
			}
			l.later(n, l.answer(), func() { n.told(ctx, c, c.Older(keys, found, err)) })
		})
	case actors.Try:
		n.tryRows(ctx, c)
	case actors.Think:
		n.think(ctx, c)
	case actors.Pause:
		n.told(ctx, c, true)
	case actors.Forward:
		l.later(n, l.soon(hop), func() { n.seek(ctx, c.MergedInto()) })
	}
}

// seek is what one conversation passes on to the one it was merged into.
func (n *node) seek(ctx context.Context, id parley.Conversation) {
	if n.land != nil {
		n.toOwner(ctx, message{id: id, seek: true})
		return
	}
	c := n.talk(id)
	c.Seek()
	n.advance(ctx, c)
}

func (n *node) told(ctx context.Context, c *talk, paused bool) {
	if c.leaving {
		n.leave(ctx, c)
		return
	}
	if paused {
		n.line.later(n, c.Backoff(), func() {
			c.Resume()
			n.told(ctx, c, false)
		})
		return
	}
	n.advance(ctx, c)
}

func (n *node) load(ctx context.Context, c *talk) {
	l := n.line
	got, err := n.store.Load(ctx, c.ID(), parley.MaxPendingPerTurn)
	if l.chance(l.cfg.Trouble) {
		got, err = parley.Loaded{}, errTrouble
	}
	l.later(n, l.answer(), func() { n.told(ctx, c, c.Loaded(got, err)) })
}

func (n *node) think(ctx context.Context, c *talk) {
	l := n.line
	s, rows, older := c.Turn()
	commit := parley.Step(n.bot, s, rows, parley.Circumstance{
		Nonce: l.random(), Older: older, BotVersion: l.everybody(n), Condemned: condemned(c),
	})
	if commit.PutOff != "" {
		l.tally.PutOff++
		c.PutOff()
		n.told(ctx, c, true)
		return
	}
	if n.slept() {
		n.told(ctx, c, c.Committed(commit.Next, errSlept))
		return
	}
	acquit := c.Acquitted()
	c.awaits = true
	l.sent(n, l.soon(hop), func() {
		n.acquit(ctx, acquit)
		errs, err := n.commit(ctx, commit)
		l.later(n, l.answer(), func() {
			if err == nil {
				err = errs[0]
			}
			c.awaits = false
			n.told(ctx, c, c.Committed(commit.Next, err))
		})
		if err == nil && errs[0] == nil {
			n.woken(ctx, commit)
		}
	})
}

// commit is the store's, which may be in trouble before or after.
func (n *node) commit(ctx context.Context, c parley.Commit) ([]error, error) {
	l := n.line
	l.tally.Commits++
	if l.chance(l.cfg.Trouble) {
		l.tally.Failed++
		return nil, errTrouble
	}
	if err := l.checkVersion(ctx, &c); err != nil {
		return nil, err
	}
	errs, err := n.store.Commit(ctx, []parley.Commit{c})
	if err == nil && errors.Is(errs[0], parley.ErrConflict) {
		l.tally.Conflicts++
	}
	if l.chance(l.cfg.Trouble) {
		l.tally.LostAnswers++
		return nil, errTrouble
	}
	return errs, err
}

// woken passes on that a channel has something to send, mostly.
func (n *node) woken(ctx context.Context, c parley.Commit) {
	if len(c.Outbox) == 0 {
		return
	}
	if n.land != nil {
		n.notify(ctx, c.Conversation.Channel)
		return
	}
	for _, other := range n.line.nodes {
		if n.line.reaches(other, 0.7) {
			n.line.wakeSender(ctx, other, c.Conversation.Channel)
		}
	}
}

func (n *node) sweep(ctx context.Context) {
	ids, err := n.store.Overdue(ctx, n.owned, sweepEvery, 64)
	if err != nil {
		return
	}
	for _, id := range ids {
		n.line.tally.Woken++
		n.wake(ctx, id)
	}
	n.makeUp(ctx)
	for _, ch := range n.line.channels() {
		n.line.wakeSender(ctx, n, ch)
	}
}

// wake wakes a conversation that was found to have rows, if it is run here.
func (n *node) wake(ctx context.Context, id parley.Conversation) {
	if n.land != nil {
		n.arrive(ctx, message{id: id, passes: actors.MaxPasses})
		return
	}
	c := n.talk(id)
	c.Wake()
	n.advance(ctx, c)
}

func (n *node) fire(ctx context.Context) {
	l := n.line
	rows, err := troubled(l, func() ([]parley.Pending, error) {
		rows, _, err := n.store.FireTimers(ctx, n.owned, 16, timersEvery)
		return rows, err
	})
	if err == nil && len(rows) > 0 {
		n.deliver(ctx, rows)
	}
}
