package actors

import (
	"sync"
	"sync/atomic"

	"github.com/parleychat/parley"
)

// crowd counts the rows that are in memory, between Deliver and the commit that
// consumes them: in mailboxes and in the queues of machines. It is what bounds
// them, and the goroutines of actors that wait for a turn: when bots are slower
// than what comes in, the rest waits in the inbox and not in memory.
//
// No brand may have more than a share of them, so that one whose bot is stuck
// doesn't send the others' rows the long way, by the sweeper.
type crowd struct {
	most   int64
	rows   atomic.Int64
	brands sync.Map // parley.Brand -> *atomic.Int64; as many as there are brands
}

// brandShare is the part of all rows that one brand may have in memory: 1/4.
const brandShare = 4

func (c *crowd) brand(b parley.Brand) *atomic.Int64 {
	if n, ok := c.brands.Load(b); ok {
		return n.(*atomic.Int64) //nolint:forcetypeassert // the map holds nothing else
	}
	n, _ := c.brands.LoadOrStore(b, new(atomic.Int64))
	return n.(*atomic.Int64) //nolint:forcetypeassert // the map holds nothing else
}

// admit counts n rows of a brand in, unless there are enough already.
func (c *crowd) admit(b parley.Brand, n int) bool {
	of := c.brand(b)
	if c.rows.Load() >= c.most || of.Load() >= c.most/brandShare {
		return false
	}
	of.Add(int64(n))
	c.rows.Add(int64(n))
	return true
}

// load is the part of a crowd that one actor has. An actor that is abandoned
// may come back long after its part was taken off; then it counts no more.
type load struct {
	crowd *crowd
	brand *atomic.Int64
	mu    sync.Mutex
	rows  int
	gone  bool
}

func (c *crowd) load(b parley.Brand) *load { return &load{crowd: c, brand: c.brand(b)} }

func (l *load) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return
	}
	l.rows += n
	l.brand.Add(int64(n))
	l.crowd.rows.Add(int64(n))
}

// take makes n rows, which were admitted, those of l.
func (l *load) take(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows += n
}

// drop takes off whatever l has, for ever.
func (l *load) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.brand.Add(-int64(l.rows))
	l.crowd.rows.Add(-int64(l.rows))
	l.rows, l.gone = 0, true
}
