package metatest

import (
	"crypto/hmac"
	"crypto/sha256"
	"hash"
	"math/rand/v2"
	"time"
)

// World is Meta, its users and the judge, on one goroutine: nothing happens in
// it but by a call, and every decision comes from the seed and the order of the
// calls. It must not be used by two goroutines at once.
//
// A driver repeats: take the posts that are [World.Due], write them, tell their
// outcome with [World.Posted], pass the node's sends to [World.Graph], and sleep
// until [World.NextDue]; until [World.Settled]. Then it reads the [Verdict].
//
// A time that is earlier than that of the call before counts as the same
// instant: wall clocks run backwards.
type World struct {
	cfg      Config
	start    time.Time
	now      int64  // ns after start, of the last call
	step     uint32 // number of the last call
	channels []Channel
	people   []person
	byID     map[string]int32 // Meta's id of a channel -> channel
	byKey    map[string]int32 // PSID, IGSID, wa_id, BSUID -> person
	// elsewhere are the people whose threads another app has, and which.
	elsewhere map[int32]string
	total     int // messages of the whole run
	next      int // message that is due next

	plan    *rand.Rand // who writes what: the same for a seed, whatever the node does
	network *rand.Rand // what Meta does with it
	graph   *rand.Rand // what the Graph API does
	roster  *roster
	signer  hash.Hash

	records []record // message k of user u is records[(k-1)*users+u]
	timers  []timer

	updates  queue[update]
	retries  queue[*post]
	posts    map[uint64]*post // handed out or waiting to be sent again
	deadline []handed         // of posts handed out, oldest first
	lastPost uint64
	out      int // posts handed out
	batches  [platforms][classes]batch
	sent     uint64 // accepted sends: numbers their ids
	lastKill int64
	pace     pace
	outage   outage
	frozen   int     // nodes that are
	thawed   int64   // until when what a frozen node was about to write may come
	lossy    bool    // the store has lost something
	extras   []extra // second effects that a reply showed
	known    map[extraKey]bool
	live     Verdict // the counters that grow as things happen
	open     int     // reminders that still owe a ring
	answered int
	ack      histogram
	answers  histogram // attempts, to their 200
	lag      histogram
	copies   int   // most deliveries of an event while there is a storm; 0 = there is none
	parted   bool  // the farewell was said
	parts    int64 // when the last message after it is due
	within   int64 // and how soon each must be answered
}

// NewWorld makes the users and channels of a run. It does nothing yet.
func NewWorld(cfg Config) *World {
	cfg = cfg.resolved()
	w := &World{
		cfg: cfg, start: cfg.Start, total: cfg.total(),
		channels: channelsFor(cfg),
		byID:     map[string]int32{}, byKey: map[string]int32{}, elsewhere: map[int32]string{},
		plan:    rand.New(rand.NewPCG(cfg.Seed, 1)),
		network: rand.New(rand.NewPCG(cfg.Seed, 2)),
		graph:   rand.New(rand.NewPCG(cfg.Seed, 3)),
		signer:  hmac.New(sha256.New, []byte(cfg.Secret)),
		posts:   map[uint64]*post{}, known: map[extraKey]bool{},
		lastKill: -1,
	}
	w.people = populate(cfg, w.channels)
	w.roster = newRoster(cfg.Users, w.plan)
	w.index()
	return w
}

func (w *World) index() {
	for i, c := range w.channels {
		w.byID[c.ID] = int32(i)
	}
	for i, p := range w.people {
		if p.id != "" {
			w.byKey[p.id] = int32(i)
		}
		if p.bsuid != "" {
			w.byKey[p.bsuid] = int32(i)
		}
	}
}

// Config is the configuration with its defaults filled in: the app's name,
// secret, verify token and numeric id are in it.
func (w *World) Config() Config { return w.cfg }

// Channels are the channels that the node must be configured with.
func (w *World) Channels() []Channel { return w.channels }

// tick takes note of a call at now, and returns now in ns after the start.
func (w *World) tick(now time.Time) int64 {
	if w.start.IsZero() {
		w.start = now
	}
	// The wall clock's reading, never the monotonic one: the node stamps what it
	// receives by the wall clock, and a timer is early or late by that.
	w.now = max(w.now, now.UnixNano()-w.start.UnixNano())
	w.step++
	return w.now
}

// dueAt is when message m (from 0) is written, in ns after the start.
func (w *World) dueAt(m int) int64 {
	return int64(float64(m) / w.cfg.Rate * float64(time.Second))
}

// NextDue is when [World.Due] has something new to say; false when it never
// will without another call. With a limit on posts in flight the time may be
// past: the driver then waits for an outcome.
func (w *World) NextDue() (time.Time, bool) {
	const never = int64(1)<<62 - 1
	at := never
	if w.next < w.total {
		at = w.dueAt(w.next)
	}
	if w.updates.len() > 0 {
		at = min(at, w.updates.next())
	}
	if w.retries.len() > 0 {
		at = min(at, w.retries.next())
	}
	if w.trim(); len(w.deadline) > 0 {
		at = min(at, w.deadline[0].at)
	}
	return w.start.Add(time.Duration(at)), at != never
}

// Settled reports whether nothing more is owed: all messages were written, all
// posts acknowledged, all replies and rings have come.
func (w *World) Settled(now time.Time) bool {
	w.tick(now)
	return w.next == w.total && w.updates.len() == 0 && len(w.posts) == 0 &&
		w.answered == w.live.Offered && w.open == 0 && (w.parted || !w.cfg.Farewell)
}

// Killed says that the node was killed (kill -9) at that instant. Sends whose
// answer was not yet written, or so shortly before that the node may not have
// taken note of it, may be repeated with good reason.
func (w *World) Killed(at time.Time) {
	w.live.Kills++
	w.stopped(at)
}

// stopped excuses the repetition of what the node may have had under way at an
// instant after which it does nothing more.
func (w *World) stopped(at time.Time) {
	w.tick(at)
	kill := w.since(at)
	w.lastKill = max(w.lastKill, kill)
	w.excuse(w.outage.since(kill) - int64(w.cfg.KillGrace) - w.stall(kill))
}

// excuse says that the outcome of what was answered after an instant may not have
// been noted.
func (w *World) excuse(since int64) {
	for i := range w.records {
		if r := &w.records[i]; r.answered() && r.written > since {
			r.doubtful = true
		}
	}
	for i := range w.timers {
		if t := &w.timers[i]; t.hasRung() && t.written > since {
			t.doubtful = true
		}
	}
}

// StoreDown says that from that instant on the node's store, which is not part of
// the node, takes nothing and tells nothing; StoreUp that it works again. That
// alone excuses no repeated send: a node knows what was answered, and can note it
// later. Only a kill before it could makes those sends doubtful.
func (w *World) StoreDown(at time.Time) {
	w.tick(at)
	w.outage.begin(w.since(at))
}

// StoreUp ends what StoreDown began.
func (w *World) StoreUp(at time.Time) {
	w.tick(at)
	w.outage.end(w.since(at))
}

// catchUp is how long after an outage a node may be about to note what it could
// not note during it.
const catchUp = 3 * time.Second

// outage is the last one of the store; its zero value is none.
type outage struct {
	from, until int64
	lasts       bool
}

// begin notes an outage. One that begins before what the last has left is caught
// up with is the same.
func (o *outage) begin(at int64) {
	if o.since(at) == at {
		o.from = at
	}
	o.lasts = true
}

func (o *outage) end(at int64) {
	if o.lasts {
		o.until, o.lasts = at, false
	}
}

// since is the instant up to which a node that is killed at another has noted all
// outcomes, if it notes them at once as long as it can.
func (o *outage) since(kill int64) int64 {
	if o.lasts || o.until > 0 && kill < o.until+int64(catchUp) {
		return min(o.from, kill)
	}
	return kill
}

// stall is how long the node took, about the instant of a kill, to make
// something durable: the age of the oldest post that it owed an answer to, or
// the longest that one of the last seconds had waited for it. An answer of the
// Graph API waits for the store as long as a post does, and longer: for the call
// of its channel that is under way, for its own, and for a processor before.
func (w *World) stall(kill int64) int64 {
	const calls = 3
	longest := w.pace.longest(kill)
	for _, p := range w.posts {
		if p.out {
			longest = max(longest, kill-p.handed)
		}
	}
	return calls * longest
}

// pace is the longest wait for an acknowledgement in this second and in the one
// before.
type pace struct {
	second       int64
	this, before int64 // ns
}

func (p *pace) turn(at int64) {
	switch second := at / int64(time.Second); second {
	case p.second:
	case p.second + 1:
		p.second, p.before, p.this = second, p.this, 0
	default:
		*p = pace{second: second}
	}
}

func (p *pace) note(at, took int64) {
	p.turn(at)
	p.this = max(p.this, took)
}

func (p *pace) longest(at int64) int64 {
	p.turn(at)
	return max(p.this, p.before)
}

// Progress is a snapshot for a live display; cheap.
type Progress struct {
	Elapsed  time.Duration // since the start
	Offered  int           // messages written so far
	Acked    int           // of these, acknowledged
	Effects  int           // of these, seen through their own reply
	Sends    int           // sends accepted by the Graph API
	Timers   int           // reminders that rang
	Retries  int           // posts that were sent again for want of a 200
	Kills    int
	AckP50MS float64
	AckP99MS float64
}

// Progress tells how far the run is.
func (w *World) Progress() Progress {
	return Progress{
		Elapsed: time.Duration(w.now), Offered: w.live.Offered, Acked: w.live.Acked,
		Effects: w.answered, Sends: w.live.Sends, Timers: w.live.TimersRung,
		Retries: w.live.PostsRetried, Kills: w.live.Kills,
		AckP50MS: w.ack.quantile(0.5), AckP99MS: w.ack.quantile(0.99),
	}
}
