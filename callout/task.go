package callout

import (
	"cmp"
	"context"
	"fmt"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

// task is a claimed call, and the place that it holds.
type task struct {
	call    *parley.ClaimedCall
	service *service      // nil: none is configured for it
	makes   bool          // its place is one of those for attempts
	began   time.Duration // no later than the claim, by the caller's clock
	outcome parley.CallOutcome
}

// left is how much of the call's own time is left.
func (t *task) left(now time.Duration) time.Duration {
	return cmp.Or(t.call.Call.Within, t.service.Within) - t.call.Age - (now - t.began)
}

// begin makes an attempt, unless there is none to be made.
func (c *Caller) begin(work context.Context, attempts *sync.WaitGroup, t *task) {
	now := c.cfg.Clock()
	switch {
	case t.service == nil:
		in := t.failure(parley.CallUnknown, "no service of that name is configured")
		c.end(work, t, parley.CallOutcome{Answer: &in})
	case t.left(now) <= 0:
		c.end(work, t, t.givenUp(&reply{}))
	case !t.makes || c.isOpen(t.service, now):
		c.end(work, t, parley.CallOutcome{Uncounted: true, Wait: c.putOff(t, now)})
	default:
		attempts.Go(func() { c.attempt(work, t) })
	}
}

func (c *Caller) isOpen(s *service, now time.Duration) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.breaker.isOpen(now)
}

// putOff is how long a call of a service that is left alone waits: until the service
// may be tried again, but no longer than the call may take.
func (c *Caller) putOff(t *task, now time.Duration) time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return min(max(t.service.breaker.until-now, 0), t.left(now))
}

// attempt makes the call once.
func (c *Caller) attempt(work context.Context, t *task) {
	s, began := t.service, c.cfg.Clock()
	limit := min(s.Timeout, t.left(began))
	r := s.attempt(work, &t.call.OutgoingCall, limit)
	now := c.cfg.Clock()
	brokenOff := r.status == 0 && work.Err() != nil
	c.metrics.attempted(s, &r, brokenOff, now-began)
	if brokenOff { // by us: it says nothing of the service
		c.end(work, t, parley.CallOutcome{Uncounted: true})
		return
	}
	if !r.failed() || limit == s.Timeout || !r.late { // a call in a hurry says nothing either
		c.judge(work, s, &r, now)
	}
	c.end(work, t, t.judge(&r, now, c.cfg.Random()))
}

// judge tells the service's breaker how an attempt went.
func (c *Caller) judge(ctx context.Context, s *service, r *reply, now time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	before := s.breaker.opened
	switch {
	case r.retryAfter > 0 && r.failed():
		s.breaker.hold(now, r.retryAfter)
		c.log.WarnContext(ctx, "service asks to be left alone", "service", s.Name, "status", r.status, "wait", s.breaker.until-now)
	case r.failed():
		s.breaker.failed(now, &s.Service)
	default:
		s.breaker.succeeded()
	}
	switch after := s.breaker.opened; {
	case after > before:
		c.log.WarnContext(ctx, "service doesn't answer well: it is left alone", "service", s.Name, "cause", r.why(), "wait", s.breaker.until-now)
	case after < before:
		c.log.InfoContext(ctx, "service answers again", "service", s.Name)
	}
}

// judge is what becomes of the call after an attempt.
func (t *task) judge(r *reply, now time.Duration, chance float64) parley.CallOutcome {
	if !r.failed() {
		in := t.call.Answer(r.status, r.body, t.call.Attempts+1)
		return parley.CallOutcome{Answer: &in}
	}
	wait := max(backoff(t.call.Attempts, chance), r.retryAfter)
	if t.call.Attempts+1 >= t.service.Attempts || wait >= t.left(now) {
		t.call.Attempts++
		return t.givenUp(r)
	}
	return parley.CallOutcome{Wait: wait, Status: r.status, Cause: r.why()}
}

// backoff is the wait after as many failures and one more: twice as long each time,
// and between half of that and all of it by chance.
func backoff(failures int, chance float64) time.Duration {
	d := min(backoffFirst<<min(failures, 10), backoffMax) //nolint:mnd // far beyond backoffMax
	return d/2 + time.Duration(chance*float64(d/2))       //nolint:mnd // a half
}

// givenUp is the end of a call whose attempts or time are used up. What the last of
// them has brought is r, or was noted of an earlier one.
func (t *task) givenUp(r *reply) parley.CallOutcome {
	status, cause, body := r.status, r.why(), r.body
	if cause == "" {
		status, cause, body = t.call.Status, cmp.Or(t.call.Cause, "none was made in its time"), nil
	}
	in := t.failure(parley.CallGaveUp, fmt.Sprintf("gave up after %d attempts: %s", t.call.Attempts, cause))
	if in.Status = status; len(body) <= parley.MaxAnswerBytes {
		in.Body = body
	}
	return parley.CallOutcome{Answer: &in}
}

func (t *task) failure(f parley.CallFailure, reason string) parley.Called {
	return parley.Called{
		ID: t.call.ID, Name: t.call.Call.Name, Service: t.call.Call.Service, Failure: f, Reason: reason, Attempts: t.call.Attempts,
	}
}

// why is why an attempt has failed, in our words; empty for none.
func (r *reply) why() string {
	if r.cause == "" && r.status != 0 {
		return fmt.Sprintf("status %d", r.status)
	}
	return r.cause
}

// end passes on what came of a task, to be stored.
func (c *Caller) end(ctx context.Context, t *task, o parley.CallOutcome) {
	o.Of = t.call
	t.outcome = o
	if a := o.Answer; a != nil && a.Failure != "" && a.Failure != parley.CallRefused {
		c.log.WarnContext(ctx, "call has no good answer", "service", a.Service, "call", a.ID.String(),
			"failure", string(a.Failure), "attempts", a.Attempts, "reason", a.Reason)
	}
	c.endings.add(t)
}
