// Package bare is the yardstick of the benchmarks: the least that a webhook
// server can do. It reads a POST, checks X-Hub-Signature-256 over the raw body,
// and answers 200; it decodes nothing and keeps nothing. Its CPU time per request
// is the unit in which the cost of everything else is told, so that a figure
// means the same on a fast machine and on a slow or busy one.
//
// [Child] is the server as a process of its own, so that its CPU time is only
// its own; [Measure] runs one and loads it; [Load] is the client, which the other
// benchmarks use too. The package imports nothing of ours.
package bare

import (
	"bufio"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"io"
	"net"
	"strings"

	"github.com/valyala/fasthttp"
)

const (
	signatureHeader = "X-Hub-Signature-256"
	signaturePrefix = "sha256="
	bodyBytesMax    = 4 << 20 // what Parley's own entrance takes
)

// Handler answers 200 to a POST whose body is signed with secret, 401 to one that
// isn't, 405 to other methods.
func Handler(secret []byte) fasthttp.RequestHandler {
	return func(ctx *fasthttp.RequestCtx) {
		switch {
		case !ctx.IsPost():
			ctx.SetStatusCode(fasthttp.StatusMethodNotAllowed)
		case !signed(secret, ctx.PostBody(), ctx.Request.Header.Peek(signatureHeader)):
			ctx.SetStatusCode(fasthttp.StatusUnauthorized)
		}
	}
}

// signed compares in constant time.
func signed(secret, body, header []byte) bool {
	if len(header) != len(signaturePrefix)+2*sha256.Size || string(header[:len(signaturePrefix)]) != signaturePrefix {
		return false
	}
	var got [sha256.Size]byte
	if _, err := hex.Decode(got[:], header[len(signaturePrefix):]); err != nil {
		return false
	}
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	var want [sha256.Size]byte
	return hmac.Equal(got[:], mac.Sum(want[:0]))
}

// Sign returns the value of the signature header for body.
func Sign(secret, body []byte) string {
	mac := hmac.New(sha256.New, secret)
	mac.Write(body)
	return signaturePrefix + hex.EncodeToString(mac.Sum(nil))
}

// Page is the id of the Page that the messages are written to.
const Page = "100200300400500"

// Message returns a text message as Messenger posts it, padded to the given
// number of bytes. The same n gives the same message, another n another user's.
func Message(n uint64, bytes int) []byte { return Messages(n, n, 1, bytes) }

// Messages returns one webhook with count messages: the n-th of all and the
// following, each from the next user. Each is padded so that alone it would make
// a webhook of the given number of bytes.
func Messages(user, n uint64, count, bytes int) []byte {
	const head, tail = `{"object":"page","entry":[{"id":"` + Page + `","time":1764000000000,"messaging":[`, `]}]}`
	updates := make([]string, count)
	for i := range updates {
		updates[i] = update(user+uint64(i), n+uint64(i), bytes-len(head)-len(tail))
	}
	return []byte(head + strings.Join(updates, ",") + tail)
}

// update is one message among those of a webhook.
func update(user, n uint64, bytes int) string {
	const form = `{"sender":{"id":"%d"},"recipient":{"id":"` + Page + `"},"timestamp":1764000000000,"message":{"mid":"m_%032x","text":"%s"}}`
	u := fmt.Sprintf(form, 7_000_000_000_000_000+user, n, "%s")
	pad := max(0, bytes-len(u)+len("%s"))
	return strings.Replace(u, "%s", strings.Repeat("x", pad), 1)
}

// Serve answers on ln until ln is closed.
func Serve(ln net.Listener, secret []byte) error {
	server := fasthttp.Server{Handler: Handler(secret), Name: "bare", MaxRequestBodySize: bodyBytesMax, NoDefaultDate: true}
	if err := server.Serve(ln); err != nil {
		return fmt.Errorf("serve: %w", err)
	}
	return nil
}

// Child is the body of a process that [Measure] starts: it listens on a port of
// the loopback, writes the address as one line to out, and serves until in ends,
// which it does when the parent closes it or dies. Secret is read from in, as its
// first line, so that it shows in no process list.
func Child(in io.Reader, out io.Writer) error {
	lines := bufio.NewReader(in)
	secret, err := lines.ReadString('\n')
	if err != nil {
		return fmt.Errorf("read secret: %w", err)
	}
	ln, err := net.Listen("tcp4", "127.0.0.1:0") //nolint:noctx // bound by the life of the process
	if err != nil {
		return fmt.Errorf("listen: %w", err)
	}
	served := make(chan error, 1)
	go func() { served <- Serve(ln, []byte(strings.TrimSuffix(secret, "\n"))) }()
	go func() {
		_, _ = io.Copy(io.Discard, lines) // whatever ends it, it is the end
		_ = ln.Close()
	}()
	if _, err := fmt.Fprintln(out, ln.Addr()); err != nil {
		return fmt.Errorf("tell the address: %w", err)
	}
	return <-served
}
