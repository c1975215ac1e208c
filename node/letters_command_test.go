package node_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/console"
	"github.com/parleychat/parley/node"
	"github.com/parleychat/parley/persistence/memory"
)

// office is the dead letters of a store that nobody else uses.
type office struct {
	store *memory.Store
	reads int
}

func (o office) DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error) {
	return o.store.DeadLetters(ctx, q)
}

func (o office) Retry(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	r, err := o.store.RetryDeadLetter(ctx, id, o.reads)
	return r.Letter, err
}

func (o office) Drop(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	return o.store.DropDeadLetter(ctx, id)
}

// noConversations are shown by nobody here.
type noConversations struct{}

func (noConversations) Conversation(context.Context, parley.Conversation, console.HistoryPage) (console.Conversation, error) {
	return console.Conversation{}, parley.ErrUnavailable
}

const innermost = "zanzibar" // stands in every letter

func deadID(n int) parley.ID {
	return parley.NewID(time.UnixMilli(1795680000000), [16]byte{15: byte(n), 14: byte(n >> 8)})
}

// graveyard is a store with so many dead letters, one a second, and every third of
// them a message.
func graveyard(t *testing.T, n int) office {
	t.Helper()
	began := time.Date(2026, 11, 26, 8, 0, 0, 0, time.UTC)
	s := memory.New(memory.Config{Now: func() time.Time { return began.Add(time.Hour) }})
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "106540352242922"}, Contact: "phone:4917012345678"}
	next := parley.Snapshot{Conversation: c, Version: parley.Version{Number: 1, Token: 1}}
	commit := parley.Commit{Conversation: c, Next: next}
	for i := range n {
		d := parley.DeadLetter{
			ID: deadID(i), Conversation: c, At: began.Add(time.Duration(i) * time.Second), Cause: "panic: runtime error: index out of range [3] with length 3", Seq: parley.Seq(i + 1),
			Data: []byte(`{"kind":"message","input":{"id":"m","text":"` + innermost + `"}}`),
		}
		if i%3 == 2 {
			d.Seq, d.Data = 0, []byte(`{"effect":"send","value":{"text":"`+innermost+`"}}`)
			d.Cause = "(#131026) Message undeliverable: the recipient\x1b[2J phone number is not a WhatsApp phone number, or has not accepted the new terms (code 131026)"
		}
		commit.Dead = append(commit.Dead, d)
	}
	if errs, err := s.Commit(t.Context(), []parley.Commit{commit}); err != nil || errs[0] != nil {
		t.Fatalf("commit: %v %v", errs, err)
	}
	return office{store: s}
}

// letters runs parley deadletters against an office.
func letters(t *testing.T, o console.Letters, args ...string) (code int, out, errs string) {
	t.Helper()
	api, err := console.New(console.Config{Token: adminToken, Operator: three(), Letters: o, Conversations: noConversations{}})
	if err != nil {
		t.Fatal(err)
	}
	mux := http.NewServeMux()
	mux.Handle("/api/", api.Handler())
	srv := httptest.NewServer(mux)
	defer srv.Close()
	var stdout, stderr bytes.Buffer
	code = node.Command(t.Context(), &stdout, &stderr, append([]string{"deadletters"}, append(args, "--admin", srv.URL, "--token", secret(t, adminToken))...)...)
	return code, stdout.String(), stderr.String()
}

func letterGolden(t *testing.T, name, text string) {
	t.Helper()
	if updating() {
		if err := os.MkdirAll(filepath.Join("testdata", "deadletters"), 0o750); err != nil {
			t.Fatal(err)
		}
	}
	golden(t, filepath.Join("..", "deadletters", name), text)
}

func TestLettersTables(t *testing.T) {
	t.Parallel()
	for name, args := range map[string][]string{
		"list":        {"list"},
		"list-page":   {"list", "--limit", "1", "--oldest"},
		"list-none":   {"list", "--brand", "other"},
		"list-json":   {"list", "--json", "--limit", "2"},
		"list-some":   {"list", "--kind", "message", "--cause", "(code 131026)", "--channel", "acme/whatsapp/106540352242922"},
		"list-old":    {"list", "--older-than", "876000h"},
		"show":        {"show", deadID(2).String()},
		"show-json":   {"show", "--json", deadID(0).String()},
		"dry-run":     {"retry", "--dry-run", "--kind", "event"},
		"dry-run-ids": {"drop", "--dry-run", deadID(2).String()},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := graveyard(t, 3)
			code, out, errs := letters(t, o, args...)
			if dry := strings.HasPrefix(name, "dry"); code != 0 || dry != strings.Contains(errs, "nothing was done") {
				t.Errorf("exit code %d: %s", code, errs)
			}
			letterGolden(t, name+".txt", out)
			if strings.Contains(out, innermost) != (args[0] == "show") {
				t.Errorf("what is in a letter:\n%s", out)
			}
			if strings.Contains(out, "\x1b") && !strings.HasSuffix(name, "json") {
				t.Error("a cause steers the terminal")
			}
			if b, err := o.store.Backlog(t.Context()); err != nil || b.Dead != 3 {
				t.Errorf("backlog %+v: %v", b, err)
			}
		})
	}
}

func TestLettersInBulk(t *testing.T) {
	t.Parallel()
	type left struct{ Dead, Pending, Unsent int }
	for name, row := range map[string]struct {
		letters int
		args    []string
		code    int
		left    left
		out     string
		errs    []string
	}{
		"RetryOne":       {3, []string{"retry", deadID(0).String()}, 0, left{2, 1, 0}, "", []string{"1 of 1 retried"}},
		"RetrySome":      {3, []string{"retry", deadID(2).String(), deadID(1).String()}, 0, left{1, 1, 1}, "", []string{"2 of 2 retried"}},
		"RetryAll":       {3, []string{"retry", "--all"}, 0, left{0, 2, 1}, "", []string{"3 of 3 retried"}},
		"RetryManyPages": {1203, []string{"retry", "--kind", "event", "--max", "5000"}, 0, left{401, 802, 0}, "", []string{"802 of 802 retried"}},
		"RetryMax":       {9, []string{"retry", "--all", "--max", "4"}, 0, left{5, 3, 1}, "", []string{"4 of 4 retried", "more than these 4"}},
		"RetryJSON":      {9, []string{"retry", "--all", "--max", "4", "--json"}, 0, left{5, 3, 1}, `{"chosen":4,"done":4,"gone":0,"failed":0,"more":true}` + "\n", nil},
		"RetryNone":      {3, []string{"retry", "--cause", "none"}, 0, left{3, 0, 0}, "", []string{"0 of 0 retried"}},
		"RetryGone":      {3, []string{"retry", deadID(7).String(), deadID(0).String()}, 1, left{2, 1, 0}, "", []string{deadID(7).String() + ": retry dead letter: no such dead letter", "1 of 2 letters were not retried"}},
		"Drop":           {3, []string{"drop", "--cause", "(code 131026)"}, 0, left{2, 0, 0}, "", []string{"1 of 1 dropped"}},
		"DropOld":        {3, []string{"drop", "--older-than", "876000h"}, 0, left{3, 0, 0}, "", []string{"0 of 0 dropped"}},
		"DropNegative":   {3, []string{"drop", "--older-than=-1h"}, 1, left{3, 0, 0}, "", []string{"--older-than -1h"}},
		"DropZero":       {3, []string{"drop", "--older-than", "0s"}, 1, left{3, 0, 0}, "", []string{"--all means all"}},
		"Which":          {3, []string{"drop"}, 1, left{3, 0, 0}, "", []string{"--all means all"}},
		"Both":           {3, []string{"drop", "--all", deadID(0).String()}, 1, left{3, 0, 0}, "", []string{"don't go together"}},
		"NoID":           {3, []string{"retry", "17"}, 1, left{3, 0, 0}, "", []string{"id of 2 bytes"}},
		"NoChannel":      {3, []string{"retry", "--channel", "1101"}, 1, left{3, 0, 0}, "", []string{"want brand/kind/id"}},
		"NoMax":          {3, []string{"retry", "--all", "--max", "0"}, 1, left{3, 0, 0}, "", []string{"--max 0"}},
		"NoKind":         {3, []string{"retry", "--kind", "thing"}, 2, left{3, 0, 0}, "", []string{"--kind"}},
		"ShowGone":       {3, []string{"show", deadID(7).String()}, 1, left{3, 0, 0}, "", []string{"no such dead letter"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := graveyard(t, row.letters)
			code, out, errs := letters(t, o, row.args...)
			if code != row.code || out != row.out {
				t.Errorf("exit code %d: %s%s", code, out, errs)
			}
			for _, words := range row.errs {
				if !strings.Contains(errs, words) {
					t.Errorf("%q lacks %q", errs, words)
				}
			}
			b, err := o.store.Backlog(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if d := cmp.Diff(row.left, left{b.Dead, b.Pending, b.Unsent}); d != "" {
				t.Error(d)
			}
		})
	}
}

// shaky is an office that breaks down after some letters.
type shaky struct {
	office

	left int
}

func (o *shaky) Retry(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	if o.left--; o.left < 0 {
		return parley.DeadLetter{}, fmt.Errorf("retry dead letter: %w", parley.ErrUnavailable)
	}
	return o.office.Retry(ctx, id)
}

// A node that fails ends it, and the rest stays.
func TestLettersStopWithTheNode(t *testing.T) {
	t.Parallel()
	o := &shaky{office: graveyard(t, 9), left: 4}
	code, _, errs := letters(t, o, "retry", "--all")
	if code != 1 || !strings.Contains(errs, "4 of 9 retried: ") || !strings.Contains(errs, "unavailable") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	if b, err := o.store.Backlog(t.Context()); err != nil || b.Dead != 5 {
		t.Errorf("backlog %+v: %v", b, err)
	}
}

// What a member doesn't read yet is not retried before it does.
func TestLettersWaitForOlderMembers(t *testing.T) {
	t.Parallel()
	o := graveyard(t, 1)
	id := deadID(900)
	next := parley.Snapshot{Conversation: parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}, Contact: "phone:1"}, Version: parley.Version{Number: 1, Token: 1}}
	c := parley.Commit{Conversation: next.Conversation, Next: next, Dead: []parley.DeadLetter{{
		ID: id, Conversation: next.Conversation, At: time.UnixMilli(1795680000000), Cause: "c",
		Data: []byte(`{"effect":"send","value":{"format":2,"text":"` + innermost + `","footer":"below"}}`),
	}}}
	if errs, err := o.store.Commit(t.Context(), []parley.Commit{c}); err != nil || errs[0] != nil {
		t.Fatalf("commit: %v %v", errs, err)
	}
	o.reads = node.ReadByAll([]cluster.Member{{Name: "a", Addr: "10.0.0.1:1", Format: parley.Format}, {Name: "b", Addr: "10.0.0.2:1"}})
	if code, _, errs := letters(t, o, "retry", id.String()); code != 1 || !strings.Contains(errs, "when all members run the newer parley") {
		t.Errorf("exit code %d: %s", code, errs)
	}
	o.reads = node.ReadByAll([]cluster.Member{{Name: "a", Addr: "10.0.0.1:1", Format: parley.Format}, {Name: "b", Addr: "10.0.0.2:1", Format: parley.Format}})
	if code, _, errs := letters(t, o, "retry", id.String()); code != 0 {
		t.Errorf("exit code %d: %s", code, errs)
	}
}
