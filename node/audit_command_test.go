package node_test

import (
	"bytes"
	"encoding/hex"
	"encoding/json"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/audit"
	"github.com/parleychat/parley/console"
	"github.com/parleychat/parley/node"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/memory"
)

// parleyAudit runs parley audit.
func parleyAudit(t *testing.T, args ...string) (code int, out, errs string) {
	t.Helper()
	var o, e bytes.Buffer
	code = node.Command(t.Context(), &o, &e, append([]string{"audit"}, args...)...)
	return code, o.String(), e.String()
}

// audited serves the audit of a store with two events; lose has one of them lost. It
// returns the flags by which the node is asked, and that event.
func audited(t *testing.T, lose bool) (flags []string, one parley.Pending) {
	t.Helper()
	s := memory.New(memory.Config{})
	ch := parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"}
	for _, who := range []parley.Contact{"user:a", "user:b"} {
		rows, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{{
			Channel: ch, Contacts: []parley.Contact{who}, Key: parley.NewEventKey(string(who)), Input: parley.Message{ID: "m", Text: "a secret"},
		}}})
		if err != nil {
			t.Fatal(err)
		}
		one = rows[0]
	}
	if lose {
		gone := parley.Commit{Conversation: one.Conversation, Through: one.Seq, Saw: []parley.Row{one.Row}}
		gone.Next = parley.Snapshot{Conversation: one.Conversation, Version: parley.Version{Number: 1, Token: 1}}
		if errs, err := s.Commit(t.Context(), []parley.Commit{gone}); err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
	}
	api, err := console.New(console.Config{
		Token: adminToken, Operator: three(), Letters: office{store: s}, Conversations: noConversations{}, Audit: audit.New(audit.Config{Store: s}),
	})
	if err != nil {
		t.Fatal(err)
	}
	srv := httptest.NewServer(api.Handler())
	t.Cleanup(srv.Close)
	return []string{"--admin", srv.URL, "--token", secret(t, adminToken)}, one
}

func TestAuditAddsUp(t *testing.T) {
	t.Parallel()
	flags, _ := audited(t, false)
	code, out, errs := parleyAudit(t, flags...)
	if code != 0 || !strings.Contains(out, "It adds up") || !strings.Contains(out, "acme") {
		t.Errorf("exit code %d:\n%s%s", code, out, errs)
	}
	code, out, errs = parleyAudit(t, append(flags, "--json", "--since", "1h")...)
	var a parley.Account
	if err := json.Unmarshal([]byte(out), &a); err != nil || code != 0 || !a.AddsUp || a.Since == nil || a.Whole.Pending != 2 {
		t.Errorf("exit code %d, %v:\n%s%s", code, err, out, errs)
	}
}

func TestAuditNamesWhatIsLost(t *testing.T) {
	t.Parallel()
	flags, lost := audited(t, true)
	code, out, _ := parleyAudit(t, flags...)
	name := lost.Conversation.String() + "  key " + hex.EncodeToString(lost.Key[:])
	if code != 1 || !strings.Contains(out, "DOESN'T ADD UP") || !strings.Contains(out, name) || strings.Contains(out, "secret") {
		t.Errorf("exit code %d:\n%s", code, out)
	}
	if code, out, errs := parleyAudit(t, append(flags, "--reopen")...); code != 0 || !strings.Contains(out, name) {
		t.Errorf("reopen: exit code %d:\n%s%s", code, out, errs)
	}
	if code, out, errs := parleyAudit(t, flags...); code != 0 {
		t.Errorf("after it was forgiven: exit code %d:\n%s%s", code, out, errs)
	}
}

func TestAuditOfAFolder(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	s, err := embedded.Open(embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	_, err = s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{{
		Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"}, Contacts: []parley.Contact{"user:a"}, Time: time.Now(), Input: parley.Message{ID: "m"},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	if code, _, errs := parleyAudit(t, "--data", dir); code != 1 || !strings.Contains(errs, "in use") {
		t.Errorf("while it is open: exit code %d: %s", code, errs)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if code, out, errs := parleyAudit(t, "--data", dir); code != 0 || !strings.Contains(out, "It adds up") {
		t.Errorf("exit code %d:\n%s%s", code, out, errs)
	}
}

func TestAuditRefuses(t *testing.T) {
	t.Parallel()
	for _, args := range [][]string{
		{"--since=-1h"}, {"--since", "49h"}, {"--data", "x", "--database", "env:X"}, {"--database", "postgres://secret"}, {"--data", filepath.Join(t.TempDir(), "none")},
	} {
		if code, out, errs := parleyAudit(t, args...); code != 1 || out != "" || errs == "" || strings.Contains(errs, "//secret") {
			t.Errorf("%q: exit code %d: %s%s", args, code, out, errs)
		}
	}
}
