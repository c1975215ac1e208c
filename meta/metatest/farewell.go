package metatest

import (
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// Farewell says that the last fault is over. The users write nothing more but one last
// message in each conversation that there has been, at the pace of the run; each must be
// answered within a time from its first post. Who is not is named: Verdict.Silent. With
// Config.Farewell set the run isn't settled before.
func (w *World) Farewell(now time.Time, within time.Duration) {
	w.Finish(now)
	w.keep(history.Event{At: w.now, Kind: history.Healed, Within: int64(within)})
	w.within, w.parted = int64(within), true
	due := w.now
	for u := range w.people {
		if w.people[u].wrote == 0 {
			continue
		}
		w.lastOf(int32(u), due)
		due += int64(float64(time.Second) / w.cfg.Rate)
	}
	w.parts = due
}

// lastOf lets a user write the last message: one that cancels what was to be cancelled,
// or says something.
func (w *World) lastOf(u int32, due int64) {
	p, i := &w.people[u], w.begin(u, due)
	w.records[i].last = true
	if p.forget != 0 {
		w.records[i].command, w.records[i].arg = forget, p.forget
		w.timers[w.records[w.recordOf(u, p.forget)].timer].forgotten = i
		p.forget = 0
	}
	w.updates.push(due, update{message: i})
}

// silence counts last messages, and those that weren't answered in time.
func (r *review) silence() {
	for i := range r.w.records {
		m := &r.w.records[i]
		if !m.last || m.postedStep == 0 {
			continue
		}
		r.v.LastAsked++
		replied := r.w.now
		if m.answered() {
			replied = m.said
		}
		if replied-m.posted > r.w.within {
			r.v.Silent++
			r.v.problem("no answer in time although everything was healed: " + r.w.nameMessage(int32(i)))
		}
	}
}
