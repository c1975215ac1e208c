package meta_test

import (
	"encoding/json"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// everyChannel knows every channel that has an id.
func everyChannel(kind parley.ChannelKind, id string) (parley.Channel, bool) {
	ch := parley.Channel{Brand: "acme", Kind: kind, ID: id}
	return ch, ch.Validate() == nil
}

func everything() meta.Options {
	return meta.Options{
		Resolve: everyChannel, OwnAppID: "1001",
		Fallback: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "other"},
	}
}

// TestBodies decodes every published body there is, and counts the updates in
// another way.
func TestBodies(t *testing.T) {
	t.Parallel()
	dir := os.Getenv("PARLEY_BODIES")
	if dir == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("PARLEY_BODIES must name the folder of published bodies")
		}
		t.Skip("PARLEY_BODIES is not set")
	}
	bodies := 0
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".json" {
			return err
		}
		body, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		bodies++
		name, err := filepath.Rel(dir, path)
		if err != nil {
			return err
		}
		checkBody(t, name, body)
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	if bodies == 0 {
		t.Fatalf("no bodies in %s", dir)
	}
	t.Logf("%d bodies", bodies)
}

func checkBody(t *testing.T, name string, body []byte) {
	t.Helper()
	d, err := meta.Decode(body, everything())
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	want := countUpdates(t, body)
	if d.Updates != want || len(d.Events)+len(d.Receipts)+len(d.Quarantined) != want {
		t.Errorf("%s: %d updates became %d events, %d receipts, %d quarantined; another count is %d",
			name, d.Updates, len(d.Events), len(d.Receipts), len(d.Quarantined), want)
	}
	for _, q := range d.Quarantined {
		t.Logf("%s: quarantined: %s", name, q.Cause)
		if !strings.Contains(name, "partial/") {
			t.Errorf("%s: a whole body is quarantined: %s", name, q.Cause)
		}
	}
	for _, e := range d.Events {
		if u, ok := e.Input.(parley.Unknown); ok {
			t.Logf("%s: unknown: %s %s %s", name, u.Object, u.Field, u.Type)
		}
		checkEvent(t, name, e)
	}
}

func checkEvent(t *testing.T, name string, e parley.Event) {
	t.Helper()
	if len(e.Contacts) == 0 || len(e.Contacts) > parley.MaxContacts || e.Key == (parley.EventKey{}) {
		t.Errorf("%s: %s of %v with key %s", name, e.Input.Kind(), e.Contacts, e.Key)
	}
	data, err := parley.EncodeInput(e.Input)
	if err != nil {
		t.Errorf("%s: %v", name, err)
		return
	}
	if _, err := parley.DecodeInput(data); err != nil {
		t.Errorf("%s: %v", name, err)
	}
}

// countUpdates counts as Decoded's comment says, without anything of meta.
func countUpdates(t *testing.T, body []byte) int {
	t.Helper()
	var b map[string]any
	if err := json.Unmarshal(body, &b); err != nil {
		t.Fatal(err)
	}
	object, ok := b["object"].(string)
	entries, okToo := b["entry"].([]any)
	if !ok || !okToo || object == "" {
		return 1
	}
	n := 0
	for _, e := range entries {
		n += countEntry(object, e)
	}
	return n
}

func countEntry(object string, e any) int {
	entry, ok := e.(map[string]any)
	if !ok {
		return 1
	}
	n, other := 0, false
	for name, v := range entry {
		switch name {
		case "id", "time", "uid":
		case "messaging", "standby", "changed_fields", "changes":
			list, ok := v.([]any)
			if !ok {
				n++
			}
			for _, x := range list {
				n += countElement(object, name, x)
			}
		default:
			other = true
		}
	}
	if n == 0 && other {
		return 1
	}
	return n
}

func countElement(object, envelope string, x any) int {
	change, ok := x.(map[string]any)
	if !ok || envelope != "changes" || object != "whatsapp_business_account" {
		return 1
	}
	value, ok := change["value"].(map[string]any)
	if !ok {
		return 1
	}
	n, rest := 0, 0
	for name, v := range value {
		switch name {
		case "messages", "statuses", "message_echoes", "calls", "user_preferences", "user_id_update", "history",
			"errors", "groups", "state_sync", "automatic_events":
			list, ok := v.([]any)
			if !ok {
				n++
			}
			n += len(list)
		case "messaging_product", "metadata", "contacts":
		default:
			rest = 1
		}
	}
	if n == 0 {
		return 1
	}
	return n + rest
}
