package modelcheck

import (
	"fmt"
	"math/bits"
)

// The scope of the model of handing over: one shard with one conversation, three nodes.
// The first runs it. Of two events the second is posted when the first was acknowledged.
const (
	nodes      = 3
	handEvents = 2
	allNodes   = 1<<nodes - 1
	allEvents  = 1<<handEvents - 1
)

// HandOverScope is how much happens in the model of handing over.
type HandOverScope struct {
	Changes int // of the members: each is heard of by each node in its time
	Faults  int // nodes that die, sleep or are taken for lost, words that are lost, commits that fail
	Events  int // one or two
	// Punctual is a world in which no wait ends before its time, and no node that claims
	// the shard hears that another is to, or is asked for it. In it never two nodes run
	// the shard, and never nobody, which is judged; whether it settles is not.
	Punctual bool
}

const changesMax = 3

// HandOverBugs are what the model of handing over can be given to find.
type HandOverBugs struct {
	FirstAnswerCounts bool // a shard is served when the first of the others has let go of it
	GivenUpUnasked    bool // a shard is let go of as soon as another owner is seen
	LeftTooEarly      bool // a conversation leaves while its commit is under way
	OthersServed      bool // who doesn't run a shard takes turns of what it is hinted
	StrayForgotten    bool // who owns a shard that it was asked for in error doesn't claim it again
	SleeperForgets    bool // who has slept lets go of everything and claims nothing
	WaitsForEver      bool // for who doesn't answer
	NeverSwept        bool // what waits in a shard is looked for neither when it is opened nor later
	VersionUnchecked  bool // the store doesn't compare the version that a turn rests on
}

// A shard's way through a node, as in actors.Territory.
type shardState uint8

const (
	foreign shardState = iota
	claiming
	held
	releasing
)

// placement is an actors.Placement: who is to run the shard, and who may be running it.
type placement struct{ owner, holders uint8 }

// talk is what parley.Snapshot holds of the conversation.
type talk struct {
	number, token uint8
	met           uint8 // events, a bit each
}

// talkTurn is a parley.Commit.
type talkTurn struct {
	base, next talk
	saw        uint8 // rows: one for each event
}

// member is one node: its territory, its shard actor and, if known, the conversation's.
type member struct {
	incarnation uint8
	dead        bool
	view        uint8 // number of the placement that it has heard of, from 1; 0: none
	state       shardState
	stray       bool  // plot.stray
	waiting     uint8 // for the answers of these: claim.waiting
	opening     bool  // nobody is waited for any more: territory.openReady
	back        bool  // something waits for it to be opened: serve.waiting, or shard.back
	asked       uint8 // by these, who wait for it to be let go of: plot.asked

	known    bool // there is an actor of the conversation
	fresh    bool
	snapshot talk
	queue    uint8
	turn     talkTurn
}

type handState struct {
	placements [changesMax + 1]placement
	told       uint8 // placements
	node       [nodes]member
	asks       [nodes]uint8 // by each: on their way to these, for its claim
	oldAsks    [nodes]uint8 // the same, of claims that have ended
	answers    [nodes]uint8 // to each: on their way from these, for its claim

	posted, pending uint8
	stored          talk
	late            talkTurn // of a node that has died, and may still take hold
	faults          uint8

	early bool // the second event took effect before the first
}

// HandOvers is the protocol by which a shard changes hands: actors.territory and the shard
// actors of three nodes that hear of the same members at different times, with turns under
// way, of which the store decides by their version.
//
// Every wait may end at once (releaseWait, strayFor) and every message may take for ever
// and overtake others, which is more than there is: territory waits for a second, and a
// link keeps the order. So it needn't have territory.silent and territory.asked, which only
// choose among what may happen here anyway. Nor has it the bound on claims, and what a
// process may have died of: who doubts is silent, which is an answer lost.
func HandOvers(scope HandOverScope, bugs HandOverBugs) Model[handState] {
	start := handState{told: 1}
	start.placements[0] = placement{owner: 0, holders: allNodes}
	for i := range start.node {
		start.node[i].view = 1
	}
	start.node[0].state, start.node[0].known, start.node[0].fresh = held, true, true
	return Model[handState]{
		Name: "hand-overs", Start: start,
		Steps:   func(s handState) []Step[handState] { return handOvers{scope, bugs, s, nil}.steps() },
		Broken:  func(s handState) string { return s.broken(scope) },
		Settled: func(s handState) bool { return scope.Punctual || s.settled() },
	}
}

// broken is G1, G3, and what ADR 0011 says of when two nodes run a shard, or none.
func (s handState) broken(scope HandOverScope) string {
	if lost := s.posted &^ s.pending &^ s.stored.met; lost != 0 {
		return fmt.Sprintf("event %d was acknowledged and is lost", bits.TrailingZeros8(lost)+1)
	}
	if s.early {
		return "event 2 took effect before event 1"
	}
	runs, serves := 0, false
	for i := range s.node {
		if s.node[i].runs() {
			runs++
		}
		serves = serves || s.node[i].state == held || s.node[i].state == claiming
	}
	if runs > 1 && scope.Punctual {
		return "two nodes run the shard, though nobody was late"
	}
	if !serves && scope.Punctual {
		return "nobody runs the shard or asks for it, though nobody was late"
	}
	return ""
}

// runs reports whether turns are taken here, or one isn't settled yet.
func (m *member) runs() bool { return m.state == held || m.turn.saw != 0 }

// settled: all events have taken effect, all nodes have heard of the last members, and
// the shard is run by its owner and by nobody else.
func (s handState) settled() bool {
	if s.pending != 0 {
		return false
	}
	for i := range s.node {
		want := foreign
		if s.placements[s.told-1].owner == uint8(i) {
			want = held
		}
		if s.node[i].view != s.told || s.node[i].state != want {
			return false
		}
	}
	return true
}

// handOvers gathers the steps of a state.
type handOvers struct {
	scope HandOverScope
	bugs  HandOverBugs
	s     handState
	out   []Step[handState]
}

func (c *handOvers) add(fault bool, to handState, format string, args ...any) {
	c.out = append(c.out, Step[handState]{Name: Named(format, args...), Fault: fault, To: to})
}

func (c handOvers) steps() []Step[handState] {
	c.change()
	c.arrive()
	for i := range c.s.node {
		if c.s.node[i].dead {
			to := c.s
			to.node[i] = member{incarnation: c.s.node[i].incarnation + 1}
			c.add(false, to, "node %d begins anew", i+1)
			continue
		}
		c.hear(i)
		c.words(i)
		c.open(i)
		c.letGo(i)
		c.home(i)
		c.hint(i)
		c.turn(i)
		c.commit(i)
		c.fail(i)
	}
	if c.s.late.saw != 0 {
		to := c.s
		to.late = talkTurn{}
		applied, _ := c.apply(to, c.s.late)
		c.add(true, applied, "the dead node's commit takes hold, if it may")
		c.add(false, to, "the dead node's commit comes to nothing")
	}
	return c.out
}

// change is what gossip will tell: another owner, since somebody has come, drains or is
// unfit; or the owner is taken for lost, whether it is or not, and isn't asked any more.
func (c *handOvers) change() {
	if int(c.s.told) > c.scope.Changes {
		return
	}
	last := c.s.placements[c.s.told-1]
	for owner := range uint8(nodes) {
		if owner == last.owner {
			continue
		}
		to := c.s
		to.told++
		to.placements[to.told-1] = placement{owner, allNodes}
		c.add(true, to, "the members change: node %d is to run the shard", owner+1)
		if !c.mayFail() {
			continue
		}
		to.faults++
		to.placements[to.told-1] = placement{owner, allNodes &^ bit(last.owner)}
		c.add(true, to, "the members change: node %d is lost, node %d is to run the shard", last.owner+1, owner+1)
	}
}

// arrive is Store.Append.
func (c *handOvers) arrive() {
	if e := bits.Len8(c.s.posted); e < c.scope.Events {
		to := c.s
		to.posted |= bit(uint8(e))
		to.pending |= bit(uint8(e))
		c.add(false, to, "event %d is stored and acknowledged", e+1)
	}
}

func (s *handState) placed(i int) placement {
	if v := s.node[i].view; v > 0 {
		return s.placements[v-1]
	}
	return placement{owner: nodes}
}

// hear is territory.place and plot.judge. Who has just begun hears of the last members.
func (c *handOvers) hear(i int) {
	if n := &c.s.node[i]; c.scope.Punctual && n.state == claiming {
		return
	}
	for v := c.s.node[i].view + 1; v <= c.s.told; v++ {
		if c.s.node[i].view == 0 && v < c.s.told {
			continue
		}
		to := c.s
		n := &to.node[i]
		n.view = v
		p := to.placed(i)
		n.waiting &= p.holders
		to.openReady(i)
		switch mine := p.owner == uint8(i); {
		case mine && n.state == foreign:
			to.claim(i)
		case !mine && n.state == claiming:
			to.endClaim(i)
			n.state, n.opening, n.back = releasing, false, false
		case mine && n.state == releasing, !mine && n.state == held:
			n.stray = true
			if n.state == held && c.bugs.GivenUpUnasked {
				n.state, n.stray = releasing, false
			}
		case mine && n.state == held, !mine && n.state == releasing:
			n.stray = false
		}
		to.forget()
		c.add(false, to, "node %d hears that node %d is to run the shard", i+1, p.owner+1)
	}
}

// forget lets go of placements that nobody goes by any more: for the search, states that
// differ in them only are the same.
func (s *handState) forget() {
	oldest := s.told
	for i := range s.node {
		if v := s.node[i].view; v > 0 {
			oldest = min(oldest, v)
		}
	}
	clear(s.placements[:oldest-1])
}

// claim is territory.gain and claim: all who may run the shard are asked for it. What was
// asked of them before comes at the latest with that, as a link keeps the order.
func (s *handState) claim(i int) {
	n := &s.node[i]
	n.stray, n.state = false, claiming
	n.waiting = s.placed(i).holders &^ bit(uint8(i))
	s.asks[i] = n.waiting
	s.oldAsks[i] &^= n.waiting
	s.openReady(i)
}

// endClaim ends a node's claim, if it has one: answers to it come too late, and what was
// asked for it is let go of for nobody.
func (s *handState) endClaim(i int) {
	s.oldAsks[i] |= s.asks[i]
	s.asks[i], s.answers[i], s.node[i].waiting = 0, 0, 0
	for k := range s.node {
		s.node[k].asked &^= bit(uint8(i))
	}
}

// openReady is territory.openReady, and Host.waitingIn: what waits is looked for.
func (s *handState) openReady(i int) {
	if n := &s.node[i]; n.state == claiming && n.waiting == 0 && !n.opening {
		n.opening, n.back = true, n.back || s.pending != 0
		s.endClaim(i)
	}
}

// words are those that come to a node, or get lost on their way.
func (c *handOvers) words(i int) {
	for k := range c.s.node {
		from := bit(uint8(k))
		for _, old := range []bool{false, true} {
			c.ask(i, k, old)
		}
		if c.s.answers[i]&from == 0 {
			continue
		}
		to := c.s
		to.answers[i] &^= from
		if c.mayFail() {
			lost := to
			lost.faults++
			c.add(true, lost, "the answer of node %d to node %d is lost", k+1, i+1)
		}
		n := &to.node[i] // territory.released
		if n.waiting &^= from; c.bugs.FirstAnswerCounts {
			n.waiting = 0
		}
		to.openReady(i)
		c.add(false, to, "node %d hears that node %d has let go", i+1, k+1)
	}
	if c.s.node[i].waiting != 0 && !c.bugs.WaitsForEver && !c.scope.Punctual {
		to := c.s
		to.node[i].waiting = 0
		to.openReady(i)
		c.add(false, to, "node %d has waited for long enough", i+1)
	}
}

// ask is territory.release, by a node k.
func (c *handOvers) ask(i, k int, old bool) {
	to := c.s
	asks := &to.asks[k]
	if old {
		asks = &to.oldAsks[k]
	}
	if *asks&bit(uint8(i)) == 0 || c.scope.Punctual && c.s.node[i].state == claiming {
		return
	}
	*asks &^= bit(uint8(i))
	if c.mayFail() {
		lost := to
		lost.faults++
		c.add(true, lost, "what node %d asks of node %d is lost", k+1, i+1)
	}
	n := &to.node[i]
	switch n.state {
	case claiming, foreign:
		if !old {
			to.answers[k] |= bit(uint8(i))
		}
	case held, releasing:
		if n.state == held {
			n.state, n.stray = releasing, to.placed(i).owner == uint8(i)
		}
		if !old {
			n.asked |= bit(uint8(k))
		}
	}
	c.add(false, to, "node %d is asked to let go by node %d", i+1, k+1)
}

// open is Host.openShards: territory.opened and shard.open.
func (c *handOvers) open(i int) {
	if !c.s.node[i].opening {
		return
	}
	to := c.s
	n := &to.node[i]
	n.state, n.opening = held, false
	n.known, n.back = n.back && !c.bugs.NeverSwept, false
	c.add(false, to, "node %d serves the shard", i+1)
}

// letGo is shard.letGo, conversation.leave and territory.gone: the actors end, but not amid
// a commit.
func (c *handOvers) letGo(i int) {
	if n := &c.s.node[i]; n.state != releasing || n.turn.saw != 0 && !c.bugs.LeftTooEarly {
		return
	}
	to := c.s
	n := &to.node[i]
	n.state = foreign
	n.known, n.fresh, n.snapshot, n.queue = false, false, talk{}, 0
	for k := range to.node {
		if n.asked&bit(uint8(k)) != 0 {
			to.answers[k] |= bit(uint8(i))
		}
	}
	n.asked = 0
	c.add(false, to, "node %d has let go", i+1)
}

// home is territory.bringHome.
func (c *handOvers) home(i int) {
	if n := &c.s.node[i]; !n.stray || n.state != held && n.state != foreign || c.bugs.StrayForgotten || c.scope.Punctual {
		return
	}
	to := c.s
	n := &to.node[i]
	n.stray = false
	switch mine := to.placed(i).owner == uint8(i); {
	case mine && n.state == foreign:
		to.claim(i)
	case !mine && n.state == held:
		n.state = releasing
	}
	c.add(false, to, "node %d looks after a shard that is stray", i+1)
}

// hint is what comes to a shard actor: Host.accept and shard.hinted. Who doesn't run the
// shard passes it on, or drops it (Host.passOn).
func (c *handOvers) hint(i int) {
	if c.s.pending == 0 {
		return
	}
	n := &c.s.node[i]
	if n.state == claiming && !n.back {
		to := c.s
		to.node[i].back = true
		c.add(true, to, "node %d holds back what comes for the shard", i+1)
	}
	if !n.serves(c.bugs) || n.turn.saw != 0 {
		return
	}
	for r := range uint8(handEvents) {
		if c.s.pending&^n.queue&bit(r) == 0 || n.known && !n.fresh {
			continue
		}
		to := c.s
		n := &to.node[i]
		n.known = true
		if n.fresh {
			n.queue |= bit(r)
		}
		c.add(true, to, "node %d is hinted event %d", i+1, r+1)
	}
}

// serves reports whether hints are taken.
func (m *member) serves(bugs HandOverBugs) bool {
	return m.state == held || m.state == foreign && bugs.OthersServed
}

// turn is what a conversation does that isn't leaving: it is woken by the sweeper, which
// looks at what the node runs (Host.wakeOverdue), loads, and takes a turn.
func (c *handOvers) turn(i int) {
	to := c.s
	n := &to.node[i]
	if !n.serves(c.bugs) || n.turn.saw != 0 {
		return
	}
	switch {
	case n.known && !n.fresh:
		n.fresh, n.snapshot, n.queue = true, c.s.stored, c.s.pending
		c.add(false, to, "node %d loads the conversation", i+1)
	case n.queue != 0:
		next := n.snapshot
		next.number, next.token = next.number+1, uint8(i)+nodes*n.incarnation+1
		next.met |= n.queue
		n.turn = talkTurn{base: n.snapshot, next: next, saw: n.queue}
		c.add(false, to, "node %d takes a turn with rows %02b", i+1, n.queue)
	case n.state == held && c.s.pending != 0 && !c.bugs.NeverSwept:
		n.known, n.fresh, n.snapshot = true, false, talk{}
		c.add(false, to, "node %d is woken", i+1)
	}
}

// apply is Store.Commit.
func (c *handOvers) apply(s handState, t talkTurn) (handState, bool) {
	through := s.pending & (1<<bits.Len8(t.saw) - 1)
	same := t.base.number == s.stored.number && t.base.token == s.stored.token
	if !same && !c.bugs.VersionUnchecked || through != t.saw {
		return s, false
	}
	s.pending &^= t.saw
	s.stored = t.next
	s.early = s.stored.met == bit(1)
	return s, true
}

// commit is Host.commitGroup and Conversation.Committed, also of a node that has slept
// since, if it doesn't notice in time (Host.commitAwake).
func (c *handOvers) commit(i int) {
	t := c.s.node[i].turn
	if t.saw == 0 {
		return
	}
	done := c.s
	n := &done.node[i]
	n.turn, n.queue = talkTurn{}, 0
	if n.state == foreign { // it has left already
		n.known, n.fresh, n.snapshot = false, false, talk{}
	}
	failed := done
	failed.node[i].fresh, failed.node[i].snapshot = false, talk{}
	to, ok := c.apply(done, t)
	if ok {
		if to.node[i].known {
			to.node[i].snapshot = t.next
		}
		c.add(false, to, "node %d commits", i+1)
	} else {
		c.add(false, failed, "node %d has a conflict", i+1)
	}
	if !c.mayFail() {
		return
	}
	failed.faults++
	c.add(true, failed, "the commit of node %d fails", i+1)
	if lost, ok := c.apply(failed, t); ok {
		c.add(true, lost, "node %d commits, and the answer is lost", i+1)
	}
}

func (c *handOvers) mayFail() bool { return int(c.s.faults) < c.scope.Faults }

// fail is the death of a node, or that it finds that it has slept: territory.evict.
func (c *handOvers) fail(i int) {
	if !c.mayFail() {
		return
	}
	to := c.s
	n := &to.node[i]
	to.faults++
	died := to
	if n.turn.saw != 0 {
		died.late = n.turn
	}
	died.endClaim(i)
	died.oldAsks[i] = 0
	for k := range died.node {
		died.asks[k] &^= bit(uint8(i))
		died.oldAsks[k] &^= bit(uint8(i))
		died.node[k].asked &^= bit(uint8(i))
	}
	died.node[i] = member{incarnation: n.incarnation, dead: true}
	c.add(true, died, "node %d dies", i+1)
	if n.state != held && n.state != claiming {
		return
	}
	to.endClaim(i)
	n.opening, n.back = false, false
	n.state, n.stray = releasing, !c.bugs.SleeperForgets
	c.add(true, to, "node %d finds that it has slept", i+1)
}
