package egress

import (
	"fmt"
	"math"
	"time"

	"github.com/parleychat/parley"
)

// never is a time that doesn't come.
const never = time.Duration(math.MaxInt64)

// ActionKind names what a Sender wants done.
type ActionKind uint8

// The actions. All but Rest are answered by exactly one call, of the method in
// brackets. Until then Next says Rest, or Announce.
const (
	Rest      ActionKind = iota // nothing to do until Until, a Wake or an answer
	TakeLease                   // call Outbox.Lease with Lease as the one in hand, and Outbox.Recall with Open if the epoch stays [Leased]
	Claim                       // call Outbox.Claim for up to Limit messages [Claimed, or Starved]
	Settle                      // call Outbox.Settle with Outcomes [Settled]
	Fold                        // call Receipts.Fold for up to Limit receipts [Folded]
	Report                      // call Receipts.Append with Receipts [Reported]
	Announce                    // let another node append Receipts, without waiting for it [Announced]
)

// String is the name of the action in metrics and logs.
func (k ActionKind) String() string {
	switch k {
	case Rest:
		return "rest"
	case TakeLease:
		return "lease"
	case Claim:
		return "claim"
	case Settle:
		return "settle"
	case Fold:
		return "fold"
	case Report:
		return "report"
	case Announce:
		return "announce"
	}
	return fmt.Sprintf("action_kind_%d", uint8(k))
}

// Action is what a Sender wants done next.
type Action struct {
	Kind     ActionKind
	Lease    parley.Lease
	Open     []parley.ID      // of TakeLease: what is claimed in the epoch of Lease and not settled
	Limit    int              // of Claim and Fold
	Outcomes []parley.Outcome // of Settle; the caller must not change them
	Receipts []parley.Receipt // of Report and Announce; the same
	Until    time.Duration    // of Rest
	// Idle, of a Rest: nothing is under way and nothing waits within the horizon;
	// the Sender may be forgotten. After Stop it says that all is settled, or reported.
	Idle bool
}

// Sender sends for one channel. It is a machine: [Sender.Next] says what to do,
// the other methods tell what happened. Time is an argument everywhere, on a
// clock that never goes back and runs while the computer sleeps. A Sender is
// used by one goroutine.
//
// # The life of a message
//
//	waiting --Claim--> open --answer--> answered --Settle--> gone (Sent, Refused)
//	   ^                                                 \-> waiting (Retry, Doubt)
//	   |___________________________________________________/
//
// Waiting messages are the store's. Open ones have a durable mark of this
// lease's epoch and are with a caller. Answered ones have an outcome that the
// store doesn't know yet. Open and answered ones together are at most
// MaxInFlight. The store claims one message of a conversation at a time and no
// other until that one is settled: this is what keeps a conversation in order,
// and the Sender adds nothing to it but never to settle what is still open.
//
// # The lease
//
// Its age is counted from the moment at which it was *asked for*, which is before
// the store's count began.
//
//	age 0 ... 1/4   send
//	age 1/4 ... 1/2 send, but renew first
//	age 1/2 ... 1   hand nothing over, claim nothing; renew; settle
//	age 1 ...       settle, wait for callers (for DoubtfulWait more, should one
//	                never come back); then take a new lease
//
// A lease that may have expired is not renewed while messages are open or
// answered: the store would raise the epoch and take those for doubtful. They are
// settled first, which the store allows until another has taken the lease.
//
// # Invariants
//
//   - A message is handed over only after the Claim that marked it has returned
//     without an error, and never at or after half of the lease.
//   - Each hand-over is answered once. Every answer becomes one outcome, and an
//     outcome is kept until a Settle of it has succeeded or the epoch is lost
//     (ErrFenced): then its message is the store's again, as doubtful.
//   - What is known to have been sent in an epoch that was lost is reported, as the
//     provider would in a receipt. Whoever has the channel now looks at receipts
//     before it repeats what is doubtful.
//   - What is known to have been sent while the store fails, or hangs, is announced to
//     whoever may have got the channel meanwhile, and settled or reported all the same.
//   - After a Settle that ended in another error nothing is claimed until it has
//     succeeded. It may have taken hold; a message it released could otherwise
//     be claimed again, and the repeated Settle would release it while open.
//   - After a Claim that ended in an error other than ErrFenced there may be marks
//     whose messages are not known here. Nothing is claimed in that epoch any
//     more; once all is settled a new epoch is asked for, in which they are
//     doubtful.
//   - With each renewal the store is told all that is open or answered, so that
//     what it holds for claimed beside that doesn't stay so for ever.
//   - A channel in trouble (see Pause) is tried with one message at a time.
//
// # The pace
//
// What the channel may send in a second bounds what is claimed, so that what has
// to wait for its turn waits in the store and is nobody's meanwhile. What may not
// be sent yet for a reason of its own (its contact has had too much, it is a
// video) turns out after the claim: it is put back, until its time, and those
// behind it go on. So neither takes a place from others.
//
// # Doubtful messages
//
// Before one is handed over again, the receipts are looked at: what the provider
// told meanwhile may prove that it has it, and then it is gone from the outbox.
// So it is put back, as well, until that was done. In a young epoch it is put back
// for longer (see Policy.hearing): whoever had the lease before may be alive, have
// the answer, and be about to report or announce it. If nothing is found the policy decides.
type Sender struct {
	channel parley.Channel
	holder  string
	policy  Policy

	busy  ActionKind    // the action whose answer is awaited; Rest if none
	began time.Duration // when it was given out
	era   int           // of the trouble, at that time

	lease parley.Lease  // Epoch 0: none
	asked time.Duration // when it was asked for
	since time.Duration // when its epoch began
	spent bool          // the store said, or it must be feared, that it is over
	anew  bool          // the next lease must be of a new epoch

	open     map[parley.ID]attempt
	answered []parley.Outcome
	settling []parley.Outcome // those of the Settle under way
	unsure   bool             // a Settle failed and may have taken hold
	lost     int              // see Forgotten
	calls    int              // hand-overs without an answer: those of open, and of epochs that are lost
	gaveUp   time.Duration    // when calls of an epoch that was lost need not be waited for any more
	doubts   map[parley.ID]int
	sought   map[parley.ID]time.Duration // since when; see lookedFor

	trouble trouble
	limits  *limits
	back    map[Limit]int // messages put back, see Held
	slowed  int           // see Slowed
	lanes   lanes
	awaits  awaits
	reports reports

	announced announcements

	// The times at which each action is wanted, or allowed again after a failure.
	claimAt     time.Duration
	claimed     time.Duration // when the last claim ended
	settled     time.Duration // when outcomes were last settled
	foldAt      time.Duration
	looked      time.Duration // when the last fold began that left no receipts
	leaseFrom   time.Duration
	settleAt    time.Duration
	firstAnswer time.Duration // when the oldest of answered came in
	folded      time.Duration // when the last fold ended
	failures    int           // of the store, in a row
	fenced      int           // times in a row that another had the lease
	woken       bool          // during a Claim or a Fold
	stopping    bool
}

// attempt is what a Sender remembers of an open message.
type attempt struct {
	attempts int // earlier ones
	contact  parley.Contact
	told     bool // it has arrived already, or won't
	era      int  // of the trouble in which it was handed over
	ticket   int  // of the pace
}

// NewSender makes the Sender of a channel. holder names this process among all
// that may ask for the channel's lease, and no other process ever: a process
// that was started again has another name. A new Sender does nothing until it is
// woken.
func NewSender(ch parley.Channel, holder string, p Policy) *Sender {
	p = p.withDefaults()
	return &Sender{
		channel: ch, holder: holder, policy: p,
		open:   make(map[parley.ID]attempt),
		doubts: make(map[parley.ID]int), sought: make(map[parley.ID]time.Duration),
		limits: newLimits(p.Pace), back: make(map[Limit]int), awaits: newAwaits(p.AwaitDelivered),
		claimAt: never, foldAt: never, folded: -p.FoldEvery, looked: -p.FoldEvery,
		announced: announcements{told: make(map[parley.ID]struct{})},
	}
}

// Next says what to do. While an action is awaited it is Rest, or Announce if that takes
// long.
func (s *Sender) Next(now time.Duration) Action {
	announce := s.announceWhen()
	switch {
	case announce <= now:
		return s.announce()
	case s.busy != Rest:
		return Action{Until: announce}
	}
	settle, lease, claim, fold := s.settleWhen(), s.leaseWhen(now), s.claimWhen(now), s.foldWhen(now)
	report := s.reports.when()
	switch {
	case settle <= now:
		return s.settle(now)
	case lease <= now && (s.held() || report > now):
		return s.do(now, Action{Kind: TakeLease, Lease: s.inHand(), Open: s.claims()})
	case report <= now:
		return s.do(now, Action{Kind: Report, Receipts: s.reports.out()})
	case fold <= now && (fold+s.policy.FoldEvery <= now || claim > now):
		return s.do(now, Action{Kind: Fold, Lease: s.lease, Limit: s.policy.FoldLimit})
	case claim <= now:
		return s.do(now, Action{Kind: Claim, Lease: s.lease, Limit: s.limits.quota(s.room(), now)})
	}
	rest := Action{Until: min(announce, settle, report, lease, claim, fold), Idle: s.idle(now)}
	if s.calls > len(s.open) && now < s.gaveUp {
		rest.Until = min(rest.Until, s.gaveUp)
	}
	return rest
}

func (s *Sender) do(now time.Duration, a Action) Action {
	s.busy, s.began, s.era, s.woken = a.Kind, now, s.trouble.era, false
	return a
}

// Wake is a hint that there may be something to send or to fold. It may come
// too often, and at any time.
func (s *Sender) Wake(now time.Duration) {
	s.woken = true
	s.claimAt = min(s.claimAt, now)
	s.foldAt = min(s.foldAt, max(now, s.folded+s.policy.FoldEvery))
}

// Stop ends the sending: nothing is claimed or handed over any more. When all
// that is open has been answered and settled, or reported, Next gives an idle Rest.
// The lease is left to expire. As the channel may be another node's now, what is unnoted
// is announced anew.
func (s *Sender) Stop() {
	if !s.stopping {
		s.announced.anew()
	}
	s.stopping = true
}

// Forgotten is the number of messages whose attempts could not be noted because
// the epoch was lost, since the Sender was made. The next epoch holds them for
// doubtful, unless it is reported that they were sent.
func (s *Sender) Forgotten() int { return s.lost }

// Held is the number of claimed messages that were put back, since the Sender was
// made, for a limit that concerns one message and not its channel.
func (s *Sender) Held(l Limit) int { return s.back[l] }

// Slowed is the number of times that the provider made the Sender lower its pace.
func (s *Sender) Slowed() int { return s.slowed }

// Rate is the channel's pace in messages a second, as it stands, and the one that
// it goes back to. 0: it has no limit.
func (s *Sender) Rate() (now, ceiling float64) { return s.limits.rate, s.limits.ceiling }

// Open is the number of messages that are with a caller.
func (s *Sender) Open() int { return len(s.open) }

// unsettled is the number of messages that are open or answered.
func (s *Sender) unsettled() int { return len(s.open) + len(s.answered) + len(s.settling) }

// claims is the messages that are open or answered, while no Settle is under way.
func (s *Sender) claims() []parley.ID {
	ids := make([]parley.ID, 0, len(s.open)+len(s.answered))
	for id := range s.open {
		ids = append(ids, id)
	}
	for i := range s.answered {
		ids = append(ids, s.answered[i].ID)
	}
	return ids
}

// room is how many messages may be claimed now.
func (s *Sender) room() int {
	if s.trouble.reason != "" {
		return 1 - s.unsettled()
	}
	return s.policy.MaxInFlight - s.unsettled()
}

func (s *Sender) idle(now time.Duration) bool {
	done := s.unsettled() == 0 && (s.calls == 0 || now >= s.gaveUp) && s.reports.none()
	return done && (s.stopping || s.claimAt == never && s.foldAt == never)
}

// held reports whether there is a lease of whose epoch nothing speaks against
// claims.
func (s *Sender) held() bool { return s.lease.Epoch != 0 && !s.spent }

func (s *Sender) inHand() parley.Lease {
	if s.anew {
		return parley.Lease{}
	}
	return s.lease
}

// ttl is what the store granted.
func (s *Sender) ttl() time.Duration {
	if s.lease.TTL > 0 {
		return min(s.lease.TTL, s.policy.LeaseTTL)
	}
	return s.policy.LeaseTTL
}

// half is when the lease is too old to hand anything over.
func (s *Sender) half() time.Duration { return s.asked + s.ttl()/2 }

// settleWhen is when outcomes should be settled: soon, but together with those
// that are about to come.
func (s *Sender) settleWhen() time.Duration {
	switch {
	case len(s.answered) == 0:
		return never
	case s.stopping, s.spent, 2*len(s.answered) >= s.policy.MaxInFlight:
		return s.settleAt
	case len(s.open) == 0:
		return max(s.settleAt, s.settled+max(s.policy.Gather, 0))
	}
	return max(s.settleAt, s.gathered())
}

// leaseWhen is when the lease should be taken or renewed: never, unless there is
// something to do under it.
func (s *Sender) leaseWhen(now time.Duration) time.Duration {
	if s.stopping {
		return never
	}
	work := min(s.claimWanted(), s.foldAt)
	switch {
	case s.unsettled() == 0 && !s.held():
		return max(work, s.leaseFrom)
	case s.unsettled() == 0:
		return max(work, s.leaseFrom, s.asked+s.ttl()/4)
	case s.held() && now < s.asked+s.ttl():
		return max(s.leaseFrom, s.asked+s.ttl()/4)
	case len(s.open) == 0:
		return never
	}
	return max(s.leaseFrom, s.asked+s.ttl()+s.policy.DoubtfulWait)
}

// claimWanted is when there is, as far as is known, something to claim and room
// for it.
func (s *Sender) claimWanted() time.Duration {
	if s.stopping || s.unsure || s.room() <= 0 {
		return never
	}
	return max(s.claimAt, s.trouble.until, s.limits.ready(), s.claimed+max(s.policy.Gather, 0))
}

func (s *Sender) claimWhen(now time.Duration) time.Duration {
	return s.underLease(s.claimWanted(), now)
}

func (s *Sender) foldWhen(now time.Duration) time.Duration {
	if s.stopping {
		return never
	}
	return s.underLease(s.foldAt, now)
}

// underLease is t if the lease is young enough then, else never: leaseWhen says
// when it will be renewed.
func (s *Sender) underLease(t, now time.Duration) time.Duration {
	if !s.held() || max(t, now) >= s.half() {
		return never
	}
	return t
}
