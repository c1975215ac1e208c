package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

var errContacts = errors.New("event has no contact, an empty one, or too many")

// Append makes arrivals durable: see ingress.Inbox.
func (s *Store) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	if a.Empty() {
		return nil, nil
	}
	datas, err := encodeInputs(a.Events)
	if err != nil {
		return nil, fmt.Errorf("append to inbox: %w", err)
	}
	var rows []parley.Pending
	err = s.writeArrivals(ctx, bringsEvents, a.Events, func(t *txn, united bool) (err error) {
		rows, err = t.arrive(a, datas, united)
		return err
	})
	if err != nil {
		return nil, fmt.Errorf("append to inbox: %w", err)
	}
	s.metrics.appended.Add(float64(len(rows)))
	return rows, nil
}

func encodeInputs(events []parley.Event) ([][]byte, error) {
	datas := make([][]byte, len(events))
	for i := range events {
		data, err := parley.EncodeInput(events[i].Input)
		if err != nil {
			return nil, err
		}
		datas[i] = data
	}
	return datas, nil
}

// arrive writes arrivals: first what may fail, then the rows. United says that
// all that can be merged has been, see writeArrivals.
func (t *txn) arrive(a parley.Arrivals, datas [][]byte, united bool) ([]parley.Pending, error) {
	rows := make([]parley.Pending, len(a.Events))
	for i := range a.Events {
		c, err := t.resolve(&a.Events[i], united)
		if err != nil {
			return nil, err
		}
		rows[i].Conversation = c
	}
	random, err := t.random(8*len(a.Events) + 16*len(a.Quarantined))
	if err != nil {
		return nil, err
	}
	for i := range a.Events {
		e := &a.Events[i]
		rows[i] = parley.Pending{
			Row:          parley.Row{Token: parley.Token(binary.BigEndian.Uint64(random[8*i:]))},
			Conversation: rows[i].Conversation, Key: e.Key, Time: millis(e.Time), Late: e.Late,
			Input: e.Input, Data: datas[i],
		}
		t.enqueue(&rows[i])
	}
	random = random[8*len(a.Events):]
	for i := range a.Quarantined {
		t.quarantine(a.Quarantined[i], [16]byte(random[16*i:]))
	}
	for i := range a.Receipts {
		t.keepReceipt(&a.Receipts[i])
	}
	t.accept(&a, rows)
	return rows, nil
}

// enqueue gives the row its number and time and writes it. p.Conversation gets
// the copies of its names that the index keeps.
func (t *txn) enqueue(p *parley.Pending) {
	p.Seq, p.Received = parley.Seq(t.number()), fromMS(t.now)
	ch := t.channel(p.Conversation.Channel)
	line := ch.line(p.Conversation.Contact)
	p.Conversation = line.conversation
	t.arrived.add(line, inboxRow{seq: p.Seq, token: p.Token, received: t.now})
	t.conv = ch.conversation(t.conv[:0], p.Conversation.Contact)
	t.key = inboxKey(t.key[:0], t.conv, p.Seq)
	t.val = appendPending(t.val[:0], p)
	t.set(t.key, t.val)
}

func (t *txn) keepReceipt(r *parley.Receipt) {
	ch := t.channel(r.Channel)
	n := t.number()
	if ch.receipts == 0 {
		ch.firstReceipt = n
	}
	ch.receipts++
	t.counts.receipts++
	t.key = receiptKey(t.key[:0], ch.key, n)
	t.val = appendReceipt(t.val[:0], r)
	t.set(t.key, t.val)
}

// millis is t as it is stored: UTC, in whole ms.
func millis(t time.Time) time.Time { return fromMS(toMS(t)) }
