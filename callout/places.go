package callout

import (
	"time"

	"github.com/parleychat/parley"
)

// places is how many more attempts of a service may be made at once: its own bound,
// within what the node has left when each other service has its share.
func (c *Caller) places(s *service, now time.Duration) int {
	if s.breaker.halfOpen(now) {
		return 1 - s.making
	}
	share := max(1, c.cfg.NodeInFlight/len(c.services))
	free := c.cfg.NodeInFlight
	for _, other := range c.services {
		if free -= other.making; other != s {
			free -= max(0, min(share, other.Concurrency)-other.making)
		}
	}
	return min(s.Concurrency-s.making, max(free, share-s.making))
}

// hold takes places, or with a negative number gives them back.
func (s *service) hold(n int, making bool) {
	s.taken += n
	if making {
		s.making += n
	}
}

// put gives back the places for which no call was claimed.
func (c *Caller) put(q *parley.CallQuery, makes map[*service]bool, claimed []parley.ClaimedCall) {
	c.mu.Lock()
	defer c.mu.Unlock()
	used := map[*service]int{}
	for i := range claimed {
		used[c.byName[claimed[i].Call.Service]]++
	}
	for _, p := range q.Services {
		s := c.byName[p.Service]
		s.hold(used[s]-p.Limit, makes[s])
	}
	c.unknown.hold(used[nil]-q.Others.Limit, false)
}

// free gives back the place of a task whose outcome is stored, and sees to it that
// calls are looked for if something may wait for that, or when the task's own is due.
func (c *Caller) free(t *task, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	s := t.service
	if s == nil {
		s = c.unknown
	}
	s.hold(-1, t.makes)
	for _, one := range c.services {
		if one.starved {
			one.starved, c.freed = false, true
		}
	}
	if t.outcome.Answer == nil {
		c.again = min(c.again, now+t.outcome.Wait)
	}
	if c.freed || c.again < never {
		c.signal()
	}
}
