package egress

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

// A desk is the goroutine of a channel that has work, and the mailbox through
// which callers and hints reach its Sender.
type desk struct {
	manager *Manager
	channel parley.Channel
	sender  *Sender
	paused  Reason        // as the gauge counts it; empty if not
	active  time.Duration // when there last was something to do
	lost    int           // as counted
	slowed  int           // as counted
	counted map[Limit]int // as counted

	asking bool       // the store
	asked  chan Asked // holds its answer

	waits bool // for a place; guarded by places.mu

	mu      sync.Mutex
	answers []Answer
	spare   []Answer
	woken   bool
	stopped bool
	freed   bool
	status  Status
	news    chan struct{} // holds one: there is something in the mailbox
}

// newDesk makes the desk of a channel; what the last one learnt of its limits goes
// on. The manager's lock is held.
func newDesk(m *Manager, ch parley.Channel) *desk {
	d := &desk{
		manager: m, channel: ch, news: make(chan struct{}, 1), asked: make(chan Asked, 1),
		sender:  NewSender(ch, m.cfg.Holder, m.cfg.policy(ch)),
		active:  m.cfg.Clock() - m.cfg.Linger,
		counted: make(map[Limit]int),
	}
	if l := m.limits[ch]; l != nil {
		d.sender.limits = l
		delete(m.limits, ch)
	}
	return d
}

func (d *desk) wake() {
	d.mu.Lock()
	d.woken = true
	d.mu.Unlock()
	d.signal()
}

func (d *desk) stop() {
	d.mu.Lock()
	d.stopped = true
	d.mu.Unlock()
	d.signal()
}

func (d *desk) release() {
	d.mu.Lock()
	d.freed = true
	d.mu.Unlock()
	d.signal()
}

func (d *desk) answer(a Answer) {
	d.mu.Lock()
	d.answers = append(d.answers, a)
	d.mu.Unlock()
	d.signal()
}

func (d *desk) signal() {
	select {
	case d.news <- struct{}{}:
	default: // the same news
	}
}

// run serves the channel until it is idle, or stopped and settled, or ctx is
// done. While the store is asked, answers and hints are taken all the same.
func (d *desk) run(ctx context.Context, c *callers) {
	timer := time.NewTimer(0) //nolint:forbidigo // the one timer of this channel
	defer timer.Stop()
	defer d.leave(ctx)
	for now := d.manager.cfg.Clock(); ctx.Err() == nil; {
		d.collect(ctx, now)
		a := d.sender.Next(now)
		switch {
		case a.Kind != Rest:
			d.begin(ctx, a)
		case d.finished(ctx, a, now):
			return
		default:
			now = d.rest(ctx, timer, d.until(a), now, c)
		}
	}
	if d.asking {
		d.end(ctx, <-d.asked, 0, c)
	}
}

// collect empties the mailbox into the Sender.
func (d *desk) collect(ctx context.Context, now time.Duration) {
	d.mu.Lock()
	answers, woken, stopped, freed := d.answers, d.woken, d.stopped, d.freed
	d.answers, d.spare, d.woken, d.freed = d.spare[:0], answers, false, false
	d.mu.Unlock()
	for _, a := range answers {
		d.sender.Answered(a, now)
		d.active = now
	}
	if freed {
		d.sender.Release(now)
	}
	if stopped {
		d.sender.Stop()
	} else if woken {
		d.sender.Wake(now)
	}
	d.tellPause(ctx, now)
	d.tellLimits()
	d.mu.Lock()
	d.status = d.sender.status()
	d.mu.Unlock()
}

// tellLimits counts what the limits did.
func (d *desk) tellLimits() {
	m := d.manager.metrics
	for why, c := range m.held {
		if n := d.sender.Held(why); n > d.counted[why] {
			c.Add(float64(n - d.counted[why]))
			d.counted[why] = n
		}
	}
	if n := d.sender.Slowed(); n > d.slowed {
		m.slowed.Add(float64(n - d.slowed))
		d.slowed = n
	}
}

// begin begins to carry a out.
func (d *desk) begin(ctx context.Context, a Action) {
	m := d.manager
	if a.Kind == Announce {
		m.clerk.Do(ctx, d.sender, a)
		return
	}
	if a.Kind == Claim {
		a.Limit = m.places.take(a.Limit, d)
		if a.Limit == 0 {
			m.metrics.starved.Inc()
			d.sender.Starved(m.cfg.Clock())
			return
		}
	}
	d.asking = true
	go func() {
		ctx, cancel := context.WithTimeout(ctx, m.cfg.StoreTimeout)
		defer cancel()
		d.asked <- m.clerk.Ask(ctx, d.sender, a)
	}()
}

// end takes what came of it, and returns the time at which that ended: looking at the
// clock is a system call, and there is none to spare for each message.
func (d *desk) end(ctx context.Context, asked Asked, now time.Duration, c *callers) time.Duration {
	d.asking = false
	m, a := d.manager, asked.action
	done := m.clerk.Tell(d.sender, asked, now)
	if a.Kind == Claim {
		m.places.put(a.Limit - len(done.Handovers))
	}
	d.tell(ctx, a, done)
	for _, h := range done.Handovers {
		c.call(ctx, job{handover: h, desk: d})
	}
	if len(done.Rows) > 0 && m.cfg.Deliverer != nil {
		m.cfg.Deliverer.Deliver(done.Rows)
	}
	return done.At
}

// tell counts and logs what came of a.
func (d *desk) tell(ctx context.Context, a Action, done Done) {
	m := d.manager
	if n := d.sender.Forgotten(); n > d.lost {
		m.metrics.forgotten.Add(float64(n - d.lost))
		m.log.WarnContext(ctx, "lease lost before outcomes were noted", "channel", d.channel.String(), "messages", n-d.lost)
		d.lost = n
	}
	switch {
	case errors.Is(done.Err, parley.ErrFenced):
		m.log.DebugContext(ctx, "another sender holds the channel", "channel", d.channel.String(), "step", a.Kind.String())
		return
	case done.Err != nil:
		m.metrics.failures[a.Kind].Inc()
		m.log.WarnContext(ctx, "store", "channel", d.channel.String(), "step", a.Kind.String(), "error", done.Err)
		return
	}
	if done.Recalled > 0 {
		m.metrics.recalled.Add(float64(done.Recalled))
		m.log.WarnContext(ctx, "the store has gone back: messages were claimed there and not here", "channel", d.channel.String(), "messages", done.Recalled)
	}
	if a.Kind == Settle {
		m.metrics.settled(a.Outcomes)
		d.tellRefused(ctx, a.Outcomes)
	}
	for i := range done.Handovers {
		if done.Handovers[i].Doubtful {
			m.metrics.doubtful.Inc()
		}
	}
	if n := len(a.Receipts); n > 0 && a.Kind == Report {
		m.metrics.reported.Add(float64(n))
		m.log.InfoContext(ctx, "reported what was sent before the lease was lost", "channel", d.channel.String(), "messages", n)
	}
	m.metrics.folded.Add(float64(done.Folded))
	if len(done.Handovers) > 0 || done.Folded > 0 {
		d.active = done.At
	}
}

func (d *desk) tellRefused(ctx context.Context, outcomes []parley.Outcome) {
	for i := range outcomes {
		if o := &outcomes[i]; o.Kind == parley.Refused {
			d.manager.log.WarnContext(ctx, "message refused", "channel", d.channel.String(),
				"message", o.ID.String(), "cause", o.Cause, "code", o.Code)
		}
	}
}

// tellPause keeps the gauge of paused channels and logs a pause's beginning,
// change and end.
func (d *desk) tellPause(ctx context.Context, now time.Duration) {
	p, _ := d.sender.Paused()
	if p.Reason == d.paused {
		return
	}
	d.count(p.Reason)
	if p.Reason == "" {
		d.manager.log.InfoContext(ctx, "channel resumes", "channel", d.channel.String())
		return
	}
	d.manager.log.WarnContext(ctx, "channel pauses", "channel", d.channel.String(),
		"reason", string(p.Reason), "code", p.Code, "cause", p.Cause, "wait", p.Until-now)
}

func (d *desk) count(why Reason) {
	if d.paused != "" {
		d.manager.metrics.paused[d.paused].Dec()
	}
	if why != "" {
		d.manager.metrics.paused[why].Inc()
	}
	d.paused = why
}

// until is when a rest ends, if nothing happens before.
func (d *desk) until(a Action) time.Duration {
	if a.Idle {
		return d.active + d.manager.cfg.Linger
	}
	return a.Until
}

// finished reports whether the goroutine may end, and takes the desk off the
// list if so.
func (d *desk) finished(ctx context.Context, a Action, now time.Duration) bool {
	switch {
	case !a.Idle:
		return false
	case d.isStopped():
		d.manager.handBack(ctx, d)
		return true
	case now < d.active+d.manager.cfg.Linger:
		return false
	}
	return d.manager.retire(d)
}

func (d *desk) isStopped() bool {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.stopped
}

// rest waits until there is something to do, or to be taken, and returns the time.
func (d *desk) rest(ctx context.Context, timer *time.Timer, until, now time.Duration, c *callers) time.Duration {
	timer.Reset(until - now)
	select {
	case <-d.news:
	case asked := <-d.asked:
		return d.end(ctx, asked, now, c)
	case <-timer.C:
	case <-ctx.Done():
	}
	return d.manager.cfg.Clock()
}

// leave counts a channel's pause as over: nobody waits for it here any more.
func (d *desk) leave(ctx context.Context) {
	d.count("")
	if n := d.sender.unsettled() + d.sender.reports.count(); n > 0 {
		d.manager.log.WarnContext(ctx, "stopped before outcomes were noted", "channel", d.channel.String(), "messages", n)
	}
}
