package actors

import (
	"maps"
	"slices"
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
	// a hundred thousand conversations holds up none of them for long. A shard's turns
	// wait for all that is claimed with it to come to its end. With claims four times as
	// large, two nodes that took over such a crowd held some turns up for 300 ms and more.
	claimShards  = 16
	claimsAtOnce = 2
	// doubtFor is how long a shard that was taken over in doubt passes that on when it
	// changes hands again: by then what waited in it has been tried.
	doubtFor = 10 * time.Second
)

// Ground is what a Territory decides about: the shard actors and the other nodes. It
// must not call the territory from within.
type Ground interface {
	Hold(shard uint16)                                 // keep what comes for a shard until it is served
	LetGo(shard uint16)                                // end its actors; report to Gone
	Ask(node string, claim uint64, shards ShardSet)    // to let go of shards, by Release
	Answer(node string, claim uint64, shards ShardSet) // that they are let go of, by Released
	Open(claim uint64, shards, doubted ShardSet)       // look for what waits in shards, and serve them by Opened
}

// Territory is which shards this node runs, and how they change hands.
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
type Territory struct {
	ground Ground
	self   string

	mu     sync.Mutex
	placed Placement
	shards [parley.Shards]plot
	claims map[uint64]*claim
	last   uint64 // id of the last claim
	now    time.Duration

	wanted, wantedInDoubt ShardSet        // to be run here, and not claimed yet
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
	shards  ShardSet // that aren't open yet
	doubted ShardSet // of them, those whose last node may have died of what waits there
	waiting map[string]*ShardSet
}

// NewTerritory is of one node among others. Without others (g is nil) it
// holds every shard, for ever.
func NewTerritory(self string, g Ground) *Territory {
	t := &Territory{self: self, ground: g, claims: map[uint64]*claim{}, silent: map[string]bool{}}
	if g == nil {
		for shard := range t.holdings {
			t.holdings[shard].Store(uint32(held))
		}
		t.count[held].Store(parley.Shards)
	}
	return t
}

func (t *Territory) state(shard uint16) holding { return holding(t.holdings[shard].Load()) }

// Holds reports whether this node runs a shard.
func (t *Territory) Holds(shard uint16) bool { return t.state(shard) == held }

func (t *Territory) in(h holding) int { return int(t.count[h].Load()) }

func (t *Territory) set(shard uint16, to holding) {
	from := holding(t.holdings[shard].Swap(uint32(to)))
	t.count[from].Add(-1)
	t.count[to].Add(1)
}

// Place takes note of a new placement.
func (t *Territory) Place(p Placement, now time.Duration) {
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
				open.Each(c.doubted.Add)
				delete(c.waiting, node)
			}
		}
	}
	t.wantedInDoubt.Each(func(shard uint16) { // somebody else may be about to take it
		t.shards[shard].doubt = now + doubtFor
	})
	var gained, doubted ShardSet
	for shard := range uint16(parley.Shards) {
		mine := p.Owner(shard) == t.self
		switch plot, state := &t.shards[shard], t.state(shard); {
		case mine && state == foreign:
			gained.Add(shard)
			plot.stray = false
			was := ownerIn(before, shard)
			if was != "" && was != t.self && !alive[was] || plot.doubt > now {
				doubted.Add(shard)
			}
		case !mine && state == claiming:
			t.unclaim(shard)
			t.set(shard, releasing)
			t.ground.LetGo(shard)
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
func (t *Territory) gain(now time.Duration) {
	for len(t.claims) < claimsAtOnce && !t.wanted.Empty() {
		var shards, doubted ShardSet
		n := 0
		t.wanted.Each(func(shard uint16) {
			if n < claimShards {
				n++
				shards.Add(shard)
			}
		})
		shards.Each(func(shard uint16) {
			t.wanted.Remove(shard)
			if t.wantedInDoubt.Has(shard) {
				t.wantedInDoubt.Remove(shard)
				doubted.Add(shard)
			}
		})
		t.claim(shards, doubted, now)
		t.openReady(now)
	}
}

// claim begins to claim shards.
func (t *Territory) claim(shards, doubted ShardSet, now time.Duration) {
	t.last++
	c := &claim{began: now, shards: shards, doubted: doubted, waiting: map[string]*ShardSet{}}
	t.claims[t.last] = c
	shards.Each(func(shard uint16) {
		t.shards[shard].claim, t.shards[shard].stray = t.last, false
		t.set(shard, claiming)
		t.ground.Hold(shard)
	})
	for _, node := range t.placed.Holders() {
		if node == t.self {
			continue
		}
		t.ground.Ask(node, t.last, shards)
		if t.silent[node] { // it was waited for already, and nobody should be a second time
			shards.Each(c.doubted.Add)
			continue
		}
		open := shards
		c.waiting[node] = &open
	}
}

// unclaim takes a shard out of its claim.
func (t *Territory) unclaim(shard uint16) {
	plot := &t.shards[shard]
	if c := t.claims[plot.claim]; c != nil {
		c.shards.Remove(shard)
		if c.doubted.Has(shard) {
			plot.doubt = t.now + doubtFor
		}
	}
	plot.claim = 0
}

// inDoubt reports whether whoever takes a shard over must doubt what waits in it.
func (t *Territory) inDoubt(shard uint16) bool {
	plot := &t.shards[shard]
	c := t.claims[plot.claim]
	return plot.doubt > t.now || t.wantedInDoubt.Has(shard) || c != nil && c.doubted.Has(shard)
}

// settle opens what nobody is waited for any more, and claims more.
func (t *Territory) settle(now time.Duration) {
	t.openReady(now)
	t.gain(now)
}

// openReady opens what nobody is waited for any more.
func (t *Territory) openReady(now time.Duration) {
	for _, id := range slices.Sorted(maps.Keys(t.claims)) { // the same each time, for who plays a run again
		c := t.claims[id]
		if now-c.began >= releaseWait {
			for node, open := range c.waiting {
				open.Each(c.doubted.Add)
				t.silent[node] = true
			}
			clear(c.waiting)
		}
		ready := c.shards
		for _, open := range c.waiting {
			open.Each(ready.Remove)
		}
		if !ready.Empty() {
			t.ground.Open(id, ready, c.doubted)
			ready.Each(func(shard uint16) {
				c.shards.Remove(shard)
				if c.doubted.Has(shard) {
					t.shards[shard].doubt = now + doubtFor
				}
			})
		}
		if c.shards.Empty() {
			delete(t.claims, id)
		}
	}
}

// Tick does what is due.
func (t *Territory) Tick(now time.Duration) {
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
func (t *Territory) bringHome(now time.Duration) {
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
			t.wanted.Add(shard)
			t.wantedInDoubt.Add(shard)
		case !mine && state == held:
			plot.stray = false
			t.set(shard, releasing)
			t.ground.LetGo(shard)
		case state == held || state == foreign:
			plot.stray = false
		}
	}
}

// Released takes note that a node doesn't run shards any more.
func (t *Territory) Released(node string, id uint64, shards ShardSet, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.silent, node)
	c := t.claims[id]
	if c == nil || c.waiting[node] == nil {
		return
	}
	open := c.waiting[node]
	shards.Each(open.Remove)
	if open.Empty() {
		delete(c.waiting, node)
	}
	t.settle(now)
}

// Opened serves the shards of a claim that are still to be run here.
func (t *Territory) Opened(id uint64, shards ShardSet, serve func(shard uint16)) {
	t.mu.Lock()
	defer t.mu.Unlock()
	shards.Each(func(shard uint16) {
		plot := &t.shards[shard]
		if t.state(shard) != claiming || plot.claim != id {
			return
		}
		plot.claim = 0
		t.set(shard, held)
		serve(shard)
	})
}

// Release lets go of shards for a node that is to run them.
func (t *Territory) Release(node string, id uint64, shards ShardSet, now time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.asked = now
	var free ShardSet
	shards.Each(func(shard uint16) {
		plot := &t.shards[shard]
		switch t.state(shard) {
		case foreign, claiming:
			if !t.inDoubt(shard) {
				free.Add(shard)
			}
		case held:
			t.set(shard, releasing)
			// If it should be here by this node's view, then the one that asks has seen
			// another. Should that not come true, it is taken back.
			plot.stray, plot.since = ownerIn(t.placed, shard) == t.self, now
			t.strays++
			plot.asked = append(plot.asked, asked{node, id})
			t.ground.LetGo(shard)
		case releasing:
			plot.asked = append(plot.asked, asked{node, id})
		}
	})
	if !free.Empty() {
		t.ground.Answer(node, id, free)
	}
}

// Gone reports that the actors of a shard have ended.
func (t *Territory) Gone(shard uint16) {
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
		var one ShardSet
		one.Add(shard)
		t.ground.Answer(a.node, a.claim, one)
	}
	plot.asked = nil
}

// Evict lets go of everything, and claims again what is this node's: it has slept,
// and others may have taken it meanwhile.
func (t *Territory) Evict(now time.Duration) {
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
		t.ground.LetGo(shard)
	}
}
