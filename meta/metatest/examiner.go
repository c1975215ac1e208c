package metatest

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"strconv"
	"sync"
	"time"

	"github.com/valyala/fasthttp"
)

// ExaminerConfig describes a trial over real sockets.
type ExaminerConfig struct {
	TrialConfig
	Target string        // the receiver's webhook address, as http://host:port/path
	Listen string        // of the Graph API; 127.0.0.1:0 by default
	Page   string        // of the web page, on a loopback address; none if empty
	Grace  time.Duration // how long to wait for replies after Duration; ReplyWithin and 5 s by default
	Wait   time.Duration // how long the receiver may take to be there; 10 s by default
	// NoHandshake leaves the verification of the address out.
	NoHandshake bool
}

// graceMore is added to what users wait for a reply.
const graceMore = 5 * time.Second

// Examiner is a [Trial] on real sockets and by the wall clock. Its methods may be
// called from any goroutine.
type Examiner struct {
	cfg    ExaminerConfig
	client *fasthttp.Client
	graph  net.Listener
	page   net.Listener // nil = none

	mu      sync.Mutex // guards what follows
	trial   *Trial
	running bool
}

// NewExaminer makes an examiner and opens its sockets, which are served from
// [Examiner.Run] on. Who does not call Run must call [Examiner.Close].
func NewExaminer(cfg ExaminerConfig) (*Examiner, error) {
	if target, err := url.Parse(cfg.Target); err != nil || target.Host == "" || target.Scheme != "http" && target.Scheme != "https" {
		return nil, fmt.Errorf("target %q: want the address of the receiver's webhook, as http://host:port/path", cfg.Target)
	}
	trial, err := NewTrial(cfg.TrialConfig)
	if err != nil {
		return nil, err
	}
	cfg.TrialConfig = trial.Config()
	cfg.Grace = cmp.Or(cfg.Grace, cfg.ReplyWithin+graceMore)
	cfg.Wait = cmp.Or(cfg.Wait, 10*time.Second)
	e := &Examiner{cfg: cfg, trial: trial, client: &fasthttp.Client{
		Name: "facebookexternalua", MaxConnsPerHost: cfg.Workers + 1, MaxIdemponentCallAttempts: 1,
		MaxIdleConnDuration: time.Minute, DisablePathNormalizing: true,
	}}
	if e.graph, err = new(net.ListenConfig).Listen(context.Background(), "tcp", cmp.Or(cfg.Listen, "127.0.0.1:0")); err != nil {
		return nil, fmt.Errorf("listen for the graph api: %w", err)
	}
	if cfg.Page != "" {
		if e.page, err = listenOnLoopback(cfg.Page); err != nil {
			return nil, errors.Join(err, e.Close())
		}
	}
	return e, nil
}

// Close closes the sockets. It is harmless after Run.
func (e *Examiner) Close() error {
	var errs []error
	for _, l := range []net.Listener{e.graph, e.page} {
		if l == nil {
			continue
		}
		if err := l.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close a socket: %w", err))
		}
	}
	return errors.Join(errs...)
}

// GraphURL is the base address of the Graph API, without a version: what the receiver
// must use instead of https://graph.facebook.com.
func (e *Examiner) GraphURL() string { return "http://" + e.graph.Addr().String() }

// PageURL is the address of the web page; empty if there is none.
func (e *Examiner) PageURL() string {
	if e.page == nil {
		return ""
	}
	return "http://" + e.page.Addr().String() + "/"
}

// Config is the configuration with its defaults filled in.
func (e *Examiner) Config() ExaminerConfig { return e.cfg }

// Channels are the channels that the receiver serves.
func (e *Examiner) Channels() []Channel { return e.trial.Channels() }

// Report is the verdict as of now.
func (e *Examiner) Report() TrialReport {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trial.Report(time.Now())
}

// Run verifies the address, plays the trial until its duration is over or ctx ends, and
// waits for what is owed, at most for the grace. The verdict is in [Examiner.Report];
// the error says why there was no trial. It may be called once.
func (e *Examiner) Run(ctx context.Context) error {
	stop := e.serve()
	err := e.examine(ctx)
	e.client.CloseIdleConnections()
	return errors.Join(err, stop(context.WithoutCancel(ctx)))
}

func (e *Examiner) examine(ctx context.Context) error {
	if !e.cfg.NoHandshake {
		wrong, err := e.handshake(ctx)
		if err != nil {
			return err
		}
		e.mu.Lock()
		e.trial.Handshook(wrong)
		e.mu.Unlock()
	}
	e.setRunning(true)
	e.play(ctx)
	e.setRunning(false)
	return nil
}

func (e *Examiner) setRunning(running bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.running = running
}

// serve serves the sockets, until the function that it returns is called.
func (e *Examiner) serve() (stop func(context.Context) error) {
	servers := []*fasthttp.Server{graphServer(e.serveGraph)}
	listeners := []net.Listener{e.graph}
	if e.page != nil {
		servers, listeners = append(servers, e.pageServer()), append(listeners, e.page)
	}
	served := make(chan error, len(servers))
	for i, s := range servers {
		go func() { served <- s.Serve(listeners[i]) }()
	}
	return func(ctx context.Context) error {
		end, cancel := context.WithTimeout(ctx, farewell)
		defer cancel()
		var errs []error
		for _, s := range servers {
			if err := s.ShutdownWithContext(end); err != nil && !errors.Is(err, context.DeadlineExceeded) {
				errs = append(errs, fmt.Errorf("shut a server: %w", err))
			}
			if err := <-served; err != nil {
				errs = append(errs, fmt.Errorf("serve: %w", err))
			}
		}
		return errors.Join(errs...)
	}
}

func (e *Examiner) serveGraph(ctx *fasthttp.RequestCtx) {
	req := graphRequest(ctx)
	e.mu.Lock()
	answer := e.trial.Graph(req, time.Now())
	e.mu.Unlock()
	writeAnswer(ctx, answer)
}

// handshake verifies the address as Meta does, and with a wrong token as Meta doesn't.
// It returns what the receiver did wrong; the error says that there is none.
func (e *Examiner) handshake(ctx context.Context) (wrong string, err error) {
	challenge := strconv.FormatUint(mix(e.cfg.Seed, uint64(time.Now().UnixNano()))>>32, 10)
	status, body, err := e.greet(ctx, challenge, e.cfg.VerifyToken)
	for until := time.Now().Add(e.cfg.Wait); err != nil && time.Now().Before(until); {
		select {
		case <-ctx.Done():
			return "", fmt.Errorf("verify the address: %w", ctx.Err())
		case <-time.After(100 * time.Millisecond):
		}
		status, body, err = e.greet(ctx, challenge, e.cfg.VerifyToken)
	}
	switch {
	case err != nil:
		return "", fmt.Errorf("verify the address: nobody answers at %s: %w", e.cfg.Target, err)
	case status != fasthttp.StatusOK:
		return fmt.Sprintf("GET with the right verify token was answered %d, want 200", status), nil
	case body != challenge:
		return fmt.Sprintf("GET with the right verify token was answered with %d bytes that aren't the challenge alone", len(body)), nil
	}
	status, body, err = e.greet(ctx, challenge, e.cfg.VerifyToken+"-wrong")
	if err == nil && status == fasthttp.StatusOK {
		return fmt.Sprintf("GET with a wrong verify token was answered 200 with %d bytes, want 403", len(body)), nil
	}
	return "", nil
}

// greet writes the GET of the verification.
func (e *Examiner) greet(ctx context.Context, challenge, token string) (status int, body string, err error) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	target, err := url.Parse(e.cfg.Target)
	if err != nil {
		return 0, "", err
	}
	query := target.Query()
	query.Set("hub.mode", "subscribe")
	query.Set("hub.challenge", challenge)
	query.Set("hub.verify_token", token)
	target.RawQuery = query.Encode()
	request.SetRequestURI(target.String())
	deadline := time.Now().Add(e.cfg.Deadline)
	if d, ok := ctx.Deadline(); ok && d.Before(deadline) {
		deadline = d
	}
	if err := e.client.DoDeadline(request, response, deadline); err != nil {
		return 0, "", err
	}
	return response.StatusCode(), string(response.Body()), nil
}

// play drives the trial by the wall clock.
func (e *Examiner) play(ctx context.Context) {
	work := make(chan TrialPost, e.cfg.Workers)
	var workers sync.WaitGroup
	for range e.cfg.Workers {
		workers.Go(func() { e.deliver(ctx, work) })
	}
	defer workers.Wait()
	defer close(work)
	ends := time.Now().Add(e.cfg.Duration)
	for ctx.Err() == nil {
		now := time.Now()
		posts, settled := e.due(now)
		for _, p := range posts {
			work <- p
		}
		if after := now.Sub(ends); settled || after > e.cfg.Grace {
			return
		}
		e.nap(ctx)
	}
}

func (e *Examiner) due(now time.Time) ([]TrialPost, bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	return e.trial.Due(now), e.trial.Settled(now)
}

// nap sleeps until something may be due.
func (e *Examiner) nap(ctx context.Context) {
	e.mu.Lock()
	next, ok := e.trial.NextDue()
	e.mu.Unlock()
	nap(ctx, next, ok)
}

// deliver writes POSTs, one at a time, until there are no more.
func (e *Examiner) deliver(ctx context.Context, work <-chan TrialPost) {
	deliver(ctx, work, func(request *fasthttp.Request, response *fasthttp.Response, p TrialPost) {
		status := e.write(request, response, p)
		e.mu.Lock()
		defer e.mu.Unlock()
		e.trial.Posted(p.ID, status, time.Now())
	})
}

func (e *Examiner) write(request *fasthttp.Request, response *fasthttp.Response, p TrialPost) int {
	request.Reset()
	response.Reset()
	request.SetRequestURI(e.cfg.Target)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	if p.Signature != "" {
		request.Header.Set(SignatureHeader, p.Signature)
	}
	if p.Older != "" {
		request.Header.Set("X-Hub-Signature", p.Older)
	}
	request.SetBodyRaw(p.Body)
	if err := e.client.DoTimeout(request, response, e.cfg.Deadline); err != nil {
		return outcome(err)
	}
	return response.StatusCode()
}
