package egress_test

import (
	"cmp"
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

var errStore = errors.New("store is away")

// row is a message as the store keeps it.
type row struct {
	parley.Outgoing
	attempts int
	doubtful bool
	silenced bool
	due      time.Duration
	epoch    uint64 // of the open claim, 0 if none
	marked   time.Duration
}

// overEpoch is of claims that are open in no epoch any more.
const overEpoch = 1 << 62

type grant struct {
	lease   parley.Lease
	expires time.Duration
}

// store keeps the promises of egress.Outbox and egress.Receipts in the plainest
// way, and fails when told to.
type store struct {
	mu     sync.Mutex
	now    func() time.Duration
	epoch  uint64 // the greatest given out, over all channels
	leases map[parley.Channel]grant
	rows   []*row
	sent   map[parley.ID]string
	dead   map[parley.ID]parley.Outcome
	// receipts waiting for a fold; each "failed" one becomes an inbox row
	receipts int
	held     int // of receipts, those that stay
	folds    int
	proofs   []parley.ID          // messages that the next fold proves to have been sent
	told     []parley.ID          // messages of which the next fold tells that they arrived
	reported map[parley.ID]string // the provider's id of messages whose senders had lost the lease

	// fault is asked before and after each step takes hold.
	fault func(step string, after bool) error

	claims, settles, leased int
	outcomes                []parley.Outcome // all that were settled, also those ignored
}

func newStore(now func() time.Duration) *store {
	return &store{
		now: now, leases: map[parley.Channel]grant{}, sent: map[parley.ID]string{},
		dead: map[parley.ID]parley.Outcome{}, reported: map[parley.ID]string{},
		fault: func(string, bool) error { return nil },
	}
}

// step runs f between the faults. The lock is not held while a fault runs, so
// that it may let others act.
func (s *store) step(name string, f func() error) error {
	if err := s.fault(name, false); err != nil {
		return err
	}
	s.mu.Lock()
	err := f()
	s.mu.Unlock()
	if late := s.fault(name, true); err == nil {
		err = late
	}
	return err
}

func (s *store) add(rows ...parley.Outgoing) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, o := range rows {
		s.rows = append(s.rows, &row{Outgoing: o})
	}
}

// left is the number of messages that have not come to an end.
func (s *store) left() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.rows)
}

func (s *store) Lease(_ context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	var out parley.Lease
	err := s.step("lease", func() error {
		s.leased++
		g, now := s.leases[ch], s.now()
		live := now < g.expires
		switch {
		case live && g.lease.Holder != holder:
			return parley.ErrFenced
		case g.lease.Epoch != 0 && holder == g.lease.Holder && have.Epoch == g.lease.Epoch: // though it may have expired: nobody took it
			out = g.lease
		default:
			s.epoch++
			out = parley.Lease{Channel: ch, Holder: holder, Epoch: s.epoch, TTL: ttl}
		}
		s.leases[ch] = grant{lease: out, expires: now + ttl}
		return nil
	})
	if err != nil {
		return parley.Lease{}, err
	}
	return out, nil
}

func (s *store) Yield(_ context.Context, holder string, channels []parley.Channel) error {
	return s.step("yield", func() error {
		for ch, g := range s.leases {
			if g.lease.Holder == holder && (channels == nil || slices.Contains(channels, ch)) {
				g.expires = 0
				s.leases[ch] = g
			}
		}
		return nil
	})
}

func (s *store) Recall(_ context.Context, l parley.Lease, open []parley.ID, _ time.Duration) (n int, err error) {
	err = s.step("recall", func() error {
		if g := s.leases[l.Channel]; g.lease.Epoch != l.Epoch || s.now() >= g.expires {
			return parley.ErrFenced
		}
		for _, r := range s.rows {
			if r.epoch == l.Epoch && !slices.Contains(open, r.ID) {
				r.epoch = overEpoch
				n++
			}
		}
		return nil
	})
	return n, err
}

func (s *store) Claim(_ context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) (out []parley.Claimed, next time.Duration, err error) {
	err = s.step("claim", func() error {
		s.claims++
		now := s.now()
		if g := s.leases[l.Channel]; g.lease.Epoch != l.Epoch || now >= g.expires {
			return parley.ErrFenced
		}
		out, next = s.claim(l, places.All, doubtfulWait, horizon)
		return nil
	})
	if err != nil && out == nil {
		// A store whose write failed may well have read what it meant to mark.
		out = s.peek(l, places.All)
	}
	return out, next, err
}

// peek is what a claim would return, without its marks.
func (s *store) peek(l parley.Lease, limit int) []parley.Claimed {
	s.mu.Lock()
	defer s.mu.Unlock()
	kept := make([]row, len(s.rows))
	for i, r := range s.rows {
		kept[i] = *r
	}
	out, _ := s.claim(l, limit, 0, 0)
	for i, r := range s.rows {
		*r = kept[i]
	}
	return out
}

func (s *store) claim(l parley.Lease, limit int, doubtfulWait, horizon time.Duration) (out []parley.Claimed, next time.Duration) {
	now := s.now()
	next = horizon
	headed := map[parley.Conversation]bool{}
	var ready []*row
	for _, r := range s.rows {
		if r.Conversation.Channel != l.Channel || headed[r.Conversation] {
			continue
		}
		headed[r.Conversation] = true
		due := r.due
		switch {
		case r.epoch == l.Epoch:
			continue
		case r.epoch != 0:
			due = r.marked + doubtfulWait
		}
		if wait := due - now; wait > 0 {
			next = min(next, wait)
			continue
		}
		ready = append(ready, r)
	}
	slices.SortStableFunc(ready, func(a, b *row) int { return cmp.Compare(a.due, b.due) }) // whoever waits for longest
	for _, r := range ready {
		if len(out) == limit {
			return out, 0
		}
		r.doubtful = r.doubtful || r.epoch != 0
		r.epoch, r.marked = l.Epoch, now
		out = append(out, parley.Claimed{Outgoing: r.Outgoing, Attempts: r.attempts, Doubtful: r.doubtful, Silenced: r.silenced})
	}
	return out, next
}

func (s *store) Settle(_ context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	return s.step("settle", func() error {
		s.settles++
		if s.leases[l.Channel].lease.Epoch != l.Epoch {
			return parley.ErrFenced
		}
		s.outcomes = append(s.outcomes, outcomes...)
		for _, o := range outcomes {
			s.settle(l, o)
		}
		return nil
	})
}

func (s *store) settle(l parley.Lease, o parley.Outcome) {
	i := slices.IndexFunc(s.rows, func(r *row) bool { return r.ID == o.ID && r.epoch == l.Epoch })
	if i < 0 {
		return
	}
	r := s.rows[i]
	r.epoch, r.due = 0, s.now()+o.Wait
	switch o.Kind {
	case parley.Sent:
		s.sent[r.ID] = o.ProviderID
		s.rows = slices.Delete(s.rows, i, i+1)
	case parley.Refused, parley.Returned:
		s.dead[r.ID] = o
		s.rows = slices.Delete(s.rows, i, i+1)
	case parley.Doubt:
		r.doubtful = true
	case parley.Retry:
		if !o.Uncounted {
			r.attempts++
		}
	}
}

func (s *store) Fold(_ context.Context, l parley.Lease, limit int) (f parley.Folded, err error) {
	err = s.step("fold", func() error {
		s.folds++
		if g := s.leases[l.Channel]; g.lease.Epoch != l.Epoch || s.now() >= g.expires {
			return parley.ErrFenced
		}
		f.Receipts = max(min(limit, s.receipts)-s.held, 0)
		f.Held = min(limit, s.receipts) - f.Receipts
		s.receipts -= f.Receipts
		f.Told, s.told = s.told, nil
		for _, id := range s.proofs {
			f.Proven++
			s.rows = slices.DeleteFunc(s.rows, func(r *row) bool { return r.ID == id })
			s.sent[id] = "proven"
		}
		s.proofs = nil
		for range f.Receipts {
			f.Rows = append(f.Rows, parley.Pending{Conversation: parley.Conversation{Channel: l.Channel}})
		}
		return nil
	})
	return f, err
}

// Append takes receipts that prove what they name to have been sent.
func (s *store) Append(_ context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	return nil, s.step("append", func() error {
		for _, r := range a.Receipts {
			s.proofs = append(s.proofs, r.Row)
			s.reported[r.Row] = r.ProviderID
		}
		return nil
	})
}

var page = parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "100"}

func talk(ch parley.Channel, contact string) parley.Conversation {
	return parley.Conversation{Channel: ch, Contact: parley.Contact(parley.UserKey + contact)}
}

// outgoing is the nth message of a conversation; its id tells both.
func outgoing(c parley.Conversation, n int) parley.Outgoing {
	var random [16]byte
	copy(random[8:], c.Channel.ID)
	copy(random[11:], c.Contact[len(parley.UserKey):])
	random[14], random[15] = byte(n>>8), byte(n)
	return parley.Outgoing{
		ID: parley.NewID(time.UnixMilli(1), random), Conversation: c, Ordinal: uint64(n),
		At: time.Unix(1_700_000_000, 0), Send: parley.Send{Text: "hi"},
	}
}

// provider is a function as an egress.Provider.
type provider func(context.Context, parley.Claimed) egress.Answer

func (p provider) Send(ctx context.Context, m parley.Claimed) egress.Answer { return p(ctx, m) }

func accepted(m parley.Claimed) egress.Answer {
	return egress.Answer{Kind: egress.Accepted, ProviderID: "mid." + m.ID.String()}
}

func middle() float64 { return 0.5 }
