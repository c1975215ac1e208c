package meta_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

var update = flag.Bool("update", false, "write what the bodies of testdata decode to")

// someChannels knows every channel but those called unknown-….
func someChannels(kind parley.ChannelKind, id string) (parley.Channel, bool) {
	if strings.HasPrefix(id, "unknown-") {
		return parley.Channel{}, false
	}
	return everyChannel(kind, id)
}

func known() meta.Options {
	o := everything()
	o.Resolve = someChannels
	return o
}

// TestGolden decodes the bodies of testdata, which have every kind of update,
// and compares what becomes of each.
func TestGolden(t *testing.T) {
	t.Parallel()
	for _, path := range goldens(t) {
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			body := read(t, path)
			d := decode(t, body, known())
			got := lines(t, &d)
			file := strings.TrimSuffix(path, ".json") + ".golden"
			if *update {
				if err := os.WriteFile(file, got, 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if diff := cmp.Diff(string(read(t, file)), string(got)); diff != "" {
				t.Errorf("want - got +\n%s", diff)
			}
			for _, e := range d.Events {
				checkEvent(t, path, e)
			}
			if got := len(d.Summaries()); got != len(d.Events)+len(d.Receipts)+len(d.Quarantined) {
				t.Errorf("%d summaries", got)
			}
		})
	}
}

func goldens(tb testing.TB) []string {
	tb.Helper()
	paths, err := filepath.Glob("testdata/*.json")
	if err != nil || len(paths) == 0 {
		tb.Fatal("no bodies in testdata", err)
	}
	return paths
}

func read(tb testing.TB, path string) []byte {
	tb.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		tb.Fatal(err)
	}
	return b
}

func decode(tb testing.TB, body []byte, o meta.Options) meta.Decoded {
	tb.Helper()
	d, err := meta.Decode(body, o)
	if err != nil {
		tb.Fatalf("%v in %.200s", err, body)
	}
	return d
}

// lines shows everything that a body became, a JSON value a line.
func lines(tb testing.TB, d *meta.Decoded) []byte {
	tb.Helper()
	var out bytes.Buffer
	enc := json.NewEncoder(&out)
	enc.SetEscapeHTML(false)
	line := func(v any) {
		if err := enc.Encode(v); err != nil {
			tb.Fatal(err)
		}
	}
	for _, e := range d.Events {
		line(map[string]any{
			"event": e.Input.Kind(), "channel": e.Channel.String(), "contacts": e.Contacts, "key": e.Key.String(),
			"time": shown(e.Time), "input": e.Input,
		})
	}
	for _, r := range d.Receipts {
		line(map[string]any{
			"receipt": r.Status, "channel": r.Channel.String(), "contact": r.Contact, "id": r.ProviderID, "row": r.Row,
			"watermark": shown(r.Watermark), "time": shown(r.Time), "code": r.Code, "reason": r.Reason,
		})
	}
	for _, q := range d.Quarantined {
		line(map[string]any{"quarantined": q.Cause, "kind": q.Kind, "channel": q.ChannelID, "body": string(q.Body)})
	}
	return out.Bytes()
}

func shown(t time.Time) string {
	if t.IsZero() {
		return ""
	}
	return t.Format(time.RFC3339Nano)
}

// TestEveryInput sees that the goldens show every input that Meta can cause.
func TestEveryInput(t *testing.T) {
	t.Parallel()
	seen := map[string]bool{}
	for _, path := range goldens(t) {
		d := decode(t, read(t, path), known())
		for _, e := range d.Events {
			seen[e.Input.Kind()] = true
		}
	}
	for _, in := range []parley.Input{
		parley.Message{},
		parley.Postback{},
		parley.Edited{},
		parley.Deleted{},
		parley.Reaction{},
		parley.Referred{},
		parley.OptIn{},
		parley.Preference{},
		parley.AccountLink{},
		parley.ThreadControl{},
		parley.Echo{},
		parley.Overheard{},
		parley.Comment{},
		parley.Lead{},
		parley.PhoneCall{},
		parley.ContactChanged{},
		parley.Notice{},
		parley.Unknown{},
	} {
		if !seen[in.Kind()] {
			t.Errorf("no golden has a %s", in.Kind())
		}
	}
}

// TestKeys sees that a delivery that is repeated, with another time of sending
// and another order of members, has the keys of the first, and that no two
// events of the goldens share one.
func TestKeys(t *testing.T) {
	t.Parallel()
	owner := map[parley.EventKey]string{}
	for _, path := range goldens(t) {
		body := read(t, path)
		first := decode(t, body, known())
		again := decode(t, resent(t, body), known())
		if diff := cmp.Diff(keys(&first), keys(&again)); diff != "" {
			t.Errorf("%s: sent again: %s", path, diff)
		}
		for i, k := range keys(&first) {
			name := fmt.Sprintf("%s %d", path, i)
			if other := owner[k]; other != "" && !strings.Contains(path, "changed_fields") {
				t.Errorf("%s has the key of %s", name, other)
			}
			owner[k] = name
		}
	}
}

func keys(d *meta.Decoded) []parley.EventKey {
	var out []parley.EventKey
	for _, e := range d.Events {
		out = append(out, e.Key)
	}
	return out
}

// resent is a body as Meta might send it again.
func resent(t *testing.T, body []byte) []byte {
	t.Helper()
	if !json.Valid(body) || bytes.Contains(body, []byte(`"id":"w5"`)) || bytes.Contains(body, []byte(`"wamid.c4"`)) { // names given twice don't survive
		return body
	}
	dec := json.NewDecoder(bytes.NewReader(body))
	dec.UseNumber()
	var b map[string]any
	if err := dec.Decode(&b); err != nil {
		t.Fatal(err)
	}
	entries, ok := b["entry"].([]any)
	if !ok {
		return body
	}
	for _, e := range entries {
		if entry, ok := e.(map[string]any); ok {
			entry["time"] = 1999999999999
		}
	}
	out, err := json.MarshalIndent(b, " ", "\t") // sorts members
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestQuarantinedAlone decodes the bodies of quarantined entries: each yields
// the same entry, and, once its channel is known, what it would have been.
func TestQuarantinedAlone(t *testing.T) {
	t.Parallel()
	for _, path := range goldens(t) {
		body := read(t, path)
		whole := decode(t, body, known())
		for _, q := range whole.Quarantined {
			checkAlone(t, q, known())
		}
		// Where no channel is known each update is quarantined; each alone, its
		// channel known, must be what it is in the whole body.
		nobody := everything()
		nobody.Resolve = func(parley.ChannelKind, string) (parley.Channel, bool) { return parley.Channel{}, false }
		nobody.Fallback = parley.Channel{}
		var sum meta.Decoded
		parts := decode(t, body, nobody)
		for _, q := range parts.Quarantined {
			part := decode(t, q.Body, known())
			if part.Updates != 1 {
				t.Errorf("%s: %d updates in %s", path, part.Updates, q.Body)
			}
			sum.Events = append(sum.Events, part.Events...)
			sum.Receipts = append(sum.Receipts, part.Receipts...)
		}
		whole.Quarantined = nil
		if diff := cmp.Diff(string(lines(t, &whole)), string(lines(t, &sum))); diff != "" {
			t.Errorf("%s: one by one: %s", path, diff)
		}
	}
}

func checkAlone(t *testing.T, q parley.Quarantined, o meta.Options) {
	t.Helper()
	again := decode(t, q.Body, o)
	if len(again.Quarantined) != 1 || len(again.Events)+len(again.Receipts) != 0 {
		t.Errorf("%s: became %d events, %d receipts, %d quarantined: %s",
			q.Cause, len(again.Events), len(again.Receipts), len(again.Quarantined), q.Body)
		return
	}
	r := again.Quarantined[0]
	if r.Kind != q.Kind || r.ChannelID != q.ChannelID || what(r.Cause) != what(q.Cause) || !bytes.Equal(r.Body, q.Body) {
		t.Errorf("quarantined\n%+v, again\n%+v\n%s\n%s", q.Cause, r.Cause, q.Body, r.Body)
	}
}

// what is a cause without the place, which is another in a body of its own.
func what(cause string) string {
	_, after, found := strings.Cut(cause, ": ")
	if !found {
		return cause
	}
	for i := range 10 {
		after = strings.ReplaceAll(after, fmt.Sprintf("contacts.%d", i), "contacts.0")
	}
	return after
}

func TestCausesHoldNoText(t *testing.T) {
	t.Parallel()
	for _, path := range goldens(t) {
		d := decode(t, read(t, path), known())
		for _, q := range d.Quarantined {
			if strings.Contains(q.Cause, "words") || strings.Contains(q.Cause, "oops") || len(q.Cause) > 512 {
				t.Errorf("%s: %s", path, q.Cause)
			}
		}
	}
}

// TestBigBatch is a body of 3 MB with a thousand updates, one of them of a
// wrong shape.
func TestBigBatch(t *testing.T) {
	t.Parallel()
	const updates, poisoned = 1000, 617
	text := strings.Repeat("x", 2900)
	whatsApp := func(i int) string {
		body := fmt.Sprintf(`{"body":%q}`, text)
		if i == poisoned {
			body = `"` + text + `"`
		}
		return fmt.Sprintf(`{"from":"%d","id":"wamid.%d","timestamp":"1749416383","type":"text","text":%s}`, 490000+i, i, body)
	}
	messenger := func(i int) string {
		body := fmt.Sprintf("%q", text)
		if i == poisoned {
			body = "{}"
		}
		return fmt.Sprintf(`{"sender":{"id":"%d"},"recipient":{"id":"1"},"timestamp":1749416383000,"message":{"mid":"m%d","text":%s}}`, 7000+i, i, body)
	}
	contact := func(i int) string { return fmt.Sprintf(`{"wa_id":"%d","user_id":"DE.%d"}`, 490000+i, i) }
	for name, body := range map[string]string{
		"whatsapp": `{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":{"metadata":{"phone_number_id":"2"},"contacts":[` +
			join(updates, contact) + `],"messages":[` + join(updates, whatsApp) + `]}}]}]}`,
		"messenger": `{"entry":[{"messaging":[` + join(updates, messenger) + `],"id":"1"}],"object":"page"}`,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d := decode(t, []byte(body), known())
			if len(d.Events) != updates-1 || len(d.Quarantined) != 1 || d.Updates != updates || len(body) < 2_900_000 {
				t.Fatalf("%d bytes, %d updates: %d events, %d quarantined", len(body), d.Updates, len(d.Events), len(d.Quarantined))
			}
			if q := d.Quarantined[0]; !strings.Contains(q.Cause, "[617]") || len(q.Body) > 4000 {
				t.Errorf("%d bytes: %s", len(q.Body), q.Cause)
			}
			checkAlone(t, d.Quarantined[0], known())
			// Nobody's: a thousand bodies, together not much larger than the one.
			o := known()
			o.Resolve = func(parley.ChannelKind, string) (parley.Channel, bool) { return parley.Channel{}, false }
			d = decode(t, []byte(body), o)
			total := 0
			for _, q := range d.Quarantined {
				total += len(q.Body)
			}
			if len(d.Quarantined) != updates || total > 2*len(body) {
				t.Errorf("%d quarantined of %d bytes in all", len(d.Quarantined), total)
			}
		})
	}
}

func join(n int, f func(int) string) string {
	parts := make([]string, n)
	for i := range parts {
		parts[i] = f(i)
	}
	return strings.Join(parts, ",")
}

func TestNotJSON(t *testing.T) {
	t.Parallel()
	for _, body := range []string{
		"", " ", "{", "[]", `"object"`, "null", "1", `{"object":"page"`, `{"object":"page","entry":[{]}`, "{}{}",
		`{"object":"page"} x`, "\xff", strings.Repeat("[", 20000),
	} {
		if d, err := meta.Decode([]byte(body), known()); !errors.Is(err, meta.ErrNotJSON) {
			t.Errorf("%.20q: %v, %d updates", body, err, d.Updates)
		}
	}
}

// TestWholeBodies are those that can't be split.
func TestWholeBodies(t *testing.T) {
	t.Parallel()
	for body, cause := range map[string]string{
		`{}`:                                 "object: missing",
		`{"object":"page"}`:                  "entry: missing",
		`{"object":"page","entry":{"0":{}}}`: "entry: want an array, got an object",
		`{"object":7,"entry":[]}`:            "object: want a string, got a number",
		`{"object":"page","object":"x","entry":[]}`: "object: given twice",
		`{"object":"page","entry":[],"entry":[]}`:   "entry: given twice",
	} {
		d := decode(t, []byte(body), known())
		if d.Updates != 1 || len(d.Quarantined) != 1 || d.Quarantined[0].Cause != cause || string(d.Quarantined[0].Body) != body {
			t.Errorf("%s: %+v", body, d.Quarantined)
		}
	}
	if d := decode(t, []byte(`{"object":"page","entry":[]}`), known()); d.Updates != 0 {
		t.Errorf("%d updates in no entry", d.Updates)
	}
}

func TestUnknownObjects(t *testing.T) {
	t.Parallel()
	body := []byte(`{"object":"user","entry":[{"id":"0","changes":[{"field":"email","value":"x"}]}]}`)
	d := decode(t, body, known())
	if len(d.Events) != 1 || d.Events[0].Channel != known().Fallback || d.Events[0].Input.Kind() != "unknown" {
		t.Errorf("%+v", d)
	}
	o := known()
	o.Fallback = parley.Channel{}
	d = decode(t, body, o)
	if len(d.Quarantined) != 1 || !strings.Contains(d.Quarantined[0].Cause, `unknown object "user"`) {
		t.Errorf("without a fallback: %+v", d)
	}
}

// TestTimes reads the spellings of times that are seen.
func TestTimes(t *testing.T) {
	t.Parallel()
	for stamp, want := range map[string]string{
		`1749416383123`:   "2025-06-08T20:59:43.123Z",
		`"1749416383123"`: "2025-06-08T20:59:43.123Z",
		`1749416383`:      "2025-06-08T20:59:43Z",
		`"1749416383"`:    "2025-06-08T20:59:43Z",
		`" 1749416383 "`:  "2025-06-08T20:59:43Z",
		`"1"`:             "", `0`: "", `-1749416383`: "", `"TIMESTAMP"`: "", `"2021-09-08T06:34:04+0000"`: "", `null`: "",
		`17494163831234567890`: "", `"+749416383"`: "", `"0749416383"`: "", `1749416383.5`: "", `1e9`: "",
	} {
		body := fmt.Sprintf(`{"object":"page","entry":[{"id":"1","messaging":[{"sender":{"id":"2"},"timestamp":%s,"message":{"mid":"m"}}]}]}`, stamp)
		d := decode(t, []byte(body), known())
		if len(d.Events) != 1 || shown(d.Events[0].Time) != want {
			t.Errorf("%s: %+v", stamp, d)
		}
	}
}

// TestIDs keeps the digits of numbers and refuses what is too long for a key.
func TestIDs(t *testing.T) {
	t.Parallel()
	form := `{"object":"page","entry":[{"id":%s,"messaging":[{"sender":{"id":%s},"recipient":{"id":%s},"message":{"mid":"m"}}]}]}`
	d := decode(t, fmt.Appendf(nil, form, "9007199254740993", "9007199254740995", `"9007199254740993"`), known())
	if len(d.Events) != 1 || d.Events[0].Channel.ID != "9007199254740993" || d.Events[0].Contacts[0] != "user:9007199254740995" {
		t.Errorf("%+v", d)
	}
	long := `"` + strings.Repeat("9", 600) + `"`
	d = decode(t, fmt.Appendf(nil, form, "1", long, "1"), known())
	if len(d.Quarantined) != 1 || strings.Contains(d.Quarantined[0].Cause, "999") {
		t.Errorf("%+v", d)
	}
	d = decode(t, fmt.Appendf(nil, form, `{"x":1}`, "2", "1"), known())
	if len(d.Quarantined) != 1 || d.Quarantined[0].Cause != "entry[0].messaging[0]: id: want a string or a number, got an object" {
		t.Errorf("%+v", d.Quarantined)
	}
}

// TestNothingShared changes the body after decoding it.
func TestNothingShared(t *testing.T) {
	t.Parallel()
	for _, path := range goldens(t) {
		body := read(t, path)
		d := decode(t, body, known())
		before := lines(t, &d)
		for i := range body {
			body[i] = '#'
		}
		if diff := cmp.Diff(string(before), string(lines(t, &d))); diff != "" {
			t.Errorf("%s: %s", path, diff)
		}
	}
}

// TestAnyBatch mixes the goldens' updates at random and counts what comes out.
func TestAnyBatch(t *testing.T) {
	t.Parallel()
	pool := map[string][]json.RawMessage{}
	for _, path := range goldens(t) {
		var b struct {
			Object string
			Entry  []json.RawMessage
		}
		if err := json.Unmarshal(read(t, path), &b); err != nil {
			t.Fatal(err)
		}
		if b.Object != "" {
			pool[b.Object] = append(pool[b.Object], b.Entry...)
		}
	}
	objects := slices.Sorted(func(yield func(string) bool) {
		for o := range pool {
			if !yield(o) {
				return
			}
		}
	})
	rapid.Check(t, func(r *rapid.T) {
		object := rapid.SampledFrom(objects).Draw(r, "object")
		picked := rapid.SliceOfN(rapid.SampledFrom(pool[object]), 1, 4).Draw(r, "entries")
		body, err := json.Marshal(map[string]any{"object": object, "entry": picked})
		if err != nil {
			r.Fatal(err)
		}
		all, err := meta.Decode(body, known())
		if err != nil {
			r.Fatal(err)
		}
		updates, events, receipts := 0, 0, 0
		for _, e := range picked {
			one, err := json.Marshal(map[string]any{"object": object, "entry": []any{e}})
			if err != nil {
				r.Fatal(err)
			}
			d, err := meta.Decode(one, known())
			if err != nil {
				r.Fatal(err)
			}
			updates, events, receipts = updates+d.Updates, events+len(d.Events), receipts+len(d.Receipts)
		}
		if all.Updates != updates || len(all.Events) != events || len(all.Receipts) != receipts {
			r.Fatalf("%d/%d/%d together, %d/%d/%d one by one", all.Updates, len(all.Events), len(all.Receipts), updates, events, receipts)
		}
	})
}

func FuzzDecode(f *testing.F) {
	for _, path := range goldens(f) {
		f.Add(read(f, path))
	}
	f.Add(whatsAppText())
	f.Fuzz(func(t *testing.T, body []byte) {
		d, err := meta.Decode(bytes.Clone(body), known())
		if err != nil {
			if d.Updates != 0 || !errors.Is(err, meta.ErrNotJSON) {
				t.Fatalf("%v with %d updates", err, d.Updates)
			}
			return
		}
		if got := len(d.Events) + len(d.Receipts) + len(d.Quarantined); got < d.Updates {
			t.Fatalf("%d updates became %d", d.Updates, got)
		}
		for _, e := range d.Events {
			checkEvent(t, "fuzz", e)
		}
		for _, q := range d.Quarantined {
			checkAlone(t, q, known())
		}
		if again := decode(t, body, known()); !bytes.Equal(lines(t, &d), lines(t, &again)) {
			t.Fatal("decoded again, it is something else")
		}
	})
}
