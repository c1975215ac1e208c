package metatest

import (
	"context"
	"errors"
	"net"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// deliver writes posts, one at a time, until there are no more or ctx ends.
func (s *Simulator) deliver(ctx context.Context, work <-chan Post) {
	deliver(ctx, work, func(request *fasthttp.Request, response *fasthttp.Response, p Post) {
		status := s.write(request, response, p)
		s.mu.Lock()
		defer s.mu.Unlock()
		s.world.Posted(p.ID, status, time.Now())
	})
}

// deliver hands on what there is to post, with a request and a response that are
// used again and again, until there is no more or ctx ends.
func deliver[P any](ctx context.Context, work <-chan P, post func(*fasthttp.Request, *fasthttp.Response, P)) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	for p := range work {
		if ctx.Err() != nil {
			continue // drain, so that nobody waits for room
		}
		post(request, response, p)
	}
}

// write posts one webhook and says what came of it. If one node refuses the
// connection the next is asked: nothing has been sent yet.
func (s *Simulator) write(request *fasthttp.Request, response *fasthttp.Response, p Post) (status int) {
	all := s.targets.Load()
	for range all.urls {
		target, i := all.pick(time.Now())
		if target == "" {
			return Refused
		}
		if status = s.writeTo(target, request, response, p); status == Refused || status == NoAnswer {
			all.shun(i, time.Now())
		}
		if status != Refused {
			return status
		}
	}
	return Refused
}

func (s *Simulator) writeTo(target string, request *fasthttp.Request, response *fasthttp.Response, p Post) int {
	request.Reset()
	response.Reset()
	request.SetRequestURI(target + p.Path)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	request.Header.Set(SignatureHeader, p.Signature)
	request.SetBodyRaw(p.Body)
	if err := s.client.DoTimeout(request, response, s.timeout); err != nil {
		return outcome(err)
	}
	return response.StatusCode()
}

// shunFor is how long a node is left out that didn't answer.
const shunFor = time.Second

// targets are the nodes that posts go to.
type targets struct {
	urls    []string
	next    atomic.Uint64
	shunned []atomic.Int64 // until when, in Unix nanoseconds
}

func newTargets(urls []string) *targets {
	return &targets{urls: urls, shunned: make([]atomic.Int64, len(urls))}
}

// pick is the next node in turn that isn't shunned; if all are, the next.
func (t *targets) pick(now time.Time) (url string, i int) {
	if len(t.urls) == 0 {
		return "", 0
	}
	n := uint64(len(t.urls))
	first := t.next.Add(1)
	for k := range n {
		i = int((first + k) % n)
		if t.shunned[i].Load() <= now.UnixNano() {
			return t.urls[i], i
		}
	}
	i = int(first % n)
	return t.urls[i], i
}

func (t *targets) shun(i int, now time.Time) { t.shunned[i].Store(now.Add(shunFor).UnixNano()) }

// outcome tells a connection that never came about from an answer that didn't.
func outcome(err error) int {
	var op *net.OpError
	if errors.Is(err, fasthttp.ErrDialTimeout) || errors.As(err, &op) && op.Op == "dial" {
		return Refused
	}
	return NoAnswer
}
