package main_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

const numberID = "106540352242922"

// A batch of 1000 updates and 3 MB, one of them valid JSON of a wrong shape: the
// others take effect, that one is kept with its cause.
func TestLargeBatch(t *testing.T) {
	t.Parallel()
	const size, wrong = 1000, 617
	g := newGraph(t)
	h := newHouse(t)
	n := h.start(t, asFateful, configured(g.URL, channel("whatsapp", numberID, "fateful")))
	body := batch(t, size, wrong)
	if len(body) < 2_900_000 || len(body) > 3_100_000 {
		t.Fatalf("the batch has %d bytes", len(body))
	}
	if a := n.post(t, body); a.status != http.StatusOK {
		t.Fatalf("status %d", a.status)
	}
	await(t, "the batch has taken effect", func() bool {
		return n.metric(t, "parley_actors_events_total") >= size-1
	})
	_, text := n.look(t, "/metrics")
	for name, want := range map[string]int{
		"parley_ingress_events_total": size - 1, "parley_actors_events_total": size - 1, "parley_store_quarantined": 1,
		"parley_store_dead_letters": 0, "parley_store_pending": 0,
	} {
		if got := sum(t, text, name); got != want {
			t.Errorf("%s is %d, want %d", name, got, want)
		}
	}
	if got := sum(t, text, "parley_ingress_quarantined_total", `cause="shape"`); got != 1 {
		t.Errorf("%d quarantined for their shape, want 1", got)
	}
	await(t, "each message has its reply, sent or to be sent", func() bool { // one that is being noted as sent is in neither
		_, text := n.look(t, "/metrics")
		return sum(t, text, "parley_store_unsent")+sum(t, text, "parley_egress_sends_total", `outcome="sent"`) == size-1
	})
	n.stop(t)
	quarantinedAlone(t, h, wrong)
}

// batch is a WhatsApp webhook of so many messages, each from another contact.
func batch(t *testing.T, size, wrong int) []byte {
	t.Helper()
	messages := make([]any, size)
	for i := range messages {
		m := map[string]any{
			"from": fmt.Sprintf("4915100%06d", i), "id": fmt.Sprintf("wamid.%d", i), "timestamp": "1753000000", "type": "text",
			"text": map[string]any{"body": fmt.Sprintf("say %d %s", i, strings.Repeat("x", 2850))},
		}
		if i == wrong {
			m["text"] = []any{"not", "an", "object"}
		}
		messages[i] = m
	}
	b, err := json.Marshal(map[string]any{"object": "whatsapp_business_account", "entry": []any{map[string]any{
		"id": "5001", "changes": []any{map[string]any{"field": "messages", "value": map[string]any{
			"messaging_product": "whatsapp",
			"metadata":          map[string]any{"display_phone_number": "15550001111", "phone_number_id": numberID},
			"messages":          messages,
		}}},
	}}})
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// quarantinedAlone looks into the store for the one entry: it says why, and
// holds the one update and no other.
func quarantinedAlone(t *testing.T, h house, wrong int) {
	t.Helper()
	store, err := embedded.Open(embedded.Config{Dir: h.data()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	ch := parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: numberID}
	entries, err := store.Quarantined(t.Context(), appName, ch, parley.ID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	if len(entries) != 1 {
		t.Fatalf("%d entries in quarantine, want 1", len(entries))
	}
	e := entries[0]
	if !strings.Contains(e.Cause, "text") || !strings.Contains(string(e.Body), fmt.Sprintf("wamid.%d", wrong)) ||
		strings.Count(string(e.Body), "wamid.") != 1 {
		t.Errorf("entry with cause %q and body %s", e.Cause, e.Body)
	}
}
