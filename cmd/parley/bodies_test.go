package main_test

import (
	"encoding/json"
	"io/fs"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// quarantinedBodies are the whole bodies of which something may end in
// quarantine, and why. None does.
var quarantinedBodies = map[string]string{}

// body is a published webhook body.
type body struct {
	name string
	text []byte
	walked
}

// Every published webhook body, signed and posted to a running node: what an
// independent count finds in it takes effect, or is in quarantine.
func TestPublishedBodies(t *testing.T) {
	t.Parallel()
	bodies := publishedBodies(t)
	g := newGraph(t)
	h := newHouse(t)
	n := h.start(t, asItself, servingAll(g.URL, bodies))
	total, others, so := 0, map[string]int{}, became{}
	for _, b := range bodies {
		total += b.rows
		so = postBody(t, n, b, so)
		if !slices.Contains([]string{"page", "instagram", "whatsapp_business_account"}, b.object) {
			others[b.object] += b.rows
		}
	}
	n.drained(t)
	_, text := n.look(t, "/metrics")
	events := sum(t, text, "parley_ingress_events_total")
	receipts := sum(t, text, "parley_ingress_receipts_total")
	if got := events + receipts + sum(t, text, "parley_store_quarantined"); got != total {
		t.Errorf("%d rows for %d updates", got, total)
	}
	if taken := sum(t, text, "parley_actors_events_total"); taken != events {
		t.Errorf("%d of %d events were taken", taken, events)
	}
	if folded := sum(t, text, "parley_store_receipts_folded_total"); folded != receipts {
		t.Errorf("%d of %d receipts were folded", folded, receipts)
	}
	if dead := sum(t, text, "parley_actors_dead_letters_total"); dead != 0 {
		t.Errorf("%d dead letters", dead)
	}
	t.Logf("%d bodies, %d updates: %d events, %d receipts; of other objects %v", len(bodies), total, events, receipts, others)
	n.stop(t)
	typedUnknowns(t, h, others)
}

// publishedBodies reads the whole bodies; those in a folder named partial are
// cuttings.
func publishedBodies(t *testing.T) []body {
	t.Helper()
	dir := os.Getenv("PARLEY_BODIES")
	if dir == "" {
		if os.Getenv("CI") == "true" {
			t.Fatal("PARLEY_BODIES must name the folder of published bodies")
		}
		t.Skip("PARLEY_BODIES is not set")
	}
	var bodies []body
	err := filepath.WalkDir(dir, func(path string, e fs.DirEntry, err error) error {
		if err != nil || e.IsDir() || filepath.Ext(path) != ".json" || filepath.Base(filepath.Dir(path)) == "partial" {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		name, err := filepath.Rel(dir, path)
		bodies = append(bodies, body{name: name, text: text, walked: walk(t, text)})
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	if len(bodies) == 0 {
		t.Fatalf("no bodies in %s", dir)
	}
	return bodies
}

// servingAll knows every channel that the bodies name.
func servingAll(graphURL string, bodies []body) configuration {
	var channels []map[string]any
	seen := map[string]bool{}
	for _, b := range bodies {
		for kind, ids := range b.channels {
			for _, id := range ids {
				ch := parley.Channel{Brand: "acme", Kind: parley.ChannelKind(kind), ID: id}
				if seen[ch.String()] || ch.Validate() != nil {
					continue
				}
				seen[ch.String()] = true
				channels = append(channels, channel(kind, id, "greeter"))
			}
		}
	}
	c := configured(graphURL, channels...)
	for _, app := range c["apps"].([]any) { //nolint:errcheck // made a line above
		app.(map[string]any)["fallback"] = map[string]any{"brand": "acme", "kind": "messenger", "id": "other"} //nolint:errcheck // as above
	}
	return c
}

// became is what has become of updates so far.
type became struct{ rows, quarantined int }

func (n *instance) became(t *testing.T) became {
	t.Helper()
	_, text := n.look(t, "/metrics")
	q := sum(t, text, "parley_ingress_quarantined_total")
	return became{
		rows:        q + sum(t, text, "parley_ingress_events_total") + sum(t, text, "parley_ingress_receipts_total"),
		quarantined: q,
	}
}

// postBody posts a body and counts what became of it.
func postBody(t *testing.T, n *instance, b body, before became) (after became) {
	t.Helper()
	if a := n.post(t, b.text); a.status != http.StatusOK {
		t.Errorf("%s: status %d", b.name, a.status)
	}
	after = n.became(t)
	if got := after.rows - before.rows; got != b.rows {
		t.Errorf("%s: %d updates became %d rows", b.name, b.rows, got)
	}
	if _, ok := quarantinedBodies[b.name]; after.quarantined != before.quarantined && !ok {
		t.Errorf("%s: %d updates in quarantine", b.name, after.quarantined-before.quarantined)
	}
	return after
}

// typedUnknowns looks into the store's history: what came for other objects is
// there as unknown inputs that say which.
func typedUnknowns(t *testing.T, h house, others map[string]int) {
	t.Helper()
	if len(others) == 0 {
		t.Error("no body of another object: nothing shows what becomes of them")
	}
	store, err := embedded.Open(embedded.Config{Dir: h.data()})
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	}()
	found := map[string]int{}
	for object := range others {
		id := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "other"}, Contact: parley.SubjectKey + parley.Contact(object)}
		records, err := store.History(t.Context(), id, 0, 1000)
		if err != nil {
			t.Fatal(err)
		}
		for _, r := range records {
			found[object] += unknownsIn(t, r, object)
		}
	}
	for object, n := range others {
		if found[object] != n {
			t.Errorf("%d of %d updates of %s are typed unknowns in the history", found[object], n, object)
		}
	}
}

func unknownsIn(t *testing.T, record []byte, object string) (n int) {
	t.Helper()
	var r struct {
		Turn []struct {
			In struct {
				Kind  string
				Input struct{ Object string }
			}
			Not string
		}
	}
	if err := json.Unmarshal(record, &r); err != nil {
		t.Fatal(err)
	}
	for _, row := range r.Turn {
		if row.Not == "repeated" || row.In.Kind == "unknown" && strings.EqualFold(row.In.Input.Object, object) {
			n++
		}
	}
	return n
}
