package metatest

import (
	"context"
	"fmt"
	"net/url"
	"strconv"
	"time"

	"github.com/valyala/fasthttp"
)

// Handshake verifies the target's webhook address as Meta does when it is
// entered in the app's settings: a GET with the verify token, whose challenge
// must come back with status 200. The error says what came instead.
func (s *Simulator) Handshake(ctx context.Context) error {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	challenge := strconv.FormatUint(mix(s.cfg.Seed, uint64(time.Now().UnixNano()))>>32, 10)
	query := url.Values{
		"hub.mode": {"subscribe"}, "hub.challenge": {challenge}, "hub.verify_token": {s.cfg.VerifyToken},
	}
	target, _ := s.targets.Load().pick(time.Now())
	request.SetRequestURI(target + "/webhooks/" + s.cfg.App + "?" + query.Encode())
	deadline := time.Now().Add(s.timeout)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := s.client.DoDeadline(request, response, deadline); err != nil {
		return fmt.Errorf("webhook handshake: %w", err)
	}
	if code, body := response.StatusCode(), string(response.Body()); code != fasthttp.StatusOK || body != challenge {
		return fmt.Errorf("webhook handshake: status %d with %d bytes, want 200 with the challenge", code, len(body))
	}
	return nil
}
