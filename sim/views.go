package sim

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/cluster"
)

// Nodes that have views hear of each other's beginnings and ends, each in its own time,
// and now and then two of them tell each other all they have heard. So their placements
// differ for seconds after each change. One that is silent is taken for gone; when it
// hears that, it objects.

const (
	silentFor   = 1500 * time.Millisecond // until others take a node for gone
	hearMax     = 1500 * time.Millisecond // until word of a change has come to a node
	meetEvery   = time.Second             // two nodes tell each other what they have heard
	aloneFor    = 3 * time.Second         // that a new node waits for others to hear of
	placeEvery  = 200 * time.Millisecond  // between two looks at what is due in a territory
	rumoursMost = 3                       // in a run: of a node that isn't gone
	unfitAfter  = 1500 * time.Millisecond // without the store, a node says that it can't work
	fitAfter    = time.Second             // of the store's return, that it can again
)

// rumour is what is said of a member. Of two about one member the later counts.
type rumour struct {
	member cluster.Member
	gone   bool
	serial int
}

// rumour is a new one.
func (l *line) rumour(m cluster.Member, gone bool) rumour {
	l.said++
	return rumour{member: m, gone: gone, serial: l.said}
}

// tell lets all nodes hear a rumour, each in its time.
func (l *line) tell(ctx context.Context, r rumour, after time.Duration) {
	for i := range l.nodes {
		l.tellOne(ctx, i, r, after+l.soon(hearMax))
	}
}

// tellOne lets whoever is on a machine by then hear a rumour.
func (l *line) tellOne(ctx context.Context, machine int, r rumour, after time.Duration) {
	l.later(nil, after, func() {
		if n := l.nodes[machine]; n.land != nil {
			l.later(n, 0, func() { n.hear(ctx, r) })
		}
	})
}

// silent lets others notice that a node has died, or sleeps for so long.
func (l *line) silent(ctx context.Context, n *node, sleeps time.Duration) {
	if n.land != nil && (n.dead || sleeps > silentFor) {
		l.tell(ctx, l.rumour(n.land.self, true), silentFor)
	}
}

// sleep stops a node for a while; then it goes on, knowing nothing of it.
func (n *node) sleep(ctx context.Context, d time.Duration) {
	l := n.line
	if until := l.now.Add(d); until.After(n.asleep) { // else what waits for the end of another nap would come later than the rest
		n.asleep = until
	}
	l.silent(ctx, n, d)
}

// feel lets a node whose machine is cut off from the store notice that, and tell the
// others; and when it is over, that it can work again.
func (l *line) feel(ctx context.Context, machine int) {
	say := func(after time.Duration, unfit bool) {
		l.later(nil, after, func() {
			if n := l.nodes[machine]; n.land != nil {
				l.later(n, 0, func() { n.feels(ctx, unfit) })
			}
		})
	}
	say(unfitAfter, true)
	say(l.outage[machine].Sub(l.now)+fitAfter, false)
}

// feels has a node say how it is, if it is so.
func (n *node) feels(ctx context.Context, unfit bool) {
	if n.cutOff() != unfit || n.land.self.Unfit == unfit {
		return
	}
	n.line.tally.Unfit++
	n.land.self.Unfit = unfit
	r := n.line.rumour(n.land.self, false)
	n.hear(ctx, r)
	n.line.tell(ctx, r, 0)
}

// planViews draws what befalls nodes that have views.
func (l *line) planViews(ctx context.Context) {
	if !l.cfg.Views {
		return
	}
	l.fatal = l.cfg.Crashes > 0 && l.chance(0.5)
	l.planRumours(ctx)
	l.watch()
}

// planRumours draws when which node is taken for gone, by one other, though it is there.
func (l *line) planRumours(ctx context.Context) {
	if !l.with(Rumours) {
		return
	}
	for range l.rng.IntN(rumoursMost + 1) {
		of, by := l.rng.IntN(len(l.nodes)), l.rng.IntN(len(l.nodes))
		l.later(nil, l.soon(l.world.Config().Duration+5*time.Second), func() {
			if of != by && l.nodes[of].land != nil {
				l.tally.Rumours++
				l.tellOne(ctx, by, l.rumour(l.nodes[of].land.self, true), 0)
			}
		})
	}
}

// hear takes note of rumours. One that the node itself is gone is contradicted.
func (n *node) hear(ctx context.Context, rumours ...rumour) {
	w, news := n.land, false
	for _, r := range rumours {
		if known := w.heard[r.member.Name]; known.serial >= r.serial {
			continue
		}
		if r.member.Name == w.self.Name && r.gone {
			r = n.line.rumour(w.self, false)
			n.line.tell(ctx, r, 0)
		}
		w.heard[r.member.Name], news = r, true
	}
	if news {
		n.place(ctx)
	}
}

// meet lets a node and another, if that is there, tell each other all they have heard.
// Who began again in the meantime is not there any more by the name of before.
func (n *node) meet(ctx context.Context) {
	l := n.line
	for _, m := range n.land.members() {
		if now := l.at(m.Addr); now.name != m.Name {
			n.hear(ctx, l.rumour(m, true))
		}
	}
	other := l.nodes[l.rng.IntN(len(l.nodes))]
	if other == n || other.dead || other.land == nil || l.now.Before(other.asleep) {
		return
	}
	theirs := other.land.rumours()
	other.hear(ctx, n.land.rumours()...)
	n.hear(ctx, theirs...)
}

// rumours are all that a node has heard, in the order of names.
func (w *land) rumours() []rumour {
	all := make([]rumour, 0, len(w.heard))
	for _, name := range slices.Sorted(maps.Keys(w.heard)) {
		all = append(all, w.heard[name])
	}
	return all
}

// members are those that a node believes to be there.
func (w *land) members() (all []cluster.Member) {
	for _, r := range w.rumours() {
		if !r.gone {
			all = append(all, r.member)
		}
	}
	return all
}

// place makes a placement of what a node has heard. One that has just begun sees nobody
// else, which it must not take for the truth.
func (n *node) place(ctx context.Context) {
	w := n.land
	members := w.members()
	if w.met = w.met || len(members) > 1; !w.met {
		return
	}
	view := cluster.NewView(members)
	if w.view != nil && slices.EqualFunc(view.Members(), w.view.Members(), sameMember) {
		return
	}
	p := cluster.PlacementOf(view, w.self.Addr)
	n.line.tally.Placements++
	w.before, w.viewed, w.view = w.now, w.view, view
	n.rule(ctx, func(t *actors.Territory, now time.Duration) { t.Place(p, now) })
	w.now, w.own = p, actors.ShardSet{}
	for number := range uint16(parley.Shards) {
		if p.Owner(number) == w.self.Addr {
			w.own.Add(number)
		}
	}
	n.serveChannels(ctx)
	n.freeLost(ctx)
}

// sends reports whether a node is to send for a channel, as far as it has heard. Who
// does is decided by leases.
func (n *node) sends(ch parley.Channel) bool {
	return n.land == nil || n.land.now != nil && n.land.now.Sender(ch.Shard()) == n.land.self.Addr
}

// serveChannels begins to send for channels, or ends to.
func (n *node) serveChannels(ctx context.Context) {
	for _, ch := range n.line.channels() {
		switch d := n.desks[ch]; {
		case n.sends(ch):
			n.line.wakeSender(ctx, n, ch)
		case !d.stopped:
			d.stopped = true
			d.sender.Stop()
			n.line.later(n, n.line.soon(hop), func() { n.look(ctx, ch) })
		}
	}
}

// handBack gives the lease of a channel back that is another node's. It may be this one's
// again by now.
func (n *node) handBack(ctx context.Context, ch parley.Channel) {
	n.desks[ch] = n.newDesk(ch)
	n.line.tally.HandedBack++
	n.line.later(n, n.line.soon(hop), func() {
		_, _ = troubled(n.line, func() (struct{}, error) {
			return struct{}{}, n.store.Yield(ctx, n.name, []parley.Channel{ch})
		}) // else it expires
		n.line.wakeSender(ctx, n, ch)
	})
}

func sameMember(a, b cluster.Member) bool { return a.Name == b.Name && a.Unfit == b.Unfit }

// freeLost gives back the leases of those who were there before and are gone, or can't
// work any more while others can.
func (n *node) freeLost(ctx context.Context) {
	w := n.land
	if w.viewed == nil {
		return
	}
	able, _ := w.view.Owner(cluster.Egress, 0)
	for _, m := range w.viewed.Members() {
		if now, here := w.view.Member(m.Name); !m.Unfit && (!here || now.Unfit && !able.Unfit) {
			n.line.later(n, n.line.soon(hop), func() { n.free(ctx, m.Name) })
		}
	}
}

// free gives back the leases of who is lost, as far as this node knows.
func (n *node) free(ctx context.Context, holder string) {
	_, _ = troubled(n.line, func() (struct{}, error) { return struct{}{}, n.store.Yield(ctx, holder, nil) }) // else they expire
	n.serveChannels(ctx)
}
