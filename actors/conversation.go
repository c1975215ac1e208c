package actors

import (
	"errors"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// Conversation decides what the owner of one conversation does next. It is a
// pure machine: the actor around it does what Next asks for and reports back,
// one thing at a time; the deterministic simulation drives the very same code.
//
// The invariant that everything rests on: rows are hints, the store is the
// truth. The machine may think about a wrong or incomplete set of rows without
// harm, since the commit compares them with the inbox, and the version with the
// stored one; either being off ends in ErrConflict, a load, and another thought.
// So hints may be lost, doubled or late, and two machines may even work on the
// same conversation at once.
type Conversation struct {
	snapshot parley.Snapshot
	queue    []parley.Pending         // by Seq; the first inFlight of them are being committed
	older    map[parley.EventKey]bool // keys that were asked for: whether they took effect long ago
	inFlight int32
	failures int32
	looks    int16 // how often somebody else's note is looked for, see Tried
	awaited  int16 // rows that were let go of for a load, which brings them again
	stage    stage
	fresh    bool   // the snapshot is the stored one, as far as is known here
	more     bool   // the inbox holds rows beyond the queue
	sought   bool   // the inbox holds rows that nobody may hint, see Seek
	rested   bool   // a Pause has ended since the last failure
	forward  bool   // it was merged, and whoever asked is to be passed on
	doubt    *doubt // what the process may have died of that ran this before; usually nothing
}

type stage uint8

const (
	idle stage = iota
	loading
	asking
	trying
	committing
	pausing
)

// Action is what the machine wants to be done.
type Action uint8

// The actions.
const (
	Rest  Action = iota // nothing: a report is awaited, or there is nothing to do
	Load                // load the conversation, then call Loaded
	Ask                 // look up OlderKeys, then call Older
	Try                 // ask for the suspects among Trying, then call Tried
	Think               // take a Turn and commit it, then call Committed
	Pause               // wait for Backoff, then call Resume
	// Forward: this conversation was merged. Tell the machine of MergedInto to
	// Seek; nothing is reported back.
	Forward
)

const (
	maxQueued     = 256 // hinted rows held for one conversation; beyond, they are loaded later
	firstBackoff  = 20 * time.Millisecond
	maxBackoff    = 2 * time.Second // below the 5 s within which a conversation heals
	calmConflicts = 3               // conflicts in a row before the machine backs off
)

// NewConversation is a machine that knows nothing but the conversation's name;
// the first thing it wants is to load it.
func NewConversation(id parley.Conversation) Conversation {
	return Conversation{snapshot: parley.Snapshot{Conversation: id}, looks: int16(suspectFor / lookEvery)}
}

// ID is the conversation.
func (c *Conversation) ID() parley.Conversation { return c.snapshot.Conversation }

// Hint tells of rows that may be pending.
func (c *Conversation) Hint(rows []parley.Pending) {
	if c.more {
		return // they lie beyond the queue and will be loaded
	}
	for i := range rows {
		c.insert(rows[i])
	}
}

func (c *Conversation) insert(p parley.Pending) {
	at := len(c.queue)
	for at > int(c.inFlight) && c.queue[at-1].Seq > p.Seq {
		at--
	}
	for i := range at {
		if c.queue[i].Row == p.Row {
			return
		}
	}
	if len(c.queue) >= maxQueued {
		c.more = true
		return
	}
	c.queue = slices.Insert(c.queue, at, p)
}

// Wake tells that rows are pending which may not have been hinted. A machine
// that is at work finds them by itself, or is woken again.
func (c *Conversation) Wake() {
	if c.stage == idle && len(c.queue) == 0 {
		c.fresh = false
	}
}

// Seek tells, as Wake does, that rows are pending; but these were hinted to
// another machine, whose conversation was merged into this one. So a machine that
// is at work, or whose load may have come too early, looks again afterwards.
func (c *Conversation) Seek() {
	if c.stage == idle && len(c.queue) == 0 {
		c.fresh = false
		return
	}
	c.sought = true
}

// MergedInto is the conversation that this one was merged into, when Next has
// said Forward.
func (c *Conversation) MergedInto() parley.Conversation {
	return parley.Conversation{Channel: c.ID().Channel, Contact: c.snapshot.MergedInto}
}

// Idle reports whether the machine has nothing to do and awaits nothing.
func (c *Conversation) Idle() bool {
	return c.stage == idle && len(c.queue) == 0 && !c.more && !c.sought
}

// Held is the number of rows in memory, with those that a load is about to bring there
// again: a store that is slow makes no room for others.
func (c *Conversation) Held() int { return len(c.queue) + int(c.awaited) }

// Next says what to do now.
func (c *Conversation) Next() Action {
	switch {
	case c.stage != idle:
		return Rest
	case !c.fresh || len(c.queue) == 0 && (c.more || c.sought):
		c.awaited = int16(min(c.Held(), maxQueued))
		c.queue, c.more, c.sought, c.older = nil, false, false, nil
		c.stage = loading
		return Load
	case c.snapshot.MergedInto != "":
		return c.passOn()
	case c.failures > calmConflicts && !c.rested:
		c.stage = pausing
		return Pause
	case len(c.queue) == 0:
		return Rest
	case c.mustAsk():
		c.stage = asking
		return Ask
	case c.doubt.of(c.queue[0].Seq):
		return c.try()
	}
	c.stage = committing
	c.inFlight = int32(min(len(c.queue), parley.MaxPendingPerTurn)) // it fits
	return Think
}

// passOn lets go of the rows, which are the survivor's: its load will find them.
// The snapshot is believed for hints only. Every Wake loads it anew, so that rows
// aren't forgotten should a store that was restored know nothing of the merge.
func (c *Conversation) passOn() Action {
	if len(c.queue) == 0 && !c.forward {
		return Rest
	}
	c.queue, c.forward, c.failures = nil, false, 0
	return Forward
}

// Loaded reports how the load ended. Rows hinted while it was under way are
// kept if they come after the loaded ones.
func (c *Conversation) Loaded(l parley.Loaded, err error) (paused bool) {
	c.stage = idle
	if err != nil {
		return c.failed()
	}
	hinted := c.queue
	c.snapshot, c.queue, c.more, c.fresh, c.awaited = l.Snapshot, l.Pending, l.More, true, 0
	c.forward = l.Snapshot.MergedInto != ""
	c.doubt.loaded(&l)
	last := parley.Seq(0)
	if n := len(c.queue); n > 0 {
		last = c.queue[n-1].Seq
	}
	for _, p := range hinted {
		if p.Seq > last && !c.more {
			c.insert(p)
		}
	}
	return false
}

// failed takes note of a failure after which the machine pauses.
func (c *Conversation) failed() (paused bool) {
	c.failures++
	c.stage, c.rested = pausing, false
	return true
}

// head is the rows that the next turn takes.
func (c *Conversation) head() []parley.Pending {
	return c.queue[:min(len(c.queue), parley.MaxPendingPerTurn)]
}

// unasked reports whether the store must be asked for the key of p. Rows may be
// hinted at any time, also while others' keys are being looked up, so this is
// known for each key and not for the queue.
func (c *Conversation) unasked(p *parley.Pending) bool {
	if !c.snapshot.NeedsOlder(*p) {
		return false
	}
	_, known := c.older[p.Key]
	return !known
}

func (c *Conversation) mustAsk() bool {
	head := c.head()
	for i := range head {
		if c.unasked(&head[i]) {
			return true
		}
	}
	return false
}

// OlderKeys are the keys at the head of the queue of which neither the snapshot
// nor an answer tells yet whether they took effect long ago.
func (c *Conversation) OlderKeys() []parley.EventKey {
	var keys []parley.EventKey
	head := c.head()
	for i := range head {
		if c.unasked(&head[i]) {
			keys = append(keys, head[i].Key)
		}
	}
	return keys
}

// Older reports which of keys, that OlderKeys named when Next said Ask, took
// effect long ago.
func (c *Conversation) Older(keys []parley.EventKey, found map[parley.EventKey]bool, err error) (paused bool) {
	c.stage = idle
	if err != nil {
		return c.failed()
	}
	if c.older == nil {
		c.older = make(map[parley.EventKey]bool, len(keys))
	}
	for _, k := range keys {
		c.older[k] = found[k]
	}
	return false
}

// Settling reports whether something is awaited that must be known before another
// machine goes on with the conversation: the end of a commit, or what was Noted.
func (c *Conversation) Settling() bool { return c.stage == committing || c.stage == trying }

// Turn is what to think about: the arguments of parley.Step.
func (c *Conversation) Turn() (parley.Snapshot, []parley.Pending, map[parley.EventKey]bool) {
	return c.snapshot, c.queue[:c.inFlight], c.older
}

// Committed reports how the commit of a Turn ended. After an error that leaves
// open whether it took hold, or a conflict, the store is asked.
func (c *Conversation) Committed(next parley.Snapshot, err error) (paused bool) {
	c.stage = idle
	c.doubt.forgetHead()
	if err == nil {
		c.snapshot, c.failures = next, 0
		c.acquitted(c.queue[:c.inFlight])
		c.queue = slices.Clone(c.queue[c.inFlight:]) // let go of what was handled
		if len(c.queue) == 0 {
			c.queue = nil
		}
		c.inFlight, c.older = 0, nil
		return false
	}
	c.inFlight, c.fresh = 0, false
	if !errors.Is(err, parley.ErrConflict) {
		return c.failed()
	}
	c.failures++
	c.rested = false
	return false
}

// Hold makes the machine pause instead of taking the Turn that it asked for.
func (c *Conversation) Hold() { c.stage, c.inFlight = pausing, 0 }

// lookAgain is after how many pauses in a row a machine whose turns are put off looks
// at the store: another may have gone on with the conversation.
const lookAgain = 8

// PutOff makes the machine pause, longer each time, before it takes the Turn again
// that it has just taken: nothing of that may be stored yet, or what is stored isn't
// for this program.
func (c *Conversation) PutOff() {
	c.failed()
	c.inFlight = 0
	c.fresh = c.failures%lookAgain != 0
}

// Backoff is how long a Pause lasts.
func (c *Conversation) Backoff() time.Duration {
	if c.doubt.looking() {
		return lookEvery
	}
	return min(firstBackoff<<min(c.failures, 8), maxBackoff)
}

// Resume ends a Pause.
func (c *Conversation) Resume() {
	if c.stage == pausing {
		c.stage, c.rested = idle, true
	}
}
