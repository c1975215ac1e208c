package egress

import (
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// maxReports bounds the reports that wait for the store. Beyond, the oldest are
// dropped: what those are about stays doubtful.
const maxReports = 1024

// reports is what a Sender knows of messages that it can't settle, since their
// epoch is lost.
type reports struct {
	waiting  []parley.Receipt
	under    []parley.Receipt // those of the Report under way
	at       time.Duration    // when the store may be asked
	failures int              // in a row
}

func (r *reports) count() int { return len(r.waiting) + len(r.under) }

func (r *reports) none() bool { return r.count() == 0 }

// when is when there is something to report.
func (r *reports) when() time.Duration {
	if len(r.waiting) == 0 {
		return never
	}
	return r.at
}

// out is what a Report takes along.
func (r *reports) out() []parley.Receipt {
	r.under, r.waiting = r.waiting, nil
	return r.under
}

func (r *reports) keep(more ...parley.Receipt) {
	r.waiting = append(r.waiting, more...)
	r.waiting = r.waiting[max(len(r.waiting)-maxReports, 0):]
}

// report keeps a message that was sent in an epoch that is lost. One for which the
// provider has no id can't be told of.
func (s *Sender) report(id parley.ID, sent bool, providerID string) {
	if !sent || providerID == "" {
		return
	}
	delete(s.doubts, id)
	s.reports.keep(s.sent(id, providerID))
	s.announced.fresh = true
}

func (s *Sender) sent(id parley.ID, providerID string) parley.Receipt {
	return parley.Receipt{Channel: s.channel, Status: parley.StatusSent, ProviderID: providerID, Row: id}
}

// announceEvery is how soon what was announced is announced again: what nodes tell each
// other may get lost. Each time it takes twice as long, announceDoublings times.
const (
	announceEvery     = time.Second
	announceDoublings = 2
)

// announcements are what a Sender tells other nodes while its store fails, or hangs.
type announcements struct {
	under   []parley.Receipt // those of the Announce under way
	fresh   bool             // there may be some that nobody was told
	told    map[parley.ID]struct{}
	againAt time.Duration // when all are told again
	repeats int
}

// unnoted is what is known to have been sent, and the store doesn't know.
func (s *Sender) unnoted() []parley.Receipt {
	all := slices.Concat(s.reports.under, s.reports.waiting)
	for _, outcomes := range [][]parley.Outcome{s.settling, s.answered} {
		for i := range outcomes {
			if o := &outcomes[i]; isSent(o) {
				all = append(all, s.sent(o.ID, o.ProviderID))
			}
		}
	}
	return all
}

func isSent(o *parley.Outcome) bool { return o.Kind == parley.Sent && o.ProviderID != "" }

// knows reports whether there is something unnoted.
func (s *Sender) knows() bool {
	for _, outcomes := range [][]parley.Outcome{s.settling, s.answered} {
		for i := range outcomes {
			if isSent(&outcomes[i]) {
				return true
			}
		}
	}
	return !s.reports.none()
}

// announceWhen is when the others should hear of what is unnoted: if the store fails,
// or a call of it hangs, or the epoch is lost.
func (s *Sender) announceWhen() time.Duration {
	from := time.Duration(0)
	switch {
	case s.failures > 0, !s.reports.none():
	case s.busy != Rest:
		from = s.began + announceEvery
	default:
		return never
	}
	switch {
	case !s.knows():
		return never
	case s.announced.fresh:
		return from
	}
	return max(from, s.announced.againAt)
}

// announce is what nobody was told yet, or all, once more.
func (s *Sender) announce() Action {
	n := &s.announced
	all := s.unnoted()
	n.under = slices.DeleteFunc(slices.Clone(all), func(r parley.Receipt) bool {
		_, told := n.told[r.Row]
		return told
	})
	if len(n.under) > 0 {
		n.repeats = 0
	} else {
		n.under = all
		n.repeats++
	}
	return Action{Kind: Announce, Receipts: n.under}
}

// Announced tells how Announce ended: whether somebody may have been told.
func (s *Sender) Announced(told bool, now time.Duration) {
	n := &s.announced
	wait := announceEvery
	if n.fresh = false; told {
		for i := range n.under {
			n.told[n.under[i].Row] = struct{}{}
		}
		wait <<= min(n.repeats, announceDoublings)
	}
	if n.againAt <= now || n.againAt > now+wait {
		n.againAt = now + wait
	}
}

// noted forgets what was announced, once the store has it.
func (n *announcements) noted(id parley.ID) { delete(n.told, id) }

// anew announces all at once, to whom that may concern by now.
func (n *announcements) anew() {
	clear(n.told)
	n.fresh = true
}

// Reported tells how Report ended. Repeating one does no harm.
func (s *Sender) Reported(err error, now time.Duration) {
	s.busy = Rest
	r := &s.reports
	again := r.under
	r.under = nil
	if err == nil {
		r.at, r.failures = 0, 0
		for i := range again {
			s.announced.noted(again[i].Row)
		}
		return
	}
	later := r.waiting
	r.waiting = nil
	r.keep(again...)
	r.keep(later...)
	r.failures++
	r.at = now + s.policy.storeWait(r.failures)
}
