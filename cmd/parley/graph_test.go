package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"sync"
	"testing"
)

// graph is a Graph API that takes every message and remembers it.
type graph struct {
	*httptest.Server

	mu      sync.Mutex
	sent    []sent
	refuses string // messages with this in them, for good
}

type sent struct{ channel, to, text string }

func newGraph(t *testing.T) *graph {
	t.Helper()
	g := &graph{}
	g.Server = httptest.NewServer(http.HandlerFunc(g.take))
	t.Cleanup(g.Close)
	return g
}

func (g *graph) take(w http.ResponseWriter, r *http.Request) {
	var m struct {
		To        string
		Recipient json.RawMessage // an object on Messenger, a string on WhatsApp
		Text      struct{ Body string }
		Message   struct{ Text string }
	}
	path := strings.Split(r.URL.Path, "/")
	if err := json.NewDecoder(r.Body).Decode(&m); err != nil || len(path) < 3 {
		http.Error(w, `{"error":{"code":100}}`, http.StatusBadRequest)
		return
	}
	var person struct{ ID string }
	isPerson := json.Unmarshal(m.Recipient, &person) == nil && person.ID != ""
	g.mu.Lock()
	if text := m.Text.Body + m.Message.Text; g.refuses != "" && strings.Contains(text, g.refuses) {
		g.mu.Unlock()
		http.Error(w, `{"error":{"message":"`+refusal+`","type":"OAuthException","code":551,"fbtrace_id":"x"}}`, http.StatusBadRequest)
		return
	}
	g.sent = append(g.sent, sent{channel: path[len(path)-2], to: m.To + person.ID, text: m.Text.Body + m.Message.Text})
	n := len(g.sent)
	g.mu.Unlock()
	w.Header().Set("Content-Type", "application/json")
	if !isPerson {
		_, _ = fmt.Fprintf(w, `{"messaging_product":"whatsapp","messages":[{"id":"wamid.%d"}]}`, n)
		return
	}
	_, _ = fmt.Fprintf(w, `{"recipient_id":%q,"message_id":"m_out_%d"}`, person.ID, n)
}

// refusal is the provider's words to what it refuses.
const refusal = "(#551) This person isn't available right now."

// refuse makes it refuse messages with a text in them from now on; none, if empty.
func (g *graph) refuse(text string) {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.refuses = text
}

// texts is what a contact was told, in order.
func (g *graph) texts(to string) []string {
	g.mu.Lock()
	defer g.mu.Unlock()
	var texts []string
	for _, s := range g.sent {
		if s.to == to {
			texts = append(texts, s.text)
		}
	}
	return texts
}

// heard waits until a contact has been told something.
func (g *graph) heard(t *testing.T, to, text string) {
	t.Helper()
	await(t, fmt.Sprintf("%s is told %q", to, text), func() bool { return slices.Contains(g.texts(to), text) })
}
