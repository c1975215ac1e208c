package metatest

import (
	"strconv"
	"time"
)

// write lets the users write every message that is due by now.
func (w *World) write(now int64) {
	for w.next < w.total && w.dueAt(w.next) <= now {
		m := w.next
		w.next++
		w.writeOne(m)
	}
}

func (w *World) writeOne(m int) {
	i := w.begin(w.roster.writer(m), w.dueAt(m))
	w.choose(m, i)
	at := w.records[i].due
	if w.plan.Float64() < w.cfg.Delayed {
		at += w.plan.Int64N(int64(w.cfg.DelayMax) + 1)
	}
	w.updates.push(at, update{message: i})
}

// begin makes the record of the next message of a user, which says something.
func (w *World) begin(u int32, due int64) int32 {
	p := &w.people[u]
	i := int32(int(p.wrote)*w.cfg.Users) + u
	p.wrote++
	for int(i) >= len(w.records) {
		w.records = append(w.records, make([]record, w.cfg.Users)...)
	}
	w.records[i] = record{due: due, timer: -1}
	w.live.Offered++
	return i
}

// choose decides what message m, recorded as i, says and in which form. A
// reminder that its user is going to forget is long enough that the cancelling
// message usually, but not always, comes before the ring.
func (w *World) choose(m int, i int32) {
	r, p := &w.records[i], &w.people[w.userOf(i)]
	if w.plan.Float64() < w.cfg.Clicks {
		r.form = asReply + form(w.plan.IntN(2))
	}
	switch {
	case p.forget != 0:
		r.command, r.arg = forget, p.forget
		w.timers[w.records[w.recordOf(w.userOf(i), p.forget)].timer].forgotten = i
		p.forget = 0
	case w.plan.Float64() < w.cfg.Timers:
		w.remind(i)
		delay := w.cfg.TimerMin + time.Duration(w.plan.Int64N(int64(w.cfg.TimerMax-w.cfg.TimerMin)+1))
		if w.plan.IntN(2) == 0 && w.roster.writesAgain(m, w.total) {
			delay = time.Duration((0.9 + 2*w.plan.Float64()) * float64(w.cfg.interval()))
			p.forget = w.numberOf(i)
		}
		r.arg = uint32(max(delay.Milliseconds(), 1))
	}
}

// remind makes a message a reminder.
func (w *World) remind(i int32) {
	w.records[i].command, w.records[i].timer = remind, int32(len(w.timers))
	w.timers = append(w.timers, timer{message: i, forgotten: -1})
}

// userOf, numberOf and recordOf convert between the index of a record and whose
// message it is and which.
func (w *World) userOf(i int32) int32 { return i % int32(w.cfg.Users) }

func (w *World) numberOf(i int32) uint32 { return uint32(i/int32(w.cfg.Users)) + 1 }

// recordOf is -1 for a message that was not written.
func (w *World) recordOf(u int32, k uint32) int32 {
	i := (int64(k)-1)*int64(w.cfg.Users) + int64(u)
	if k == 0 || i >= int64(len(w.records)) {
		return -1
	}
	return int32(i)
}

// appendCommand writes the command of message i as the bot reads it.
func (w *World) appendCommand(b []byte, i int32) []byte {
	r := &w.records[i]
	b = append(b, [...]string{say: "say ", remind: "remind ", forget: "forget "}[r.command]...)
	b = strconv.AppendUint(b, uint64(w.numberOf(i)), 10)
	if r.command != say {
		b = append(b, ' ')
		b = strconv.AppendUint(b, uint64(r.arg), 10)
	}
	return b
}
