package console_test

import (
	"encoding/json"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"testing"

	"github.com/parleychat/parley/console"
)

// FuzzAPI sends any request to the admin API. Without the token nothing is done or told.
// With it there is an answer that can be read, which isn't a fault of the server's, and a
// dead letter's text is in none but that of the letter itself.
func FuzzAPI(f *testing.F) {
	for _, r := range [][3]string{
		{"GET", "/api/cluster/members"},
		{"GET", "/api/cluster/status"},
		{"GET", "/api/audit?since_seconds=3600"},
		{"GET", "/api/audit?since_seconds=-1"},
		{"GET", "/api/audit?since_seconds=1e9"},
		{"POST", "/api/audit/reopen", "{}"},
		{"GET", "/api/conversation?conversation=acme/messenger/1/user:7&history=5&from=18446744073709551615"},
		{"GET", "/api/cluster/where?conversation=acme/messenger/1/user:%FF"},
		{"GET", "/api/deadletters?brand=acme&kind=event&limit=500&order=oldest&until=2026-01-01T00:00:00Z"},
		{"GET", "/api/deadletters?cursor=1.0198c2f0-5d1a-7c3e-9b1f-2a6d4e8f0a11&channel=acme/messenger/1"},
		{"GET", "/api/deadletters?cursor=-9223372036854775808.0"},
		{"GET", "/api/deadletters/" + letterID(1).String()},
		{"DELETE", "/api/deadletters/" + letterID(2).String()},
		{"POST", "/api/deadletters/0198c2f0-5d1a-7c3e-9b1f-2a6d4e8f0a1g/retry"},
		{"DELETE", "/api/deadletters/%2e%2e"},
		{"POST", "/api/cluster/drain", `{"member":"node2-23"}`},
		{"POST", "/api/cluster/drain", `{"member":`},
		{"HEAD", "/api/openapi.json"},
		{"OPTIONS", "/api//cluster/status"},
	} {
		f.Add(r[0], r[1], r[2], "")
	}
	f.Add("GET", "/api/cluster/status", "", "X-Operator: somebody")
	f.Add("GET", "/api/cluster/status", "", "Accept: application/cbor")
	api := newOffice(f)
	f.Fuzz(func(t *testing.T, method, path, body, header string) {
		api.begin()
		r, ok := requestOf(method, path, body, header)
		if !ok {
			return
		}
		w := httptest.NewRecorder()
		api.ServeHTTP(w, r)
		if w.Code != http.StatusUnauthorized && !strings.HasPrefix(r.URL.Path, "/api/openapi.") || len(api.operator.drained)+len(api.letters.did) > 0 || api.books.reopened {
			t.Fatalf("%s %s without the token: %d, drained %q, did %q, reopened %v", method, r.URL, w.Code, api.operator.drained, api.letters.did, api.books.reopened)
		}
		r, _ = requestOf(method, path, body, header)
		r.Header.Set("Authorization", "Bearer "+token)
		w = httptest.NewRecorder()
		api.ServeHTTP(w, r)
		api.check(t, r, w)
	})
}

// office is an API and what stands behind it.
type office struct {
	http.Handler

	operator *operator
	letters  *archive
	books    *books
}

func newOffice(tb testing.TB) *office {
	tb.Helper()
	o := &office{operator: two(), letters: deceased(), books: &books{}}
	o.Handler = handler(tb, console.Config{
		Token: token, Operator: o.operator, Letters: o.letters, Conversations: two(), Audit: o.books, Logger: slog.New(slog.DiscardHandler),
	})
	return o
}

// begin forgets what was done.
func (o *office) begin() {
	*o.operator, *o.letters, *o.books = *two(), *deceased(), books{}
}

// requestOf is a request of the parts, if net/http would hand one on.
func requestOf(method, path, body, header string) (*http.Request, bool) {
	u, err := url.ParseRequestURI(path)
	if err != nil || !strings.HasPrefix(u.Path, "/api/") || strings.ContainsAny(method, " \r\n\t") || method == "" {
		return nil, false
	}
	r := &http.Request{
		Method: method, URL: u, Proto: "HTTP/1.1", ProtoMajor: 1, ProtoMinor: 1, Host: "console.example", RequestURI: path,
		Header: http.Header{}, Body: http.NoBody, ContentLength: int64(len(body)),
	}
	if body != "" {
		r.Body = readCloser{strings.NewReader(body)}
		r.Header.Set("Content-Type", "application/json")
	}
	if name, value, ok := strings.Cut(header, ": "); ok && !strings.EqualFold(name, "Authorization") {
		r.Header.Set(name, value)
	}
	return r, true
}

type readCloser struct{ *strings.Reader }

func (readCloser) Close() error { return nil }

// check holds an answer to what an operator's program relies on.
func (o *office) check(t *testing.T, r *http.Request, w *httptest.ResponseRecorder) {
	t.Helper()
	if w.Code < 200 || w.Code >= 500 {
		t.Fatalf("%s %s: %d %s", r.Method, r.URL, w.Code, w.Body)
	}
	kind := w.Header().Get("Content-Type")
	if b := w.Body.Bytes(); strings.Contains(kind, "json") && len(b) > 0 && !json.Valid(b) {
		t.Errorf("%s %s: %s that isn't: %s", r.Method, r.URL, kind, b)
	}
	whole := strings.HasPrefix(r.URL.Path, "/api/deadletters/") && r.Method == http.MethodGet
	if strings.Contains(w.Body.String(), secretText) && !whole && !strings.Contains(r.URL.String(), secretText) {
		t.Errorf("%s %s tells what was in a letter: %s", r.Method, r.URL, w.Body)
	}
}
