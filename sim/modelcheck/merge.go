package modelcheck

import (
	"fmt"
	"math/bits"
)

// The two conversations of one person, until an event says so. The elder's key became
// known first: it survives.
const (
	elder = iota
	younger
	conversations
)

// The events of the model of merging. The third names both keys, and is posted when the
// first two were acknowledged; the fourth, again under the younger's key, after the third.
// So whoever knows the person says them in this order, but for the first two.
const (
	ofElder = iota + 1
	ofYounger
	ofBoth
	afterwards
	mergeEvents = afterwards
)

const (
	mergeRows = 8 // of the inbox: events, and timers that are due
	timersMax = 2 // the first two events set one each, of the same name
)

// MergeScope is how much there is in the model of merging, beside one machine for each
// conversation.
type MergeScope struct {
	Faults  int  // machines that die, commits that fail, answers that are lost
	Events  int  // of the four above; with two, whoever brought the third has died after the merge
	Again   bool // the younger's event is posted once more
	Timers  bool // the turns of the first two events set a timer
	Replies bool // each event is replied to
	Stale   bool // another node believes that the younger is its own, and goes on doing so
}

// MergeBugs are what the model of merging can be given to find.
type MergeBugs struct {
	SeenDropped     bool // the survivor doesn't know which events took effect in the younger
	GenerationsKept bool // timers keep the generations that they had on either side
	TimersDropped   bool // the younger's timers end with it
	RowsLeft        bool // the younger's rows are nobody's
	RowsMoved       bool // its rows become the survivor's, and those that come late are nobody's
	NotPassedOn     bool // its machine keeps to itself what it was told
	SendsOvertake   bool // the survivor's messages don't wait for the younger's
	SendsDropped    bool // the younger's messages end with it
	YoungerUnmoved  bool // its version stays as it was
	SurvivorUnmoved bool // the survivor's does
	InHalves        bool // the two commits of a merge are two transactions
	RepeatUncounted bool // a repeat isn't posted to the books
}

// armed is a timer: which event has set it, and its generation. The zero one is none.
type armed struct{ by, generation uint8 }

// person is what parley.Snapshot holds of a conversation.
type person struct {
	number, token uint8
	seen          uint8 // events, a bit each
	timer         armed
	generation    uint8
	merged        bool // MergedInto is the elder
}

// arrival is a row of the inbox: an event, or a timer that was due.
type arrival struct {
	event uint8
	timer armed
	home  uint8 // the conversation under whose name it is stored
}

// mergeTurn is a parley.Commit.
type mergeTurn struct {
	base, next person
	saw        uint8 // rows
	met        uint8 // events that take effect
	repeats    uint8
	rings      uint8 // timers that ring, by the events that set them
	sets       uint8 // timers that are set
}

// mergeMachine is an actors.Conversation.
type mergeMachine struct {
	incarnation uint8
	loading     bool // it has read the snapshot, and not the rows: postgres.Store.Load
	fresh       bool
	forward     bool
	sought      bool
	snapshot    person
	queue       uint8 // rows
	turn        mergeTurn
}

// timerFate is what has become of a timer. It is nobody's knowledge but the judge's.
type timerFate uint8

const (
	unset timerFate = iota
	live
	rung
	cancelled
)

type mergeState struct {
	rows    [mergeRows]arrival
	pending uint8
	posted  [mergeEvents + 1]uint8
	acked   uint8 // events
	stored  [conversations]person
	merged  bool // parley.merged: the survivor's loads and commits cover the younger's rows
	halfway bool // only the first of a merge's commits was taken
	agenda  [conversations]armed
	unsent  [conversations]uint8 // replies, by their events
	machine [conversations + 1]mergeMachine
	late    mergeTurn // of a machine that has died, and may still take hold
	lateOf  uint8     // its conversation
	faults  uint8

	// The judge's.
	met, sent         uint8
	fate              [timersMax + 1]timerFate
	effected, repeats uint8 // by the books
	fault             misdeed
}

// misdeed is what a step has broken, and which event, or which event's timer.
type misdeed struct {
	what mergeFault
	of   uint8
}

type mergeFault uint8

const (
	faultless mergeFault = iota
	metTwice
	metTooEarly
	rungInVain
	repliedTooEarly
	leftCommits
)

// String names the promise that is broken.
func (m misdeed) String() string {
	switch m.what {
	case faultless:
		return ""
	case metTwice:
		return fmt.Sprintf("event %d took effect twice", m.of)
	case metTooEarly:
		return fmt.Sprintf("event %d took effect before what had been acknowledged before it came", m.of)
	case rungInVain:
		return fmt.Sprintf("the timer of event %d rings though it was cancelled, or has rung", m.of)
	case repliedTooEarly:
		return fmt.Sprintf("the reply to event %d is sent before what was decided before it", m.of)
	case leftCommits:
	}
	return "the younger commits after the merge"
}

// Merges is the protocol by which two conversations become one: what parley.Merge and the
// stores do, amid turns, timers, replies, and machines that know nothing of it yet.
//
// Not in it: a person of three conversations, and two that stay apart for the moment since
// somebody has locked one of them (merging.lockContacts); these are what they were before.
func Merges(scope MergeScope, bugs MergeBugs) Model[mergeState] {
	return Model[mergeState]{
		Name:    "merges",
		Steps:   func(s mergeState) []Step[mergeState] { return merges{scope, bugs, s, nil}.steps() },
		Broken:  func(s mergeState) string { return s.broken(scope) },
		Settled: func(s mergeState) bool { return s.pending == 0 && s.unsent == [conversations]uint8{} },
	}
}

func bit(n uint8) uint8 { return 1 << n }

// broken is G1 (nothing lost), G6 (a live timer is somewhere), the audit's sum, and what
// a step has broken.
func (s mergeState) broken(scope MergeScope) string {
	if s.fault.what != faultless {
		return s.fault.String()
	}
	for e := uint8(1); e <= mergeEvents; e++ {
		if s.acked&bit(e) != 0 && s.met&bit(e) == 0 && !s.waits(e) {
			return fmt.Sprintf("event %d was acknowledged and is lost", e)
		}
		if scope.Replies && s.met&^s.sent&bit(e) != 0 && (s.unsent[elder]|s.unsent[younger])&bit(e) == 0 {
			return fmt.Sprintf("the reply to event %d is lost", e)
		}
	}
	for by := uint8(1); by <= timersMax; by++ {
		if s.fate[by] == live && !s.halfway && !s.ticks(by) {
			return fmt.Sprintf("the timer of event %d is lost", by)
		}
	}
	if accepted, pending := s.events(); accepted != s.effected+s.repeats+pending {
		return fmt.Sprintf("the books don't add up: %d acknowledged, %d effected, %d repeats, %d pending", accepted, s.effected, s.repeats, pending)
	}
	return ""
}

func (s mergeState) waits(event uint8) bool {
	for r := range s.rows {
		if s.pending&bit(uint8(r)) != 0 && s.rows[r].event == event {
			return true
		}
	}
	return false
}

// events counts those that were appended and those that wait.
func (s mergeState) events() (accepted, pending uint8) {
	for r := range s.rows {
		if s.rows[r].event == 0 {
			continue
		}
		if accepted++; s.pending&bit(uint8(r)) != 0 {
			pending++
		}
	}
	return accepted, pending
}

// ticks reports whether a timer is yet to ring: it is the live one of a conversation, and
// in the agenda, or in the inbox with the generation that is awaited.
func (s mergeState) ticks(by uint8) bool {
	for c := range uint8(conversations) {
		t := s.stored[c].timer
		if t.by != by {
			continue
		}
		if s.agenda[c] == t {
			return true
		}
		for r := range s.rows {
			if s.pending&bit(uint8(r)) != 0 && s.rows[r].timer == t {
				return true
			}
		}
	}
	return false
}

// merges gathers the steps of a state.
type merges struct {
	scope MergeScope
	bugs  MergeBugs
	s     mergeState
	out   []Step[mergeState]
}

func (c *merges) add(fault bool, to mergeState, format string, args ...any) {
	c.out = append(c.out, Step[mergeState]{Name: Named(format, args...), Fault: fault, To: to})
}

func (c merges) steps() []Step[mergeState] {
	for e := uint8(1); int(e) <= c.scope.Events; e++ {
		c.post(e)
	}
	c.merge()
	for i := range c.s.machine {
		if i == conversations && !c.scope.Stale {
			continue
		}
		c.hint(i)
		c.wake(i)
		c.load(i)
		c.passOn(i)
		c.think(i)
		c.commit(i)
		c.crash(i)
	}
	for conv := range uint8(conversations) {
		c.fire(conv)
		c.send(conv)
	}
	if c.s.late.saw != 0 {
		to := c.s
		to.late = mergeTurn{}
		applied, _ := c.apply(to, c.s.lateOf, c.s.late)
		c.add(true, applied, "the dead machine's commit takes hold, if it may")
		c.add(false, to, "the dead machine's commit comes to nothing")
	}
	return c.out
}

// of is the conversation of a machine. The last is a second one of the younger's.
func of(machine int) uint8 { return uint8(min(machine, younger)) }

func nameOf(conversation uint8) string {
	return [conversations]string{"elder", "younger"}[conversation]
}

func (s *mergeState) slot() int {
	for r := range s.rows {
		if s.rows[r] == (arrival{}) {
			return r
		}
	}
	return -1
}

// post is ingress and Store.Append: it stores under what the key is known to mean, which
// may be the younger still, if that was looked up before the merge (postgres.Store.lookUp).
func (c *merges) post(e uint8) {
	limit := uint8(1)
	if e == ofYounger && c.scope.Again {
		limit = 2
	}
	before := [...]uint8{ofBoth: bit(ofElder) | bit(ofYounger), afterwards: bit(ofBoth)}
	if c.s.posted[e] == limit || int(e) < len(before) && c.s.acked&before[e] != before[e] || e == ofBoth && !c.s.merged {
		return
	}
	to := c.s
	r := to.slot()
	if r < 0 {
		return
	}
	to.posted[e]++
	to.pending |= bit(uint8(r))
	to.rows[r] = arrival{event: e, home: elder}
	if !c.s.merged && (e == ofYounger || e == afterwards) {
		to.rows[r].home = younger
	}
	if to.posted[e] < limit {
		c.add(true, to, "event %d is stored for the %s, and the answer lost", e, nameOf(to.rows[r].home))
	}
	to.acked |= bit(e)
	c.add(false, to, "event %d is stored for the %s, and acknowledged", e, nameOf(to.rows[r].home))
	if c.s.merged && (e == ofYounger || e == afterwards) {
		to.rows[r].home = younger
		c.add(true, to, "event %d is stored for the younger by who looked up its key before, and acknowledged", e)
	}
}

// merge is what precedes the third event: Store.merge, embedded's txn.merge and memory's,
// one transaction with the two commits of parley.Merge.
func (c *merges) merge() {
	apart := bit(ofElder) | bit(ofYounger)
	if c.s.acked&apart != apart || c.s.merged {
		return
	}
	to := c.s
	if c.s.halfway {
		c.leave(&to)
		c.add(false, to, "the younger is left, in a transaction of its own")
		return
	}
	c.absorb(&to)
	if c.bugs.InHalves {
		to.halfway = true
		c.add(false, to, "the elder absorbs the younger, in a transaction of its own")
		return
	}
	c.leave(&to)
	c.add(false, to, "the younger is merged into the elder")
}

const mergeToken = 255

// absorb is the first commit of parley.Merge.
func (c *merges) absorb(to *mergeState) {
	s, y := &to.stored[elder], &to.stored[younger]
	if !c.bugs.SurvivorUnmoved {
		s.number, s.token = s.number+1, mergeToken
	}
	if !c.bugs.SeenDropped {
		s.seen |= y.seen // seenByEither
	}
	if to.agenda[elder] == s.timer {
		to.agenda[elder] = armed{} // CancelTimers
	}
	switch { // setAnew
	case s.timer.by == 0 && !c.bugs.TimersDropped:
		s.timer = y.timer
	case y.timer.by != 0:
		to.fate[y.timer.by] = cancelled // the survivor's stays
		if c.bugs.TimersDropped && s.timer.by == 0 {
			to.fate[y.timer.by] = live
		}
	}
	s.generation = max(s.generation, y.generation)
	if s.timer.by != 0 {
		if s.generation++; !c.bugs.GenerationsKept {
			s.timer.generation = s.generation
		}
		to.agenda[elder] = s.timer // SetTimers
	}
}

// leave is the second.
func (c *merges) leave(to *mergeState) {
	y := &to.stored[younger]
	if to.agenda[younger] == y.timer {
		to.agenda[younger] = armed{}
	}
	*y = person{number: y.number, token: y.token, merged: true}
	if !c.bugs.YoungerUnmoved {
		y.number, y.token = y.number+1, mergeToken
	}
	to.merged, to.halfway = true, false
	if c.bugs.SendsDropped {
		to.unsent[younger] = 0
	}
	if !c.bugs.RowsMoved {
		return
	}
	for r := range to.rows {
		if to.pending&bit(uint8(r)) != 0 {
			to.rows[r].home = elder
		}
	}
}

// covered is the rows that a load of a conversation returns and a commit compares:
// postgres' loadRowsSQL and applySQL, embedded's inboxLine, memory's final.
func (c *merges) covered(s *mergeState, conv uint8) (rows uint8) {
	for r := range s.rows {
		absorbed := conv == elder && s.merged && !c.bugs.RowsLeft && !c.bugs.RowsMoved
		if s.pending&bit(uint8(r)) != 0 && (s.rows[r].home == conv || absorbed) {
			rows |= bit(uint8(r))
		}
	}
	return rows
}

// hint is Conversation.Hint, of any row that waits and was stored for the conversation: the
// model of commits has those that come too late, or during a turn.
func (c *merges) hint(i int) {
	if m := &c.s.machine[i]; m.turn.saw != 0 || !m.fresh || m.loading {
		return
	}
	for r := range c.s.rows {
		row := c.s.rows[r]
		if c.s.pending&bit(uint8(r)) != 0 && row.home == of(i) && c.s.machine[i].queue&bit(uint8(r)) == 0 {
			to := c.s
			to.machine[i].queue |= bit(uint8(r))
			c.add(true, to, "machine %d, of the %s, is hinted row %d", i+1, nameOf(of(i)), r+1)
		}
	}
}

// wake is Conversation.Wake, by the sweeper: Agenda.Overdue names the conversation under
// which a row is stored (postgres), or its survivor.
func (c *merges) wake(i int) {
	m := &c.s.machine[i]
	if !m.idle() || !m.fresh || !c.s.stays(of(i)) {
		return
	}
	to := c.s
	to.machine[i].forget()
	c.add(false, to, "machine %d, of the %s, is woken", i+1, nameOf(of(i)))
}

func (s *mergeState) stays(home uint8) bool {
	for r := range s.rows {
		if s.pending&bit(uint8(r)) != 0 && s.rows[r].home == home {
			return true
		}
	}
	return false
}

// forget is what a machine does that loads anew.
func (m *mergeMachine) forget() { m.fresh, m.forward, m.snapshot = false, false, person{} }

func (m *mergeMachine) idle() bool { return m.turn.saw == 0 && !m.loading && m.queue == 0 }

// load is Conversation.Next and Loaded, and postgres.Store.Load, whose two statements may
// see two moments.
func (c *merges) load(i int) {
	to := c.s
	m := &to.machine[i]
	switch {
	case m.loading:
		m.loading, m.fresh, m.queue = false, true, c.covered(&c.s, of(i))
		if m.forward = m.snapshot.merged; m.forward {
			m.queue = 0
		}
		c.add(false, to, "machine %d, of the %s, reads rows %04b", i+1, nameOf(of(i)), m.queue)
	case m.turn.saw == 0 && (!m.fresh || m.queue == 0 && m.sought):
		m.forget()
		m.loading, m.sought, m.queue = true, false, 0
		m.snapshot = c.s.stored[of(i)]
		c.add(false, to, "machine %d, of the %s, reads the snapshot", i+1, nameOf(of(i)))
	}
}

// passOn is Conversation.passOn, Host.forward and Conversation.Seek.
func (c *merges) passOn(i int) {
	m := &c.s.machine[i]
	if !m.fresh || m.loading || !m.snapshot.merged || m.queue == 0 && !m.forward {
		return
	}
	to := c.s
	to.machine[i].queue, to.machine[i].forward = 0, false
	c.add(true, to, "machine %d passes on to the elder's, which doesn't hear of it", i+1)
	if s := &to.machine[elder]; !c.bugs.NotPassedOn {
		if s.idle() {
			s.forget()
		} else {
			s.sought = true
		}
	}
	c.add(false, to, "machine %d passes on to the elder's", i+1)
}

// think is parley.Step. The first two events set a timer of one name.
func (c *merges) think(i int) {
	m := &c.s.machine[i]
	if !m.fresh || m.loading || m.queue == 0 || m.turn.saw != 0 || m.snapshot.merged {
		return
	}
	t := mergeTurn{base: m.snapshot, next: m.snapshot, saw: m.queue}
	t.next.number, t.next.token = t.next.number+1, uint8(i)+(conversations+1)*m.incarnation+1
	for r := range c.s.rows {
		if m.queue&bit(uint8(r)) != 0 {
			c.meet(&t, c.s.rows[r])
		}
	}
	to := c.s
	to.machine[i].turn = t
	c.add(false, to, "machine %d, of the %s, takes a turn with rows %04b", i+1, nameOf(of(i)), t.saw)
}

// meet is what a turn makes of a row: parley's work.row.
func (c *merges) meet(t *mergeTurn, row arrival) {
	switch e := row.event; {
	case e == 0: // work.fire
		if t.next.timer.by != 0 && row.timer.generation == t.next.timer.generation {
			t.rings |= bit(row.timer.by)
			t.next.timer = armed{}
		}
	case t.next.seen&bit(e) != 0:
		t.repeats++
	default:
		t.next.seen |= bit(e)
		t.met |= bit(e)
		if c.scope.Timers && e <= timersMax { // work.setTimer
			t.next.generation++
			t.next.timer = armed{by: e, generation: t.next.generation}
			t.sets |= bit(e)
		}
	}
}

// apply is Store.Commit: the version, and the rows up to the last that the turn has seen,
// must be what they were.
func (c *merges) apply(s mergeState, conv uint8, t mergeTurn) (mergeState, bool) {
	through := c.covered(&s, conv) & (1<<bits.Len8(t.saw) - 1)
	stored := &s.stored[conv]
	if t.base.number != stored.number || t.base.token != stored.token || through != t.saw {
		return s, false
	}
	if stored.merged || s.merged && conv == younger {
		s.fault = misdeed{what: leftCommits}
	}
	s.judge(t)
	if s.agenda[conv] == t.base.timer && t.next.timer != t.base.timer {
		s.agenda[conv] = armed{} // CancelTimers
	}
	if t.sets != 0 && t.next.timer.by != 0 {
		s.agenda[conv] = t.next.timer
	}
	s.pending &^= t.saw
	if c.scope.Replies {
		s.unsent[conv] |= t.met
	}
	s.effected += uint8(bits.OnesCount8(t.met))
	if !c.bugs.RepeatUncounted {
		s.repeats += t.repeats
	}
	*stored = t.next
	return s, true
}

// judge is G2 (once), G3 (in order) and G6 (once, and not when cancelled).
func (s *mergeState) judge(t mergeTurn) {
	for e := uint8(1); e <= mergeEvents; e++ {
		switch {
		case t.met&bit(e) == 0:
		case s.met&bit(e) != 0:
			s.fault = misdeed{metTwice, e}
		case e == ofBoth && (s.met|t.met)&(bit(ofElder)|bit(ofYounger)) != bit(ofElder)|bit(ofYounger), e == afterwards && (s.met|t.met)&bit(ofBoth) == 0:
			s.fault = misdeed{metTooEarly, e}
		}
	}
	for by := uint8(1); by <= timersMax; by++ {
		if t.rings&bit(by) == 0 {
			continue
		}
		if s.fate[by] != live {
			s.fault = misdeed{rungInVain, by}
		}
		s.fate[by] = rung
	}
	if by := t.base.timer.by; t.sets != 0 && s.fate[by] == live {
		s.fate[by] = cancelled // set anew
	}
	for by := uint8(1); by <= timersMax; by++ {
		if t.sets&bit(by) != 0 {
			s.fate[by] = cancelled
		}
	}
	if by := t.next.timer.by; t.sets&bit(by) != 0 {
		s.fate[by] = live
	}
	s.met |= t.met
}

// commit is Store.Commit and Conversation.Committed.
func (c *merges) commit(i int) {
	m := &c.s.machine[i]
	if m.turn.saw == 0 {
		return
	}
	done := c.s
	done.machine[i].turn, done.machine[i].queue = mergeTurn{}, 0
	failed := done
	failed.machine[i].forget()
	to, ok := c.apply(done, of(i), m.turn)
	if ok {
		to.machine[i].snapshot = m.turn.next
		c.add(false, to, "machine %d, of the %s, commits", i+1, nameOf(of(i)))
	} else {
		c.add(false, failed, "machine %d, of the %s, has a conflict", i+1, nameOf(of(i)))
	}
	if int(c.s.faults) == c.scope.Faults {
		return
	}
	failed.faults++
	c.add(true, failed, "the commit of machine %d fails", i+1)
	if lost, ok := c.apply(failed, of(i), m.turn); ok {
		c.add(true, lost, "machine %d, of the %s, commits, and the answer is lost", i+1, nameOf(of(i)))
	}
}

// crash ends a process; another begins in its place.
func (c *merges) crash(i int) {
	if int(c.s.faults) == c.scope.Faults || c.s.machine[i] == (mergeMachine{incarnation: c.s.machine[i].incarnation}) {
		return
	}
	to := c.s
	to.faults++
	to.late, to.lateOf = c.s.machine[i].turn, 0
	if to.late.saw != 0 {
		to.lateOf = of(i)
	}
	to.machine[i] = mergeMachine{incarnation: c.s.machine[i].incarnation + 1}
	c.add(true, to, "machine %d, of the %s, dies", i+1, nameOf(of(i)))
}

// fire is Agenda.FireTimers: a timer that is due becomes a row.
func (c *merges) fire(conv uint8) {
	r := c.s.slot()
	if c.s.agenda[conv] == (armed{}) || r < 0 {
		return
	}
	to := c.s
	to.rows[r] = arrival{timer: c.s.agenda[conv], home: conv}
	to.pending |= bit(uint8(r))
	to.agenda[conv] = armed{}
	c.add(true, to, "the timer that event %d has set for the %s is due", c.s.agenda[conv].by, nameOf(conv))
}

// send is Outbox.Claim and what follows it, of the first message of a conversation; the
// younger's go first (memory's heads, embedded's goesBefore, postgres' claimSQL).
func (c *merges) send(conv uint8) {
	head := c.s.unsent[conv] & -c.s.unsent[conv]
	if head == 0 || conv == elder && c.s.merged && c.s.unsent[younger] != 0 && !c.bugs.SendsOvertake {
		return
	}
	to := c.s
	to.unsent[conv] &^= head
	to.sent |= head
	e := uint8(bits.TrailingZeros8(head))
	if e == ofBoth && to.sent&(bit(ofElder)|bit(ofYounger)) != bit(ofElder)|bit(ofYounger) || e == afterwards && to.sent&bit(ofBoth) == 0 {
		to.fault = misdeed{repliedTooEarly, e}
	}
	c.add(false, to, "the reply to event %d is sent", e)
}
