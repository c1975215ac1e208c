package metatest

import "time"

// thawGrace is how long after a node was thawed what it was about to write when
// it was frozen may come.
const thawGrace = time.Second

// Frozen says that the node was stopped at that instant (SIGSTOP). What it had
// under way may be repeated with good reason, by itself or by another node, as
// after a kill: it may find that the time for an answer is over, whatever has
// come meanwhile.
func (w *World) Frozen(at time.Time) {
	w.frozen++
	w.stopped(at)
}

// Thawed says that a frozen node goes on. Of what it sends from now on it hears
// the answers again. But it may have been stopped between the check of its lease
// and the socket, and another may have sent the same meanwhile: so what is
// repeated right now has a reason, too.
func (w *World) Thawed(at time.Time) {
	w.tick(at)
	if w.frozen--; w.frozen <= 0 {
		w.frozen, w.lastKill = 0, -1
	}
	w.thawed = w.since(at) + int64(thawGrace)
}

// straggling reports whether what comes now may have been decided before a
// freeze.
func (w *World) straggling() bool { return w.now < w.thawed }
