package metatest

// queue is a heap of things that are due at a time; what was pushed first comes
// first among equals, so that the order depends on nothing but the calls.
type queue[T any] struct {
	items []queued[T]
	seq   uint64
}

type queued[T any] struct {
	at, seq uint64
	value   T
}

func (q *queue[T]) len() int { return len(q.items) }

// next is the time of the first thing; valid only if len is not zero.
func (q *queue[T]) next() int64 { return int64(q.items[0].at) }

func (q *queue[T]) first() T { return q.items[0].value }

// push adds a thing that is due at ns after the start (never negative).
func (q *queue[T]) push(ns int64, v T) {
	q.seq++
	q.items = append(q.items, queued[T]{at: uint64(max(ns, 0)), seq: q.seq, value: v})
	i := len(q.items) - 1
	for i > 0 {
		parent := (i - 1) / 2
		if !q.before(i, parent) {
			return
		}
		q.items[i], q.items[parent] = q.items[parent], q.items[i]
		i = parent
	}
}

func (q *queue[T]) pop() T {
	v, last := q.items[0].value, len(q.items)-1
	q.items[0] = q.items[last]
	q.items[last] = queued[T]{}
	q.items = q.items[:last]
	q.sink()
	return v
}

func (q *queue[T]) sink() {
	for i := 0; ; {
		child := 2*i + 1
		if child >= len(q.items) {
			return
		}
		if child+1 < len(q.items) && q.before(child+1, child) {
			child++
		}
		if !q.before(child, i) {
			return
		}
		q.items[i], q.items[child] = q.items[child], q.items[i]
		i = child
	}
}

func (q *queue[T]) before(i, j int) bool {
	a, b := &q.items[i], &q.items[j]
	return a.at < b.at || a.at == b.at && a.seq < b.seq
}
