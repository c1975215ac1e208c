package concierge

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
)

// Adapter is the service that the bot calls: it turns a Question into a request of a
// language model that speaks the "chat completions" protocol, and the model's words
// into a Reply. It is an ordinary HTTP service, in a process of its own; this one is
// small enough to begin with.
//
// A call may come more than once, with the same Idempotency-Key: after an answer that
// was lost, or a node that was killed. The adapter remembers what it has answered, so
// that the model is paid once.
type Adapter struct {
	URL    string       // of the model: "https://…/v1/chat/completions"
	Key    string       // that pays for it
	Model  string       // its name
	Client *http.Client // that speaks to it

	mu       sync.Mutex
	answered map[string][]byte // by key
}

const (
	maxQuestion   = 256 << 10
	maxCompletion = 1 << 20
	maxAnswered   = 10_000 // that are remembered
)

// ServeHTTP answers a call. What the model refuses for now, the bot's call is refused
// for now: Parley tries again.
func (a *Adapter) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var q Question
	if err := json.NewDecoder(io.LimitReader(r.Body, maxQuestion)).Decode(&q); err != nil || len(q.Lines) == 0 {
		http.Error(w, "want a question", http.StatusBadRequest)
		return
	}
	key := r.Header.Get("Idempotency-Key")
	reply, known := a.remembered(key)
	if !known {
		text, err := a.complete(r.Context(), &q)
		if err != nil {
			http.Error(w, err.Error(), http.StatusBadGateway)
			return
		}
		reply, _ = json.Marshal(Reply{Text: text}) // a text always has a form
		a.remember(key, reply)
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(reply) // who is gone asks again
}

func (a *Adapter) remembered(key string) ([]byte, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	reply, ok := a.answered[key]
	return reply, ok && key != ""
}

func (a *Adapter) remember(key string, reply []byte) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.answered == nil || len(a.answered) >= maxAnswered {
		a.answered = map[string][]byte{}
	}
	a.answered[key] = reply
}

// completion is as much of the protocol as is needed.
type completion struct {
	Model    string              `json:"model"`
	Messages []completionMessage `json:"messages"`
}

type completionMessage struct {
	Role    string `json:"role"`
	Content string `json:"content"`
}

var errModel = errors.New("the model gave no answer")

func (a *Adapter) complete(ctx context.Context, q *Question) (string, error) {
	ask := completion{Model: a.Model}
	for _, l := range q.Lines {
		ask.Messages = append(ask.Messages, completionMessage{Role: l.From, Content: l.Text})
	}
	body, err := json.Marshal(ask)
	if err != nil {
		return "", fmt.Errorf("write question: %w", err)
	}
	r, err := http.NewRequestWithContext(ctx, http.MethodPost, a.URL, bytes.NewReader(body))
	if err != nil {
		return "", errModel
	}
	r.Header.Set("Authorization", "Bearer "+a.Key)
	r.Header.Set("Content-Type", "application/json")
	answer, err := a.Client.Do(r)
	if err != nil {
		return "", errModel // without the address
	}
	defer func() { _ = answer.Body.Close() }() // it was read
	var said struct {
		Choices []struct{ Message completionMessage }
	}
	err = json.NewDecoder(io.LimitReader(answer.Body, maxCompletion)).Decode(&said)
	if err != nil || answer.StatusCode != http.StatusOK || len(said.Choices) == 0 {
		return "", errModel
	}
	return said.Choices[0].Message.Content, nil
}
