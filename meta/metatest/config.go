package metatest

import (
	"cmp"
	"fmt"
	"math"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// What [Sized] plans for, below Meta's limits (WhatsApp docs: throughput and
// about-the-platform pages; Messenger docs: rate-limiting page).
const (
	sizedPair       = 7   // seconds between two messages of one user; WhatsApp: 6, with a burst of 45
	sizedNumber     = 60  // messages per second in and out of a WhatsApp number; Meta: 80
	sizedPage       = 150 // sends per second of a Page or Instagram account; Meta: 300
	channelsAtLeast = 2
)

// Limits of the simulator itself.
const (
	usersMax    = 5_000_000
	messagesMax = 50_000_000
	batchMax    = 1000 // Meta: updates in one POST
)

// Shares are weights of the platforms. All zero means equal weights.
type Shares struct {
	Messenger, Instagram, WhatsApp float64
}

// Counts are numbers of channels by platform.
type Counts struct {
	Messenger, Instagram, WhatsApp int
}

// Faults are the fractions (0 to 1) of valid sends that the Graph API treats
// badly.
type Faults struct {
	Transient float64       // not accepted: HTTP 500, code 2, is_transient
	Throttled float64       // not accepted: 130429 on WhatsApp, 613 on the others
	Withheld  float64       // accepted, then the connection is closed without an answer
	Slow      float64       // accepted and answered after SlowFor
	SlowFor   time.Duration // 3 s by default
	// Patience is how long a sender is expected to wait for an answer (5 s by
	// default): an accepted send whose answer took longer may be repeated.
	Patience time.Duration
}

// Config describes one run. The zero value of every field is usable; [Sized]
// fills in what suits a rate.
type Config struct {
	Seed     uint64
	Start    time.Time // when the first message is due; zero = the first call
	Duration time.Duration
	Rate     float64 // messages per second in all, by schedule, whatever the node does
	Users    int     // 0 = so many that each writes every 7 s
	Mix      Shares
	Channels Counts // a zero is sized from the rate

	App         string // the app's name in the webhook path
	AppID       string // Meta's numeric id of the app, as in echoes
	Secret      string // signs the webhooks
	VerifyToken string

	Duplicates      float64       // fraction of posts whose updates are delivered again
	DuplicateWithin time.Duration // how much later at most; 3 s by default
	Delayed         float64       // fraction of messages posted later than they were written
	DelayMax        time.Duration // by how much at most; 2 s by default
	Shuffled        float64       // fraction of posts whose updates are in random order
	Batch           int           // most messages in one POST; 1 by default
	ReceiptBatch    int           // most echoes and statuses in one POST; 50 by default
	Clicks          float64       // fraction of messages that are a click on a button
	TextBytes       int           // length to which texts are padded

	Timers   float64       // fraction of messages that are reminders
	TimerMin time.Duration // of a reminder that is not forgotten; 200 ms by default
	TimerMax time.Duration // 3 s by default

	Echoes     bool          // Messenger and Instagram report our own sends
	Statuses   bool          // sent, delivered, read
	ReceiptMax time.Duration // how late a receipt comes at most; 1.5 s by default
	AnswerMax  time.Duration // usual delay of a Graph answer, drawn from 0 to this; 4 ms by default, negative = none
	Faults     Faults

	PostTimeout time.Duration // an unanswered post is sent again after this; 5 s by default, as Meta does
	InFlight    int           // posts handed out and not yet answered, at most; 0 = no limit
	// KillGrace is how long before a kill an answer may have been written and
	// still not have been taken note of by the node; 250 ms by default (a
	// simulation in which nothing takes time sets a nanosecond). Three
	// times what the node took about then to acknowledge a post is added.
	KillGrace time.Duration
	// History gets what is seen of each conversation; nil = nobody does. The caller ends it.
	History *history.Writer
	// Farewell says that World.Farewell is going to be called: the run isn't settled before.
	Farewell bool
	// RequireProof demands a right appsecret_proof with each send. Without it a
	// proof is checked only when there is one.
	RequireProof bool
}

// Sized returns a configuration for rate messages per second in which no limit
// of Meta binds: users is the number of users, 0 for one per 7 s of the rate
// (with fewer, WhatsApp's limit of a message per 6 s to one user binds); numbers
// and Pages, sized when the configuration is used, stay well below their
// throughput. All the ordinary troubles of Meta are on (batches, delays,
// receipts, clicks, reminders); duplicates and faults are left to the caller.
func Sized(rate float64, users int) Config {
	if users <= 0 {
		users = int(math.Ceil(rate * sizedPair))
	}
	return Config{
		Rate: rate, Users: users, Duration: 20 * time.Second,
		Batch: 8, Shuffled: 0.2, Delayed: 0.02, Clicks: 0.2, TextBytes: 40,
		Timers: 0.1, Echoes: true, Statuses: true,
	}
}

// resolved fills in the defaults, once.
func (c Config) resolved() Config {
	if c.Mix == (Shares{}) {
		c.Mix = Shares{1, 1, 1}
	}
	c.Rate = cmp.Or(max(c.Rate, 0), 100)
	c.Duration = cmp.Or(c.Duration, 10*time.Second)
	c.Users = min(cmp.Or(max(c.Users, 0), int(math.Ceil(c.Rate*sizedPair))), usersMax)
	c = c.withChannels()
	c.App = cmp.Or(c.App, "simulated")
	c.AppID = cmp.Or(c.AppID, "1517776481860111")
	c.Secret = cmp.Or(c.Secret, fmt.Sprintf("%016x%016x", mix(c.Seed, 1), mix(c.Seed, 2)))
	c.VerifyToken = cmp.Or(c.VerifyToken, fmt.Sprintf("%016x", mix(c.Seed, 3)))
	c.DuplicateWithin = cmp.Or(c.DuplicateWithin, 3*time.Second)
	c.DelayMax = cmp.Or(c.DelayMax, 2*time.Second)
	c.Batch = min(max(c.Batch, 1), batchMax)
	c.ReceiptBatch = min(cmp.Or(max(c.ReceiptBatch, 0), 50), batchMax)
	c.TimerMin = cmp.Or(c.TimerMin, 200*time.Millisecond)
	c.TimerMax = max(cmp.Or(c.TimerMax, 3*time.Second), c.TimerMin)
	c.ReceiptMax = cmp.Or(c.ReceiptMax, 1500*time.Millisecond)
	c.AnswerMax = cmp.Or(c.AnswerMax, 4*time.Millisecond)
	c.Faults.SlowFor = cmp.Or(c.Faults.SlowFor, 3*time.Second)
	c.Faults.Patience = cmp.Or(c.Faults.Patience, 5*time.Second)
	c.PostTimeout = cmp.Or(c.PostTimeout, 5*time.Second)
	c.KillGrace = cmp.Or(c.KillGrace, 250*time.Millisecond)
	return c
}

// withChannels sizes the channels of platforms that have users and no number of
// channels given. A message costs a number two of its 80 per second: in and out.
func (c Config) withChannels() Config {
	sum := c.Mix.Messenger + c.Mix.Instagram + c.Mix.WhatsApp
	size := func(given int, weight, per float64) int {
		switch {
		case weight <= 0:
			return 0
		case given > 0:
			return given
		}
		return max(channelsAtLeast, int(math.Ceil(c.Rate*weight/sum/per)))
	}
	c.Channels.Messenger = size(c.Channels.Messenger, c.Mix.Messenger, sizedPage)
	c.Channels.Instagram = size(c.Channels.Instagram, c.Mix.Instagram, sizedPage)
	c.Channels.WhatsApp = size(c.Channels.WhatsApp, c.Mix.WhatsApp, sizedNumber/2)
	return c
}

// total is the number of messages of the run.
func (c Config) total() int {
	return int(min(c.Rate*c.Duration.Seconds(), messagesMax))
}

// interval is the time between two messages of one user.
func (c Config) interval() time.Duration {
	return time.Duration(float64(c.Users) / c.Rate * float64(time.Second))
}
