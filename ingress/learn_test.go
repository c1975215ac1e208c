package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

func strangeChannel() parley.Channel {
	return parley.Channel{Brand: "beta", Kind: parley.WhatsApp, ID: strangeID}
}

func (g *rig) learn(t *testing.T, chs ...parley.Channel) {
	t.Helper()
	if err := g.server.Learn(t.Context(), appName, chs); err != nil {
		t.Fatal(err)
	}
}

// TestUnknownChannel: quarantined and acknowledged; once learnt, released in
// order, and live from then on.
func TestUnknownChannel(t *testing.T) {
	t.Parallel()
	g := start(t)
	const before = 100 // several batches
	for i := range before {
		if got := g.post(t, waText(strangeID, "49", fmt.Sprint(i), fmt.Sprintf("a %03d", i))); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
	}
	n := g.store.counts()
	if n.events != 0 || n.quarantined != before {
		t.Fatalf("%d events, %d quarantined; want 0 and %d", n.events, n.quarantined, before)
	}
	if n := g.gauge(t, "parley_ingress_quarantined_total", string(appName), "unknown_channel"); n != before {
		t.Errorf("counted %v by cause, want %d", n, before)
	}
	g.learn(t, strangeChannel())
	g.learn(t, strangeChannel()) // again: nothing left to do
	if got := g.post(t, waText(strangeID, "49", "live", "a 999")); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	n = g.store.counts()
	if n.quarantined != 0 || n.events != before+1 {
		t.Errorf("%d events, %d quarantined; want %d and 0", n.events, n.quarantined, before+1)
	}
	checkOrder(t, g.store.texts(), before+1)
	for _, r := range g.store.rows {
		if r.Conversation.Channel != strangeChannel() {
			t.Fatalf("a row of channel %v", r.Conversation.Channel)
		}
	}
	eventually(t, "all delivered", func() bool { return g.hints.count() == before+1 })
	if n := g.gauge(t, "parley_ingress_released_total"); n != before {
		t.Errorf("counted %v released, want %d", n, before)
	}
	g.server.Forget(appName, strangeChannel())
	if got := g.post(t, waText(strangeID, "49", "late", "a 9999")); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	if n := g.store.counts(); n.quarantined != 1 {
		t.Errorf("%d quarantined after Forget, want 1", n.quarantined)
	}
}

// TestLearnWhileServing is the race that the directory's gate is for: senders
// that wait for each 200 write to channels that are learnt meanwhile. Whatever
// was acknowledged first takes effect first, none is lost, none left behind.
func TestLearnWhileServing(t *testing.T) {
	t.Parallel()
	const channels, senders, each = 6, 4, 60
	g := start(t)
	g.store.before = func(context.Context, parley.Arrivals) error {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond) // others act in between
		return nil
	}
	g.store.releasing = func(parley.Arrivals) error {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond)
		return nil
	}
	var wg sync.WaitGroup
	for i := range channels * senders {
		c := g.client(t)
		number := fmt.Sprint("7000", i%channels)
		wg.Go(func() {
			for n := range each {
				got, err := c.post(waText(number, fmt.Sprint(4900+i), fmt.Sprintf("%d-%d", i, n), fmt.Sprintf("%d %03d", i, n)))
				if err != nil || got.status != 200 {
					t.Errorf("sender %d, message %d: %d, %v", i, n, got.status, err)
					return
				}
			}
		})
	}
	for i := range channels {
		wg.Go(func() {
			eventually(t, "some acknowledged", func() bool {
				n := g.store.counts()
				return n.events+n.quarantined > (i+1)*channels*senders*each/(channels+4)
			})
			ch := parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: fmt.Sprint("7000", i)}
			if err := g.server.Learn(t.Context(), appName, []parley.Channel{ch}); err != nil {
				t.Errorf("learn: %v", err)
			}
		})
	}
	wg.Wait()
	if n := g.store.counts(); n.quarantined != 0 {
		t.Errorf("%d left in the quarantine", n.quarantined)
	}
	checkOrder(t, g.store.texts(), channels*senders*each)
}

// TestLearnLeavesWhatIsBroken: entries of a wrong shape stay, those after them
// are released.
func TestLearnLeavesWhatIsBroken(t *testing.T) {
	t.Parallel()
	g := start(t)
	for i := range 40 {
		body := waText(strangeID, "49", fmt.Sprint(i), fmt.Sprintf("a %03d", i))
		if i%4 == 0 {
			body = []byte(strings.ReplaceAll(string(waBatch(1, 0, 0)), waNumber, strangeID))
		}
		if got := g.post(t, body); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
	}
	g.learn(t, strangeChannel())
	if n := g.store.counts(); n.quarantined != 10 {
		t.Errorf("%d left in the quarantine, want the 10 of wrong shape", n.quarantined)
	}
	checkOrder(t, g.store.texts(), 30)
}

// TestLearnFails: the store fails in the middle; the channel stays unknown, so
// that order is kept, and learning again ends well.
func TestLearnFails(t *testing.T) {
	t.Parallel()
	g := start(t)
	for i := range 50 {
		g.post(t, waText(strangeID, "49", fmt.Sprint(i), fmt.Sprintf("a %03d", i)))
	}
	calls := 0
	g.store.releasing = func(parley.Arrivals) error {
		if calls++; calls == 2 {
			return fmt.Errorf("%w: %w", parley.ErrUnavailable, errDisk)
		}
		return nil
	}
	if err := g.server.Learn(t.Context(), appName, []parley.Channel{strangeChannel()}); !errors.Is(err, errDisk) {
		t.Fatalf("learn: %v", err)
	}
	if got := g.post(t, waText(strangeID, "49", "between", "a 100")); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	if n := g.store.counts(); n.quarantined == 0 {
		t.Error("a live event overtook the quarantine")
	}
	g.learn(t, strangeChannel())
	checkOrder(t, g.store.texts(), 51)
}

// TestLearnLeavesWhatTheStoreRefuses: one entry that the store never takes keeps
// neither the others nor the channel.
func TestLearnLeavesWhatTheStoreRefuses(t *testing.T) {
	t.Parallel()
	g := start(t)
	for i := range 40 {
		g.post(t, waText(strangeID, "49", fmt.Sprint(i), fmt.Sprintf("a %03d", i)))
	}
	g.store.releasing = func(a parley.Arrivals) error {
		for i := range a.Events {
			if m, ok := a.Events[i].Input.(parley.Message); ok && m.Text == "a 020" {
				return errDisk
			}
		}
		return nil
	}
	g.learn(t, strangeChannel())
	if n := g.store.counts(); n.quarantined != 1 || n.events != 39 {
		t.Errorf("%d events, %d left in the quarantine; want 39 and 1", n.events, n.quarantined)
	}
	if got := g.post(t, waText(strangeID, "49", "live", "a 999")); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	checkOrder(t, g.store.texts(), 40)
}

func TestLearnRefuses(t *testing.T) {
	t.Parallel()
	g := start(t)
	if err := g.server.Learn(t.Context(), "nobody", []parley.Channel{waChannel()}); err == nil {
		t.Error("learnt for an unknown app")
	}
	if err := g.server.Learn(t.Context(), appName, []parley.Channel{{Brand: "a/b", Kind: parley.WhatsApp, ID: "1"}}); err == nil {
		t.Error("learnt an invalid channel")
	}
}

// TestLearnManyAtOnce: more channels than are published together.
func TestLearnManyAtOnce(t *testing.T) {
	t.Parallel()
	g := start(t)
	var all []parley.Channel
	for i := range 600 {
		all = append(all, parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: fmt.Sprint(80000 + i)})
	}
	g.learn(t, all...)
	for _, ch := range []parley.Channel{all[0], all[255], all[256], all[599]} {
		if got := g.post(t, waText(ch.ID, "49", ch.ID, "a "+ch.ID)); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
	}
	if texts := g.store.texts(); !slices.Equal(texts, []string{"a 80000", "a 80255", "a 80256", "a 80599"}) {
		t.Errorf("events %v", texts)
	}
}

// TestLearnByTwoNodes: nodes with one store learn a channel at the same time. Each
// entry becomes events once, in order, and none of the nodes fails.
func TestLearnByTwoNodes(t *testing.T) {
	t.Parallel()
	one := start(t)
	const entries = 200
	for i := range entries {
		if got := one.post(t, waText(strangeID, "49", fmt.Sprint(i), fmt.Sprintf("a %03d", i))); got.status != 200 {
			t.Fatalf("status %d", got.status)
		}
	}
	one.store.releasing = func(parley.Arrivals) error {
		time.Sleep(time.Duration(rand.IntN(500)) * time.Microsecond) // the other acts in between
		return nil
	}
	nodes := []*rig{one}
	for range 2 {
		nodes = append(nodes, start(t, func(c *ingress.Config) { c.Inbox, c.Quarantine = one.store, one.store }))
	}
	var wg sync.WaitGroup
	for _, g := range nodes {
		wg.Go(func() {
			if err := g.server.Learn(t.Context(), appName, []parley.Channel{strangeChannel()}); err != nil {
				t.Errorf("learn: %v", err)
			}
			if n := one.store.counts(); n.events != entries || n.quarantined != 0 {
				t.Errorf("learnt with %d events and %d quarantined, want %d and 0", n.events, n.quarantined, entries)
			}
		})
	}
	wg.Wait()
	checkOrder(t, one.store.texts(), entries)
	released := 0.0
	for _, g := range nodes {
		released += g.gauge(t, "parley_ingress_released_total")
	}
	if released != entries {
		t.Errorf("counted %v released, want %d", released, entries)
	}
}
