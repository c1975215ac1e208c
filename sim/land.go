package sim

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/cluster"
)

var (
	errSlept = errors.New("this node has not run for a while")
	errLeft  = errors.New("a conversation was let go of before all was settled that the next node must know")
)

// land is what a node with views runs: its territory, and the shell around that, which is
// that of actors (Host.place and the shards) in operations.
type land struct {
	*actors.Territory

	node   *node
	self   cluster.Member
	heard  map[string]rumour           // by the member's name
	met    bool                        // it has heard of others, or waited for them for long enough
	view   *cluster.View               // nil: none yet
	viewed *cluster.View               // the one before
	now    actors.Placement            // of view
	before actors.Placement            // the one before
	own    actors.ShardSet             // by now
	awake  time.Duration               // when it was last seen to run, by its clock
	shards []*shard                    // by number; nil: nothing has happened in it
	deeds  []func(ctx context.Context) // that the territory wants
	empty  actors.ShardSet             // let go of, without a conversation
	noted  map[parley.Row]bool         // rows that were noted as suspects; true: and whose acquittal failed
}

// shard is what a node has of a shard in which something has happened.
type shard struct {
	state   state
	back    []message // held back
	leaving map[parley.Conversation]*talk
	opened  *serve    // to be done when they have left
	doubted time.Time // rows received by then are doubted; zero: none
}

type state uint8

const (
	foreign state = iota
	claiming
	held
)

// serve is what a shard is opened with.
type serve struct {
	waiting []parley.Conversation // that have pending rows
	doubted time.Time
}

// doubtIn tells a new conversation of the shard what to doubt.
func (s *shard) doubtIn(c *talk) {
	if !s.doubted.IsZero() {
		c.Doubt(s.doubted)
	}
}

// addr is where the node on a machine is reached.
func addr(machine int) string { return fmt.Sprintf("machine-%d:1", machine) }

// at is the node that is reached at an address.
func (l *line) at(address string) *node {
	for i := range l.nodes {
		if addr(i) == address {
			return l.nodes[i]
		}
	}
	return nil
}

// settle gives a node that has just begun a territory, of which nothing is its own yet,
// and what it has to acquit.
func (n *node) settle(ctx context.Context, noted map[parley.Row]bool) {
	l := n.line
	w := &land{
		node: n, heard: map[string]rumour{}, shards: make([]*shard, parley.Shards), noted: noted, awake: n.clock(),
		self: cluster.Member{Name: n.name, Addr: addr(n.machine), Roles: cluster.Roles()},
	}
	w.Territory = actors.NewTerritory(w.self.Addr, w)
	n.land = w
	r := l.rumour(w.self, false)
	n.hear(ctx, r)
	l.tell(ctx, r, 0)
	if n.cutOff() {
		l.feel(ctx, n.machine)
	}
	n.every(meetEvery, func() { n.meet(ctx) })
	n.every(placeEvery, func() { n.tick(ctx) })
	l.later(n, aloneFor, func() {
		w.met = true
		n.place(ctx)
	})
}

// slept reports whether a node has not run for so long that others may have taken what it
// runs.
func (n *node) slept() bool { return n.land != nil && n.clock()-n.land.awake > actors.SleptFor }

// tick does what is due in a node's territory.
func (n *node) tick(ctx context.Context) {
	if n.slept() {
		n.line.tally.Evictions++
		n.rule(ctx, (*actors.Territory).Evict)
	}
	n.land.awake = n.clock()
	n.rule(ctx, (*actors.Territory).Tick)
	n.line.compare(n)
}

// compare counts how far nodes differ.
func (l *line) compare(n *node) {
	for _, other := range l.nodes {
		if other == n || other.dead || other.land == nil || other.land.now == nil || n.land.now == nil {
			continue
		}
		for id := range n.talks {
			s := id.Shard()
			if n.land.now.Owner(s) != other.land.now.Owner(s) {
				l.tally.Disagreed++
			}
			if n.land.Holds(s) && other.land.Holds(s) {
				l.tally.HeldByTwo++
			}
		}
	}
}

// rule lets a territory decide something, and does what it wants then.
func (n *node) rule(ctx context.Context, decide func(t *actors.Territory, now time.Duration)) {
	w := n.land
	decide(w.Territory, n.clock())
	for len(w.deeds) > 0 {
		do := w.deeds[0]
		w.deeds = w.deeds[1:]
		do(ctx)
	}
}

func (w *land) do(deed func(ctx context.Context)) { w.deeds = append(w.deeds, deed) }

// Hold is actors.Ground's.
func (w *land) Hold(number uint16) {
	w.do(func(context.Context) { w.shard(number).state = claiming })
}

// LetGo is actors.Ground's.
func (w *land) LetGo(number uint16) {
	w.do(func(ctx context.Context) { w.letGo(ctx, number) })
}

// Ask is actors.Ground's.
func (w *land) Ask(to string, claim uint64, shards actors.ShardSet) {
	w.do(func(ctx context.Context) {
		w.node.mail(to, func(peer *node) {
			peer.rule(ctx, func(t *actors.Territory, now time.Duration) { t.Release(w.self.Addr, claim, shards, now) })
		})
	})
}

// Answer is actors.Ground's.
func (w *land) Answer(to string, claim uint64, shards actors.ShardSet) {
	w.do(func(ctx context.Context) {
		w.node.line.tally.LetGo += shards.Len()
		w.node.mail(to, func(peer *node) {
			peer.rule(ctx, func(t *actors.Territory, now time.Duration) { t.Released(w.self.Addr, claim, shards, now) })
		})
	})
}

// Open is actors.Ground's: it looks for what waits in shards, until the store answers,
// and serves them.
func (w *land) Open(claim uint64, shards, doubted actors.ShardSet) {
	w.do(func(ctx context.Context) {
		w.node.line.later(w.node, w.node.line.soon(hop), func() { w.node.lookIn(ctx, claim, shards, doubted) })
	})
}

const (
	openAgain = 200 * time.Millisecond // after the store failed
	openMost  = 1024                   // conversations that are woken when shards are opened
)

func (n *node) lookIn(ctx context.Context, claim uint64, shards, doubted actors.ShardSet) {
	l := n.line
	ids, err := troubled(l, func() ([]parley.Conversation, error) {
		return n.store.Overdue(ctx, shards.Has, 0, openMost)
	})
	if err != nil {
		l.later(n, openAgain, func() { n.lookIn(ctx, claim, shards, doubted) })
		return
	}
	waiting := map[uint16][]parley.Conversation{}
	for _, id := range ids {
		waiting[id.Shard()] = append(waiting[id.Shard()], id)
	}
	l.later(n, l.answer(), func() {
		until := n.wall().Add(actors.ClocksApart)
		n.rule(ctx, func(t *actors.Territory, _ time.Duration) {
			t.Opened(claim, shards, func(number uint16) {
				m := &serve{waiting: waiting[number]}
				if doubted.Has(number) {
					m.doubted = until
				}
				n.land.do(func(ctx context.Context) { n.serve(ctx, number, m) })
			})
		})
	})
}

// serve opens a shard, as soon as its conversations of an earlier time have left.
func (n *node) serve(ctx context.Context, number uint16, m *serve) {
	n.line.tally.Opened++
	if !m.doubted.IsZero() {
		n.line.tally.InDoubt++
	}
	n.line.tally.FoundWaiting += len(m.waiting)
	n.land.shard(number).opened = m
	n.openNow(ctx, number)
}

func (n *node) openNow(ctx context.Context, number uint16) {
	s := n.land.shard(number)
	if s.opened == nil || s.state != claiming || len(s.leaving) > 0 {
		return
	}
	m := s.opened
	s.opened, s.state, s.doubted = nil, held, m.doubted
	for _, id := range m.waiting {
		n.arrive(ctx, message{id: id})
	}
	n.release(ctx, s)
}

// release does with what was held back what the shard's state wants now.
func (n *node) release(ctx context.Context, s *shard) {
	back := s.back
	s.back = nil
	for _, m := range back {
		n.arrive(ctx, m)
	}
}

func (w *land) shard(number uint16) *shard {
	if w.shards[number] == nil {
		w.shards[number] = &shard{}
	}
	return w.shards[number]
}

// letGo ends the conversations of a shard, and reports when that is done.
func (w *land) letGo(ctx context.Context, number uint16) {
	n, s := w.node, w.shard(number)
	s.state, s.opened = foreign, nil
	for id, c := range n.talks {
		if id.Shard() == number {
			if s.leaving == nil {
				s.leaving = map[parley.Conversation]*talk{}
			}
			s.leaving[id] = c
			delete(n.talks, id)
		}
	}
	for _, id := range sorted(s.leaving) {
		c := s.leaving[id]
		c.leaving = true
		n.line.later(n, n.line.soon(hop), func() { n.leave(ctx, c) })
	}
	n.release(ctx, s)
	if len(s.leaving) > 0 {
		n.line.tally.Left += len(s.leaving)
		return
	}
	if w.empty.Empty() {
		n.line.later(n, n.line.soon(hop), func() { w.gone(ctx) })
	}
	w.empty.Add(number)
}

// gone reports the shards that had no conversation.
func (w *land) gone(ctx context.Context) {
	empty := w.empty
	w.empty = actors.ShardSet{}
	w.node.rule(ctx, func(t *actors.Territory, _ time.Duration) { empty.Each(t.Gone) })
}

// leave ends a conversation, unless it awaits what must be known before another node goes
// on with it: then when it has come.
func (n *node) leave(ctx context.Context, c *talk) {
	l := n.line
	switch {
	case c.left || c.Settling() || c.forgoes:
	case len(c.Noted()) > 0:
		c.forgoes = true
		rows := c.Noted()
		l.sent(n, l.soon(hop), func() {
			n.acquit(ctx, rows)
			l.later(n, l.answer(), func() {
				c.forgoes = false
				c.Forgo()
				n.leave(ctx, c)
			})
		})
	default:
		if c.awaits || n.notedBy(c) {
			l.breaks(errLeft)
		}
		c.left = true
		l.later(n, l.soon(hop), func() { n.hasLeft(ctx, c) })
	}
}

func (n *node) hasLeft(ctx context.Context, c *talk) {
	number := c.ID().Shard()
	s := n.land.shard(number)
	delete(s.leaving, c.ID())
	if len(s.leaving) > 0 {
		return
	}
	n.rule(ctx, func(t *actors.Territory, _ time.Duration) { t.Gone(number) })
	n.openNow(ctx, number)
}

const (
	homeEvery = 100 * time.Millisecond // between two looks at where shards are
	// homeWithin is within which time each shard is at home once all nodes are there, know
	// of each other and reach the store. It takes so long only if many words get lost: a
	// node asks for a few shards at a time, and waits for who doesn't answer.
	homeWithin = 30 * time.Second
)

// watch looks whether each shard is at home as soon as it should, again and again.
func (l *line) watch() {
	l.astray = l.restless()
	if l.astray != "" {
		l.calm = time.Time{}
	} else if l.astray = l.stray(); l.calm.IsZero() {
		l.calm = l.now
	}
	if l.astray != "" && !l.calm.IsZero() && l.now.Sub(l.calm) > homeWithin {
		l.breaks(fmt.Errorf("%s since all nodes know of each other: %s", l.now.Sub(l.calm), l.astray))
	}
	l.later(nil, homeEvery, l.watch)
}

// restless says why shards may still have to move; empty: there is no reason.
func (l *line) restless() string {
	for i, n := range l.nodes {
		switch {
		case n.dead || l.now.Before(n.asleep):
			return fmt.Sprintf("%s is not there", addr(i))
		case n.land.now == nil || len(n.land.members()) != len(l.nodes):
			return fmt.Sprintf("%s knows of %d members", addr(i), len(n.land.members()))
		case n.cutOff():
			return addr(i) + " doesn't reach the store"
		}
	}
	return ""
}

// stray says which shard is not run where it belongs, or is so by two; empty: none.
func (l *line) stray() string {
	for number := range uint16(parley.Shards) {
		for i, n := range l.nodes {
			mine, s := n.land.own.Has(number), n.land.shards[number]
			if n.land.Holds(number) != mine || s != nil && (s.state == held) != mine {
				return fmt.Sprintf("shard %d is at the wrong place, of %s", number, addr(i))
			}
		}
	}
	return ""
}
