package metatest

import (
	"context"
	"errors"
	"net"
	"time"

	"github.com/valyala/fasthttp"
)

// deliver writes posts, one at a time, until there are no more or ctx ends.
func (s *Simulator) deliver(ctx context.Context, work <-chan Post) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	for p := range work {
		if ctx.Err() != nil {
			continue // drain, so that nobody waits for room
		}
		status := s.write(request, response, p)
		s.mu.Lock()
		s.world.Posted(p.ID, status, time.Now())
		s.mu.Unlock()
	}
}

// write posts one webhook and says what came of it.
func (s *Simulator) write(request *fasthttp.Request, response *fasthttp.Response, p Post) int {
	target := *s.target.Load()
	if target == "" {
		return Refused
	}
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

// outcome tells a connection that never came about from an answer that didn't.
func outcome(err error) int {
	var op *net.OpError
	if errors.Is(err, fasthttp.ErrDialTimeout) || errors.As(err, &op) && op.Op == "dial" {
		return Refused
	}
	return NoAnswer
}
