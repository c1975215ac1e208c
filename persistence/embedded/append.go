package embedded

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

var errContacts = errors.New("event has no contact, or too many")

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
	err = s.write(ctx, bringsEvents, func(t *txn) (err error) {
		rows, err = t.arrive(a, datas)
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

// arrive writes arrivals: first what may fail, then the rows.
func (t *txn) arrive(a parley.Arrivals, datas [][]byte) ([]parley.Pending, error) {
	rows := make([]parley.Pending, len(a.Events))
	for i := range a.Events {
		c, err := t.resolve(&a.Events[i])
		if err != nil {
			t.aliases.clear() // it may know of aliases that won't be written
			return nil, err
		}
		rows[i].Conversation = c
	}
	random, err := t.random(8*len(a.Events) + 16*len(a.Quarantined))
	if err != nil {
		t.aliases.clear()
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

// resolve says which conversation an event's contact keys mean. Only a WhatsApp
// user may be known by several: then the first key that is known decides, and
// those that aren't become further keys of the same conversation.
//
// If two keys mean two conversations that exist, the strongest key's gets the
// event; merging the two is not done yet (it is counted).
func (t *txn) resolve(e *parley.Event) (parley.Conversation, error) {
	if len(e.Contacts) == 0 || len(e.Contacts) > parley.MaxContacts {
		return parley.Conversation{}, errContacts
	}
	c := parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]}
	if e.Channel.Kind != parley.WhatsApp || !manyNamed(c.Contact) {
		return c, nil
	}
	var known [parley.MaxContacts]bool
	found := false
	for i, k := range e.Contacts {
		canonical, ok, err := t.canonical(parley.Conversation{Channel: e.Channel, Contact: k})
		if err != nil {
			return parley.Conversation{}, err
		}
		switch known[i] = ok; {
		case ok && !found:
			c.Contact, found = canonical, true
		case ok && canonical != c.Contact:
			t.metrics.unmerged.Inc()
		}
	}
	for i, k := range e.Contacts {
		if !known[i] {
			t.alias(parley.Conversation{Channel: e.Channel, Contact: k}, c.Contact)
		}
	}
	return c, nil
}

// manyNamed reports whether the contact may be known by other keys too.
func manyNamed(c parley.Contact) bool {
	return strings.HasPrefix(string(c), parley.BSUIDKey) || strings.HasPrefix(string(c), parley.PhoneKey)
}

// canonical looks a contact key up.
func (t *txn) canonical(c parley.Conversation) (parley.Contact, bool, error) {
	if canonical, ok := t.aliases.get(c); ok {
		return canonical, true, nil
	}
	t.key = appendConversation(append(t.key[:0], tableAlias), c)
	v, err := t.get(t.key)
	if err != nil || v == nil {
		return "", false, err
	}
	r, err := readRow(tableAlias, v)
	if err != nil {
		return "", false, err
	}
	canonical := parley.Contact(r.string())
	t.aliases.put(cloneConversation(c), canonical)
	return canonical, true, r.end("alias")
}

func (t *txn) alias(c parley.Conversation, canonical parley.Contact) {
	own := cloneConversation(parley.Conversation{Channel: c.Channel, Contact: canonical})
	t.aliases.put(cloneConversation(c), own.Contact)
	t.key = appendConversation(append(t.key[:0], tableAlias), c)
	t.set(t.key, appendName([]byte{rowFormat}, canonical))
}

func cloneConversation(c parley.Conversation) parley.Conversation {
	return (&reader{b: appendConversation(nil, c)}).conversation()
}

// millis is t as it is stored: UTC, in whole ms.
func millis(t time.Time) time.Time { return fromMS(toMS(t)) }
