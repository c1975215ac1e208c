package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// volley posts n messages at the same time, each on a connection of its own,
// and returns the statuses.
func (g *rig) volley(t *testing.T, n int, from int) func() []int {
	t.Helper()
	statuses := make([]int, n)
	var wg sync.WaitGroup
	for i := range n {
		c := g.client(t)
		wg.Go(func() {
			got, err := c.post(waText(waNumber, fmt.Sprint(4900+i), fmt.Sprint(from+i), fmt.Sprint("text ", from+i)))
			if err == nil {
				statuses[i] = got.status
			}
		})
	}
	return func() []int { wg.Wait(); return statuses }
}

func count(statuses []int, of int) int {
	n := 0
	for _, s := range statuses {
		if s == of {
			n++
		}
	}
	return n
}

// TestGroups: what arrives while an append runs shares the next one.
func TestGroups(t *testing.T) {
	t.Parallel()
	held := newGate()
	g := start(t)
	g.store.before = held.before
	first := g.volley(t, 1, 0)
	<-held.arrived
	rest := g.volley(t, 100, 1)
	eventually(t, "100 queued", func() bool { return g.gauge(t, "parley_ingress_queue_requests") == 100 })
	close(held.open)
	if got := append(first(), rest()...); count(got, 200) != 101 {
		t.Fatalf("statuses %v", got)
	}
	if !slices.Equal(g.store.groups, []int{1, 100}) {
		t.Errorf("groups of %v events, want 1 and 100", g.store.groups)
	}
	eventually(t, "all delivered", func() bool { return g.hints.count() == 101 })
}

// TestGather: appends begin on beats, the further apart the more nodes share the store,
// and what comes between shares the next one.
func TestGather(t *testing.T) {
	t.Parallel()
	g := start(t, func(c *ingress.Config) { c.Gather, c.Sharing = time.Second, func() int { return 3 } })
	const apart = 3 * time.Second
	beat := time.Now().Truncate(apart).Add(apart)
	time.Sleep(time.Until(beat)) // and now for nobody
	if got := g.post(t, waText(waNumber, "49", "0", "alone")); got.status != 200 {
		t.Fatalf("the first: %d", got.status)
	}
	if got := g.volley(t, 5, 1)(); count(got, 200) != 5 {
		t.Fatalf("statuses %v", got)
	}
	if !slices.Equal(g.store.groups, []int{1, 5}) {
		t.Errorf("groups of %v events, want 1 and 5", g.store.groups)
	}
	if took := time.Since(beat); took < apart || took > 2*apart {
		t.Errorf("the second ended %v after the beat of the first, want it on the next", took)
	}
}

// TestGroupIsBounded by events and by bytes; a request that is larger than both
// goes alone, whole.
func TestGroupIsBounded(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		limits func(*ingress.Config)
		most   int
	}{
		{"events", func(c *ingress.Config) { c.MaxGroupEvents = 10 }, 10},
		{"bytes", func(c *ingress.Config) { c.MaxGroupBytes = 4000 }, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			held := newGate()
			g := start(t, tt.limits)
			g.store.before = held.before
			first := g.volley(t, 1, 0)
			<-held.arrived
			rest := g.volley(t, 40, 1)
			eventually(t, "queued", func() bool { return g.gauge(t, "parley_ingress_queue_requests") == 40 })
			close(held.open)
			if got := append(first(), rest()...); count(got, 200) != 41 {
				t.Fatalf("statuses %v", got)
			}
			if most := slices.Max(g.store.groups); most > tt.most || most < 2 {
				t.Errorf("groups of %v events, want at most %d", g.store.groups, tt.most)
			}
			if got := g.post(t, waBatch(50, -1, 10)); got.status != 200 {
				t.Errorf("a webhook larger than a group got %d", got.status)
			}
			if !slices.Contains(g.store.groups, 50) {
				t.Errorf("a webhook was divided: %v", g.store.groups)
			}
		})
	}
}

// TestQueueIsBounded: beyond it, 503 at once, and nobody who waited is lost.
func TestQueueIsBounded(t *testing.T) {
	t.Parallel()
	held := newGate()
	g := start(t, func(c *ingress.Config) { c.MaxQueue = 8 })
	g.store.before = held.before
	first := g.volley(t, 1, 0)
	<-held.arrived
	waiting := g.volley(t, 8, 1)
	eventually(t, "8 queued", func() bool { return g.gauge(t, "parley_ingress_queue_requests") == 8 })
	for i := range 5 {
		got := g.post(t, waText(waNumber, "49", fmt.Sprint("over", i), "hi"))
		if got.status != 503 || got.header("Retry-After") != retryAfter {
			t.Fatalf("beyond the queue: %d, Retry-After %q", got.status, got.header("Retry-After"))
		}
	}
	close(held.open)
	if got := append(first(), waiting()...); count(got, 200) != 9 {
		t.Errorf("statuses of those who waited: %v", got)
	}
	if got := g.post(t, waText(waNumber, "49", "after", "hi")); got.status != 200 {
		t.Errorf("afterwards: %d", got.status)
	}
}

// TestAppendTimeout: nobody waits longer than the deadline, whether the inbox
// heeds its context or not; and it serves again once the inbox does.
func TestAppendTimeout(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name   string
		before func(*gate) func(context.Context, parley.Arrivals) error
	}{
		{"heeds its context", func(g *gate) func(context.Context, parley.Arrivals) error { return g.before }},
		{"ignores it", func(g *gate) func(context.Context, parley.Arrivals) error { return g.deaf }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			held := newGate()
			g := start(t, func(c *ingress.Config) { c.AppendTimeout = 50 * time.Millisecond })
			g.store.before = tt.before(held)
			first := g.volley(t, 1, 0)
			<-held.arrived
			rest := g.volley(t, 10, 1)
			if got := append(first(), rest()...); count(got, 503) != 11 {
				t.Errorf("statuses %v, want 503 only", got)
			}
			close(held.open)
			again := func() bool { return g.post(t, waText(waNumber, "49", "after", "hi")).status == 200 }
			eventually(t, "serves again", again)
			if g.server.Stalled() {
				t.Error("still stalled")
			}
		})
	}
}

// TestStalled: while an append is overdue, webhooks are refused at once and
// readiness can see it.
func TestStalled(t *testing.T) {
	t.Parallel()
	held := newGate()
	g := start(t, func(c *ingress.Config) { c.AppendTimeout = 20 * time.Millisecond })
	g.store.before = held.deaf
	if got := g.post(t, waText(waNumber, "49", "1", "hi")); got.status != 503 {
		t.Fatalf("status %d", got.status)
	}
	if !g.server.Stalled() || g.gauge(t, "parley_ingress_stalled") != 1 {
		t.Error("not stalled")
	}
	for i := range 20 {
		if got := g.post(t, waText(waNumber, "49", fmt.Sprint(i), "hi")); got.status != 503 {
			t.Fatalf("while stalled: %d", got.status)
		}
	}
	close(held.open)
	eventually(t, "not stalled", func() bool { return !g.server.Stalled() })
	eventually(t, "the rows of the overdue append are delivered", func() bool { return g.hints.count() == 1 })
}

// TestCulprit: a webhook that the store can't take has the others of its group
// not refused, and ends in the quarantine as it came.
func TestCulprit(t *testing.T) {
	t.Parallel()
	held := newGate()
	var failed atomic.Int32
	g := start(t)
	g.store.before = func(ctx context.Context, a parley.Arrivals) error {
		if err := held.before(ctx, a); err != nil {
			return err
		}
		for _, e := range a.Events {
			if m, ok := e.Input.(parley.Message); ok && m.Text == "text 33" {
				failed.Add(1)
				return errDisk
			}
		}
		return nil
	}
	first := g.volley(t, 1, 0)
	<-held.arrived
	rest := g.volley(t, 50, 1)
	eventually(t, "queued", func() bool { return g.gauge(t, "parley_ingress_queue_requests") == 50 })
	close(held.open)
	if got := append(first(), rest()...); count(got, 200) != 51 {
		t.Fatalf("statuses %v", got)
	}
	n := g.store.counts()
	if n.events != 50 || n.quarantined != 1 || failed.Load() != 3 {
		t.Fatalf("%d events, %d quarantined, %d failures; want 50, 1, 3", n.events, n.quarantined, failed.Load())
	}
	q := g.store.quarantine[0]
	if q.Kind != parley.WhatsApp || q.ChannelID != waNumber || !strings.Contains(string(q.Body), "text 33") {
		t.Errorf("quarantined %s %s: %s", q.Kind, q.ChannelID, q.Body)
	}
}

// TestUnavailableStoreAccusesNobody: a store that can't take something now, while
// it takes other things, has nothing to say about what it was given. So it is
// refused, to come again, and never put into the quarantine.
func TestUnavailableStoreAccusesNobody(t *testing.T) {
	t.Parallel()
	away := fmt.Errorf("a lock on the table: %w", parley.ErrUnavailable)
	for name, tt := range map[string]struct {
		whole          error // the answer to the group
		stored, singly int   // webhooks that are acknowledged, and appends of one
	}{
		"WholeGroup":    {whole: away},
		"AfterACulprit": {whole: errDisk, stored: 25, singly: 50},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			held := newGate()
			var began atomic.Bool
			var singly atomic.Int32
			g := start(t)
			g.store.before = func(ctx context.Context, a parley.Arrivals) error {
				switch {
				case !began.Swap(true):
					return held.before(ctx, a)
				case len(a.Events) > 1:
					return tt.whole
				case singly.Add(1)%2 == 0:
					return away
				}
				return nil
			}
			first := g.volley(t, 1, 0)
			<-held.arrived
			rest := g.volley(t, 50, 1)
			eventually(t, "queued", func() bool { return g.gauge(t, "parley_ingress_queue_requests") == 50 })
			close(held.open)
			first()
			if got := rest(); count(got, 200) != tt.stored || count(got, 503) != 50-tt.stored {
				t.Errorf("statuses %v; want %d of 200, else 503", got, tt.stored)
			}
			if n := g.store.counts(); n.quarantined != 0 || n.events != 1+tt.stored || int(singly.Load()) != tt.singly {
				t.Errorf("%d events, %d quarantined, %d appends of one; want %d, 0, %d", n.events, n.quarantined, singly.Load(), 1+tt.stored, tt.singly)
			}
		})
	}
}

// TestBrokenStoreIsNotBeaten: if all fail, all are refused, with few attempts
// and nothing in the quarantine.
func TestBrokenStoreIsNotBeaten(t *testing.T) {
	t.Parallel()
	held := newGate()
	var attempts atomic.Int32
	g := start(t)
	g.store.before = func(ctx context.Context, a parley.Arrivals) error {
		attempts.Add(1)
		return errors.Join(held.before(ctx, a), errDisk)
	}
	first := g.volley(t, 1, 0)
	<-held.arrived
	rest := g.volley(t, 100, 1)
	eventually(t, "queued", func() bool { return g.gauge(t, "parley_ingress_queue_requests") == 100 })
	close(held.open)
	if got := append(first(), rest()...); count(got, 503) != 101 {
		t.Errorf("statuses %v", got)
	}
	if n := attempts.Load(); n > 20 {
		t.Errorf("%d attempts for 101 webhooks", n)
	}
	if n := g.store.counts(); n.events+n.quarantined != 0 {
		t.Errorf("%d events, %d quarantined", n.events, n.quarantined)
	}
}

// TestDrain: cancelling while webhooks are in flight loses none of them.
func TestDrain(t *testing.T) {
	t.Parallel()
	held := newGate()
	g := start(t)
	g.store.before = held.before
	first := g.volley(t, 1, 0)
	<-held.arrived
	rest := g.volley(t, 20, 1)
	eventually(t, "queued", func() bool { return g.gauge(t, "parley_ingress_queue_requests") == 20 })
	stopped := make(chan error, 1)
	go func() { stopped <- g.stop() }()
	eventually(t, "no more connections", func() bool {
		c, err := g.dial()
		if err == nil {
			_ = c.Close()
		}
		return err != nil
	})
	close(held.open)
	if got := append(first(), rest()...); count(got, 200) != 21 {
		t.Errorf("statuses %v", got)
	}
	if err := <-stopped; err != nil {
		t.Errorf("Run: %v", err)
	}
	if n := g.store.counts(); n.events != 21 || g.hints.count() != 21 {
		t.Errorf("%d events, %d hints; want 21 each", n.events, g.hints.count())
	}
}

// TestDrainHasADeadline: what hangs is refused, and Run returns.
func TestDrainHasADeadline(t *testing.T) {
	t.Parallel()
	held := newGate()
	g := start(t, func(c *ingress.Config) { c.DrainTimeout = 50 * time.Millisecond })
	g.store.before = held.before
	stuck := g.volley(t, 5, 0)
	<-held.arrived
	if err := g.stop(); err != nil {
		t.Errorf("Run: %v", err)
	}
	if got := stuck(); count(got, 200) != 0 {
		t.Errorf("statuses %v: 200 for what was not stored", got)
	}
}

// TestDrainReportsADeafInbox: an append that ignores the end of its context
// can't be ended, but Run ends and says so.
func TestDrainReportsADeafInbox(t *testing.T) {
	t.Parallel()
	held := newGate()
	g := prepare(t, func(c *ingress.Config) { c.DrainTimeout = 50 * time.Millisecond })
	if err := g.server.Learn(t.Context(), appName, []parley.Channel{waChannel()}); err != nil {
		t.Fatal(err)
	}
	g.store.before = held.deaf
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- g.server.Run(ctx) }()
	stuck := g.volley(t, 1, 0)
	<-held.arrived
	cancel()
	if err := <-ended; err == nil {
		t.Error("Run said nothing")
	}
	if got := stuck(); count(got, 200) != 0 {
		t.Errorf("statuses %v", got)
	}
	close(held.open)
}

// TestOrderOfAcknowledged: of one sender that waits for each 200, the numbers
// rise in the order sent, whatever else is going on.
func TestOrderOfAcknowledged(t *testing.T) {
	t.Parallel()
	g := start(t)
	const senders, each = 16, 40
	var wg sync.WaitGroup
	for s := range senders {
		c := g.client(t)
		wg.Go(func() {
			for i := range each {
				got, err := c.post(waText(waNumber, fmt.Sprint(4900+s), fmt.Sprintf("%d-%d", s, i), fmt.Sprintf("%d %03d", s, i)))
				if err != nil || got.status != 200 {
					t.Errorf("sender %d, message %d: %d, %v", s, i, got.status, err)
					return
				}
			}
		})
	}
	wg.Wait()
	checkOrder(t, g.store.texts(), senders*each)
}

// checkOrder wants texts "sender number" with each sender's numbers rising.
func checkOrder(t *testing.T, texts []string, want int) {
	t.Helper()
	last := map[string]string{}
	for _, text := range texts {
		sender, n, _ := strings.Cut(text, " ")
		if n <= last[sender] && last[sender] != "" {
			t.Errorf("sender %s: %s took effect after %s", sender, n, last[sender])
		}
		last[sender] = n
	}
	if len(texts) != want {
		t.Errorf("%d took effect, want %d", len(texts), want)
	}
}
