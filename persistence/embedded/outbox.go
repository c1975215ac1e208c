package embedded

import (
	"container/heap"
	"slices"

	"github.com/parleychat/parley"
)

// outbox is what is in memory of a channel's unsent messages: a line for each
// conversation that has any. Only the first message of a line, its head, is ever
// claimed. A line is in one of four states, and in the list of that state; it
// leaves a list lazily, when its entry there turns out to be of an older stamp.
type outbox struct {
	lease     lease
	lines     map[parley.Contact]*line
	attempted map[parley.ID]*line // by the heads that have a mark
	ready     [lanes][]entry      // claimable now, in the order in which they became so
	waiting   entries             // claimable at a time of their own: after Retry or Doubt
	orphans   entries             // claimed in an earlier epoch and not settled, by the time of that

	// What was merged and still has messages goes first: before says, of each
	// such contact, what it was merged into, step by step; held is how many such
	// contacts there are before another.
	before map[parley.Contact][]parley.Contact
	held   map[parley.Contact]int
}

func newOutbox() outbox {
	return outbox{
		lines: map[parley.Contact]*line{}, attempted: map[parley.ID]*line{},
		before: map[parley.Contact][]parley.Contact{}, held: map[parley.Contact]int{},
	}
}

// The lanes of lines that are ready: those with a message that isn't bulk, and
// those without.
const (
	replyLane = iota
	bulkLane
	lanes
)

// line is a conversation's unsent messages, by ordinal.
type line struct {
	contact parley.Contact
	queue   []unsent
	replies int  // of queue, those that aren't bulk
	mark    mark // of the head
	// silenced is the ordinal up to which the messages are silenced, 0 if none is.
	silenced uint64
	state    lineState
	stamp    uint32 // of the state; raised at each change
}

type unsent struct {
	id      parley.ID
	ordinal uint64
	bulk    bool
	content *parley.Outgoing // nil if it must be read
	bytes   int              // that content is counted for
}

func (l *line) lane() int {
	if l.replies == 0 {
		return bulkLane
	}
	return replyLane
}

type lineState uint8

const (
	lineReady lineState = iota
	lineClaimed
	lineWaiting
	lineOrphan
	lineHeld // else ready
	lineGone
)

// mark is how the attempts of a head stand. It is stored, so that a claim
// outlives its process.
type mark struct {
	id       parley.ID
	epoch    uint64 // of the open claim; 0 if there is none
	at       int64  // of the last claim
	due      int64  // of the next attempt, if no claim is open
	attempts int    // that were refused for a time
	doubtful bool   // one of them may have reached the provider
}

type entry struct {
	line  *line
	stamp uint32
	at    int64
}

func (e entry) stale() bool { return e.stamp != e.line.stamp }

// entries is a heap by time.
type entries []entry

func (h entries) Len() int           { return len(h) }
func (h entries) Less(i, j int) bool { return h[i].at < h[j].at }
func (h entries) Swap(i, j int)      { h[i], h[j] = h[j], h[i] }

// Push and Pop are container/heap's.
func (h *entries) Push(x any) {
	if e, ok := x.(entry); ok {
		*h = append(*h, e)
	}
}

// Pop removes the last entry.
func (h *entries) Pop() any {
	n := len(*h) - 1
	e := (*h)[n]
	(*h)[n] = entry{}
	*h = (*h)[:n]
	return e
}

// first drops stale entries and returns the earliest.
func (h *entries) first() (entry, bool) {
	for len(*h) > 0 {
		if e := (*h)[0]; !e.stale() {
			return e, true
		}
		heap.Pop(h)
	}
	return entry{}, false
}

// turn changes a line's state.
func (o *outbox) turn(l *line, state lineState) {
	if state == lineReady && o.held[l.contact] > 0 {
		state = lineHeld
	}
	l.state = state
	l.stamp++
	e := entry{line: l, stamp: l.stamp}
	switch state {
	case lineReady:
		o.ready[l.lane()] = append(o.ready[l.lane()], e)
	case lineWaiting:
		e.at = l.mark.due
		heap.Push(&o.waiting, e)
	case lineOrphan:
		e.at = l.mark.at
		heap.Push(&o.orphans, e)
	case lineClaimed, lineHeld, lineGone:
	}
}

// wake makes lines ready whose time has come.
func (o *outbox) wake(now, doubtfulWait int64) {
	for {
		e, ok := o.waiting.first()
		if !ok || e.at > now {
			break
		}
		o.turn(e.line, lineReady)
	}
	for {
		e, ok := o.orphans.first()
		if !ok || e.at+doubtfulWait > now {
			break
		}
		e.line.mark.doubtful = true
		o.turn(e.line, lineReady)
	}
}

// nextWake is when wake will next find something; never if nothing waits.
func (o *outbox) nextWake(doubtfulWait int64) int64 {
	next := int64(never)
	if e, ok := o.waiting.first(); ok {
		next = e.at
	}
	if e, ok := o.orphans.first(); ok {
		next = min(next, e.at+doubtfulWait)
	}
	return next
}

// claimable returns up to limit ready lines: up to bulk of that lane, then what
// waits in the other, then what is left of the first. entries says how many of
// each ready list that took. It changes nothing.
func (o *outbox) claimable(limit, bulk int) (lines []*line, entries [lanes]int) {
	take := func(lane, upTo int) {
		for n := &entries[lane]; *n < len(o.ready[lane]) && len(lines) < upTo; *n++ {
			if e := o.ready[lane][*n]; !e.stale() {
				lines = append(lines, e.line)
			}
		}
	}
	take(bulkLane, min(bulk, limit))
	take(replyLane, limit)
	take(bulkLane, limit)
	return lines, entries
}

// anyReady drops stale entries from the front and reports whether one is left.
func (o *outbox) anyReady() bool {
	left := 0
	for lane := range o.ready {
		r := &o.ready[lane]
		for len(*r) > 0 && (*r)[0].stale() {
			*r = (*r)[1:]
		}
		left += len(*r)
	}
	return left > 0
}

// insert puts a message into the line of its conversation.
func (o *outbox) insert(c parley.Contact, u unsent) {
	l, ok := o.lines[c]
	if !ok {
		l = &line{contact: parley.Contact([]byte(c))}
		o.lines[l.contact] = l
	}
	i, _ := slices.BinarySearchFunc(l.queue, u, func(a, b unsent) int {
		if a.ordinal != b.ordinal {
			if a.ordinal < b.ordinal {
				return -1
			}
			return 1
		}
		return slices.Compare(a.id[:], b.id[:])
	})
	if i == 0 && !l.mark.id.IsZero() {
		i = 1 // never before a head that has been attempted
	}
	l.queue = slices.Insert(l.queue, i, u)
	lifted := !u.bulk && l.replies == 0 && l.state == lineReady
	if !u.bulk {
		l.replies++
	}
	if len(l.queue) == 1 || lifted {
		o.turn(l, lineReady)
	}
}

// orphan makes doubtful what was claimed in an epoch that has ended.
func (o *outbox) orphan() {
	for _, l := range o.attempted {
		if l.state == lineClaimed {
			o.turn(l, lineOrphan)
		}
	}
}

// pop removes the head of a line.
func (o *outbox) pop(l *line) {
	delete(o.attempted, l.queue[0].id)
	l.mark = mark{}
	if !l.queue[0].bulk {
		l.replies--
	}
	l.queue[0] = unsent{}
	l.queue = l.queue[1:]
	if len(l.queue) == 0 {
		o.turn(l, lineGone)
		delete(o.lines, l.contact)
		o.letGo(l.contact)
		return
	}
	o.turn(l, lineReady)
}

// goesBefore notes that a conversation was merged: its messages, and those that
// go before them, go before the survivor's.
func (o *outbox) goesBefore(younger, survivor parley.Contact) {
	for c, steps := range o.before {
		if slices.Contains(steps, younger) {
			o.hold(c, survivor)
		}
	}
	if _, ok := o.lines[younger]; ok {
		o.hold(younger, survivor)
	}
}

func (o *outbox) hold(c, behind parley.Contact) {
	o.before[c] = append(o.before[c], behind)
	o.held[behind]++
	if l, ok := o.lines[behind]; ok && l.state == lineReady {
		o.turn(l, lineHeld)
	}
}

// letGo notes that a contact has no messages any more.
func (o *outbox) letGo(c parley.Contact) {
	for _, behind := range o.before[c] {
		if o.held[behind]--; o.held[behind] > 0 {
			continue
		}
		delete(o.held, behind)
		if l, ok := o.lines[behind]; ok && l.state == lineHeld {
			o.turn(l, lineReady)
		}
	}
	delete(o.before, c)
}
