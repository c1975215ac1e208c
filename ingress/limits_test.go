package ingress_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"github.com/parleychat/parley/ingress"
)

// gauge reads one metric of the server: a gauge, or the sum of a counter over
// the labels that contain each of with.
func (g *rig) gauge(tb testing.TB, name string, with ...string) float64 {
	tb.Helper()
	return value(tb, g.metrics, name, with...)
}

// value adds up the figures of a name.
func value(tb testing.TB, reg *prometheus.Registry, name string, with ...string) float64 {
	tb.Helper()
	families, err := reg.Gather()
	if err != nil {
		tb.Fatal(err)
	}
	sum := 0.0
	for _, f := range families {
		if f.GetName() != name {
			continue
		}
		for _, m := range f.GetMetric() {
			if hasLabels(m, with) {
				sum += m.GetGauge().GetValue() + m.GetCounter().GetValue() + float64(m.GetHistogram().GetSampleCount())
			}
		}
	}
	return sum
}

func hasLabels(m *dto.Metric, values []string) bool {
	for _, v := range values {
		found := false
		for _, l := range m.GetLabel() {
			found = found || l.GetValue() == v
		}
		if !found {
			return false
		}
	}
	return true
}

// TestSlowloris: a client that drips its request, byte by byte, each well
// within any pause that would be noticed, is cut off when the whole took too
// long; in the header, and in bodies small and large.
func TestSlowloris(t *testing.T) {
	t.Parallel()
	header := "POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: sha256=" + strings.Repeat("a", 64) + "\r\n"
	for _, tt := range []struct{ name, at string }{
		{"header", "POST /webhooks/shop HTTP/1.1\r\nX-Drip: "},
		{"small body", header + "Content-Length: 500\r\n\r\n"},
		{"large body", header + "Content-Length: 3000000\r\n\r\n" + strings.Repeat(" ", 100_000)},
		{"chunked body", header + "Transfer-Encoding: chunked\r\n\r\n2710\r\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			const readTimeout = 300 * time.Millisecond
			g := start(t, loopback(t), func(c *ingress.Config) { c.ReadTimeout = readTimeout })
			c := g.client(t)
			if _, err := c.conn.Write([]byte(tt.at)); err != nil {
				t.Fatal(err)
			}
			began := time.Now()
			eventually(t, "cut off", func() bool {
				_, err := c.conn.Write([]byte("x"))
				return err != nil
			})
			if took := time.Since(began); took < readTimeout/2 || took > patience/2 {
				t.Errorf("cut off after %v, want about %v", took, readTimeout)
			}
			if g.gauge(t, "parley_ingress_requests_total", "slow") != 1 {
				t.Error("not counted as slow")
			}
			eventually(t, "nothing held", func() bool { return g.gauge(t, "parley_ingress_held_bytes") == 0 })
		})
	}
}

// TestHeldBytes: large bodies that stall can take only so much memory; beyond
// it large ones are refused, and small ones still served.
func TestHeldBytes(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t), func(c *ingress.Config) { c.MaxHeldBytes = 6 << 20 })
	large := waBatch(1000, -1, 3000)
	var stalled []*client
	for range 3 { // 3 MB each, of which the last byte is missing
		c := g.client(t)
		if err := c.conn.SetWriteDeadline(time.Now().Add(patience)); err != nil {
			t.Fatal(err)
		}
		head := fmt.Sprintf("POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n", sign(large, secret), len(large))
		if _, err := c.conn.Write(append([]byte(head), large[:len(large)-1]...)); err != nil {
			t.Fatal(err)
		}
		stalled = append(stalled, c)
		if len(stalled) == 1 {
			eventually(t, "the first is held", func() bool { return g.gauge(t, "parley_ingress_held_bytes") > 3e6 })
		}
	}
	eventually(t, "the budget is used", func() bool { return g.gauge(t, "parley_ingress_held_bytes") >= 3e6 })
	if held := g.gauge(t, "parley_ingress_held_bytes"); held > 6<<20 {
		t.Errorf("%v bytes held", held)
	}
	refused := 0
	for _, c := range stalled[1:] { // the budget is for one and a half
		if _, err := c.conn.Write(large[len(large)-1:]); err != nil {
			t.Fatal(err)
		}
		got, err := c.read("POST")
		if err != nil {
			t.Fatal(err)
		}
		if got.status == 503 && got.header("Retry-After") == retryAfter {
			refused++
		}
	}
	if refused == 0 {
		t.Error("three bodies of 3 MB were held within 6 MB")
	}
	if got := g.post(t, waText(waNumber, "49", "small", "hi")); got.status != 200 {
		t.Errorf("a usual webhook got %d while large ones stall", got.status)
	}
	if _, err := stalled[0].conn.Write(large[len(large)-1:]); err != nil {
		t.Fatal(err)
	}
	if got, err := stalled[0].read("POST"); err != nil || got.status != 200 {
		t.Errorf("the one that was held: %d, %v", got.status, err)
	}
	eventually(t, "all given back", func() bool { return g.gauge(t, "parley_ingress_held_bytes") == 0 })
}

func TestMaxConns(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t), func(c *ingress.Config) { c.MaxConns = 4 })
	body := waText(waNumber, "49", "1", "hi")
	var open []*client
	for range 4 {
		c := g.client(t)
		if got, err := c.post(body); err != nil || got.status != 200 {
			t.Fatalf("status %d, %v", got.status, err)
		}
		open = append(open, c)
	}
	got, err := g.client(t).read("GET") // refused before it has said anything
	if err != nil || got.status != 503 {
		t.Fatalf("the connection too many: %d, %v", got.status, err)
	}
	if err := open[0].conn.Close(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "room again", func() bool {
		got, err := g.client(t).post(body)
		return err == nil && got.status == 200
	})
}

func TestMaxHeaderBytes(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t))
	got, err := g.client(t).do("POST", "/webhooks/shop", map[string]string{"X-Long": strings.Repeat("secret", 2000)}, nil)
	if err != nil {
		t.Fatal(err)
	}
	if got.status != 431 || strings.Contains(got.body, "secret") {
		t.Errorf("status %d, body %q", got.status, got.body)
	}
}

func TestNotHTTP(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t))
	c := g.client(t)
	if _, err := c.conn.Write([]byte("hello, is this the pizzeria?\r\n\r\n")); err != nil {
		t.Fatal(err)
	}
	got, err := c.read("GET")
	if err != nil {
		t.Fatal(err)
	}
	if got.status != 400 || strings.Contains(got.body, "pizzeria") {
		t.Errorf("status %d, body %q", got.status, got.body)
	}
}

// TestIdleTimeout: a connection between requests is closed in the end, without
// an answer.
func TestIdleTimeout(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t), func(c *ingress.Config) { c.IdleTimeout = 50 * time.Millisecond })
	c := g.client(t)
	if got, err := c.post(waText(waNumber, "49", "1", "hi")); err != nil || got.status != 200 {
		t.Fatalf("status %d, %v", got.status, err)
	}
	if got, err := c.read("GET"); !isClosed(err) {
		t.Errorf("got %d, %v; want the end of the connection", got.status, err)
	}
}
