package egress_test

import (
	"bytes"
	"context"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"go.uber.org/goleak"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// fasthttp's cleaner of connections sleeps as long as a connection may be idle
// before it sees that there are none left.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.IgnoreAnyFunction("github.com/valyala/fasthttp.(*HostClient).connsCleaner"))
}

// floor is where Managers run: a store, a provider that remembers, and the
// clock of a synctest bubble. All of it must be made inside the bubble.
type floor struct {
	t     *testing.T
	began time.Time
	store *store

	mu      sync.Mutex
	log     []handed
	out     int // calls under way
	outMost int
	answer  func(parley.Claimed) egress.Answer // asked under mu
	latency func(parley.Claimed) time.Duration
	rows    int // delivered
	logs    bytes.Buffer
}

func newFloor(t *testing.T) *floor {
	t.Helper()
	f := &floor{t: t, began: time.Now(), answer: accepted}
	f.store = newStore(f.clock)
	f.latency = func(parley.Claimed) time.Duration { return 50 * time.Millisecond }
	return f
}

func (f *floor) clock() time.Duration { return time.Hour + time.Since(f.began) }

// Send is the provider's end: it notes what it got, thinks, and answers.
func (f *floor) Send(ctx context.Context, m parley.Claimed) egress.Answer {
	f.mu.Lock()
	a := f.answer(m)
	f.log = append(f.log, handed{id: m.ID, at: f.clock(), kind: a.Kind, doubtful: m.Doubtful})
	f.out++
	f.outMost = max(f.outMost, f.out)
	wait := f.latency(m)
	f.mu.Unlock()
	defer func() {
		f.mu.Lock()
		f.out--
		f.mu.Unlock()
	}()
	select {
	case <-time.After(wait):
		return a
	case <-ctx.Done():
		return egress.Answer{Kind: egress.Unknown, Cause: "stopped"}
	}
}

func (f *floor) Deliver(rows []parley.Pending) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.rows += len(rows)
}

func (f *floor) Write(p []byte) (int, error) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.logs.Write(p)
}

func (f *floor) seen(id parley.ID) (out []handed) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, h := range f.log {
		if h.id == id {
			out = append(out, h)
		}
	}
	return out
}

// manager makes one of this floor; edit changes its Config.
func (f *floor) manager(holder string, edit func(*egress.Config)) *egress.Manager {
	f.t.Helper()
	cfg := egress.Config{
		Outbox: f.store, Receipts: f.store, Provider: f, Deliverer: f, Holder: holder, Clock: f.clock,
		Policy: egress.Policy{Random: middle},
		Logger: slog.New(slog.NewTextHandler(f, &slog.HandlerOptions{Level: slog.LevelDebug})),
	}
	if edit != nil {
		edit(&cfg)
	}
	m, err := egress.New(cfg)
	if err != nil {
		f.t.Fatal(err)
	}
	return m
}

// start runs m and returns what ends it and waits for that.
func (f *floor) start(m *egress.Manager) (stop func()) {
	ctx, cancel := context.WithCancel(f.t.Context())
	done := make(chan error, 1)
	go func() { done <- m.Run(ctx) }()
	return func() {
		f.t.Helper()
		cancel()
		if err := <-done; err != nil {
			f.t.Error(err)
		}
	}
}

// emptied waits until the outbox is, in the bubble's time.
func (f *floor) emptied(limit time.Duration) {
	f.t.Helper()
	for end := f.clock() + limit; f.store.left() > 0; {
		if f.clock() > end {
			f.t.Fatalf("%d messages left after %v\n%s", f.store.left(), limit, f.logs.String())
		}
		time.Sleep(100 * time.Millisecond)
	}
}

func (f *floor) write(ch parley.Channel, contact string, n int) {
	o := outgoing(talk(ch, contact), n)
	o.At = time.Now()
	f.store.add(o)
}

// in runs test on a floor in a bubble; f.t is the bubble's.
func in(t *testing.T, test func(f *floor)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) { test(newFloor(t)) })
}

func channels(n int) (out []parley.Channel) {
	for i := range n {
		out = append(out, parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: fmt.Sprint(i)})
	}
	return out
}

// TestManagerKeepsOrder runs two managers over one store that fails, with a
// provider that refuses and loses answers, and counts what the provider saw.
func TestManagerKeepsOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(8) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			t.Parallel()
			in(t, func(f *floor) {
				random := rand.New(rand.NewPCG(seed, 7))
				f.unreliable(rand.New(rand.NewPCG(seed, 8)))
				one, two := f.manager("one", nil), f.manager("two", nil)
				stopOne, stopTwo := f.start(one), f.start(two)
				all := channels(3)
				const people, each = 5, 8
				for n := 1; n <= each; n++ {
					for _, ch := range all {
						for c := range people {
							f.write(ch, fmt.Sprint("c", c), n)
						}
						if random.IntN(2) == 0 {
							one.Wake(ch)
						} else {
							two.Wake(ch)
						}
					}
					time.Sleep(time.Duration(random.IntN(2000)) * time.Millisecond)
					if n == each/2 {
						stopOne() // and what it held is taken over
					}
				}
				for _, ch := range all {
					two.Wake(ch)
				}
				f.emptied(3 * time.Hour)
				stopTwo()
				for _, ch := range all {
					for c := range people {
						f.judge(talk(ch, fmt.Sprint("c", c)), each)
					}
				}
			})
		})
	}
}

// unreliable makes store and provider fail now and then, by seed.
func (f *floor) unreliable(random *rand.Rand) {
	var mu sync.Mutex // the store's faults come from several goroutines
	draw := func(n int) int {
		mu.Lock()
		defer mu.Unlock()
		return random.IntN(n)
	}
	f.store.fault = func(string, bool) error {
		switch draw(20) {
		case 0:
			return errStore
		case 1:
			time.Sleep(time.Duration(draw(8000)) * time.Millisecond)
		}
		return nil
	}
	f.answer = func(m parley.Claimed) egress.Answer {
		switch draw(12) {
		case 0, 1:
			return egress.Answer{Kind: egress.Retryable, Cause: "busy"}
		case 2:
			return egress.Answer{Kind: egress.Unknown, Cause: "timeout"}
		case 3:
			return egress.Answer{Kind: egress.Rejected, Cause: "bad"}
		case 4:
			return egress.Answer{Kind: egress.ThrottledUser, Cause: "slow"}
		}
		return accepted(m)
	}
	f.latency = func(parley.Claimed) time.Duration { return time.Duration(draw(4000)) * time.Millisecond }
}

// judge holds what the provider saw of a conversation against the promises.
func (f *floor) judge(c parley.Conversation, each int) {
	f.t.Helper()
	var before time.Duration
	for n := 1; n <= each; n++ {
		id := outgoing(c, n).ID
		seen := f.seen(id)
		if len(seen) == 0 {
			f.t.Fatalf("%s %d never reached the provider", c, n)
		}
		if seen[0].at < before {
			f.t.Errorf("%s %d was handed over before %d had ended", c, n, n-1)
		}
		for i, h := range seen[1:] {
			taken := seen[i].kind == egress.Accepted || seen[i].kind == egress.Unknown
			if taken && !h.doubtful {
				f.t.Errorf("%s %d was handed over again after %v, not as doubtful", c, n, seen[i].kind)
			}
			if taken && h.at-seen[i].at < egress.DoubtfulWait-egress.LeaseTTL/2 {
				f.t.Errorf("%s %d was handed over again after %v", c, n, h.at-seen[i].at)
			}
		}
		before = seen[len(seen)-1].at
		_, sent := f.store.sent[id]
		if dead, refused := f.store.dead[id]; sent == refused || refused && dead.Cause == "" {
			f.t.Errorf("%s %d: sent %v, dead %+v", c, n, sent, dead)
		}
	}
}

// TestManagerTakeover has the first manager lose its store for good, with messages
// in every state.
func TestManagerTakeover(t *testing.T) {
	t.Parallel()
	in(t, func(f *floor) {
		t := f.t
		const people = 10
		for c := range people {
			f.write(page, fmt.Sprint("c", c), 1)
			f.write(page, fmt.Sprint("c", c), 2)
		}
		cut := &cutoff{store: f.store}
		f.latency = func(m parley.Claimed) time.Duration {
			return time.Duration(m.ID[12]-'0') * 400 * time.Millisecond
		}
		one := f.manager("one", func(c *egress.Config) { c.Outbox, c.Receipts = cut, cut })
		two := f.manager("two", nil)
		stopOne := f.start(one)
		one.Wake(page)
		time.Sleep(2 * time.Second)
		cut.cut()
		stopTwo := f.start(two)
		two.Wake(page)
		f.emptied(5 * time.Minute)
		stopOne()
		stopTwo()
		again := 0
		for c := range people {
			for n := 1; n <= 2; n++ {
				seen := f.seen(outgoing(talk(page, fmt.Sprint("c", c)), n).ID)
				if len(seen) > 2 || len(seen) == 2 && !seen[1].doubtful {
					t.Errorf("c%d %d: %+v", c, n, seen)
				}
				again += len(seen) - 1
			}
		}
		if again == 0 || again == 2*people {
			t.Errorf("%d of %d were doubtful: the test doesn't test", again, 2*people)
		}
		for c := range people {
			f.judge(talk(page, fmt.Sprint("c", c)), 2)
		}
	})
}

// cutoff is a store that a manager loses.
type cutoff struct {
	*store
	mu   sync.Mutex
	lost bool
}

func (c *cutoff) cut() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.lost = true
}

func (c *cutoff) err() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.lost {
		return errStore
	}
	return nil
}

func (c *cutoff) Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	if err := c.err(); err != nil {
		return parley.Lease{}, err
	}
	return c.store.Lease(ctx, ch, holder, ttl, have)
}

func (c *cutoff) Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	if err := c.err(); err != nil {
		return nil, 0, err
	}
	return c.store.Claim(ctx, l, places, doubtfulWait, horizon)
}

func (c *cutoff) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.store.Yield(ctx, holder, channels)
}

func (c *cutoff) Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	if err := c.err(); err != nil {
		return err
	}
	return c.store.Settle(ctx, l, outcomes)
}

func TestManagerDoubtful(t *testing.T) {
	t.Parallel()
	in(t, func(f *floor) {
		t := f.t
		lost := true
		f.answer = func(m parley.Claimed) egress.Answer {
			if lost && m.Conversation == talk(page, "a") {
				lost = false
				return egress.Answer{Kind: egress.Unknown, Cause: "timeout"}
			}
			return accepted(m)
		}
		m := f.manager("one", nil)
		stop := f.start(m)
		f.write(page, "a", 1)
		f.write(page, "a", 2)
		f.write(page, "b", 1)
		m.Wake(page)
		f.emptied(time.Minute)
		stop()
		first := f.seen(outgoing(talk(page, "a"), 1).ID)
		if len(first) != 2 || !first[1].doubtful || first[1].at-first[0].at < egress.DoubtfulWait {
			t.Fatalf("the doubtful one: %+v", first)
		}
		if late := first[1].at - first[0].at - egress.DoubtfulWait; late > 100*time.Millisecond {
			t.Errorf("sent again %v after its wait", late)
		}
		if next := f.seen(outgoing(talk(page, "a"), 2).ID); next[0].at < first[1].at {
			t.Error("the next of the conversation did not wait")
		}
		if other := f.seen(outgoing(talk(page, "b"), 1).ID); other[0].at > first[0].at+time.Second {
			t.Error("another conversation waited")
		}
	})
}

func TestManagerDrain(t *testing.T) {
	t.Parallel()
	t.Run("SettlesWhatIsUnderWay", func(t *testing.T) {
		t.Parallel()
		in(t, func(f *floor) {
			t := f.t
			f.latency = func(parley.Claimed) time.Duration { return 3 * time.Second }
			m := f.manager("one", nil)
			stop := f.start(m)
			f.write(page, "a", 1)
			f.write(page, "a", 2)
			m.Wake(page)
			time.Sleep(time.Second)
			before := time.Now()
			stop()
			if took := time.Since(before); took != 2*time.Second {
				t.Errorf("drained in %v", took)
			}
			if len(f.store.sent) != 1 || f.store.left() != 1 || f.store.rows[0].epoch != 0 {
				t.Errorf("sent %v, left %d", f.store.sent, f.store.left())
			}
		})
	})
	t.Run("EndsInTime", func(t *testing.T) {
		t.Parallel()
		in(t, func(f *floor) {
			t := f.t
			f.latency = func(parley.Claimed) time.Duration { return time.Hour }
			m := f.manager("one", nil)
			stop := f.start(m)
			f.write(page, "a", 1)
			m.Wake(page)
			time.Sleep(time.Second)
			before := time.Now()
			stop()
			if took := time.Since(before); took != egress.Drain {
				t.Errorf("drained in %v", took)
			}
			if f.store.left() != 1 || f.store.rows[0].epoch == 0 {
				t.Error("an attempt without an answer must stay marked")
			}
			m.Wake(page) // after the end: nobody is there, nothing happens
		})
	})
}

// silent is a store that doesn't answer for a while, as a database does whose
// machine was lost: calls end with their context and in no other way.
type silent struct {
	*store
	until time.Duration
}

func (s *silent) wait(ctx context.Context) error {
	if s.now() >= s.until {
		return nil
	}
	<-ctx.Done()
	return ctx.Err()
}

func (s *silent) Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	if err := s.wait(ctx); err != nil {
		return parley.Lease{}, err
	}
	return s.store.Lease(ctx, ch, holder, ttl, have)
}

func (s *silent) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	if err := s.wait(ctx); err != nil {
		return err
	}
	return s.store.Yield(ctx, holder, channels)
}

func (s *silent) Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	if err := s.wait(ctx); err != nil {
		return nil, 0, err
	}
	return s.store.Claim(ctx, l, places, doubtfulWait, horizon)
}

// A store that has fallen silent is asked again, not waited for.
func TestManagerOutlivesASilentStore(t *testing.T) {
	t.Parallel()
	in(t, func(f *floor) {
		s := &silent{store: f.store, until: f.clock() + 7*time.Second}
		m := f.manager("a", func(c *egress.Config) { c.Outbox = s })
		stop := f.start(m)
		ch := channels(1)[0]
		f.write(ch, "1", 3)
		m.Wake(ch)
		f.emptied(12 * time.Second)
		stop()
	})
}

func TestManagerPoll(t *testing.T) {
	t.Parallel()
	t.Run("LooksAtOnceAndAgain", func(t *testing.T) {
		t.Parallel()
		in(t, func(f *floor) {
			f.write(page, "a", 1)
			m := f.manager("one", func(c *egress.Config) {
				c.Channels = func(context.Context) ([]parley.Channel, error) { return []parley.Channel{page}, nil }
			})
			stop := f.start(m)
			f.emptied(time.Second)
			time.Sleep(egress.Linger)
			f.write(page, "a", 2)
			f.emptied(egress.Poll + time.Second)
			stop()
		})
	})
	t.Run("IdleChannelsCostNothing", func(t *testing.T) {
		t.Parallel()
		in(t, func(f *floor) {
			t := f.t
			registry := prometheus.NewRegistry()
			all := channels(10_000)
			m := f.manager("one", func(c *egress.Config) {
				c.Registerer = registry
				c.Channels = func(context.Context) ([]parley.Channel, error) { return all, nil }
			})
			stop := f.start(m)
			time.Sleep(time.Second)
			synctest.Wait()
			if n := metric(t, registry, "parley_egress_active_channels", ""); n != 0 {
				t.Errorf("%v channels are active, none has work", n)
			}
			if f.store.leased != len(all) {
				t.Errorf("looked at %d of %d", f.store.leased, len(all))
			}
			stop()
		})
	})
}

// TestManagerLosesNoHint writes at the very moment at which a channel retires,
// again and again. Nothing polls: a lost hint is a message that stays.
func TestManagerLosesNoHint(t *testing.T) {
	t.Parallel()
	f := newFloor(t)
	f.latency = func(parley.Claimed) time.Duration { return 0 }
	m := f.manager("one", func(c *egress.Config) { c.Linger, c.Policy.Gather = time.Nanosecond, -1 })
	stop := f.start(m)
	defer stop()
	end := time.Now().Add(30 * time.Second)
	for n := 1; n <= 3000; n++ {
		f.write(page, "a", n)
		m.Wake(page)
		for f.store.left() > 0 {
			if time.Now().After(end) {
				t.Fatalf("message %d stays", n)
			}
			runtime.Gosched()
		}
	}
}

func TestManagerBoundsTheNode(t *testing.T) {
	t.Parallel()
	in(t, func(f *floor) {
		t := f.t
		m := f.manager("one", func(c *egress.Config) { c.NodeInFlight = 5 })
		stop := f.start(m)
		all := channels(20)
		for _, ch := range all {
			for c := range 4 {
				f.write(ch, fmt.Sprint("c", c), 1)
			}
			m.Wake(ch)
		}
		before := f.clock()
		f.emptied(time.Minute)
		if took := f.clock() - before; took > 2*time.Second { // 80 messages, 5 at a time, 50 ms each
			t.Errorf("took %v", took)
		}
		stop()
		if f.outMost != 5 {
			t.Errorf("%d with the provider at once", f.outMost)
		}
	})
}

func TestManagerTells(t *testing.T) {
	t.Parallel()
	in(t, func(f *floor) {
		t := f.t
		registry := prometheus.NewRegistry()
		token := false
		f.answer = func(m parley.Claimed) egress.Answer {
			switch {
			case !token:
				return egress.Answer{Kind: egress.Blocked, Code: 190, Cause: "token expired"}
			case strings.HasSuffix(string(m.Conversation.Contact), "b"):
				return egress.Answer{Kind: egress.Rejected, Code: 100, Cause: "no such user"}
			}
			return accepted(m)
		}
		m := f.manager("one", func(c *egress.Config) { c.Registerer = registry })
		stop := f.start(m)
		f.write(page, "a", 1)
		f.write(page, "b", 1)
		f.store.receipts = 3
		m.Wake(page)
		time.Sleep(time.Second)
		if n := metric(t, registry, "parley_egress_paused_channels", "blocked"); n != 1 {
			t.Errorf("%v paused channels", n)
		}
		f.mu.Lock()
		token = true
		f.mu.Unlock()
		f.emptied(2 * time.Minute)
		time.Sleep(time.Second)
		stop()
		for _, want := range []struct {
			name, label string
			value       float64
		}{
			{"parley_egress_paused_channels", "blocked", 0},
			{"parley_egress_sends_total", "sent", 1},
			{"parley_egress_sends_total", "refused", 1},
			{"parley_egress_sends_total", "retry", 2},
			{"parley_egress_answers_total", "blocked", 2},
			{"parley_egress_receipts_folded_total", "", 3},
			{"parley_egress_in_flight", "", 0},
		} {
			if n := metric(t, registry, want.name, want.label); n != want.value {
				t.Errorf("%s{%s} is %v, want %v", want.name, want.label, n, want.value)
			}
		}
		if f.rows != 3 {
			t.Errorf("%d inbox rows delivered", f.rows)
		}
		logs := f.logs.String()
		for _, want := range []string{"channel pauses", "reason=blocked", "channel resumes", "no such user"} {
			if !strings.Contains(logs, want) {
				t.Errorf("logs lack %q", want)
			}
		}
		if strings.Contains(logs, "hi") && strings.Contains(logs, "text=") {
			t.Error("logs hold a message")
		}
	})
}

func metric(t *testing.T, g prometheus.Gatherer, name, label string) float64 {
	t.Helper()
	families, err := g.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, family := range families {
		if family.GetName() != name {
			continue
		}
		for _, m := range family.GetMetric() {
			if len(m.GetLabel()) == 0 || m.GetLabel()[0].GetValue() == label {
				return m.GetCounter().GetValue() + m.GetGauge().GetValue()
			}
		}
	}
	t.Fatalf("no metric %s{%s}", name, label)
	return 0
}

func TestNewSaysWhatLacks(t *testing.T) {
	t.Parallel()
	f := newFloor(t)
	for name, edit := range map[string]func(*egress.Config){
		"outbox":   func(c *egress.Config) { c.Outbox = nil },
		"provider": func(c *egress.Config) { c.Provider = nil },
		"holder":   func(c *egress.Config) { c.Holder = "" },
		"numbers":  func(c *egress.Config) { c.NodeInFlight = -1 },
	} {
		cfg := egress.Config{Outbox: f.store, Receipts: f.store, Provider: f, Holder: "me"}
		edit(&cfg)
		if _, err := egress.New(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

func TestSinceBootRuns(t *testing.T) {
	t.Parallel()
	a := egress.SinceBoot()
	time.Sleep(time.Millisecond)
	if d := egress.SinceBoot() - a; d < time.Millisecond || d > time.Minute {
		t.Fatalf("a millisecond took %v", d)
	}
}
