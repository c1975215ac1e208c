// Package sim runs the whole line from one seed, on one goroutine and in
// virtual time: decoding, the inbox, the machines of conversations and senders,
// the turn, and the simulated Meta that judges what comes out of it.
//
// The code that runs is the product's: meta.Decode, actors.Conversation,
// parley.Step, egress.Sender, egress.Gate. What is simulated is what lies
// between them: the store is the one in memory, and every step between two parts
// is an operation of its own that happens at a time drawn from the seed. Others
// act between a read and the write that rests on it; commits fail before they
// take hold, after, or with their answer lost, and some answers come seconds
// late; hints get lost, doubled, or reach a node that shouldn't have them; Meta
// posts again what was acknowledged long ago; nodes die with operations under
// way that may still take hold after their death, or sleep for longer than a
// lease and go on as if nothing had been, and their clocks run at different
// speeds. Two nodes run at once, and both believe that they own every
// conversation: whatever the membership says, the promises must hold.
//
// The verdict is computed by the simulated Meta, from what it sent and received.
// At the end the store must be empty, too: nothing pending, unsent or owed.
package sim

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/persistence/memory"
)

// Config describes one run. The zero value of a field takes its default.
type Config struct {
	Seed     uint64
	Brand    parley.Brand  // default sim
	Bot      parley.Bot    // one that speaks the simulator's protocol
	Messages int           // default 60, of some seeds 288
	Users    int           // default 6, of some seeds 3: few, so that a conversation has many events
	Rate     float64       // messages per second of virtual time; default 20
	Crashes  int           // of nodes; default 3
	Sleeps   int           // of nodes; default 3
	Trouble  float64       // chance that an operation of the store goes wrong; default 0.05
	Patience time.Duration // virtual time for what is owed at the end; default 3 min
}

func (c Config) withDefaults() Config {
	def := func(v *int, d int) {
		if *v == 0 {
			*v = d
		}
	}
	if c.Messages == 0 && c.Users == 0 && c.Seed%8 == 0 {
		// More events of a conversation than its snapshot remembers the keys of.
		c.Users, c.Messages = 3, 3*(parley.InlineSeen+parley.InlineSeen/2)
	}
	c.Brand = cmp.Or(c.Brand, "sim")
	def(&c.Messages, 60)
	def(&c.Users, 6)
	def(&c.Crashes, 3)
	def(&c.Sleeps, 3)
	if c.Rate == 0 {
		c.Rate = 20
	}
	if c.Trouble == 0 {
		c.Trouble = 0.05
	}
	if c.Patience == 0 {
		c.Patience = 3 * time.Minute
	}
	return c
}

const (
	nodes    = 2
	maxSteps = 400_000 // operations of one run; more is a livelock
	sleepMax = 8 * time.Second
	lateMax  = 4 * time.Second  // of an answer that comes late
	againMax = 20 * time.Second // of a post that comes again although it was acknowledged
	// noteGrace is how long before a node's end an answer of the Graph API may have
	// come and still not be noted: settling is tried for so long while the store is
	// in trouble.
	noteGrace = 2 * time.Second
)

// line is a run under way.
type line struct {
	cfg   Config
	rng   *rand.Rand
	start time.Time
	now   time.Time
	world *metatest.World
	store Store
	nodes [nodes]*node // nil: there is none
	walk  *walk        // nil: the seed rules
	ops   []op
	again int                     // acknowledged posts that will come again
	rings map[parley.ID]time.Time // when the service answers a call that it has heard of
	tally Tally
}

// Tally counts what a run went through, to see that it is not too kind.
type Tally struct {
	Steps, Loads, Asked, Commits, Conflicts, Failed, LostAnswers, Crashes, Sleeps, Again int
	Claims, Sends, Broken, Withheld, Doubtful, Woken                                     int
	Called, CallsLost, Answered                                                          int
}

// op is something that happens at a time. It belongs to an incarnation of a
// node; what a dead one had under way happens or not, as the seed will.
type op struct {
	at    time.Time
	node  *node // nil: of the world itself
	alive bool  // only happens if the node is still alive
	do    func()
}

// Run plays one seed and returns the verdict.
func Run(ctx context.Context, cfg Config) (metatest.Verdict, Tally, error) {
	cfg = cfg.withDefaults()
	l := newLine(cfg)
	if err := l.register(ctx); err != nil {
		return metatest.Verdict{}, l.tally, err
	}
	for i := range l.nodes {
		l.boot(ctx, i)
	}
	l.planCrashes(ctx)
	l.planSleeps()
	return l.play(ctx)
}

// play lets happen what happens, until nothing is owed any more or patience is at an
// end.
func (l *line) play(ctx context.Context) (metatest.Verdict, Tally, error) {
	end := l.start.Add(l.world.Config().Duration + l.cfg.Patience)
	for l.now.Before(end) {
		if l.world.Settled(l.now) && l.nothingLeft(ctx) {
			return l.world.Verdict(), l.tally, l.buried(ctx)
		}
		l.post(ctx)
		if l.tally.Steps++; l.tally.Steps > maxSteps {
			return l.world.Verdict(), l.tally, fmt.Errorf("seed %d: more than %d steps", l.cfg.Seed, maxSteps)
		}
		l.step()
		if err := ctx.Err(); err != nil {
			return l.world.Verdict(), l.tally, err
		}
		if l.walk != nil && l.walk.broken != nil {
			return l.world.Verdict(), l.tally, l.walk.broken
		}
	}
	left, err := l.store.Backlog(ctx)
	if err == nil && l.world.Verdict().Clean() {
		err = fmt.Errorf("left in the store: %+v", left)
	}
	return l.world.Verdict(), l.tally, err
}

// nothingLeft reports whether the store owes nothing and Meta posts nothing again.
func (l *line) nothingLeft(ctx context.Context) bool {
	left, err := l.store.Backlog(ctx)
	return err == nil && left.Pending == 0 && left.Unsent == 0 && left.Timers == 0 && left.Receipts == 0 && left.Calls == 0 && l.again == 0
}

// buried is an error if anything became a dead letter: no event of a run is at
// fault, and no message.
func (l *line) buried(ctx context.Context) error {
	dead, err := l.store.DeadLetters(ctx, parley.DeadQuery{Brand: l.cfg.Brand, Limit: 1})
	if err != nil || len(dead) == 0 {
		return err
	}
	return fmt.Errorf("dead letter: %s", dead[0].Cause)
}

func newLine(cfg Config) *line {
	l := &line{
		cfg: cfg, rng: rand.New(rand.NewPCG(cfg.Seed, 0x51)),
		start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), rings: map[parley.ID]time.Time{},
	}
	l.now = l.start
	w := metatest.Sized(cfg.Rate, cfg.Users)
	w.Seed, w.Start = cfg.Seed, l.start
	w.Duration = time.Duration(float64(cfg.Messages) / cfg.Rate * float64(time.Second))
	w.Channels = metatest.Counts{Messenger: 1, Instagram: 1, WhatsApp: 1}
	w.Duplicates, w.Delayed, w.Shuffled, w.Timers = 0.3, 0.1, 0.3, 0.3
	w.Faults.Transient, w.Faults.Withheld = 0.05, 0.05
	w.KillGrace = noteGrace
	l.world = metatest.NewWorld(w)
	l.store = memory.New(memory.Config{Now: func() time.Time { return l.now }, Random: seeded{l.rng}})
	return l
}

func (l *line) random() (b [16]byte) {
	_, _ = seeded{l.rng}.Read(b[:])
	return b
}

// seeded is the seed as a source of random bytes.
type seeded struct{ rng *rand.Rand }

// Read fills b; it never fails.
func (s seeded) Read(b []byte) (int, error) {
	for i := range b {
		b[i] = byte(s.rng.Uint32())
	}
	return len(b), nil
}

// chance is true with probability p.
func (l *line) chance(p float64) bool { return l.walk == nil && l.rng.Float64() < p }

// soon is a duration up to d.
func (l *line) soon(d time.Duration) time.Duration {
	if l.walk != nil {
		return d / 2
	}
	return time.Duration(l.rng.Int64N(int64(d)))
}

// answer is how long the answer of a store, or a hint, is on its way.
func (l *line) answer() time.Duration {
	if l.chance(0.02) {
		return l.soon(lateMax)
	}
	return l.soon(hop)
}

// later puts an operation on the agenda.
func (l *line) later(n *node, d time.Duration, do func()) {
	l.ops = append(l.ops, op{at: l.now.Add(d), node: n, alive: true, do: do})
}

// sent puts an operation on the agenda that has left its node: it may take hold
// although the node is dead by then.
func (l *line) sent(n *node, d time.Duration, do func()) {
	l.ops = append(l.ops, op{at: l.now.Add(d), node: n, do: do})
}

// step does one of the operations that are due, drawn from the seed; if none
// is, time passes until the next.
func (l *line) step() {
	due := l.due()
	if len(due) == 0 {
		l.pass()
		due = l.due()
	}
	if len(due) == 0 {
		return
	}
	i := due[l.rng.IntN(len(due))]
	o := l.ops[i]
	l.ops[i] = l.ops[len(l.ops)-1]
	l.ops = l.ops[:len(l.ops)-1]
	if o.node != nil && o.node.dead && (o.alive || l.chance(0.5)) {
		return
	}
	if o.alive && o.node != nil && l.now.Before(o.node.asleep) {
		o.at = o.node.asleep.Add(l.soon(hop))
		l.ops = append(l.ops, o)
		return
	}
	o.do()
}

func (l *line) due() []int {
	var due []int
	for i := range l.ops {
		if !l.ops[i].at.After(l.now) {
			due = append(due, i)
		}
	}
	return due
}

// pass lets time go on to the next thing that happens.
func (l *line) pass() {
	next := l.now.Add(time.Second)
	for i := range l.ops {
		if l.ops[i].at.Before(next) {
			next = l.ops[i].at
		}
	}
	if at, ok := l.world.NextDue(); ok && at.Before(next) {
		next = at
	}
	if next.After(l.now) {
		l.now = next
	} else {
		l.now = l.now.Add(time.Millisecond)
	}
}

// planCrashes draws when which node dies; it is back a moment later.
func (l *line) planCrashes(ctx context.Context) {
	for range l.cfg.Crashes {
		i := l.rng.IntN(nodes)
		at := l.soon(l.world.Config().Duration + 5*time.Second)
		l.later(nil, at, func() {
			l.tally.Crashes++
			l.nodes[i].dead = true
			l.world.Killed(l.now)
			l.later(nil, l.soon(2*time.Second), func() { l.boot(ctx, i) })
		})
	}
}

// planSleeps draws when which node stops for a while and then goes on, knowing
// nothing of it.
func (l *line) planSleeps() {
	for range l.cfg.Sleeps {
		i := l.rng.IntN(nodes)
		at := l.soon(l.world.Config().Duration + 5*time.Second)
		l.later(nil, at, func() {
			l.tally.Sleeps++
			l.nodes[i].asleep = l.now.Add(l.soon(sleepMax))
			l.world.Killed(l.now) // as far as others can tell
		})
	}
}
