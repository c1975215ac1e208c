package metatest

import "time"

// Recovery is how a fault was got over, as the replies show it.
type Recovery struct {
	Acked int    // messages that were acknowledged while it lasted
	AckMS Millis // of messages first posted while it lasted: from there to the 200

	// Resumed is from the end of the fault to the first reply after it, to whichever
	// message; negative if there was none.
	Resumed time.Duration
	// First is from the end of the fault to the first reply to a message that was
	// first posted after it; negative if there was none.
	First time.Duration
	// CaughtUp is from the end of the fault until everything that had been
	// acknowledged by then was answered.
	CaughtUp time.Duration
	// Slowest is the longest from the first post to the reply of the messages that
	// were first posted after the fault.
	Slowest time.Duration
	// Waiting is how many messages acknowledged by the end of the fault have no
	// reply so far.
	Waiting int
}

// Recovery tells how a fault that lasted from one instant to the other was got
// over. It is exact once the run is settled.
func (w *World) Recovery(from, until time.Time) Recovery {
	begin, end := w.since(from), w.since(until)
	out := Recovery{Resumed: -1, First: -1}
	var ack histogram
	for i := range w.records {
		r := &w.records[i]
		if r.postedStep == 0 {
			continue
		}
		if r.acked() && r.posted >= begin && r.posted < end {
			ack.record(time.Duration(r.ackedAt - r.posted))
		}
		if r.acked() && r.ackedAt >= begin && r.ackedAt < end {
			out.Acked++
		}
		out.note(r, end)
	}
	out.AckMS = ack.millis()
	return out
}

func (out *Recovery) note(r *record, end int64) {
	since := time.Duration(r.said - end)
	if r.answered() && since >= 0 && (out.Resumed < 0 || since < out.Resumed) {
		out.Resumed = since
	}
	switch before := r.acked() && r.ackedAt < end; {
	case before && !r.answered():
		out.Waiting++
	case before:
		out.CaughtUp = max(out.CaughtUp, since)
	case r.posted >= end && r.answered():
		if out.First < 0 || since < out.First {
			out.First = since
		}
		out.Slowest = max(out.Slowest, time.Duration(r.said-r.posted))
	}
}

// Waits tells how long users waited for the next reply after an instant at which
// something happened to the node that serves them. They are those of whom a
// message that was acknowledged within a time from then on, or before, had no reply
// at that instant.
func (w *World) Waits(at time.Time, within time.Duration, of func(Person) bool) (waits []time.Duration) {
	begin := w.since(at)
	first := map[int32]int64{}
	for i := range w.records {
		r, user := &w.records[i], w.userOf(int32(i))
		if !r.acked() || r.ackedAt > begin+int64(within) || !r.answered() || r.said < begin {
			continue
		}
		if said, ok := first[user]; !ok || r.said < said {
			first[user] = r.said
		}
	}
	for user, said := range first {
		p := &w.people[user]
		if of(Person{Channel: w.channels[p.channel], ID: p.id, BSUID: p.bsuid}) {
			waits = append(waits, time.Duration(said-begin))
		}
	}
	return waits
}

// Delays are how long each reply came after its message was acknowledged.
func (w *World) Delays() Millis {
	var h histogram
	for i := range w.records {
		if r := &w.records[i]; r.acked() && r.answered() {
			h.record(max(time.Duration(r.said-r.ackedAt), 0))
		}
	}
	return h.millis()
}

// since is an instant in ns after the start.
func (w *World) since(at time.Time) int64 { return at.UnixNano() - w.start.UnixNano() }

// Finish lets the users write no more: what they have written by now is all.
func (w *World) Finish(now time.Time) {
	w.write(w.tick(now))
	w.total = w.next
}
