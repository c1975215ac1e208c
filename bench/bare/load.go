package bare

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/valyala/fasthttp"
)

const (
	rateMax     = 100_000   // requests per second: more is a typing error
	requestsMax = 5_000_000 // of one load; a latency is kept of each
)

// Post is one webhook to send.
type Post struct {
	Body      []byte
	Signature string // value of X-Hub-Signature-256
}

// LoadConfig says what to send where.
type LoadConfig struct {
	Addr string // host:port
	Path string // default /

	// Rate is how many requests per second are due; they are sent at their time
	// whether or not earlier ones were answered, as far as Connections go.
	Rate     float64
	Duration time.Duration

	Connections int           // kept alive; default 16
	Timeout     time.Duration // of one request; default 5 s

	// Post returns the k-th request, from 0. It is called concurrently. What it
	// returns is only read.
	Post func(k uint64) Post
}

func (c LoadConfig) resolve() (LoadConfig, error) {
	c.Path = cmp.Or(c.Path, "/")
	c.Connections = cmp.Or(c.Connections, 16)
	c.Timeout = cmp.Or(c.Timeout, 5*time.Second)
	switch requests := c.Rate * c.Duration.Seconds(); {
	case c.Addr == "" || c.Post == nil:
		return c, errors.New("load: want an address and what to post")
	case c.Rate <= 0 || c.Rate > rateMax:
		return c, fmt.Errorf("load: rate %v: want more than 0 and at most %d per second", c.Rate, rateMax)
	case requests < 1 || requests > requestsMax:
		return c, fmt.Errorf("load: %.0f requests: want 1 to %d", requests, requestsMax)
	case c.Connections < 1 || c.Timeout < 0:
		return c, errors.New("load: want a positive number of connections and a positive time-out")
	}
	return c, nil
}

// LoadResult is how it went.
type LoadResult struct {
	Offered  int           // requests that came due and were sent
	Accepted int           // answered 200
	Refused  int           // answered otherwise
	Failed   int           // not answered
	Elapsed  time.Duration // from the first one's time to the last answer
	LagMax   time.Duration // most that a request left after its time: the client fell behind

	// Latencies of the answered, from the time when a request was due, so that
	// a stall of the server counts for all that came due in it.
	P50, P99, Max time.Duration
}

// Load offers requests at a fixed rate until Duration is over or ctx ends, and
// waits for the answers.
func Load(ctx context.Context, cfg LoadConfig) (LoadResult, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return LoadResult{}, err
	}
	dialer := net.Dialer{Timeout: cfg.Timeout}
	l := load{
		LoadConfig: cfg,
		last:       uint64(cfg.Rate * cfg.Duration.Seconds()),
		client: &fasthttp.HostClient{
			Addr: cfg.Addr, MaxConns: cfg.Connections, NoDefaultUserAgentHeader: true,
			ReadTimeout: cfg.Timeout, WriteTimeout: cfg.Timeout, RetryIfErr: never,
			Dial: func(addr string) (net.Conn, error) { return dialer.DialContext(ctx, "tcp", addr) },
		},
	}
	defer l.client.CloseIdleConnections()
	l.start = time.Now()
	senders := make([]sender, cfg.Connections)
	var group sync.WaitGroup
	for i := range senders {
		group.Go(func() { senders[i].run(ctx, &l) })
	}
	group.Wait()
	return summary(senders, time.Since(l.start)), nil
}

// never keeps the client from sending a request again by itself: it is counted
// as what became of it.
func never(*fasthttp.Request, int, error) (resetTimeout, retry bool) { return false, false }

// load is what the senders share: the schedule, of which each takes the next
// request that nobody has taken.
type load struct {
	LoadConfig
	client *fasthttp.HostClient
	start  time.Time
	next   atomic.Uint64
	last   uint64
}

// sender is one connection's worth of requests, one after the other.
type sender struct {
	latencies               []time.Duration
	accepted, refused, fail int
	lagMax                  time.Duration
}

func (s *sender) run(ctx context.Context, l *load) {
	request, response := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(request)
	defer fasthttp.ReleaseResponse(response)
	request.Header.SetMethod(fasthttp.MethodPost)
	request.Header.SetContentType("application/json")
	request.SetRequestURI("http://" + l.Addr + l.Path)
	for ctx.Err() == nil {
		k := l.next.Add(1) - 1
		if k >= l.last {
			return
		}
		due := l.start.Add(time.Duration(float64(k) / l.Rate * float64(time.Second)))
		if !sleepUntil(ctx, due) {
			return
		}
		s.lagMax = max(s.lagMax, time.Since(due))
		post := l.Post(k)
		request.Header.Set(signatureHeader, post.Signature)
		request.SetBodyRaw(post.Body)
		s.note(l.client.DoTimeout(request, response, l.Timeout), response.StatusCode(), due)
	}
}

func (s *sender) note(err error, status int, due time.Time) {
	switch {
	case err != nil:
		s.fail++
		return
	case status == fasthttp.StatusOK:
		s.accepted++
	default:
		s.refused++
	}
	s.latencies = append(s.latencies, time.Since(due))
}

// sleepUntil reports false if ctx ended first.
func sleepUntil(ctx context.Context, due time.Time) bool {
	wait := time.Until(due)
	if wait <= 0 {
		return true
	}
	timer := time.NewTimer(wait)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}

func summary(senders []sender, elapsed time.Duration) LoadResult {
	r := LoadResult{Elapsed: elapsed}
	var all []time.Duration
	for i := range senders {
		s := &senders[i]
		r.Accepted, r.Refused, r.Failed = r.Accepted+s.accepted, r.Refused+s.refused, r.Failed+s.fail
		r.LagMax = max(r.LagMax, s.lagMax)
		all = append(all, s.latencies...)
	}
	r.Offered = r.Accepted + r.Refused + r.Failed
	if len(all) == 0 {
		return r
	}
	slices.Sort(all)
	at := func(q float64) time.Duration { return all[min(len(all)-1, int(q*float64(len(all))))] }
	r.P50, r.P99, r.Max = at(0.50), at(0.99), all[len(all)-1]
	return r
}
