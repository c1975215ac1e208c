package sim

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta/metatest"
)

// Point is where a process dies: at its nth access to the store or the network, from
// 1, before it took hold or after, when nothing of its answer was noted. The zero
// Point is nowhere.
type Point struct {
	Access int
	After  bool
}

// String names the point.
func (p Point) String() string {
	if p.After {
		return fmt.Sprintf("after access %d", p.Access)
	}
	return fmt.Sprintf("before access %d", p.Access)
}

// Vault is where a store lies that outlives its process.
type Vault interface {
	// Open opens the store as a process does that has just begun, with a clock and a
	// source of random bytes. What an earlier one that was opened had not made durable
	// by now is lost.
	Open(ctx context.Context, now func() time.Time, random io.Reader) (Store, error)
}

// Scenario is a way through the line, short enough to be walked with a crash at every
// point of it.
type Scenario string

// The scenarios.
const (
	WalkWebhook  Scenario = "webhook"   // two messages of one user, each delivered twice
	WalkTimer    Scenario = "timer"     // reminders
	WalkMerge    Scenario = "merge"     // a person is known under two keys, then turns out to be one
	WalkHandOver Scenario = "hand-over" // a second node takes over in the middle
	WalkDoubtful Scenario = "doubtful"  // the answer to each send is lost
	WalkCall     Scenario = "call"      // reminders that a service rings, if the bot calls it (tally.Calling)
)

// Scenarios are all of them.
func Scenarios() []Scenario {
	return []Scenario{WalkWebhook, WalkTimer, WalkMerge, WalkHandOver, WalkDoubtful, WalkCall}
}

// config is the scenario as the simulated Meta plays it.
func (s Scenario) config() metatest.Config {
	users, messages, mix := 1, 2, metatest.Shares{Messenger: 1}
	switch s {
	case WalkMerge:
		// The sixth user of WhatsApp is the first of whom Meta tells number and id.
		users, messages, mix = 6, 6, metatest.Shares{WhatsApp: 1}
	case WalkHandOver:
		messages = 4
	case WalkTimer, WalkCall:
		messages = 8
	case WalkWebhook, WalkDoubtful:
	}
	w := metatest.Sized(2, users)
	w.Seed, w.Mix, w.Channels = 1, mix, metatest.Counts{Messenger: 1, Instagram: 1, WhatsApp: 1}
	w.Duration = time.Duration(messages) * time.Second / 2
	w.Shuffled, w.Delayed, w.Clicks, w.Timers, w.Batch = 0, 0, 0, 0, 1
	w.KillGrace = time.Nanosecond // all that a node knows at its death is what it has noted
	w.AnswerMax = -1
	switch s {
	case WalkWebhook:
		w.Duplicates = 1
	case WalkTimer, WalkCall:
		w.Timers = 1
	case WalkDoubtful:
		w.Faults.Withheld = 1
	case WalkMerge, WalkHandOver:
	}
	return w
}

// Walked is how a walk with one crash ended.
type Walked struct {
	Accesses int            // in all
	Named    map[string]int // of them, by name
	Crashed  string         // the access at which the process died; empty: it never got there
	Merged   int            // of those who were known under two keys
	Verdict  metatest.Verdict
}

// walk is what a line does that crashes at one point, and leaves nothing to chance.
type walk struct {
	point    Point
	owner    int // of all conversations and channels
	accesses map[string]int
	n        int
	crashed  string
	again    func(n *node) error // a new process in the place of a dead one
	broken   error
	known    []parley.Contact // under one key each
	calls    bool             // the node calls services
}

// What a node reaches beyond the store.
const (
	graphName   = "Graph API"
	serviceName = "service"
)

var errCrashed = errors.New("the process is dead")

const (
	upAfter    = 300 * time.Millisecond // a process that died is there again
	handOverAt = 900 * time.Millisecond // in the middle of the scenario
)

// WalkConfig says what is walked, and where it crashes.
type WalkConfig struct {
	Bot      parley.Bot // one that speaks the simulator's protocol
	Scenario Scenario
	Vault    Vault        // its store owes nothing to anybody
	Brand    parley.Brand // one that the store doesn't know
	Point    Point
}

// Walk plays a scenario with a crash at a point, and says how it ended. An error says
// what is wrong beyond the verdict: something is left, became a dead letter, or does
// not come to an end.
func Walk(ctx context.Context, cfg WalkConfig) (Walked, error) {
	l, err := newWalk(ctx, cfg)
	if err != nil {
		return Walked{}, err
	}
	if err := l.register(ctx); err != nil {
		return Walked{}, err
	}
	l.boot(ctx, 0)
	switch cfg.Scenario {
	case WalkHandOver:
		l.boot(ctx, 1)
		l.later(nil, handOverAt, func() { l.handOver(ctx) })
	case WalkMerge:
		for _, person := range l.world.People() {
			if person.BSUID != "" && person.ID != "" {
				l.walk.known = append(l.walk.known, parley.Contact(parley.PhoneKey+person.ID), parley.Contact(parley.BSUIDKey+person.BSUID))
			}
		}
		for _, c := range l.walk.known {
			l.know(ctx, c)
		}
	case WalkWebhook, WalkTimer, WalkDoubtful, WalkCall:
	}
	v, _, err := l.play(ctx)
	w := l.walk
	return Walked{Accesses: w.n, Named: w.accesses, Crashed: w.crashed, Merged: l.merged(ctx), Verdict: v}, err
}

// merged counts those of the conversations known under one key that are part of
// another by now.
func (l *line) merged(ctx context.Context) (n int) {
	for _, c := range l.walk.known {
		got, err := l.store.Load(ctx, parley.Conversation{Channel: l.channelOf(parley.WhatsApp), Contact: c}, 1)
		if err == nil && got.Snapshot.MergedInto != "" {
			n++
		}
	}
	return n
}

func newWalk(ctx context.Context, cfg WalkConfig) (*line, error) {
	w := cfg.Scenario.config()
	l := &line{
		cfg: Config{Seed: 1, Brand: cfg.Brand, Bot: cfg.Bot, Patience: time.Minute}, oneDoor: -1, rng: rand.New(rand.NewPCG(1, 0x51)),
		start: time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC), vault: cfg.Vault,
		walk:  &walk{point: cfg.Point, accesses: map[string]int{}, calls: cfg.Scenario == WalkCall},
		rings: map[parley.ID]time.Time{},
	}
	l.machines(pair)
	l.now, w.Start = l.start, l.start
	l.world = metatest.NewWorld(w)
	l.walk.again = func(n *node) (err error) {
		if l.store, err = l.open(ctx); err == nil {
			l.boot(ctx, slices.Index(l.nodes, n))
		}
		return err
	}
	var err error
	l.store, err = l.open(ctx)
	return l, err
}

// know lets a person say something under one of their keys only, to which nobody
// answers; like Meta, until it is taken.
func (l *line) know(ctx context.Context, c parley.Contact) {
	l.again++
	l.later(nil, l.soon(hop), func() {
		l.again--
		n := l.door()
		if n.dead {
			l.know(ctx, c)
			return
		}
		ch := l.channelOf(parley.WhatsApp)
		rows, err := n.store.Append(ctx, parley.Arrivals{Events: []parley.Event{{
			Channel: ch, Contacts: []parley.Contact{c}, Key: parley.NewEventKey("known", string(c)),
			Time: l.now, Input: parley.Message{Text: "good morning"},
		}}})
		if err != nil {
			l.know(ctx, c)
			return
		}
		l.hint(ctx, rows)
	})
}

func (l *line) channelOf(kind parley.ChannelKind) parley.Channel {
	all := l.channels()
	return all[slices.IndexFunc(all, func(ch parley.Channel) bool { return ch.Kind == kind })]
}

// handOver makes the second node the owner. The first finishes what it has under way,
// and gives its channels back; nobody waits for it.
func (l *line) handOver(ctx context.Context) {
	l.walk.owner = 1
	for _, ch := range l.channels() {
		l.nodes[0].desks[ch].sender.Stop()
		l.wakeSender(ctx, l.nodes[0], ch)
		l.wakeSender(ctx, l.nodes[1], ch)
	}
}

// door is the node that Meta's next post gets to.
func (l *line) door() *node {
	if l.walk != nil {
		return l.nodes[l.walk.owner]
	}
	if l.oneDoor >= 0 {
		return l.nodes[l.oneDoor]
	}
	return l.nodes[l.rng.IntN(len(l.nodes))]
}

// reaches reports whether a hint gets to a node: to the owner, or as the seed will.
func (l *line) reaches(n *node, p float64) bool {
	if l.walk != nil {
		return l.nodes[l.walk.owner] == n
	}
	return l.chance(p) || !l.with(LostHints)
}

// owned reports whether a node sweeps a shard. Where the seed rules, each node
// believes that all are its own.
func (n *node) owned(uint16) bool {
	w := n.line.walk
	return w == nil || n.line.nodes[w.owner] == n
}

// access is an access of a node to something that outlives it.
func access[T any](n *node, name string, do func() (T, error)) (T, error) {
	var none T
	w := n.line.walk
	if w == nil {
		if n.cutOff() && name != graphName && name != serviceName {
			return none, errDown
		}
		return do()
	}
	if n.dead {
		return none, errCrashed
	}
	w.n++
	w.accesses[name]++
	here := w.n == w.point.Access
	if here && !w.point.After {
		return none, n.crash(name)
	}
	out, err := do()
	if here && w.point.After {
		return none, n.crash(name)
	}
	return out, err
}

// crash ends the node's process. Another begins in its place.
func (n *node) crash(name string) error {
	l := n.line
	n.dead, l.walk.crashed = true, name
	l.world.Killed(l.now)
	l.later(nil, upAfter, func() { l.walk.broken = l.walk.again(n) })
	return errCrashed
}
