package metatest

import (
	"cmp"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"
	"time"
)

// Limits of a trial.
const (
	trialUsersMax  = 100_000
	recentMax      = 32      // messages of a user that are remembered; an older one is judged as it stands
	outgoingMax    = 200_000 // receipts that wait to be posted; beyond that there are none for what is sent
	unaskedMax     = 20      // sends that nobody asked for, after which a user causes no receipts: a loop would never end
	forgeriesMax   = 1000
	compressMost   = 100_000
	dayOfMeta      = 24 * time.Hour
	hourOfMeta     = time.Hour
	humanAgentDays = 7
)

// TrialConfig describes a trial. The zero value of every field is usable.
type TrialConfig struct {
	Seed     uint64
	Mix      Shares // of the users; equal if all are zero
	Channels Counts // of each platform with users; 1 by default
	// The ids of channels, instead of invented ones: of Pages, Instagram accounts
	// and WhatsApp numbers. There are at least as many channels.
	Pages, Accounts, Numbers []string

	Users     int           // 100 by default
	Scripts   []Script      // taken in turn; [BuiltInScripts] by default
	Think     time.Duration // from a reply to the user's next message, on average; 2 s by default
	Rate      float64       // messages per second of all users at most; 20 by default
	Duration  time.Duration // how long the users write; 30 s by default
	Impatient float64       // fraction of messages after which the next one doesn't wait for a reply

	ReplyWithin time.Duration // for so long a user waits for a reply; 10 s by default
	Replies     int           // messages to one of a user's at most; 1 by default, negative for any number
	Listener    bool          // the receiver isn't expected to reply at all

	Secret      string // of the app, signs the webhooks
	VerifyToken string
	Token       string // what the Graph API demands; any is good if empty
	AppID       string // as in echoes

	Deadline   time.Duration   // of Meta, for an answer to a POST; 5 s by default
	Duplicates float64         // fraction of POSTs whose updates are delivered again
	Reorder    float64         // fraction of messages that come late, and of POSTs that are shuffled
	Batch      int             // messages in a POST at most; 1 by default, 1000 at most
	Receipts   int             // echoes and statuses in a POST at most; 10 by default
	Forgeries  int             // POSTs with a wrong signature or none; 4 by default, negative for none
	Compress   float64         // by which Meta's hours are divided: retries, unsubscription, windows; 60 by default
	Retry      []time.Duration // waits before each further attempt, before compression; the last one recurs

	NoEchoes        bool
	NoStatuses      bool
	StatusesMissing float64 // fraction of statuses that never come
	StatusesShuffle float64 // fraction of sends whose statuses come in any order

	Graph GraphFaults
	// Workers is the number of POSTs on their way at once, at most; 64 by default.
	Workers int
}

// GraphFaults say how the Graph API of a trial treats sends.
type GraphFaults struct {
	Faults              // by rate
	Hang        float64 // not accepted, and no answer before HangFor is over
	HangFor     time.Duration
	Undelivered float64       // accepted, and then a status "failed" (WhatsApp) or nothing more
	Users       []GraphCode   // the first users, one for each: whatever is sent to them is refused so
	NoLimits    bool          // neither pace nor pair limits nor windows
	Templates   []string      // WhatsApp's templates that there are; hello_world by default
	Latency     time.Duration // usual delay of an answer, drawn from 0 to this; 4 ms by default
}

// GraphCode is an error of the Graph API, by code and subcode.
type GraphCode struct{ Code, Subcode int }

func (c TrialConfig) resolved() TrialConfig {
	c.Users = min(cmp.Or(max(c.Users, 0), 100), trialUsersMax)
	if len(c.Scripts) == 0 {
		c.Scripts = BuiltInScripts()
	}
	c.Think = cmp.Or(c.Think, 2*time.Second)
	c.Rate = cmp.Or(max(c.Rate, 0), 20)
	c.Duration = cmp.Or(c.Duration, 30*time.Second)
	c.ReplyWithin = cmp.Or(c.ReplyWithin, 10*time.Second)
	c.Replies = cmp.Or(c.Replies, 1)
	c.Deadline = cmp.Or(c.Deadline, 5*time.Second)
	c.Batch = min(max(c.Batch, 1), batchMax)
	c.Receipts = min(cmp.Or(max(c.Receipts, 0), 10), batchMax)
	c.Forgeries = min(max(cmp.Or(c.Forgeries, 4), 0), forgeriesMax)
	c.Compress = min(max(cmp.Or(c.Compress, 60), 1), compressMost)
	if len(c.Retry) == 0 {
		c.Retry = RetrySchedule()
	}
	c.Graph.HangFor = cmp.Or(c.Graph.HangFor, 30*time.Second)
	c.Graph.Latency = cmp.Or(c.Graph.Latency, 4*time.Millisecond)
	if len(c.Graph.Templates) == 0 {
		c.Graph.Templates = []string{"hello_world"}
	}
	c.Workers = cmp.Or(max(c.Workers, 0), 64)
	one := func(n int, ids []string) int { return max(n, len(ids), 1) }
	c.Channels = Counts{one(c.Channels.Messenger, c.Pages), one(c.Channels.Instagram, c.Accounts), one(c.Channels.WhatsApp, c.Numbers)}
	return c
}

// RetrySchedule is about how Meta repeats a POST that wasn't answered with 200: at
// once, then less and less often. Meta publishes no figures ("a few more times", "with
// falling frequency").
func RetrySchedule() []time.Duration {
	return []time.Duration{
		0, 15 * time.Second, time.Minute, 5 * time.Minute, 15 * time.Minute,
		time.Hour, 3 * time.Hour, 6 * time.Hour,
	}
}

// Trial is Meta, its users and a judge that knows nothing of the receiver but what can
// be seen from outside: how POSTs are answered, and what is sent through the Graph
// API. Like [World] it is pure: one goroutine, time as an argument, every decision
// from the seed and the order of calls. [Examiner] puts it on sockets.
//
// A reply says seldom what it replies to. It is taken for one to the message that it
// names (context.message_id, reply_to.mid), else to the one whose text it quotes, if
// that text holds the message's number, else to the oldest one of that user that waits.
type Trial struct {
	cfg  TrialConfig
	w    *World // channels, people, wire formats; nobody writes in it
	ends int64

	visitors []visitor
	byMid    map[string]*utterance
	turns    queue[turn]
	outgoing queue[parcel]
	retries  queue[*mail]
	forge    []int64 // when forgeries are due
	posts    map[uint64]*mail
	out      int
	lastPost uint64
	written  int
	slot     int64 // before which no user may write, for the rate
	touched  int64 // when something happened last

	chance  *rand.Rand
	failing [platforms]int64 // since when POSTs fail; -1 = they don't
	gone    [platforms]bool  // the app is unsubscribed
	paces   []bucket         // of channels

	court court
}

// visitor is a user of a trial.
type visitor struct {
	script, line int
	turn         uint32 // earlier turns count no more
	count        int    // messages written
	waits        *utterance
	recent       []*utterance
	said         []said // what was sent to the user last
	heard        cause  // what the receiver was told last about the user
	lastIn       int64  // when the user wrote last
	pair         bucket
	unasked      int
	fault        GraphCode
}

// utterance is a message of a user.
type utterance struct {
	user     int32
	number   int
	line     *Line
	text     string
	mid      string
	at       int64
	posted   int64
	posts    uint32 // step of the first POST that may have arrived; 0 = none
	acked    uint32 // step of its first 200; 0 = none
	ackedAt  int64
	replies  int
	digests  []uint64 // of replies that were accepted
	doubtful []uint64 // those of them whose answer was lost
	named    bool     // its first reply said what it replies to
	met      bool     // a reply held what was expected
	overdue  bool     // the user waits no more
	excused  bool     // a send to the user was refused: nothing is owed
}

// said is a message that was sent to a user.
type said struct {
	text   string
	echoed bool // and the receiver was told of it
}

type turn struct {
	user int32
	turn uint32
}

// cause is what the receiver was told about a user.
type cause uint8

const (
	causeNone cause = iota
	causeMessage
	causeAgain
	causeEcho
	causeStatus
)

// parcel is one update that is to be posted.
type parcel struct {
	message *utterance
	receipt *receipt
	again   bool
}

func (p parcel) user() int32 {
	if p.receipt != nil {
		return p.receipt.user
	}
	return p.message.user
}

// NewTrial makes the users and channels of a trial. The error names an id that can't
// be one.
func NewTrial(cfg TrialConfig) (*Trial, error) {
	cfg = cfg.resolved()
	channels := cfg.Channels
	w := NewWorld(Config{
		Seed: cfg.Seed, Users: cfg.Users + 1, Mix: cfg.Mix, Channels: channels, Rate: 1, AppID: cfg.AppID,
		Secret: cfg.Secret, VerifyToken: cfg.VerifyToken, Faults: cfg.Graph.Faults,
	})
	cfg.Secret, cfg.VerifyToken, cfg.AppID, cfg.Graph.Faults = w.cfg.Secret, w.cfg.VerifyToken, w.cfg.AppID, w.cfg.Faults
	t := &Trial{
		cfg: cfg, w: w, visitors: make([]visitor, cfg.Users), byMid: map[string]*utterance{},
		posts: map[uint64]*mail{}, chance: rand.New(rand.NewPCG(cfg.Seed, 4)),
		paces: make([]bucket, len(w.channels)), failing: [platforms]int64{-1, -1, -1},
		ends: int64(cfg.Duration), court: newCourt(),
	}
	if err := t.nameChannels(); err != nil {
		return nil, err
	}
	t.begin()
	return t, nil
}

// nameChannels gives the channels the ids and tokens of the configuration.
func (t *Trial) nameChannels() error {
	ids := [platforms][]string{t.cfg.Pages, t.cfg.Accounts, t.cfg.Numbers}
	var given [platforms]int
	t.w.byID = map[string]int32{}
	for i := range t.w.channels {
		c := &t.w.channels[i]
		if n := given[c.index]; n < len(ids[c.index]) {
			c.ID = ids[c.index][n]
		}
		given[c.index]++
		if _, twice := t.w.byID[c.ID]; twice || !isID(c.ID) {
			return fmt.Errorf("channel id %q: want 1 to 32 digits, each id once", c.ID)
		}
		if t.cfg.Token != "" {
			c.Token = t.cfg.Token
		}
		t.w.byID[c.ID] = int32(i)
	}
	return nil
}

func isID(s string) bool {
	const most = 32
	return s != "" && len(s) <= most && !slices.ContainsFunc([]byte(s), func(c byte) bool { return c < '0' || c > '9' })
}

// begin sets the users' first turns, spread over a moment, and the forgeries.
func (t *Trial) begin() {
	spread := min(t.cfg.Think, t.cfg.Duration/2)
	for u := range t.visitors {
		v := &t.visitors[u]
		v.script = u % len(t.cfg.Scripts)
		if u < len(t.cfg.Graph.Users) {
			v.fault = t.cfg.Graph.Users[u]
		}
		t.turns.push(t.chance.Int64N(int64(spread)+1), turn{user: int32(u)})
	}
	within := int64(min(t.cfg.Duration, time.Minute))
	for i := range t.cfg.Forgeries {
		t.forge = append(t.forge, within*int64(i+1)/int64(t.cfg.Forgeries+2))
	}
}

// Config is the configuration with its defaults filled in.
func (t *Trial) Config() TrialConfig { return t.cfg }

// Channels are the channels that users write to.
func (t *Trial) Channels() []Channel { return t.w.channels }

// metas is a time of Meta's, compressed.
func (t *Trial) metas(d time.Duration) int64 { return int64(float64(d) / t.cfg.Compress) }

// compose lets users write whose turn it is, as the rate permits.
func (t *Trial) compose(at int64) {
	interval := int64(float64(time.Second) / t.cfg.Rate)
	for t.turns.len() > 0 && t.turns.next() <= at {
		if t.slot > at && at < t.ends {
			return
		}
		next := t.turns.pop()
		v := &t.visitors[next.user]
		if next.turn != v.turn {
			continue
		}
		t.giveUpOn(v)
		if at < t.ends {
			t.slot = max(t.slot, at-int64(catchUpMost)) + interval
			t.writeLine(next.user, at)
		}
	}
}

// catchUpMost is how much of the rate a driver that comes late may make up for.
const catchUpMost = 100 * time.Millisecond

// giveUpOn has a user wait no more.
func (t *Trial) giveUpOn(v *visitor) {
	if v.waits != nil {
		v.waits.overdue = true
		v.waits = nil
	}
}

func (t *Trial) writeLine(user int32, at int64) {
	v := &t.visitors[user]
	script := t.cfg.Scripts[v.script]
	line := &script[v.line]
	v.line = (v.line + 1) % len(script)
	v.count++
	t.written++
	index := t.w.channels[t.w.people[user].channel].index
	m := &utterance{user: user, number: v.count, line: line, text: numbered(line.Text, v.count), at: at}
	m.mid = string(appendID(nil, index, mix(t.cfg.Seed, uint64(t.written)), uint64(t.written)))
	v.lastIn = at
	t.remember(v, m)
	due := at
	if t.chance.Float64() < t.cfg.Reorder {
		due += t.chance.Int64N(int64(lateMost) + 1)
	}
	t.outgoing.push(t.onGrid(due), parcel{message: m})
	t.schedule(user, m, at)
}

// lateMost is by how much a message comes late; gather how long messages wait for
// others that share their POST.
const (
	lateMost = 2 * time.Second
	gather   = 100 * time.Millisecond
)

func (t *Trial) onGrid(at int64) int64 {
	if t.cfg.Batch == 1 {
		return at
	}
	return at + int64(gather) - at%int64(gather)
}

// schedule sets the user's next turn: when patience ends, which a reply shortens.
func (t *Trial) schedule(user int32, m *utterance, at int64) {
	v := &t.visitors[user]
	v.turn++
	if t.cfg.Listener || m.line.Silent || t.chance.Float64() < t.cfg.Impatient {
		t.turns.push(at+t.thinking(v), turn{user, v.turn})
		return
	}
	v.waits = m
	t.turns.push(at+int64(t.cfg.ReplyWithin), turn{user, v.turn})
}

// thinking is how long a user takes for the next line.
func (t *Trial) thinking(v *visitor) int64 {
	if wait := t.cfg.Scripts[v.script][v.line].Wait; wait > 0 {
		return int64(wait)
	}
	return int64(float64(t.cfg.Think) * (0.5 + t.chance.Float64()))
}

// remember keeps a message until it is one of many.
func (t *Trial) remember(v *visitor, m *utterance) {
	if len(v.recent) == recentMax {
		t.settle(&t.court.tally, v.recent[0], true)
		delete(t.byMid, v.recent[0].mid)
		v.recent = slices.Delete(v.recent, 0, 1)
	}
	v.recent = append(v.recent, m)
	t.byMid[m.mid] = m
}

// NextDue is when [Trial.Due] has something new to say; false when it never will
// without another call.
func (t *Trial) NextDue() (time.Time, bool) {
	const never = math.MaxInt64
	at := int64(never)
	if t.turns.len() > 0 {
		at = max(t.turns.next(), t.slot)
	}
	if t.outgoing.len() > 0 {
		at = min(at, t.outgoing.next())
	}
	if t.retries.len() > 0 {
		at = min(at, t.retries.next())
	}
	if len(t.forge) > 0 {
		at = min(at, t.forge[0])
	}
	if at == never {
		return time.Time{}, false
	}
	return t.w.start.Add(time.Duration(at)), true
}

// quiet is how long nothing must have happened before a trial is over: who answers
// twice, or a status, does so soon.
const quiet = time.Second

// Settled reports whether the users have written all, and nothing more is expected.
func (t *Trial) Settled(now time.Time) bool {
	at := t.w.tick(now)
	if at < t.ends || t.outgoing.len()+t.retries.len()+len(t.posts) > 0 || at < t.touched+int64(quiet) {
		return false
	}
	return !slices.ContainsFunc(t.visitors, func(v visitor) bool {
		return slices.ContainsFunc(v.recent, t.owes)
	})
}

// owes reports whether a reply to a message is still to be waited for.
func (t *Trial) owes(m *utterance) bool {
	return t.expects(m) && m.acked != 0 && m.replies == 0 && t.w.now < m.ackedAt+int64(t.cfg.ReplyWithin)
}

// expects reports whether a message is owed a reply.
func (t *Trial) expects(m *utterance) bool {
	return !t.cfg.Listener && !m.line.Silent && !m.excused
}

// Finish lets the users write no more.
func (t *Trial) Finish(now time.Time) { t.ends = min(t.ends, t.w.tick(now)) }
