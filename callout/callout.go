// Package callout makes the calls that turns have decided (parley.Call): HTTP requests
// to services that the operator has configured.
//
// # The protocol
//
// A call is a row of the store. Each node that makes calls claims rows by themselves,
// for a lease, makes the request, and settles: the answer, or why there is none,
// becomes an event of the conversation in the transaction that removes the row; or the
// row is due again later. A claim that was lost settles nothing. So a call is made at
// least once, each time with the same Idempotency-Key, and its answer takes effect
// once, whichever nodes die in between. Nobody owns a service or a channel's calls:
// they have no order and no common limit, and a node that dies leaves nothing behind
// but leases.
//
// # What waits for what
//
// A claim is for a service, and services don't wait for each other: each has places of
// its own, and some of the node's are kept for it. A service that doesn't answer well
// is left alone for a while (its breaker is open). Its calls are put off until then,
// or until their own time is over, when they are given up: so the bot hears of it when
// it should, whatever the state of the service.
//
// Memory is bounded by places: one is held from the claim until what came of it is
// stored. While the store doesn't answer, nothing more is claimed once they are full.
//
// The package imports the root package only.
package callout

import (
	"context"
	"fmt"
	"log/slog"
	"math"
	"net/http"
	"net/url"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley"
)

const (
	// settleMargin is for how much longer than an attempt a call is claimed: so long
	// may it take to store what came of it.
	settleMargin = 10 * time.Second
	// settleMost is how many outcomes share a transaction.
	settleMost = 64
	// putOffMost is how many calls of a service that is left alone are put off at once.
	putOffMost = 64
	// unknownMost is how many calls of services that aren't configured are answered at
	// once.
	unknownMost = 64

	backoffFirst = 500 * time.Millisecond
	backoffMax   = 30 * time.Second
	storeRetry   = 200 * time.Millisecond
)

// Caller makes calls. It is safe for concurrent use.
type Caller struct {
	cfg      Config
	log      *slog.Logger
	metrics  *metrics
	services []*service // by their names' order in the configuration
	byName   map[string]*service
	unknown  *service // holds the places of calls that aren't for any of them
	news     chan struct{}
	endings  endings

	mu    sync.Mutex    // over the places and breakers of services
	woken bool          // there may be new calls
	freed bool          // there are places that something may wait for
	again time.Duration // when the next call is due that was put off since calls were looked for
}

// service is a Service at work.
type service struct {
	Service
	proof     atomic.Pointer[proof]
	at        *url.URL
	transport http.RoundTripper
	now       func() time.Time // by the wall
	breaker   breaker
	taken     int  // places
	making    int  // of these, for attempts under way
	starved   bool // there was no place when calls were looked for
}

// New makes a Caller. Run makes it call.
func New(cfg Config) (*Caller, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	c := &Caller{
		cfg: cfg, log: cfg.Logger, byName: map[string]*service{}, unknown: &service{}, again: never,
		news: make(chan struct{}, 1), endings: endings{news: make(chan struct{}, 1), ended: make(chan struct{})},
	}
	for _, s := range cfg.Services {
		one, err := newService(s, &cfg)
		if err != nil {
			return nil, err
		}
		c.services, c.byName[s.Name] = append(c.services, one), one
	}
	c.metrics = newMetrics(cfg.Registerer, c)
	return c, nil
}

func newService(s Service, cfg *Config) (*service, error) {
	at, err := s.base()
	if err != nil {
		return nil, err
	}
	one := &service{Service: s.withDefaults(), at: at, transport: cfg.Transport, now: cfg.Now}
	one.proof.Store(&proof{s.Headers, s.Secret})
	if one.transport == nil {
		one.transport = newTransport(&one.Service, cfg)
	}
	return one, nil
}

// proof is by what a service knows who calls. It is never changed, but replaced.
type proof struct {
	headers map[string]string
	secret  string
}

// Renew gives a service other headers and another secret, for the requests that begin
// from now on; the caller doesn't change the map any more. An error says what is wrong
// with them, without a value; then the service keeps what it has.
func (c *Caller) Renew(name string, headers map[string]string, secret string) error {
	s := c.byName[name]
	if s == nil {
		return fmt.Errorf("renew: no service %q", name)
	}
	next := s.Service
	next.Headers, next.Secret = headers, secret
	if err := next.Validate(); err != nil {
		return fmt.Errorf("renew service %q: %w", name, err)
	}
	s.proof.Store(&proof{headers, secret})
	return nil
}

// Wake tells that there may be calls to be made. It doesn't block.
func (c *Caller) Wake() {
	c.mu.Lock()
	c.woken = true
	c.mu.Unlock()
	c.signal()
}

func (c *Caller) signal() {
	select {
	case c.news <- struct{}{}:
	default:
	}
}

func (c *Caller) inFlight(s *service) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return s.taken
}

func (c *Caller) open(s *service) float64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.breaker.isOpen(c.cfg.Clock()) {
		return 1
	}
	return 0
}

// Run makes calls until ctx is done. It then claims nothing any more, waits up to
// Drain for what is under way, stores what came of it, gives the rest back, and
// returns nil.
func (c *Caller) Run(ctx context.Context) error {
	work, breakOff := context.WithCancel(context.WithoutCancel(ctx))
	defer breakOff()
	var attempts, settler sync.WaitGroup
	settler.Go(func() { c.settle(context.WithoutCancel(ctx)) })
	overdue := context.AfterFunc(ctx, func() { time.AfterFunc(c.cfg.Drain, breakOff) })
	defer overdue()
	c.yield(work)
	c.claim(ctx, work, &attempts)
	attempts.Wait()
	c.endings.close()
	settler.Wait()
	for _, s := range c.services {
		if t, ok := s.transport.(*http.Transport); ok && c.cfg.Transport == nil {
			t.CloseIdleConnections()
		}
	}
	return nil
}

// yield gives back what an earlier run had claimed.
func (c *Caller) yield(ctx context.Context) {
	if c.cfg.Holder == "" {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, c.cfg.StoreTimeout)
	defer cancel()
	if err := c.cfg.Calls.YieldCalls(ctx, c.cfg.Holder); err != nil {
		c.log.WarnContext(ctx, "store", "step", stepYield, "error", err)
	}
}

// never is when nothing is due.
const never = time.Duration(math.MaxInt64)

// claim claims calls and begins them, until ctx is done.
func (c *Caller) claim(ctx, work context.Context, attempts *sync.WaitGroup) {
	timer := time.NewTimer(0) //nolint:forbidigo // the one clock of this loop
	defer timer.Stop()
	sweep, due := c.cfg.Clock(), never
	for ctx.Err() == nil {
		now := c.cfg.Clock()
		woken, look := c.takeNews(now)
		sweeps := now >= sweep
		if sweeps {
			// At a multiple by the clock, as all of a node looks: see actors.UntilLook.
			sweep = (now + c.cfg.Sweep + c.cfg.Sweep/2).Truncate(c.cfg.Sweep)
		}
		if woken || look || sweeps || now >= due {
			due = c.claimOnce(ctx, work, attempts, sweeps || woken && c.cfg.UnknownAfter == 0)
			now = c.cfg.Clock()
		}
		timer.Reset(min(due, sweep, c.nextAgain()) - now)
		select {
		case <-ctx.Done():
		case <-timer.C:
		case <-c.news:
		}
	}
}

// takeNews reports whether new calls were heard of, and whether calls are to be looked
// for since a place is free or one is due that was put off.
func (c *Caller) takeNews(now time.Duration) (woken, look bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	woken, look = c.woken, c.freed
	c.woken, c.freed = false, false
	if now >= c.again {
		look, c.again = true, never
	}
	return woken, look
}

func (c *Caller) nextAgain() time.Duration {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.again
}

// claimOnce claims what there are places for, of services that aren't known, too, if
// all are meant; begins it; and returns when the next call is due that there may be a
// place for.
func (c *Caller) claimOnce(ctx, work context.Context, attempts *sync.WaitGroup, all bool) time.Duration {
	now := c.cfg.Clock()
	q, makes := c.take(now, all)
	q.Holder = c.cfg.Holder
	if len(q.Services) == 0 && q.Others.Limit == 0 {
		return never // until a place is free
	}
	// What was claimed when Run was told to end must be known, to be given back.
	limited, cancel := context.WithTimeout(work, c.cfg.StoreTimeout)
	defer cancel()
	claimed, wait, err := c.cfg.Calls.ClaimCalls(limited, q, c.cfg.Sweep)
	c.put(&q, makes, claimed)
	if err != nil {
		if ctx.Err() == nil {
			c.metrics.failures[stepClaim].Inc()
			c.log.WarnContext(ctx, "store", "step", stepClaim, "error", err)
		}
		return now + storeRetry
	}
	for i := range claimed {
		s := c.byName[claimed[i].Call.Service]
		c.begin(work, attempts, &task{call: &claimed[i], service: s, makes: makes[s], began: now})
	}
	return now + wait
}

// take takes the places of a query. makes are the services whose calls are to be
// made; those of others are to be put off.
func (c *Caller) take(now time.Duration, all bool) (q parley.CallQuery, makes map[*service]bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	makes = make(map[*service]bool, len(c.services))
	for _, s := range c.services {
		limit := putOffMost - (s.taken - s.making)
		if makes[s] = !s.breaker.isOpen(now); makes[s] {
			limit = c.places(s, now)
		}
		if limit <= 0 {
			s.starved = true
			continue
		}
		s.starved = false
		s.hold(limit, makes[s])
		q.Services = append(q.Services, parley.CallPlaces{Service: s.Name, Limit: limit, Lease: s.Timeout + settleMargin})
	}
	if n := unknownMost - c.unknown.taken; n > 0 && all {
		c.unknown.hold(n, false)
		q.Others, q.OthersAfter = parley.CallPlaces{Limit: n, Lease: settleMargin}, c.cfg.UnknownAfter
	}
	if q.Others.Limit > 0 { // whoever has no place is known all the same
		for _, s := range c.services {
			if s.starved {
				q.Services = append(q.Services, parley.CallPlaces{Service: s.Name})
			}
		}
	}
	return q, makes
}
