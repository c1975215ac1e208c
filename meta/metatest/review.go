package metatest

import (
	"cmp"
	"slices"
	"time"
)

// Verdict computes the verdict as of the last call. It changes nothing: asked in
// the middle of a run it tells what a run that ended now would have to show.
func (w *World) Verdict() Verdict {
	v := w.live
	v.Broken = slices.Clone(v.Broken)
	v.Unacked = v.Offered - v.Acked
	r := review{w: w, v: &v, covered: map[int32]bool{}, extras: w.extrasByUser()}
	for u := range w.people {
		r.person(int32(u))
	}
	r.reminders()
	r.silence()
	v.AckMS, v.AnswerMS = w.ack.millis(), w.answers.millis()
	v.LagMS, v.LagMaxMS = w.lag.quantile(0.99), inMillis(w.lag.max)
	return v
}

func (w *World) extrasByUser() map[int32][]extra {
	by := map[int32][]extra{}
	for _, e := range w.extras {
		by[w.userOf(e.message)] = append(by[w.userOf(e.message)], e)
	}
	return by
}

// review goes over the record, user by user.
//
// N is what it reasons with. The largest N of a user says how many of the
// user's commands took effect. Most of them are named by their own replies; an N
// that no reply names is an effect whose reply is missing, and is attributed to
// an unanswered message that was posted before the reply with the next larger N
// was accepted. If there is none, something counted twice. Unanswered messages
// that are left over had no effect.
type review struct {
	w       *World
	v       *Verdict
	covered map[int32]bool // messages without a reply whose effect a later N shows
	extras  map[int32][]extra

	// Of the person under review; kept to be used again.
	all        []int32 // messages, by number
	seen       []sighting
	candidates []int32
	byPost     []int32
	byAck      []int32
}

// sighting is an N that a reply showed.
type sighting struct {
	n       uint32
	step    uint32 // of the first reply with this N or, after spread, a larger one
	message int32
}

func (r *review) person(u int32) {
	r.all = r.all[:0]
	for i := int(u); i < len(r.w.records); i += r.w.cfg.Users {
		if r.w.records[i].postedStep != 0 {
			r.all = append(r.all, int32(i))
		}
	}
	r.collect(u)
	r.cover()
	r.classify()
	r.order()
}

// collect sorts what the replies showed, and what has no reply.
func (r *review) collect(u int32) {
	r.seen, r.candidates = r.seen[:0], r.candidates[:0]
	for _, i := range r.all {
		if m := &r.w.records[i]; m.answered() {
			r.seen = append(r.seen, sighting{m.n, m.saidStep, i})
		} else {
			r.candidates = append(r.candidates, i)
		}
	}
	for _, e := range r.extras[u] {
		r.seen = append(r.seen, sighting{e.n, e.step, e.message})
	}
	slices.SortFunc(r.seen, func(a, b sighting) int { return cmp.Or(cmp.Compare(a.n, b.n), cmp.Compare(a.step, b.step)) })
	for i := len(r.seen) - 2; i >= 0; i-- {
		r.seen[i].step = min(r.seen[i].step, r.seen[i+1].step)
	}
	r.sortBy(r.candidates, func(m *record) uint32 { return m.postedStep })
}

func (r *review) sortBy(messages []int32, key func(*record) uint32) {
	slices.SortFunc(messages, func(a, b int32) int {
		return cmp.Compare(key(&r.w.records[a]), key(&r.w.records[b]))
	})
}

// cover attributes the N that no reply shows.
func (r *review) cover() {
	last := uint32(0)
	for _, s := range r.seen {
		if s.n == last {
			r.v.EffectsDoubled++
			r.v.problem("two messages with the same N: " + r.w.nameMessage(s.message))
			continue
		}
		gap := int(s.n - last - 1)
		for ; gap > 0 && r.attribute(s.step); gap-- {
		}
		if gap > 0 {
			r.v.EffectsDoubled += gap
			r.v.problem("N counts more effects than there were messages: " + r.w.nameMessage(s.message))
		}
		last = s.n
	}
}

// attribute finds a message that an effect without a reply may be of: one that
// was posted before a step, and first of all one whose effect was seen before the
// store may have lost it.
func (r *review) attribute(before uint32) bool {
	found := -1
	for at, i := range r.candidates {
		m := &r.w.records[i]
		if m.postedStep >= before {
			break
		}
		if found < 0 || m.heard {
			found = at
		}
		if m.heard || !r.w.lossy {
			break
		}
	}
	if found < 0 {
		return false
	}
	r.covered[r.candidates[found]] = true
	r.candidates = slices.Delete(r.candidates, found, found+1)
	return true
}

// classify counts effects, and what became of messages without a reply.
func (r *review) classify() {
	later := false // a later message took effect
	for _, i := range slices.Backward(r.all) {
		m := &r.w.records[i]
		effect := m.answered() || r.covered[i]
		switch {
		case r.covered[i] && m.heard: // it was answered, and need not be again
		case r.covered[i]:
			r.v.Unanswered++
			r.v.problem("took effect and was never answered: " + r.w.nameMessage(i))
		case effect || !m.acked():
		case m.unsure:
			r.v.LostByStore++
		case m.heard && !later: // nobody can tell
		case later:
			r.v.Lost++
			r.v.problem("acknowledged and lost: " + r.w.nameMessage(i))
		default:
			r.v.Pending++
			r.v.problem("acknowledged and without effect so far: " + r.w.nameMessage(i))
		}
		if effect && m.acked() {
			r.v.Effects++
			if m.sightings > 1 {
				r.v.Redelivered++
			}
		}
		later = later || effect
	}
}

// order finds messages that took effect before one that had been acknowledged
// before they were first posted.
func (r *review) order() {
	r.byPost, r.byAck = r.byPost[:0], r.byAck[:0]
	for _, i := range r.all {
		m := &r.w.records[i]
		if !m.answered() {
			continue
		}
		r.byPost = append(r.byPost, i)
		if m.acked() && !m.unsure && !m.spooled { // else the acknowledgement may be lost, or binds one node only
			r.byAck = append(r.byAck, i)
		}
	}
	r.sortBy(r.byPost, func(m *record) uint32 { return m.postedStep })
	r.sortBy(r.byAck, func(m *record) uint32 { return m.ackedStep })
	highest, next := uint32(0), 0
	for _, i := range r.byPost {
		m := &r.w.records[i]
		for ; next < len(r.byAck) && r.w.records[r.byAck[next]].ackedStep < m.postedStep; next++ {
			highest = max(highest, r.w.records[r.byAck[next]].n)
		}
		if next > 0 {
			r.v.Ordered++
		}
		if m.n < highest {
			r.v.Reordered++
			r.v.problem("took effect before an earlier one: " + r.w.nameMessage(i))
		}
	}
}

// reminders judges what only the end of the run can tell about timers.
func (r *review) reminders() {
	var late histogram
	for i := range r.w.timers {
		t := &r.w.timers[i]
		m := &r.w.records[t.message]
		effect := m.answered() || r.covered[t.message]
		if effect {
			r.v.TimersSet++
		}
		due := r.base(m) + int64(time.Duration(m.arg)*time.Millisecond)
		switch {
		case t.hasRung():
			late.record(time.Duration(t.rung - due))
		case t.heard || r.w.untold(m): // or it may have, and be lost
		case effect && !r.forgotten(t) && r.w.now > due:
			r.v.TimersMissing++
			r.v.problem("reminder never rang: " + r.w.nameMessage(t.message))
		}
	}
	r.v.TimersLateMS = late.millis()
}

// base is the time from which a reminder's delay counts: that of the post which
// was acknowledged.
func (r *review) base(m *record) int64 {
	if m.acked() {
		return m.took
	}
	return max(m.said, m.posted)
}

// forgotten reports whether a reminder was, or may have been, cancelled.
func (r *review) forgotten(t *timer) bool {
	if t.forgotten < 0 {
		return false
	}
	m, f := &r.w.records[t.message], &r.w.records[t.forgotten]
	if !f.answered() {
		return r.covered[t.forgotten] || r.w.untold(f)
	}
	return !m.answered() || f.n > m.n
}
