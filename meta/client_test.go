package meta_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// fasthttp's cleaner of connections sleeps as long as a connection may be idle
// before it sees that there are none left.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// graph is a Graph API that answers as it is told and counts what reaches it.
type graph struct {
	*httptest.Server
	requests atomic.Int64
}

func newGraph(t *testing.T, answer http.HandlerFunc) *graph {
	t.Helper()
	g := &graph{}
	g.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		g.requests.Add(1)
		answer(w, r)
	}))
	t.Cleanup(g.Close)
	return g
}

func client(t *testing.T, cfg meta.ClientConfig) *meta.Client {
	t.Helper()
	c, err := meta.NewClient(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	return c
}

func says(status int, body string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(status)
		_, _ = io.WriteString(w, body)
	}
}

func graphError(t *testing.T, err error) *meta.GraphError {
	t.Helper()
	var g *meta.GraphError
	if !errors.As(err, &g) {
		t.Fatalf("%T: %v", err, err)
	}
	return g
}

func TestSend(t *testing.T) {
	t.Parallel()
	var got struct{ url, auth, kind, body string }
	g := newGraph(t, func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err != nil {
			t.Error(err)
		}
		got.url, got.auth, got.kind, got.body = r.Method+" "+r.URL.String(), r.Header.Get("Authorization"), r.Header.Get("Content-Type"), string(b)
		says(200, `{"messaging_product":"whatsapp","contacts":[{"input":"491","wa_id":"491"}],"messages":[{"id":"wamid.1"}]}`)(w, r)
	})
	c := client(t, meta.ClientConfig{BaseURL: g.URL + "/", Version: "v25.0"})
	o := outgoing(t, parley.WhatsApp, "phone:491", "hi")
	id, err := c.Send(t.Context(), meta.Account{Token: "token", Secret: "secret"}, o)
	if err != nil || id != "wamid.1" {
		t.Fatalf("%q, %v", id, err)
	}
	// HMAC-SHA256 of "token", keyed with "secret".
	const proof = "?appsecret_proof=" + "e941110e3d2bfe82621f0e3e1434730d7305d106c5f68c87165d0b27a4611a4a"
	_, body, err := meta.EncodeSend(o, meta.Sending{})
	if err != nil {
		t.Fatal(err)
	}
	if got.url != "POST /v25.0/77/messages"+proof || got.auth != "Bearer token" || got.kind != "application/json" || got.body != string(body) {
		t.Errorf("%+v", got)
	}
}

// TestInstagramHost sees which of the two hosts an account is sent through.
func TestInstagramHost(t *testing.T) {
	t.Parallel()
	facebook := newGraph(t, says(200, `{"recipient_id":"5","message_id":"by page"}`))
	instagram := newGraph(t, says(200, `{"recipient_id":"5","message_id":"by login"}`))
	c := client(t, meta.ClientConfig{BaseURL: facebook.URL, InstagramURL: instagram.URL})
	o := outgoing(t, parley.Instagram, "user:5", "hi")
	for from, want := range map[string]string{"": "by login", "99": "by page"} {
		if id, err := c.Send(t.Context(), meta.Account{Sending: meta.Sending{From: from}}, o); err != nil || id != want {
			t.Errorf("from %q: %q, %v", from, id, err)
		}
	}
}

// TestAnswers reads what the Graph API and what is between may answer.
func TestAnswers(t *testing.T) {
	t.Parallel()
	said := func(code, subcode int, transient bool) string {
		return fmt.Sprintf(`{"error":{"message":"(#%d) Words","type":"OAuthException","code":%d,"error_subcode":%d,`+
			`"is_transient":%t,"error_data":{"messaging_product":"whatsapp","details":"More words."},"fbtrace_id":"x"}}`, code, code, subcode, transient)
	}
	for name, c := range map[string]struct {
		kind   parley.ChannelKind
		status int
		header string
		body   string
		class  meta.Class
		scope  meta.Scope
		wait   time.Duration
	}{
		"pair rate":         {parley.WhatsApp, 400, "", said(131056, 0, false), meta.ClassWait, meta.ScopeContact, 6 * time.Second},
		"token":             {parley.Messenger, 401, "", said(190, 463, false), meta.ClassTenant, meta.ScopeChannel, 0},
		"blocked":           {parley.Messenger, 400, "", said(551, 1545041, false), meta.ClassUser, meta.ScopeContact, 0},
		"bad":               {parley.Messenger, 400, "", said(100, 0, false), meta.ClassPermanent, meta.ScopeMessage, 0},
		"in a 200":          {parley.WhatsApp, 200, "", said(131000, 0, false), meta.ClassRetry, meta.ScopeMessage, 0},
		"retry after":       {parley.Messenger, 400, "Retry-After: 17", said(613, 0, false), meta.ClassWait, meta.ScopeChannel, 17 * time.Second},
		"usage":             {parley.Messenger, 400, `X-Business-Use-Case-Usage: {"1":[{"type":"messenger","estimated_time_to_regain_access":3}],"2":[{"estimated_time_to_regain_access":9}]}`, said(4, 0, false), meta.ClassWait, meta.ScopeApp, 9 * time.Minute},
		"usage, absurd":     {parley.Messenger, 400, `X-Business-Use-Case-Usage: {"1":[{"estimated_time_to_regain_access":99999999}]}`, said(4, 0, false), meta.ClassWait, meta.ScopeApp, 24 * time.Hour},
		"usage, unreadable": {parley.Messenger, 400, `X-Business-Use-Case-Usage: [`, said(4, 0, false), meta.ClassWait, meta.ScopeApp, time.Minute},
		"new, transient":    {parley.WhatsApp, 400, "", said(777, 0, true), meta.ClassRetry, meta.ScopeMessage, 0},
		"new, 500":          {parley.WhatsApp, 500, "", said(777, 0, false), meta.ClassRetry, meta.ScopeMessage, 0},
		"new, 429":          {parley.WhatsApp, 429, "", said(777, 0, false), meta.ClassWait, meta.ScopeChannel, time.Minute},
		"new, 403":          {parley.WhatsApp, 403, "", said(777, 0, false), meta.ClassTenant, meta.ScopeChannel, 0},
		"new, 400":          {parley.WhatsApp, 400, "", said(777, 0, false), meta.ClassPermanent, meta.ScopeMessage, 0},
		"not Graph, 502":    {parley.WhatsApp, 502, "", "<html>", meta.ClassUnknown, meta.ScopeMessage, 0},
		"not Graph, 408":    {parley.WhatsApp, 408, "", "", meta.ClassUnknown, meta.ScopeMessage, 0},
		"not Graph, 429":    {parley.WhatsApp, 429, "Retry-After: 5", "", meta.ClassWait, meta.ScopeChannel, 5 * time.Second},
		"not Graph, 404":    {parley.WhatsApp, 404, "", "not here", meta.ClassRetry, meta.ScopeMessage, 0},
		"2xx, unreadable":   {parley.WhatsApp, 200, "", `{"messages":[{"id":`, meta.ClassUnknown, meta.ScopeMessage, 0},
		"2xx, no id":        {parley.WhatsApp, 200, "", `{"messages":[]}`, meta.ClassUnknown, meta.ScopeMessage, 0},
		"2xx, wrong shape":  {parley.Messenger, 200, "", `{"message_id":{"a":1}}`, meta.ClassUnknown, meta.ScopeMessage, 0},
		"2xx, empty":        {parley.Messenger, 204, "", "", meta.ClassUnknown, meta.ScopeMessage, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGraph(t, func(w http.ResponseWriter, r *http.Request) {
				if k, v, ok := strings.Cut(c.header, ": "); ok {
					w.Header().Set(k, v)
				}
				says(c.status, c.body)(w, r)
			})
			to := parley.Contact("user:5")
			if c.kind == parley.WhatsApp {
				to = "phone:491"
			}
			id, err := client(t, meta.ClientConfig{BaseURL: g.URL}).Send(t.Context(), meta.Account{Token: "t0ken"}, outgoing(t, c.kind, to, "our secret words"))
			e := graphError(t, err)
			if id != "" || e.Class != c.class || e.Scope != c.scope || e.RetryAfter != c.wait || e.HTTP != c.status || meta.ClassOf(err) != c.class {
				t.Errorf("%q, %+v", id, e)
			}
			if s := err.Error(); strings.Contains(s, "secret words") || strings.Contains(s, "t0ken") {
				t.Error(s)
			}
			if strings.HasPrefix(c.body, `{"error"`) && !strings.Contains(e.Message, "Words: More words.") {
				t.Errorf("message %q", e.Message)
			}
			if n := g.requests.Load(); n != 1 {
				t.Errorf("%d requests", n)
			}
		})
	}
}

// An error that may be of a person who has blocked the Page is tried a few times,
// unless Meta says that it will pass.
func TestTemporaryErrors(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		transient bool
		tries     int
	}{"WillPass": {true, 0}, "MayBeABlock": {false, 4}} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			g := newGraph(t, says(500, fmt.Sprintf(`{"error":{"message":"(#2)","code":2,"is_transient":%t}}`, c.transient)))
			_, err := client(t, meta.ClientConfig{BaseURL: g.URL}).Send(t.Context(), meta.Account{Token: "t"}, outgoing(t, parley.Messenger, "user:5", "x"))
			if e := graphError(t, err); e.Class != meta.ClassRetry || e.Tries != c.tries {
				t.Errorf("class %v, %d tries: want retry, %d", e.Class, e.Tries, c.tries)
			}
		})
	}
}

// TestReportedButSent is the one error after which the messages were sent.
func TestReportedButSent(t *testing.T) {
	t.Parallel()
	g := newGraph(t, says(500, `{"error":{"message":"Received invalid JSON reply","code":1,"error_subcode":1357046}}`))
	id, err := client(t, meta.ClientConfig{BaseURL: g.URL}).Send(t.Context(), meta.Account{}, outgoing(t, parley.Messenger, "user:5", "x"))
	if id != "" || err != nil {
		t.Errorf("%q, %v", id, err)
	}
}

// TestNeverTwice loses the connection after the request was read, in the ways
// in which HTTP libraries like to try again.
func TestNeverTwice(t *testing.T) {
	t.Parallel()
	for name, ruin := range map[string]func(c net.Conn){
		"closed": func(c net.Conn) { _ = c.Close() },
		"reset": func(c net.Conn) {
			if tcp, ok := c.(*net.TCPConn); ok {
				_ = tcp.SetLinger(0)
			}
			_ = c.Close()
		},
		"cut off": func(c net.Conn) {
			_, _ = io.WriteString(c, "HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n{")
			_ = c.Close()
		},
		"not HTTP": func(c net.Conn) { _, _ = io.WriteString(c, "what?\r\n\r\n"); _ = c.Close() },
	} {
		for _, used := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s, used %t", name, used), func(t *testing.T) {
				t.Parallel()
				var g *graph
				g = newGraph(t, func(w http.ResponseWriter, r *http.Request) {
					_, _ = io.Copy(io.Discard, r.Body)
					if used && g.requests.Load() == 1 {
						says(200, `{"message_id":"m"}`)(w, r)
						return
					}
					c, _, err := http.NewResponseController(w).Hijack()
					if err != nil {
						t.Error(err)
						return
					}
					ruin(c)
				})
				c := client(t, meta.ClientConfig{BaseURL: g.URL})
				o := outgoing(t, parley.Messenger, "user:5", "x")
				want := int64(1)
				if used { // so that the connection was in use before
					want = 2
					if _, err := c.Send(t.Context(), meta.Account{}, o); err != nil {
						t.Fatal(err)
					}
				}
				_, err := c.Send(t.Context(), meta.Account{}, o)
				if e := graphError(t, err); e.Class != meta.ClassUnknown || e.HTTP != 0 {
					t.Errorf("%+v", e)
				}
				if n := g.requests.Load(); n != want {
					t.Errorf("%d requests, want %d", n, want)
				}
			})
		}
	}
}

// TestIdleClosed lets the provider close connections that are not in use: the
// next sends find out before they write anything, and get through.
func TestIdleClosed(t *testing.T) {
	t.Parallel()
	for _, secure := range []bool{false, true} {
		t.Run(fmt.Sprintf("TLS %t", secure), func(t *testing.T) {
			t.Parallel()
			closed := make(chan net.Conn, 64)
			var requests atomic.Int64
			s := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
				requests.Add(1)
				says(200, `{"message_id":"m"}`)(w, r)
			}))
			s.Config.ConnState = func(c net.Conn, state http.ConnState) {
				if state == http.StateIdle {
					closed <- c
				}
			}
			cfg := meta.ClientConfig{}
			if secure {
				s.StartTLS()
				roots := x509.NewCertPool()
				roots.AddCert(s.Certificate())
				cfg.TLS = &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}
			} else {
				s.Start()
			}
			t.Cleanup(s.Close)
			var last atomic.Pointer[net.Conn]
			cfg.BaseURL = s.URL
			cfg.Dial = func(addr string, timeout time.Duration) (net.Conn, error) {
				c, err := net.DialTimeout("tcp", addr, timeout)
				if err == nil {
					last.Store(&c)
				}
				return c, err
			}
			c := client(t, cfg)
			const sends = 20
			for range sends {
				if _, err := c.Send(t.Context(), meta.Account{}, outgoing(t, parley.Messenger, "user:5", "x")); err != nil {
					t.Fatal(err)
				}
				if err := (<-closed).Close(); err != nil {
					t.Fatal(err)
				}
			}
			if n := requests.Load(); n != sends {
				t.Errorf("%d requests for %d sends", n, sends)
			}
		})
	}
}

// TestNotSent are failures before anything was written: to be tried again.
func TestNotSent(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	refused := "http://" + l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	o := outgoing(t, parley.Messenger, "user:5", "x")
	_, err = client(t, meta.ClientConfig{BaseURL: refused}).Send(t.Context(), meta.Account{}, o)
	if e := graphError(t, err); e.Class != meta.ClassRetry || e.Cause == nil {
		t.Errorf("refused: %+v", e)
	}

	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	_, err = client(t, meta.ClientConfig{BaseURL: refused}).Send(ctx, meta.Account{}, o)
	if e := graphError(t, err); e.Class != meta.ClassRetry || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled before: %+v", e)
	}

	// A server that closes each connection at once.
	s := newBare(t, func(c net.Conn) {})
	_, err = client(t, meta.ClientConfig{BaseURL: s}).Send(t.Context(), meta.Account{}, o)
	if e := graphError(t, err); e.Class != meta.ClassRetry && e.Class != meta.ClassUnknown {
		t.Errorf("closed at once: %+v", e)
	}

	// TLS with a certificate that nobody knows.
	secure := httptest.NewTLSServer(says(200, "{}"))
	t.Cleanup(secure.Close)
	_, err = client(t, meta.ClientConfig{BaseURL: secure.URL}).Send(t.Context(), meta.Account{}, o)
	if e := graphError(t, err); e.Class != meta.ClassRetry || !strings.Contains(err.Error(), "TLS") {
		t.Errorf("certificate: %+v", e)
	}
}

// newBare is a server of connections.
func newBare(t *testing.T, serve func(net.Conn)) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			serve(c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	return "http://" + l.Addr().String()
}

// TestLostAnswer waits in vain: until the time-out, or until ctx ends.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	arrived := make(chan struct{}, 8)
	release := make(chan struct{})
	t.Cleanup(func() { close(release) })
	s := newBare(t, func(c net.Conn) {
		if _, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
			arrived <- struct{}{}
		}
		go func() {
			<-release
			_ = c.Close()
		}()
		select {
		case <-release:
		case <-time.After(2 * time.Second): // the client gives up before
		}
	})
	o := outgoing(t, parley.Messenger, "user:5", "x")

	_, err := client(t, meta.ClientConfig{BaseURL: s, Timeout: 100 * time.Millisecond}).Send(t.Context(), meta.Account{}, o)
	if e := graphError(t, err); e.Class != meta.ClassUnknown {
		t.Errorf("time-out: %+v", e)
	}
	<-arrived

	ctx, cancel := context.WithCancel(t.Context())
	go func() {
		<-arrived
		cancel()
	}()
	begin := time.Now()
	_, err = client(t, meta.ClientConfig{BaseURL: s, Timeout: 4 * time.Second}).Send(ctx, meta.Account{}, o)
	if e := graphError(t, err); e.Class != meta.ClassUnknown || !errors.Is(err, context.Canceled) {
		t.Errorf("cancelled: %+v", e)
	}
	if took := time.Since(begin); took > 3500*time.Millisecond {
		t.Errorf("cancelled after %s", took)
	}
}

// TestBusy finds no free connection: nothing was sent.
func TestBusy(t *testing.T) {
	t.Parallel()
	entered, release := make(chan struct{}), make(chan struct{})
	g := newGraph(t, func(w http.ResponseWriter, r *http.Request) {
		close(entered)
		<-release
		says(200, `{"message_id":"m"}`)(w, r)
	})
	c := client(t, meta.ClientConfig{BaseURL: g.URL, MaxConns: 1, ConnWait: 50 * time.Millisecond})
	first := make(chan error, 1)
	go func() {
		_, err := c.Send(t.Context(), meta.Account{}, outgoing(t, parley.Messenger, "user:5", "x"))
		first <- err
	}()
	<-entered
	_, err := c.Send(t.Context(), meta.Account{}, outgoing(t, parley.Messenger, "user:6", "x"))
	if e := graphError(t, err); e.Class != meta.ClassRetry {
		t.Errorf("%+v", e)
	}
	close(release)
	if err := <-first; err != nil {
		t.Error(err)
	}
	if n := g.requests.Load(); n != 1 {
		t.Errorf("%d requests", n)
	}
}

func TestClientConfig(t *testing.T) {
	t.Parallel()
	for _, bad := range []string{"graph.facebook.com", "ftp://x", "http://", "http://a b", ":"} {
		if _, err := meta.NewClient(meta.ClientConfig{BaseURL: bad}); err == nil {
			t.Errorf("%q is a base URL", bad)
		}
		if _, err := meta.NewClient(meta.ClientConfig{InstagramURL: bad}); err == nil {
			t.Errorf("%q is Instagram's URL", bad)
		}
	}
	client(t, meta.ClientConfig{}) // Meta itself; nothing is dialled
}

func TestSendTooLong(t *testing.T) {
	t.Parallel()
	o := outgoing(t, parley.Instagram, "user:5", strings.Repeat("x", 1001))
	_, err := client(t, meta.ClientConfig{}).Send(t.Context(), meta.Account{}, o)
	var over *meta.LimitError
	if !errors.As(err, &over) || meta.ClassOf(err) != meta.ClassPermanent {
		t.Errorf("%v", err)
	}
}
