package callout_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/persistence/memory"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// world is a store with a conversation in it, and services that are played. It lives
// in a bubble of its own time.
type world struct {
	t     *testing.T
	store *memory.Store
	calls callout.Calls // the store, or what stands before it
	reg   *prometheus.Registry
	n     uint64

	mu       sync.Mutex
	requests []request
	answer   func(r request) (status int, body string) // 0: no answer until the request ends
	rows     []parley.Pending                          // that were delivered
}

// request is what a service has heard.
type request struct {
	*http.Request
	body string
	at   time.Time
}

// RoundTrip plays the services.
func (w *world) RoundTrip(r *http.Request) (*http.Response, error) {
	heard := request{Request: r, at: time.Now()}
	if r.Body != nil {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			return nil, err
		}
		heard.body = string(b)
	}
	w.mu.Lock()
	w.requests = append(w.requests, heard)
	answer := w.answer
	w.mu.Unlock()
	status, body := answer(heard)
	if status == 0 {
		<-r.Context().Done()
		return nil, r.Context().Err()
	}
	if err := r.Context().Err(); err != nil {
		return nil, err
	}
	header := http.Header{}
	if after, ok := strings.CutPrefix(body, "retry after "); ok {
		header.Set("Retry-After", after)
	}
	return &http.Response{StatusCode: status, Header: header, Body: io.NopCloser(strings.NewReader(body)), Request: r}, nil
}

// Deliver notes rows.
func (w *world) Deliver(rows []parley.Pending) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.rows = append(w.rows, rows...)
}

func (w *world) heard() []request {
	w.mu.Lock()
	defer w.mu.Unlock()
	return append([]request(nil), w.requests...)
}

// play runs a test in a bubble.
func play(t *testing.T, f func(w *world)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		w := &world{
			t: t, store: memory.New(memory.Config{Now: time.Now}), reg: prometheus.NewRegistry(),
			answer: func(request) (int, string) { return http.StatusOK, `{"ok":true}` },
		}
		w.calls = w.store
		f(w)
	})
}

func (w *world) same(what string, got, want any) {
	w.t.Helper()
	same(w.t, what, got, want)
}

const crm = "crm"

func (w *world) config(services ...callout.Service) callout.Config {
	if len(services) == 0 {
		services = []callout.Service{{Name: crm, URL: "https://crm.example/v1"}}
	}
	return callout.Config{
		Calls: w.calls, Services: services, Deliverer: w, Transport: w, Random: func() float64 { return 1 }, Registerer: w.reg,
	}
}

// run runs a Caller, until the function that is returned is called.
func (w *world) run(cfg callout.Config) (c *callout.Caller, stop func()) {
	w.t.Helper()
	c, err := callout.New(cfg)
	if err != nil {
		w.t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(w.t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		if err := c.Run(ctx); err != nil {
			w.t.Errorf("run: %v", err)
		}
	}()
	synctest.Wait()
	return c, func() {
		cancel()
		<-done
	}
}

func conv(name string) parley.Conversation {
	return parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"}, Contact: parley.Contact("user:" + name)}
}

// call lets a conversation have a turn that makes calls.
func (w *world) call(c parley.Conversation, calls ...parley.Call) {
	w.t.Helper()
	w.turn(c, func(t *parley.Turn) error {
		for _, one := range calls {
			t.Call(one)
		}
		return nil
	})
}

// turn lets a conversation have a turn about all that has come in, and a word of its
// own.
func (w *world) turn(c parley.Conversation, f func(*parley.Turn) error) {
	w.t.Helper()
	w.n++
	e := parley.Event{Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey(fmt.Sprint(w.n)), Input: parley.Message{Text: "x"}}
	_, err := w.store.Append(w.t.Context(), parley.Arrivals{Events: []parley.Event{e}})
	var loaded parley.Loaded
	if err == nil {
		loaded, err = w.store.Load(w.t.Context(), c, 100)
	}
	if err != nil {
		w.t.Fatal(err)
	}
	bot := &parley.Bot{Name: "bot", Version: 1, Behavior: parley.BehaviorFunc(f)}
	commit := parley.Step(bot, loaded.Snapshot, loaded.Pending, parley.Circumstance{Nonce: [16]byte{0: byte(w.n), 1: byte(w.n >> 8), 15: 1}})
	if len(commit.Dead) > 0 {
		w.t.Fatal(commit.Dead[0].Cause)
	}
	errs, err := w.store.Commit(w.t.Context(), []parley.Commit{commit})
	if err := errors.Join(append(errs, err)...); err != nil {
		w.t.Fatal(err)
	}
}

// answers are the answers in the inbox of a conversation.
func (w *world) answers(c parley.Conversation) (found []parley.Called) {
	w.t.Helper()
	loaded, err := w.store.Load(w.t.Context(), c, 1000)
	if err != nil {
		w.t.Fatal(err)
	}
	for _, p := range loaded.Pending {
		if in, ok := p.Input.(parley.Called); ok {
			found = append(found, in)
		}
	}
	return found
}

// answered is the one answer that a conversation has, without its id.
func (w *world) answered(c parley.Conversation) parley.Called {
	w.t.Helper()
	all := w.answers(c)
	if len(all) != 1 {
		w.t.Fatalf("%d answers, want 1", len(all))
	}
	all[0].ID = parley.ID{}
	return all[0]
}

func (w *world) backlog() parley.Backlog {
	w.t.Helper()
	b, err := w.store.Backlog(w.t.Context())
	if err != nil {
		w.t.Fatal(err)
	}
	return b
}

// pass lets time pass, and all that happens then happen.
func pass(d time.Duration) {
	time.Sleep(d)
	synctest.Wait()
}

func order() parley.Call {
	return parley.Call{Name: "order", Service: crm, Path: "/orders/7?full=1", Body: json.RawMessage(`{"a":1}`)}
}
