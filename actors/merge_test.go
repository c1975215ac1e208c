package actors_test

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/persistence/memory"
)

func number() parley.Channel {
	return parley.Channel{Brand: "b", Kind: parley.WhatsApp, ID: "447000"}
}

func person(key parley.Contact) parley.Conversation {
	return parley.Conversation{Channel: number(), Contact: key}
}

// echoing answers each message, and for some sets a timer of that name.
func echoing() *parley.Bot {
	return &parley.Bot{Name: "echoing", Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		switch in := t.Input().(type) {
		case parley.Message:
			t.Say(in.Text)
			if strings.HasSuffix(in.Text, "0") {
				t.SetTimer(in.Text, time.Minute)
			}
		case parley.TimerFired:
			t.Say("rang " + in.Name)
		default: // nothing else happens here
		}
		return nil
	})}
}

// party is people who turn out to be the same ones, two nodes that both believe
// to own all conversations, and one store. Each step between a node and the
// store is an operation of its own; which comes next is drawn from the seed.
type party struct {
	t      *testing.T
	rng    *rand.Rand
	store  *memory.Store
	now    time.Time
	nodes  [2]map[parley.Conversation]*actors.Conversation
	ops    []func()
	lease  parley.Lease
	open   []parley.Outcome // of messages that are claimed
	events []partyEvent
	same   map[parley.Contact]int // which keys are known to be of one person
	said   []string               // in the order in which it was handed over

	merges, forwards, conflicts int
}

// partyEvent is an event that was acknowledged.
type partyEvent struct {
	text  string
	key   parley.Contact
	after []string // earlier ones of the same person, as far as was known when it came in
}

var partyKeys = []parley.Contact{"phone:1", "bsuid:1", "phone:2", "bsuid:2", "phone:3"}

func newParty(t *testing.T, seed uint64) *party {
	t.Helper()
	p := &party{
		t: t, rng: rand.New(rand.NewPCG(seed, 0x9a)), same: map[parley.Contact]int{},
		now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
	}
	p.store = memory.New(memory.Config{Now: func() time.Time { return p.now }, Random: noise{p.rng}})
	for i := range p.nodes {
		p.nodes[i] = map[parley.Conversation]*actors.Conversation{}
	}
	for i, key := range partyKeys {
		p.same[key] = i
	}
	return p
}

type noise struct{ rng *rand.Rand }

func (n noise) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(n.rng.Uint32())
	}
	return len(b), nil
}

func check[T any](p *party) func(T, error) T {
	return func(v T, err error) T {
		p.t.Helper()
		if err != nil {
			p.t.Fatal(err)
		}
		return v
	}
}

func (p *party) chance(f float64) bool { return p.rng.Float64() < f }

// later puts an operation among those that happen in any order.
func (p *party) later(do func()) { p.ops = append(p.ops, do) }

// arrive is a message of somebody, who may come with two keys.
func (p *party) arrive(ctx context.Context) {
	text := fmt.Sprint("m", len(p.events))
	keys := []parley.Contact{partyKeys[p.rng.IntN(len(partyKeys))]}
	if other := partyKeys[p.rng.IntN(len(partyKeys))]; p.chance(0.15) && other != keys[0] {
		keys = append(keys, other)
		p.meet(keys)
	}
	e := parley.Event{
		Channel: number(), Contacts: keys, Key: parley.NewEventKey(text), Time: p.now.Add(-time.Second),
		Input: parley.Message{ID: text, Text: text},
	}
	if p.chance(0.1) {
		e.Time = time.Time{}
	}
	mine := partyEvent{text: text, key: keys[0]}
	for _, before := range p.events {
		if p.same[before.key] == p.same[keys[0]] {
			mine.after = append(mine.after, before.text)
		}
	}
	p.events = append(p.events, mine)
	p.post(ctx, e)
	for p.chance(0.3) { // Meta posts it again
		p.later(func() { p.post(ctx, e) })
	}
}

func (p *party) post(ctx context.Context, e parley.Event) {
	p.hint(ctx, check[[]parley.Pending](p)(p.store.Append(ctx, parley.Arrivals{Events: []parley.Event{e}})))
}

// meet notes that two keys are of one person.
func (p *party) meet(keys []parley.Contact) {
	one, other := p.same[keys[0]], p.same[keys[1]]
	if one == other {
		return
	}
	p.merges++
	for key, who := range p.same {
		if who == other {
			p.same[key] = one
		}
	}
}

// hint reaches none, one or both of the nodes, at some time, or goes to an actor
// that the rows were for before a merge.
func (p *party) hint(ctx context.Context, rows []parley.Pending) {
	for i := range p.nodes {
		for p.chance(0.5) {
			id := rows[0].Conversation
			if p.chance(0.1) {
				id = person(partyKeys[p.rng.IntN(len(partyKeys))])
			}
			p.later(func() { p.with(ctx, i, id, func(c *actors.Conversation) { c.Hint(rows) }) })
		}
	}
}

// with does something to a machine, and then what the machine wants.
func (p *party) with(ctx context.Context, node int, id parley.Conversation, do func(*actors.Conversation)) {
	c, ok := p.nodes[node][id]
	if !ok {
		fresh := actors.NewConversation(id)
		c = &fresh
		p.nodes[node][id] = c
	}
	do(c)
	p.advance(ctx, node, c)
}

func (p *party) advance(ctx context.Context, node int, c *actors.Conversation) {
	report := func(paused bool) {
		if paused {
			c.Resume()
		}
		p.advance(ctx, node, c)
	}
	switch c.Next() {
	case actors.Rest:
	case actors.Load:
		p.later(func() {
			l := check[parley.Loaded](p)(p.store.Load(ctx, c.ID(), 4))
			p.later(func() { report(c.Loaded(l, nil)) })
		})
	case actors.Ask:
		keys := c.OlderKeys()
		p.later(func() {
			found := check[map[parley.EventKey]bool](p)(p.store.Older(ctx, c.ID(), keys))
			p.later(func() { report(c.Older(keys, found, nil)) })
		})
	case actors.Think:
		p.think(ctx, c, report)
	case actors.Pause:
		p.later(func() { report(true) })
	case actors.Forward:
		p.forwards++
		into := c.MergedInto()
		p.later(func() { p.with(ctx, node, into, (*actors.Conversation).Seek) })
	}
}

func (p *party) think(ctx context.Context, c *actors.Conversation, report func(paused bool)) {
	s, rows, older := c.Turn()
	var nonce [16]byte
	_, _ = noise{p.rng}.Read(nonce[:])
	commit := parley.Step(echoing(), s, rows, parley.Circumstance{Nonce: nonce, Older: older})
	p.later(func() {
		err := check[[]error](p)(p.store.Commit(ctx, []parley.Commit{commit}))[0]
		if errors.Is(err, parley.ErrConflict) {
			p.conflicts++
		}
		if p.chance(0.05) {
			err = errAway // the answer is lost
		}
		p.later(func() { report(c.Committed(commit.Next, err)) })
	})
}

// send claims and settles, not always at once.
func (p *party) send(ctx context.Context) {
	p.lease = check[parley.Lease](p)(p.store.Lease(ctx, number(), "s", time.Hour, p.lease))
	claimed, _, err := p.store.Claim(ctx, p.lease, parley.Places{All: 2}, time.Second, time.Minute)
	if err != nil {
		p.t.Fatal(err)
	}
	for _, m := range claimed {
		p.said = append(p.said, m.Send.Text)
		p.open = append(p.open, parley.Outcome{ID: m.ID, Kind: parley.Sent, ProviderID: m.ID.String()})
	}
	if n := p.rng.IntN(len(p.open) + 1); n > 0 {
		if err := p.store.Settle(ctx, p.lease, p.open[:n]); err != nil {
			p.t.Fatal(err)
		}
		p.open = p.open[n:]
	}
}

// sweep wakes what was forgotten, and moves due timers.
func (p *party) sweep(ctx context.Context) {
	node := p.rng.IntN(len(p.nodes))
	all := func(uint16) bool { return true }
	for _, id := range check[[]parley.Conversation](p)(p.store.Overdue(ctx, all, time.Second, 10)) {
		p.with(ctx, node, id, (*actors.Conversation).Wake)
	}
	rows, _, err := p.store.FireTimers(ctx, all, 3, time.Minute)
	if err != nil {
		p.t.Fatal(err)
	}
	for i := range rows {
		p.hint(ctx, rows[i:i+1])
	}
	if p.chance(0.05) {
		p.nodes[node] = map[parley.Conversation]*actors.Conversation{} // it dies; what it had sent may still take hold
	}
}

func (p *party) step(ctx context.Context) {
	if len(p.ops) > 0 && p.chance(0.8) {
		i := p.rng.IntN(len(p.ops))
		do := p.ops[i]
		p.ops = slices.Delete(p.ops, i, i+1)
		do()
		return
	}
	p.now = p.now.Add(time.Duration(p.rng.IntN(800)) * time.Millisecond)
	if p.chance(0.5) {
		p.send(ctx)
	} else {
		p.sweep(ctx)
	}
}

func (p *party) left(ctx context.Context) int {
	b := check[parley.Backlog](p)(p.store.Backlog(ctx))
	return b.Pending + b.Unsent + b.Timers
}

// verdict: each message was answered once and each timer rang once, and what one
// person said in order was answered in order.
func (p *party) verdict() {
	p.t.Helper()
	at := map[string]int{}
	for i, text := range p.said {
		if before, ok := at[text]; ok {
			p.t.Errorf("%q was said as number %d and %d", text, before, i)
		}
		at[text] = i
	}
	want := 0
	for _, e := range p.events {
		want++
		if strings.HasSuffix(e.text, "0") {
			want++
			if at["rang "+e.text] <= at[e.text] {
				p.t.Errorf("the timer of %q did not ring after it: %v", e.text, p.said)
			}
		}
		if _, ok := at[e.text]; !ok {
			p.t.Errorf("%q was not answered", e.text)
		}
		for _, before := range e.after {
			if at[before] > at[e.text] {
				p.t.Errorf("%q was answered before %q: %v", e.text, before, p.said)
			}
		}
	}
	if len(p.said) != want {
		p.t.Errorf("%d messages sent, want %d", len(p.said), want)
	}
}

// TestHintsOfAMergedConversationReachTheSurvivor: its actor, which knows of
// nothing, and later of the merge, passes on what it is told. Nothing is swept.
func TestHintsOfAMergedConversationReachTheSurvivor(t *testing.T) {
	t.Parallel()
	registry := prometheus.NewRegistry()
	r := newRig(t, func(c *actors.Config) { c.SweepEvery, c.Registerer = time.Hour, registry })
	older, younger := person("phone:1"), person("bsuid:x")
	for _, c := range []parley.Conversation{older, younger} {
		r.message(c, "hi", true)
		r.until(c, "effect", state(1))
	}
	for i := range 3 {
		text := fmt.Sprint("both ", i)
		rows, err := r.store.Append(t.Context(), parley.Arrivals{Events: []parley.Event{{
			Channel: number(), Contacts: []parley.Contact{"bsuid:x", "phone:1"}, Key: parley.NewEventKey(text),
			Input: parley.Message{ID: text, Text: text},
		}}})
		if err != nil || rows[0].Conversation != older {
			t.Fatalf("append: %v %v", rows, err)
		}
		rows[0].Conversation = younger // as somebody sees it who knows of no merge
		r.Deliver(rows)
		r.until(older, "effect", state(i+2))
	}
	eventually(t, "no rows in memory", func() bool { return gauge(t, registry, "parley_actors_hinted_rows") == 0 })
	// The survivor may have found a row by itself, while it was looking for the one before.
	eventually(t, "all passed on", func() bool { return gauge(t, registry, "parley_actors_forwarded_total") == 3 })
	r.until(younger, "nothing left", func(l parley.Loaded) bool { return l.Snapshot.MergedInto == "phone:1" && len(l.Pending) == 0 })
}

func TestMergesAmidEverything(t *testing.T) {
	t.Parallel()
	var merges, forwards, conflicts int
	for seed := range uint64(80) {
		p := newParty(t, seed)
		for steps := 0; len(p.events) < 100 || p.left(t.Context()) > 0 || len(p.ops) > 0; steps++ {
			if steps > 100_000 {
				t.Fatalf("seed %d: %d still wait", seed, p.left(t.Context()))
			}
			if len(p.events) < 100 && p.chance(0.1) {
				p.arrive(t.Context())
			}
			p.step(t.Context())
		}
		p.verdict()
		if t.Failed() {
			t.Fatalf("seed %d", seed)
		}
		merges, forwards, conflicts = merges+p.merges, forwards+p.forwards, conflicts+p.conflicts
	}
	t.Logf("%d merges, %d forwards, %d conflicts", merges, forwards, conflicts)
	if merges < 100 || forwards < 100 || conflicts < 100 {
		t.Errorf("too kind: %d merges, %d forwards, %d conflicts", merges, forwards, conflicts)
	}
}
