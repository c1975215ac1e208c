package callout

import (
	"context"
	"net"
	"net/http"
	"time"

	"github.com/parleychat/parley"
)

// Attempt makes a call once, over a real connection, and is why that failed.
func Attempt(ctx context.Context, s Service, c parley.OutgoingCall) (cause string) {
	r, err := AttemptOver(ctx, (&net.Dialer{}).DialContext, s, c)
	if err != nil {
		return err.Error()
	}
	return r.Cause
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

// DialPublic makes connections to public addresses only.
func DialPublic(d *net.Dialer) func(ctx context.Context, network, address string) (net.Conn, error) {
	return dialPublic(d)
}

// Reply is what came of one attempt.
type Reply struct {
	Status     int
	Body       []byte
	Cause      string
	RetryAfter time.Duration
}

// AttemptOver makes a call once, over connections of the caller's.
func AttemptOver(ctx context.Context, dial func(ctx context.Context, network, address string) (net.Conn, error), s Service, c parley.OutgoingCall) (Reply, error) {
	one, err := newService(s, &Config{Dial: dial, Now: time.Now})
	if err != nil {
		return Reply{}, err
	}
	defer one.transport.(*http.Transport).CloseIdleConnections() //nolint:errcheck,forcetypeassert // newService's
	r := one.attempt(ctx, &c, one.Timeout)
	return Reply{r.status, r.body, r.cause, r.retryAfter}, nil
}
