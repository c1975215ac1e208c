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
	brands sync.Map // parley.Brand -> *part; as many as there are brands
}

// part is a brand's.
type part struct {
	crowd *crowd
	rows  atomic.Int64
}

func (p *part) add(n int64) {
	p.rows.Add(n)
	p.crowd.rows.Add(n)
}

// brandShare is the part of all rows that one brand may have in memory: 1/4.
const brandShare = 4

func (c *crowd) brand(b parley.Brand) *part {
	if p, ok := c.brands.Load(b); ok {
		return p.(*part) //nolint:forcetypeassert,errcheck // the map holds nothing else
	}
	p, _ := c.brands.LoadOrStore(b, &part{crowd: c})
	return p.(*part) //nolint:forcetypeassert,errcheck // the map holds nothing else
}

// admit counts n rows of a brand in, unless there are enough already.
func (c *crowd) admit(b parley.Brand, n int) bool {
	p := c.brand(b)
	if c.rows.Load() >= c.most || p.rows.Load() >= c.most/brandShare {
		return false
	}
	p.add(int64(n))
	return true
}

// load is the part of a crowd that one actor has. An actor that is abandoned
// may come back long after its part was taken off; then it counts no more.
type load struct {
	of   *part
	mu   sync.Mutex
	rows int32
	gone bool
}

func (l *load) add(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.gone {
		return
	}
	l.rows += int32(n)
	l.of.add(int64(n))
}

// take makes n rows, which were admitted, those of l.
func (l *load) take(n int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.rows += int32(n)
}

// drop takes off whatever l has, for ever.
func (l *load) drop() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.of.add(-int64(l.rows))
	l.rows, l.gone = 0, true
}
