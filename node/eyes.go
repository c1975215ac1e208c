package node

import (
	"context"
	"fmt"
	"log/slog"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/cluster"
)

const (
	lookEvery  = 5 * time.Second // at all members
	lookWithin = time.Second     // which they have to answer
	// worryAfter is how long something may be odd before it is a warning: members
	// come and go, and all need a moment to hear of it.
	worryAfter = 15 * time.Second
	// clockWorry is how far clocks may be apart. Nothing is decided by the clocks of
	// nodes; but logs are read by them, and certificates expire by them.
	clockWorry = time.Second
)

// eyes look at how the members stand, and worry.
type eyes struct {
	n *Node

	mu       sync.Mutex
	odd      map[string]time.Time // what is odd, since when
	warnings []string
}

func (e *eyes) run(ctx context.Context) {
	for wait(ctx, lookEvery); ctx.Err() == nil; wait(ctx, lookEvery) {
		e.look(ctx)
	}
}

func (e *eyes) look(ctx context.Context) {
	limited, cancel := context.WithTimeout(ctx, lookWithin)
	defer cancel()
	view := e.n.members.cluster.View()
	standings := e.n.host.Inquire(limited)
	now := e.n.now()
	e.mu.Lock()
	defer e.mu.Unlock()
	odd := e.oddities(view, standings)
	for what := range e.odd {
		if !slices.Contains(odd, what) {
			delete(e.odd, what)
		}
	}
	warnings := []string{}
	for _, what := range odd {
		since, known := e.odd[what]
		if !known {
			since = now
			e.odd[what] = now
		}
		if now.Sub(since) >= worryAfter {
			warnings = append(warnings, what)
		}
	}
	for _, w := range warnings {
		if !slices.Contains(e.warnings, w) {
			e.n.log.WarnContext(ctx, "something is odd among the members", slog.String("what", w))
		}
	}
	for _, w := range e.warnings {
		if !slices.Contains(warnings, w) {
			e.n.log.InfoContext(ctx, "not odd any more", slog.String("what", w))
		}
	}
	e.warnings = warnings
}

// oddities are what would be worth a warning if it lasted.
func (e *eyes) oddities(view *cluster.View, standings map[string]actors.Standing) (odd []string) {
	self := e.n.cfg.Cluster.address()
	all := view.Members()
	if len(all) == 1 && len(e.n.cfg.Cluster.Join) > 0 {
		odd = append(odd, "this node is alone: none of cluster.join answers; are their addresses right, and do all have the same keys?")
	}
	if view.Vacant(cluster.Actors) {
		odd = append(odd, "no member has the role actors: events are stored and nobody handles them")
	}
	if view.Vacant(cluster.Egress) {
		odd = append(odd, "no member has the role egress: replies are stored and nobody sends them")
	}
	for _, m := range all {
		s, answered := standings[m.Addr]
		switch {
		case m.Addr == self:
		case !answered:
			odd = append(odd, fmt.Sprintf("member %s is seen in gossip but doesn't answer messages at %s: is that port open between the nodes, and are the certificates good?", m.Name, m.Addr))
		case s.View != digest(view):
			odd = append(odd, fmt.Sprintf("member %s sees other members than this node does: is the network between them whole?", m.Name))
		case s.Offset.Abs() > clockWorry:
			odd = append(odd, fmt.Sprintf("the clock of member %s and this node's are %s apart or more: is time synchronised?", m.Name, clockWorry))
		}
	}
	return odd
}

// current are the warnings that stand.
func (e *eyes) current() []string {
	e.mu.Lock()
	defer e.mu.Unlock()
	return slices.Clone(e.warnings)
}
