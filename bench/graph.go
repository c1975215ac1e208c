package main

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"time"
)

const (
	// graphTakes is how long the simulated Graph API takes for an answer.
	graphTakes = 50 * time.Millisecond
	// deadNumber begins the name of a number whose token doesn't hold any more.
	deadNumber = "dead"
)

// graph is a Graph API that takes so many messages of a number in any second, as
// Meta does by its page on throughput, and remembers to whom they went.
type graph struct {
	*loopback
	limit int

	mu      sync.Mutex
	numbers map[string][]time.Time // when the last messages of each came, at most limit
	to      map[string]bool
	count   graphCount
}

// graphCount is what has come so far.
type graphCount struct {
	accepted, refused, doubled int
	first, last                time.Time // accepted
	lastRefused                time.Time
}

func newGraph(ctx context.Context, limit int) (_ *graph, err error) {
	g := &graph{limit: limit, numbers: map[string][]time.Time{}, to: map[string]bool{}}
	g.loopback, err = serveLoopback(ctx, "the Graph API", g)
	return g, err
}

// ServeHTTP answers POST /v26.0/NUMBER/messages.
func (g *graph) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var body struct{ To string }
	parts := strings.Split(r.URL.Path, "/")
	if err := json.NewDecoder(r.Body).Decode(&body); err != nil || len(parts) != 4 || body.To == "" {
		http.Error(w, "not a message", http.StatusBadRequest)
		return
	}
	code := g.take(parts[2], body.To, time.Now())
	time.Sleep(graphTakes)
	if code != 0 {
		w.WriteHeader(http.StatusBadRequest)
		_, _ = fmt.Fprintf(w, `{"error":{"code":%d,"message":"refused"}}`, code) // who has gone needs no answer
		return
	}
	_, _ = fmt.Fprintf(w, `{"messaging_product":"whatsapp","messages":[{"id":"wamid.%s"}]}`, body.To) // as above
}

const (
	codeDeadToken = 190
	codeTooFast   = 130429
)

// take takes a message, or returns the code of its refusal.
func (g *graph) take(number, to string, at time.Time) int {
	if strings.HasPrefix(number, deadNumber) {
		return codeDeadToken
	}
	g.mu.Lock()
	defer g.mu.Unlock()
	recent := g.numbers[number]
	if len(recent) == g.limit && at.Sub(recent[0]) < time.Second {
		g.count.refused++
		g.count.lastRefused = at
		return codeTooFast
	}
	if len(recent) == g.limit {
		recent = recent[1:]
	}
	g.numbers[number] = append(recent, at)
	if g.to[to] {
		g.count.doubled++
	}
	g.to[to] = true
	if g.count.accepted++; g.count.accepted == 1 {
		g.count.first = at
	}
	g.count.last = at
	return 0
}

func (g *graph) counted() graphCount {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.count
}
