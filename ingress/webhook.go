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
	if b, ok := s.begin(ctx); ok {
		s.end(b, s.await(b.request))
	}
}

// begun is a webhook that waits until it is durable.
type begun struct {
	ctx     *fasthttp.RequestCtx
	request *request
	at      time.Time
}

// begin takes a request. False: it has its answer.
func (s *Server) begin(ctx *fasthttp.RequestCtx) (begun, bool) {
	a := s.route(ctx.Path())
	if a == nil {
		discard(ctx)
		s.finish(ctx, s.strangers, answerNotFound)
		return begun{}, false
	}
	switch {
	case ctx.IsPost():
		b, result, ok := s.post(ctx, a)
		if ok {
			return b, true
		}
		s.finish(ctx, a.metrics, result)
	case ctx.IsGet():
		s.finish(ctx, a.metrics, s.handshake(ctx, a))
	default:
		discard(ctx)
		s.finish(ctx, a.metrics, answerMethod)
	}
	return begun{}, false
}

// end answers a webhook that waited.
func (s *Server) end(b begun, a answer) {
	r, m := b.request, b.request.app.metrics
	if a == answerStored {
		m.stored(&r.arrivals, &r.causes)
		s.metrics.ack.Observe(s.now().Sub(b.at).Seconds())
	}
	s.dismiss(r, a)
	s.finish(b.ctx, m, a)
}

// dismiss lets go of a request that has its answer.
func (s *Server) dismiss(r *request, a answer) {
	s.budget.give(r.held)
	r.held = 0
	if a != answerLate { // the committer may still read it
		s.release(r)
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
// nobody gets memory by a request that can't succeed. False: it is not to be stored.
func (s *Server) post(ctx *fasthttp.RequestCtx, a *app) (begun, answer, bool) {
	at := s.now()
	if ctx.Request.Header.ContentLength() > s.cfg.MaxBodyBytes {
		discard(ctx)
		return begun{}, answerTooLarge, false
	}
	signature := ctx.Request.Header.Peek(meta.SignatureHeader)
	if len(signature) == 0 {
		discard(ctx)
		return begun{}, answerUnsigned, false
	}
	r := s.acquire(a)
	result, ok := s.receive(ctx, r)
	if ok {
		result, ok = s.accept(r, string(signature), at)
	}
	if !ok {
		s.dismiss(r, result)
	}
	return begun{ctx, r, at}, result, ok
}

// accept verifies and decodes what was received. False: it has its answer.
func (s *Server) accept(r *request, signature string, at time.Time) (answer, bool) {
	if a, ok := s.verify(r, signature); !ok {
		return a, false
	}
	s.decode(r, at)
	return answerEmpty, !r.arrivals.Empty()
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
