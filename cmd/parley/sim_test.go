package main_test

import (
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"
)

// simReport is what sim meta --json promises to print.
type simReport struct {
	Clean    *bool
	Messages *int
	Replied  *int
	Sins     []struct {
		Name, Means, Example string
		Count                int
	}
}

func playSim(t *testing.T, code int, target string, args ...string) (r simReport) {
	t.Helper()
	always := []string{
		"sim", "meta", target, "--json", "--page", "off", "--secret", appSecret, "--verify-token", "verify-me", "--app-id", "9001",
		"--users", "30", "--think", "200ms", "--rate", "100", "--duration", "3s", "--duplicates", "0.3", "--seed", "5",
	}
	e := run(t, "", append(always, args...)...)
	e.want(t, code)
	if err := json.Unmarshal([]byte(e.out), &r); err != nil || r.Clean == nil || r.Messages == nil || r.Replied == nil {
		t.Fatalf("the report: %v\n%s\n%s", err, e.out, e.errors)
	}
	return r
}

// A node with a bot that answers each message once has no sins.
func TestSimOfANode(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	graph := l.Addr().String()
	if err := l.Close(); err != nil { // the simulator is going to have it
		t.Fatal(err)
	}
	n := newHouse(t).start(t, asItself, configured("http://"+graph, channel("messenger", pageID, "greeter"), channel("whatsapp", numberID, "greeter")))
	to, _ := n.addresses()
	r := playSim(t, 0, to+"/webhooks/"+appName, "--listen", graph, "--token", pageToken,
		"--platforms", "messenger,whatsapp", "--page-id", pageID, "--number-id", numberID, "--batch", "20", "--no-limits")
	if !*r.Clean || *r.Messages < 100 || *r.Replied != *r.Messages {
		t.Errorf("a node isn't clean: %d messages, %d replies, %+v", *r.Messages, *r.Replied, r.Sins)
	}
}

// A receiver as bad as they come: it acknowledges first and drops what it likes,
// verifies nothing, and answers its own echoes.
func TestSimOfABadReceiver(t *testing.T) {
	t.Parallel()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	graph := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	server := httptest.NewServer(http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) {
		body, _ := io.ReadAll(r.Body)
		var h struct {
			Entry []struct {
				Messaging []struct{ Sender struct{ ID string } }
			}
		}
		if r.Method != http.MethodPost || json.Unmarshal(body, &h) != nil {
			return // also the handshake gets an empty 200
		}
		for _, e := range h.Entry {
			for _, m := range e.Messaging {
				if strings.HasSuffix(m.Sender.ID, "3") {
					continue // is dropped
				}
				send := fmt.Sprintf(`{"recipient":{"id":%q},"messaging_type":"RESPONSE","message":{"text":"Hi!"}}`, m.Sender.ID)
				resp, err := http.Post("http://"+graph+"/me/messages?access_token=x", "application/json", strings.NewReader(send))
				if err == nil {
					_ = resp.Body.Close()
				}
			}
		}
	}))
	t.Cleanup(server.Close)
	r := playSim(t, 1, server.URL+"/hook", "--listen", graph, "--platforms", "messenger", "--reply-within", "1s")
	var names []string
	for _, s := range r.Sins {
		names = append(names, s.Name)
		if s.Count == 0 || s.Means == "" || s.Example == "" {
			t.Errorf("a sin without words: %+v", s)
		}
	}
	for _, name := range []string{"handshake", "forged", "dropped", "doubled", "echo_answered", "status_answered"} {
		if !slices.Contains(names, name) {
			t.Errorf("%s isn't among the sins: %v", name, names)
		}
	}
}
