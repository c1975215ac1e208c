package ingress

import (
	"sync"
	"time"
)

// warnEvery is the least time between two warnings of one sort: strangers must
// not be able to fill the log.
const warnEvery = 10 * time.Second

// throttle lets one warning of a sort pass per warnEvery. Sorts are constants
// of this package, so that there are few.
type throttle struct {
	now func() time.Time

	mu    sync.Mutex
	sorts map[string]*throttled
}

type throttled struct {
	next time.Time
	left int
}

func newThrottle(now func() time.Time) *throttle {
	return &throttle{now: now, sorts: make(map[string]*throttled)}
}

// pass reports whether a warning may be logged, and how many of its sort were
// left out since the one before.
func (t *throttle) pass(sort string) (left int, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.now()
	s := t.sorts[sort]
	if s == nil {
		s = &throttled{}
		t.sorts[sort] = s
	}
	if now.Before(s.next) {
		s.left++
		return 0, false
	}
	left, s.left, s.next = s.left, 0, now.Add(warnEvery)
	return left, true
}
