package callout

import (
	"context"
	"net"
	"time"

	"github.com/parleychat/parley"
)

// Attempt makes a call once, over a real connection, and is why that failed.
func Attempt(ctx context.Context, s Service, c parley.OutgoingCall) (cause string) {
	at, err := s.base()
	if err != nil {
		return err.Error()
	}
	one := &service{Service: s.withDefaults(), at: at, now: time.Now}
	cfg := Config{Dial: (&net.Dialer{}).DialContext}
	t := newTransport(&one.Service, &cfg)
	defer t.CloseIdleConnections()
	one.transport = t
	r := one.attempt(ctx, &c, one.Timeout)
	return r.cause
}

// Target is where a service's call of a path goes.
func Target(s Service, path string) (string, error) {
	at, err := s.base()
	if err != nil {
		return "", err
	}
	u, err := (&service{Service: s, at: at}).target(path)
	if err != nil {
		return "", err
	}
	return u.String(), nil
}

// RetryAfter reads a header.
func RetryAfter(value, date string) time.Duration { return retryAfter(value, date) }
