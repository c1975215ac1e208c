// Package ingress is the entrance: it takes Meta's webhooks, makes what they
// bring durable, and then says 200. Nothing else happens before the answer, and
// nothing else ever says 200 to an event.
//
// The way of a webhook: its app is found by the path, its signature verified
// over the raw bytes, its updates decoded, all in the goroutine of its
// connection. It then joins the queue of the committer, which appends all that
// has gathered in one group (see [Inbox]), answers, and passes the rows on to
// the actors (see [Deliverer]). What can't become an event is appended too, to
// the quarantine (see [Server.Learn] for the way out of it).
//
// Every resource that a request takes has a limit (see [Limits]), and whoever
// meets one is refused at once, with a status that makes Meta keep the event:
// 503 and Retry-After. Nobody waits for anything but the append of their own
// group.
//
// The package imports the root and meta; it speaks to stores and actors through
// the three interfaces of inbox.go. Everything is safe for concurrent use.
package ingress

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"

	"github.com/parleychat/parley"
)

// drainGrace is the time for connections and an append to end after they were
// broken off, once DrainTimeout has passed.
const drainGrace = time.Second

// writeBufferBytes holds any of our answers.
const writeBufferBytes = 1 << 10

// Server is the entrance. [New] makes one, Run runs it.
type Server struct {
	cfg        Config
	now        func() time.Time
	log        *slog.Logger
	warn       *throttle
	apps       map[parley.App]*app
	metrics    *metrics
	strangers  *appMetrics // of requests that name no app
	retryAfter string

	requests  sync.Pool
	budget    budget
	committer *committer
	http      *fasthttp.Server
	conns     connections

	started atomic.Bool
	gone    chan struct{} // closed when the committer has ended
}

// New makes a server from cfg and registers its metrics. It starts nothing: no
// goroutine runs and no port is open before Run.
func New(cfg Config) (*Server, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	s := &Server{
		cfg: cfg, now: cfg.Now, log: cfg.Logger, warn: newThrottle(cfg.Now),
		retryAfter: retryAfterSeconds(cfg.RetryAfter),
		apps:       make(map[parley.App]*app, len(cfg.Apps)),
		budget:     budget{limit: cfg.MaxHeldBytes},
		gone:       make(chan struct{}),
	}
	s.http = s.newHTTP()
	s.metrics = newMetrics(map[string]func() float64{
		gaugeQueue:   func() float64 { return float64(len(s.committer.queue)) },
		gaugeHeld:    func() float64 { return float64(s.budget.held.Load()) },
		gaugeConns:   func() float64 { return float64(s.conns.count()) },
		gaugeStalled: func() float64 { return indicator(s.Stalled()) },
	})
	s.committer = &committer{
		inbox: cfg.Inbox, deliverer: cfg.Deliverer, limits: cfg.Limits, sharing: cfg.Sharing, now: cfg.Now,
		metrics: s.metrics, log: cfg.Logger, warn: s.warn, queue: make(chan *request, cfg.MaxQueue),
	}
	s.strangers = s.metrics.forApp("")
	for _, a := range cfg.Apps {
		s.apps[a.Name] = newApp(a, s.metrics)
	}
	if err := s.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("ingress: %w", err)
	}
	return s, nil
}

func indicator(b bool) float64 {
	if b {
		return 1
	}
	return 0
}

func (s *Server) newHTTP() *fasthttp.Server {
	return &fasthttp.Server{
		Handler:      s.handle,
		ErrorHandler: s.failed,
		ConnState:    s.conns.note,
		Logger:       silent{}, // what strangers do wrong is counted, not written down

		StreamRequestBody:            true, // see receive
		DisablePreParseMultipartForm: true, // it would write bodies to disk
		MaxRequestBodySize:           s.cfg.MaxBodyBytes,
		ReadBufferSize:               s.cfg.MaxHeaderBytes,
		WriteBufferSize:              writeBufferBytes,
		Concurrency:                  s.cfg.MaxConns,
		ReadTimeout:                  s.cfg.ReadTimeout,
		IdleTimeout:                  s.cfg.IdleTimeout,
		WriteTimeout:                 s.cfg.WriteTimeout,

		CloseOnShutdown:       true,
		NoDefaultServerHeader: true,
		SecureErrorLogMessage: true,
	}
}

// silent is fasthttp's logger.
type silent struct{}

// Printf drops the line.
func (silent) Printf(string, ...any) {}

// Stalled reports whether an append is overdue, so that webhooks are refused.
// It is a matter for readiness.
func (s *Server) Stalled() bool { return s.committer.stalled.Load() }

// Run serves until ctx is cancelled. It then accepts no more connections,
// answers what is in flight, and returns nil, within DrainTimeout; what it can't
// finish by then it breaks off, unanswered or with 503, so that Meta sends it
// again. It returns an error if it can't listen, if the listener breaks, or if
// an append did not return although its context had ended. It can be called
// once.
func (s *Server) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("ingress: Run was called before")
	}
	ln, err := s.listen(ctx)
	if err != nil {
		close(s.gone)
		return fmt.Errorf("ingress: %w", err)
	}
	// Appends outlive ctx: what was in flight when it ended is still answered.
	appends, endAppends := context.WithCancel(context.WithoutCancel(ctx))
	defer endAppends()
	stop, served := make(chan struct{}), make(chan error, 1)
	go func() {
		defer close(s.gone)
		s.committer.run(appends, stop)
	}()
	go func() { served <- s.http.Serve(ln) }()

	select {
	case <-ctx.Done():
	case err = <-served:
		served <- err
	}
	_ = ln.Close() // also if Serve has not come to know it yet
	drained := s.drain(context.WithoutCancel(ctx), endAppends, stop)
	if err = <-served; err != nil {
		err = fmt.Errorf("accept: %w", err)
	}
	if err = errors.Join(err, drained); err != nil {
		return fmt.Errorf("ingress: %w", err)
	}
	return nil
}

func (s *Server) listen(ctx context.Context) (net.Listener, error) {
	if s.cfg.Listener != nil {
		return s.cfg.Listener, nil
	}
	ln, err := new(net.ListenConfig).Listen(ctx, "tcp", s.cfg.Addr)
	if err != nil {
		return nil, fmt.Errorf("listen: %w", err)
	}
	return ln, nil
}

// drain ends the server in the one order that loses nothing: connections first,
// which wait for the committer, then the committer.
func (s *Server) drain(ctx context.Context, endAppends context.CancelFunc, stop chan<- struct{}) error {
	soft, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout)
	defer cancel()
	hard, cancel := context.WithTimeout(ctx, s.cfg.DrainTimeout+drainGrace)
	defer cancel()
	if err := s.http.ShutdownWithContext(soft); err != nil && soft.Err() != nil {
		endAppends()
		s.conns.closeAll(hard)
	}
	close(stop)
	select {
	case <-s.gone:
		return nil
	case <-hard.Done():
		return errors.New("an append did not return")
	}
}

// connections are those that are open, to be closed when a drain takes too long.
type connections struct {
	mu     sync.Mutex
	open   map[net.Conn]struct{}
	closed chan struct{} // if set, is closed with the last of them
}

// note is fasthttp's hook. It is called twice per request, so the states in
// between must cost nothing.
func (c *connections) note(conn net.Conn, state fasthttp.ConnState) {
	switch state {
	case fasthttp.StateNew:
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.open == nil {
			c.open = make(map[net.Conn]struct{})
		}
		c.open[conn] = struct{}{}
	case fasthttp.StateClosed, fasthttp.StateHijacked:
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.open, conn)
		c.tellIfNone()
	case fasthttp.StateActive, fasthttp.StateIdle:
	}
}

func (c *connections) tellIfNone() {
	if c.closed != nil && len(c.open) == 0 {
		close(c.closed)
		c.closed = nil
	}
}

func (c *connections) count() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return len(c.open)
}

// closeAll closes all connections and waits for their handlers to end.
func (c *connections) closeAll(ctx context.Context) {
	closed := make(chan struct{})
	c.mu.Lock()
	c.closed = closed
	for conn := range c.open {
		_ = conn.Close() // it is being given up
	}
	c.tellIfNone()
	c.mu.Unlock()
	select {
	case <-closed:
	case <-ctx.Done():
	}
}
