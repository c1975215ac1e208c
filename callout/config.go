package callout

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// The defaults of a Service.
const (
	Timeout     = 10 * time.Second
	Attempts    = 5
	Within      = time.Minute
	Concurrency = 16
	// Failures is after how many failed attempts in a row a service is left alone for
	// OpenFor; each time that an attempt then fails again, for twice as long, up to
	// OpenMax.
	Failures = 10
	OpenFor  = 5 * time.Second
	OpenMax  = time.Minute
)

// The bounds of a Service's fields.
const (
	MaxTimeout     = 10 * time.Minute
	MaxAttempts    = 100
	MaxConcurrency = 1024
	MaxServices    = 256
)

// The defaults of a Caller.
const (
	// NodeInFlight is the number of calls that the node has claimed at once, over all
	// services. Each costs a goroutine, a connection and, at the end, an answer of up
	// to parley.MaxAnswerBytes.
	NodeInFlight = 256
	// Sweep is how often calls are looked for without a hint.
	Sweep = time.Second
	// Drain is how long Run goes on after its context is done, for the answers to
	// what is under way.
	Drain = 3 * time.Second
	// StoreTimeout bounds each call of the store.
	StoreTimeout = 5 * time.Second
)

// Service is where the calls of one name go. Zero fields take the constant of their
// name.
type Service struct {
	Name string
	// URL is what a call's path is put behind: https, or http to a loopback address.
	URL string
	// Insecure allows http to other addresses, too: what is said can be read and
	// changed on the way.
	Insecure bool
	// Headers go with each request. They may hold secrets; nothing tells them on.
	Headers map[string]string
	// Secret, if set, signs each request, see Sign.
	Secret string
	// Public refuses addresses that aren't of the public internet: loopback, private
	// networks, whatever is set aside. The address is looked at when it is dialled, so
	// that no name can lead elsewhere afterwards.
	Public bool

	Timeout     time.Duration // of one attempt
	Attempts    int           // after which it is given up
	Within      time.Duration // since the turn, unless the call says otherwise
	Concurrency int           // attempts at once, of one node
	Failures    int
	OpenFor     time.Duration
}

// Config is what a Caller needs. Zero fields take the constant of their name.
type Config struct {
	Calls    Calls
	Services []Service
	// Holder names this process among all that share the store, but for its own earlier
	// runs: what they had claimed is given back when Run begins. Optional: they end.
	Holder string
	// Deliverer hears of the answers. Optional: the sweep of the inbox finds them.
	Deliverer Deliverer
	// UnknownAfter is for how long calls of services that aren't among Services are
	// left to other nodes, which may know them, before they are answered with
	// parley.CallUnknown.
	UnknownAfter time.Duration

	NodeInFlight int
	Sweep        time.Duration
	Drain        time.Duration
	StoreTimeout time.Duration

	// Dial opens connections, but those of services that are Public. Default: a
	// net.Dialer's.
	Dial func(ctx context.Context, network, address string) (net.Conn, error)
	// Now is the wall clock, for signatures. Default: time.Now.
	Now func() time.Time
	// Transport, if set, makes the requests instead of a transport of each service's
	// own. It dials itself, whatever is Public.
	Transport http.RoundTripper
	// Clock is the time since some fixed moment, on a clock that never goes back.
	// Default: since the Caller was made.
	Clock func() time.Duration
	// Random is a number from 0 to below 1, for waits. Default: by chance.
	Random     func() float64
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: metrics are not registered
}

func (c Config) resolve() (Config, error) {
	if c.Calls == nil {
		return c, errors.New("callout: want a store of calls")
	}
	if c.NodeInFlight < 0 || c.Sweep < 0 || c.Drain < 0 || c.StoreTimeout < 0 || c.UnknownAfter < 0 {
		return c, errors.New("callout: want no negative times and numbers")
	}
	c.NodeInFlight = cmp.Or(c.NodeInFlight, NodeInFlight)
	c.Sweep = cmp.Or(c.Sweep, Sweep)
	c.Drain = cmp.Or(c.Drain, Drain)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, StoreTimeout)
	if c.Dial == nil {
		c.Dial = (&net.Dialer{Timeout: dialTimeout}).DialContext
	}
	if c.Clock == nil {
		began := time.Now()                                         //nolint:forbidigo // the clock's beginning
		c.Clock = func() time.Duration { return time.Since(began) } //nolint:forbidigo // as above
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the default
	}
	if c.Random == nil {
		c.Random = rand.Float64
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	err := c.checkServices()
	return c, err
}

func (c *Config) checkServices() error {
	if len(c.Services) > MaxServices {
		return fmt.Errorf("callout: %d services: at most %d (MaxServices)", len(c.Services), MaxServices)
	}
	seen := map[string]bool{}
	for i := range c.Services {
		s := &c.Services[i]
		if err := s.Validate(); err != nil {
			return fmt.Errorf("callout: service %q: %w", s.Name, err)
		}
		if seen[s.Name] {
			return fmt.Errorf("callout: service %q is there twice", s.Name)
		}
		seen[s.Name] = true
	}
	return nil
}

// Validate says all that is wrong with s. It repeats no header's value.
func (s *Service) Validate() error {
	var errs []error
	complain := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if s.Name == "" || len(s.Name) > parley.MaxNameBytes {
		complain("name: want 1 to %d bytes", parley.MaxNameBytes)
	}
	if _, err := s.base(); err != nil {
		complain("url: %w", err)
	}
	for name, value := range s.Headers {
		if err := checkHeader(name, value); err != nil {
			complain("headers: %w", err)
		}
	}
	within := func(what string, n, limit int64) {
		if n < 0 || n > limit {
			complain("%s: out of its bounds", what)
		}
	}
	within(fmt.Sprintf("timeout: %s: up to %s", s.Timeout, MaxTimeout), int64(s.Timeout), int64(MaxTimeout))
	within(fmt.Sprintf("attempts: %d: up to %d", s.Attempts, MaxAttempts), int64(s.Attempts), MaxAttempts)
	within(fmt.Sprintf("within: %s: up to %s", s.Within, parley.MaxCallWithin), int64(s.Within), int64(parley.MaxCallWithin))
	within(fmt.Sprintf("concurrency: %d: up to %d", s.Concurrency, MaxConcurrency), int64(s.Concurrency), MaxConcurrency)
	within(fmt.Sprintf("breaker failures: %d", s.Failures), int64(s.Failures), 1<<20)
	within(fmt.Sprintf("breaker open_for: %s: up to %s", s.OpenFor, OpenMax), int64(s.OpenFor), int64(OpenMax))
	return errors.Join(errs...)
}

// ours are headers that a service's can't replace.
func ours(name string) bool {
	switch http.CanonicalHeaderKey(name) {
	case "Host", "Content-Length", "Content-Type", "Transfer-Encoding", "Connection", keyHeader, SignatureHeader, TimestampHeader:
		return true
	}
	return false
}

func checkHeader(name, value string) error {
	token := func(r rune) bool {
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", r) && (r < '0' || r > '9') && (r < 'A' || r > 'Z') && (r < 'a' || r > 'z')
	}
	control := func(r rune) bool { return r < ' ' && r != '\t' || r == 0x7f }
	switch {
	case name == "" || strings.ContainsFunc(name, token):
		return fmt.Errorf("%q is no name of a header", name)
	case ours(name):
		return fmt.Errorf("%s is set by the request itself", name)
	case strings.ContainsFunc(value, control):
		return fmt.Errorf("the value of %s has a control character", name)
	}
	return nil
}

// base is the URL that paths are put behind.
func (s *Service) base() (*url.URL, error) {
	u, err := url.Parse(s.URL)
	if err != nil {
		return nil, errors.New("can't be read") // without it: it may hold a password
	}
	switch {
	case u.Scheme != "https" && u.Scheme != "http" || u.Host == "" || u.Opaque != "":
		return nil, errors.New("want https://host or https://host/path")
	case u.User != nil:
		return nil, errors.New("a name and a password belong into a header")
	case u.RawQuery != "" || u.Fragment != "" || u.ForceQuery:
		return nil, errors.New("want no query and no fragment: they belong into a call's path")
	case u.Scheme == "http" && !s.Insecure && !loopback(u.Hostname()):
		return nil, errors.New("http is for loopback addresses only, unless the service is marked as insecure")
	}
	if ip, err := netip.ParseAddr(u.Hostname()); s.Public && err == nil && !public(ip) {
		return nil, errPrivate
	}
	u.Path, u.RawPath = strings.TrimRight(u.Path, "/"), strings.TrimRight(u.RawPath, "/")
	return u, nil
}

func loopback(host string) bool {
	ip := net.ParseIP(host)
	return host == "localhost" || ip != nil && ip.IsLoopback()
}

func (s Service) withDefaults() Service {
	s.Timeout = cmp.Or(s.Timeout, Timeout)
	s.Attempts = cmp.Or(s.Attempts, Attempts)
	s.Within = cmp.Or(s.Within, Within)
	s.Concurrency = cmp.Or(s.Concurrency, Concurrency)
	s.Failures = cmp.Or(s.Failures, Failures)
	s.OpenFor = cmp.Or(s.OpenFor, OpenFor)
	return s
}
