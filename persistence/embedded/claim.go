package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// addUnsent puts a message that this very group writes into the index.
func (t *txn) addUnsent(ch *channel, c parley.Contact, o *parley.Outgoing, stored []byte) {
	u := unsent{id: o.ID, ordinal: o.Ordinal, bulk: o.Send.Bulk}
	if n := contentBytes + len(stored); t.contents+n <= t.cfg.OutboxCacheBytes {
		kept := *o
		kept.At = millis(o.At)
		u.content, u.bytes = &kept, n
		t.contents += n
	}
	t.counts.unsent++
	ch.insert(c, u)
}

// contentBytes is about what keeping a message costs beside its content, which
// is about as long as its stored form.
const contentBytes = 400

// content is the message at the head of a line.
func (t *txn) content(ch *channel, l *line) (parley.Outgoing, error) {
	u := &l.queue[0]
	if u.content != nil {
		return *u.content, nil
	}
	o := parley.Outgoing{ID: u.id, Ordinal: u.ordinal, Conversation: parley.Conversation{Channel: ch.name, Contact: l.contact}}
	t.conv = ch.conversation(t.conv[:0], l.contact)
	t.key = outboxKey(t.key[:0], t.conv, u.ordinal, u.id)
	v, err := t.get(t.key)
	if err != nil {
		return o, err
	}
	err = decodeOutgoing(&o, v)
	return o, err
}

// Recall finds claims that their sender knows nothing of: see egress.Outbox. This
// store doesn't go back while it is open, so there should be none.
func (s *Store) Recall(ctx context.Context, l parley.Lease, open []parley.ID, _ time.Duration) (int, error) {
	n := 0
	err := s.write(ctx, makesSpace, func(t *txn) error {
		ch := t.channel(l.Channel)
		if !ch.holds(l) || t.now >= ch.lease.expiry {
			return parley.ErrFenced
		}
		for id, line := range ch.attempted {
			if line.state == lineClaimed && !slices.Contains(open, id) {
				ch.turn(line, lineOrphan)
				n++
			}
		}
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("recall: %w", err)
	}
	return n, nil
}

// Claim marks messages as attempted: see egress.Outbox.
func (s *Store) Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	var claimed []parley.Claimed
	var wait time.Duration
	err := s.write(ctx, canWait, func(t *txn) (err error) {
		ch := t.channel(l.Channel)
		if !ch.holds(l) || t.now >= ch.lease.expiry {
			return parley.ErrFenced
		}
		doubtfulMS := (doubtfulWait + time.Millisecond - 1).Milliseconds()
		ch.wake(t.now, doubtfulMS)
		if claimed, err = t.claim(ch, places); err != nil {
			return err
		}
		if !ch.anyReady() {
			wait = min(horizon, t.until(ch.nextWake(doubtfulMS)))
		}
		return nil
	})
	if err != nil {
		return nil, 0, fmt.Errorf("claim: %w", err)
	}
	return claimed, max(wait, 0), nil
}

func (t *txn) claim(ch *channel, places parley.Places) ([]parley.Claimed, error) {
	lines, entries := ch.claimable(places.All, places.Bulk)
	claimed := make([]parley.Claimed, len(lines))
	for i, l := range lines {
		o, err := t.content(ch, l)
		if err != nil {
			return nil, err
		}
		claimed[i] = parley.Claimed{Outgoing: o, Attempts: l.mark.attempts, Doubtful: l.mark.doubtful, Silenced: o.Ordinal <= l.silenced}
	}
	for lane, n := range entries {
		ch.ready[lane] = ch.ready[lane][n:]
	}
	for _, l := range lines {
		l.mark.id = l.queue[0].id
		l.mark.epoch, l.mark.at, l.mark.due = ch.lease.epoch, t.now, 0
		ch.attempted[l.mark.id] = l
		ch.turn(l, lineClaimed)
		t.setMark(ch, l)
	}
	return claimed, nil
}

func markKey(b, conv []byte) []byte { return append(append(b, tableMark), conv...) }

func (t *txn) setMark(ch *channel, l *line) {
	t.conv = ch.conversation(t.conv[:0], l.contact)
	t.key = markKey(t.key[:0], t.conv)
	t.val = appendMark(t.val[:0], &l.mark)
	t.set(t.key, t.val)
}

func appendMark(b []byte, m *mark) []byte {
	b = append(append(b, rowFormat), m.id[:]...)
	b = binary.AppendUvarint(b, m.epoch)
	b = binary.AppendVarint(b, m.at)
	b = binary.AppendVarint(b, m.due)
	b = binary.AppendUvarint(b, uint64(m.attempts))
	if m.doubtful {
		return append(b, 1)
	}
	return append(b, 0)
}

func decodeMark(value []byte) (mark, error) {
	r, err := readRow(tableMark, value)
	if err != nil {
		return mark{}, err
	}
	m := mark{id: r.id(), epoch: r.uvarint(), at: r.varint(), due: r.varint(), attempts: int(r.uvarint())}
	m.doubtful = r.fixed(1)[0] != 0
	return m, r.end("mark")
}
