package metatest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	carrierWorkers = 8
	carrierTimeout = 5 * time.Second // Meta's patience with a POST
)

// Carrier is [Phones] on real sockets, by a clock that can be put forward. Its methods
// may be called from any goroutine.
type Carrier struct {
	listener net.Listener
	client   *fasthttp.Client
	target   atomic.Pointer[string]
	news     chan struct{} // something is due, or has changed

	mu     sync.Mutex // guards what follows
	phones *Phones
	offset time.Duration
	tell   func() // that something has changed
}

// NewCarrier opens the socket of the Graph API on the loopback interface, which is
// served from [Carrier.Run] on. Who does not call Run must call [Carrier.Close]. Phones
// belongs to the carrier from now on. tell is called when something has changed on a
// phone, and must return at once.
func NewCarrier(phones *Phones, offset time.Duration, tell func()) (*Carrier, error) {
	listener, err := new(net.ListenConfig).Listen(context.Background(), "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for the graph api: %w", err)
	}
	return &Carrier{
		listener: listener, news: make(chan struct{}, 1), phones: phones, offset: offset, tell: tell,
		client: &fasthttp.Client{Name: "facebookexternalua", MaxConnsPerHost: carrierWorkers, MaxIdemponentCallAttempts: 1, DisablePathNormalizing: true},
	}, nil
}

// Close closes the socket of the Graph API. It is harmless after Run.
func (c *Carrier) Close() error {
	if err := c.listener.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
		return fmt.Errorf("close the graph api: %w", err)
	}
	return nil
}

// GraphURL is the base address of the Graph API, without a version.
func (c *Carrier) GraphURL() string { return "http://" + c.listener.Addr().String() }

// SetTarget says to which address webhooks go from now on, with its path; empty: none
// is reached.
func (c *Carrier) SetTarget(url string) { c.target.Store(&url) }

// Now is the time on the phones.
func (c *Carrier) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now()
}

func (c *Carrier) now() time.Time { return time.Now().Add(c.offset) }

// Shift puts the clock to an offset from the system's.
func (c *Carrier) Shift(offset time.Duration) {
	c.mu.Lock()
	c.offset = offset
	c.mu.Unlock()
	c.wake()
}

// Use calls do with the phones and the time, and nobody else meanwhile.
func (c *Carrier) Use(do func(p *Phones, now time.Time) error) error {
	c.mu.Lock()
	err := do(c.phones, c.now())
	c.mu.Unlock()
	c.wake()
	return err
}

// See is Use for those who only look.
func (c *Carrier) See(look func(p *Phones, now time.Time) error) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return look(c.phones, c.now())
}

func (c *Carrier) wake() {
	select {
	case c.news <- struct{}{}:
	default:
	}
	c.tell()
}

// Run serves the Graph API and posts webhooks until ctx ends.
func (c *Carrier) Run(ctx context.Context) error {
	server := graphServer(c.serveGraph)
	served := make(chan error, 1)
	go func() { served <- server.Serve(c.listener) }()
	c.play(ctx)
	c.client.CloseIdleConnections()
	end, cancel := context.WithTimeout(context.WithoutCancel(ctx), farewell)
	defer cancel()
	if err := server.ShutdownWithContext(end); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("shut the graph api: %w", err)
	}
	if err := <-served; err != nil {
		return fmt.Errorf("serve the graph api: %w", err)
	}
	return nil
}

func (c *Carrier) serveGraph(ctx *fasthttp.RequestCtx) {
	req := graphRequest(ctx)
	c.mu.Lock()
	answer := c.phones.Graph(req, c.now())
	c.mu.Unlock()
	c.wake()
	writeAnswer(ctx, answer)
}

// play posts what is due.
func (c *Carrier) play(ctx context.Context) {
	work := make(chan TrialPost, carrierWorkers)
	var workers sync.WaitGroup
	for range carrierWorkers {
		workers.Go(func() { deliver(ctx, work, c.post) })
	}
	defer workers.Wait()
	defer close(work)
	rest := time.NewTimer(0)
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news:
		case <-rest.C:
		}
		posts, wait := c.due()
		for _, p := range posts {
			work <- p
		}
		rest.Reset(wait)
	}
}

// due is what is to be posted now, and how long until there may be more.
func (c *Carrier) due() ([]TrialPost, time.Duration) {
	const idle = time.Minute
	c.mu.Lock()
	defer c.mu.Unlock()
	posts := c.phones.Due(c.now())
	if next, ok := c.phones.NextDue(); ok {
		return posts, min(max(next.Sub(c.now()), tick), idle)
	}
	return posts, idle
}

func (c *Carrier) post(request *fasthttp.Request, response *fasthttp.Response, p TrialPost) {
	status := c.write(request, response, p)
	c.mu.Lock()
	c.phones.Posted(p.ID, status, c.now())
	c.mu.Unlock()
	c.wake()
}

func (c *Carrier) write(request *fasthttp.Request, response *fasthttp.Response, p TrialPost) int {
	target := c.target.Load()
	if target == nil || *target == "" {
		return Refused
	}
	request.Reset()
	response.Reset()
	request.SetRequestURI(*target)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	request.Header.Set(SignatureHeader, p.Signature)
	request.SetBodyRaw(p.Body)
	if err := c.client.DoTimeout(request, response, carrierTimeout); err != nil {
		return outcome(err)
	}
	return response.StatusCode()
}
