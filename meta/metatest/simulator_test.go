package metatest_test

import (
	"context"
	"errors"
	"net"
	"os"
	"runtime/pprof"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/valyala/fasthttp"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/meta/metatest"
)

func TestMain(m *testing.M) {
	// fasthttp keeps one goroutine per process that ticks the date, and clients
	// that close idle connections in their own time.
	goleak.VerifyTestMain(m,
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.updateServerDate.func1"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*Client).mCleaner"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*workerPool).Start.func2"),
		goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*TCPDialer).tcpAddrsClean"),
	)
}

// node is a small bot behind real sockets: it acknowledges at once and answers
// each conversation from a goroutine of its own. State outlives a restart.
type node struct {
	sim      *metatest.Simulator
	client   *fasthttp.Client
	channels map[string]metatest.Channel
	server   *fasthttp.Server
	url      string
	served   chan error

	mu    sync.Mutex
	seen  map[string]bool
	inbox map[string]chan incoming
	wg    sync.WaitGroup
}

func newNode(sim *metatest.Simulator) *node {
	n := &node{
		sim: sim, client: &fasthttp.Client{MaxIdemponentCallAttempts: 1}, channels: map[string]metatest.Channel{},
		seen: map[string]bool{}, inbox: map[string]chan incoming{},
	}
	for _, c := range sim.Channels() {
		n.channels[c.ID] = c
	}
	return n
}

func (n *node) start(t *testing.T) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	n.server = &fasthttp.Server{Handler: n.handle, CloseOnShutdown: true}
	n.served, n.url = make(chan error, 1), "http://"+l.Addr().String()
	go func(s *fasthttp.Server, done chan error) {
		// So that a profile can tell the node's cost from the simulator's.
		pprof.Do(t.Context(), pprof.Labels("side", "node"), func(context.Context) { done <- s.Serve(l) })
	}(n.server, n.served)
}

func (n *node) stop(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 2*time.Second)
	defer cancel()
	if err := n.server.ShutdownWithContext(ctx); err != nil && !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if err := <-n.served; err != nil {
		t.Error(err)
	}
}

func (n *node) handle(ctx *fasthttp.RequestCtx) {
	cfg := n.sim.Config()
	if ctx.IsGet() {
		ctx.SetStatusCode(403)
		if string(ctx.QueryArgs().Peek("hub.verify_token")) == cfg.VerifyToken && string(ctx.QueryArgs().Peek("hub.mode")) == "subscribe" {
			ctx.SetStatusCode(200)
			ctx.SetBody(ctx.QueryArgs().Peek("hub.challenge"))
		}
		return
	}
	if string(ctx.Path()) != "/webhooks/"+cfg.App || string(ctx.Request.Header.Peek(metatest.SignatureHeader)) != signature(cfg.Secret, ctx.PostBody()) {
		ctx.SetStatusCode(401)
		return
	}
	messages, _, err := readWebhook(ctx.PostBody())
	if err != nil {
		ctx.SetStatusCode(400)
		return
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, in := range messages {
		if n.seen[in.mid] {
			continue
		}
		n.seen[in.mid] = true
		key := in.channel + "/" + in.user
		if n.inbox[key] == nil {
			inbox := make(chan incoming, 1000)
			n.inbox[key] = inbox
			n.wg.Go(func() { n.converse(inbox) })
		}
		n.inbox[key] <- in
	}
}

// converse answers one user. It ignores reminders: runs with it have none.
func (n *node) converse(inbox <-chan incoming) {
	count := 0
	for in := range inbox {
		_, k, _ := numbers(in.command)
		count++
		n.send(in, "said "+strconv.Itoa(k)+" #"+strconv.Itoa(count))
	}
}

func (n *node) send(in incoming, text string) {
	req, resp := fasthttp.AcquireRequest(), fasthttp.AcquireResponse()
	defer fasthttp.ReleaseRequest(req)
	defer fasthttp.ReleaseResponse(resp)
	c := n.channels[in.channel]
	for range 100 {
		req.SetRequestURI(n.sim.GraphURL() + "/v26.0/" + c.ID + "/messages")
		req.Header.SetMethod("POST")
		req.Header.Set("Authorization", "Bearer "+c.Token)
		req.SetBody(sendBody(c.Platform, in, text, ""))
		if err := n.client.DoTimeout(req, resp, 5*time.Second); err == nil && resp.StatusCode() == 200 {
			return
		}
		time.Sleep(20 * time.Millisecond)
	}
}

func (n *node) close(t *testing.T) {
	t.Helper()
	n.stop(t)
	n.mu.Lock()
	for _, c := range n.inbox {
		close(c)
	}
	n.mu.Unlock()
	n.wg.Wait()
	n.client.CloseIdleConnections()
}

func TestSimulatorOverRealSockets(t *testing.T) {
	t.Parallel()
	cfg := metatest.SimulatorConfig{Config: metatest.Sized(300, 100), Grace: 20 * time.Second}
	cfg.Seed, cfg.Duration, cfg.Timers, cfg.Duplicates = 3, 2*time.Second, 0, 0.2
	cfg.Faults = metatest.Faults{Transient: 0.02, Throttled: 0.02, Withheld: 0.02}
	sim, err := metatest.NewSimulator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(sim)
	ran := make(chan error, 1)
	go func() { ran <- sim.Run(t.Context()) }() // nobody listens yet: posts are refused, and sent again
	n.start(t)
	sim.SetTarget(n.url)
	waitFor(t, func() bool { return sim.Progress().Effects > 100 })
	sim.Killed(time.Now())
	n.stop(t)
	n.start(t)
	sim.SetTarget(n.url) // another port
	if err := <-ran; err != nil {
		t.Fatal(err)
	}
	n.close(t)
	v := sim.Verdict()
	if !v.Clean() || v.Offered != 600 || v.Effects != 600 || v.Kills != 1 {
		t.Errorf("offered %d, effects %d, kills %d, problems %q", v.Offered, v.Effects, v.Kills, v.Problems())
	}
	if v.Faults.Withheld == 0 || v.SendsRepeated < v.Faults.Withheld || v.Receipts == 0 || v.Duplicates == 0 {
		t.Errorf("withheld %d, repeated %d, receipts %d, duplicates %d", v.Faults.Withheld, v.SendsRepeated, v.Receipts, v.Duplicates)
	}
	if v.AckMS.Max <= 0 || v.AckMS.P50 > v.AckMS.P99 || v.AckMS.P99 > v.AckMS.Max {
		t.Errorf("ack latency %+v", v.AckMS)
	}
	if err := sim.Close(); err != nil {
		t.Error(err)
	}
}

func TestHandshake(t *testing.T) {
	t.Parallel()
	right, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: metatest.Sized(10, 10)})
	if err != nil {
		t.Fatal(err)
	}
	cfg := metatest.SimulatorConfig{Config: metatest.Sized(10, 10)}
	cfg.VerifyToken = "another"
	wrong, err := metatest.NewSimulator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(right)
	n.start(t)
	right.SetTarget(n.url)
	wrong.SetTarget(n.url)
	if err := right.Handshake(t.Context()); err != nil {
		t.Errorf("right token: %v", err)
	}
	if err := wrong.Handshake(t.Context()); err == nil {
		t.Error("wrong token: no error")
	}
	n.close(t)
	for _, s := range []*metatest.Simulator{right, wrong} {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
}

func waitFor(t *testing.T, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(20 * time.Second); !done(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("waited too long")
		}
	}
}

func TestSimulatorWithoutANode(t *testing.T) {
	t.Parallel()
	cfg := metatest.SimulatorConfig{Config: metatest.Sized(50, 10), Grace: 300 * time.Millisecond, Target: "http://127.0.0.1:1"}
	cfg.Duration = 200 * time.Millisecond
	sim, err := metatest.NewSimulator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	if err := sim.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	if v := sim.Verdict(); v.Acked != 0 || v.Unacked != 10 || v.Clean() || v.PostsRetried == 0 {
		t.Errorf("acked %d, unacked %d, retried %d", v.Acked, v.Unacked, v.PostsRetried)
	}
}

func TestSimulatorStopsWhenCancelled(t *testing.T) {
	t.Parallel()
	sim, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: metatest.Sized(50, 10)})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := sim.Run(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v, want cancelled", err)
	}
}

// TestCost measures the simulator's processor time per message against a server
// that does next to nothing. It runs when METATEST_RATE names a rate.
func TestCost(t *testing.T) {
	t.Parallel()
	rate, err := strconv.Atoi(os.Getenv("METATEST_RATE"))
	if err != nil {
		t.Skip("METATEST_RATE is not set")
	}
	cfg := metatest.SimulatorConfig{Config: metatest.Sized(float64(rate), 0)}
	cfg.Duration, cfg.Timers, cfg.Duplicates = 5*time.Second, 0, 0.2
	sim, err := metatest.NewSimulator(cfg)
	if err != nil {
		t.Fatal(err)
	}
	n := newNode(sim)
	n.start(t)
	sim.SetTarget(n.url)
	if err := sim.Run(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.close(t)
	v := sim.Verdict()
	t.Logf("clean %v, offered %d, posts %d (%d retried), receipts %d, lag p99 %.2f ms max %.2f ms, ack %+v", v.Clean(), v.Offered, v.Posts, v.PostsRetried, v.Receipts, v.LagMS, v.LagMaxMS, v.AckMS)
}
