package callout

import (
	"context"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

// endings are tasks whose outcomes are to be stored. Their places bound them.
type endings struct {
	news  chan struct{}
	ended chan struct{} // closed with it

	mu     sync.Mutex
	tasks  []*task
	closed bool
}

func (e *endings) add(t *task) {
	e.mu.Lock()
	e.tasks = append(e.tasks, t)
	e.mu.Unlock()
	e.signal()
}

// close says that no more are coming.
func (e *endings) close() {
	e.mu.Lock()
	e.closed = true
	e.mu.Unlock()
	close(e.ended)
	e.signal()
}

func (e *endings) signal() {
	select {
	case e.news <- struct{}{}:
	default:
	}
}

// some returns the first tasks, which stay until they are dropped.
func (e *endings) some() (tasks []*task, closed bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.tasks[:min(len(e.tasks), settleMost)], e.closed
}

// drop forgets the first n tasks.
func (e *endings) drop(n int) {
	e.mu.Lock()
	defer e.mu.Unlock()
	clear(e.tasks[:n])
	if e.tasks = e.tasks[n:]; len(e.tasks) == 0 {
		e.tasks = nil
	}
}

// settle stores what came of tasks until there will be no more. What can't be stored
// until its claim is over is lost: somebody else makes the call again.
func (c *Caller) settle(ctx context.Context) {
	for {
		tasks, closed := c.endings.some()
		switch {
		case len(tasks) > 0:
			if !c.settleOnce(ctx, tasks) {
				if closed {
					return // the claims end by themselves
				}
				c.rest()
			}
		case closed:
			return
		default:
			<-c.endings.news
		}
	}
}

// rest waits before the store is asked again.
func (c *Caller) rest() {
	timer := time.NewTimer(storeRetry) //nolint:forbidigo // nothing else is to be done meanwhile
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-c.endings.ended:
	}
}

// settleOnce stores outcomes in one transaction, and reports whether these are dealt
// with.
func (c *Caller) settleOnce(ctx context.Context, tasks []*task) bool {
	outcomes := make([]parley.CallOutcome, len(tasks))
	for i, t := range tasks {
		outcomes[i] = t.outcome
	}
	limited, cancel := context.WithTimeout(ctx, c.cfg.StoreTimeout)
	defer cancel()
	settled, err := c.cfg.Calls.SettleCalls(limited, outcomes)
	if err != nil {
		c.metrics.failures[stepSettle].Inc()
		c.log.WarnContext(ctx, "store", "step", stepSettle, "error", err)
		if !c.allOver(tasks) {
			return false
		}
		settled.Lost = len(tasks)
	}
	c.metrics.lost.Add(float64(settled.Lost))
	c.tellAnswers(tasks, settled.Rows)
	if len(settled.Rows) > 0 && c.cfg.Deliverer != nil {
		c.cfg.Deliverer.Deliver(settled.Rows)
	}
	now := c.cfg.Clock()
	for _, t := range tasks {
		c.free(t, now)
	}
	c.endings.drop(len(tasks))
	return true
}

// allOver reports whether the claims of all tasks have ended.
func (c *Caller) allOver(tasks []*task) bool {
	now := c.cfg.Clock()
	for _, t := range tasks {
		lease := settleMargin
		if t.service != nil {
			lease += t.service.Timeout
		}
		if now < t.began+lease {
			return false
		}
	}
	return true
}

// tellAnswers counts what has become rows.
func (c *Caller) tellAnswers(tasks []*task, rows []parley.Pending) {
	now := c.cfg.Clock()
	stored := make(map[parley.ID]bool, len(rows))
	for i := range rows {
		if in, ok := rows[i].Input.(parley.Called); ok {
			stored[in.ID] = true
		}
	}
	for _, t := range tasks {
		if in := t.outcome.Answer; in != nil && stored[in.ID] {
			c.metrics.answered(t.service, in, t.call.Age+now-t.began)
		}
	}
}
