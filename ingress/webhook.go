package ingress

import (
	"bytes"
	"errors"
	"net"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

const webhooksPath = "/webhooks/"

// Handler is what the server answers requests with. It waits for the committer
// that Run runs: used without Run, a signed webhook waits for ever.
func (s *Server) Handler() fasthttp.RequestHandler { return s.handle }

func (s *Server) handle(ctx *fasthttp.RequestCtx) {
	a := s.route(ctx.Path())
	if a == nil {
		discard(ctx)
		s.finish(ctx, s.strangers, answerNotFound)
		return
	}
	switch {
	case ctx.IsPost():
		s.finish(ctx, a.metrics, s.post(ctx, a))
	case ctx.IsGet():
		s.finish(ctx, a.metrics, s.handshake(ctx, a))
	default:
		discard(ctx)
		s.finish(ctx, a.metrics, answerMethod)
	}
}

func (s *Server) finish(ctx *fasthttp.RequestCtx, m *appMetrics, a answer) {
	m.answers[a].Inc()
	a.write(ctx, s.retryAfter)
}

// route finds the app of /webhooks/{app}, nil if there is none.
func (s *Server) route(path []byte) *app {
	name, ok := bytes.CutPrefix(path, []byte(webhooksPath))
	if !ok {
		return nil
	}
	return s.apps[parley.App(name)]
}

func (s *Server) handshake(ctx *fasthttp.RequestCtx, a *app) answer {
	challenge, ok := a.challenge(ctx.QueryArgs())
	if !ok {
		return answerWrongToken
	}
	ctx.SetContentType("text/plain; charset=utf-8")
	ctx.Response.Header.Set(fasthttp.HeaderXContentTypeOptions, "nosniff")
	ctx.SetBodyString(challenge)
	return answerChallenge
}

// post takes a webhook. What needs no body is decided without it, so that
// nobody gets memory by a request that can't succeed.
func (s *Server) post(ctx *fasthttp.RequestCtx, a *app) answer {
	began := s.now()
	if ctx.Request.Header.ContentLength() > s.cfg.MaxBodyBytes {
		discard(ctx)
		return answerTooLarge
	}
	signature := ctx.Request.Header.Peek(meta.SignatureHeader)
	if len(signature) == 0 {
		discard(ctx)
		return answerUnsigned
	}
	r := s.acquire(a)
	result, ok := s.receive(ctx, r)
	if ok {
		result = s.accept(r, string(signature), began)
	}
	s.budget.give(r.held)
	r.held = 0
	if result != answerLate { // the committer may still read it
		s.release(r)
	}
	return result
}

// accept verifies and decodes what was received, and waits until it is durable.
func (s *Server) accept(r *request, signature string, began time.Time) answer {
	if a, ok := s.verify(r, signature); !ok {
		return a
	}
	s.decode(r, began)
	if r.arrivals.Empty() {
		return answerEmpty
	}
	a := s.await(r)
	if a == answerStored {
		r.app.metrics.stored(&r.arrivals, &r.causes)
		s.metrics.ack.Observe(s.now().Sub(began).Seconds())
	}
	return a
}

// await hands r to the committer and waits for its answer.
func (s *Server) await(r *request) answer {
	select {
	case s.committer.queue <- r:
	default:
		return answerBusy
	}
	select {
	case a := <-r.done:
		return a
	case <-s.gone:
		return answerLate
	}
}

// failed answers what is not even a request.
func (s *Server) failed(ctx *fasthttp.RequestCtx, err error) {
	var header *fasthttp.ErrSmallBuffer
	var timeout net.Error
	a := answerMalformed
	switch {
	case errors.As(err, &header):
		a = answerHeaderLarge
	case errors.As(err, &timeout) && timeout.Timeout():
		a = answerSlow
	}
	s.finish(ctx, s.strangers, a)
}
