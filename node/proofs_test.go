package node_test

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/node"
	"github.com/parleychat/parley/persistence/memory"
)

// What stands in files is replaced while the node runs; a file that can't be read
// leaves its value as it is, and so does the environment.
func TestProofsAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	key := write(t, dir, "key", "Bearer old\n")
	write(t, dir, "other", "x\n")
	write(t, dir, "sign", "old\n")
	p, err := node.NewProofs(&node.Config{
		Services: []node.ServiceConfig{
			{Name: "crm", URL: "https://crm.example", Headers: map[string]node.Secret{"Authorization": "file:key", "X-Other": "file:other"}},
			{Name: "fixed", URL: "https://fixed.example", Headers: map[string]node.Secret{"X-Path": "env:PATH"}},
		},
		HTTPBots: []node.HTTPBotConfig{{Name: "shop", URL: "https://shop.example", Secret: "file:sign"}},
	}, dir)
	if err != nil {
		t.Fatal(err)
	}
	expect := func(what string, want ...string) {
		t.Helper()
		if diff := cmp.Diff(want, p.Look()); diff != "" {
			t.Errorf("%s: %s", what, diff)
		}
	}
	expect("at first")
	write(t, dir, "key", "Bearer new\n")
	expect("a new key", "crm map[Authorization:Bearer new X-Other:x] ")
	expect("the same key")
	write(t, dir, "key", "")
	write(t, dir, "other", "y")
	expect("an empty file, and a new one", "crm map[Authorization:Bearer new X-Other:y] ")
	if err := os.Remove(key); err != nil {
		t.Fatal(err)
	}
	expect("no file")
	write(t, dir, "sign", "new")
	expect("the secret of a bot", "http_bots/shop map[] new")
}

// A request that begins after the file has changed brings the new key. What can't be a
// header is told, and the service keeps what it has.
func TestServiceHearsTheNewKey(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	write(t, dir, "key", "Bearer old")
	p, err := node.NewProofs(&node.Config{Services: []node.ServiceConfig{{Name: "crm", URL: "https://crm.example", Headers: map[string]node.Secret{"Authorization": "file:key"}}}}, dir)
	if err != nil {
		t.Fatal(err)
	}
	synctest.Test(t, func(t *testing.T) {
		heard := make(chan string, 10)
		crm := roundTripper(func(r *http.Request) *http.Response {
			heard <- r.Header.Get("Authorization")
			w := httptest.NewRecorder()
			w.WriteHeader(http.StatusNoContent)
			return w.Result()
		})
		store := memory.New(memory.Config{})
		caller, err := callout.New(callout.Config{Calls: store, Transport: crm, Services: []callout.Service{
			{Name: "crm", URL: "https://crm.example", Headers: map[string]string{"Authorization": "Bearer old"}},
		}})
		if err != nil {
			t.Fatal(err)
		}
		go func() { _ = caller.Run(t.Context()) }()
		go p.Watch(t.Context(), time.Second, caller)
		for i, step := range []struct{ write, want string }{
			{"Bearer old", "Bearer old"}, {"Bearer new", "Bearer new"}, {"Bearer \x01", "Bearer new"}, {"Bearer third", "Bearer third"},
		} {
			if err := os.WriteFile(filepath.Join(dir, "key"), []byte(step.write), 0o600); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			begin(t, store, byte(i))
			caller.Wake()
			if got := <-heard; got != step.want {
				t.Errorf("with %q in the file the service hears %q, want %q", step.write, got, step.want)
			}
		}
	})
}

type roundTripper func(*http.Request) *http.Response

func (f roundTripper) RoundTrip(r *http.Request) (*http.Response, error) { return f(r), nil }

// begin makes a call of crm.
func begin(t *testing.T, store *memory.Store, n byte) {
	t.Helper()
	c := parley.Conversation{Channel: parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "1"}, Contact: parley.Contact("user:" + strings.Repeat("x", int(n)+1))}
	commit := parley.Commit{Conversation: c, Next: parley.Snapshot{Conversation: c, Version: parley.Version{Number: 1, Token: 1}}}
	commit.Calls = []parley.OutgoingCall{{ID: parley.NewID(time.Now(), [16]byte{n}), Conversation: c, At: time.Now(), Call: parley.Call{Name: "q", Service: "crm"}}}
	errs, err := store.Commit(t.Context(), []parley.Commit{commit})
	if err != nil || errs[0] != nil {
		t.Fatal(err, errs)
	}
}
