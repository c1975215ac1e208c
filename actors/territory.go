package actors

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley"
)

// Placement says which node runs which shards, in one member's opinion. It is a
// value: it doesn't change. Nodes are named by the addresses of their links.
type Placement interface {
	// Owner is the node that is to run a shard's conversations; empty if there is none.
	Owner(shard uint16) string
	// Heir is the node that would own a shard without this one; empty if there is none.
	Heir(shard uint16) string
	// Sender is the node that is to send for the channels of a shard; empty if there is none.
	Sender(shard uint16) string
	// Holders are all nodes that may be running shards: also those that are giving
	// theirs up.
	Holders() []string
	// Nodes are all nodes: the name of the process at each address.
	Nodes() map[string]string
}

// A shard's way through a node.
type holding uint32

const (
	foreign   holding = iota // somebody else's
	claiming                 // to be run here as soon as others have let go of it
	held                     // run here
	releasing                // let go of; its actors come to their ends
)

const (
	// releaseWait is how long others are waited for to let go of a shard. Then it
	// is taken: versions and tokens keep whoever still runs it from doing harm.
	releaseWait = time.Second
	// strayFor is how long a shard stays with a node that isn't its owner and whom
	// nobody has asked for it, or without one that is: long enough for all to have
	// heard of the same members.
	strayFor = 2 * time.Second
	// claimShards is how many shards are claimed together, and claimsAtOnce how many
	// such claims others are waited for: the rest goes on where it is, so that ending
	// a hundred thousand conversations holds up none of them for long.
	claimShards  = 64
	claimsAtOnce = 2
	// doubtFor is how long a shard that was taken over in doubt passes that on when it
	// changes hands again: by then what waited in it has been tried.
	doubtFor = 10 * time.Second
)

// ground is what territory decides about: the shard actors and the other nodes.
type ground interface {
	hold(shard uint16)                                 // keep what comes for a shard until it is served
	letGo(shard uint16)                                // end its actors; report to gone
	ask(node string, claim uint64, shards shardSet)    // to let go of shards
	answer(node string, claim uint64, shards shardSet) // that they are let go of
	open(claim uint64, shards, doubted shardSet)       // look for what waits in shards, and serve them by opened
}

// territory is which shards this node runs, and how they change hands.
//
// The protocol. Views of the members differ for a while after each change, so
// nobody gives up a shard merely because its view says so: a node runs its shards
// until the one that is to run them asks for them. A node that is to run shards
// asks all nodes that may run them, for it can't know who does; holds back what
// comes for them meanwhile; and begins once all have answered, are gone, or have
// had releaseWait. Whoever is asked lets the turns under way commit, ends the
// actors, and answers shard by shard. It asks for a few shards at a time; what comes
// for the others meanwhile is passed on to who ran them before.
//
// Whose last node may have died of what waits in it is in doubt, and must stay so
// until that has been tried, whoever does it. So whoever took a shard over in doubt
// doesn't answer when it's asked for it soon after: silence means doubt.
//
// Both an owner that isn't asked and one that was asked in error would leave a
// shard stray; after strayFor they act by their own view.
//
// None of this keeps two nodes from running one shard: a node may sleep through
// all of it. It makes that rare, and the store makes it harmless.
type territory struct {
	ground ground
	self   string

	mu     sync.Mutex
	placed Placement
	shards [parley.Shards]plot
	claims map[uint64]*claim
	last   uint64 // id of the last claim
	now    time.Duration

	wanted, wantedInDoubt shardSet        // to be run here, and not claimed yet
	asked                 time.Duration   // when somebody last asked for shards
	silent                map[string]bool // nodes that didn't answer in time, and haven't since
	strays                int             // plots that are stray, at most

	holdings [parley.Shards]atomic.Uint32 // what is read without the lock
	count    [releasing + 1]atomic.Int32
}

// plot is a shard.
type plot struct {
	since time.Duration // of the stray state
	stray bool
	claim uint64
	asked []asked       // who waits for it to be let go of
	doubt time.Duration // until then it is in doubt
}

type asked struct {
	node  string
	claim uint64
}

// claim is some shards that are to be run here.
type claim struct {
	began   time.Duration
	shards  shardSet // that aren't open yet
	doubted shardSet // of them, those whose last node may have died of what waits there
	waiting map[string]*shardSet
}

// newTerritory is of one node among others. Without others (ground is nil) it
// holds every shard, for ever.
func newTerritory(self string, g ground) *territory {
	t := &territory{self: self, ground: g, claims: map[uint64]*claim{}, silent: map[string]bool{}}
	if g == nil {
		for shard := range t.holdings {
			t.holdings[shard].Store(uint32(held))
		}
		t.count[held].Store(parley.Shards)
	}
	return t
}

func (t *territory) state(shard uint16) holding { return holding(t.holdings[shard].Load()) }

// holds reports whether this node runs a shard.
func (t *territory) holds(shard uint16) bool { return t.state(shard) == held }

func (t *territory) in(h holding) int { return int(t.count[h].Load()) }

func (t *territory) set(shard uint16, to holding) {
	from := holding(t.holdings[shard].Swap(uint32(to)))
	t.count[from].Add(-1)
	t.count[to].Add(1)
}

// place takes note of a new placement.
func (t *territory) place(p Placement, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	before := t.placed
	t.placed, t.now = p, now
	alive := map[string]bool{}
	for _, node := range p.Holders() {
		alive[node] = true
	}
	for node := range t.silent {
		if !alive[node] {
			delete(t.silent, node)
		}
	}
	for _, c := range t.claims {
		for node, open := range c.waiting {
			if !alive[node] {
				open.each(c.doubted.add)
				delete(c.waiting, node)
			}
		}
	}
	t.wantedInDoubt.each(func(shard uint16) { // somebody else may be about to take it
		t.shards[shard].doubt = now + doubtFor
	})
	var gained, doubted shardSet
	for shard := range uint16(parley.Shards) {
		mine := p.Owner(shard) == t.self
		switch plot, state := &t.shards[shard], t.state(shard); {
		case mine && state == foreign:
			gained.add(shard)
			plot.stray = false
			was := ownerIn(before, shard)
			if was != "" && was != t.self && !alive[was] || plot.doubt > now {
				doubted.add(shard)
			}
		case !mine && state == claiming:
			t.unclaim(shard)
			t.set(shard, releasing)
			t.ground.letGo(shard)
		default:
			plot.judge(mine, state, now)
		}
	}
	t.wanted, t.wantedInDoubt = gained, doubted
	t.strays = parley.Shards // it may be any of them
	t.settle(now)
}

// judge says whether a shard is where it belongs by the placement. One that comes
// back while it is being let go of is claimed as soon as that is done.
func (p *plot) judge(mine bool, state holding, now time.Duration) {
	switch {
	case state == releasing && mine:
		p.stray, p.since = true, now-strayFor
	case state == held && !mine && !p.stray:
		p.stray, p.since = true, now
	case state == held && mine, state == releasing && !mine:
		p.stray = false
	case state == claiming, state == foreign, state == held, state == releasing:
	}
}

func ownerIn(p Placement, shard uint16) string {
	if p == nil {
		return ""
	}
	return p.Owner(shard)
}

// gain claims some of the wanted shards, as long as that may be.
func (t *territory) gain(now time.Duration) {
	for len(t.claims) < claimsAtOnce && !t.wanted.empty() {
		var shards, doubted shardSet
		n := 0
		t.wanted.each(func(shard uint16) {
			if n < claimShards {
				n++
				shards.add(shard)
			}
		})
		shards.each(func(shard uint16) {
			t.wanted.remove(shard)
			if t.wantedInDoubt.has(shard) {
				t.wantedInDoubt.remove(shard)
				doubted.add(shard)
			}
		})
		t.claim(shards, doubted, now)
		t.openReady(now)
	}
}

// claim begins to claim shards.
func (t *territory) claim(shards, doubted shardSet, now time.Duration) {
	t.last++
	c := &claim{began: now, shards: shards, doubted: doubted, waiting: map[string]*shardSet{}}
	t.claims[t.last] = c
	shards.each(func(shard uint16) {
		t.shards[shard].claim, t.shards[shard].stray = t.last, false
		t.set(shard, claiming)
		t.ground.hold(shard)
	})
	for _, node := range t.placed.Holders() {
		if node == t.self {
			continue
		}
		t.ground.ask(node, t.last, shards)
		if t.silent[node] { // it was waited for already, and nobody should be a second time
			shards.each(c.doubted.add)
			continue
		}
		open := shards
		c.waiting[node] = &open
	}
}

// unclaim takes a shard out of its claim.
func (t *territory) unclaim(shard uint16) {
	plot := &t.shards[shard]
	if c := t.claims[plot.claim]; c != nil {
		c.shards.remove(shard)
		if c.doubted.has(shard) {
			plot.doubt = t.now + doubtFor
		}
	}
	plot.claim = 0
}

// inDoubt reports whether whoever takes a shard over must doubt what waits in it.
func (t *territory) inDoubt(shard uint16) bool {
	plot := &t.shards[shard]
	c := t.claims[plot.claim]
	return plot.doubt > t.now || t.wantedInDoubt.has(shard) || c != nil && c.doubted.has(shard)
}

// settle opens what nobody is waited for any more, and claims more.
func (t *territory) settle(now time.Duration) {
	t.openReady(now)
	t.gain(now)
}

// openReady opens what nobody is waited for any more.
func (t *territory) openReady(now time.Duration) {
	for id, c := range t.claims {
		if now-c.began >= releaseWait {
			for node, open := range c.waiting {
				open.each(c.doubted.add)
				t.silent[node] = true
			}
			clear(c.waiting)
		}
		ready := c.shards
		for _, open := range c.waiting {
			open.each(ready.remove)
		}
		if !ready.empty() {
			t.ground.open(id, ready, c.doubted)
			ready.each(func(shard uint16) {
				c.shards.remove(shard)
				if c.doubted.has(shard) {
					t.shards[shard].doubt = now + doubtFor
				}
			})
		}
		if c.shards.empty() {
			delete(t.claims, id)
		}
	}
}

// tick does what is due.
func (t *territory) tick(now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.now = now
	if t.placed == nil {
		return
	}
	if t.strays > 0 {
		t.bringHome(now)
	}
	t.settle(now)
}

// bringHome does what is due with stray shards. Those that are asked for, a few at a
// time, stay for as long as that goes on.
func (t *territory) bringHome(now time.Duration) {
	t.strays = 0
	for shard := range uint16(parley.Shards) {
		plot := &t.shards[shard]
		if !plot.stray {
			continue
		}
		t.strays++
		if state := t.state(shard); now-plot.since < strayFor || state == held && now-t.asked < strayFor {
			continue
		}
		switch mine, state := t.placed.Owner(shard) == t.self, t.state(shard); {
		case mine && state == foreign:
			// Whom it belonged to isn't known any more: it is doubted.
			plot.stray = false
			t.wanted.add(shard)
			t.wantedInDoubt.add(shard)
		case !mine && state == held:
			plot.stray = false
			t.set(shard, releasing)
			t.ground.letGo(shard)
		case state == held || state == foreign:
			plot.stray = false
		}
	}
}

// released takes note that a node doesn't run shards any more.
func (t *territory) released(node string, id uint64, shards shardSet, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.silent, node)
	c := t.claims[id]
	if c == nil || c.waiting[node] == nil {
		return
	}
	open := c.waiting[node]
	shards.each(open.remove)
	if open.empty() {
		delete(c.waiting, node)
	}
	t.settle(now)
}

// opened serves the shards of a claim that are still to be run here.
func (t *territory) opened(id uint64, shards shardSet, serve func(shard uint16)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	shards.each(func(shard uint16) {
		plot := &t.shards[shard]
		if t.state(shard) != claiming || plot.claim != id {
			return
		}
		plot.claim = 0
		t.set(shard, held)
		serve(shard)
	})
}

// release lets go of shards for a node that is to run them.
func (t *territory) release(node string, id uint64, shards shardSet, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = now
	var free shardSet
	shards.each(func(shard uint16) {
		plot := &t.shards[shard]
		switch t.state(shard) {
		case foreign, claiming:
			if !t.inDoubt(shard) {
				free.add(shard)
			}
		case held:
			t.set(shard, releasing)
			// If it should be here by this node's view, then the one that asks has seen
			// another. Should that not come true, it is taken back.
			plot.stray, plot.since = ownerIn(t.placed, shard) == t.self, now
			t.strays++
			plot.asked = append(plot.asked, asked{node, id})
			t.ground.letGo(shard)
		case releasing:
			plot.asked = append(plot.asked, asked{node, id})
		}
	})
	if !free.empty() {
		t.ground.answer(node, id, free)
	}
}

// gone reports that the actors of a shard have ended.
func (t *territory) gone(shard uint16) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.state(shard) != releasing {
		return
	}
	t.set(shard, foreign)
	plot := &t.shards[shard]
	for _, a := range plot.asked {
		if t.inDoubt(shard) {
			break
		}
		var one shardSet
		one.add(shard)
		t.ground.answer(a.node, a.claim, one)
	}
	plot.asked = nil
}

// evict lets go of everything, and claims again what is this node's: it has slept,
// and others may have taken it meanwhile.
func (t *territory) evict(now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for shard := range uint16(parley.Shards) {
		plot := &t.shards[shard]
		switch t.state(shard) {
		case claiming:
			t.unclaim(shard)
		case held:
		case foreign, releasing:
			continue
		}
		t.set(shard, releasing)
		plot.stray, plot.since = true, now-strayFor
		t.strays++
		t.ground.letGo(shard)
	}
}
