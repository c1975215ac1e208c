package actors_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

// region is some nodes that divide the shards among themselves, in virtual time.
// Messages take random times and some are lost; nodes hear of each other at
// different moments, sleep, die and come back. Only a few of the shards are in
// play: the others are nobody's.
type region struct {
	t     *testing.T
	rng   *rand.Rand
	now   time.Duration
	loss  float64
	nodes map[string]*settler
	queue []happening
	told  int
}

type happening struct {
	at time.Duration
	do func()
}

// settler is one node: what it serves is what its shard actors would.
type settler struct {
	region  *region
	name    string
	run     int // grows when it comes back
	dead    bool
	asleep  time.Duration // until then nothing happens
	land    *actors.Territory
	serving map[uint16]bool // actors run
	holding map[uint16]bool // what comes is held back
	news    int             // serial number of the placement
}

const inPlay = 24

func (r *region) later(n *settler, d time.Duration, do func()) {
	run := n.run
	r.queue = append(r.queue, happening{at: r.now + d, do: func() {
		switch {
		case n.dead || n.run != run:
		case n.asleep > r.now:
			r.later(n, n.asleep-r.now, do)
		default:
			do()
		}
	}})
}

func (r *region) soon(most time.Duration) time.Duration {
	return time.Duration(r.rng.Int64N(int64(most)))
}

func (r *region) run(until time.Duration) {
	for len(r.queue) > 0 {
		first := 0
		for i := range r.queue {
			if r.queue[i].at < r.queue[first].at {
				first = i
			}
		}
		next := r.queue[first]
		if next.at > until {
			break
		}
		r.queue = slices.Delete(r.queue, first, first+1)
		r.now = max(r.now, next.at)
		next.do()
	}
	r.now = until
}

func (r *region) boot(name string) {
	n := r.nodes[name]
	if n == nil {
		n = &settler{region: r, name: name}
		r.nodes[name] = n
	}
	n.run++
	n.dead, n.asleep = false, 0
	n.land, n.serving, n.holding = actors.NewTerritory(name, n), map[uint16]bool{}, map[uint16]bool{}
	n.tick()
}

func (n *settler) tick() {
	n.land.Tick(n.region.now)
	n.region.later(n, 100*time.Millisecond, n.tick)
}

// Hold and the following are what the shard actors and the network do.
func (n *settler) Hold(shard uint16) { n.holding[shard] = true }

// LetGo ends the actors after a while.
func (n *settler) LetGo(shard uint16) {
	n.holding[shard] = false
	n.region.later(n, n.region.soon(300*time.Millisecond), func() {
		n.serving[shard] = false
		n.land.Gone(shard)
	})
}

func (n *settler) send(to string, do func(*settler)) {
	r := n.region
	if r.rng.Float64() < r.loss {
		return
	}
	if peer := r.nodes[to]; peer != nil {
		r.later(peer, r.soon(50*time.Millisecond), func() { do(peer) })
	}
}

func (n *settler) Ask(to string, claim uint64, shards actors.ShardSet) {
	n.send(to, func(peer *settler) { peer.land.Release(n.name, claim, shards, n.region.now) })
}

func (n *settler) Answer(to string, claim uint64, shards actors.ShardSet) {
	n.send(to, func(peer *settler) { peer.land.Released(n.name, claim, shards, n.region.now) })
}

func (n *settler) Open(claim uint64, shards, _ actors.ShardSet) {
	n.region.later(n, n.region.soon(100*time.Millisecond), func() {
		n.land.Opened(claim, shards, func(shard uint16) {
			if !n.holding[shard] {
				n.region.t.Errorf("%s opens shard %d that it let go of", n.name, shard)
			}
			n.serving[shard], n.holding[shard] = true, false
		})
	})
}

// chart is a placement: the owner of each shard in play.
type chart struct {
	owners  [inPlay]string
	holders []string
}

func (c chart) Owner(shard uint16) string {
	if int(shard) < inPlay {
		return c.owners[shard]
	}
	return ""
}
func (chart) Heir(uint16) string     { return "" }
func (c chart) Sender(uint16) string { return "" }
func (c chart) Holders() []string    { return c.holders }
func (c chart) Nodes() map[string]string {
	all := map[string]string{}
	for _, h := range c.holders {
		all[h] = h
	}
	return all
}

// divide gives each shard in play to one of the able.
func divide(able, holders []string) chart {
	c := chart{holders: holders}
	for shard := range c.owners {
		if len(able) > 0 {
			c.owners[shard] = able[(shard*7+len(able))%len(able)]
		}
	}
	return c
}

// tell makes all nodes hear of a placement, each in its time.
func (r *region) tell(c chart) {
	r.told++
	serial := r.told
	for _, n := range r.nodes {
		r.later(n, r.soon(400*time.Millisecond), func() {
			if n.news < serial { // a view is followed by later ones only
				n.news = serial
				n.land.Place(c, r.now)
			}
		})
	}
}

// Whatever happens, and in whatever order it is heard of: once all nodes have heard
// of the same members and messages arrive, each shard is served by its owner and
// by nobody else.
func TestTerritorySeeds(t *testing.T) {
	t.Parallel()
	for seed := range uint64(300) {
		r := &region{t: t, rng: rand.New(rand.NewPCG(seed, 1)), nodes: map[string]*settler{}}
		names := []string{"a", "b", "c", "d"}[:2+r.rng.IntN(3)]
		for _, name := range names {
			r.boot(name)
		}
		r.loss = 0.2 * r.rng.Float64()
		for range 12 {
			r.upset(names)
			r.run(r.now + r.soon(3*time.Second))
		}
		r.loss = 0
		for _, n := range r.nodes {
			n.asleep = 0
			if n.dead {
				r.boot(n.name)
			}
		}
		last := divide(names[:1+r.rng.IntN(len(names))], names)
		r.tell(last)
		r.run(r.now + 10*time.Second)
		r.check(fmt.Sprintf("seed %d", seed), last)
		if t.Failed() {
			return
		}
	}
}

// upset does something to somebody.
func (r *region) upset(names []string) {
	n := r.nodes[names[r.rng.IntN(len(names))]]
	able := slices.Clone(names)
	r.rng.Shuffle(len(able), func(i, j int) { able[i], able[j] = able[j], able[i] })
	able = able[:r.rng.IntN(len(able)+1)]
	switch r.rng.IntN(5) {
	case 0:
		n.dead = true
	case 1:
		r.boot(n.name)
	case 2:
		n.asleep = r.now + r.soon(5*time.Second)
		r.later(n, 0, func() { n.land.Evict(r.now) })
	default:
		holders := names
		if r.rng.IntN(2) == 0 {
			holders = able
		}
		r.tell(divide(able, holders))
	}
}

func (r *region) check(when string, c chart) {
	for shard := range uint16(inPlay) {
		for _, n := range r.nodes {
			want := c.Owner(shard) == n.name
			if n.serving[shard] != want || n.land.Holds(shard) != want {
				r.t.Errorf("%s: shard %d of %s: %s serves it: %t, holds it: %t",
					when, shard, c.Owner(shard), n.name, n.serving[shard], n.land.Holds(shard))
			}
		}
	}
}

// ledger notes what a territory wants.
type ledger struct{ said []string }

func (l *ledger) Hold(uint16)                                   {}
func (l *ledger) LetGo(uint16)                                  {}
func (l *ledger) Answer(string, uint64, actors.ShardSet)        {}
func (l *ledger) Ask(node string, _ uint64, _ actors.ShardSet)  { l.said = append(l.said, "ask "+node) }
func (l *ledger) Open(uint64, actors.ShardSet, actors.ShardSet) { l.said = append(l.said, "open") }

// Everybody who may run a shard is asked for it, and all but the late are waited for.
func TestTerritoryAsksAll(t *testing.T) {
	t.Parallel()
	l := &ledger{}
	land := actors.NewTerritory("c", l)
	c := divide([]string{"c"}, []string{"a", "b", "c"})
	var all actors.ShardSet
	for shard := range uint16(inPlay / 2) { // as few as are asked for together
		all.Add(shard)
	}
	clear(c.owners[inPlay/2:])
	land.Place(c, 0)
	land.Released("a", 1, all, 10*time.Millisecond)
	land.Tick(500 * time.Millisecond)
	if want := []string{"ask a", "ask b"}; !slices.Equal(l.said, want) {
		t.Fatalf("%q, want %q", l.said, want)
	}
	land.Released("b", 1, all, 600*time.Millisecond)
	if want := []string{"ask a", "ask b", "open"}; !slices.Equal(l.said, want) {
		t.Fatalf("%q, want %q", l.said, want)
	}
	late := actors.NewTerritory("c", l)
	l.said = nil
	late.Place(c, 0)
	late.Tick(2 * time.Second)
	if want := []string{"ask a", "ask b", "open"}; !slices.Equal(l.said, want) {
		t.Errorf("%q, want %q", l.said, want)
	}
}

// whole is a placement of all shards with one of two nodes.
type whole struct {
	chart
	owner string
}

func (w whole) Owner(uint16) string { return w.owner }

// asker notes which shards are being asked for, and which are opened.
type asker struct {
	ledger
	waited map[uint64]actors.ShardSet
	opened actors.ShardSet
}

func (a *asker) Ask(_ string, claim uint64, shards actors.ShardSet) { a.waited[claim] = shards }

func (a *asker) Open(_ uint64, shards, _ actors.ShardSet) { shards.Each(a.opened.Add) }

// A shard's turns wait while it changes hands, and longer the more shards do so at the
// same time: a node asks for no more than a few until those are answered.
func TestTerritoryAsksForAFewAtATime(t *testing.T) {
	t.Parallel()
	const few = parley.Shards / 128 // with 100 000 conversations in all, under 800 come to their ends together
	a := &asker{waited: map[uint64]actors.ShardSet{}}
	land := actors.NewTerritory("b", a)
	land.Place(whole{chart{holders: []string{"a", "b"}}, "b"}, 0)
	for answers := 0; a.opened.Len() < parley.Shards; answers++ {
		n := 0
		for _, shards := range a.waited {
			n += shards.Len()
		}
		if n == 0 || n > few {
			t.Fatalf("after %d answers %d shards are waited for, want some, at most %d; %d are opened", answers, n, few, a.opened.Len())
		}
		first := slices.Min(slices.Collect(maps.Keys(a.waited)))
		shards := a.waited[first]
		delete(a.waited, first)
		land.Released("a", first, shards, time.Millisecond)
	}
}
