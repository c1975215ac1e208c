package sim

import (
	"context"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
	"github.com/parleychat/parley/meta/metatest"
)

// untimed is the time that the store's answers have by the real clock, which runs
// while a step is done and must decide nothing.
const untimed = 1000 * time.Hour

const (
	probeEvery = 100 * time.Millisecond // how often a spool tries the store
	outageMax  = 6 * time.Second        // of the store, for all nodes
	cutOffMax  = 16 * time.Second       // of the same for one: longer than others listen to what it has sent
	skewMax    = 3 * time.Minute        // of a node's clock
	stepMax    = time.Minute            // by which it is put right, or wrong
)

// errDown wraps what a store says that can't be reached.
var errDown = fmt.Errorf("%w: %w", errTrouble, parley.ErrUnavailable)

// entrance is a node's ingress: the server, and before its store perhaps a spool.
type entrance struct {
	node  *node
	web   *ingress.Stepwise
	spool *ingress.Spool
	drain func(ctx context.Context) (pause time.Duration, held bool)
	held  bool               // appends wait for the drain
	armed bool               // a commit is on the agenda
	open  []func(status int) // who waits for it
}

// open makes the entrance of a node that has just begun.
func (n *node) open(ctx context.Context, machine int) (*entrance, error) {
	l, e := n.line, &entrance{node: n}
	inbox := ingress.Inbox(inbox{n})
	deliver := deliverer(func(rows []parley.Pending) {
		l.later(n, l.soon(hop), func() { n.deliver(ctx, rows) })
	})
	quarantine := ingress.Quarantine(l.store)
	if l.hasSpools() {
		if l.disks[machine] == nil {
			l.disks[machine] = &disk{line: l, files: map[string]*file{}, kept: map[string]*file{}}
		}
		spool, err := ingress.OpenSpool(ingress.SpoolConfig{
			Inbox: inbox, Quarantine: quarantine, Deliverer: deliver, Dir: "spool", Disk: l.disks[machine],
			Timeout: untimed, Probe: probeEvery, Now: n.wall, SegmentBytes: 1 << 12,
		})
		if err != nil {
			return nil, fmt.Errorf("open the spool: %w", err)
		}
		e.spool, e.drain = spool, spool.Steps()
		inbox, quarantine = spool, spool
		if spool.State().Records > 0 {
			l.tally.SpoolsFound++
		}
		l.later(n, l.soon(hop), func() { e.pour(ctx) })
	}
	cfg := l.world.Config()
	server, err := ingress.New(ingress.Config{
		Addr: "nowhere", Inbox: inbox, Quarantine: quarantine, Deliverer: deliver, Now: n.wall,
		Apps:   []ingress.App{{Name: parley.App(cfg.App), MetaAppID: cfg.AppID, Secrets: []string{cfg.Secret}}},
		Limits: ingress.Limits{AppendTimeout: untimed},
	})
	if err != nil {
		return nil, fmt.Errorf("open the entrance: %w", err)
	}
	e.web = server.Stepwise()
	if err := server.Learn(ctx, parley.App(cfg.App), l.channels()); err != nil {
		return nil, fmt.Errorf("open the entrance: %w", err)
	}
	return e, nil
}

// hasSpools reports whether the run has spools: then its store can be out of reach.
func (l *line) hasSpools() bool { return l.spooled && l.with(Outages) }

// pour drains the spool, step by step.
func (e *entrance) pour(ctx context.Context) {
	l := e.node.line
	before := e.spool.State().Records
	pause, held := e.drain(ctx)
	e.held = held
	if held {
		l.tally.DrainsHeld++
	}
	l.tally.Drained += max(before-e.spool.State().Records, 0)
	l.spooling(e.node)
	l.later(e.node, max(pause, l.soon(hop)), func() { e.pour(ctx) })
}

// commit makes durable what has come. Connections of a node that has died break.
func (e *entrance) commit(ctx context.Context) {
	l, n := e.node.line, e.node
	switch {
	case n.dead:
		for _, answered := range e.open {
			answered(metatest.NoAnswer)
		}
		return
	case l.now.Before(n.asleep):
		l.later(nil, n.asleep.Sub(l.now)+l.soon(hop), func() { e.commit(ctx) })
		return
	case e.held:
		l.later(nil, l.soon(hop), func() { e.commit(ctx) })
		return
	}
	e.armed, e.open = false, nil
	before := 0
	if e.spool != nil {
		before = e.spool.State().Records
	}
	e.web.Commit(ctx)
	if e.spool != nil {
		l.tally.Spooled += max(e.spool.State().Records-before, 0)
		l.spooling(e.node)
	}
}

// spooling takes note of when a node's spool begins to hold something, and when it is
// empty again.
func (l *line) spooling(n *node) {
	if l.nodes[n.machine] != n {
		return
	}
	since := &l.spoolSince[n.machine]
	switch open := n.entrance.spool.State().Open; {
	case open && since.IsZero():
		*since = l.now
	case !open && !since.IsZero():
		l.spools = append(l.spools, [2]time.Time{*since, l.now})
		*since = time.Time{}
	}
}

// verdict is the judge's. What one of several nodes had in its spool may have been
// overtaken by what another took, the judge is told; where all comes by one door
// nothing is.
func (l *line) verdict() metatest.Verdict {
	for _, since := range l.spoolSince {
		if !since.IsZero() {
			l.spools = append(l.spools, [2]time.Time{since, l.now})
		}
	}
	for _, s := range l.spools {
		if l.oneDoor < 0 {
			l.world.Spooled(s[0], s[1].Add(2*hop)) // some answers are under way
		}
	}
	return l.world.Verdict()
}

// deliverer passes on what a node has stored.
type deliverer func(rows []parley.Pending)

// Deliver is ingress.Deliverer's.
func (d deliverer) Deliver(rows []parley.Pending) { d(rows) }

// inbox is the store's, in trouble: out of reach, or failing before an append takes
// hold, after, or with it still to take hold when nobody waits any more.
type inbox struct{ node *node }

// Append is ingress.Inbox's.
func (i inbox) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	n, l := i.node, i.node.line
	if n.cutOff() {
		return nil, errDown
	}
	switch {
	case l.chance(l.cfg.Trouble):
		return nil, errDown
	case l.with(LateAnswers) && l.chance(l.cfg.Trouble/2):
		l.tally.LateAppends++
		l.sent(n, l.soon(lateMax), func() { _, _ = n.store.Append(ctx, a) }) // whoever asked has gone on
		return nil, errDown
	}
	rows, err := n.store.Append(ctx, a)
	if err == nil && l.chance(l.cfg.Trouble) {
		return nil, errDown
	}
	return rows, err
}

// cutOff reports whether the store is out of a node's reach.
func (n *node) cutOff() bool { return n.line.now.Before(n.line.outage[n.machine]) }

// planOutages draws when the store is out of reach, for one node or for both, and
// whose machine dies in the middle of that.
func (l *line) planOutages(ctx context.Context) {
	if !l.hasSpools() {
		return
	}
	for range 1 + l.rng.IntN(3) {
		first, both := l.rng.IntN(len(l.nodes)), l.chance(0.5)
		lasts := time.Second + l.soon(cutOffMax)
		if both {
			lasts = min(lasts, time.Second+outageMax)
		}
		at := l.soon(l.world.Config().Duration)
		l.later(nil, at, func() { l.storeAway(ctx, first, both, lasts) })
		if l.cfg.Crashes > 0 && l.chance(0.5) {
			l.later(nil, at+l.soon(lasts), func() { l.crash(ctx, first) })
		}
	}
}

// storeAway lets the store be out of reach, for one node or for all. That alone excuses
// nothing: what the Graph API answers meanwhile is noted as soon as the store is back, or
// the others are told, unless the node that knows is killed before.
func (l *line) storeAway(ctx context.Context, first int, all bool, lasts time.Duration) {
	l.tally.Outages++
	l.world.StoreDown(l.now)
	for i := range l.nodes {
		if i == first || all {
			l.outage[i] = l.now.Add(lasts)
			l.feel(ctx, i)
		}
	}
	l.later(nil, lasts, func() {
		if !slices.ContainsFunc(l.nodes, (*node).cutOff) {
			l.world.StoreUp(l.now)
		}
	})
}

// planClocks lets the nodes' clocks be wrong, and steps them.
func (l *line) planClocks() {
	if !l.with(Clocks) || !l.chance(0.6) {
		return
	}
	for i := range l.nodes {
		l.skew[i] = l.soon(2*skewMax) - skewMax
		for range l.rng.IntN(4) {
			l.later(nil, l.soon(l.world.Config().Duration), func() {
				l.tally.ClockSteps++
				l.skew[i] += l.soon(2*stepMax) - stepMax
			})
		}
	}
}

// wall is the time of day, as the node has it.
func (n *node) wall() time.Time { return n.line.now.Add(n.line.skew[n.machine]) }

// post puts the webhooks that are due on their way to some node.
func (l *line) post(ctx context.Context) {
	for _, p := range l.world.Due(l.now) {
		n := l.door()
		l.later(nil, l.soon(hop), func() {
			l.arrive(ctx, n, p, func(status int) {
				l.world.Posted(p.ID, status, l.now)
				if status == http.StatusOK {
					l.comeAgain(ctx, p)
				}
			})
		})
		if l.with(Forgeries) && l.chance(0.05) {
			l.later(nil, l.soon(hop), func() { l.forge(ctx, n, p) })
		}
	}
}

// comeAgain lets what was acknowledged come once more, if the seed will: Meta does
// that for up to a week.
func (l *line) comeAgain(ctx context.Context, p metatest.Post) {
	if !l.with(Again) || !l.chance(0.1) {
		return
	}
	l.again++
	l.later(nil, l.soon(againMax), func() {
		l.again--
		l.tally.Again++
		l.arrive(ctx, l.door(), p, func(int) {})
	})
}

// forge posts what nobody has signed.
func (l *line) forge(ctx context.Context, n *node, p metatest.Post) {
	p.Body = append(slices.Clone(p.Body), ' ')
	l.arrive(ctx, n, p, func(status int) {
		switch {
		case status == http.StatusUnauthorized:
			l.tally.Forged++
		case status > 0:
			l.breaks(fmt.Errorf("a forged webhook was answered with %d", status))
		}
	})
}

// arrive hands a webhook to a node.
func (l *line) arrive(ctx context.Context, n *node, p metatest.Post, answered func(status int)) {
	switch {
	case n.dead:
		l.later(nil, l.soon(hop), func() { answered(metatest.Refused) })
		return
	case l.now.Before(n.asleep):
		l.later(n, n.asleep.Sub(l.now)+l.soon(hop), func() { l.arrive(ctx, n, p, answered) })
		return
	}
	e := n.entrance
	waits := e.web.Post(p.Path, p.Signature, p.Body, func(status int) {
		if status == http.StatusServiceUnavailable {
			l.tally.Unavailable++
		}
		if n.dead { // nobody is left to answer
			l.later(nil, l.soon(hop), func() { answered(metatest.NoAnswer) })
			return
		}
		l.sent(n, l.soon(hop), func() { answered(status) })
	})
	if waits {
		e.open = append(e.open, answered)
	}
	if waits && !e.armed {
		e.armed = true
		l.later(nil, l.soon(hop), func() { e.commit(ctx) })
	}
}
