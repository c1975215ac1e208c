package metatest

import "time"

// Spooled says that between two instants one of several nodes did not reach the store,
// while others did. What it acknowledged then is in its spool, and may take effect
// after what users wrote later and another node took. So nothing that was
// acknowledged in between is held to have come before what was posted after it; all
// else is judged as ever.
func (w *World) Spooled(from, until time.Time) {
	begin, end := w.since(from), w.since(until)
	for i := range w.records {
		if r := &w.records[i]; r.acked() && r.ackedAt >= begin && r.ackedAt < end {
			r.spooled = true
		}
	}
}
