package modelcheck

import (
	"fmt"
	"slices"
)

// The scope of the model of commits: two events, of which the second is posted when the
// first was acknowledged, as one user's are; each may come once more. Two machines, and
// both may believe that the conversation is theirs.
const (
	events   = 2
	rowsMax  = 3
	machines = 2
)

// CommitBugs are what the model of commits can be given to find.
type CommitBugs struct {
	ConflictIsSuccess bool // the machine goes on as if its turn were stored
	VersionUnchecked  bool // the store doesn't compare the version that a turn rests on
	RowsUnchecked     bool // nor the rows that it has seen
	SeenForgotten     bool // the turn doesn't look whether an event was met before
	AckBeforeAppend   bool // an event is acknowledged although its row may not be there
	NeverSwept        bool // nobody looks for rows whose hint was lost
}

// snapshot is a conversation: its version, and the events that took effect.
type snapshot struct {
	number, token uint8
	log           [rowsMax]uint8 // events in the order of their effects, counted from 1
	n             uint8
}

func (s snapshot) seen(event uint8) bool {
	return slices.Contains(s.log[:s.n], event)
}

// machine is an actors.Conversation.
type machine struct {
	incarnation uint8
	fresh       bool
	snapshot    snapshot
	queue       uint8 // rows, a bit each
	turn        turn  // under way, if it has rows
}

// turn is a parley.Commit.
type turn struct {
	base, next snapshot
	saw        uint8
}

type commitState struct {
	rows    [rowsMax]uint8 // the event of each; 0: none yet
	pending uint8
	posted  [events]uint8
	acked   [events]bool
	stored  snapshot
	machine [machines]machine
	late    turn  // of a machine that has died, and may still take hold
	faults  uint8 // machines that died, answers that were lost, commits that failed
}

// Commits is the protocol of turns: Append, Load, Hint, Step, Commit. So many faults of
// machines and commits there may be.
func Commits(faults int, bugs CommitBugs) Model[commitState] {
	return Model[commitState]{
		Name: "commits", Steps: func(s commitState) []Step[commitState] { return commits{uint8(faults), bugs, s, nil}.steps() },
		Broken:  commitState.broken,
		Settled: commitState.settled,
	}
}

// broken is G1 (once acknowledged, not lost), G2 (once), G3 (in order), G4 (what a machine
// goes on from is stored).
func (s commitState) broken() string {
	for i, m := range s.machine {
		if m.snapshot.number > s.stored.number {
			return fmt.Sprintf("machine %d goes on from a state that is not stored", i+1)
		}
	}
	count := [events + 1]uint8{}
	for _, e := range s.stored.log[:s.stored.n] {
		if count[e]++; count[e] > 1 {
			return fmt.Sprintf("event %d took effect twice", e)
		}
		if e == 2 && count[1] == 0 {
			return "event 2 took effect before event 1"
		}
	}
	for e := range uint8(events) {
		if s.acked[e] && count[e+1] == 0 && !s.waits(e+1) {
			return fmt.Sprintf("event %d was acknowledged and is lost", e+1)
		}
	}
	return ""
}

func (s commitState) waits(event uint8) bool {
	for r := range rowsMax {
		if s.pending&(1<<r) != 0 && s.rows[r] == event {
			return true
		}
	}
	return false
}

func (s commitState) settled() bool { return s.pending == 0 }

// commits gathers the steps of a state.
type commits struct {
	faults uint8
	bugs   CommitBugs
	s      commitState
	out    []Step[commitState]
}

func (c *commits) add(fault bool, to commitState, format string, args ...any) {
	c.out = append(c.out, Step[commitState]{Name: Named(format, args...), Fault: fault, To: to})
}

func (c commits) steps() []Step[commitState] {
	for e := range uint8(events) {
		c.post(e)
	}
	for i := range c.s.machine {
		c.hint(i)
		c.load(i)
		c.think(i)
		c.commit(i)
		c.crash(i)
	}
	if c.s.late.saw != 0 {
		to := c.s
		to.late = turn{}
		applied, _ := c.apply(to, c.s.late)
		c.add(true, applied, "the dead machine's commit takes hold, if it may")
		c.add(false, to, "the dead machine's commit comes to nothing")
	}
	return c.out
}

// post is ingress and Store.Append; what isn't acknowledged is posted again.
func (c *commits) post(e uint8) {
	if c.s.posted[e] == 2 || e > 0 && !c.s.acked[e-1] {
		return
	}
	row := 0
	for row < rowsMax && c.s.rows[row] != 0 {
		row++
	}
	if row == rowsMax {
		return
	}
	to := c.s
	to.posted[e]++
	if c.bugs.AckBeforeAppend {
		gone := to
		gone.acked[e] = true
		c.add(true, gone, "post %d: acknowledged, and the row lost", e+1)
	}
	to.rows[row], to.pending = e+1, to.pending|1<<row
	c.add(true, to, "post %d: stored, and the answer lost", e+1)
	to.acked[e] = true
	c.add(false, to, "post %d: stored and acknowledged", e+1)
}

// hint is Conversation.Hint: of any row that there has been, also late or doubled. Those
// that come during a turn are taken by the one after, and a load finds them itself.
func (c *commits) hint(i int) {
	if m := c.s.machine[i]; m.turn.saw != 0 || !m.fresh {
		return
	}
	for r := range rowsMax {
		if c.s.rows[r] != 0 && c.s.machine[i].queue&(1<<r) == 0 {
			to := c.s
			to.machine[i].queue |= 1 << r
			c.add(true, to, "machine %d is hinted row %d", i+1, r+1)
		}
	}
}

// load is Conversation.Wake and Store.Load.
func (c *commits) load(i int) {
	m := c.s.machine[i]
	if m.turn.saw != 0 || m.fresh && (m.queue != 0 || c.bugs.NeverSwept) || c.bugs.NeverSwept && m.queue == 0 {
		return
	}
	to := c.s
	to.machine[i].fresh, to.machine[i].snapshot, to.machine[i].queue = true, c.s.stored, c.s.pending
	c.add(false, to, "machine %d loads", i+1)
}

// think is parley.Step.
func (c *commits) think(i int) {
	m := c.s.machine[i]
	if !m.fresh || m.queue == 0 || m.turn.saw != 0 {
		return
	}
	next := m.snapshot
	next.number++
	next.token = uint8(i) + machines*m.incarnation + 1
	for r := range rowsMax {
		e := c.s.rows[r]
		if m.queue&(1<<r) == 0 || next.seen(e) && !c.bugs.SeenForgotten || int(next.n) == rowsMax {
			continue
		}
		next.log[next.n] = e
		next.n++
	}
	to := c.s
	to.machine[i].turn = turn{base: m.snapshot, next: next, saw: m.queue}
	c.add(false, to, "machine %d takes a turn with rows %03b", i+1, m.queue)
}

// apply is the store's transaction: the version and the rows up to the last that the turn
// has seen must be what they were.
func (c *commits) apply(s commitState, t turn) (commitState, bool) {
	through := uint8(0)
	for r := range rowsMax {
		if t.saw>>r != 0 {
			through |= 1 << r
		}
	}
	same := t.base.number == s.stored.number && t.base.token == s.stored.token
	if !same && !c.bugs.VersionUnchecked || s.pending&through != t.saw && !c.bugs.RowsUnchecked {
		return s, false
	}
	s.stored, s.pending = t.next, s.pending&^through
	return s, true
}

// commit is Store.Commit and Conversation.Committed.
func (c *commits) commit(i int) {
	m := c.s.machine[i]
	if m.turn.saw == 0 {
		return
	}
	done := c.s
	done.machine[i].turn, done.machine[i].queue = turn{}, 0
	failed := done
	failed.machine[i].fresh, failed.machine[i].snapshot = false, snapshot{}
	to, ok := c.apply(done, m.turn)
	switch {
	case ok || c.bugs.ConflictIsSuccess:
		to.machine[i].snapshot = m.turn.next
		c.add(false, to, "machine %d commits", i+1)
	default:
		c.add(false, failed, "machine %d has a conflict", i+1)
	}
	if c.s.faults == c.faults {
		return
	}
	failed.faults++
	c.add(true, failed, "the commit of machine %d fails", i+1)
	if lost, ok := c.apply(failed, m.turn); ok {
		c.add(true, lost, "machine %d commits, and the answer is lost", i+1)
	}
}

// crash ends a process; another begins in its place.
func (c *commits) crash(i int) {
	if c.s.faults == c.faults || c.s.machine[i] == (machine{incarnation: c.s.machine[i].incarnation}) {
		return
	}
	to := c.s
	to.faults++
	to.late = c.s.machine[i].turn
	to.machine[i] = machine{incarnation: c.s.machine[i].incarnation + 1}
	c.add(true, to, "machine %d dies", i+1)
}
