package ingress

import (
	"errors"
	"io"
	"net"
	"sync/atomic"

	"github.com/valyala/fasthttp"
)

const (
	// bodyGrowth is the factor by which a buffer grows while a body arrives: a
	// sender gets memory for what it has sent, not for what it announced.
	bodyGrowth = 4
	// lingerBytes is how much of a refused body is read and thrown away before
	// the answer. A connection that is closed with unread bytes is reset, and the
	// answer often lost with it. More than this is not worth the answer.
	lingerBytes = 2 * DefaultMaxBodyBytes
)

// budget is a semaphore by bytes. Nobody waits for it: a webhook that finds no
// room is refused, and Meta keeps it.
type budget struct {
	limit int64
	held  atomic.Int64
}

func (b *budget) take(n int64) bool {
	if b.held.Add(n) > b.limit {
		b.held.Add(-n)
		return false
	}
	return true
}

func (b *budget) give(n int64) { b.held.Add(-n) }

// receive reads the body into r.body, whole, and returns false with the answer
// if it can't. fasthttp streams bodies (it reads 8 KiB ahead), so that a request
// is judged by its header before its body takes memory.
func (s *Server) receive(ctx *fasthttp.RequestCtx, r *request) (answer, bool) {
	stream := ctx.RequestBodyStream()
	if stream == nil { // no body, or a caller that set it whole
		return s.receiveWhole(ctx.PostBody(), r)
	}
	announced := ctx.Request.Header.ContentLength()
	for {
		if len(r.body) == cap(r.body) && !s.grow(r, announced) {
			discard(ctx)
			return answerBusy, false
		}
		n, err := stream.Read(r.body[len(r.body):cap(r.body)])
		r.body = r.body[:len(r.body)+n]
		switch {
		case len(r.body) > s.cfg.MaxBodyBytes:
			discard(ctx)
			return answerTooLarge, false
		case errors.Is(err, io.EOF):
			return answerMalformed, announced < 0 || len(r.body) == announced
		case err != nil:
			return brokenOff(err), false
		}
	}
}

func (s *Server) receiveWhole(body []byte, r *request) (answer, bool) {
	if len(body) > s.cfg.MaxBodyBytes {
		return answerTooLarge, false
	}
	if n := int64(len(body)); n > SmallBodyBytes {
		if !s.budget.take(n) {
			return answerBusy, false
		}
		r.held = n
	}
	r.body = append(r.body, body...)
	return answerStored, true
}

// grow makes room for more of the body, if the budget has it.
func (s *Server) grow(r *request, announced int) bool {
	most := s.cfg.MaxBodyBytes + 1 // one more tells a body of the limit from a larger one
	if announced >= 0 {
		most = min(most, announced+1)
	}
	size := max(min(bodyGrowth*cap(r.body), most), len(r.body)+1)
	more := int64(size) - r.held
	if !s.budget.take(more) {
		return false
	}
	r.held += more
	grown := make([]byte, len(r.body), size)
	copy(grown, r.body)
	r.body = grown
	return true
}

func brokenOff(err error) answer {
	var timeout net.Error
	if errors.As(err, &timeout) && timeout.Timeout() {
		return answerSlow
	}
	return answerMalformed
}

// discard reads the rest of a refused body, if it is little enough. The
// deadline is that of the request.
func discard(ctx *fasthttp.RequestCtx) {
	stream := ctx.RequestBodyStream()
	if stream == nil || ctx.Request.Header.ContentLength() > lingerBytes {
		return
	}
	// The answer does not depend on how this ends.
	_, _ = io.CopyN(io.Discard, stream, lingerBytes)
}
