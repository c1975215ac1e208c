package history

import (
	"cmp"
	"slices"
)

// explain says why no order of events agrees with what was seen: the first of the
// usual reasons that holds.
func (v *conversation) explain() {
	before := len(v.findings)
	for _, reason := range []func() bool{v.sameState, v.tooMany, v.overtaken, v.forgotten, v.badRing} {
		if reason() {
			return
		}
	}
	if before == 0 {
		v.find(G3, "no order of its messages explains the replies")
	}
}

// replied are the messages with a reply, by the number that it showed.
func (v *conversation) replied() (all []*message) {
	for _, m := range v.messages {
		if m.post > 0 && m.said > 0 {
			all = append(all, m)
		}
	}
	slices.SortStableFunc(all, func(a, b *message) int { return cmp.Compare(a.n, b.n) })
	return all
}

// sameState finds two messages that were answered from one state.
func (v *conversation) sameState() bool {
	all := v.replied()
	for i, m := range all[:max(len(all)-1, 0)] {
		if next := all[i+1]; next.n == m.n {
			v.find(G4, "messages %d and %d were both answered #%d: two turns from the same state", m.k, next.k, m.n)
			return true
		}
	}
	return false
}

// tooMany finds a reply that counts more messages than had been posted.
func (v *conversation) tooMany() bool {
	for _, m := range v.replied() {
		posted := uint32(0)
		for _, o := range v.messages {
			if o.post > 0 && o.post < m.said {
				posted++
			}
		}
		if m.n > posted {
			v.find(G2, "message %d was answered #%d when only %d had been posted: something counted twice", m.k, m.n, posted)
			return true
		}
	}
	return false
}

// overtaken finds a message that took effect before one that had been there before it
// was posted.
func (v *conversation) overtaken() bool {
	var latest *message // of those with a smaller number, the one that was posted last
	for _, m := range v.replied() {
		if latest != nil && m.bound() < latest.post {
			v.find(G3, "message %d was answered #%d, and message %d #%d, which was posted only after the first was acknowledged",
				m.k, m.n, latest.k, latest.n)
			return true
		}
		if latest == nil || m.post > latest.post {
			latest = m
		}
	}
	return false
}

// forgotten finds a reply from a state that lacks something which was there before.
func (v *conversation) forgotten() bool {
	for _, m := range v.replied() {
		there, missing := uint32(1), uint32(0)
		for _, o := range v.messages {
			if o.post > 0 && o != m && o.bound() < m.post {
				there++
				if o.said == 0 {
					missing = o.k
				}
			}
		}
		if there <= m.n {
			continue
		}
		v.find(G1, "message %d was answered #%d, though %d messages were acknowledged before it was posted (message %d has no reply): a state without them all",
			m.k, m.n, there-1, missing)
		return true
	}
	return false
}

// badRing finds a ring without a live timer, if the messages alone are in order.
func (v *conversation) badRing() bool {
	for _, r := range v.rings {
		set := v.byNumber[r.k]
		for _, f := range v.messages {
			cancels := f.wants == Forget && f.arg == r.k && f.said > 0 && f.n <= r.after
			if cancels && set.said > 0 && set.n < f.n {
				v.find(G6, "the timer of message %d rang after message %d had cancelled it", r.k, f.k)
				return true
			}
		}
	}
	return false
}
