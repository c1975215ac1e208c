// Package sim runs the whole line from one seed, on one goroutine and in
// virtual time: the entrance, its spool, the inbox, the machines of conversations and
// senders, the turn, and the simulated Meta that judges what comes out of it.
//
// The code that runs is the product's: ingress.Server and Spool, actors.Conversation,
// parley.Step, egress.Sender, egress.Gate. What is simulated is what lies
// between them: the store is the one in memory, or in some runs the embedded one on a disk
// that forgets what wasn't synced, and every step between two parts
// is an operation of its own that happens at a time drawn from the seed. Others
// act between a read and the write that rests on it; commits fail before they
// take hold, after, or with their answer lost, and some answers come seconds
// late; hints get lost, doubled, or reach a node that shouldn't have them; Meta
// posts again what was acknowledged long ago; nodes die with operations under
// way that may still take hold after their death, or sleep for longer than a
// lease and go on as if nothing had been, and their clocks run at different
// speeds and are wrong; the store is out of reach for seconds, while webhooks go to
// a spool on a disk that fails, and forgets what wasn't synced; a bot of two versions is
// upgraded in between, and taken back. Two nodes run at once, and both believe that they
// own every conversation: whatever the membership says, the promises must hold.
//
// In runs with views (Config.Views) there are three nodes, which hear of each other's
// beginnings, deaths and sleeps, and now and then wrongly, each in its own time. Each has a
// territory (actors.Territory) and the placements of what it has heard (cluster.View): it
// runs the shards that it holds, asks others for what is to be its own, lets go of what it
// is asked for when its turns have ended, and passes on what comes for others, as bytes
// (actors.RowsToWire). What was taken over in doubt is tried first, and nothing is condemned.
//
// The verdict is computed by the simulated Meta, from what it sent and received.
// At the end the store must be empty, too: nothing pending, unsent or owed. And where nodes
// have views, each shard must be run by its owner and by nobody else, soon after all of
// them know of each other.
package sim

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/meta/metatest/history"
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
	Crashes  int           // of nodes; default 3; negative: none
	Sleeps   int           // of nodes; default 3; negative: none
	Trouble  float64       // chance that an operation of the store goes wrong; default 0.05; negative: none
	Without  Kinds         // of trouble
	Patience time.Duration // virtual time for what is owed at the end; default 3 min
	// Vault is where the store lies; it is the run's own. A crash ends both nodes then, as
	// they are in the store's process. Default: memory, which outlives every crash.
	Vault Vault
	// Views lets there be three nodes, each of which runs what is its own by what it has
	// heard of the others. Else there are two, and both believe that they own everything.
	// A store in a vault is of one process, and has none of it.
	Views   bool
	History *history.Writer // gets what is seen of each conversation; nil: nobody does
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
	c.Views = c.Views && c.Vault == nil
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
	pair     = 2       // nodes
	trio     = 3       // nodes, where they have views of each other
	maxSteps = 400_000 // operations of one run; more is a livelock
	sleepMax = 8 * time.Second
	lateMax  = 4 * time.Second  // of an answer that comes late
	againMax = 20 * time.Second // of a post that comes again although it was acknowledged
	bootMax  = 2 * time.Second  // until a node that died is back
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
	nodes []*node // nil: there is none
	vault Vault   // nil: the store outlives every process
	shut  bool    // the process of the store in the vault has died
	walk  *walk   // nil: the seed rules
	ops   []op
	again int                     // acknowledged posts that will come again
	rings map[parley.ID]time.Time // when the service answers a call that it has heard of
	tally Tally
	// previous says which nodes start with the previous version of the bot.
	previous []bool
	broken   error // what is wrong beyond the verdict

	said   int       // rumours
	fatal  bool      // a node is to die when it runs what it doubts
	calm   time.Time // since when all nodes are there and know of each other; zero: they don't
	astray string    // why not each shard is at home; empty: each is

	spooled    bool // the nodes have spools
	oneDoor    int  // the node that all posts get to; -1: any
	disks      []*disk
	outage     []time.Time // until when the store is out of reach
	skew       []time.Duration
	spoolSince []time.Time
	spools     [][2]time.Time // when some spool held something
}

// Tally counts what a run went through, to see that it is not too kind.
type Tally struct {
	Steps, Loads, Asked, Commits, Conflicts, Failed, LostAnswers, Crashes, Sleeps, Again int
	Claims, Sends, Broken, Withheld, Doubtful, Woken                                     int
	Upgrades, PutOff, Migrated                                                           int // of bots that keep a previous version
	Called, CallsLost, Answered                                                          int
	Reopened                                                                             int // stores in a vault
	// Of nodes with views: placements; rumours that were wrong; looks at which two had another
	// owner for a conversation, or both held it; shards that were let go of for who asked,
	// conversations that left for that, shards that were opened, of them in doubt, and what
	// was found waiting there; notes that a process found of the one before it.
	Placements, Rumours, Disagreed, HeldByTwo, LetGo, Left, Opened, InDoubt, FoundWaiting, Evictions int
	PassedOn, Dropped, MailLost, HandedBack, Tried, Inherited, Unfit, Announced                      int
	// Of the entrance.
	Outages, Spooled, Drained, SpoolsFound, DrainsHeld, Unavailable, LateAppends, DiskFailed, PowerLost, Forged, ClockSteps int
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
	l, err := newLine(ctx, cfg)
	if err != nil {
		return metatest.Verdict{}, Tally{}, err
	}
	if err := l.register(ctx); err != nil {
		return metatest.Verdict{}, l.tally, err
	}
	l.planUpgrades(ctx)
	for i := range l.nodes {
		l.boot(ctx, i)
	}
	l.planCrashes(ctx)
	l.planOutages(ctx)
	l.planClocks()
	l.planSleeps(ctx)
	l.planViews(ctx)
	return l.play(ctx)
}

// play lets happen what happens, until nothing is owed any more or patience is at an
// end.
func (l *line) play(ctx context.Context) (metatest.Verdict, Tally, error) {
	end := l.start.Add(l.world.Config().Duration + l.cfg.Patience)
	for l.now.Before(end) {
		if l.world.Settled(l.now) && l.nothingLeft(ctx) && l.astray == "" {
			return l.verdict(), l.tally, l.buried(ctx)
		}
		l.post(ctx)
		if l.tally.Steps++; l.tally.Steps > maxSteps {
			return l.verdict(), l.tally, fmt.Errorf("seed %d: more than %d steps", l.cfg.Seed, maxSteps)
		}
		l.step()
		if err := ctx.Err(); err != nil {
			return l.verdict(), l.tally, err
		}
		if l.broken != nil {
			return l.verdict(), l.tally, l.broken
		}
		if l.walk != nil && l.walk.broken != nil {
			return l.verdict(), l.tally, l.walk.broken
		}
	}
	left, err := l.store.Backlog(ctx)
	if v := l.verdict(); err == nil && v.Clean() {
		err = fmt.Errorf("left in the store: %+v %s", left, l.astray)
	}
	return l.verdict(), l.tally, err
}

// nothingLeft reports whether the store owes nothing and Meta posts nothing again.
func (l *line) nothingLeft(ctx context.Context) bool {
	left, err := l.store.Backlog(ctx)
	return err == nil && left.Pending == 0 && left.Unsent == 0 && left.Timers == 0 && left.Receipts == 0 && left.Calls == 0 && l.again == 0
}

// buried is an error if anything became a dead letter: no event of a run is at
// fault, and no message.
func (l *line) buried(ctx context.Context) error {
	if l.broken != nil {
		return l.broken
	}
	dead, err := l.store.DeadLetters(ctx, parley.DeadQuery{Brand: l.cfg.Brand, Limit: 1})
	if err != nil || len(dead) == 0 {
		return err
	}
	return fmt.Errorf("dead letter: %s", dead[0].Cause)
}

func newLine(ctx context.Context, cfg Config) (*line, error) {
	l := &line{
		cfg: cfg, vault: cfg.Vault, rng: rand.New(rand.NewPCG(cfg.Seed, 0x51)),
		start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), rings: map[parley.ID]time.Time{},
	}
	l.now = l.start
	l.machines(pair)
	if cfg.Views {
		l.machines(trio)
	}
	l.spooled, l.oneDoor = l.chance(0.5), -1
	if l.chance(0.5) {
		l.oneDoor = l.rng.IntN(len(l.nodes))
	}
	w := metatest.Sized(cfg.Rate, cfg.Users)
	w.Seed, w.Start = cfg.Seed, l.start
	w.Duration = time.Duration(float64(cfg.Messages) / cfg.Rate * float64(time.Second))
	w.Channels = metatest.Counts{Messenger: 1, Instagram: 1, WhatsApp: 1}
	w.Duplicates, w.Delayed, w.Shuffled, w.Timers = 0.3, 0.1, 0.3, 0.3
	w.Faults.Transient, w.Faults.Withheld = 0.05, 0.05
	w.KillGrace = noteGrace
	w.History = cfg.History
	l.world = metatest.NewWorld(w)
	var err error
	if l.store, err = l.open(ctx); err != nil {
		return nil, err
	}
	return l, nil
}

// machines makes room for so many nodes, each on a machine of its own.
func (l *line) machines(n int) {
	l.nodes, l.previous, l.disks = make([]*node, n), make([]bool, n), make([]*disk, n)
	l.outage, l.skew, l.spoolSince = make([]time.Time, n), make([]time.Duration, n), make([]time.Time, n)
}

// open opens the store as a process does that has just begun.
func (l *line) open(ctx context.Context) (Store, error) { //nolint:ireturn // whatever the vault has
	now := func() time.Time { return l.now }
	if l.vault == nil {
		return memory.New(memory.Config{Now: now, Random: seeded{l.rng}}), nil
	}
	s, err := l.vault.Open(ctx, now, seeded{l.rng})
	if err != nil {
		return nil, fmt.Errorf("open the store: %w", err)
	}
	return s, nil
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
	if l.with(LateAnswers) && l.chance(0.02) {
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
	for range max(l.cfg.Crashes, 0) {
		i := l.rng.IntN(len(l.nodes))
		at := l.soon(l.world.Config().Duration + 5*time.Second)
		l.later(nil, at, func() {
			l.tally.Crashes++
			l.crash(ctx, i)
		})
	}
}

// crash ends a node, and perhaps lets its machine lose power; it is back a moment
// later. If the store is in its process, that ends, too, with all that is in it.
func (l *line) crash(ctx context.Context, i int) {
	l.end(ctx, i)
	if l.vault == nil {
		l.later(nil, l.downtime(), func() { l.boot(ctx, i) })
		return
	}
	for k := range l.nodes {
		if k != i {
			l.end(ctx, k)
		}
	}
	l.shut = true
	l.later(nil, l.soon(bootMax), func() { l.bootAll(ctx) })
}

// downtime is how long a node is away that died: where others have views of it, often for
// so long that they notice.
func (l *line) downtime() time.Duration {
	if l.cfg.Views {
		return l.soon(3 * bootMax)
	}
	return l.soon(bootMax)
}

func (l *line) end(ctx context.Context, i int) {
	if n := l.nodes[i]; !n.dead {
		n.dead = true
		l.silent(ctx, n, 0)
	}
	l.world.Killed(l.now)
	if d := l.disks[i]; d != nil && l.with(PowerLoss) && l.chance(0.5) {
		l.tally.PowerLost++
		d.powerLoss()
	}
}

// bootAll opens the store again and starts both nodes, unless that was done meanwhile.
func (l *line) bootAll(ctx context.Context) {
	if !l.shut {
		return
	}
	l.shut = false
	var err error
	if l.store, err = l.open(ctx); err != nil {
		l.breaks(err)
		return
	}
	l.tally.Reopened++
	for i := range l.nodes {
		l.boot(ctx, i)
	}
}

// breaks notes what is wrong beyond the verdict.
func (l *line) breaks(err error) {
	if l.broken == nil {
		l.broken = err
	}
}

// planSleeps draws when which node stops for a while and then goes on, knowing
// nothing of it.
func (l *line) planSleeps(ctx context.Context) {
	for range max(l.cfg.Sleeps, 0) {
		i := l.rng.IntN(len(l.nodes))
		at := l.soon(l.world.Config().Duration + 5*time.Second)
		l.later(nil, at, func() {
			l.tally.Sleeps++
			l.nodes[i].sleep(ctx, l.soon(sleepMax))
			l.world.Killed(l.now) // as far as others can tell
		})
	}
}
