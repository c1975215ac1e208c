package memory

import (
	"context"
	"fmt"
	"math"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// message is an unsent message and how its attempts stand.
type message struct {
	parley.Outgoing
	attempts int
	doubtful bool
	silenced bool
	epoch    uint64    // of the last claim; 0 if none is open
	at       time.Time // of the last claim
	due      time.Time // of the next attempt
}

// Lease is egress.Outbox's.
func (s *Store) Lease(ctx context.Context, name parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	if err := s.begin(ctx); err != nil {
		return parley.Lease{}, err
	}
	defer s.end()
	ch, now := s.channel(name), s.now()
	live := now.Before(ch.expiry)
	if live && ch.lease.Holder != holder {
		return parley.Lease{}, fmt.Errorf("lease: %w", parley.ErrFenced)
	}
	epoch := ch.lease.Epoch
	if have.Epoch != epoch || have.Holder != holder || have.Channel != name || ch.lease.Holder != holder {
		epoch++
	}
	ch.lease = parley.Lease{Channel: name, Holder: holder, Epoch: epoch, TTL: ttl}
	ch.expiry = now.Add(ttl)
	return ch.lease, nil
}

// Yield is egress.Outbox's.
func (s *Store) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for name, ch := range s.channels {
		if ch.lease.Holder == holder && (channels == nil || slices.Contains(channels, name)) {
			ch.expiry = time.Time{}
		}
	}
	return nil
}

// held is the channel of a lease that nobody has taken since.
func (s *Store) held(l parley.Lease) (*channel, error) {
	ch := s.channel(l.Channel)
	if ch.lease.Epoch == 0 || ch.lease.Epoch != l.Epoch || ch.lease.Holder != l.Holder {
		return nil, parley.ErrFenced
	}
	return ch, nil
}

// overEpoch is of claims that are open in no epoch any more.
const overEpoch = math.MaxUint64

// Recall is egress.Outbox's.
func (s *Store) Recall(ctx context.Context, l parley.Lease, open []parley.ID, _ time.Duration) (int, error) {
	if err := s.begin(ctx); err != nil {
		return 0, err
	}
	defer s.end()
	ch, err := s.held(l)
	if err != nil || !s.now().Before(ch.expiry) {
		return 0, fmt.Errorf("recall: %w", parley.ErrFenced)
	}
	n := 0
	for _, m := range s.outbox {
		if m.Conversation.Channel == l.Channel && m.epoch == l.Epoch && !slices.Contains(open, m.ID) {
			m.epoch = overEpoch
			n++
		}
	}
	return n, nil
}

// Claim is egress.Outbox's.
func (s *Store) Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	if err := s.begin(ctx); err != nil {
		return nil, 0, err
	}
	defer s.end()
	ch, err := s.held(l)
	now := s.now()
	if err != nil || !now.Before(ch.expiry) {
		return nil, 0, fmt.Errorf("claim: %w", parley.ErrFenced)
	}
	var claimed []parley.Claimed
	wait := horizon
	var lanes [2][]*message // replies, bulk
	for _, m := range s.heads(l.Channel) {
		due := m.due
		switch m.epoch {
		case 0:
		case l.Epoch:
			continue // its claim is open
		default:
			due = m.at.Add(doubtfulWait)
		}
		if due.After(now) {
			wait = min(wait, due.Sub(now))
			continue
		}
		lane := 0
		if s.allBulk(m.Conversation) {
			lane = 1
		}
		lanes[lane] = append(lanes[lane], m)
	}
	for _, lane := range lanes { // whoever waits for longest
		slices.SortStableFunc(lane, func(a, b *message) int { return a.due.Compare(b.due) })
	}
	ready, left := shares(lanes, max(places.All, 0), places.Bulk)
	for _, m := range ready {
		m.doubtful = m.doubtful || m.epoch != 0
		m.epoch, m.at = l.Epoch, now
		claimed = append(claimed, parley.Claimed{Outgoing: m.Outgoing, Attempts: m.attempts, Doubtful: m.doubtful, Silenced: m.silenced})
	}
	if left {
		wait = 0
	}
	return claimed, wait, nil
}

// shares takes limit messages of two lanes: of the second up to bulk, of the first
// what there is then room for, and what is left of the second. It reports whether
// any are left.
func shares(lanes [2][]*message, limit, bulk int) ([]*message, bool) {
	first := min(bulk, limit, len(lanes[1]))
	replies := min(limit-first, len(lanes[0]))
	rest := min(limit-first-replies, len(lanes[1])-first)
	out := slices.Concat(lanes[1][:first], lanes[0][:replies], lanes[1][first:first+rest])
	return out, len(out) < len(lanes[0])+len(lanes[1])
}

// allBulk reports whether all that a conversation has to send is bulk.
func (s *Store) allBulk(c parley.Conversation) bool {
	return !slices.ContainsFunc(s.outbox, func(m *message) bool { return m.Conversation == c && !m.Send.Bulk })
}

// heads is the oldest unsent message of each conversation of a channel, unless
// one that was merged into it has some, too: those go first.
func (s *Store) heads(ch parley.Channel) []*message {
	var heads []*message
	for _, m := range s.outbox {
		if m.Conversation.Channel != ch {
			continue
		}
		i := slices.IndexFunc(heads, func(h *message) bool { return h.Conversation == m.Conversation })
		switch {
		case i < 0:
			heads = append(heads, m)
		case m.Ordinal < heads[i].Ordinal:
			heads[i] = m
		}
	}
	return slices.DeleteFunc(slices.Clone(heads), func(m *message) bool {
		return slices.ContainsFunc(heads, func(h *message) bool {
			return h.Conversation != m.Conversation && s.within(h.Conversation, m.Conversation)
		})
	})
}

// Settle is egress.Outbox's.
func (s *Store) Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	ch, err := s.held(l)
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	for i := range outcomes {
		o := &outcomes[i]
		at := slices.IndexFunc(s.outbox, func(m *message) bool { return m.ID == o.ID && m.epoch == l.Epoch })
		if at < 0 || s.outbox[at].Conversation.Channel != l.Channel {
			continue
		}
		if err := s.settle(ch, s.outbox[at], o); err != nil {
			return fmt.Errorf("settle: %w", err)
		}
	}
	return nil
}

func (s *Store) settle(ch *channel, m *message, o *parley.Outcome) error {
	switch o.Kind {
	case parley.Sent:
		s.remove(m)
		if o.ProviderID == "" {
			return nil
		}
		_, err := s.change(ch, o.ProviderID, func(d *delivery) { d.accept(m) })
		return err
	case parley.Refused:
		cause := o.Cause
		if o.Code != 0 {
			cause = fmt.Sprintf("%s (code %d)", cause, o.Code)
		}
		data, err := parley.EncodeEffect(m.Send)
		s.dead = append(s.dead, parley.DeadLetter{ID: m.ID, Conversation: m.Conversation, At: s.now(), Cause: cause, Data: data})
		s.remove(m)
		return err
	case parley.Returned:
		s.remove(m)
		input, key := o.Failed(&m.Outgoing)
		_, err := s.tell(m.Conversation, input, key, time.Time{})
		return err
	case parley.Retry:
		if !o.Uncounted {
			m.attempts++
		}
	case parley.Doubt:
		m.doubtful = true
	default:
		return fmt.Errorf("outcome of kind %d: no such kind", o.Kind)
	}
	m.epoch, m.due = 0, s.now().Add((o.Wait + time.Millisecond - 1).Truncate(time.Millisecond))
	return nil
}

func (s *Store) remove(m *message) {
	s.outbox = slices.DeleteFunc(s.outbox, func(x *message) bool { return x == m })
}

// delivery is what is known of a message of the provider's.
type delivery struct {
	parley.Delivery
	sent time.Time // when it was claimed
}

func (d *delivery) accept(m *message) {
	d.ID, d.Conversation, d.sent = m.ID, m.Conversation, m.at
	d.Status = parley.StatusSent.Join(d.Status)
}

func (d *delivery) failureOfOurs() bool {
	return d.Status == parley.StatusFailed && !d.ID.IsZero() && d.Conversation.Contact != ""
}

// watermark is a status that holds for all that was sent to a contact up to a
// time.
type watermark struct {
	contact parley.Contact
	status  parley.Status
	upTo    time.Time
	at      time.Time
}

// change changes a delivery; if it comes to be a failed one of ours by that, it
// tells its conversation so.
func (s *Store) change(ch *channel, providerID string, with func(*delivery)) ([]parley.Pending, error) {
	d, ok := ch.deliveries[providerID]
	if !ok {
		d = &delivery{Delivery: parley.Delivery{ProviderID: providerID}}
		ch.deliveries[providerID] = d
	}
	told, before := d.failureOfOurs(), d.Status
	with(d)
	if d.Status != before {
		d.At = s.now()
	}
	if told || !d.failureOfOurs() {
		return nil, nil
	}
	input := parley.SendFailed{ID: d.ID, ProviderID: providerID, Code: d.Code, Reason: d.Reason}
	return s.tell(d.Conversation, input, parley.NewEventKey("send_failed", d.Conversation.Channel.String(), providerID, "failed"), time.Time{})
}

// tell puts something into the inbox of a conversation, or of what that was merged
// into.
func (s *Store) tell(c parley.Conversation, input parley.Input, key parley.EventKey, at time.Time) ([]parley.Pending, error) {
	data, err := parley.EncodeInput(input)
	if err != nil {
		return nil, err
	}
	token, err := s.token()
	if err != nil {
		return nil, err
	}
	p := parley.Pending{Row: parley.Row{Token: token}, Conversation: s.final(c), Key: key, Time: at, Input: input, Data: data}
	s.enqueue(&p)
	return []parley.Pending{p}, nil
}

// Fold is egress.Receipts'. A receipt that names a message which was attempted
// and not settled proves that the provider accepted it.
func (s *Store) Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error) {
	if err := s.begin(ctx); err != nil {
		return parley.Folded{}, err
	}
	defer s.end()
	ch, err := s.held(l)
	if err != nil {
		return parley.Folded{}, fmt.Errorf("fold receipts: %w", err)
	}
	f, n, before := parley.Folded{}, min(max(limit, 0), len(ch.receipts)), len(s.outbox)
	for i := range n {
		r := &ch.receipts[i]
		kept, err := s.hear(ch, r, &f)
		if err == nil && !kept {
			err = s.fold(l.Channel, ch, r, &f)
		}
		if err != nil {
			return parley.Folded{}, fmt.Errorf("fold receipts: %w", err)
		}
	}
	f.Receipts, f.Proven = n-f.Held, before-len(s.outbox)
	ch.receipts = slices.Delete(ch.receipts, 0, n)
	s.post(parley.PostFold(l.Channel.Brand, f.Receipts, parley.Others(f.Rows), s.now())...)
	return f, nil
}

// hear looks after an echo that may be somebody else's. It reports whether that was
// all there is to do with it.
func (s *Store) hear(ch *channel, r *parley.Receipt, f *parley.Folded) (bool, error) {
	said, ok := r.Said()
	if d := ch.deliveries[r.ProviderID]; !ok || d != nil && !d.ID.IsZero() {
		return false, nil
	}
	c := s.final(parley.Conversation{Channel: r.Channel, Contact: r.Contact})
	attempts, messages := s.attempts(ch, c)
	switch of, i := r.Whose(&said, attempts, s.now()); of {
	case parley.EchoOfOther:
		p, err := s.tell(c, said, r.EchoKey(), r.Time)
		f.Rows = append(f.Rows, p...)
		return true, err
	case parley.EchoUndecided:
		f.Held++
		ch.receipts = append(ch.receipts, *r)
		return true, nil
	case parley.EchoProof:
		rows, err := s.change(ch, r.ProviderID, func(d *delivery) { d.accept(messages[i]) })
		f.Rows = append(f.Rows, rows...)
		s.remove(messages[i])
		return false, err
	case parley.EchoOfOurs:
	}
	return false, nil
}

// attempts is what parley.Receipt.Whose asks for.
func (s *Store) attempts(ch *channel, c parley.Conversation) (attempts []parley.Attempt, messages []*message) {
	for _, m := range s.outbox {
		open := m.epoch != 0 && m.epoch == ch.lease.Epoch
		sort, _ := m.Conversation.Contact.Split()
		post := open && sort == parley.SubjectKey && m.Conversation.Channel == c.Channel
		if m.epoch == 0 && !m.doubtful || m.Conversation != c && !post {
			continue
		}
		attempts = append(attempts, parley.Attempt{Outgoing: m.Outgoing, Claimed: m.at, Open: open, Doubtful: m.doubtful})
		messages = append(messages, m)
	}
	return attempts, messages
}

func (s *Store) fold(name parley.Channel, ch *channel, r *parley.Receipt, f *parley.Folded) error {
	contact := r.Contact
	if known, ok := s.aliases[parley.Conversation{Channel: name, Contact: contact}]; ok {
		contact = s.final(parley.Conversation{Channel: name, Contact: known}).Contact
	}
	if !r.Watermark.IsZero() && contact != "" {
		ch.watermarks = append(ch.watermarks, watermark{contact: contact, status: r.Status, upTo: r.Watermark, at: s.now()})
	}
	if r.ProviderID == "" {
		return nil
	}
	rows, err := s.change(ch, r.ProviderID, func(d *delivery) {
		before := d.Status
		s.join(name, contact, d, r)
		if d.Status.Told() && !before.Told() && !d.ID.IsZero() {
			f.Told = append(f.Told, d.ID)
		}
	})
	f.Rows = append(f.Rows, rows...)
	return err
}

// join joins a receipt into what is known of its message.
func (s *Store) join(name parley.Channel, contact parley.Contact, d *delivery, r *parley.Receipt) {
	d.Conversation.Channel = name
	at := slices.IndexFunc(s.outbox, func(m *message) bool {
		return m.ID == r.Row && !m.at.IsZero() && m.Conversation.Channel == name
	})
	switch {
	case at >= 0:
		d.accept(s.outbox[at])
		s.remove(s.outbox[at])
	default:
		if d.ID.IsZero() {
			d.ID = r.Row
		}
		if d.Conversation.Contact == "" {
			d.Conversation.Contact = contact
		}
	}
	if joined := d.Status.Join(r.Status); joined != d.Status {
		if d.Status = joined; joined == parley.StatusFailed {
			d.Code, d.Reason = r.Code, r.Reason
		}
	}
}

// Delivery tells what is known of a message, watermarks included.
func (s *Store) Delivery(ctx context.Context, name parley.Channel, providerID string) (parley.Delivery, bool, error) {
	if err := s.begin(ctx); err != nil {
		return parley.Delivery{}, false, err
	}
	defer s.end()
	ch := s.channel(name)
	d, ok := ch.deliveries[providerID]
	if !ok {
		return parley.Delivery{}, false, nil
	}
	out := d.Delivery
	for _, w := range ch.watermarks {
		if !s.within(out.Conversation, parley.Conversation{Channel: name, Contact: w.contact}) || d.sent.IsZero() || d.sent.After(w.upTo) {
			continue
		}
		if w.status != parley.StatusDelivered && w.status != parley.StatusRead {
			continue
		}
		if joined := out.Status.Join(w.status); joined != out.Status {
			out.Status, out.At = joined, w.at
		}
	}
	return out, true, nil
}
