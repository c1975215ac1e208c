package node_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

const appSecret = "a secret of the tests"

// page is the configuration of a node with one Page, whose bot is named bot.
func page(t *testing.T, graph string) node.Config {
	t.Helper()
	path := filepath.Join(t.TempDir(), "secret")
	if err := os.WriteFile(path, []byte(appSecret), 0o600); err != nil {
		t.Fatal(err)
	}
	secret := node.Secret("file:" + path)
	return node.Config{
		Listen: free(t), Admin: free(t), Data: filepath.Join(t.TempDir(), "data"),
		Graph: node.Graph{URL: graph, Version: "v26.0"}, DoubtfulWait: 30 * time.Second, HistoryFor: time.Hour,
		Apps: []node.AppConfig{{
			Name: "app", Secrets: []node.Secret{secret}, VerifyTokens: []node.Secret{secret},
			Channels: []node.ChannelConfig{{Brand: "b", Kind: "messenger", ID: "1", Token: secret, Bot: "bot"}},
		}},
	}
}

// free is an address that nobody listens on.
func free(t *testing.T) string {
	t.Helper()
	ln, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}()
	return ln.Addr().String()
}

// say posts a signed text of a user; it wants 200.
func say(t *testing.T, addr, user, text string) {
	t.Helper()
	body := fmt.Sprintf(`{"object":"page","entry":[{"id":"1","time":1,"messaging":[{"sender":{"id":%q},"recipient":{"id":"1"},"timestamp":1700000000000,"message":{"mid":"m_%s","text":%q}}]}]}`, user, user, text)
	mac := hmac.New(sha256.New, []byte(appSecret))
	_, _ = mac.Write([]byte(body))
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://"+addr+"/webhooks/app", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		t.Fatalf("status %d", resp.StatusCode)
	}
}

// run runs a node and returns what stops it and what it ends with.
func run(t *testing.T, cfg node.Config, bot parley.Behavior) (stop context.CancelFunc, ended <-chan error) {
	t.Helper()
	n, err := node.Open(t.Context(), cfg, []parley.Bot{{Name: "bot", Behavior: bot}}, "", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() { done <- n.Run(ctx) }()
	t.Cleanup(stop)
	return stop, done
}

// A node that is told to stop has stopped within 10 s, whatever hangs: a sender
// of webhooks, a turn and the Graph API at once.
func TestStopsInTimeWhateverHangs(t *testing.T) {
	t.Parallel()
	gate, called, began := make(chan struct{}), make(chan struct{}, 1), make(chan struct{}, 1)
	graph := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		called <- struct{}{}
		<-gate
	}))
	defer graph.Close()
	defer close(gate)
	cfg := page(t, graph.URL)
	stop, ended := run(t, cfg, parley.BehaviorFunc(func(turn *parley.Turn) error {
		if m, ok := turn.Input().(parley.Message); ok && m.Text == "hang" {
			began <- struct{}{}
			<-gate
		}
		turn.Say("hello")
		return nil
	}))
	say(t, cfg.Listen, "100", "hi")
	<-called
	say(t, cfg.Listen, "200", "hang")
	<-began
	slow, err := new(net.Dialer).DialContext(t.Context(), "tcp", cfg.Listen)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = slow.Close() }()
	if _, err := io.WriteString(slow, "POST /webhooks/app HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=00\r\nContent-Length: 1000\r\n\r\n{"); err != nil {
		t.Fatal(err)
	}
	stop()
	told := time.Now()
	if err := <-ended; err != nil {
		t.Errorf("ended with %v", err)
	}
	if took := time.Since(told); took > 10*time.Second {
		t.Errorf("took %s to stop", took)
	}
}

// A node that can't start leaves nothing behind: the next attempt succeeds.
func TestAFailedStartLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	cfg := page(t, "http://127.0.0.1:1")
	taken, err := new(net.ListenConfig).Listen(t.Context(), "tcp", cfg.Admin)
	if err != nil {
		t.Fatal(err)
	}
	bots := []parley.Bot{{Name: "bot", Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}}
	if _, err := node.Open(t.Context(), cfg, bots, "", slog.New(slog.DiscardHandler)); err == nil {
		t.Fatal("two servers on one address")
	}
	if err := taken.Close(); err != nil {
		t.Fatal(err)
	}
	stop, ended := run(t, cfg, bots[0].Behavior)
	say(t, cfg.Listen, "100", "hi")
	stop()
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
}
