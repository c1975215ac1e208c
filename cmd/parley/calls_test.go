package main_test

import (
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"regexp"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"
)

// crm is a service that bots call.
type crm struct {
	*httptest.Server
	mu    sync.Mutex
	calls map[string][]string        // of whom a call was, by its key: once for each request
	on    func(of string, n int) int // the status of the nth request for a call
}

func newCRM(t *testing.T, on func(of string, n int) int) *crm {
	t.Helper()
	c := &crm{calls: map[string][]string{}, on: on}
	c.Server = httptest.NewServer(http.HandlerFunc(c.serve))
	t.Cleanup(c.Close)
	return c
}

func (c *crm) serve(w http.ResponseWriter, r *http.Request) {
	_, _ = io.Copy(io.Discard, r.Body) // what it says is not looked at here
	key, of := r.Header.Get("Idempotency-Key"), r.URL.Query().Get("of")
	if r.Header.Get("Authorization") != "Bearer of-the-crm" || key == "" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	c.mu.Lock()
	c.calls[key] = append(c.calls[key], of)
	n := len(c.calls[key])
	c.mu.Unlock()
	w.WriteHeader(c.on(of, n))
	_, _ = fmt.Fprintf(w, "about %s", of)
}

// services are a configuration's.
func (c *crm) services(more map[string]any) []any {
	s := map[string]any{"name": "crm", "url": c.URL + "/v1", "headers": map[string]any{"Authorization": "file:crm"}}
	maps.Copy(s, more)
	return []any{s}
}

// keys is how many calls there were, and how many requests.
func (c *crm) keys() (calls, requests int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range c.calls {
		requests += len(r)
	}
	return len(c.calls), requests
}

// A bot's call reaches the service that the configuration names, and its answer the
// bot, within moments; and what went wrong does, too.
func TestCallsOfABot(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	c := newCRM(t, func(of string, n int) int {
		switch {
		case of == "refused":
			return http.StatusNotFound
		case of == "late" && n < 3:
			return http.StatusServiceUnavailable
		}
		return http.StatusOK
	})
	h := newHouse(t)
	h.write(t, "crm", "Bearer of-the-crm")
	cfg := configured(g.URL, channel("messenger", pageID, "fateful")).with("services", c.services(nil))
	n := h.start(t, asFateful, cfg)
	n.tell(t, "u1", "0", "say a")
	g.heard(t, "u1", "said a #1")
	best := time.Hour
	for i := range 4 {
		began := time.Now()
		n.tell(t, "u1", fmt.Sprint("a", i), "call a")
		g.heard(t, "u1", fmt.Sprintf("heard a: about a #%d", i+2))
		best = min(best, time.Since(began))
	}
	if best > 400*time.Millisecond { // a hint, not the sweep
		t.Errorf("from the message to the answer of a call it took %s at best", best)
	}
	t.Logf("from the message to the answer of a call: %s", best)
	n.tell(t, "u2", "2", "call refused")
	g.heard(t, "u2", "heard refused: about refusedrefused #1")
	n.tell(t, "u3", "3", "call late")
	g.heard(t, "u3", "heard late: about late #1")
	if calls, requests := c.keys(); calls != 6 || requests != 8 {
		t.Errorf("%d calls in %d requests", calls, requests)
	}
	if got := n.metric(t, "parley_callout_answers_total", `service="crm"`, `failure="ok"`); got != 5 {
		t.Errorf("%d good answers are counted, want 5", got)
	}
	n.drained(t)
	if left := n.metric(t, "parley_store_calls"); left != 0 {
		t.Errorf("%d calls are left", left)
	}
	n.stop(t)
}

// Calls that are under way when their process is killed are made again, with the same
// key, and each is answered once.
func TestCallsSurviveKills(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	c := newCRM(t, slowly)
	h := newHouse(t)
	h.write(t, "crm", "Bearer of-the-crm")
	cfg := configured(g.URL, channel("messenger", pageID, "fateful")).
		with("services", c.services(map[string]any{"timeout": "1s", "within": "10m", "attempts": 50}))
	n := h.start(t, asFateful, cfg)
	for round := range callRounds {
		for u := range callUsers {
			n.tell(t, fmt.Sprint("u", u), fmt.Sprint(u, "-", round), fmt.Sprint("call c", round))
		}
		time.Sleep(time.Duration(round) * 40 * time.Millisecond) // somewhere amidst
		n.kill()
		n = h.start(t, asFateful, cfg)
	}
	eachAnsweredOnce(t, g, c)
	n.drained(t)
	n.stop(t)
}

const (
	callUsers  = 8
	callRounds = 6
)

// slowly is a service that takes its time, and fails now and then.
func slowly(of string, n int) int {
	time.Sleep(time.Duration(50+len(of)*n%7*20) * time.Millisecond)
	if n%4 == 1 && of == "c3" {
		return http.StatusBadGateway
	}
	return http.StatusOK
}

// eachAnsweredOnce waits until the bot has heard the answers of all calls, and sees
// that it has heard none twice: it counts them.
func eachAnsweredOnce(t *testing.T, g *graph, c *crm) {
	t.Helper()
	heard := regexp.MustCompile(`^heard (c\d+): about c\d+ #(\d+)$`)
	for u := range callUsers {
		user := fmt.Sprint("u", u)
		var calls []string
		await(t, user+" has all answers", func() bool {
			calls = nil
			for _, text := range g.texts(user) {
				m := heard.FindStringSubmatch(text)
				if len(m) == 3 && !slices.Contains(calls, m[2]+" "+m[1]) { // a message may be sent twice after a kill
					calls = append(calls, m[2]+" "+m[1])
				}
			}
			return len(calls) >= callRounds
		})
		of := map[string]bool{}
		for _, call := range calls {
			var n int
			var name string
			if _, err := fmt.Sscan(call, &n, &name); err != nil {
				t.Fatal(err)
			}
			if n > callRounds || of[name] {
				t.Errorf("%s: answers %q", user, calls)
			}
			of[name] = true
		}
	}
	calls, requests := c.keys()
	t.Logf("%d calls in %d requests", calls, requests)
	if want := callUsers * callRounds; calls != want {
		t.Errorf("%s keys, want %d", strconv.Itoa(calls), want)
	}
}

// Nodes of a cluster make each other's calls: those of one that makes none, and those
// of one that is killed.
func TestCallsAmongNodes(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	c := newCRM(t, slowly)
	houses, configs, nodes := threeNodes(t, g, func(i int, cfg configuration) configuration {
		if i == 0 { // it makes none, and doesn't know the service
			return cfg.with("roles", []string{"ingress", "actors", "console"})
		}
		return cfg.with("services", c.services(map[string]any{"timeout": "1s", "within": "10m", "attempts": 50, "headers": map[string]any{"Authorization": "file:crm"}}))
	})
	for round := range callRounds {
		for u := range callUsers {
			nodes[0].tell(t, fmt.Sprint("u", u), fmt.Sprint(u, "-", round), fmt.Sprint("call c", round))
		}
		if round == 2 || round == 4 {
			victim := round / 2
			time.Sleep(20 * time.Millisecond) // somewhere amidst
			nodes[victim].kill()
			nodes[victim] = houses[victim].start(t, asFateful, configs[victim])
		}
	}
	eachAnsweredOnce(t, g, c)
}
