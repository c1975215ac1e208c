package callout

import (
	"bytes"
	"cmp"
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io"
	"net"
	"net/http"
	"net/url"
	"path"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/parleychat/parley"
)

const (
	keyHeader      = "Idempotency-Key"
	dialTimeout    = 5 * time.Second
	idleTimeout    = 90 * time.Second
	maxHeaderBytes = 64 << 10
)

// reply is what came of one attempt.
type reply struct {
	status     int           // 0: there was no answer
	body       []byte        // one byte more than it may have says that there is more
	cause      string        // why there was none, in our words
	late       bool          // the cause is that time was up
	retryAfter time.Duration // that the service has asked for
}

// failed reports whether another attempt may go better.
func (r *reply) failed() bool {
	switch r.status {
	case 0, http.StatusRequestTimeout, http.StatusTooEarly, http.StatusTooManyRequests:
		return true
	}
	return r.status >= http.StatusInternalServerError
}

// newTransport makes the connections of one service.
func newTransport(s *Service, cfg *Config) *http.Transport {
	dial := cfg.Dial
	if s.Public {
		dial = dialPublic(&net.Dialer{Timeout: dialTimeout})
	}
	return &http.Transport{
		DialContext: dial, ForceAttemptHTTP2: true,
		TLSHandshakeTimeout: dialTimeout, IdleConnTimeout: idleTimeout,
		MaxIdleConns: s.Concurrency, MaxIdleConnsPerHost: s.Concurrency, MaxResponseHeaderBytes: maxHeaderBytes,
	}
}

// newRequest is the call as the service hears it.
func (s *service) newRequest(ctx context.Context, c *parley.OutgoingCall) (*http.Request, error) {
	target, err := s.target(c.Call.Path)
	if err != nil {
		return nil, err
	}
	var body io.Reader
	if len(c.Call.Body) > 0 {
		body = bytes.NewReader(c.Call.Body)
	}
	r, err := http.NewRequestWithContext(ctx, cmp.Or(c.Call.Method, http.MethodPost), target.String(), body)
	if err != nil {
		return nil, errPath // without what it says: it repeats the path
	}
	r.Header.Set("Accept", "application/json")
	r.Header.Set("User-Agent", "parley")
	proof := s.proof.Load()
	for name, value := range proof.headers {
		r.Header.Set(name, value)
	}
	if body != nil {
		r.Header.Set("Content-Type", "application/json")
	}
	r.Header.Set(keyHeader, c.ID.String())
	if proof.secret != "" {
		stamp := strconv.FormatInt(s.now().Unix(), 10)
		r.Header.Set(TimestampHeader, stamp)
		r.Header.Set(SignatureHeader, Sign(proof.secret, stamp, c.Call.Body))
	}
	return r, nil
}

var errPath = errors.New("the call's path can't be put behind the service's URL")

// target puts a path behind the service's URL. The root package has checked the path
// (parley.Call); whatever it says, the request goes to the service's host and below
// its path.
func (s *service) target(behind string) (*url.URL, error) {
	u, err := url.Parse(s.at.String() + behind)
	if err != nil {
		return nil, errPath
	}
	clean := path.Clean("/" + u.Path) // as a service might understand it
	below := u.Path == s.at.Path || strings.HasPrefix(u.Path, s.at.Path+"/") && strings.HasPrefix(clean+"/", s.at.Path+"/")
	if u.Scheme != s.at.Scheme || u.Host != s.at.Host || u.User != nil || !below {
		return nil, errPath
	}
	return u, nil
}

// attempt makes a call once, within its time.
func (s *service) attempt(ctx context.Context, c *parley.OutgoingCall, limit time.Duration) reply {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	r, err := s.newRequest(ctx, c)
	if err != nil {
		return reply{cause: err.Error()}
	}
	answer, err := s.transport.RoundTrip(r) // which follows no redirects
	if err != nil {
		return failure(err)
	}
	defer func() { _ = answer.Body.Close() }() // nothing more is wanted of it
	body, err := io.ReadAll(io.LimitReader(answer.Body, parley.MaxAnswerBytes+1))
	if err != nil {
		return failure(err)
	}
	return reply{status: answer.StatusCode, body: body, retryAfter: retryAfter(answer.Header.Get("Retry-After"), answer.Header.Get("Date"))}
}

// failure is an attempt without an answer, or with a part of one.
func failure(err error) reply {
	cause := causeOf(err)
	return reply{cause: cause, late: cause == noAnswer}
}

const noAnswer = "no answer in time"

// retryAfter is how long a service wants to be left alone: a number of seconds, or a
// date, which is taken by its own clock. 0 if it doesn't say, or has no clock.
func retryAfter(value, date string) time.Duration {
	if n, err := strconv.Atoi(strings.TrimSpace(value)); err == nil {
		return time.Duration(min(max(n, 0), int(parley.MaxCallWithin/time.Second))) * time.Second
	}
	until, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	now, err := http.ParseTime(date)
	if err != nil {
		return 0
	}
	return min(max(until.Sub(now), 0), parley.MaxCallWithin)
}

// causeOf is an error of the transport in words of ours: its own may repeat what
// belongs to others.
func causeOf(err error) string {
	var dns *net.DNSError
	var netErr net.Error
	var certificate *tls.CertificateVerificationError
	var authority x509.UnknownAuthorityError
	var hostname x509.HostnameError
	switch {
	case errors.Is(err, context.DeadlineExceeded), errors.As(err, &netErr) && netErr.Timeout():
		return noAnswer
	case errors.Is(err, context.Canceled):
		return "broken off"
	case errors.Is(err, errPrivate):
		return errPrivate.Error()
	case errors.As(err, &dns):
		return "its name can't be resolved"
	case errors.Is(err, syscall.ECONNREFUSED):
		return "connection refused"
	case errors.Is(err, syscall.ECONNRESET), errors.Is(err, syscall.EPIPE), errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF):
		return "connection closed"
	case errors.Is(err, syscall.EHOSTUNREACH), errors.Is(err, syscall.ENETUNREACH):
		return "no way there"
	case errors.As(err, &certificate), errors.As(err, &authority), errors.As(err, &hostname):
		return "its certificate is not valid"
	}
	return "the request failed"
}
