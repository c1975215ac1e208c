package embedded

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/parleychat/parley"
)

// delivery is the stored form of a parley.Delivery.
type delivery struct {
	providerID string
	id         parley.ID
	contact    parley.Contact
	status     parley.Status
	at         int64 // of the last change
	sent       int64 // when its message was claimed, which is before the provider's time of it
	code       int
	reason     string
	known      bool // it is stored
}

// delivery reads what is known of a message of the provider; if nothing is, an
// empty one.
func (t *txn) delivery(ch *channel, providerID string) (delivery, error) {
	t.key = deliveryKey(t.key[:0], ch.key, providerID)
	v, err := t.get(t.key)
	if err != nil || v == nil {
		return delivery{providerID: providerID}, err
	}
	return decodeDelivery(providerID, v)
}

func decodeDelivery(providerID string, value []byte) (delivery, error) {
	r, err := readRow(tableDelivery, value)
	if err != nil {
		return delivery{}, err
	}
	d := delivery{providerID: providerID, known: true, id: r.id(), contact: parley.Contact(r.string())}
	d.status, d.at, d.sent = parley.Status(r.string()), r.varint(), r.varint()
	d.code, d.reason = int(r.varint()), r.string()
	return d, r.end("delivery")
}

// setDelivery writes d. A new one is also noted under its day, for Prune. A
// message whose id the provider didn't tell can't be found again: it isn't kept.
func (t *txn) setDelivery(ch *channel, d *delivery) {
	if d.providerID == "" {
		return
	}
	t.key = deliveryKey(t.key[:0], ch.key, d.providerID)
	b := append(append(t.val[:0], rowFormat), d.id[:]...)
	b = appendName(appendName(b, d.contact), d.status)
	b = binary.AppendVarint(binary.AppendVarint(b, d.at), d.sent)
	t.val = appendName(binary.AppendVarint(b, int64(d.code)), d.reason)
	t.set(t.key, t.val)
	if !d.known {
		t.key = deliveryDayKey(t.key[:0], day(t.now), ch.key, d.providerID)
		t.set(t.key, nil)
	}
}

// watermark is up to which provider's time a contact has received and read what
// was sent to it, and when that became known.
type watermark struct{ delivered, deliveredAt, read, readAt int64 }

func watermarkKey(b, conv []byte) []byte { return append(append(b, tableWatermark), conv...) }

func appendWatermark(b []byte, w watermark) []byte {
	b = append(b, rowFormat)
	for _, ms := range [...]int64{w.delivered, w.deliveredAt, w.read, w.readAt} {
		b = binary.AppendVarint(b, ms)
	}
	return b
}

func decodeWatermark(value []byte) (watermark, error) {
	r, err := readRow(tableWatermark, value)
	if err != nil {
		return watermark{}, err
	}
	w := watermark{delivered: r.varint(), deliveredAt: r.varint(), read: r.varint(), readAt: r.varint()}
	return w, r.end("watermark")
}

// raise joins a status that holds for everything sent up to upTo.
func (w *watermark) raise(status parley.Status, upTo, now int64) {
	if status == parley.StatusDelivered && upTo > w.delivered {
		w.delivered, w.deliveredAt = upTo, now
	}
	if status == parley.StatusRead && upTo > w.read {
		w.read, w.readAt = upTo, now
	}
}

// apply joins the watermarks into a delivery, as it is shown.
func (w *watermark) apply(d *delivery) {
	join := func(upTo, at int64, status parley.Status) {
		if d.sent == 0 || d.sent > upTo {
			return
		}
		if joined := d.status.Join(status); joined != d.status {
			d.status, d.at = joined, max(d.at, at)
		}
	}
	join(w.delivered, w.deliveredAt, parley.StatusDelivered)
	join(w.read, w.readAt, parley.StatusRead)
}

// applyWatermarks joins the watermarks of the delivery's conversation into it,
// and those of what that was merged into.
func (s *Store) applyWatermarks(d *delivery, name parley.Channel) error {
	s.mu.Lock()
	t := txn{Store: s}
	steps, err := t.merged(parley.Conversation{Channel: name, Contact: d.contact})
	s.mu.Unlock()
	for _, c := range append(steps, d.contact) {
		if err != nil {
			return err
		}
		conv := appendConversation(nil, parley.Conversation{Channel: name, Contact: c})
		err = read(s.db, watermarkKey(nil, conv), func(v []byte) error {
			w, err := decodeWatermark(v)
			w.apply(d)
			return err
		})
	}
	return err
}

// Delivery tells what is known of a message by the provider's id of it.
func (s *Store) Delivery(ctx context.Context, name parley.Channel, providerID string) (parley.Delivery, bool, error) {
	if err := s.enter(ctx); err != nil {
		return parley.Delivery{}, false, err
	}
	defer s.leave()
	key := appendChannel(nil, name)
	var d delivery
	err := read(s.db, deliveryKey(nil, key, providerID), func(v []byte) (err error) {
		d, err = decodeDelivery(providerID, v)
		return err
	})
	if err == nil && d.known && d.contact != "" {
		err = s.applyWatermarks(&d, name)
	}
	if err != nil {
		return parley.Delivery{}, false, fmt.Errorf("read delivery: %w", err)
	}
	if !d.known {
		return parley.Delivery{}, false, nil
	}
	return parley.Delivery{
		ID: d.id, Conversation: parley.Conversation{Channel: name, Contact: d.contact}, ProviderID: providerID,
		Status: d.status, At: fromMS(d.at), Code: d.code, Reason: d.reason,
	}, true, nil
}
