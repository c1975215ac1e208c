package ingress_test

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"syscall"
	"testing"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// BenchmarkPost is a webhook of about 450 bytes through the handler and back,
// in process: "bare" does no more than verify its HMAC; "instant" has an inbox
// that costs next to nothing, "fsync" one that takes a millisecond. The
// difference is what the entrance costs. cpu-ns/op is the process's CPU time, of
// all cores, which other work on the machine disturbs less than the time.
func BenchmarkPost(b *testing.B) {
	body := waText(waNumber, "491512345678", "HBgNNDkxNTEyMzQ1Njc4FQIAEhggQUNC", "Hello there, I would like a large pizza, please")
	mac := hmac.New(sha256.New, []byte(secret))
	bare := func(ctx *fasthttp.RequestCtx) {
		mac.Reset()
		_, _ = mac.Write(ctx.PostBody())
		var sum [sha256.Size]byte
		var text [2 * sha256.Size]byte
		hex.Encode(text[:], mac.Sum(sum[:0]))
		if !hmac.Equal(text[:], ctx.Request.Header.Peek("X-Hub-Signature-256")[len("sha256="):]) {
			ctx.SetStatusCode(401)
		}
	}
	b.Run("bare", func(b *testing.B) { benchHandler(b, bare, body, 0) })
	for _, inbox := range []struct {
		name  string
		takes time.Duration
	}{{"instant", 0}, {"fsync", time.Millisecond}} {
		b.Run(inbox.name, func(b *testing.B) {
			g := start(b, func(c *ingress.Config) { c.Deliverer = nowhere{} })
			g.store.before = func(context.Context, parley.Arrivals) error {
				time.Sleep(inbox.takes)
				g.store.mu.Lock()
				defer g.store.mu.Unlock()
				g.store.rows, g.store.groups = g.store.rows[:0], g.store.groups[:0]
				return nil
			}
			benchHandler(b, g.server.Handler(), body, 64)
			b.ReportMetric(float64(b.N)/max(1, g.gauge(b, "parley_ingress_group_requests")), "requests/group")
		})
	}
}

type nowhere struct{}

func (nowhere) Deliver([]parley.Pending) {}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

func benchHandler(b *testing.B, handle fasthttp.RequestHandler, body []byte, parallelism int) {
	b.Helper()
	b.ReportAllocs()
	b.SetBytes(int64(len(body)))
	signature := sign(body, secret)
	work := func(next func() bool) {
		var ctx fasthttp.RequestCtx
		var req fasthttp.Request
		req.Header.SetMethod("POST")
		req.SetRequestURI("/webhooks/shop")
		req.Header.Set("X-Hub-Signature-256", signature)
		req.SetBody(body)
		ctx.Init(&req, nil, nil)
		for next() {
			ctx.Response.Reset()
			handle(&ctx)
			if ctx.Response.StatusCode() != 200 {
				b.Errorf("status %d", ctx.Response.StatusCode())
				return
			}
		}
	}
	began := cpu(b)
	defer func() { b.ReportMetric(float64(cpu(b)-began)/float64(b.N), "cpu-ns/op") }()
	if parallelism == 0 {
		work(b.Loop)
		return
	}
	b.SetParallelism(parallelism)
	b.RunParallel(func(pb *testing.PB) { work(pb.Next) })
}
