package ingress

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley"
)

// committer makes what arrives together durable together.
//
// Handlers put their requests into queue and wait. One goroutine takes all that
// have gathered since the append before began, appends them as one group, and
// then answers each: so the number of fsyncs or transactions adapts to the load
// by itself, and a lone request waits for nobody. On a store whose append is a
// matter of microseconds that would make as many transactions as requests; so
// appends begin on beats: multiples of [Limits].Gather, times [Config].Sharing, by the
// clock, on which the groups of turns begin as well.
//
// A group is answered exactly once: by the goroutine when the append returned,
// or, if the append outlives its deadline (an inbox may ignore its context, a
// disk may hang), by whoever claims the group then. From there until the append
// does return, everything in the queue is refused at once: the store holds at
// most one group, and no handler ever waits longer than AppendTimeout for it.
type committer struct {
	inbox     Inbox
	deliverer Deliverer
	limits    Limits
	sharing   func() int
	now       func() time.Time
	metrics   *metrics
	log       *slog.Logger
	warn      *throttle

	queue   chan *request
	stalled atomic.Bool
}

// singleFailures is how many members of a failed group are tried alone, with
// none succeeding, before the fault is taken to be the store's.
const singleFailures = 8

type group struct {
	members []*request
	events  int
	bytes   int
	claimed atomic.Bool
	done    chan struct{} // closed when the append has returned
}

// run commits groups until stop is closed and the queue is empty. ctx ends
// appends in flight.
func (c *committer) run(ctx context.Context, stop <-chan struct{}) {
	var carried *request     // taken from the queue, but too large for the group before
	rest := time.NewTimer(0) //nolint:forbidigo // it paces, and nothing is decided by it
	defer rest.Stop()
	for {
		first := carried
		if first == nil {
			if first = c.first(stop); first == nil {
				return
			}
		}
		<-rest.C
		rest.Reset(c.untilBeat())
		var g *group
		g, carried = c.gather(first)
		c.commit(ctx, g)
	}
}

// untilBeat is the time until the next beat.
func (c *committer) untilBeat() time.Duration {
	now, apart := c.now(), c.limits.Gather*time.Duration(c.sharing())
	return now.Truncate(apart).Add(apart).Sub(now)
}

func (c *committer) first(stop <-chan struct{}) *request {
	select {
	case r := <-c.queue:
		return r
	case <-stop:
	}
	select {
	case r := <-c.queue:
		return r
	default:
		return nil
	}
}

// gather takes what is in the queue, as much as one append may carry. The
// request that would have been too much is returned beside the group.
func (c *committer) gather(first *request) (*group, *request) {
	g := &group{done: make(chan struct{}), members: make([]*request, 0, 1+len(c.queue))}
	g.add(first)
	for {
		select {
		case r := <-c.queue:
			if g.events+r.updates() > c.limits.MaxGroupEvents || g.bytes+len(r.body) > c.limits.MaxGroupBytes {
				return g, r
			}
			g.add(r)
		default:
			return g, nil
		}
	}
}

func (g *group) add(r *request) {
	g.members = append(g.members, r)
	g.events += r.updates()
	g.bytes += len(r.body)
}

// claim returns true to the one who may answer the group.
func (g *group) claim() bool { return g.claimed.CompareAndSwap(false, true) }

func (g *group) answer(of func(i int) answer) {
	for i, r := range g.members {
		r.done <- of(i) // never blocks: capacity 1, sent once
	}
}

func (c *committer) commit(ctx context.Context, g *group) {
	ctx, cancel := context.WithTimeout(ctx, c.limits.AppendTimeout)
	overdue := context.AfterFunc(ctx, func() { c.abandon(g) })
	answers := make([]answer, len(g.members))
	rows := c.store(ctx, g, answers)
	overdue()
	cancel()
	close(g.done)
	// What was on its way to the quarantine has arrived there, or is not on its
	// way any more; the order of a directory needs no more than that, whatever
	// the answer is.
	for _, r := range g.members {
		r.openGate()
	}
	if g.claim() {
		g.answer(func(i int) answer { return answers[i] })
	}
	c.metrics.groupSize.Observe(float64(len(g.members)))
	if len(rows) > 0 {
		c.deliverer.Deliver(rows)
	}
}

// abandon refuses the group whose append is overdue, and after it whatever is
// queued, until the append returns. The members stay the group's: their
// handlers must not use them again.
func (c *committer) abandon(g *group) {
	if !g.claim() {
		return
	}
	c.stalled.Store(true)
	defer c.stalled.Store(false)
	g.answer(func(int) answer { return answerLate })
	c.metrics.appends.WithLabelValues("late").Inc()
	if left, ok := c.warn.pass("overdue"); ok {
		c.log.Warn("append is overdue; refusing webhooks until it returns", "requests", len(g.members), "left_out", left)
	}
	for {
		select {
		case r := <-c.queue:
			r.openGate()
			r.done <- answerUnavailable
		case <-g.done:
			return
		}
	}
}

// store appends the group, finds the answer of each member, and returns the
// rows to deliver.
func (c *committer) store(ctx context.Context, g *group, answers []answer) []parley.Pending {
	rows, err := c.append(ctx, g.arrivals())
	if err == nil {
		return rows
	}
	if a, final := finalAnswer(ctx, err); final {
		for i := range answers {
			answers[i] = a
		}
		return nil
	}
	return c.storeSingly(ctx, g, answers)
}

// finalAnswer is the answer for which trying again at once is pointless: what
// went wrong has nothing to do with what was to be stored.
func finalAnswer(ctx context.Context, err error) (answer, bool) {
	switch {
	case errors.Is(err, parley.ErrFull):
		return answerFull, true
	case ctx.Err() != nil:
		return answerLate, true
	}
	return answerUnavailable, errors.Is(err, parley.ErrUnavailable)
}

// storeSingly tries the members of a failed group one by one, so that one that
// the store can't take does not have the others refused. All within the group's
// deadline.
func (c *committer) storeSingly(ctx context.Context, g *group, answers []answer) []parley.Pending {
	var rows []parley.Pending
	var failed []int
	stored := 0
	for i, r := range g.members {
		if stored == 0 && i >= singleFailures {
			answers[i] = answerUnavailable
			continue
		}
		got, err := c.append(ctx, r.arrivals)
		rows = append(rows, got...)
		if err == nil {
			answers[i] = answerStored
			stored++
			continue
		}
		var final bool
		if answers[i], final = finalAnswer(ctx, err); !final {
			failed = append(failed, i)
		}
	}
	for _, i := range failed {
		r := g.members[i]
		if stored > 0 || r.unstorable() {
			var got []parley.Pending
			got, answers[i] = c.storeCulprit(ctx, r)
			rows = append(rows, got...)
		}
	}
	return rows
}

// storeCulprit gives a request that the store refused, while it took others, a
// last chance, and then stores it as it came, in the quarantine: Meta must not
// send for days what can't be stored. A store that isn't available refuses
// nothing: it may take some things and not others, when a lock or a full disk is
// in the way of one table.
func (c *committer) storeCulprit(ctx context.Context, r *request) ([]parley.Pending, answer) {
	rows, err := c.append(ctx, r.arrivals)
	if err != nil {
		if a, final := finalAnswer(ctx, err); final {
			return nil, a
		}
		r.quarantineWhole(causeRefused, "the store refused it", c.now())
		rows, err = c.append(ctx, r.arrivals)
	}
	if err != nil {
		a, _ := finalAnswer(ctx, err)
		return nil, a
	}
	return rows, answerStored
}

func (c *committer) append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	rows, err := c.inbox.Append(ctx, a)
	result := "ok"
	switch {
	case errors.Is(err, parley.ErrFull):
		result = "full"
	case err != nil:
		result = "error"
	}
	c.metrics.appends.WithLabelValues(result).Inc()
	if err != nil {
		if left, ok := c.warn.pass(result); ok {
			c.log.WarnContext(ctx, "append to inbox", "error", err, "left_out", left)
		}
	}
	return rows, err
}

// arrivals is what the group holds, in the order in which it was queued.
func (g *group) arrivals() parley.Arrivals {
	if len(g.members) == 1 {
		return g.members[0].arrivals
	}
	a := parley.Arrivals{Events: make([]parley.Event, 0, g.events)}
	for _, r := range g.members {
		a.Events = append(a.Events, r.arrivals.Events...)
		a.Receipts = append(a.Receipts, r.arrivals.Receipts...)
		a.Quarantined = append(a.Quarantined, r.arrivals.Quarantined...)
	}
	return a
}
