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
	s.unannounced = true
}

func (s *Sender) sent(id parley.ID, providerID string) parley.Receipt {
	return parley.Receipt{Channel: s.channel, Status: parley.StatusSent, ProviderID: providerID, Row: id}
}

// unnoted is what is known to have been sent, and the store doesn't know.
func (s *Sender) unnoted() []parley.Receipt {
	all := slices.Clone(s.reports.waiting)
	for i := range s.answered {
		if o := &s.answered[i]; o.Kind == parley.Sent && o.ProviderID != "" {
			all = append(all, s.sent(o.ID, o.ProviderID))
		}
	}
	return all
}

// announceWhen is when the others should hear of that: as long as the store fails, again
// and again, since what nodes tell each other may get lost.
func (s *Sender) announceWhen() time.Duration {
	switch {
	case s.failures == 0 && s.reports.failures == 0 || len(s.unnoted()) == 0:
		return never
	case s.unannounced:
		return 0
	}
	return s.announced + announceEvery
}

// Announced tells that Announce was carried out.
func (s *Sender) Announced(now time.Duration) {
	s.busy, s.announced, s.unannounced = Rest, now, false
}

// Reported tells how Report ended. Repeating one does no harm.
func (s *Sender) Reported(err error, now time.Duration) {
	s.busy = Rest
	r := &s.reports
	again := r.under
	r.under = nil
	if err == nil {
		r.at, r.failures = 0, 0
		return
	}
	later := r.waiting
	r.waiting = nil
	r.keep(again...)
	r.keep(later...)
	r.failures++
	r.at = now + s.policy.storeWait(r.failures)
}
