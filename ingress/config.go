package ingress

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// App is a Meta app that posts webhooks to /webhooks/{Name}.
type App struct {
	// Name is the last element of the path; not empty, no slash, no control
	// character.
	Name parley.App
	// MetaAppID is Meta's id of the app; by it, echoes of the app's own messages
	// are told from those of other apps. May be empty.
	MetaAppID string
	// Secrets are the app secrets that a signature may be made with; at least
	// one. Several during a rotation, or if Instagram signs with its own.
	Secrets []string
	// VerifyTokens are the tokens accepted by the handshake; without any, every
	// handshake is refused.
	VerifyTokens []string
	// Fallback, if set, is the channel that events of unknown objects go to.
	// Without it they are quarantined.
	Fallback parley.Channel
}

// Config is what a [Server] is made of. Zero limits take the defaults below.
type Config struct {
	// Listener takes the connections; if nil, Run listens on Addr (TCP).
	// TLS ends before it.
	Listener net.Listener
	Addr     string

	Apps       []App
	Inbox      Inbox
	Quarantine Quarantine
	Deliverer  Deliverer

	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: metrics are kept, not registered
	Now        func() time.Time      // default: the system's clock

	// Sharing is how many times as long Limits.Gather is, as nodes share the store and
	// the load: with at least their number, the store has no more appends to make for
	// many nodes than for one. Default: one.
	Sharing func() int

	Limits
}

// Limits bound what strangers, Meta and a slow store can make a server hold.
// A connection has at most one request in flight. What it holds is bounded by
// MaxConns times (MaxHeaderBytes + 2 × SmallBodyBytes), plus MaxHeldBytes for
// all larger bodies together, and some five times that for what they decode to.
type Limits struct {
	// MaxBodyBytes is the size of a webhook's body; above it: 413. Default 4 MB
	// (WhatsApp documents up to 3 MB).
	MaxBodyBytes int
	// MaxHeaderBytes is the size of a request's header; above it: 431. Default 8 KiB.
	MaxHeaderBytes int
	// MaxConns is the number of open connections; above it: 503 and closed.
	// Default 8192. There is no limit per address: Meta's requests come from few
	// addresses, or all from one proxy.
	MaxConns int
	// MaxHeldBytes bounds the bodies above SmallBodyBytes that are being
	// received or made durable; above it: 503. A body counts for what has
	// arrived of it, not for what its sender announces. Default 64 MiB.
	MaxHeldBytes int64
	// MaxQueue is the number of requests that wait for the append before theirs
	// to end; above it: 503. Default 4096.
	MaxQueue int
	// MaxGroupEvents and MaxGroupBytes bound what one append carries. A request
	// is not divided: one that is larger makes a group of its own. Defaults
	// 4096 and 8 MiB.
	MaxGroupEvents int
	MaxGroupBytes  int
	// Gather is the time between two beats: multiples of it by the clock, on each of
	// which one append begins, so that on a store that is faster than the webhooks come
	// they still share one. A webhook that comes alone waits for nobody. Default 5 ms;
	// negative: none.
	Gather time.Duration
	// ReadTimeout is the time for a whole request to arrive, from its first
	// byte, or from the connection's start. Default 10 s.
	ReadTimeout time.Duration
	// IdleTimeout is how long a connection may stay open between requests.
	// Default 2 min.
	IdleTimeout time.Duration
	// WriteTimeout is the time for an answer to leave. Default 5 s.
	WriteTimeout time.Duration
	// AppendTimeout is the time for one append; after it: 503. Default 5 s, which
	// is when Meta gives up waiting.
	AppendTimeout time.Duration
	// DrainTimeout is the time that Run takes, once cancelled, to finish what is
	// in flight. Default 5 s.
	DrainTimeout time.Duration
	// RetryAfter is what a 503 asks for; whole seconds, at least one. Default 2 s.
	RetryAfter time.Duration
}

// SmallBodyBytes is the size up to which a body is bounded by the number of
// connections alone, so that stalled uploads of large bodies can't keep the
// usual ones, of about 500 bytes, out.
const SmallBodyBytes = 8 << 10

// DefaultMaxBodyBytes is [Limits].MaxBodyBytes unless configured otherwise.
const DefaultMaxBodyBytes = 4 << 20

const (
	defaultMaxHeaderBytes = 8 << 10
	defaultMaxConns       = 8192
	defaultMaxHeldBytes   = 64 << 20
	defaultMaxQueue       = 4096
	defaultMaxGroupEvents = 4096
	defaultMaxGroupBytes  = 8 << 20
	defaultGather         = 5 * time.Millisecond
	defaultReadTimeout    = 10 * time.Second
	defaultIdleTimeout    = 2 * time.Minute
	defaultWriteTimeout   = 5 * time.Second
	defaultAppendTimeout  = 5 * time.Second
	defaultDrainTimeout   = 5 * time.Second
	defaultRetryAfter     = 2 * time.Second
)

func (c Config) withDefaults() Config {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if c.Sharing == nil {
		c.Sharing = func() int { return 1 }
	}
	c.Limits = c.Limits.withDefaults()
	return c
}

func (l Limits) withDefaults() Limits {
	l.MaxBodyBytes = cmp.Or(l.MaxBodyBytes, DefaultMaxBodyBytes)
	l.MaxHeaderBytes = cmp.Or(l.MaxHeaderBytes, defaultMaxHeaderBytes)
	l.MaxConns = cmp.Or(l.MaxConns, defaultMaxConns)
	l.MaxHeldBytes = cmp.Or(l.MaxHeldBytes, defaultMaxHeldBytes)
	l.MaxQueue = cmp.Or(l.MaxQueue, defaultMaxQueue)
	l.MaxGroupEvents = cmp.Or(l.MaxGroupEvents, defaultMaxGroupEvents)
	l.MaxGroupBytes = cmp.Or(l.MaxGroupBytes, defaultMaxGroupBytes)
	l.Gather = cmp.Or(l.Gather, defaultGather)
	l.ReadTimeout = cmp.Or(l.ReadTimeout, defaultReadTimeout)
	l.IdleTimeout = cmp.Or(l.IdleTimeout, defaultIdleTimeout)
	l.WriteTimeout = cmp.Or(l.WriteTimeout, defaultWriteTimeout)
	l.AppendTimeout = cmp.Or(l.AppendTimeout, defaultAppendTimeout)
	l.DrainTimeout = cmp.Or(l.DrainTimeout, defaultDrainTimeout)
	l.RetryAfter = cmp.Or(l.RetryAfter, defaultRetryAfter)
	return l
}

func (l Limits) validate() error {
	for _, n := range []struct {
		name  string
		value int64
	}{
		{"MaxBodyBytes", int64(l.MaxBodyBytes)},
		{"MaxHeaderBytes", int64(l.MaxHeaderBytes)},
		{"MaxConns", int64(l.MaxConns)},
		{"MaxHeldBytes", l.MaxHeldBytes},
		{"MaxQueue", int64(l.MaxQueue)},
		{"MaxGroupEvents", int64(l.MaxGroupEvents)},
		{"MaxGroupBytes", int64(l.MaxGroupBytes)},
		{"ReadTimeout", int64(l.ReadTimeout)},
		{"IdleTimeout", int64(l.IdleTimeout)},
		{"WriteTimeout", int64(l.WriteTimeout)},
		{"AppendTimeout", int64(l.AppendTimeout)},
		{"DrainTimeout", int64(l.DrainTimeout)},
		{"RetryAfter", int64(l.RetryAfter)},
	} {
		if n.value < 0 {
			return fmt.Errorf("%s %d: want more than 0", n.name, n.value)
		}
	}
	// A body that can never be held would be refused for ever.
	if l.MaxHeldBytes <= int64(l.MaxBodyBytes) {
		return fmt.Errorf("MaxHeldBytes %d: want more than MaxBodyBytes, %d", l.MaxHeldBytes, l.MaxBodyBytes)
	}
	return nil
}

func (c Config) validate() error {
	switch {
	case c.Listener == nil && c.Addr == "":
		return errors.New("neither Listener nor Addr is set")
	case c.Inbox == nil || c.Quarantine == nil || c.Deliverer == nil:
		return errors.New("one of Inbox, Quarantine and Deliverer is not set")
	case len(c.Apps) == 0:
		return errors.New("no apps")
	}
	if err := c.Limits.validate(); err != nil {
		return err
	}
	seen := make(map[parley.App]bool, len(c.Apps))
	for _, a := range c.Apps {
		if err := a.validate(); err != nil {
			return fmt.Errorf("app %q: %w", a.Name, err)
		}
		if seen[a.Name] {
			return fmt.Errorf("app %q: named twice", a.Name)
		}
		seen[a.Name] = true
	}
	return nil
}

// validate never puts a secret or a token into its error.
func (a App) validate() error {
	unfit := func(r rune) bool { return r == '/' || r <= ' ' || r >= 0x7f }
	switch {
	case a.Name == "" || strings.ContainsFunc(string(a.Name), unfit):
		return errors.New("want a name of printable ASCII without slashes or spaces")
	case len(a.Secrets) == 0:
		return errors.New("no secrets")
	}
	for i, s := range a.Secrets {
		if s == "" {
			return fmt.Errorf("secret %d is empty", i)
		}
	}
	for i, t := range a.VerifyTokens {
		if t == "" {
			return fmt.Errorf("verify token %d is empty", i)
		}
	}
	if a.Fallback != (parley.Channel{}) {
		if err := a.Fallback.Validate(); err != nil {
			return fmt.Errorf("fallback: %w", err)
		}
	}
	return nil
}
