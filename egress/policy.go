package egress

import (
	"cmp"
	"math"
	"time"
)

// The defaults and limits of sending.
const (
	// LeaseTTL is how long a lease lasts. A node that dies holds its channels
	// back for so long; one that lives renews after a quarter of it.
	LeaseTTL = 10 * time.Second
	// DoubtfulWait is how long a message whose answer was lost waits, and with it
	// the rest of its conversation, before it is sent again.
	DoubtfulWait = 30 * time.Second
	// MaxInFlight is the number of messages of one channel that are claimed and
	// not yet settled, unless its pace needs more (see InFlightFor).
	MaxInFlight = 64
	// MaxAttempts is the number of refusals for a time after which a message
	// becomes a dead letter. Refusals of the whole channel don't count.
	MaxAttempts = 24
	// MaxAge is the age at which a message that is refused for a time becomes a
	// dead letter: Meta's window for answers is as long.
	MaxAge = 24 * time.Hour
	// MaxDoubts is the number of lost answers in a row after which a message
	// becomes a dead letter; each may have shown it to the user once more. The
	// wait doubles each time. It is counted in memory: a restart begins anew.
	MaxDoubts = 8
	// MaxSilent is the number of attempts in a row, over all messages of a
	// channel, that brought no word of the provider's about the message before
	// the channel pauses: an outage should not make every message doubtful.
	MaxSilent = 16
	// FoldEvery is the least time between two folds of a channel's receipts while
	// there is something to send.
	FoldEvery = time.Second
	// FoldLimit is the number of receipts folded at once.
	FoldLimit = 512
	// Gather is the least time between two claims of a channel, and between two
	// times that outcomes are settled, so that messages share them. An outcome
	// also waits so long for others while more are to come. What comes alone waits
	// for nobody.
	Gather = 50 * time.Millisecond
	// Horizon is how far a sender looks ahead for messages that wait. It is more
	// than RetryCap, so that a sender sees its own retries come.
	Horizon = 10 * time.Minute
	// RetryBase and RetryCap bound the back-off of a message that was refused for
	// a time: base, doubled for each attempt, with full jitter.
	RetryBase = 500 * time.Millisecond
	RetryCap  = 5 * time.Minute
)

// The rest of the policy is not configured.
const (
	// throttleFactor: WhatsApp asks to wait 4^n seconds after the nth refusal for
	// messages to one contact (error 131056).
	throttleFactor = 4
	throttleBase   = 4 * time.Second
	// throttleSpread is added to a throttled wait at random, so that those who
	// were refused together don't come back together.
	throttleSpread = 0.25

	// Pauses of a channel: the first, and the longest.
	blockedPause, blockedPauseMax   = 30 * time.Second, 5 * time.Minute
	throttlePause, throttlePauseMax = 2 * time.Second, 5 * time.Minute
	silentPause, silentPauseMax     = time.Second, 15 * time.Second
	// pauseStagger is how much longer than others a message waits that met its
	// channel's pause: another one is the probe, so that a message that is at fault
	// itself doesn't hold the channel.
	pauseStagger = time.Second

	// Back-off after the store failed.
	storeWait, storeWaitMax = 50 * time.Millisecond, time.Second
	// Another has the lease: it may be about to hand it over, or keep it for long.
	fencedWait      = 100 * time.Millisecond
	fencedDoublings = 8
	// starvedWait: a sender that found no free place on the node looks again,
	// should the hint that one is free be lost.
	starvedWait = 250 * time.Millisecond
	// foldShare: after a full batch, the next waits so many times as long as that
	// one took, if there is something to send. Folding thus takes a fifth.
	foldShare = 4
	// maxDoubtsKept bounds the messages whose lost answers are counted.
	maxDoubtsKept = 4096
	// maxSought bounds the doubtful messages that are put back to be looked for. There
	// are as many in 20 ms (lookFirst) at most; beyond, some are looked for twice.
	maxSought = 1 << 14
)

// Policy is what a Sender goes by. Zero fields take the constant of their name.
type Policy struct {
	LeaseTTL     time.Duration
	DoubtfulWait time.Duration
	MaxInFlight  int
	MaxAttempts  int
	MaxAge       time.Duration
	FoldEvery    time.Duration
	FoldLimit    int
	Gather       time.Duration // negative: none
	Horizon      time.Duration
	RetryBase    time.Duration
	RetryCap     time.Duration
	Pace         Pace // zero: no limit
	// GiveUpDoubtful tells the bot (parley.OutcomeUnknown) of a message of which
	// nobody knows whether it was sent, instead of sending it again.
	GiveUpDoubtful bool
	// AwaitDelivered is how long the next message to a contact waits at most for
	// the one before it to arrive. 0: it doesn't.
	AwaitDelivered time.Duration
	// Random draws from [0, 1), for the spread of waits. Required.
	Random func() float64
}

// hearing is how long an epoch is too young to send a doubtful message again: its lease
// may have passed on because the store was away from whoever had it. Who knows that
// announces at once what it has sent, and again a second later; who finds it out reports,
// after a call that may hang.
func (p Policy) hearing() time.Duration { return min(p.DoubtfulWait/2, StoreTimeout+2*storeWaitMax) }

// storeWait is the wait after the nth failure of the store in a row.
func (p Policy) storeWait(n int) time.Duration {
	d := grow(storeWait, storeWaitMax, 2, n-1)
	return d/2 + time.Duration(p.Random()*float64(d)/2)
}

func (p Policy) withDefaults() Policy {
	p.LeaseTTL = cmp.Or(p.LeaseTTL, LeaseTTL)
	p.DoubtfulWait = cmp.Or(p.DoubtfulWait, DoubtfulWait)
	p.MaxInFlight = cmp.Or(p.MaxInFlight, max(MaxInFlight, p.Pace.inFlight()))
	p.MaxAttempts = cmp.Or(p.MaxAttempts, MaxAttempts)
	p.MaxAge = cmp.Or(p.MaxAge, MaxAge)
	p.FoldEvery = cmp.Or(p.FoldEvery, FoldEvery)
	p.FoldLimit = cmp.Or(p.FoldLimit, FoldLimit)
	p.Gather = cmp.Or(p.Gather, Gather)
	p.Horizon = cmp.Or(p.Horizon, Horizon)
	p.RetryBase = cmp.Or(p.RetryBase, RetryBase)
	p.RetryCap = cmp.Or(p.RetryCap, RetryCap)
	return p
}

// retryWait is the wait after the nth refusal of a message: exponential with
// full jitter, and never less than the provider asked for.
func (p Policy) retryWait(n int, asked time.Duration) time.Duration {
	span := grow(p.RetryBase, p.RetryCap, 2, n-1)
	return max(asked, time.Duration(p.Random()*float64(span)))
}

// throttleWait is the wait after the nth refusal for too many messages to one
// contact. The provider's rule is a lower bound: jitter only adds.
func (p Policy) throttleWait(n int, asked time.Duration) time.Duration {
	return p.spread(max(asked, grow(throttleBase, p.RetryCap, throttleFactor, n-1)))
}

// spread adds up to throttleSpread to d.
func (p Policy) spread(d time.Duration) time.Duration {
	return d + time.Duration(p.Random()*throttleSpread*float64(d))
}

// grow is base * factor^n, at most limit.
func grow(base, limit time.Duration, factor float64, n int) time.Duration {
	d := float64(base) * math.Pow(factor, float64(max(n, 0)))
	if d >= float64(limit) {
		return limit
	}
	return time.Duration(d)
}
