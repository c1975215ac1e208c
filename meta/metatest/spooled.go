package metatest

import (
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// Spooled says that between two instants one of several nodes did not reach the store,
// while others did. What it acknowledged then is in its spool, and may take effect
// after what users wrote later and another node took. So nothing that was
// acknowledged in between is held to have come before what was posted after it; all
// else is judged as ever.
func (w *World) Spooled(from, until time.Time) {
	begin, end := w.since(from), w.since(until)
	w.keep(history.Event{At: w.now, Kind: history.Spooled, From: begin, Until: end})
	for i := range w.records {
		if r := &w.records[i]; r.acked() && r.ackedAt >= begin && r.ackedAt < end {
			r.spooled = true
		}
	}
}

// SpoolLook is what was seen of one node's spool: counts of the process that is there.
type SpoolLook struct {
	Began, Ended time.Time // of the look
	Spooled      int       // updates that went into it
	Drained      int       // updates that went on to the store
	Waiting      int       // what is in it
}

// SpoolWatch finds the stretches for [World.Spooled], by looks at the spools of all
// nodes, again and again. It isn't enough to know when a node was cut off: on a machine
// that is busy, a node that had no answer of the store for half a second has used its
// spool, too, and what another node took meanwhile may have taken effect first.
type SpoolWatch struct {
	Began time.Time // before any node had anything to acknowledge
	last  map[string]SpoolLook
}

// See takes a look at a node into account. It returns the stretch from the look before to
// this one, if the node may have acknowledged something from its spool then. A node that
// can't be looked at is looked at later: the stretch is the longer.
func (s *SpoolWatch) See(node string, l SpoolLook) (from, until time.Time, spooled bool) {
	before, known := s.last[node]
	if !known {
		before = SpoolLook{Began: s.Began}
	}
	if s.last == nil {
		s.last = map[string]SpoolLook{}
	}
	s.last[node] = l
	used := before.Waiting > 0 || l.Waiting > 0 || before.Spooled != l.Spooled || before.Drained != l.Drained
	return before.Began, l.Ended, used
}
