package callout_test

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
)

// FuzzRetryAfter: however a service asks to be left alone, it is for no less than no time,
// and for no longer than a call may take.
func FuzzRetryAfter(f *testing.F) {
	for _, s := range [][2]string{
		{"120", ""},
		{" 7 ", ""},
		{"-1", ""},
		{"99999999999999999999", ""},
		{"Wed, 21 Oct 2026 07:28:30 GMT", "Wed, 21 Oct 2026 07:28:00 GMT"},
		{"Fri, 31 Dec 9999 23:59:59 GMT", "Mon, 01 Jan 0001 00:00:00 GMT"},
		{"soon", "now"},
	} {
		f.Add(s[0], s[1])
	}
	f.Fuzz(func(t *testing.T, value, date string) {
		if wait := callout.RetryAfter(value, date); wait < 0 || wait > parley.MaxCallWithin {
			t.Errorf("%q at %q: %s", value, date, wait)
		}
	})
}

// FuzzAnswer has a service write anything in answer to a call. The attempt ends in an
// answer with a status, or in a cause of a fixed few words; it holds no more of it than an
// answer may have, and one byte; and what is a status means the same every time.
func FuzzAnswer(f *testing.F) {
	for _, raw := range []string{
		"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", "HTTP/1.1 204 No Content\r\n\r\n", "HTTP/1.0 200 OK\r\n\r\nzanzibar",
		"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\nX: y\r\n\r\n", "HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 302 Found\r\nLocation: http://zanzibar.example/\r\nContent-Length: 0\r\n\r\n", "HTTP/1.1 429 Slow\r\nRetry-After: 9999999999\r\nContent-Length: 0\r\n\r\n",
		"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 3\r\n\r\nabc", "HTTP/1.1 999 Zanzibar\r\nContent-Length: -1\r\n\r\n",
		"HTTP/1.1 101 Switching\r\nUpgrade: zanzibar\r\nConnection: upgrade\r\n\r\nx", "220 zanzibar ESMTP\r\n", "", "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\n{}",
		"HTTP/1.1 200 OK\r\nContent-Length: 70000\r\n\r\n" + strings.Repeat("x", 70000),
	} {
		f.Add([]byte(raw))
	}
	f.Fuzz(func(t *testing.T, raw []byte) {
		first, again := answered(t, raw), answered(t, raw)
		if first.Status != again.Status || first.Cause != again.Cause || len(first.Body) != len(again.Body) {
			t.Errorf("%d %q, and then %d %q", first.Status, first.Cause, again.Status, again.Cause)
		}
		switch {
		case (first.Status == 0) == (first.Cause == ""):
			t.Errorf("status %d with the cause %q", first.Status, first.Cause)
		case len(first.Body) > parley.MaxAnswerBytes+1:
			t.Errorf("%d bytes of an answer are held", len(first.Body))
		case first.RetryAfter < 0 || first.RetryAfter > parley.MaxCallWithin:
			t.Errorf("it is left alone for %s", first.RetryAfter)
		case first.Cause != "" && !knownCause(first.Cause):
			t.Errorf("a cause that isn't ours: %q", first.Cause)
		}
	})
}

func knownCause(cause string) bool {
	switch cause {
	case "no answer in time", "connection closed", "the request failed":
		return true
	}
	return false
}

// answered makes a call of a service that reads it, writes raw and hangs up.
func answered(t *testing.T, raw []byte) callout.Reply {
	t.Helper()
	dial := func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		go func() {
			defer func() { _ = theirs.Close() }()
			r, err := http.ReadRequest(bufio.NewReader(theirs))
			if err != nil {
				return
			}
			if _, err := io.Copy(io.Discard, r.Body); err == nil {
				_, _ = theirs.Write(raw) // it may have seen enough
			}
		}()
		return ours, nil
	}
	s := callout.Service{Name: "s", URL: "http://127.0.0.1/v1", Timeout: 5 * time.Second}
	r, err := callout.AttemptOver(t.Context(), dial, s, parley.OutgoingCall{Call: parley.Call{Name: "n", Service: "s", Body: []byte("{}")}})
	if err != nil && !errors.Is(err, context.Canceled) {
		t.Fatal(err)
	}
	return r
}
