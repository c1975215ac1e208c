package callout_test

import (
	"compress/gzip"
	"context"
	"io"
	"maps"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"path"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/persistence/memory"
)

// serve runs a Caller over sockets, until the end of the test.
func serve(t *testing.T, h http.HandlerFunc, s callout.Service) (*world, *callout.Caller) {
	t.Helper()
	server := httptest.NewServer(h)
	w := &world{t: t, store: memory.New(memory.Config{})}
	s.Name, s.URL = crm, server.URL
	c, err := callout.New(callout.Config{Calls: w.store, Services: []callout.Service{s}, Sweep: 50 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
		server.Close()
	})
	return w, c
}

// await waits for the one answer of a conversation.
func (w *world) await(c parley.Conversation) parley.Called {
	w.t.Helper()
	until := time.Now().Add(20 * time.Second)
	for len(w.answers(c)) == 0 {
		if time.Now().After(until) {
			w.t.Fatal("no answer")
		}
		time.Sleep(5 * time.Millisecond)
	}
	return w.answered(c)
}

// raw takes the connection and writes what isn't HTTP by itself: the first, and then the
// next again and again, until nobody takes it.
func raw(first, next string) http.HandlerFunc {
	return func(w http.ResponseWriter, _ *http.Request) {
		c, _, err := http.NewResponseController(w).Hijack()
		if err != nil {
			return
		}
		defer func() { _ = c.Close() }()
		_, err = io.WriteString(c, first)
		for ; err == nil; time.Sleep(5 * time.Millisecond) {
			_, err = io.WriteString(c, next)
		}
	}
}

// exchange is what a service does to a connection, and what comes of it.
type exchange struct {
	answer  func(w http.ResponseWriter, r *http.Request)
	service callout.Service
	want    parley.Called
}

func exchanges() map[string]exchange {
	return map[string]exchange{
		"Echo": {
			answer: func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) },
			want:   parley.Called{Status: 200, Body: []byte(`{"a":1}`), Attempts: 1},
		},
		"Redirect": {
			answer: func(w http.ResponseWriter, r *http.Request) {
				http.Redirect(w, r, "http://127.0.0.1:1/elsewhere", http.StatusFound)
			},
			want: parley.Called{Status: 302, Failure: parley.CallRefused, Reason: "status 302", Attempts: 1},
		},
		"Endless": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				for err := error(nil); err == nil; {
					_, err = w.Write(make([]byte, 1<<10))
				}
			},
			want: parley.Called{Status: 200, Failure: parley.CallTooLarge, Reason: "answer of more than 65536 bytes (MaxAnswerBytes)", Attempts: 1},
		},
		"Dripping": {
			answer: func(w http.ResponseWriter, r *http.Request) {
				_, _ = w.Write([]byte("{"))
				_ = http.NewResponseController(w).Flush()
				<-r.Context().Done()
			},
			service: callout.Service{Timeout: 100 * time.Millisecond, Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: no answer in time", Attempts: 1},
		},
		"HangsUp": {
			answer:  func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) },
			service: callout.Service{Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: connection closed", Attempts: 1},
		},
		"HangsUpAmidst": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Length", "100")
				_, _ = w.Write([]byte("{"))
				panic(http.ErrAbortHandler)
			},
			service: callout.Service{Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: connection closed", Attempts: 1},
		},
		"LongHeaders": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("X", strings.Repeat("x", 100<<10))
			},
			service: callout.Service{Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: the request failed", Attempts: 1},
		},
	}
}

// badAnswers never come, never end, or aren't what they say.
func badAnswers() map[string]exchange {
	return map[string]exchange{
		"Silent": {
			answer: func(_ http.ResponseWriter, r *http.Request) {
				_, _ = io.Copy(io.Discard, r.Body) // then the server looks out for the end of the connection
				<-r.Context().Done()
			},
			service: callout.Service{Timeout: 100 * time.Millisecond, Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: no answer in time", Attempts: 1},
		},
		"TricklingBody": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				for err := error(nil); err == nil; time.Sleep(5 * time.Millisecond) {
					_, err = w.Write([]byte(" "))
					_ = http.NewResponseController(w).Flush() // the next write tells
				}
			},
			service: callout.Service{Timeout: 100 * time.Millisecond, Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: no answer in time", Attempts: 1},
		},
		"TricklingHeaders": {
			answer:  raw("HTTP/1.1 200 OK\r\n", "A: b\r\n"),
			service: callout.Service{Timeout: 100 * time.Millisecond, Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: no answer in time", Attempts: 1},
		},
		"NotHTTP": {
			answer:  raw("220 mail.example ESMTP\r\n", "\r\n"),
			service: callout.Service{Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: the request failed", Attempts: 1},
		},
		"Bomb": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				z := gzip.NewWriter(w)
				for err := error(nil); err == nil; {
					_, err = z.Write(make([]byte, 1<<20))
				}
			},
			want: parley.Called{Status: 200, Failure: parley.CallTooLarge, Reason: "answer of more than 65536 bytes (MaxAnswerBytes)", Attempts: 1},
		},
		"BrokenGzip": {
			answer: func(w http.ResponseWriter, _ *http.Request) {
				w.Header().Set("Content-Encoding", "gzip")
				_, _ = w.Write([]byte("{}"))
			},
			service: callout.Service{Attempts: 1},
			want:    parley.Called{Failure: parley.CallGaveUp, Reason: "gave up after 1 attempts: connection closed", Attempts: 1},
		},
	}
}

// TestOverSockets: what services do to a connection.
func TestOverSockets(t *testing.T) {
	t.Parallel()
	all := exchanges()
	maps.Copy(all, badAnswers())
	for name, s := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, c := serve(t, s.answer, s.service)
			w.call(conv("a"), order())
			c.Wake()
			s.want.Name, s.want.Service = "order", crm
			got := w.await(conv("a"))
			if name == "Redirect" {
				got.Body = nil
			}
			same(t, "answer", got, s.want)
		})
	}
}

// TestNobodyThere: what the bot hears names no address.
func TestNobodyThere(t *testing.T) {
	t.Parallel()
	for name, s := range map[string]struct{ url, cause string }{
		"Refused":   {"http://127.0.0.1:1/secret", "connection refused"},
		"NoAddress": {"https://nobody.invalid/secret", "its name can't be resolved"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := &world{t: t, store: memory.New(memory.Config{})}
			cfg := callout.Config{Calls: w.store, Services: []callout.Service{{Name: crm, URL: s.url, Attempts: 1}}}
			if name == "NoAddress" {
				cfg.Dial = func(context.Context, string, string) (net.Conn, error) {
					return nil, &net.DNSError{Name: "nobody.invalid", IsNotFound: true}
				}
			}
			c, err := callout.New(cfg)
			if err != nil {
				t.Fatal(err)
			}
			ctx, cancel := context.WithCancel(t.Context())
			done := make(chan error, 1)
			go func() { done <- c.Run(ctx) }()
			w.call(conv("a"), order())
			c.Wake()
			same(t, "reason", w.await(conv("a")).Reason, "gave up after 1 attempts: "+s.cause)
			cancel()
			if err := <-done; err != nil {
				t.Error(err)
			}
		})
	}
}

// TestUntrusted: a certificate that nobody vouches for.
func TestUntrusted(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewTLSServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	t.Cleanup(server.Close)
	server.Config.ErrorLog = nil
	for name, transport := range map[string]http.RoundTripper{"Own": nil, "Trusting": server.Client().Transport} {
		w := &world{t: t, store: memory.New(memory.Config{})}
		c, err := callout.New(callout.Config{Calls: w.store, Transport: transport, Services: []callout.Service{{Name: crm, URL: server.URL, Attempts: 1}}})
		if err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- c.Run(ctx) }()
		w.call(conv("a"), order())
		c.Wake()
		got := w.await(conv("a"))
		if trusts := name == "Trusting"; got.OK() != trusts || !trusts && got.Reason != "gave up after 1 attempts: its certificate is not valid" {
			t.Errorf("%s: %+v", name, got)
		}
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	}
	same(t, "asked", asked.Load(), int32(1))
}

func TestServiceValidate(t *testing.T) {
	t.Parallel()
	for problem, s := range map[string]callout.Service{
		"name":                 {URL: "https://a.example"},
		"want https://":        {Name: "s", URL: "ftp://a.example"},
		"can't be read":        {Name: "s", URL: "https://user:pass word@a"},
		"belong into a header": {Name: "s", URL: "https://user:secret@a.example"},
		"no query":             {Name: "s", URL: "https://a.example?x=1"},
		"loopback addresses":   {Name: "s", URL: "http://a.example"},
		"no name of a header":  {Name: "s", URL: "https://a.example", Headers: map[string]string{"a b": "secret"}},
		"by the request":       {Name: "s", URL: "https://a.example", Headers: map[string]string{"idempotency-key": "secret"}},
		"control character":    {Name: "s", URL: "https://a.example", Headers: map[string]string{"a": "secret\r\nb: c"}},
		"timeout":              {Name: "s", URL: "https://a.example", Timeout: time.Hour},
		"attempts":             {Name: "s", URL: "https://a.example", Attempts: -1},
		"within":               {Name: "s", URL: "https://a.example", Within: 48 * time.Hour},
		"concurrency":          {Name: "s", URL: "https://a.example", Concurrency: 1 << 20},
		"breaker failures":     {Name: "s", URL: "https://a.example", Failures: -1},
		"breaker open_for":     {Name: "s", URL: "https://a.example", OpenFor: time.Hour},
	} {
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), problem) || strings.Contains(err.Error(), "secret") {
			t.Errorf("%s: %v", problem, err)
		}
		if _, err := callout.New(callout.Config{Calls: memory.New(memory.Config{}), Services: []callout.Service{s}}); err == nil {
			t.Errorf("%s: a Caller was made", problem)
		}
	}
	for _, s := range []callout.Service{
		{Name: "s", URL: "http://127.0.0.1:80/x"},
		{Name: "s", URL: "http://[::1]"},
		{Name: "s", URL: "http://localhost:8"},
		{Name: "s", URL: "http://a.example", Insecure: true},
		{Name: "s", URL: "https://a.example/v1/", Headers: map[string]string{"X-Key": "é"}},
	} {
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", s.URL, err)
		}
	}
	two := []callout.Service{{Name: "s", URL: "https://a.example"}, {Name: "s", URL: "https://b.example"}}
	if _, err := callout.New(callout.Config{Calls: memory.New(memory.Config{}), Services: two}); err == nil {
		t.Error("two of one name")
	}
	if _, err := callout.New(callout.Config{}); err == nil {
		t.Error("without a store")
	}
}

func TestRetryAfterHeader(t *testing.T) {
	t.Parallel()
	for value, want := range map[string]time.Duration{
		"": 0, "7": 7 * time.Second, " 7 ": 7 * time.Second, "-3": 0, "99999999999999": 0, "999999999": parley.MaxCallWithin, "soon": 0,
		"Wed, 21 Oct 2026 07:28:30 GMT": 30 * time.Second, "Wed, 21 Oct 2026 07:27:00 GMT": 0,
	} {
		if value == "99999999999999" {
			want = parley.MaxCallWithin
		}
		if got := callout.RetryAfter(value, "Wed, 21 Oct 2026 07:28:00 GMT"); got != want {
			t.Errorf("%q: %s, want %s", value, got, want)
		}
	}
	if got := callout.RetryAfter("Wed, 21 Oct 2026 07:28:30 GMT", ""); got != 0 {
		t.Errorf("a date without a clock: %s", got)
	}
}

// FuzzTarget: whatever a bot makes of a path, the request goes to its service.
func FuzzTarget(f *testing.F) {
	for _, behind := range []string{"", "/orders/7?full=1", "?a=b", "@evil.example/", ".evil.example", ":1/", "/../admin", "/%2e%2e/admin", "/a%2f..%2f..", "//evil.example", `\evil`, "#", "/é"} {
		f.Add(behind)
	}
	f.Fuzz(func(t *testing.T, behind string) {
		got, err := callout.Target(callout.Service{Name: "s", URL: "https://crm.example/v1"}, behind)
		if err != nil {
			return
		}
		u, err := url.Parse(got)
		if err != nil || u.Scheme != "https" || u.Host != "crm.example" || u.User != nil || u.Path != "/v1" && !strings.HasPrefix(path.Clean(u.Path)+"/", "/v1/") {
			t.Fatalf("%q leads to %s: %v", behind, got, err)
		}
	})
}
