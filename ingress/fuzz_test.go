package ingress_test

import (
	"bufio"
	"bytes"
	"context"
	"fmt"
	"io"
	"net"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// FuzzServer sends arbitrary bytes as a connection's input, with a rightly
// signed webhook of arbitrary body behind them. However it is answered: never
// 200 to a webhook whose content was not appended.
//
// Run it with -fuzzminimizetime 1x: the server's goroutines make the coverage
// differ from run to run, and the fuzzer would spend its time minimizing that.
func FuzzServer(f *testing.F) {
	whole := waText(waNumber, "4912", "1", "hi")
	head := "POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nContent-Length: 2\r\nX-Hub-Signature-256: sha256=" + strings.Repeat("0", 64) + "\r\n\r\n{}"
	f.Add([]byte(""), whole)
	f.Add([]byte(head), whole)
	f.Add([]byte("GET /webhooks/shop?hub.mode=subscribe&hub.challenge=1&hub.verify_token=x HTTP/1.1\r\nHost: x\r\n\r\n"), waBatch(3, 1, 5))
	f.Add([]byte("POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"), []byte("[]"))
	f.Add([]byte("POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\nx"), []byte(`{"object":"page","entry":[]}`))
	f.Add([]byte("HEAD /webhooks/shop HTTP/1.0\r\n\r\nPUT / HTTP/1.1\r\n"), []byte(`{"object":"user","entry":[{"id":1}]}`))

	var appended atomic.Int64
	g := start(f, loopback(f))
	g.store.before = func(_ context.Context, a parley.Arrivals) error {
		if !a.Empty() {
			appended.Add(1)
		}
		return nil
	}
	f.Fuzz(func(t *testing.T, noise, body []byte) {
		if bytes.Contains(noise, []byte(token)) {
			t.Skip("a handshake that succeeds")
		}
		before := appended.Load()
		accepted := int64(exchange(t, g, noise, body))
		if d, err := meta.Decode(body, meta.Options{Resolve: nobody}); err == nil && len(d.Events)+len(d.Receipts)+len(d.Quarantined) == 0 {
			accepted-- // there was nothing to store
		}
		if stored := appended.Load() - before; accepted > stored {
			t.Errorf("%d webhooks answered with 200, %d stored", accepted, stored)
		}
	})
}

func nobody(parley.ChannelKind, string) (parley.Channel, bool) { return parley.Channel{}, false }

// exchange writes noise and then the signed body, and counts the answers of 200.
func exchange(t *testing.T, g *rig, noise, body []byte) int {
	t.Helper()
	conn, err := g.dial()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if err := conn.SetDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	tcp, ok := conn.(*net.TCPConn)
	if !ok {
		t.Fatalf("a connection of type %T", conn)
	}
	request := fmt.Sprintf("POST /webhooks/shop HTTP/1.1\r\nHost: x\r\nX-Hub-Signature-256: %s\r\nContent-Length: %d\r\n\r\n", sign(body, secret), len(body))
	// The server may close as soon as it has seen enough.
	if _, err = conn.Write(append(append(noise, request...), body...)); err == nil {
		err = tcp.CloseWrite()
	}
	_ = err
	n := 0
	for r := bufio.NewReader(conn); ; {
		var res fasthttp.Response
		if err := res.Read(r); err != nil {
			_, _ = io.Copy(io.Discard, conn)
			return n
		}
		if res.StatusCode() == 200 {
			n++
		}
	}
}

// TestDecoderPanics: a body that the decoder can't survive is an error, and
// the error tells nothing of the panic's value.
func TestDecoderPanics(t *testing.T) {
	t.Parallel()
	g := start(t)
	err := g.server.DecodeWith(appName, waText(waNumber, "49", "1", "hi"), func(parley.ChannelKind, string) (parley.Channel, bool) {
		panic("a secret text")
	})
	if err == nil || strings.Contains(err.Error(), "secret text") {
		t.Errorf("decode: %v", err)
	}
}
