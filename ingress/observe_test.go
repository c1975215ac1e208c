package ingress_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// journal is a log to look at while it is written.
type journal struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (j *journal) Write(p []byte) (int, error) {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.Write(p)
}

func (j *journal) String() string {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.b.String()
}

func observed(j *journal, now func() time.Time) func(*ingress.Config) {
	return func(c *ingress.Config) {
		c.Logger = slog.New(slog.NewTextHandler(j, &slog.HandlerOptions{Level: slog.LevelDebug}))
		if now != nil {
			c.Now = now
		}
	}
}

// TestLogTellsNothing: whatever goes wrong, the log has neither a secret nor a
// token nor a text nor a body.
func TestLogTellsNothing(t *testing.T) {
	t.Parallel()
	var j journal
	g := start(t, observed(&j, nil), loopback(t))
	text := "my-deepest-thoughts"
	body := waText(waNumber, "49", "1", text)
	do := func(method, path string, header map[string]string, body []byte) {
		if _, err := g.client(t).do(method, path, header, body); err != nil {
			t.Error(err)
		}
	}
	do("GET", "/webhooks/shop?hub.mode=subscribe&hub.challenge=1&hub.verify_token=my-deepest-thoughts", nil, nil)
	do("POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": sign(body, "wrong")}, body)
	do("POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": text}, body)
	do("POST", "/webhooks/"+text, nil, body)
	do("my-deepest-thoughts", "/webhooks/shop", nil, nil)
	g.post(t, []byte(`{"object":"page","entry":["`+text+`"`))
	g.post(t, waBatch(3, 1, 10))
	var mode atomic.Value
	mode.Store(errDisk)
	g.store.before = func(context.Context, parley.Arrivals) error {
		err, _ := mode.Load().(error)
		return err
	}
	g.post(t, body)
	if !strings.Contains(j.String(), "webhook with a bad signature") || !strings.Contains(j.String(), errDisk.Error()) {
		t.Errorf("the log misses what an operator needs:\n%s", j.String())
	}
	for _, no := range []string{secret, oldSecret, token, text, "wamid", "sha256="} {
		if strings.Contains(j.String(), no) {
			t.Errorf("the log tells %q:\n%s", no, j.String())
		}
	}
}

// TestWarningsAreFew: strangers can't fill the log; what was left out is told.
func TestWarningsAreFew(t *testing.T) {
	t.Parallel()
	var j journal
	var elapsed atomic.Int64
	g := start(t, observed(&j, func() time.Time { return time.Unix(1_760_000_000+elapsed.Load(), 0) }))
	forge := func(n int) {
		c := g.client(t)
		for range n {
			if got, err := c.do("POST", "/webhooks/shop", signed([]byte("another")), []byte("{}")); err != nil || got.status != 401 {
				t.Fatalf("status %d, %v", got.status, err)
			}
		}
	}
	forge(100)
	if n := strings.Count(j.String(), "bad signature"); n != 1 {
		t.Errorf("%d warnings of 100 forgeries", n)
	}
	elapsed.Store(11)
	forge(1)
	if !strings.Contains(j.String(), "left_out=99") {
		t.Errorf("not told how many were left out:\n%s", j.String())
	}
	if n := g.gauge(t, "parley_ingress_requests_total", "forged", string(appName)); n != 101 {
		t.Errorf("%v forgeries counted, want 101", n)
	}
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t))
	g.post(t, waText(waNumber, "49", "1", "hi"))
	g.post(t, waText(strangeID, "49", "2", "hi"))
	g.post(t, waBatch(10, 3, 5))
	g.post(t, []byte("not JSON"))
	g.post(t, fmt.Appendf(nil, `{"object":"whatsapp_business_account","entry":[{"id":"77","changes":[{"field":"messages","value":{"metadata":{"phone_number_id":%q},`+
		`"statuses":[{"id":"wamid.9","status":"read","timestamp":"1760000000","recipient_id":"49"}]}}]}]}`, waNumber))
	for _, want := range []struct {
		name   string
		labels []string
		n      float64
	}{
		{"parley_ingress_requests_total", []string{"stored", "shop"}, 5},
		{"parley_ingress_events_total", []string{"shop"}, 10},
		{"parley_ingress_receipts_total", []string{"shop"}, 1},
		{"parley_ingress_quarantined_total", []string{"unknown_channel"}, 1},
		{"parley_ingress_quarantined_total", []string{"shape"}, 1},
		{"parley_ingress_quarantined_total", []string{"body"}, 1},
		{"parley_ingress_ack_seconds", nil, 5},
		{"parley_ingress_group_requests", nil, 5},
		{"parley_ingress_appends_total", []string{"ok"}, 5},
		{"parley_ingress_queue_requests", nil, 0},
		{"parley_ingress_stalled", nil, 0},
	} {
		eventually(t, fmt.Sprint(want), func() bool { return g.gauge(t, want.name, want.labels...) == want.n })
	}
	if n := g.store.counts(); n.events != 10 || n.receipts != 1 || n.quarantined != 3 {
		t.Errorf("stored %+v", n)
	}
}

// TestMetricsAreRegisteredOnce: a second server on the same registry is told.
func TestMetricsAreRegisteredOnce(t *testing.T) {
	t.Parallel()
	reg := prometheus.NewRegistry()
	st := &store{}
	cfg := ingress.Config{
		Addr: "127.0.0.1:0", Apps: []ingress.App{{Name: appName, Secrets: []string{secret}}},
		Inbox: st, Quarantine: st, Deliverer: &hints{}, Registerer: reg,
	}
	if _, err := ingress.New(cfg); err != nil {
		t.Fatal(err)
	}
	if _, err := ingress.New(cfg); err == nil {
		t.Error("registered twice")
	}
}

// TestUnknownObject: to the app's fallback channel if it has one, else to the
// quarantine.
func TestUnknownObject(t *testing.T) {
	t.Parallel()
	body := []byte(`{"object":"permissions","entry":[{"id":"1","time":1760000000,"changes":[{"field":"connected","value":true}]}]}`)
	t.Run("fallback", func(t *testing.T) {
		t.Parallel()
		g := start(t, func(c *ingress.Config) { c.Apps[0].Fallback = pageChannel() })
		if got := g.post(t, body); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
		if n := g.store.counts(); n.events != 1 || n.quarantined != 0 {
			t.Fatalf("stored %+v", n)
		}
		row := g.store.rows[0]
		if _, ok := row.Input.(parley.Unknown); !ok || row.Conversation.Channel != pageChannel() {
			t.Errorf("a %s of %s", row.Input.Kind(), row.Conversation)
		}
	})
	t.Run("none", func(t *testing.T) {
		t.Parallel()
		g := start(t)
		if got := g.post(t, body); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
		if n := g.store.counts(); n.events != 0 || n.quarantined != 1 {
			t.Errorf("stored %+v", n)
		}
	})
}

// TestEmptyWebhook: there is nothing to store, and nothing to send again.
func TestEmptyWebhook(t *testing.T) {
	t.Parallel()
	g := start(t)
	if got := g.post(t, []byte(`{"object":"page","entry":[]}`)); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	if n := g.store.counts(); n != (counts{}) {
		t.Errorf("stored %+v", n)
	}
	if n := g.gauge(t, "parley_ingress_requests_total", "empty"); n != 1 {
		t.Errorf("counted %v", n)
	}
}

// TestBodiesDontLeak: buffers are used again, so what is stored must not share
// memory with them.
func TestBodiesDontLeak(t *testing.T) {
	t.Parallel()
	g := start(t)
	c := g.client(t)
	for i := range 50 {
		for _, body := range [][]byte{
			waText(waNumber, "4912", fmt.Sprint("k", i), fmt.Sprintf("text number %03d of the test", i)),
			waText(strangeID, "4912", fmt.Sprint("s", i), fmt.Sprintf("text number %03d of the test", i)),
			[]byte(strings.Repeat("#", 400)),
		} {
			if got, err := c.post(body); err != nil || got.status != 200 {
				t.Fatalf("status %d, %v", got.status, err)
			}
		}
	}
	for i, r := range g.store.rows {
		want := fmt.Sprintf("text number %03d of the test", i)
		if m, ok := r.Input.(parley.Message); !ok || m.Text != want || m.ID != fmt.Sprint("wamid.k", i) {
			t.Errorf("row %d: %+v", i, r.Input)
		}
	}
	for _, q := range g.store.quarantine {
		if q.ChannelID == strangeID && bytes.ContainsRune(q.Body, '#') {
			t.Errorf("a quarantined body was overwritten: %s", q.Body)
		}
	}
}
