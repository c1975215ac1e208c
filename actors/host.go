// Package actors runs conversations as virtual actors: one for each
// conversation that has something to do, found by its shard, created when it is
// first addressed and stopped when it has been idle.
//
// A row that is durable in the inbox reaches the conversation's actor as a hint.
// The actor loads its conversation if it doesn't have it, takes a turn with
// parley.Step, and hands the commit to the committer, which puts the commits of
// many conversations into one transaction. Hints may be lost: a sweeper wakes
// the conversations whose rows have waited for longer than a second.
//
// The package owns all its goroutines; they end before Run returns, except for
// turns that never come to an end (see ErrAbandoned). It imports the root
// package and, of other libraries, protoactor's actor system.
package actors

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// Config is what a Host needs.
type Config struct {
	Store  Store
	Agenda Agenda
	// Bot returns the bot that serves a channel, never nil; always the same one
	// while the process lives.
	Bot func(parley.Channel) *parley.Bot
	// Committed, if set, is told of channels that got something to send, by a turn
	// here or on another node, if this node is the one that sends for them. It must
	// not block.
	Committed func(parley.Channel)
	// Called, if set, says that this node makes calls of services (parley.Call), and is
	// told when a turn has decided one, here or on a node that makes none. It must not
	// block.
	Called func()
	// Suspects, if set, remembers among all nodes what a process may have died of.
	// SuspectFor is how long what a silent process has noted is waited with before it is
	// taken for that, in seconds; default a minute. Its conversation waits as long.
	Suspects   Suspects
	SuspectFor time.Duration
	// Link connects this node with the others, by whose opinion of the members, told
	// by Place, it runs some of the shards. Without it this node is alone and runs
	// all of them.
	Link Link
	// Address is this node's, by which placements and links know it.
	Address string
	// Announced, if set, is given receipts of what another node has sent and can't note
	// (see Host.Announce), for this one to append. It must not block.
	Announced func([]parley.Receipt)
	// Drain is called when another node tells this one to drain. It must not block.
	Drain func()
	// Stands, if set, fills in what others are told of this node beside what the
	// host knows.
	Stands func(*Standing)
	// Notes is the path of the file that notes what is being run. It belongs
	// beside the store of this process. Empty: a fatal turn is not recognised.
	Notes string
	// Clock is the time since some fixed moment, by which this process finds that it
	// hasn't run for a while; it should run while the computer sleeps. Default: the
	// process's own, which doesn't.
	Clock      func() time.Duration
	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: one of its own
	Random     func() [16]byte       // default: crypto/rand

	TurnDeadline time.Duration // of one event's handling; default 5 s
	StoreTimeout time.Duration // of one load or commit; default 5 s

	// Loaders is how many loads are made at the same time; default 8. Where all
	// share few connections it should be less than those, so that loads that wait
	// for something don't keep everything else from the store.
	Loaders int

	// Gather is the time between two beats: multiples of it by the clock, on each of
	// which one commit begins, so that turns share one also on a store that is faster
	// than they come; three times that (parcelGathers) is between two beats of the
	// parcels to a node. What comes alone waits for nobody. Default 5 ms; negative: none.
	Gather time.Duration
	// Sharing is how many times as long Gather is, as nodes share the store and the
	// load: with at least their number, the store has no more commits to make for many
	// nodes than for one, and a commit is of as many turns. Default: one.
	Sharing func() int
	// Format is the newest generation of stored forms that everybody reads who shares
	// the store; see parley.Format. A turn that would store something newer is put off
	// and taken again, after at most 2 s (maxBackoff), until they all do. Default:
	// parley.Format.
	Format func() int
	// BotVersion is the newest version of a bot's state that everybody reads who may run
	// conversations; 0: whatever the bot here has. See parley.Circumstance. It is asked
	// in each turn. Default: always 0.
	BotVersion func(bot string) int
	// Thread is the app that gets the threads of a channel when its bot gives the word
	// away: see parley.Circumstance. Default: none.
	Thread       func(ch parley.Channel) string
	SweepEvery   time.Duration // and the age at which a row counts as forgotten; default 1 s
	PassivateIn  time.Duration // idle time after which a conversation leaves memory; default 10 min
	MaxLive      int           // conversations in memory; beyond, idle ones leave after SweepEvery; default 200 000
	MaxHinted    int           // rows in memory, a quarter of them of one brand; beyond, they wait for the sweeper; default 65 536
	DrainTimeout time.Duration // for turns and commits under way; default 5 s
}

func (cfg Config) withDefaults() Config {
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	if cfg.Registerer == nil {
		cfg.Registerer = prometheus.NewRegistry()
	}
	if cfg.Random == nil {
		cfg.Random = func() (b [16]byte) {
			_, _ = rand.Read(b[:]) // never fails: it ends the process instead
			return b
		}
	}
	if cfg.Committed == nil {
		cfg.Committed = func(parley.Channel) {}
	}
	cfg.SuspectFor = cmp.Or(cfg.SuspectFor, suspectFor)
	cfg.TurnDeadline = cmp.Or(cfg.TurnDeadline, 5*time.Second)
	cfg.StoreTimeout = cmp.Or(cfg.StoreTimeout, 5*time.Second)
	cfg.Loaders = cmp.Or(cfg.Loaders, defaultLoaders)
	cfg.Gather = cmp.Or(cfg.Gather, defaultGather)
	if cfg.Sharing == nil {
		cfg.Sharing = func() int { return 1 }
	}
	if cfg.Format == nil {
		cfg.Format = func() int { return parley.Format }
	}
	if cfg.BotVersion == nil {
		cfg.BotVersion = func(string) int { return 0 }
	}
	if cfg.Thread == nil {
		cfg.Thread = func(parley.Channel) string { return "" }
	}
	cfg.SweepEvery = cmp.Or(cfg.SweepEvery, time.Second)
	cfg.PassivateIn = cmp.Or(cfg.PassivateIn, 10*time.Minute)
	cfg.MaxLive = cmp.Or(cfg.MaxLive, 200_000)
	cfg.MaxHinted = cmp.Or(cfg.MaxHinted, 65_536)
	cfg.DrainTimeout = cmp.Or(cfg.DrainTimeout, 5*time.Second)
	return cfg
}

// Host runs the conversations of a node.
type Host struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	system  *actor.ActorSystem
	runners *runners
	notes   *notes
	turns   *turns

	requests chan request
	works    chan work
	done     chan struct{} // closed when loaders and committer have ended

	shards [parley.Shards]atomic.Pointer[actor.PID]
	mu     sync.Mutex // over the creation of shards

	territory *Territory
	peers     *peers // nil without a Link
	placed    atomic.Pointer[Placement]
	replaced  chan struct{}             // holds a word if placed is news
	placement atomic.Pointer[Placement] // the one that rows are routed by
	former    atomic.Pointer[Placement] // the one before
	opening   queue[opening]
	noted     *notedRows
	inquiries inquiries
	clock     func() time.Duration
	awake     atomic.Int64 // when this process was last seen to run, by clock

	due     atomic.Int64  // when the agenda should be looked at, in ms since 1970; 0: as it is
	dueNews chan struct{} // holds a word if that is news

	crowd    crowd // rows with actors
	putOffs  putOffs
	hinted   atomic.Int64 // rows on their way to shards
	live     atomic.Int64 // conversations in memory
	busy     atomic.Int64 // works submitted and not reported
	tick     atomic.Int64 // of the sweeper
	draining atomic.Bool
}

const (
	requestQueue = 1024 // loads that wait for a loader; beyond, actors wait
	workQueue    = 1024 // commits that wait for the committer; beyond, actors wait
	commitGroup  = 256  // conversations in one transaction

	defaultLoaders = 8
	defaultGather  = 5 * time.Millisecond

	// parcelGathers is how many times Gather lies between two parcels to a node: a
	// parcel costs its two nodes about as much as a turn, whatever is in it.
	parcelGathers = 3
)

// New checks the configuration and reads the notes of an earlier process.
func New(cfg Config) (*Host, error) {
	cfg = cfg.withDefaults()
	if cfg.Store == nil || cfg.Agenda == nil || cfg.Bot == nil {
		return nil, errors.New("actors: Store, Agenda and Bot are needed")
	}
	if cfg.Link != nil && cfg.Address == "" {
		return nil, errors.New("actors: a Link needs an Address")
	}
	n, err := openNotes(cfg.Notes)
	if err != nil {
		return nil, err
	}
	h := &Host{
		cfg: cfg, log: cfg.Logger, notes: n, noted: newNotedRows(n), turns: newTurns(n, cfg),
		requests: make(chan request, requestQueue), works: make(chan work, workQueue), done: make(chan struct{}),
	}
	h.runners = newRunners(h.done)
	h.crowd.most = int64(cfg.MaxHinted)
	h.connect()
	h.metrics = newMetrics(cfg.Registerer, h) // which may be read from here on
	if h.peers != nil {
		h.peers.metrics = h.metrics
	}
	h.turns.abandoned = h.abandoned
	quiet := slog.New(slog.DiscardHandler) // the library logs whole messages
	h.system = actor.NewActorSystem(
		actor.WithLoggerFactory(func(*actor.ActorSystem) *slog.Logger { return quiet }),
		actor.WithDeadLetterRequestLogging(false),
	)
	return h, nil
}

// connect prepares to work with other nodes, if there may be any.
func (h *Host) connect() {
	h.replaced = make(chan struct{}, 1)
	h.opening.news = make(chan struct{}, 1)
	h.dueNews = make(chan struct{}, 1)
	h.inquiries.by = map[uint64]*inquiry{}
	born := time.Now() //nolint:forbidigo // the zero of this host's clock
	if h.clock = h.cfg.Clock; h.clock == nil {
		h.clock = func() time.Duration { return time.Since(born) } //nolint:forbidigo // the host's one clock
	}
	if h.cfg.Link == nil {
		h.territory = NewTerritory(h.cfg.Address, nil)
		return
	}
	h.territory = NewTerritory(h.cfg.Address, local{h})
	h.peers = &peers{
		self: h.cfg.Address, run: runID(h.cfg.Random), link: h.cfg.Link, clock: h.clock, pace: h.parcelPace,
		by: map[string]*peer{}, began: make(chan struct{}),
	}
}

// Deliver passes durable rows to the actors of their conversations, here or on
// another node. It doesn't block; rows beyond MaxHinted, or beyond what another
// node has yet to take, wait in the inbox for the sweeper.
func (h *Host) Deliver(rows []parley.Pending) {
	if len(rows) == 0 || h.draining.Load() {
		return
	}
	h.route(rows, 0)
}

// accept passes rows to shards of this node.
func (h *Host) accept(rows []parley.Pending, passes uint32) {
	if h.draining.Load() {
		return
	}
	for len(rows) > 0 {
		n, s, brand := 1, rows[0].Conversation.Shard(), rows[0].Conversation.Channel.Brand
		for n < len(rows) && rows[n].Conversation.Shard() == s && rows[n].Conversation.Channel.Brand == brand {
			n++
		}
		if h.crowd.admit(brand, n) {
			h.hinted.Add(int64(n))
			h.system.Root.Send(h.shard(s), &hint{rows: rows[:n:n], passes: passes})
		} else {
			h.metrics.dropped.Add(float64(n))
		}
		rows = rows[n:]
	}
}

// Live is the number of conversations in memory.
func (h *Host) Live() int { return int(h.live.Load()) }

func (h *Host) shard(s uint16) *actor.PID {
	if pid := h.shards[s].Load(); pid != nil {
		return pid
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	if pid := h.shards[s].Load(); pid != nil {
		return pid
	}
	pid := h.system.Root.Spawn(actor.PropsFromProducer(
		func() actor.Actor { return newShard(h, s) },
		actor.WithDispatcher(h.runners),
		actor.WithSupervisor(actor.NewOneForOneStrategy(0, 0, h.panicked)),
	))
	h.shards[s].Store(pid)
	return pid
}

// panicked decides about an actor that panicked: it is stopped, and its shard
// makes another. The library would start it anew at once, with its mailbox but
// without what it knew, and give it up for good the eleventh time.
func (h *Host) panicked(reason any) actor.Directive {
	cause := fmt.Sprintf("%T", reason) // the value may hold a message
	if err, ok := reason.(runtime.Error); ok {
		cause = err.Error()
	}
	h.log.Error("panic outside of a bot's code", slog.String("cause", cause))
	return actor.StopDirective
}

// abandoned replaces the actor whose turn never came to an end.
func (h *Host) abandoned(id parley.Conversation, row parley.Row) {
	h.metrics.abandoned.Inc()
	h.log.Error("turn abandoned: it did not come to an end", slog.String("conversation", id.String()),
		slog.Uint64("seq", uint64(row.Seq)), slog.Duration("deadline", h.cfg.TurnDeadline))
	h.system.Root.Send(h.shard(id.Shard()), &replace{id: id})
}

// forward wakes the conversation that another one was merged into.
func (h *Host) forward(id parley.Conversation) {
	h.metrics.forwarded.Inc()
	h.sendWake(wake{id: id, seek: true})
}

// later sends a message after a while, unless the host has ended by then.
func (h *Host) later(d time.Duration, pid *actor.PID, message any) {
	time.AfterFunc(d, func() {
		select {
		case <-h.done:
		default:
			h.system.Root.Send(pid, message)
		}
	})
}

// Run serves until ctx ends, then drains: turns and commits under way are
// finished within DrainTimeout; rows that wait stay in the inbox. It returns
// ErrAbandoned if the process should be replaced.
func (h *Host) Run(ctx context.Context) error {
	// Loads and commits outlive ctx by the drain.
	pooled, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	var pool sync.WaitGroup
	for range h.cfg.Loaders {
		pool.Go(func() { h.load(pooled) })
	}
	pool.Go(func() { h.commit(pooled) })

	serving, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var loops sync.WaitGroup
	loops.Go(func() { cancel(h.turns.watch(serving, h.untilLook)) })
	loops.Go(func() { h.sweep(serving) })
	loops.Go(func() { h.timers(serving) })
	hang := h.meet(pooled, cancel)
	<-serving.Done()
	cause := context.Cause(serving)

	h.draining.Store(true)
	loops.Wait()
	h.drain(pooled)
	hang()
	h.acquitAll(pooled)
	stop()
	pool.Wait()
	close(h.done)
	h.system.Shutdown()
	closed := h.turns.close()
	if ctx.Err() == nil { // it wasn't told to end
		return cause
	}
	return closed
}

// meet works with the other nodes until hang is called.
func (h *Host) meet(ctx context.Context, failed context.CancelCauseFunc) (hang func()) {
	if h.peers == nil {
		return func() {}
	}
	ctx, stop := context.WithCancel(ctx)
	var loops sync.WaitGroup
	loops.Go(func() { h.place(ctx) })
	loops.Go(func() { h.openShards(ctx) })
	loops.Go(func() {
		close(h.peers.began)
		if err := h.cfg.Link.Run(ctx, h.receive); err != nil {
			failed(err)
		}
	})
	return func() {
		h.peers.end()
		stop()
		loops.Wait()
	}
}

// drain waits until no turn or commit is under way.
func (h *Host) drain(ctx context.Context) {
	limit, cancel := context.WithTimeout(ctx, h.cfg.DrainTimeout)
	defer cancel()
	poll := time.NewTicker(5 * time.Millisecond) //nolint:forbidigo // the drain's one clock
	defer poll.Stop()
	for quiet := 0; quiet < 3; { // three quiet looks: an actor may be between two steps
		select {
		case <-limit.Done():
			return
		case <-poll.C:
		}
		if h.busy.Load() == 0 && h.hinted.Load() <= 0 && h.turns.quiet() {
			quiet++
		} else {
			quiet = 0
		}
	}
}
