package egress

import (
	"fmt"
	"time"
	"unicode/utf8"

	"github.com/parleychat/parley"
)

// judge turns an answer into an outcome, and lets the channel learn from it.
func (s *Sender) judge(a Answer, at attempt, now time.Duration) parley.Outcome {
	s.learn(a, at, now)
	o := parley.Outcome{ID: a.ID, Kind: parley.Retry, Cause: clip(a.Cause), Code: a.Code}
	n := at.attempts + 1
	switch a.Kind {
	case Accepted:
		o = parley.Outcome{ID: a.ID, Kind: parley.Sent, ProviderID: a.ProviderID}
	case Retryable:
		o.Wait = s.policy.retryWait(n, a.Wait)
		o.Uncounted = s.trouble.reason == Silent
		if a.Age >= s.policy.MaxAge || n >= s.tries(a) && !o.Uncounted {
			o = refuse(o, fmt.Sprintf("given up after %d attempts: %s", n, a.Cause))
		}
	case ThrottledUser:
		o.Wait = s.policy.throttleWait(n, a.Wait)
		if a.Age >= s.policy.MaxAge {
			o = refuse(o, fmt.Sprintf("given up after %d attempts: %s", n, a.Cause))
		}
	case ThrottledChannel:
		o.Uncounted = true
		o.Wait = max(s.trouble.until-now, 0) + pauseStagger
	case Blocked: // for as long as the channel is, which may end at any moment
		o.Uncounted = true
		o.Wait = pauseStagger
	case Unknown:
		o = s.doubt(o, a.Age)
	case Withheld:
		o.Uncounted = true
	case Rejected, Barred:
		o.Kind = parley.Refused
		if a.Why != "" {
			o.Kind, o.Why = parley.Returned, a.Why
		}
	default: // a provider that doesn't know what it says: the message may be there
		o = s.doubt(o, a.Age)
	}
	if o.Kind == parley.Sent || o.Kind == parley.Refused || o.Kind == parley.Returned {
		delete(s.doubts, a.ID)
	}
	return o
}

// tries is the number of refusals for a time after which a message is given up.
func (s *Sender) tries(a Answer) int {
	if a.Tries > 0 {
		return min(a.Tries, s.policy.MaxAttempts)
	}
	return s.policy.MaxAttempts
}

// doubt is the outcome of a lost answer: sent again after a wait that doubles,
// since each time may show the message to the user once more.
func (s *Sender) doubt(o parley.Outcome, age time.Duration) parley.Outcome {
	n := s.doubts[o.ID]
	if n+1 >= MaxDoubts || age >= s.policy.MaxAge {
		return refuse(o, fmt.Sprintf("given up after %d lost answers: %s", n+1, o.Cause))
	}
	if n > 0 || len(s.doubts) < maxDoubtsKept {
		s.doubts[o.ID] = n + 1
	}
	o.Kind, o.Wait = parley.Doubt, s.policy.DoubtfulWait<<n
	return o
}

func refuse(o parley.Outcome, cause string) parley.Outcome {
	return parley.Outcome{ID: o.ID, Kind: parley.Refused, Cause: clip(cause), Code: o.Code}
}

// clip cuts a cause to what is kept, at a character's end.
func clip(s string) string {
	if len(s) <= parley.MaxCauseBytes {
		return s
	}
	n := parley.MaxCauseBytes
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}

// Reason says why a channel is paused.
type Reason string

// The reasons for which a channel pauses.
const (
	Throttled Reason = "throttled" // the provider refuses the whole channel for a time
	Dead      Reason = "blocked"   // the brand must act: token, permission, payment
	Silent    Reason = "silent"    // MaxSilent attempts in a row brought no answer
)

// Pause is the state of a channel in trouble: nothing is sent until Until, then
// one message at a time, until the provider speaks well of one.
type Pause struct {
	Reason Reason
	Until  time.Duration
	Code   int    // the provider's code for it, 0 if none
	Cause  string // the provider's words
	Count  int    // pauses in a row
}

// trouble is what a Sender knows of its channel. An era is the time between two
// pauses: of the many answers to messages that were under way when the trouble
// began, only the first counts, and none of them ends it.
type trouble struct {
	reason Reason // empty: none
	until  time.Duration
	code   int
	cause  string
	count  int
	era    int
	silent int // attempts in a row without the provider's word
}

// Paused returns the channel's trouble, if it has any.
func (s *Sender) Paused() (Pause, bool) {
	t := s.trouble
	return Pause{Reason: t.reason, Until: t.until, Code: t.code, Cause: t.cause, Count: t.count}, t.reason != ""
}

// Release ends the wait of a channel that is Dead: the brand has acted, as far as
// is known. The next message is the test; the others follow if it is taken.
func (s *Sender) Release(now time.Duration) {
	if s.trouble.reason == Dead {
		s.trouble.until, s.trouble.count = now, 0
		s.claimAt = min(s.claimAt, now)
	}
}

func (s *Sender) learn(a Answer, at attempt, now time.Duration) {
	current := at.era == s.trouble.era
	defer s.heed(a, current, now)
	switch a.Kind {
	case Accepted, Rejected, ThrottledUser:
		s.trouble.silent = 0
		if current {
			s.trouble = trouble{era: s.trouble.era}
		}
	case ThrottledChannel:
		if current {
			s.pause(Throttled, a, now)
		}
	case Blocked:
		if current {
			s.pause(Dead, a, now)
		}
	case Withheld, Barred:
	case Retryable, Unknown:
		fallthrough
	default:
		s.trouble.silent++
		if current && (s.trouble.reason != "" || s.trouble.silent >= MaxSilent) {
			s.pause(Silent, a, now)
		}
	}
}

// heed slows the channel down when the provider says that its quota is nearly
// used up, and pauses it when that is used up: whoever goes on then is kept out
// for longer.
func (s *Sender) heed(a Answer, current bool, now time.Duration) {
	switch {
	case !current, a.Kind == ThrottledChannel, a.Kind == Blocked: // it pauses already
	case a.Used >= usageFull, a.Kind == Accepted && a.Wait > 0:
		s.pause(Throttled, a, now)
	case s.limits.heed(a.Used, now):
		s.slowed++
	}
}

// pause begins a pause, longer than the last if that brought no end.
func (s *Sender) pause(why Reason, a Answer, now time.Duration) {
	t := &s.trouble
	if t.reason != why {
		t.count = 0
	}
	var d time.Duration
	switch why {
	case Throttled:
		s.limits.lower(now)
		s.slowed++
		d = grow(throttlePause, throttlePauseMax, 2, t.count)
	case Dead:
		d = grow(blockedPause, blockedPauseMax, 2, t.count)
	case Silent:
		d = grow(silentPause, silentPauseMax, 2, t.count)
	}
	t.reason, t.code, t.cause, t.silent = why, a.Code, clip(a.Cause), 0
	t.count++
	t.era++
	t.until = now + s.policy.spread(max(d, a.Wait))
}
