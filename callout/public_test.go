package callout_test

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
)

// TestPublicOnly: an address that isn't public is refused when it is known, and when a
// name leads to it.
func TestPublicOnly(t *testing.T) {
	t.Parallel()
	for _, host := range []string{
		"127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0", "224.0.0.1",
		"[::1]", "[fe80::1]", "[fd00::1]", "[::ffff:10.0.0.1]", "[64:ff9b::a00:1]", "[2002:a00:1::]",
	} {
		s := callout.Service{Name: "x", URL: "https://" + host, Public: true}
		if err := s.Validate(); err == nil || !strings.Contains(err.Error(), "public internet") {
			t.Errorf("%s: %v", host, err)
		}
	}
	for _, host := range []string{"8.8.8.8", "[2606:4700::1111]", "bots.example"} {
		s := callout.Service{Name: "x", URL: "https://" + host, Public: true}
		if err := s.Validate(); err != nil {
			t.Errorf("%s: %v", host, err)
		}
	}
}

// TestPrivateAddressIsNotDialled: a name that leads to this machine reaches nobody.
func TestPrivateAddressIsNotDialled(t *testing.T) {
	t.Parallel()
	var asked atomic.Int32
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { asked.Add(1) }))
	defer server.Close()
	s := callout.Service{Name: "x", URL: strings.Replace(server.URL, "127.0.0.1", "localhost", 1), Public: true, Timeout: 5 * time.Second}
	in := callout.Attempt(t.Context(), s, parley.OutgoingCall{Call: parley.Call{Body: []byte("{}")}})
	if in != "its address is not of the public internet" || asked.Load() != 0 {
		t.Errorf("%q, and %d requests arrived", in, asked.Load())
	}
	s.Public = false
	if in := callout.Attempt(t.Context(), s, parley.OutgoingCall{}); in != "" || asked.Load() != 1 {
		t.Errorf("a service that may be private: %q, %d requests", in, asked.Load())
	}
}

// TestSigned: a request is signed over its time and its body.
func TestSigned(t *testing.T) {
	t.Parallel()
	play(t, func(w *world) {
		c, stop := w.run(w.config(callout.Service{Name: crm, URL: "https://crm.example/v1", Secret: "s3cret"}))
		defer stop()
		pass(300 * time.Millisecond)
		w.call(conv("a"), order())
		c.Wake()
		pass(time.Millisecond)
		r := w.heard()[0]
		stamp := r.Header.Get(callout.TimestampHeader)
		w.same("signature", r.Header.Get(callout.SignatureHeader), callout.Sign("s3cret", stamp, []byte(r.body)))
		at, err := time.ParseDuration(stamp + "s")
		if err != nil || time.Since(time.Unix(0, 0).Add(at)) > 2*time.Second {
			w.t.Errorf("the timestamp %s: %v", stamp, err)
		}
	})
	// As anybody computes it: echo -n '1700000000.{"a":1}' | openssl dgst -sha256 -hmac key
	same(t, "signature", callout.Sign("key", "1700000000", []byte(`{"a":1}`)), "sha256=a438e398bfafc57e4396bb7fc2304422f0f768e965d073ca313cb52e22e6ad03")
}
