package metatest

import "time"

// Storm has each event delivered 1 to so many times from now on, in other posts, in any
// order; 0 makes an end of it.
func (w *World) Storm(copies int) { w.copies = copies }

// SetFaults changes what the Graph API does to valid sends from now on. A time or a
// patience that isn't given stays as it is.
func (w *World) SetFaults(f Faults) {
	if f.SlowFor == 0 {
		f.SlowFor = w.cfg.Faults.SlowFor
	}
	if f.Patience == 0 {
		f.Patience = w.cfg.Faults.Patience
	}
	w.cfg.Faults = f
}

// Viral lets one user write many messages beside the schedule, evenly over a time from
// now on.
func (w *World) Viral(now time.Time, user, messages int, over time.Duration) {
	from := w.tick(now)
	for k := range messages {
		w.extra(int32(user), from+int64(over)*int64(k)/int64(messages))
	}
}

// Alarm lets many users, one after the other from the first on, write a reminder beside
// the schedule, evenly over
// a time from now on; all ring within one second after twice that time.
func (w *World) Alarm(now time.Time, first, users int, over time.Duration) {
	from := w.tick(now)
	rings := from + 2*int64(over) //nolint:mnd // as said
	for k := range min(users, len(w.people)) {
		due := from + int64(over)*int64(k)/int64(users)
		i := w.extra(int32((first+k)%len(w.people)), due)
		w.remind(i)
		w.records[i].arg = uint32(time.Duration(rings-due).Milliseconds() + w.network.Int64N(time.Second.Milliseconds()))
	}
}

// extra is a message beside the schedule.
func (w *World) extra(u int32, due int64) int32 {
	i := w.begin(u, due)
	w.updates.push(due, update{message: i})
	return i
}
