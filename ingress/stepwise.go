package ingress

import (
	"context"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley/meta"
)

// Stepwise drives a [Server] without Run: no socket, no goroutine, no time but the
// caller's. It is for a simulation, which decides what happens between two steps. What
// it does is what the handler and the committer do. It is used by one goroutine.
type Stepwise struct {
	server  *Server
	waiting []step
}

type step struct {
	begun

	answered func(status int)
}

// Stepwise is the server, to be driven by hand instead of by Run.
func (s *Server) Stepwise() *Stepwise { return &Stepwise{server: s} }

// Post hands a webhook in and reports whether it waits for Commit. If not, it was
// answered.
func (w *Stepwise) Post(path, signature string, body []byte, answered func(status int)) (waits bool) {
	ctx := &fasthttp.RequestCtx{}
	ctx.Request.Header.SetMethod(fasthttp.MethodPost)
	ctx.Request.SetRequestURI(path)
	ctx.Request.Header.Set(meta.SignatureHeader, signature)
	ctx.Request.SetBodyRaw(body)
	b, waits := w.server.begin(ctx)
	if waits {
		w.waiting = append(w.waiting, step{b, answered})
	} else {
		answered(ctx.Response.StatusCode())
	}
	return waits
}

// Commit makes what waits durable, as far as the inbox takes it, and answers it.
func (w *Stepwise) Commit(ctx context.Context) {
	waiting, c := w.waiting, w.server.committer
	w.waiting = nil
	for _, b := range waiting {
		select {
		case c.queue <- b.request:
		default:
			b.request.done <- answerBusy
		}
	}
	none := make(chan struct{})
	close(none)
	for first := c.first(none); first != nil; {
		var g *group
		g, first = c.gather(first)
		c.commit(ctx, g)
		if first == nil {
			first = c.first(none)
		}
	}
	for _, b := range waiting {
		w.server.end(b.begun, <-b.request.done)
		b.answered(b.ctx.Response.StatusCode())
	}
}

// Steps is Run, to be driven by hand: each call takes the next step of the drain and
// says how long to wait before the one after it, and whether appends wait for it
// meanwhile. Who drives it so makes no append then, on the same goroutine: it would
// wait for ever.
func (s *Spool) Steps() func(ctx context.Context) (pause time.Duration, held bool) {
	s.started.Store(true)
	d := &drain{spool: s, size: probeUpdates}
	return func(ctx context.Context) (time.Duration, bool) {
		pause := d.step(ctx)
		if pause < 0 { // there may be news at any time
			pause = min(-pause, s.cfg.Probe)
		}
		return pause, !d.heldSince.IsZero()
	}
}
