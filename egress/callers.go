package egress

import (
	"context"
	"sync"
	"time"
)

// places bounds what a node has with the provider. A place is taken before the
// claim, so that a claimed message never waits for one while its lease ages.
type places struct {
	mu      sync.Mutex
	size    int
	free    int
	waiting []*desk // found no place; each is nudged once
}

func newPlaces(n int) *places { return &places{size: n, free: n} }

// take gives d up to want places. If there are none, d is nudged when there are.
func (p *places) take(want int, d *desk) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(want, p.free)
	p.free -= n
	if n == 0 && !d.waits {
		d.waits = true
		p.waiting = append(p.waiting, d)
	}
	return n
}

func (p *places) put(n int) {
	if n == 0 {
		return
	}
	p.mu.Lock()
	p.free += n
	nudged := p.waiting[:min(n, len(p.waiting))]
	p.waiting = p.waiting[len(nudged):]
	for _, d := range nudged {
		d.waits = false
	}
	p.mu.Unlock()
	for _, d := range nudged {
		d.wake()
	}
}

func (p *places) taken() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.size - p.free
}

// job is a message on its way to the provider.
type job struct {
	handover Handover
	desk     *desk
}

// callers are the goroutines that call the provider. They are started when
// needed and stay: their stacks have grown to what a call takes.
type callers struct {
	manager *Manager
	jobs    chan job
	mu      sync.Mutex
	started int
}

func newCallers(m *Manager) *callers {
	return &callers{manager: m, jobs: make(chan job)}
}

// call passes j to a caller. It doesn't wait for long: j has a place, and there
// are as many callers as places.
func (c *callers) call(ctx context.Context, j job) {
	select {
	case c.jobs <- j:
		return
	default:
	}
	if c.more() {
		go c.run(ctx, j)
		return
	}
	c.jobs <- j
}

func (c *callers) more() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.started == c.manager.cfg.NodeInFlight {
		return false
	}
	c.started++
	return true
}

func (c *callers) run(ctx context.Context, j job) {
	for ok := true; ok; j, ok = <-c.jobs {
		if early := j.handover.From - c.manager.cfg.Clock(); early > 0 {
			time.Sleep(early) //nolint:forbidigo // about Ahead at most: nothing is to be woken for
		}
		a := c.manager.gate.Pass(ctx, j.handover)
		c.manager.metrics.answered(a)
		c.manager.places.put(1)
		j.desk.answer(a)
	}
}

// close lets the callers go once nothing is passed to them any more.
func (c *callers) close() { close(c.jobs) }
