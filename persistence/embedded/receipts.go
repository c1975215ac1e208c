package embedded

import (
	"context"
	"fmt"

	"github.com/parleychat/parley"
)

// fold is receipts being folded: what was read and what came of it.
type fold struct {
	keys       [][]byte // of the receipts
	next       uint64   // number behind the last of them
	deliveries map[string]*folded
	order      []*folded // in the order of first mention
	watermarks map[parley.Contact]*watermark
	contacts   []parley.Contact
	rows       []parley.Pending
	held       []parley.Receipt // that stay
	posts      []*line          // of posts, that are claimed, as soon as asked for; see attempts
	asked      bool
	proven     map[*line]bool // lines whose head the provider has shown that it accepted
}

// folded is a delivery in a fold, and what it was before.
type folded struct {
	delivery
	was delivery
}

// Fold folds receipts into deliveries: see egress.Receipts. A receipt that names
// a message which is still in the outbox, attempted and not settled, proves that
// the provider accepted it: the message leaves the outbox as sent. So a doubtful
// message isn't sent again when its receipt arrives before its wait is over.
func (s *Store) Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error) {
	var f *fold
	err := s.write(ctx, makesSpace, func(t *txn) error {
		ch := t.channel(l.Channel)
		if !ch.holds(l) {
			return parley.ErrFenced
		}
		var err error
		if f, err = t.fold(ch, limit); err != nil {
			return err
		}
		t.writeFold(ch, f)
		return nil
	})
	if err != nil {
		return parley.Folded{}, fmt.Errorf("fold receipts: %w", err)
	}
	s.metrics.folded.Add(float64(len(f.keys) - len(f.held)))
	return parley.Folded{Receipts: len(f.keys) - len(f.held), Held: len(f.held), Proven: len(f.proven), Rows: f.rows, Told: f.told()}, nil
}

// told is the messages of which it is now known what became.
func (f *fold) told() (ids []parley.ID) {
	for _, d := range f.order {
		if d.status.Told() && !d.was.status.Told() && !d.id.IsZero() {
			ids = append(ids, d.id)
		}
	}
	return ids
}

// fold reads the oldest receipts and joins them.
func (t *txn) fold(ch *channel, limit int) (*fold, error) {
	f := &fold{
		deliveries: map[string]*folded{}, watermarks: map[parley.Contact]*watermark{}, proven: map[*line]bool{},
	}
	if ch.receipts == 0 || limit <= 0 {
		return f, nil
	}
	begin := receiptKey(nil, ch.key, ch.firstReceipt)
	prefix := begin[:len(begin)-8]
	err := scanOf(t.db, begin, after(prefix), func(key, value []byte) (bool, error) {
		r, err := decodeReceipt(value)
		if err != nil {
			return false, err
		}
		f.keys = append(f.keys, append([]byte(nil), key...))
		number := reader{b: key[len(prefix):]}
		f.next = number.uint64() + 1
		return len(f.keys) < limit, t.join(ch, f, &r)
	})
	return f, err
}

func (t *txn) join(ch *channel, f *fold, r *parley.Receipt) error {
	if !r.Watermark.IsZero() && r.Contact != "" {
		if err := t.joinWatermark(ch, f, r); err != nil {
			return err
		}
	}
	if r.ProviderID == "" {
		return nil
	}
	d, err := t.folding(ch, f, r.ProviderID)
	if err != nil {
		return err
	}
	told := d.failureOfOurs()
	if said, ok := r.Said(); ok && d.id.IsZero() {
		if done, err := t.hear(ch, f, d, r, &said); done || err != nil {
			return err
		}
	}
	if err := t.identify(ch, f, d, r); err != nil {
		return err
	}
	if joined := d.status.Join(r.Status); joined != d.status {
		d.status, d.at = joined, t.now
		if joined == parley.StatusFailed {
			d.code, d.reason = r.Code, r.Reason
		}
	}
	if told || !d.failureOfOurs() {
		return nil // nothing new; or a failure of a message that isn't known as ours yet: Settle will say so
	}
	failed, err := t.sendFailed(ch, &d.delivery)
	if err == nil {
		f.rows = append(f.rows, failed)
	}
	return err
}

// folding is the delivery of that id in this fold.
func (t *txn) folding(ch *channel, f *fold, providerID string) (*folded, error) {
	if d, ok := f.deliveries[providerID]; ok {
		return d, nil
	}
	d, err := t.delivery(ch, providerID)
	if err != nil {
		return nil, err
	}
	entry := &folded{delivery: d, was: d}
	f.deliveries[providerID] = entry
	f.order = append(f.order, entry)
	return entry, nil
}

// identify notes whose message it is, as far as the receipt tells.
func (t *txn) identify(ch *channel, f *fold, d *folded, r *parley.Receipt) error {
	if l := ch.attempted[r.Row]; l != nil && !f.proven[l] {
		f.proven[l] = true
		d.accept(l, t.now)
		return nil
	}
	if d.id.IsZero() {
		d.id = r.Row
	}
	if d.contact == "" && r.Contact != "" {
		c, err := t.final(parley.Conversation{Channel: ch.name, Contact: r.Contact})
		d.contact = c.Contact
		return err
	}
	return nil
}

func (t *txn) joinWatermark(ch *channel, f *fold, r *parley.Receipt) error {
	conversation, err := t.final(parley.Conversation{Channel: ch.name, Contact: r.Contact})
	if err != nil {
		return err
	}
	c := conversation.Contact
	w, ok := f.watermarks[c]
	if !ok {
		t.conv = ch.conversation(t.conv[:0], c)
		t.key = watermarkKey(t.key[:0], t.conv)
		v, err := t.get(t.key)
		if err != nil {
			return err
		}
		w = &watermark{}
		if v != nil {
			if *w, err = decodeWatermark(v); err != nil {
				return err
			}
		}
		f.watermarks[c] = w
		f.contacts = append(f.contacts, c)
	}
	w.raise(r.Status, toMS(r.Watermark), t.now)
	return nil
}

// writeFold writes what came of a fold.
func (t *txn) writeFold(ch *channel, f *fold) {
	for _, key := range f.keys {
		t.delOnce(key)
	}
	ch.receipts -= len(f.keys)
	t.counts.receipts -= len(f.keys)
	if f.next > 0 {
		ch.firstReceipt = f.next
	}
	for _, d := range f.order {
		if d.delivery != d.was {
			t.setDelivery(ch, &d.delivery)
			if !d.was.known {
				t.early.add(ch.name, d.providerID, t.now)
			}
		}
	}
	for _, c := range f.contacts {
		t.conv = ch.conversation(t.conv[:0], c)
		t.key = watermarkKey(t.key[:0], t.conv)
		t.val = appendWatermark(t.val[:0], *f.watermarks[c])
		t.set(t.key, t.val)
	}
	for l := range f.proven {
		t.remove(ch, l)
	}
	for i := range f.rows {
		t.enqueue(&f.rows[i])
	}
	for i := range f.held {
		t.keepReceipt(&f.held[i])
	}
	t.post(parley.PostFold(ch.name.Brand, len(f.keys)-len(f.held), parley.Others(f.rows), fromMS(t.now))...)
}
