package sim

import (
	"context"
	"slices"

	"github.com/parleychat/parley"
)

// What a process may have died of is noted in the store before it is run, and acquitted
// after it; who finds another's note for long enough condemns the event. No event here ends
// a process: one that is condemned breaks the run. A node that dies or stands still between
// the note and the run must say so when it is there again.

// tryRows asks for the suspects among the rows of the next turn.
func (n *node) tryRows(ctx context.Context, c *talk) {
	l, rows := n.line, c.Trying()
	c.awaits = true
	var fresh []parley.Row
	for _, r := range rows {
		if _, ok := n.land.noted[r]; !ok {
			n.land.noted[r], fresh = false, append(fresh, r)
		}
	}
	l.sent(n, l.soon(hop), func() {
		if n.dead {
			return // else it could take hold after what the next process says of it
		}
		tried, err := troubled(l, func() ([]parley.Row, error) { return n.store.Try(ctx, rows) })
		l.tally.Tried += len(rows)
		for _, r := range rows {
			if !slices.Contains(tried, r) {
				n.land.noted[r] = false
				c.tried = append(c.tried, r)
			} else if slices.Contains(fresh, r) {
				delete(n.land.noted, r)
			}
		}
		if l.fatal && err == nil {
			l.fatal = false
			l.tally.Crashes++
			l.crash(ctx, n.machine)
		}
		l.later(n, l.answer(), func() {
			c.awaits = false
			n.told(ctx, c, c.Tried(tried, err))
		})
	})
}

// inherit is what a process finds on its folder: what the one before had noted, and was
// not running when it died, as a turn takes no time here. It acquits that soon.
func (l *line) inherit(old *node) map[parley.Row]bool {
	noted := map[parley.Row]bool{}
	if old != nil && old.land != nil {
		for r := range old.land.noted {
			noted[r] = true
		}
	}
	l.tally.Inherited += len(noted)
	return noted
}

// acquit acquits rows in the store; what fails is made up for later.
func (n *node) acquit(ctx context.Context, rows []parley.Row) {
	if len(rows) == 0 {
		return
	}
	_, err := troubled(n.line, func() (struct{}, error) {
		return struct{}{}, n.store.Acquit(ctx, rows)
	})
	for _, r := range rows {
		if _, noted := n.land.noted[r]; noted && err != nil {
			n.land.noted[r] = true
		} else {
			delete(n.land.noted, r)
		}
	}
}

// notedBy reports whether notes of a conversation's rows are in the store, of which nobody
// knows here that they are to be acquitted.
func (n *node) notedBy(c *talk) bool {
	return slices.ContainsFunc(c.tried, func(r parley.Row) bool {
		owed, noted := n.land.noted[r]
		return noted && !owed
	})
}

// makeUp acquits what should have been before.
func (n *node) makeUp(ctx context.Context) {
	if n.land == nil {
		return
	}
	var rows []parley.Row
	for r, owed := range n.land.noted {
		if owed {
			rows = append(rows, r)
		}
	}
	slices.SortFunc(rows, func(a, b parley.Row) int { return int(a.Seq) - int(b.Seq) })
	n.acquit(ctx, rows)
}

// condemned are the rows of a turn that must not be run.
func condemned(c *talk) map[parley.Row]string {
	all := map[parley.Row]string{}
	for _, r := range c.Condemned() {
		all[r] = "the process died each time it ran"
	}
	return all
}
