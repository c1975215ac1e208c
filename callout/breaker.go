package callout

import "time"

// breaker leaves a service alone that doesn't answer well. It is closed, open until a
// time, or, when that has come, half open: then one attempt at a time says how it
// goes on.
type breaker struct {
	failures int           // in a row
	opened   int           // times in a row
	until    time.Duration // by the caller's clock; when it was open last
	held     bool          // the service has said itself how long it wants to be left alone
}

// isOpen reports whether no attempt is to be made.
func (b *breaker) isOpen(now time.Duration) bool { return now < b.until }

// halfOpen reports whether an attempt is to show whether the service is back.
func (b *breaker) halfOpen(now time.Duration) bool { return b.opened > 0 && !b.isOpen(now) }

func (b *breaker) succeeded() {
	b.failures, b.opened = 0, 0
	if !b.held {
		b.until = 0
	}
}

// failed notes a failed attempt. What was begun before it opened says nothing new.
func (b *breaker) failed(now time.Duration, s *Service) {
	if b.isOpen(now) {
		return
	}
	b.failures++
	if b.opened == 0 && b.failures < s.Failures {
		return
	}
	b.until = now + min(s.OpenFor<<min(b.opened, 10), OpenMax) //nolint:mnd // far beyond OpenMax
	b.opened, b.held = b.opened+1, false
}

// hold leaves the service alone for as long as it has asked for.
func (b *breaker) hold(now, d time.Duration) {
	if until := now + min(d, OpenMax); until > b.until {
		b.until, b.held = until, true
	}
}
