package metatest

import (
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// lossGrace is how long after the store was gone an acknowledgement may be read
// that was given before.
const lossGrace = 250 * time.Millisecond

// StoreLost says that the store has lost everything that it was told between two
// instants, as an asynchronous standby does that takes the place of a primary:
// what was acknowledged in between, what took effect, and what was noted of
// sends. At the second instant the store was gone. It is to be called before the
// survivor can be heard of, and after whatever the node had under way at the
// loss has come.
//
// What the survivor has keeps all promises. So the judge takes back what it has
// seen in between, as the survivor knows nothing of it, and judges anew: a
// message that was acknowledged before is owed its effect, once, whatever was
// seen of a first one. Only a message that was acknowledged in between may be
// missing: it counts in Verdict.LostByStore. A reply or a ring that was sent in
// between may come a second time; or, if the survivor just has that it was sent,
// never again.
func (w *World) StoreLost(from, until time.Time) {
	w.tick(until)
	w.lossy = true
	begin, end := w.since(from), w.since(until)
	w.keep(history.Event{At: w.now, Kind: history.Lost, From: begin, Until: end})
	w.excuse(begin - int64(w.cfg.KillGrace) - w.stall(begin))
	for u := range w.people {
		w.people[u].lastN = 0
	}
	for i := range w.records {
		w.forgetEffect(int32(i), begin, end)
	}
	w.open = 0
	for i := range w.timers {
		w.forgetRing(&w.timers[i], begin)
	}
}

// forgetEffect takes back the effect of a message, if it was seen since begin.
func (w *World) forgetEffect(i int32, begin, end int64) {
	r := &w.records[i]
	if r.acked() && r.ackedAt >= begin && r.ackedAt < end+int64(lossGrace) {
		r.unsure = true
	}
	if r.answered() && r.said >= begin {
		r.heard = true
		r.said, r.saidStep, r.n = 0, 0, 0
		w.answered--
	}
	p := &w.people[w.userOf(i)]
	p.lastN = max(p.lastN, r.n)
}

// forgetRing takes back a ring, if it was seen since begin, and finds out again
// whether one is owed.
func (w *World) forgetRing(t *timer, begin int64) {
	if t.hasRung() && t.rung >= begin {
		t.heard = true
		t.rung, t.rungStep = 0, 0
		w.live.TimersRung--
	}
	t.cancelled, t.open = false, false
	if r := &w.records[t.message]; r.answered() && !t.hasRung() && !t.heard {
		t.open = true
		w.open++
	}
	w.cancel(t)
}

// untold reports whether nobody can tell from outside if a message has an effect:
// one was seen, and the store may have lost it. Nothing that follows from it is
// owed.
func (w *World) untold(r *record) bool { return !r.answered() && (r.heard || r.unsure) }
