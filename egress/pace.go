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
	// Headroom is the share of a limit that is left alone. At a thousand a second
	// those are 8 ms: so much more than a second passes between a message and the one
	// that may not be in a second with it, should the first be delayed and the other not.
	Headroom = 0.008
	// Ahead is how long before its time a message is claimed at most, so that a store
	// that is slow for a moment makes nobody late; what was claimed later still isn't
	// made up for. It is bounded by what it costs: who dies leaves so much claimed that
	// nobody sent, and a reply waits so long behind bulk that is claimed already.
	Ahead = 100 * time.Millisecond
	// Window is the time by which the provider counts. Of one message more than the
	// limit the last leaves so much after the first, and windowSpare: the pace alone
	// sees to that, unless a process stood still and its messages left late, together.
	Window      = time.Second
	windowSpare = 5 * time.Millisecond
	// InFlightFor is the time that a message is under way: Ahead, the call, and the
	// two Gather before and after it. The pace times it is what is under way at once.
	InFlightFor = 500 * time.Millisecond

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
	// leaveStep is the step of the times at which messages leave: each is something to
	// wake up for. A multiple of it is what the Headroom makes of a second, at a
	// thousand a second; any other step would make less of the distance.
	leaveStep = 8 * time.Millisecond

	// maxPairs bounds the contacts that are remembered for the pair limit. Beyond
	// it those that have used least of theirs are forgotten; the provider's own
	// refusal (131056) stands behind.
	maxPairs = 1 << 16
	fewPairs = 1 << 10 // are not worth sweeping
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

// limits is a channel's pace at work: a timetable for the channel, whose rate
// adapts, and what is known of media and of each contact. Both timetables are GCRA:
// the theoretical time of arrival of the next message, if they came evenly.
type limits struct {
	pace    Pace
	ceiling float64 // of rate; 0: none
	rate    float64 // in a second, now
	due     time.Duration
	// left is when the last messages left, or will: as many as the pace has in a
	// Window. The one of ticket t is at t modulo its length.
	left    []time.Duration
	tickets int
	changed time.Duration // from when on rate rises
	heeded  time.Duration // until when the usage is not taken for news
	media   time.Duration
	parked  time.Duration // of media that was put back: each gets a place of its own
	pairs   map[parley.Contact]time.Duration
	sweepAt int // so many pairs
}

func newLimits(p Pace) *limits {
	ceiling := p.PerSecond * (1 - Headroom)
	return &limits{
		pace: p, ceiling: ceiling, rate: ceiling,
		left:  make([]time.Duration, max(1, int(p.PerSecond*Window.Seconds()))),
		pairs: map[parley.Contact]time.Duration{}, sweepAt: fewPairs,
	}
}

// recover lets the rate rise up to now.
func (l *limits) recover(now time.Duration) {
	if l.rate < l.ceiling {
		quiet := max(now-l.changed, 0).Truncate(paceEvery)
		l.rate = min(l.ceiling, l.rate+quiet.Seconds()/paceEvery.Seconds()*paceStep*l.ceiling)
		l.changed += quiet
	}
}

// every is the time between two messages.
func (l *limits) every() time.Duration { return time.Duration(float64(time.Second) / l.rate) }

// free is when the message of ticket t may leave because of the one that may not be
// in one Window with it.
func (l *limits) free(t int) time.Duration {
	if t < len(l.left) {
		return 0
	}
	return l.left[t%len(l.left)] + Window + windowSpare
}

// ready is when the next message may be claimed.
func (l *limits) ready() time.Duration {
	if l.ceiling == 0 {
		return 0
	}
	return max(l.due, l.free(l.tickets)) - Ahead
}

// quota is how many of want messages may be claimed now, which isn't before ready.
func (l *limits) quota(want int, now time.Duration) int {
	if l.ceiling == 0 {
		return want
	}
	l.recover(now)
	n := 1
	for at := max(l.due, now) + l.every(); n < want && max(at, l.free(l.tickets+n)) <= now+Ahead; n++ {
		at += l.every()
	}
	return n
}

// leaves is when the next message leaves, if it is claimed now.
func (l *limits) leaves(now time.Duration) time.Duration {
	if l.ceiling == 0 {
		return now
	}
	return max(now, l.due.Truncate(leaveStep), l.free(l.tickets))
}

// take notes that the next message leaves as leaves says, and returns its ticket.
func (l *limits) take(now time.Duration) (ticket int) {
	if l.ceiling == 0 {
		return 0
	}
	l.recover(now)
	if ticket = l.tickets; ticket == 0 { // nobody knows what the last holder of the lease has just sent
		l.due = now + l.every() + leaveStep
	}
	l.left[ticket%len(l.left)] = l.leaves(now)
	l.due = max(l.due, now) + l.every()
	l.tickets++
	return ticket
}

// gone notes when the message of a ticket left indeed.
func (l *limits) gone(ticket int, at time.Duration) {
	if l.ceiling > 0 && l.tickets-ticket <= len(l.left) {
		l.left[ticket%len(l.left)] = at
	}
}

// lower cuts the pace.
func (l *limits) lower(now time.Duration) {
	l.recover(now)
	l.rate = max(l.rate*paceCut, l.ceiling*paceFloor)
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
	l.recover(now)
	l.sweep(now)
	last := l.free(l.tickets + len(l.left) - 1)
	return len(l.pairs) == 0 && l.rate == l.ceiling && last <= now && l.media <= now
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
