package metatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

// SimulatorConfig describes a run over real sockets.
type SimulatorConfig struct {
	Config
	Target  string        // where the node listens, as http://host:port; may be set later
	Grace   time.Duration // how long to wait for what is owed after Config.Duration; 30 s by default
	Workers int           // posts on their way at once, at most; 128 by default
	// Listen is where the Graph API listens; 127.0.0.1:0 by default.
	Listen string
}

// Defaults and limits of the shell.
const (
	graceDefault   = 30 * time.Second
	workersDefault = 128
	// tick bounds how long the poster sleeps: receipts and free slots do not
	// wake it, so they wait this long at most.
	tick = 2 * time.Millisecond
	// pause is how long it sleeps at least, so that posts that are due at about
	// the same time cost one turn of the loop.
	pause = 200 * time.Microsecond
	// overtime keeps World's patience longer than the client's, which is the one
	// that counts here.
	overtime = time.Second
	// farewell bounds how long the Graph API is waited for at the end.
	farewell = 2 * time.Second
)

// Simulator is a [World] on real sockets and by the wall clock. Its methods may
// be called from any goroutine.
type Simulator struct {
	cfg      SimulatorConfig
	timeout  time.Duration // of one post
	targets  atomic.Pointer[targets]
	listener net.Listener
	client   *fasthttp.Client

	mu    sync.Mutex // guards what follows
	world *World
	ends  time.Time // when the users have written all
}

// NewSimulator makes a simulator and opens the socket of its Graph API, which is
// served from [Simulator.Run] on. Who does not call Run must call
// [Simulator.Close].
func NewSimulator(cfg SimulatorConfig) (*Simulator, error) {
	cfg.Grace = cmp.Or(cfg.Grace, graceDefault)
	cfg.Workers = cmp.Or(max(cfg.Workers, 0), workersDefault)
	cfg.InFlight = cfg.Workers
	cfg.Config = cfg.resolved()
	s := &Simulator{cfg: cfg, timeout: cfg.PostTimeout}
	cfg.PostTimeout += overtime
	s.world = NewWorld(cfg.Config)
	s.client = &fasthttp.Client{
		Name: "facebookexternalua", NoDefaultUserAgentHeader: false,
		MaxConnsPerHost: cfg.Workers, MaxIdemponentCallAttempts: 1,
		MaxIdleConnDuration: time.Minute, DisablePathNormalizing: true,
	}
	s.SetTarget(cfg.Target)
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", cmp.Or(cfg.Listen, "127.0.0.1:0"))
	if err != nil {
		return nil, fmt.Errorf("listen for the graph api: %w", err)
	}
	s.listener = listener
	return s, nil
}

// Close closes the socket of the Graph API. It is harmless after Run.
func (s *Simulator) Close() error {
	if err := s.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the graph api: %w", err)
	}
	return nil
}

// GraphURL is the base address of the Graph API, without a version: what the
// node uses instead of https://graph.facebook.com.
func (s *Simulator) GraphURL() string { return "http://" + s.listener.Addr().String() }

// SetTarget says where nodes listen from now on, as http://host:port. Posts go to
// them in turn; as behind a load balancer, one that refuses connections or doesn't
// answer is left out for a while. Without any, or with an empty one, posts are
// refused, and sent again as Meta does.
func (s *Simulator) SetTarget(urls ...string) { s.targets.Store(newTargets(urls)) }

// Config is the configuration with its defaults filled in: the app's name,
// secret, verify token and numeric id are in it.
func (s *Simulator) Config() Config { return s.world.cfg }

// Channels are the channels that the node must be configured with.
func (s *Simulator) Channels() []Channel { return s.world.channels }

// People are the users who write in this run, in the order of their numbers.
func (s *Simulator) People() []Person { return s.world.People() }

// Killed says that the node was killed at that instant; to be called right
// after the signal was sent.
func (s *Simulator) Killed(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Killed(at)
}

// StoreDown says that the node's store was killed at that instant, and StoreUp
// that it works again: see [World.StoreDown].
func (s *Simulator) StoreDown(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.StoreDown(at)
}

// StoreUp ends what StoreDown began.
func (s *Simulator) StoreUp(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.StoreUp(at)
}

// StoreLost says that the node's store has lost what it was told between two
// instants: see [World.StoreLost].
func (s *Simulator) StoreLost(from, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.StoreLost(from, until)
}

// Spooled says that one of several nodes did not reach the store between two
// instants: see [World.Spooled].
func (s *Simulator) Spooled(from, until time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Spooled(from, until)
}

// Frozen says that the node was frozen at that instant, and Thawed that it goes
// on: see [World.Frozen].
func (s *Simulator) Frozen(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Frozen(at)
}

// Thawed ends what Frozen began.
func (s *Simulator) Thawed(at time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Thawed(at)
}

// Storm has each event delivered several times: see [World.Storm].
func (s *Simulator) Storm(copies int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Storm(copies)
}

// SetFaults changes what the Graph API does: see [World.SetFaults].
func (s *Simulator) SetFaults(f Faults) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.SetFaults(f)
}

// Viral lets one user write many messages: see [World.Viral].
func (s *Simulator) Viral(user, messages int, over time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Viral(time.Now(), user, messages, over)
}

// Alarm lets many users be reminded within one second: see [World.Alarm].
func (s *Simulator) Alarm(first, users int, over time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.world.Alarm(time.Now(), first, users, over)
}

// Finish lets the users write no more, long before Config.Duration is over: Run
// waits for what is owed by now, and returns.
func (s *Simulator) Finish() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.ends = time.Now()
	s.world.Finish(s.ends)
}

// Farewell says that the last fault is over: see [World.Farewell]. Run waits for what is
// owed, and returns.
func (s *Simulator) Farewell(within time.Duration) {
	s.mu.Lock()
	defer s.mu.Unlock()
	now := time.Now()
	s.world.Farewell(now, within)
	s.ends = s.world.start.Add(time.Duration(s.world.parts))
}

// Recovery tells how a fault was got over: see [World.Recovery].
func (s *Simulator) Recovery(from, until time.Time) Recovery {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.Recovery(from, until)
}

// Waits tells how long users waited: see [World.Waits].
func (s *Simulator) Waits(at time.Time, within time.Duration, of func(Person) bool) []time.Duration {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.Waits(at, within, of)
}

// Delays are how long replies took.
func (s *Simulator) Delays() Millis {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.Delays()
}

// Progress is a snapshot for a live display.
func (s *Simulator) Progress() Progress {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.Progress()
}

// Verdict is the verdict as of now; final once Run has returned.
func (s *Simulator) Verdict() Verdict {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.world.Verdict()
}

// Run plays the whole schedule against the target, waits for what is owed, at
// most for the grace, and returns nil; the judgement is in [Simulator.Verdict].
// It returns early with ctx's error when ctx ends. It may be called once.
func (s *Simulator) Run(ctx context.Context) error {
	server := graphServer(s.serveGraph)
	serving := make(chan error, 1)
	go func() { serving <- server.Serve(s.listener) }()
	err := s.play(ctx)
	s.client.CloseIdleConnections()
	// The run may have been cancelled; the goodbye has its own bound.
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if shut := server.ShutdownWithContext(end); shut != nil && !errors.Is(shut, context.DeadlineExceeded) {
		err = errors.Join(err, fmt.Errorf("shut the graph api: %w", shut))
	}
	if served := <-serving; served != nil {
		err = errors.Join(err, fmt.Errorf("serve the graph api: %w", served))
	}
	return err
}

// play drives the world by the wall clock.
func (s *Simulator) play(ctx context.Context) error {
	work := make(chan Post, 2*s.cfg.Workers) // duplicates may exceed the slots
	var workers sync.WaitGroup
	for range s.cfg.Workers {
		workers.Go(func() { s.deliver(ctx, work) })
	}
	defer workers.Wait()
	defer close(work)
	s.mu.Lock()
	s.ends = time.Now().Add(s.cfg.Duration)
	s.mu.Unlock()
	for ; ; s.nap(ctx) {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("simulate: %w", err)
		}
		posts, over := s.due(time.Now())
		for _, p := range posts {
			work <- p
		}
		if over {
			return nil
		}
	}
}

// due returns what is to be posted, and whether the run is over.
func (s *Simulator) due(now time.Time) (posts []Post, over bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	posts, settled := s.world.Due(now), s.world.Settled(now)
	after := now.Sub(s.ends)
	if s.cfg.Farewell && !s.world.parted {
		return posts, false
	}
	return posts, after > 0 && (settled || after > s.cfg.Grace)
}

// nap sleeps until something may be due.
func (s *Simulator) nap(ctx context.Context) {
	s.mu.Lock()
	next, ok := s.world.NextDue()
	s.mu.Unlock()
	nap(ctx, next, ok)
}

// nap sleeps until next, if there is one, and never for long.
func nap(ctx context.Context, next time.Time, ok bool) {
	wait := tick
	if ok {
		wait = min(max(time.Until(next), pause), tick)
	}
	select {
	case <-ctx.Done():
	case <-time.After(wait):
	}
}
