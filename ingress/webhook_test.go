package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

func TestHandshake(t *testing.T) {
	t.Parallel()
	g := start(t)
	for _, tt := range []struct {
		name, path, mode, token string
		status                  int
	}{
		{"right", "/webhooks/shop", "subscribe", token, 200},
		{"wrong token", "/webhooks/shop", "subscribe", "verify-yo", 403},
		{"no token", "/webhooks/shop", "subscribe", "", 403},
		{"wrong mode", "/webhooks/shop", "unsubscribe", token, 403},
		{"unknown app", "/webhooks/shoe", "subscribe", token, 404},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			q := url.Values{"hub.mode": {tt.mode}, "hub.verify_token": {tt.token}, "hub.challenge": {"1158201444"}}
			got, err := g.client(t).do("GET", tt.path+"?"+q.Encode(), nil, nil)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != tt.status {
				t.Fatalf("status %d, want %d", got.status, tt.status)
			}
			if tt.status != 200 {
				if strings.Contains(got.body, "1158201444") {
					t.Errorf("a refusal repeats the challenge: %q", got.body)
				}
				return
			}
			if got.body != "1158201444" || !strings.HasPrefix(got.header("Content-Type"), "text/plain") {
				t.Errorf("body %q of type %q, want the challenge as text/plain", got.body, got.header("Content-Type"))
			}
			if got.header("X-Content-Type-Options") != "nosniff" {
				t.Error("a browser may take the challenge for HTML")
			}
		})
	}
}

// TestRefusals posts what must not be stored: the right status, nothing of the
// request in the answer, nothing appended, and the connection's next request is
// served.
func TestRefusals(t *testing.T) {
	t.Parallel()
	body := waText(waNumber, "4912", "1", "hello")
	good := sign(body, secret)
	for _, tt := range []struct {
		name, method, path string
		header             map[string]string
		body               []byte
		status             int
	}{
		{"no signature", "POST", "/webhooks/shop", nil, body, 401},
		{"sha1 only", "POST", "/webhooks/shop", map[string]string{"X-Hub-Signature": "sha1=" + strings.Repeat("a", 40)}, body, 401},
		{"malformed", "POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": "sha256=xyz"}, body, 401},
		{"cut off", "POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": good[:len(good)-2]}, body, 401},
		{"wrong secret", "POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": sign(body, "another")}, body, 401},
		{"of another body", "POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": sign([]byte("{}"), secret)}, body, 401},
		{"unknown app", "POST", "/webhooks/evil", map[string]string{"X-Hub-Signature-256": good}, body, 404},
		{"no app", "POST", "/webhooks/", map[string]string{"X-Hub-Signature-256": good}, body, 404},
		{"below the app", "POST", "/webhooks/shop/x", map[string]string{"X-Hub-Signature-256": good}, body, 404},
		{"elsewhere", "POST", "/evil", map[string]string{"X-Hub-Signature-256": good}, body, 404},
		{"put", "PUT", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": good}, body, 405},
		{"delete", "DELETE", "/webhooks/shop", nil, nil, 405},
		{"options", "OPTIONS", "/webhooks/shop", nil, nil, 405},
		{"head", "HEAD", "/webhooks/shop", nil, nil, 405},
		{"too large", "POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": good}, make([]byte, 4<<20+1), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, loopback(t))
			c := g.client(t)
			got, err := c.do(tt.method, tt.path, tt.header, tt.body)
			if err != nil {
				t.Fatal(err)
			}
			if got.status != tt.status {
				t.Errorf("status %d, want %d", got.status, tt.status)
			}
			for _, theirs := range []string{"hello", "evil", "4912", "sha256", "sha1"} {
				if strings.Contains(got.body, theirs) {
					t.Errorf("the answer repeats the request: %q", got.body)
				}
			}
			if n := g.store.counts(); n.appends != 0 {
				t.Errorf("%d appends, want none", n.appends)
			}
			if tt.status == 405 && got.header("Allow") == "" {
				t.Error("405 without Allow")
			}
			if again := g.post(t, body); again.status != 200 {
				t.Errorf("afterwards a good webhook got %d", again.status)
			}
		})
	}
}

func TestLargestBody(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t))
	body := waBatch(2, -1, 0)
	body = append(body, make([]byte, 4<<20-len(body))...)
	for i := len(body) - 1; body[i] == 0; i-- {
		body[i] = ' '
	}
	if got := g.post(t, body); got.status != 200 {
		t.Fatalf("a body of 4 MB got %d", got.status)
	}
	if n := g.store.counts(); n.events != 2 {
		t.Errorf("%d events, want 2", n.events)
	}
}

// TestChunkedBody: a body whose length isn't announced meets the same limit.
func TestChunkedBody(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		body   []byte
		status int
	}{
		{"small", waText(waNumber, "4912", "1", "hi"), 200},
		{"large", waBatch(1000, -1, 3000), 200},
		{"too large", waBatch(1000, -1, 5000), 413},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t, loopback(t))
			c := g.client(t)
			header := signed(tt.body)
			header["Transfer-Encoding"] = "chunked"
			if err := c.send("POST", "/webhooks/shop", header, nil); err != nil {
				t.Fatal(err)
			}
			for rest := tt.body; ; {
				n := min(len(rest), 60_000)
				if _, err := fmt.Fprintf(c.conn, "%x\r\n%s\r\n", n, rest[:n]); err != nil {
					t.Fatal(err)
				}
				if rest = rest[n:]; n == 0 {
					break
				}
			}
			got, err := c.read("POST")
			if err != nil {
				t.Fatal(err)
			}
			if got.status != tt.status {
				t.Errorf("status %d, want %d", got.status, tt.status)
			}
		})
	}
}

func TestEverySecretSigns(t *testing.T) {
	t.Parallel()
	g := start(t)
	for i, key := range []string{secret, oldSecret} {
		body := waText(waNumber, "4912", fmt.Sprint(i), "hi")
		got, err := g.client(t).do("POST", "/webhooks/shop", map[string]string{"X-Hub-Signature-256": sign(body, key)}, body)
		if err != nil {
			t.Fatal(err)
		}
		if got.status != 200 {
			t.Errorf("signed with secret %d: %d", i, got.status)
		}
	}
}

// TestBatchWithOneOfWrongShape: 1000 updates in 3 MB, one of them valid JSON of
// a wrong shape.
func TestBatchWithOneOfWrongShape(t *testing.T) {
	t.Parallel()
	g := start(t, loopback(t))
	body := waBatch(1000, 500, 3000)
	if len(body) < 3e6 || len(body) > 4<<20 {
		t.Fatalf("the body has %d bytes", len(body))
	}
	if got := g.post(t, body); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	n := g.store.counts()
	if n.events != 999 || n.quarantined != 1 || n.appends != 1 {
		t.Errorf("%d events, %d quarantined, %d appends; want 999, 1, 1", n.events, n.quarantined, n.appends)
	}
	q := g.store.quarantine[0]
	if q.App != appName || q.Cause == "" || q.Received.IsZero() || len(q.Body) == 0 || len(q.Body) > 2000 {
		t.Errorf("quarantined: app %q, cause %q, received %v, %d bytes", q.App, q.Cause, q.Received, len(q.Body))
	}
	eventually(t, "999 rows delivered", func() bool { return g.hints.count() == 999 })
}

// TestUndecodable: signed bodies that aren't what they should be are kept whole
// and acknowledged, so that they don't come back for seven days.
func TestUndecodable(t *testing.T) {
	t.Parallel()
	for _, body := range []string{"", "\x00\xff", "hello", "[1,2]", `"x"`, "null", `{"object":"page","entry":[`, `{"object":"page","entry":{"a":1}}`} {
		t.Run(body, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			if got := g.post(t, []byte(body)); got.status != 200 {
				t.Fatalf("status %d", got.status)
			}
			if n := g.store.counts(); n.quarantined != 1 {
				t.Fatalf("%d quarantined, want 1", n.quarantined)
			}
			q := g.store.quarantine[0]
			if diff := cmp.Diff(body, string(q.Body)); diff != "" {
				t.Errorf("not kept as it came (-want +got):\n%s", diff)
			}
			if q.Cause == "" || q.App != appName {
				t.Errorf("app %q, cause %q", q.App, q.Cause)
			}
		})
	}
}

// TestAcknowledgedOnlyWhenDurable: no answer while the append runs.
func TestAcknowledgedOnlyWhenDurable(t *testing.T) {
	t.Parallel()
	held := newGate()
	g := start(t)
	g.store.before = held.before
	c := g.client(t)
	body := waText(waNumber, "4912", "1", "hi")
	if err := c.send("POST", "/webhooks/shop", signed(body), body); err != nil {
		t.Fatal(err)
	}
	<-held.arrived
	if err := c.conn.SetReadDeadline(time.Now().Add(100 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if b, err := c.r.Peek(1); err == nil {
		t.Fatalf("an answer began with %q before the append had returned", b)
	}
	close(held.open)
	got, err := c.read("POST")
	if err != nil {
		t.Fatal(err)
	}
	if n := g.store.counts(); got.status != 200 || n.events != 1 {
		t.Errorf("status %d, %d events; want 200 and 1", got.status, n.events)
	}
}

func TestStoreRefuses(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name string
		err  error
	}{
		{"full", fmt.Errorf("append: %w", parley.ErrFull)},
		{"broken", errDisk},
		{"its own time-out", context.DeadlineExceeded},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			g := start(t)
			failing := true
			g.store.before = func(context.Context, parley.Arrivals) error {
				if failing {
					return tt.err
				}
				return nil
			}
			body := waText(waNumber, "4912", "1", "hi")
			got := g.post(t, body)
			if got.status != 503 || got.header("Retry-After") != retryAfter {
				t.Errorf("status %d, Retry-After %q; want 503 and %s", got.status, got.header("Retry-After"), retryAfter)
			}
			failing = false // nothing is in flight
			if got := g.post(t, body); got.status != 200 {
				t.Errorf("once the store works again: %d", got.status)
			}
			n := g.store.counts()
			if n.events != 1 || n.quarantined != 0 || g.hints.count() > 1 {
				t.Errorf("%d events, %d quarantined, %d hints; want 1, 0, at most 1", n.events, n.quarantined, g.hints.count())
			}
		})
	}
}

func TestNewRefuses(t *testing.T) {
	t.Parallel()
	good := ingress.App{Name: appName, Secrets: []string{"hush"}}
	for _, tt := range []struct {
		name   string
		adjust func(*ingress.Config)
	}{
		{"no address", func(c *ingress.Config) { c.Addr = "" }},
		{"no inbox", func(c *ingress.Config) { c.Inbox = nil }},
		{"no apps", func(c *ingress.Config) { c.Apps = nil }},
		{"one app twice", func(c *ingress.Config) { c.Apps = []ingress.App{good, good} }},
		{"no secrets", func(c *ingress.Config) { c.Apps = []ingress.App{{Name: "a"}} }},
		{"empty secret", func(c *ingress.Config) { c.Apps = []ingress.App{{Name: "a", Secrets: []string{"hush", ""}}} }},
		{"empty token", func(c *ingress.Config) {
			c.Apps = []ingress.App{{Name: "a", Secrets: []string{"hush"}, VerifyTokens: []string{""}}}
		}},
		{"slash in the name", func(c *ingress.Config) { c.Apps = []ingress.App{{Name: "a/b", Secrets: []string{"hush"}}} }},
		{"half a fallback", func(c *ingress.Config) {
			c.Apps = []ingress.App{{Name: "a", Secrets: []string{"hush"}, Fallback: parley.Channel{Brand: "b"}}}
		}},
		{"negative limit", func(c *ingress.Config) { c.MaxQueue = -1 }},
		{"bodies larger than the budget", func(c *ingress.Config) { c.MaxHeldBytes = 1 << 20 }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			st := &store{}
			cfg := ingress.Config{Addr: "127.0.0.1:0", Apps: []ingress.App{good}, Inbox: st, Quarantine: st, Deliverer: &hints{}}
			if _, err := ingress.New(cfg); err != nil {
				t.Fatalf("before: %v", err)
			}
			tt.adjust(&cfg)
			_, err := ingress.New(cfg)
			if err == nil {
				t.Fatal("accepted")
			}
			if strings.Contains(err.Error(), "hush") {
				t.Errorf("the error tells a secret: %v", err)
			}
		})
	}
}

func TestRunOnAddr(t *testing.T) {
	t.Parallel()
	g := prepare(t, func(c *ingress.Config) { c.Listener, c.Addr = nil, "127.0.0.1:0" })
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := g.server.Run(ctx); err != nil {
		t.Errorf("Run, cancelled before it began: %v", err)
	}
	if err := g.server.Run(ctx); err == nil {
		t.Error("Run ran twice")
	}
	bad := prepare(t, func(c *ingress.Config) { c.Listener, c.Addr = nil, "256.0.0.1:http" })
	if err := bad.server.Run(t.Context()); err == nil || errors.Is(err, context.Canceled) {
		t.Errorf("Run on an impossible address: %v", err)
	}
}

// TestHandlerInProcess: the handler works without a connection, and once Run
// has ended it refuses instead of waiting for ever.
func TestHandlerInProcess(t *testing.T) {
	t.Parallel()
	g := start(t)
	handle := g.server.Handler()
	do := func(body []byte) int {
		var ctx fasthttp.RequestCtx
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI("/webhooks/shop")
		req.Header.Set("X-Hub-Signature-256", sign(body, secret))
		req.SetBody(body)
		ctx.Init(&req, nil, nil)
		handle(&ctx)
		return ctx.Response.StatusCode()
	}
	for _, tt := range []struct {
		name   string
		body   []byte
		status int
	}{
		{"small", waText(waNumber, "49", "1", "hi"), 200},
		{"large", waBatch(100, -1, 1000), 200},
		{"too large", make([]byte, 4<<20+1), 413},
	} {
		if got := do(tt.body); got != tt.status {
			t.Errorf("%s: %d, want %d", tt.name, got, tt.status)
		}
	}
	if held := g.gauge(t, "parley_ingress_held_bytes"); held != 0 {
		t.Errorf("%v bytes held by nobody", held)
	}
	if err := g.stop(); err != nil {
		t.Fatal(err)
	}
	if got := do(waText(waNumber, "49", "2", "hi")); got != 503 {
		t.Errorf("after Run: %d", got)
	}
}
