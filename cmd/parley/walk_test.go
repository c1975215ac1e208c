package main_test

import (
	"bytes"
	"encoding/json"
	"slices"
	"testing"
)

// walked is what an independent look at a body finds: nothing here knows how
// the node decodes.
type walked struct {
	object   string
	rows     int                 // events, receipts and quarantined together
	channels map[string][]string // kind -> ids
}

// whatsAppLists are the lists in a WhatsApp change whose elements are updates.
var whatsAppLists = []string{
	"messages", "statuses", "message_echoes", "calls", "user_preferences", "user_id_update",
	"history", "errors", "groups", "state_sync", "automatic_events",
}

func walk(t *testing.T, body []byte) walked {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(body))
	d.UseNumber()
	var b map[string]any
	if err := d.Decode(&b); err != nil {
		t.Fatalf("a whole body that isn't a JSON object: %v", err)
	}
	w := walked{channels: map[string][]string{}}
	w.object, _ = b["object"].(string)
	entries, ok := b["entry"].([]any)
	if w.object == "" || !ok {
		w.rows = 1
		return w
	}
	for _, e := range entries {
		entry, ok := e.(map[string]any)
		if !ok {
			w.rows++
			continue
		}
		w.entry(entry)
	}
	return w
}

func (w *walked) entry(entry map[string]any) {
	kind := map[string]string{"page": "messenger", "instagram": "instagram", "whatsapp_business_account": "whatsapp_account"}[w.object]
	if kind != "" {
		w.channel(kind, entry["id"])
	}
	before := w.rows
	plain := true // nothing but what every entry has
	for name, v := range entry {
		list, isList := v.([]any)
		switch {
		case slices.Contains([]string{"id", "time", "uid"}, name):
		case !slices.Contains([]string{"messaging", "standby", "changes", "changed_fields"}, name):
			plain = false
		case !isList:
			w.rows++
		case name == "changes" && w.object == "whatsapp_business_account":
			for _, c := range list {
				w.whatsApp(c)
			}
		default:
			for _, x := range list {
				w.rows += deliveries(x)
			}
		}
	}
	if w.rows == before && !plain {
		w.rows++
	}
}

// deliveries is how many rows an element becomes: a delivery that names several
// messages is a receipt for each.
func deliveries(x any) int {
	element, _ := x.(map[string]any)
	delivery, _ := element["delivery"].(map[string]any)
	mids, _ := delivery["mids"].([]any)
	return max(len(mids), 1)
}

func (w *walked) whatsApp(c any) {
	change, _ := c.(map[string]any)
	value, _ := change["value"].(map[string]any)
	if metadata, ok := value["metadata"].(map[string]any); ok {
		w.channel("whatsapp", metadata["phone_number_id"])
	}
	listed, rest := 0, 0
	for name, v := range value {
		switch {
		case slices.Contains(whatsAppLists, name):
			if list, ok := v.([]any); ok {
				listed += len(list)
			} else {
				listed++
			}
		case !slices.Contains([]string{"messaging_product", "metadata", "contacts"}, name):
			rest = 1
		}
	}
	if listed == 0 {
		rest = 1
	}
	w.rows += listed + rest
}

func (w *walked) channel(kind string, v any) {
	id, ok := v.(string)
	if number, isNumber := v.(json.Number); isNumber {
		id, ok = number.String(), true
	}
	if ok && id != "" && !slices.Contains(w.channels[kind], id) {
		w.channels[kind] = append(w.channels[kind], id)
	}
}
