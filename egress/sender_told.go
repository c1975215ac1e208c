package egress

import (
	"errors"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// Leased tells how TakeLease ended.
func (s *Sender) Leased(l parley.Lease, err error, now time.Duration) {
	s.busy = Rest
	switch {
	case errors.Is(err, parley.ErrFenced):
		s.forget(now)
		s.leaseFrom = now + min(fencedWait<<min(s.fenced, fencedDoublings), s.policy.LeaseTTL/4)
		s.fenced++
	case err != nil:
		s.leaseFrom = now + s.storeFailed()
	default:
		if own := s.anew && l.Epoch == s.lease.Epoch+1; !own && l.Epoch != s.lease.Epoch {
			s.since = now // somebody may have had the lease meanwhile
		}
		if l.Epoch != s.lease.Epoch {
			s.forget(now)
		}
		s.lease, s.asked, s.leaseFrom = l, s.began, 0
		s.spent, s.anew, s.failures, s.fenced = false, false, 0, 0
	}
}

// Claimed tells how Claim ended, with the store's answer, and returns what may
// be handed to a Gate. Each of them must come back through Answered.
func (s *Sender) Claimed(rows []parley.Claimed, next time.Duration, err error, now time.Duration) []Handover {
	s.busy = Rest
	if err != nil {
		s.claimFailed(err, now)
		return nil
	}
	s.failures, s.claimed = 0, now
	s.lanes.share(rows)
	s.claimAt = s.claimNext(len(rows), next, now)
	if s.stopping || s.era != s.trouble.era { // it is to pause since
		s.takeBack(rows, now)
		return nil
	}
	out := make([]Handover, 0, len(rows))
	for i := range rows {
		if r := &rows[i]; !s.resolve(r, now) && !s.putBack(r, now) {
			out = append(out, Handover{Claimed: *r, Epoch: s.lease.Epoch, Until: s.half(), From: s.limits.leaves(now)})
			s.open[r.ID] = attempt{attempts: r.Attempts, contact: r.Conversation.Contact, era: s.trouble.era, ticket: s.limits.take(now)}
		}
	}
	s.calls += len(out)
	return out
}

// lookFirst is how long a doubtful message is put back for, so that receipts are
// folded before it is claimed again.
const lookFirst = 20 * time.Millisecond

// resolve looks after a message that is doubtful or silenced, and reports whether it
// is not to be handed over now. A signal may be given twice.
func (s *Sender) resolve(r *parley.Claimed, now time.Duration) bool {
	doubtful, silenced := r.Doubtful && r.Send.Signal == nil, r.Silenced && r.Send.OfBot()
	switch {
	case doubtful && !s.lookedFor(r.ID, now):
		wait := max(s.since+s.policy.hearing()-now, 0)
		if wait == 0 {
			s.foldAt = now - s.policy.FoldEvery // before the next claim
		}
		s.note(parley.Outcome{ID: r.ID, Kind: parley.Retry, Uncounted: true, Wait: wait + lookFirst}, now)
		return true
	case doubtful && (silenced || s.policy.GiveUpDoubtful):
		s.giveBack(r.ID, parley.OutcomeUnknown, now)
		return true
	case silenced:
		s.giveBack(r.ID, parley.TakenOver, now)
		return true
	}
	return false
}

// giveBack ends a claimed message that isn't handed over: its bot is told why.
func (s *Sender) giveBack(id parley.ID, why parley.Failure, now time.Duration) {
	s.note(parley.Outcome{ID: id, Kind: parley.Returned, Why: why, Cause: barred(why)}, now)
	delete(s.doubts, id)
}

// lookedFor reports whether a look at the receipts began after a doubtful message
// became due, and whoever had its epoch had time to report: one of before doesn't
// show what was told since. If not, the message is one of those that are sought.
func (s *Sender) lookedFor(id parley.ID, now time.Duration) bool {
	if now < s.since+s.policy.hearing() {
		return false
	}
	since, sought := s.sought[id]
	if sought && s.looked >= since {
		delete(s.sought, id)
		return true
	}
	if !sought {
		if len(s.sought) >= maxSought { // most of them were found, and are never claimed again
			clear(s.sought)
		}
		s.sought[id] = now
	}
	return false
}

// putBack releases a claimed message that may not be handed over yet, until it
// may, and reports whether it did.
func (s *Sender) putBack(r *parley.Claimed, now time.Duration) bool {
	wait, why := s.awaits.hold(r, now), DeliveryLimit
	if wait > 0 {
		s.foldAt = min(s.foldAt, max(now, s.folded+awaitPoll))
	} else {
		wait, why = s.limits.hold(r, s.limits.leaves(now))
	}
	if wait <= 0 {
		return false
	}
	s.back[why]++
	s.note(parley.Outcome{ID: r.ID, Kind: parley.Retry, Uncounted: true, Wait: wait}, now)
	return true
}

// Starved tells that Claim was not carried out, because the node has no place
// for another message. Wake tells when it has.
func (s *Sender) Starved(now time.Duration) {
	s.busy = Rest
	s.claimAt = now + starvedWait
	if s.woken {
		s.claimAt = now
	}
}

// Answered tells how a hand-over ended.
func (s *Sender) Answered(a Answer, now time.Duration) {
	s.calls--
	at, ok := s.open[a.ID]
	if !ok || a.Epoch != s.lease.Epoch {
		s.report(a.ID, a.Kind == Accepted, a.ProviderID)
		return
	}
	delete(s.open, a.ID)
	if a.Left > 0 {
		s.limits.gone(at.ticket, a.Left)
	}
	if a.Kind == Accepted && !at.told {
		s.awaits.sent(a.ID, at.contact, now)
	}
	s.note(s.judge(a, at, now), now)
}

// Settled tells how Settle ended.
func (s *Sender) Settled(err error, now time.Duration) {
	s.busy = Rest
	switch {
	case errors.Is(err, parley.ErrFenced):
		s.forget(now)
	case err != nil:
		s.answered = append(s.settling, s.answered...)
		s.settling, s.unsure = nil, true
		s.settleAt = now + s.storeFailed()
	default:
		// The conversations of these have perhaps another message, and how long
		// those wait that wait is to be asked anew.
		for i := range s.settling {
			s.announced.noted(s.settling[i].ID)
		}
		s.settling, s.unsure, s.failures = nil, false, 0
		s.claimAt = min(s.claimAt, now)
	}
}

// Folded tells how Fold ended, with the store's answer.
func (s *Sender) Folded(f parley.Folded, err error, now time.Duration) {
	s.busy = Rest
	n := f.Receipts
	for _, id := range f.Told {
		s.awaits.told(id)
		if at, ok := s.open[id]; ok {
			at.told = true
			s.open[id] = at
		}
	}
	if f.Proven > 0 { // what was behind them is claimable now
		s.claimAt = min(s.claimAt, now)
	}
	took := now - s.began
	s.folded = now
	switch {
	case errors.Is(err, parley.ErrFenced):
		s.spent = true
		s.foldAt, s.leaseFrom = now, now+s.storeFailed()
	case err != nil:
		s.foldAt = now + s.storeFailed()
	case n > 0 && n+f.Held >= s.policy.FoldLimit:
		s.foldAt = now + s.foldPause(took)
	case s.woken:
		s.foldAt = now + s.policy.FoldEvery
	case f.Held > 0:
		s.foldAt = now + heldPoll
	default:
		s.foldAt = never
	}
	if err == nil && n+f.Held < s.policy.FoldLimit {
		s.looked = s.began
	}
}

// heldPoll is how often receipts are looked at that wait for the answers to sends.
const heldPoll = 500 * time.Millisecond

// foldPause leaves the larger share of the time to sending, if there is any.
func (s *Sender) foldPause(took time.Duration) time.Duration {
	if s.unsettled() == 0 && s.claimAt == never {
		return 0
	}
	return foldShare * took
}

func (s *Sender) claimNext(n int, next, now time.Duration) time.Duration {
	switch {
	case s.woken, n > 0 && next <= 0:
		return now
	case next <= 0: // nothing, but some are claimable: not at once, to be sure not to spin
		return now + storeWait
	case next >= s.policy.Horizon:
		return never
	}
	return now + next
}

func (s *Sender) claimFailed(err error, now time.Duration) {
	s.spent = true
	s.claimAt, s.leaseFrom = now, now+s.storeFailed()
	if !errors.Is(err, parley.ErrFenced) {
		s.anew = true
	}
}

// takeBack releases messages that were claimed and will not be handed over.
func (s *Sender) takeBack(rows []parley.Claimed, now time.Duration) {
	for _, r := range rows {
		s.note(parley.Outcome{ID: r.ID, Kind: parley.Retry, Uncounted: true}, now)
	}
}

// note keeps an outcome until it is settled. The first one sets the time at
// which they are.
func (s *Sender) note(o parley.Outcome, now time.Duration) {
	if len(s.answered) == 0 {
		s.firstAnswer = now
	}
	s.answered = append(s.answered, o)
	s.announced.fresh = s.announced.fresh || isSent(&o)
}

func (s *Sender) gathered() time.Duration { return s.firstAnswer + max(s.policy.Gather, 0) }

func (s *Sender) settle(now time.Duration) Action {
	s.settling, s.answered, s.settled = s.answered, nil, now
	return s.do(now, Action{Kind: Settle, Lease: s.lease, Outcomes: s.settling})
}

// forget drops the epoch and all that was claimed in it. What is known to have been
// sent is reported.
func (s *Sender) forget(now time.Duration) {
	s.lost += s.unsettled()
	s.gaveUp = now + s.policy.DoubtfulWait
	for _, o := range slices.Concat(s.settling, s.answered) {
		s.report(o.ID, o.Kind == parley.Sent, o.ProviderID)
	}
	clear(s.open)
	clear(s.sought)
	s.answered, s.settling, s.unsure = nil, nil, false
	s.lease, s.spent = parley.Lease{}, false
	s.claimAt = min(s.claimAt, s.began)
}

// storeFailed is the wait after another failure of the store.
func (s *Sender) storeFailed() time.Duration {
	s.failures++
	return s.policy.storeWait(s.failures)
}
