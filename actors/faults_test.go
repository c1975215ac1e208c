package actors_test

import (
	"context"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

// stuckStore can't load some conversations.
type stuckStore struct {
	actors.Store
	stuck map[parley.Conversation]bool
}

// Load fails for those.
func (s stuckStore) Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error) {
	if s.stuck[c] {
		return parley.Loaded{}, errAway
	}
	return s.Store.Load(ctx, c, limit)
}

// More conversations than a look covers are stuck, and older than the others:
// these take effect all the same.
func TestStuckConversationsHideNoOthers(t *testing.T) {
	t.Parallel()
	const stuck, all = 1500, 1600
	bad := map[parley.Conversation]bool{}
	for i := range stuck {
		bad[talk(i)] = true
	}
	r := newRig(t, func(c *actors.Config) {
		c.SweepEvery = 200 * time.Millisecond
		c.Store = stuckStore{Store: c.Store, stuck: bad}
	})
	for i := range all {
		r.message(talk(i), "hi", false)
	}
	for i := stuck; i < all; i++ {
		r.until(talk(i), "effect", state(1))
	}
}

// A panic outside of the bot's code stops an actor; another goes on for it,
// however often that happens.
func TestAnActorThatPanicsIsReplaced(t *testing.T) {
	t.Parallel()
	var left atomic.Int64
	left.Store(15)
	r := newRig(t, func(c *actors.Config) {
		c.SweepEvery = 20 * time.Millisecond
		c.Bot = func(parley.Channel) *parley.Bot {
			if left.Add(-1) >= 0 {
				return nil
			}
			return counting()
		}
	})
	r.message(talk(1), "hi", true)
	r.until(talk(1), "effect", state(1))
	r.message(talk(1), "hi", true)
	r.until(talk(1), "another effect", state(2))
}

// gauge reads a gauge of the host.
func gauge(t *testing.T, from prometheus.Gatherer, name string) float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetGauge().GetValue() + m.GetCounter().GetValue() // it is one of them
		}
	}
	t.Fatalf("no metric %s", name)
	return 0
}

// slowly commits.
type slowly struct{ actors.Store }

const slowCommit = 400 * time.Millisecond

func (s slowly) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	time.Sleep(slowCommit)
	return s.Store.Commit(ctx, commits)
}

// A turn's delay is told from its row to the end of its commit.
func TestTurnDelay(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRig(t, func(c *actors.Config) { c.Store, c.Registerer = slowly{c.Store}, registry })
	r.message(talk(1), "hi", true)
	r.until(talk(1), "effect", state(1))
	eventually(t, "the turn is counted", func() bool {
		_, all := delays(t, registry, 0.3)
		return all == 1
	})
	if late, _ := delays(t, registry, 0.3); late != 1 {
		t.Errorf("a turn whose commit took %s counts as one of less than 300 ms", slowCommit)
	}
	if late, _ := delays(t, registry, 30); late != 0 {
		t.Error("the turn counts as one of more than 30 s")
	}
}

// delays are how many turns were counted, and how many as later than a bound.
func delays(t *testing.T, from prometheus.Gatherer, bound float64) (late, all uint64) {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	for _, f := range families {
		if f.GetName() != "parley_actors_turn_delay_seconds" {
			continue
		}
		h := f.GetMetric()[0].GetHistogram()
		for _, b := range h.GetBucket() {
			if b.GetUpperBound() == bound {
				return h.GetSampleCount() - b.GetCumulativeCount(), h.GetSampleCount()
			}
		}
	}
	t.Fatalf("no turn delays with a bound at %v", bound)
	return 0, 0
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(15 * time.Second); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("%s: not within 15 s", what)
		}
	}
}

// waiting is a bot whose turns for a text wait until gate is closed.
func waiting(text string, gate <-chan struct{}) *parley.Bot {
	bot := *counting()
	inner := bot.Behavior
	bot.Behavior = parley.BehaviorFunc(func(t *parley.Turn) error {
		if m, ok := t.Input().(parley.Message); ok && strings.HasPrefix(m.Text, text) {
			<-gate
		}
		return inner.Receive(t)
	})
	return &bot
}

// What was on its way to an abandoned actor no longer counts as under way.
func TestRowsOfAnAbandonedActorAreNotCountedForEver(t *testing.T) {
	t.Parallel()
	registry, gate := prometheus.NewRegistry(), make(chan struct{})
	defer close(gate)
	r := newRig(t, func(c *actors.Config) {
		c.TurnDeadline, c.Registerer = 300*time.Millisecond, registry
		c.Bot = func(parley.Channel) *parley.Bot { return waiting("slow", gate) }
	})
	r.message(talk(1), "slow", true)
	eventually(t, "the turn begins", func() bool { return r.Live() == 1 })
	for range 5 {
		r.message(talk(1), "hi", true)
	}
	r.until(talk(1), "the conversation goes on", state(5))
	eventually(t, "no rows in memory", func() bool { return gauge(t, registry, "parley_actors_hinted_rows") == 0 })
}

// A slow bot fills the inbox, not the memory.
func TestRowsInMemoryAreBounded(t *testing.T) {
	t.Parallel()
	const most, rows = 80, 400
	const ofBrand = most / 4 // conversations that were hinted; each finds a second row when it is loaded
	registry, gate := prometheus.NewRegistry(), make(chan struct{})
	looked := make(chan struct{}, 1)
	r := newRig(t, func(c *actors.Config) {
		c.MaxHinted, c.Registerer, c.SweepEvery = most, registry, time.Hour
		c.Agenda = lookedAt{Agenda: c.Agenda, looked: looked}
		c.Bot = func(parley.Channel) *parley.Bot { return waiting("slow", gate) }
	})
	<-looked // at start everything that waits is overdue, and is not bounded by this
	for i := range rows {
		r.message(talk(i%200), "slow", true)
	}
	inMemory := func() float64 { return gauge(t, registry, "parley_actors_hinted_rows") }
	eventually(t, "rows reach the actors", func() bool { return inMemory() > 0 })
	if n := inMemory(); n > 2*ofBrand || r.Live() > ofBrand {
		t.Errorf("%v rows in memory, of %d conversations; want at most %d of %d", n, r.Live(), 2*ofBrand, ofBrand)
	}
	close(gate)
	eventually(t, "rows leave the memory", func() bool { return inMemory() == 0 })
}

// lookedAt tells of each look for what is overdue that has ended.
type lookedAt struct {
	actors.Agenda
	looked chan<- struct{}
}

func (a lookedAt) Overdue(ctx context.Context, owned func(uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error) {
	ids, err := a.Agenda.Overdue(ctx, owned, age, limit)
	a.looked <- struct{}{}
	return ids, err
}

// deliver stores several texts and hints them together.
func (r *rig) deliver(c parley.Conversation, texts ...string) {
	r.t.Helper()
	var a parley.Arrivals
	for _, text := range texts {
		a.Events = append(a.Events, parley.Event{
			Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey(text),
			Input: parley.Message{ID: text, Text: text},
		})
	}
	rows, err := r.store.Append(r.t.Context(), a)
	if err != nil {
		r.t.Fatal(err)
	}
	r.Deliver(rows)
}

// A turn that outlives the host goes on to its next row without harm.
func TestATurnMayOutliveTheHost(t *testing.T) {
	t.Parallel()
	gate, began, ran := make(chan struct{}), make(chan struct{}, 3), make(chan struct{})
	r := newRig(t, func(c *actors.Config) {
		c.Notes, c.DrainTimeout = filepath.Join(t.TempDir(), "running"), 50*time.Millisecond
		c.SweepEvery = 50 * time.Millisecond
		c.Bot = func(parley.Channel) *parley.Bot {
			return &parley.Bot{Name: "b", Behavior: parley.BehaviorFunc(func(turn *parley.Turn) error {
				if m, ok := turn.Input().(parley.Message); ok && m.Text == "last" {
					close(ran)
					return nil
				}
				began <- struct{}{}
				<-gate
				return nil
			})}
		}
	})
	r.deliver(talk(1), "first", "second", "last") // in one turn
	<-began
	r.stop()
	r.ended <- <-r.ended
	close(gate)
	<-ran
}

// moodyStore refuses every other group of commits.
type moodyStore struct {
	actors.Store
	calls *atomic.Int64
}

// Commit fails or commits.
func (s moodyStore) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	if s.calls.Add(1)%2 == 1 {
		return nil, errAway
	}
	return s.Store.Commit(ctx, commits)
}

// A commit that fails is tried again, by the actor itself.
func TestAFailedCommitIsTriedAgain(t *testing.T) {
	t.Parallel()
	r := newRig(t, func(c *actors.Config) {
		c.SweepEvery = time.Hour
		c.Store = moodyStore{Store: c.Store, calls: new(atomic.Int64)}
	})
	for n := range 3 {
		r.message(talk(1), "hi", true)
		r.until(talk(1), "effect", state(n+1))
	}
}
