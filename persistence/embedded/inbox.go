package embedded

import (
	"cmp"
	"slices"

	"github.com/parleychat/parley"
)

// inboxRow is what is in memory of a pending row: enough for a commit's check.
type inboxRow struct {
	seq      parley.Seq
	token    parley.Token
	received int64
}

// inboxLine is a conversation's pending rows, by number. A line without rows is
// not kept; one that had some may still be named in arrivals.
type inboxLine struct {
	conversation parley.Conversation
	rows         []inboxRow
	merged       *mergedLine // nil in all but a few
}

// mergedLine is what a line has to do with a merge.
type mergedLine struct {
	into  *inboxLine                    // of the younger: where its rows are
	homes map[parley.Seq]parley.Contact // of the survivor: the rows that are stored under another contact's key
}

// home is the contact under whose key a row is stored.
func (l *inboxLine) home(seq parley.Seq) parley.Contact {
	if l.merged != nil {
		if home, ok := l.merged.homes[seq]; ok {
			return home
		}
	}
	return l.conversation.Contact
}

// stray notes that a row of the line is stored under another contact's key.
func (l *inboxLine) stray(seq parley.Seq, home parley.Contact) {
	if l.merged == nil {
		l.merged = &mergedLine{homes: map[parley.Seq]parley.Contact{}}
	}
	l.merged.homes[seq] = home
}

func (l *inboxLine) sort() {
	slices.SortFunc(l.rows, func(a, b inboxRow) int { return cmp.Compare(a.seq, b.seq) })
}

// line returns the line of c, a new one if there is none.
func (ch *channel) line(c parley.Contact) *inboxLine {
	l, ok := ch.inbox[c]
	if !ok {
		own := parley.Contact([]byte(c)) // a copy: c may be part of a webhook's body
		l = &inboxLine{conversation: parley.Conversation{Channel: ch.name, Contact: own}}
		ch.inbox[own] = l
	}
	return l
}

// through returns how many of the line's rows have numbers up to seq.
func (l *inboxLine) through(seq parley.Seq) int {
	if l == nil {
		return 0
	}
	n := 0
	for n < len(l.rows) && l.rows[n].seq <= seq {
		n++
	}
	return n
}

// arrival is an entry of arrivals. It is gone when its line's first row is a
// later one: rows leave a line from the front only.
type arrival struct {
	line *inboxLine
	row  inboxRow
}

func (a *arrival) gone() bool {
	for a.line.merged != nil && a.line.merged.into != nil {
		a.line = a.line.merged.into
	}
	return len(a.line.rows) == 0 || a.line.rows[0].seq > a.row.seq
}

// arrivals is all pending rows in the order in which they came, and so of their
// times. Rows that are gone are dropped when they reach the front, or when they
// are more than half of all.
type arrivals struct {
	queue []arrival
	live  int
}

// arrivalsSlack is how many entries may be gone before it is worth a sweep.
const arrivalsSlack = 1024

func (a *arrivals) add(l *inboxLine, row inboxRow) {
	l.rows = append(l.rows, row)
	a.live++
	if len(a.queue) == cap(a.queue) && len(a.queue) > 2*a.live+arrivalsSlack {
		a.sweep()
	}
	a.queue = append(a.queue, arrival{line: l, row: row})
}

func (a *arrivals) sweep() {
	kept := a.queue[:0]
	for _, e := range a.queue {
		if !e.gone() {
			kept = append(kept, e)
		}
	}
	clear(a.queue[len(kept):])
	a.queue = kept
}

// front drops what is gone from the front and returns the oldest row.
func (a *arrivals) front() (arrival, bool) {
	for len(a.queue) > 0 {
		if !a.queue[0].gone() {
			return a.queue[0], true
		}
		a.queue[0] = arrival{}
		a.queue = a.queue[1:]
	}
	return arrival{}, false
}

// consume takes the first n rows of l. An empty line leaves its channel.
func (s *Store) consume(ch *channel, l *inboxLine, n int) {
	if n == 0 {
		return
	}
	s.arrived.live -= n
	if l.merged != nil {
		for _, row := range l.rows[:n] {
			delete(l.merged.homes, row.seq)
		}
	}
	l.rows = l.rows[n:]
	if len(l.rows) == 0 {
		delete(ch.inbox, l.conversation.Contact)
	}
	s.arrived.front()
}
