package callout_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
)

func same(t *testing.T, what string, got, want any) {
	t.Helper()
	if diff := cmp.Diff(want, got, cmpopts.EquateEmpty()); diff != "" {
		t.Errorf("%s (-want +got):\n%s", what, diff)
	}
}

// TestCall: a call that was decided is made at once, as it was decided, and its answer
// is in the inbox of its conversation.
func TestCall(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		c, stop := w.run(w.config(callout.Service{Name: crm, URL: "https://crm.example/v1/", Headers: map[string]string{"authorization": "Bearer x"}}))
		defer stop()
		pass(300 * time.Millisecond)
		w.call(conv("a"), order())
		c.Wake()
		pass(time.Millisecond)
		heard := w.heard()
		if len(heard) != 1 {
			w.t.Fatalf("%d requests", len(heard))
		}
		r := heard[0]
		w.same("request", []string{r.Method, r.URL.String(), r.body}, []string{"POST", "https://crm.example/v1/orders/7?full=1", `{"a":1}`})
		id := w.answers(conv("a"))[0].ID
		w.same("headers", r.Header, http.Header{
			"Accept": {"application/json"}, "Content-Type": {"application/json"}, "User-Agent": {"parley"}, "Authorization": {"Bearer x"},
			"Idempotency-Key": {id.String()},
		})
		w.same("answer", w.answered(conv("a")), parley.Called{Name: "order", Service: crm, Status: 200, Body: []byte(`{"ok":true}`), Attempts: 1})
		w.same("told", len(w.rows), 1)
		w.same("left", w.backlog().Calls, 0)
	})
}

// TestWithoutAHint: nobody has to tell.
func TestWithoutAHint(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		_, stop := w.run(w.config())
		defer stop()
		w.call(conv("a"), order())
		pass(callout.Sweep)
		w.same("answer", w.answered(conv("a")).OK(), true)
	})
}

// TestFinalAnswers are those that another attempt would not change.
func TestFinalAnswers(t *testing.T) {
	t.Parallel()
	large := strings.Repeat("x", parley.MaxAnswerBytes+1)
	for name, want := range map[string]parley.Called{
		"NotFound":  {Status: 404, Body: []byte("no"), Failure: parley.CallRefused, Reason: "status 404"},
		"Redirect":  {Status: 307, Body: []byte("no"), Failure: parley.CallRefused, Reason: "status 307"},
		"Conflict":  {Status: 409, Body: []byte("no"), Failure: parley.CallRefused, Reason: "status 409"},
		"TooLarge":  {Status: 200, Body: []byte(large), Failure: parley.CallTooLarge, Reason: "answer of more than 65536 bytes (MaxAnswerBytes)"},
		"JustRight": {Status: 200, Body: []byte(large[1:])},
		"Nothing":   {Status: 204},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(w *world) {
				status, body := want.Status, string(want.Body)
				w.answer = func(request) (int, string) { return status, body }
				_, stop := w.run(w.config())
				defer stop()
				w.call(conv("a"), order())
				pass(time.Hour)
				want.Name, want.Service, want.Attempts = "order", crm, 1
				if want.Failure == parley.CallTooLarge {
					want.Body = nil
				}
				w.same("answer", w.answered(conv("a")), want)
				w.same("requests", len(w.heard()), 1)
			})
		})
	}
}

// TestTriedAgain: what may go better is tried again, later and later, each time with
// the same key.
func TestTriedAgain(t *testing.T) {
	t.Parallel()
	for _, status := range []int{408, 425, 429, 500, 502, 503, 504, 599} {
		t.Run(fmt.Sprint(status), func(t *testing.T) {
			t.Parallel()
			play(t, func(w *world) {
				w.answer = func(request) (int, string) {
					if len(w.heard()) < 4 {
						return status, "sorry"
					}
					return 201, `{}`
				}
				_, stop := w.run(w.config())
				defer stop()
				w.call(conv("a"), order())
				pass(time.Hour)
				w.same("answer", w.answered(conv("a")), parley.Called{Name: "order", Service: crm, Status: 201, Body: []byte(`{}`), Attempts: 4})
				heard := w.heard()
				for i, wait := range []time.Duration{500 * time.Millisecond, time.Second, 2 * time.Second} {
					w.same("wait", heard[i+1].at.Sub(heard[i].at), wait)
					w.same("key", heard[i+1].Header.Get("Idempotency-Key"), heard[0].Header.Get("Idempotency-Key"))
					w.same("body", heard[i+1].body, heard[0].body)
				}
			})
		})
	}
}

// TestGivenUp: the conversation hears what the last attempt has brought.
func TestGivenUp(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		w.answer = func(request) (int, string) { return 503, "sorry" }
		_, stop := w.run(w.config(callout.Service{Name: crm, URL: "https://crm.example", Attempts: 3}))
		defer stop()
		w.call(conv("a"), order())
		pass(time.Hour)
		w.same("answer", w.answered(conv("a")), parley.Called{
			Name: "order", Service: crm, Status: 503, Body: []byte("sorry"), Failure: parley.CallGaveUp,
			Reason: "gave up after 3 attempts: status 503", Attempts: 3,
		})
		w.same("requests", len(w.heard()), 3)
	})
}

// TestWithin: neither a slow service nor the waits make a call last longer than it may.
func TestWithin(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct {
		status   int
		within   time.Duration
		requests int
		told     time.Duration
		reason   string
	}{
		"Silent":     {0, 5 * time.Second, 1, 5 * time.Second, "gave up after 1 attempts: no answer in time"},
		"Failing":    {500, 3 * time.Second, 3, 1500 * time.Millisecond, "gave up after 3 attempts: status 500"},
		"OfTheCall":  {0, 0, 3, 31500 * time.Millisecond, "gave up after 3 attempts: no answer in time"},
		"NoTime":     {200, time.Nanosecond, 0, 0, "gave up after 0 attempts: none was made in its time"},
		"OfAService": {500, 0, 5, 7500 * time.Millisecond, "gave up after 5 attempts: status 500"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			play(t, func(w *world) {
				w.answer = func(request) (int, string) { return s.status, "" }
				service := callout.Service{Name: crm, URL: "https://crm.example", Within: 33500 * time.Millisecond}
				c, stop := w.run(w.config(service))
				defer stop()
				call := order()
				call.Within = s.within
				w.call(conv("a"), call)
				if name == "NoTime" {
					pass(time.Millisecond)
				}
				c.Wake()
				pass(s.told - time.Millisecond)
				if s.told > 0 {
					w.same("answers before", len(w.answers(conv("a"))), 0)
				}
				pass(time.Second)
				got := w.answered(conv("a"))
				w.same("reason", got.Reason, s.reason)
				w.same("failure", got.Failure, parley.CallGaveUp)
				w.same("requests", len(w.heard()), s.requests)
			})
		})
	}
}

// TestRetryAfter: a service that asks for a pause gets it, from all calls.
func TestRetryAfter(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		w.answer = func(r request) (int, string) {
			if len(w.heard()) == 1 {
				return 429, "retry after 20"
			}
			return 200, r.body
		}
		c, stop := w.run(w.config())
		defer stop()
		w.call(conv("a"), order())
		c.Wake()
		pass(time.Second)
		w.call(conv("b"), order())
		c.Wake()
		pass(18 * time.Second)
		w.same("requests during the pause", len(w.heard()), 1)
		pass(time.Second)
		w.same("requests after it", len(w.heard()), 3)
		w.same("answers", w.answered(conv("a")).OK() && w.answered(conv("b")).OK(), true)
	})
}

// TestUnknownService: nobody has to wait for an answer that can't come.
func TestUnknownService(t *testing.T) {
	t.Parallel()
	for _, others := range []time.Duration{0, 30 * time.Second} {
		play(t, func(w *world) {
			cfg := w.config()
			cfg.UnknownAfter = others
			c, stop := w.run(cfg)
			defer stop()
			w.call(conv("a"), parley.Call{Name: "n", Service: "gone"})
			c.Wake()
			if pass(0); others > 0 {
				pass(others - time.Millisecond)
				w.same("answers while others may know", len(w.answers(conv("a"))), 0)
				pass(callout.Sweep)
			}
			w.same("answer", w.answered(conv("a")), parley.Called{
				Name: "n", Service: "gone", Failure: parley.CallUnknown, Reason: "no service of that name is configured",
			})
		})
	}
}

// TestBreaker: a service that fails is left alone, asked one thing when that is over,
// and used again once it answers; and what waits for it is given up in time.
func TestBreaker(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		var healthy atomic.Bool
		w.answer = func(request) (int, string) {
			if healthy.Load() {
				return 200, ""
			}
			return 500, ""
		}
		c, stop := w.run(w.config(callout.Service{Name: crm, URL: "https://crm.example", Failures: 3, OpenFor: 10 * time.Second, Attempts: 50}))
		defer stop()
		for i := range 6 {
			w.call(conv(fmt.Sprint(i)), parley.Call{Name: "n", Service: crm, Within: 12 * time.Second})
		}
		w.call(conv("patient"), parley.Call{Name: "n", Service: crm, Within: time.Hour})
		c.Wake()
		pass(time.Second)
		first := len(w.heard()) // what was under way when it opened
		pass(8 * time.Second)
		w.same("requests while it is open", len(w.heard()), first)
		pass(1500 * time.Millisecond)
		w.same("requests when that is over", len(w.heard()), first+1)
		pass(3 * time.Second) // open again, for twice as long
		for i := range 6 {
			w.same("given up", w.answered(conv(fmt.Sprint(i))).Failure, parley.CallGaveUp)
		}
		w.same("patient", len(w.answers(conv("patient"))), 0)
		healthy.Store(true)
		pass(20 * time.Second)
		w.same("patient", w.answered(conv("patient")).OK(), true)
		w.call(conv("new"), order())
		c.Wake()
		pass(0)
		w.same("new", w.answered(conv("new")).OK(), true)
	})
}

// TestServicesApart: a service that never answers, with all that waits for it, is in
// nobody's way.
func TestServicesApart(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		w.answer = func(r request) (int, string) {
			if r.URL.Host == "dead.example" {
				return 0, ""
			}
			return 200, ""
		}
		cfg := w.config(callout.Service{Name: "dead", URL: "https://dead.example", Concurrency: 100}, callout.Service{Name: crm, URL: "https://crm.example"})
		cfg.NodeInFlight = 20
		c, stop := w.run(cfg)
		defer stop()
		for i := range 200 {
			w.call(conv("dead"+fmt.Sprint(i)), parley.Call{Name: "n", Service: "dead"})
		}
		c.Wake()
		pass(time.Second)
		w.same("with the dead", len(w.heard()), 10)
		for i := range 15 {
			w.call(conv(fmt.Sprint(i)), order())
		}
		c.Wake()
		pass(0)
		for i := range 15 {
			w.same("answer", w.answered(conv(fmt.Sprint(i))).OK(), true)
		}
		pass(3 * time.Minute)
		w.same("left", w.backlog().Calls, 0)
		w.same("all are given up", w.answered(conv("dead199")).Failure, parley.CallGaveUp)
	})
}

// TestConcurrency: never more at once than the service takes, and all get their turn.
func TestConcurrency(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		now, most := 0, 0
		w.answer = func(request) (int, string) {
			w.mu.Lock()
			now++
			most = max(most, now)
			w.mu.Unlock()
			time.Sleep(100 * time.Millisecond)
			w.mu.Lock()
			now--
			w.mu.Unlock()
			return 200, ""
		}
		c, stop := w.run(w.config(callout.Service{Name: crm, URL: "https://crm.example", Concurrency: 5}))
		defer stop()
		for i := range 50 {
			w.call(conv(fmt.Sprint(i)), order())
		}
		c.Wake()
		pass(1010 * time.Millisecond)
		w.same("left", w.backlog().Calls, 0)
		w.mu.Lock()
		w.same("at once", most, 5)
		w.mu.Unlock()
		w.same("requests", len(w.heard()), 50)
	})
}

// unwell is a store that fails when it is told to.
type unwell struct {
	callout.Calls
	claims, settles atomic.Bool
}

var errUnwell = errors.New("unwell")

func (u *unwell) ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error) {
	if u.claims.Load() {
		return nil, 0, errUnwell
	}
	return u.Calls.ClaimCalls(ctx, q, horizon)
}

func (u *unwell) SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error) {
	if u.settles.Load() {
		return parley.SettledCalls{}, errUnwell
	}
	return u.Calls.SettleCalls(ctx, outcomes)
}

// TestStoreUnwell: an answer is kept while the store doesn't take it, for as long as
// the claim lasts; then the call is made again, with the same key.
func TestStoreUnwell(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		store := &unwell{Calls: w.store}
		store.claims.Store(true)
		w.calls = store
		c, stop := w.run(w.config())
		defer stop()
		w.call(conv("a"), parley.Call{Name: "n", Service: crm, Within: time.Hour})
		c.Wake()
		pass(2 * time.Second)
		w.same("requests", len(w.heard()), 0)
		store.claims.Store(false)
		store.settles.Store(true)
		pass(5 * time.Second)
		w.same("requests", len(w.heard()), 1)
		store.settles.Store(false)
		pass(time.Second)
		w.same("answers", len(w.answers(conv("a"))), 1)
		store.settles.Store(true)
		w.call(conv("b"), parley.Call{Name: "n", Service: crm, Within: time.Hour})
		c.Wake()
		pass(40 * time.Second)
		store.settles.Store(false)
		pass(30 * time.Second)
		heard := w.heard()
		w.same("requests", len(heard) == 3 || len(heard) == 4, true)
		w.same("keys", heard[2].Header.Get("Idempotency-Key"), heard[1].Header.Get("Idempotency-Key"))
		w.same("answers", len(w.answers(conv("b"))), 1)
	})
}

// TestBeginsAnew: what an earlier run had claimed and never settled is made at once.
func TestBeginsAnew(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		w.call(conv("a"), order())
		q := parley.CallQuery{Holder: "me", Services: []parley.CallPlaces{{Service: crm, Limit: 1, Lease: time.Hour}}}
		if claimed, _, err := w.store.ClaimCalls(w.t.Context(), q, time.Hour); err != nil || len(claimed) != 1 {
			w.t.Fatalf("claimed %d: %v", len(claimed), err)
		}
		cfg := w.config()
		cfg.Holder = "me"
		_, stop := w.run(cfg)
		defer stop()
		pass(time.Millisecond)
		w.same("answer", w.answered(conv("a")).OK(), true)
	})
}

// TestStop: what is under way may come to its end; the rest is given back.
func TestStop(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		w.answer = func(r request) (int, string) {
			if strings.HasSuffix(r.URL.Path, "/never") {
				return 0, ""
			}
			time.Sleep(time.Second)
			return 200, ""
		}
		c, stop := w.run(w.config())
		w.call(conv("a"), parley.Call{Name: "n", Service: crm, Path: "/slow"})
		w.call(conv("b"), parley.Call{Name: "n", Service: crm, Path: "/never"})
		c.Wake()
		pass(100 * time.Millisecond)
		began := time.Now()
		stop()
		w.same("took", time.Since(began), callout.Drain)
		w.same("answer", w.answered(conv("a")).OK(), true)
		w.same("left", w.backlog().Calls, 1)
		w.mu.Lock()
		w.answer = func(request) (int, string) { return 200, "" }
		w.mu.Unlock()
		cfg := w.config()
		cfg.Registerer = nil
		_, stop = w.run(cfg)
		defer stop()
		pass(0)
		w.same("answer of what was given back", w.answered(conv("b")), parley.Called{Name: "n", Service: crm, Status: 200, Attempts: 1})
	})
}

// TestStoppedForGood: a Caller whose store is gone ends all the same.
func TestStoppedForGood(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		store := &unwell{Calls: w.store}
		store.settles.Store(true)
		w.calls = store
		c, stop := w.run(w.config())
		w.call(conv("a"), order())
		c.Wake()
		pass(time.Second)
		stop()
		w.same("answers", len(w.answers(conv("a"))), 0)
		w.same("left", w.backlog().Calls, 1)
	})
}

// TestCancelled: an answer that nobody waits for any more is lost, and nothing else.
func TestCancelled(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		w.answer = func(request) (int, string) {
			time.Sleep(time.Second)
			return 200, ""
		}
		c, stop := w.run(w.config())
		defer stop()
		w.call(conv("a"), order())
		c.Wake()
		pass(100 * time.Millisecond)
		w.turn(conv("a"), func(turn *parley.Turn) error {
			turn.End()
			return nil
		})
		pass(time.Minute)
		w.same("requests", len(w.heard()), 1)
		w.same("answers", len(w.answers(conv("a"))), 0)
		w.same("left", w.backlog().Calls, 0)
	})
}
