package egress

import (
	"math"
	"time"

	"github.com/parleychat/parley"
)

// Meta's limits of sending, by the pages on throughput (WhatsApp, 21 November
// 2025), on the platform's limits (WhatsApp) and on rate limiting of messaging
// (23 March 2026).
const (
	// NumberPerSecond is what a WhatsApp number may do in a second, messages in
	// and out together. CoexistencePerSecond is that of a number which its owner
	// also uses on the phone, UpgradedPerSecond of one that Meta has upgraded.
	NumberPerSecond      = 80
	CoexistencePerSecond = 20
	UpgradedPerSecond    = 1000
	// PagePerSecond is the number of calls of a Page or an Instagram account in a
	// second; MediaPerSecond is that of those with audio or video.
	PagePerSecond  = 300
	MediaPerSecond = 10
	// PairEvery and PairBurst are WhatsApp's limit for one user: a message in so
	// long, and so many at once, which are borrowed from later.
	PairEvery = 6 * time.Second
	PairBurst = 45
)

// How a pace is kept and changed.
const (
	// Headroom is the share of a limit that is left alone: the provider's second
	// and ours don't begin together.
	Headroom = 0.01
	// BurstFor is how much of its time a channel may make up for at once: the time
	// between two claims (Gather), with room for a slow store. A fresh lease begins
	// with a single message and the pace, since nobody knows what its last holder
	// has just sent.
	BurstFor = 100 * time.Millisecond
	// Window is the time by which the provider counts: no more than the pace is
	// claimed in any such span, whatever may be made up for.
	Window = time.Second
	// InFlightFor is the time that a message is under way: the call, and the two
	// Gather before and after it. The pace times it is what is under way at once.
	InFlightFor = 400 * time.Millisecond

	// A pace is lowered by a factor and raised by steps (AIMD, as TCP does it):
	// the factor ends the trouble at once however far the pace was off; the steps
	// find the limit again without leaping past it; and several who send under one
	// limit that none of them knows (another app at the same number, inbound
	// messages that count, too) come to equal shares of it. A cut of 0.7 and a
	// hundredth a second: a pace that has to stay lowered meets its limit three
	// times a minute, one whose trouble is over is back after half a minute.
	paceCut    = 0.7
	paceStep   = 0.01
	paceEvery  = time.Second
	paceFloor  = 0.02 // of the ceiling; the pause between refusals is what slows below it
	usageHigh  = 80   // percent of a quota: the pace is lowered, at most every usageEvery
	usageSome  = 60   // it isn't raised
	usageFull  = 100  // the channel pauses
	usageEvery = 10 * time.Second
	// spreadStep is how far the messages of a claim are apart that leave together. At
	// a thousand a second those are ten, which is the Headroom; a shorter step would
	// cost more CPU, since each is something to wake up for.
	spreadStep = 10 * time.Millisecond

	// maxPairs bounds the contacts that are remembered for the pair limit. Beyond
	// it those that have used least of theirs are forgotten; the provider's own
	// refusal (131056) stands behind.
	maxPairs  = 1 << 16
	fewPairs  = 1 << 10 // are not worth sweeping
	roundedUp = 1e-6    // tokens that are missing by the inexactness of the count
)

// Pace is how fast a channel may send. The zero Pace knows no limit.
type Pace struct {
	PerSecond float64       // messages in a second; 0: any number
	Media     float64       // of them, those with audio or video; 0: any number
	PairEvery time.Duration // between messages to one contact, on average; 0: none
	PairBurst int           // messages to one contact that may follow at once
}

// PaceOf is the pace of a kind of channel, as far as Meta's pages tell it.
func PaceOf(kind parley.ChannelKind) Pace {
	switch kind {
	case parley.WhatsApp:
		return Pace{PerSecond: NumberPerSecond, PairEvery: PairEvery, PairBurst: PairBurst}
	case parley.Messenger, parley.Instagram:
		return Pace{PerSecond: PagePerSecond, Media: MediaPerSecond}
	}
	return Pace{}
}

// inFlight is how many messages must be under way for the pace to be reached.
func (p Pace) inFlight() int { return int(math.Ceil(p.PerSecond * InFlightFor.Seconds())) }

// limits is a channel's pace at work: a bucket for the channel, whose rate
// adapts, and what is known of media and of each contact (GCRA: the theoretical
// time of arrival of the next message, if they came evenly).
type limits struct {
	pace    Pace
	ceiling float64 // of rate
	rate    float64 // in a second, now
	tokens  float64
	at      time.Duration // when tokens was counted; 0: not yet
	recent  []claimed     // within the last Window, oldest first
	sum     int           // of recent
	changed time.Duration // from when on rate rises
	heeded  time.Duration // until when the usage is not taken for news
	media   time.Duration
	parked  time.Duration // of media that was put back: each gets a place of its own
	pairs   map[parley.Contact]time.Duration
	sweepAt int // so many pairs
}

// claimed is a number of messages that were handed over together.
type claimed struct {
	at time.Duration
	n  int
}

func newLimits(p Pace) *limits {
	ceiling := p.PerSecond * (1 - Headroom)
	return &limits{
		pace: p, ceiling: ceiling, rate: ceiling, tokens: 1,
		pairs: map[parley.Contact]time.Duration{}, sweepAt: fewPairs,
	}
}

// count lets the bucket fill, and the rate rise, up to now.
func (l *limits) count(now time.Duration) {
	if l.rate < l.ceiling {
		quiet := max(now-l.changed, 0).Truncate(paceEvery)
		l.rate = min(l.ceiling, l.rate+quiet.Seconds()/paceEvery.Seconds()*paceStep*l.ceiling)
		l.changed += quiet
	}
	if l.at != 0 {
		l.tokens = min(l.most(), l.tokens+l.rate*max(now-l.at, 0).Seconds())
	}
	l.at = max(l.at, now)
	for len(l.recent) > 0 && l.recent[0].at <= now-Window {
		l.sum -= l.recent[0].n
		l.recent = l.recent[1:]
	}
}

// most is what the bucket holds. It is one message at least.
func (l *limits) most() float64 { return max(1, l.rate*BurstFor.Seconds()) }

// inWindow is how many messages may leave in a Window. It is one at least.
func (l *limits) inWindow() int { return max(1, int(math.Ceil(l.rate*Window.Seconds()-roundedUp))) }

// ready is when the next message may be claimed.
func (l *limits) ready() time.Duration {
	if l.ceiling == 0 {
		return 0
	}
	at, sum := time.Duration(0), l.sum
	for i := 0; sum >= l.inWindow(); i++ {
		sum -= l.recent[i].n
		at = l.recent[i].at + Window
	}
	if missing := 1 - roundedUp - l.tokens; missing > 0 {
		at = max(at, l.at+time.Duration(math.Ceil(missing/l.rate*float64(time.Second))))
	}
	return at
}

// quota is how many of want messages may be claimed now, which isn't before ready.
func (l *limits) quota(want int, now time.Duration) int {
	if l.ceiling == 0 {
		return want
	}
	l.count(now)
	return min(want, max(1, min(int(l.tokens+roundedUp), l.inWindow()-l.sum)))
}

// take notes that n messages are handed over.
func (l *limits) take(n int, now time.Duration) {
	if l.ceiling == 0 || n == 0 {
		return
	}
	l.count(now)
	l.tokens -= float64(n)
	l.recent, l.sum = append(l.recent, claimed{now, n}), l.sum+n
}

// spread is how long after a claim the message leaves that comes behind k others of
// it. The provider counts by its own seconds: a claim's messages all at once would be
// in one with those of a second before as soon as they are a moment faster.
func (l *limits) spread(k int) time.Duration {
	if l.ceiling == 0 {
		return 0
	}
	return time.Duration(float64(k) / l.rate * float64(time.Second)).Truncate(spreadStep)
}

// lower cuts the pace.
func (l *limits) lower(now time.Duration) {
	l.count(now)
	l.rate = max(l.rate*paceCut, l.ceiling*paceFloor)
	l.tokens = min(l.tokens, l.most())
	l.changed = now
}

// heed takes the provider's word on how much of a quota is used, in percent, and
// reports whether that lowered the pace. What it tells is of the last hour, so it
// tells the same for a while.
func (l *limits) heed(used int, now time.Duration) bool {
	if used >= usageSome {
		l.changed = max(l.changed, now)
	}
	if used < usageHigh || now < l.heeded {
		return false
	}
	l.lower(now)
	l.heeded = now + usageEvery
	return true
}

// hold is how long a claimed message must be put back for, by the limit that is
// named; 0: it may go, and counts. It says nothing of the channel's own pace,
// which bounds what is claimed.
func (l *limits) hold(m *parley.Claimed, now time.Duration) (time.Duration, Limit) {
	if m.Send.Signal != nil { // is no message
		return 0, ""
	}
	c := m.Conversation.Contact
	next := max(l.pairs[c], now)
	if l.pace.PairEvery > 0 {
		if wait := next - now - time.Duration(l.pace.PairBurst-1)*l.pace.PairEvery; wait > 0 {
			return wait, PairLimit
		}
	}
	if l.pace.Media > 0 && hasMedia(&m.Send) {
		if wait := l.holdMedia(now); wait > 0 {
			return wait, MediaLimit
		}
	}
	if l.pace.PairEvery > 0 {
		l.remember(c, next+l.pace.PairEvery, now)
	}
	return 0, ""
}

// holdMedia puts each message that comes too soon behind the ones that did so
// before, so that most are put back only once.
func (l *limits) holdMedia(now time.Duration) time.Duration {
	every := time.Duration(float64(time.Second) / l.pace.Media)
	if l.media > now {
		l.parked = max(l.parked, l.media) + every
		return l.parked - every - now
	}
	l.media = max(l.media, now) + every
	return 0
}

// remember notes until when a contact's messages are accounted for.
func (l *limits) remember(c parley.Contact, until, now time.Duration) {
	if _, known := l.pairs[c]; !known && len(l.pairs) >= l.sweepAt {
		l.sweep(now)
	}
	l.pairs[c] = until
}

// sweep forgets the contacts that have all of their burst again, and if there are
// still too many, those that lack least of it.
func (l *limits) sweep(now time.Duration) {
	for lack := time.Duration(0); ; lack = 2*lack + l.pace.PairEvery {
		for c, until := range l.pairs {
			if until <= now+lack {
				delete(l.pairs, c)
			}
		}
		if len(l.pairs) < maxPairs/2 {
			break
		}
	}
	l.sweepAt = max(fewPairs, 2*len(l.pairs))
}

// fresh reports whether nothing is remembered that a new channel wouldn't have.
func (l *limits) fresh(now time.Duration) bool {
	l.count(now)
	l.sweep(now)
	return len(l.pairs) == 0 && l.rate == l.ceiling && l.sum == 0 && l.media <= now
}

// Limit names what a message was put back for.
type Limit string

// The limits that concern one message, not its channel.
const (
	PairLimit  Limit = "pair"  // too many messages to this contact
	MediaLimit Limit = "media" // too much audio and video of this channel
	// DeliveryLimit: the message before it has not arrived yet.
	DeliveryLimit Limit = "delivery"
)

// hasMedia reports whether a message is one of those with a limit of their own:
// audio and video.
func hasMedia(s *parley.Send) bool {
	return s.Media != nil && (s.Media.Kind == parley.Audio || s.Media.Kind == parley.Video)
}
