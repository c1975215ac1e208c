package concierge_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/examples/concierge"
	"github.com/parleychat/parley/flow/flowtest"
	"github.com/parleychat/parley/persistence/memory"
)

// model plays a language model: it is busy at first, and then repeats what it is told.
type model struct{ asked atomic.Int32 }

func (m *model) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if m.asked.Add(1) == 1 {
		w.WriteHeader(http.StatusTooManyRequests)
		return
	}
	var q struct {
		Messages []struct{ Role, Content string }
	}
	if err := json.NewDecoder(r.Body).Decode(&q); err != nil || r.Header.Get("Authorization") != "Bearer paid" {
		w.WriteHeader(http.StatusUnauthorized)
		return
	}
	last := q.Messages[len(q.Messages)-1]
	_, _ = fmt.Fprintf(w, `{"choices":[{"message":{"role":"assistant","content":"%s said %s, the last of %d"}}]}`, last.Role, last.Content, len(q.Messages))
}

// TestOverHTTP: from a user's words over bot, call, adapter and model to the answer.
func TestOverHTTP(t *testing.T) {
	t.Parallel()
	m := &model{}
	upstream := httptest.NewServer(m)
	t.Cleanup(upstream.Close)
	adapter := httptest.NewServer(&concierge.Adapter{URL: upstream.URL, Key: "paid", Model: "small", Client: upstream.Client()})
	t.Cleanup(adapter.Close)
	d := newDialogue(t)
	caller, err := callout.New(callout.Config{Calls: d.store, Services: []callout.Service{{Name: "model", URL: adapter.URL}}})
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- caller.Run(ctx) }()
	d.hear(parley.Message{Text: "hello"})
	caller.Wake()
	want := "user said hello, the last of 1"
	for end := time.Now().Add(20 * time.Second); len(d.said) == 0 && time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		d.turn()
	}
	if got := strings.Join(d.said, "|"); got != want {
		t.Errorf("the bot says %q, want %q", got, want)
	}
	if n := m.asked.Load(); n != 2 {
		t.Errorf("the model was asked %d times, want 2: it was busy once", n)
	}
	stop()
	if err := <-ended; err != nil {
		t.Error(err)
	}
}

// TestAskedTwice: the same call is answered from memory.
func TestAskedTwice(t *testing.T) {
	t.Parallel()
	m := &model{}
	m.asked.Store(1)
	upstream := httptest.NewServer(m)
	t.Cleanup(upstream.Close)
	a := &concierge.Adapter{URL: upstream.URL, Key: "paid", Client: upstream.Client()}
	ask := func(key, body string) (int, string) {
		r := httptest.NewRequestWithContext(t.Context(), http.MethodPost, "/answers", strings.NewReader(body))
		r.Header.Set("Idempotency-Key", key)
		w := httptest.NewRecorder()
		a.ServeHTTP(w, r)
		b, _ := io.ReadAll(w.Body) // of a recorder
		return w.Code, string(b)
	}
	const question = `{"lines":[{"from":"user","text":"hello"}]}`
	_, first := ask("one", question)
	code, again := ask("one", question)
	if n := m.asked.Load(); code != http.StatusOK || first != again || n != 2 {
		t.Errorf("answered %q and then %d %q; asked %d times", first, code, again, n-1)
	}
	if _, other := ask("two", question); other != first || m.asked.Load() != 3 {
		t.Errorf("another call is answered %q", other)
	}
	if code, _ := ask("three", `{}`); code != http.StatusBadRequest {
		t.Errorf("no question: %d", code)
	}
	a.Key = "stolen"
	if code, _ := ask("four", question); code != http.StatusBadGateway {
		t.Errorf("a model that refuses: %d", code)
	}
}

// TestTurns: what the bot does while it waits, and when it waits in vain.
func TestTurns(t *testing.T) {
	t.Parallel()
	d := newDialogue(t)
	first := d.hear(parley.Message{Text: "hello"})
	second := d.hear(parley.Message{Text: "are you there?"})
	d.hear(parley.TimerFired{Name: "answer", Generation: 1}) // of the first: set anew since
	d.hear(parley.TimerFired{Name: "answer", Generation: 2})
	d.hear(parley.Called{ID: first, Name: "answer", Service: "model", Body: []byte(`{"text":"too late"}`)})
	d.hear(parley.Called{ID: second, Name: "answer", Service: "model", Body: []byte(`{"text":"I am."}`)})
	third := d.hear(parley.Message{Text: "good"})
	d.hear(parley.Called{ID: third, Name: "answer", Service: "model", Failure: parley.CallGaveUp})
	d.hear(parley.Reaction{Emoji: "!"})
	d.hear(parley.Message{})
	want := []string{"One moment, please …", "I am.", "I can't think of an answer right now. Please try again in a minute."}
	if got := strings.Join(d.said, "|"); got != strings.Join(want, "|") {
		t.Errorf("the bot says %q", d.said)
	}
}

// dialogue is one conversation with the bot.
type dialogue struct {
	t     *testing.T
	store *memory.Store
	bot   parley.Bot
	name  parley.Conversation
	n     byte
	said  []string
	calls []parley.OutgoingCall
}

func newDialogue(t *testing.T) *dialogue {
	t.Helper()
	return &dialogue{
		t: t, store: memory.New(memory.Config{}), bot: concierge.Bot(),
		name: parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "p"}, Contact: "user:u"},
	}
}

// hear lets something happen, and returns the call that the bot has begun.
func (d *dialogue) hear(in parley.Input) parley.ID {
	d.t.Helper()
	d.n++
	e := parley.Event{Channel: d.name.Channel, Contacts: []parley.Contact{d.name.Contact}, Key: parley.NewEventKey(fmt.Sprint(d.n)), Input: in}
	if _, err := d.store.Append(d.t.Context(), parley.Arrivals{Events: []parley.Event{e}}); err != nil {
		d.t.Fatal(err)
	}
	d.calls = nil
	d.turn()
	if len(d.calls) == 0 {
		return parley.ID{}
	}
	return d.calls[0].ID
}

// turn takes what has come in.
func (d *dialogue) turn() {
	d.t.Helper()
	loaded, err := d.store.Load(d.t.Context(), d.name, 10)
	if err != nil {
		d.t.Fatal(err)
	}
	if len(loaded.Pending) == 0 {
		return
	}
	d.n++
	c := parley.Step(&d.bot, loaded.Snapshot, loaded.Pending, parley.Circumstance{Nonce: [16]byte{0: d.n}})
	errs, err := d.store.Commit(d.t.Context(), []parley.Commit{c})
	if err := errors.Join(append(errs, err)...); err != nil || len(c.Dead) > 0 {
		d.t.Fatalf("turn: %v, %d dead letters", err, len(c.Dead))
	}
	d.calls = append(d.calls, c.Calls...)
	for _, o := range c.Outbox {
		d.said = append(d.said, o.Send.Text)
	}
}

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Run(t, concierge.Bot(), "testdata/*.txt")
}
