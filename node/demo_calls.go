package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"net/http"
	"sync"
	"time"
)

const (
	demoCaller  = "tally-calls" // the tally whose reminders are calls of demoService, every second one
	demoService = "clock"
	clockFaults = 0.05 // fraction of attempts that the clock refuses for a time, and of those whose answer it withholds
	// Of the service, as nodes are told: a reminder takes some seconds, and is never
	// given up while the demonstration waits for it.
	clockPlaces   = 256
	clockTimeout  = 20 * time.Second
	clockAttempts = 100
	clockMost     = 15 * time.Second // that it is asked to wait
	clockHead     = 5 * time.Second  // for a request's head
)

// callsReport is what the demonstration's service has met.
type callsReport struct {
	Made     int `json:"made"` // different calls
	Attempts int `json:"attempts"`
	Refused  int `json:"refused"`  // attempts, for a time
	Withheld int `json:"withheld"` // attempts whose time had come, and the answer was not given
	Answered int `json:"answered"` // attempts
	Repeated int `json:"repeated"` // attempts for calls that had been answered: the answer was lost, or the node
}

// demoClock is a service in the demonstration's own process: it answers a call when so
// many milliseconds have passed since it heard of it first. The bot rings by the answer,
// so that the simulator, which knows nothing of calls, judges whether each has had one
// result. It fails now and then.
type demoClock struct {
	server *http.Server
	url    string

	mu     sync.Mutex
	random *rand.Rand
	rings  map[string]time.Time // by Idempotency-Key
	told   map[string]bool      // those that were answered
	report callsReport
}

func (c *demoCommand) startClock(ctx context.Context) (*demoClock, error) {
	if !c.Calls {
		return nil, nil //nolint:nilnil // of nil there are no calls
	}
	var listen net.ListenConfig
	ln, err := listen.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return nil, fmt.Errorf("listen for calls: %w", err)
	}
	clock := &demoClock{
		url: "http://" + ln.Addr().String(), random: rand.New(rand.NewPCG(c.Seed, 5)),
		rings: map[string]time.Time{}, told: map[string]bool{},
	}
	clock.server = &http.Server{Handler: clock, ReadHeaderTimeout: clockHead}
	go func() { _ = clock.server.Serve(ln) }() // until close
	return clock, nil
}

// close ends the service; nil has none.
func (c *demoClock) close() error {
	if c == nil {
		return nil
	}
	return c.server.Close()
}

// services is what a node is told of it.
func (c *demoClock) services() []ServiceConfig {
	if c == nil {
		return nil
	}
	return []ServiceConfig{{
		Name: demoService, URL: c.url, Timeout: clockTimeout, Attempts: clockAttempts, Concurrency: clockPlaces,
		Within: time.Hour,
	}}
}

// counts is what it has met until now; nil if there is no service.
func (c *demoClock) counts() *callsReport {
	if c == nil {
		return nil
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	r := c.report
	return &r
}

// ServeHTTP is an attempt.
func (c *demoClock) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	var wait struct {
		MS int64 `json:"ms"`
	}
	key := r.Header.Get("Idempotency-Key")
	if err := json.NewDecoder(r.Body).Decode(&wait); err != nil || key == "" || wait.MS < 0 || wait.MS > clockMost.Milliseconds() {
		http.Error(w, "want a key, and milliseconds", http.StatusBadRequest)
		return
	}
	rings, refused, withheld := c.begin(key, time.Duration(wait.MS)*time.Millisecond)
	if refused {
		w.WriteHeader(http.StatusServiceUnavailable)
		return
	}
	select {
	case <-time.After(time.Until(rings)): //nolint:forbidigo // a service of its own, with real time
	case <-r.Context().Done():
		return
	}
	c.end(key, withheld)
	if withheld {
		panic(http.ErrAbortHandler) // which closes the connection
	}
	_, _ = w.Write([]byte("{}")) // who is gone asks again
}

func (c *demoClock) begin(key string, wait time.Duration) (rings time.Time, refused, withheld bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.report.Attempts++
	rings, known := c.rings[key]
	if !known {
		rings = time.Now().Add(wait) //nolint:forbidigo // as above
		c.rings[key] = rings
		c.report.Made++
	}
	if c.told[key] {
		c.report.Repeated++
	}
	x := c.random.Float64()
	if refused = x < clockFaults; refused {
		c.report.Refused++
	}
	return rings, refused, !refused && x < 2*clockFaults
}

func (c *demoClock) end(key string, withheld bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if withheld {
		c.report.Withheld++
		return
	}
	c.report.Answered++
	c.told[key] = true
}

func (r *callsReport) show(line func(name string, value any, note string)) {
	if r != nil {
		line("calls", r.Made, fmt.Sprintf("of a service, in %d attempts; it refused %d for the time being, withheld the answers of %d, and was asked %d times for what it had answered", r.Attempts, r.Refused, r.Withheld, r.Repeated))
	}
}

// validCalls looks at the flag for calls.
func (c *demoCommand) validCalls() error {
	switch {
	case !c.Calls:
		return nil
	case c.BotURL != "" || c.UpgradeBot:
		return errors.New("--calls is a bot of its own: it doesn't go with --bot-url or --upgrade-bot")
	case c.Partition > 0:
		return errors.New("--calls doesn't go with --partition: nodes in network namespaces of their own don't reach the service")
	}
	return nil
}
