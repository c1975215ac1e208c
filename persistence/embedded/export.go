package embedded

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/parleychat/parley"
)

// The bounds of a part of an export.
const (
	exportItems = 2000
	exportBytes = 2 << 20
)

// Export calls each with all that the store holds, part by part, in an order that
// is the same every time, and with the place in that order up to which the part
// goes. It begins behind the place after; nil is the beginning. Nobody may write
// meanwhile: the parts would be of several moments.
//
// Not exported is what follows from the rest, and what is of this process only:
// which deliveries to look at on which day, where a quarantined entry is found,
// the clock; and the suspects, which are about processes that have ended: nobody is
// running anything while he copies, and a row that did end one will be found out by
// the next that it ends.
func (s *Store) Export(ctx context.Context, after []byte, each func(part parley.Holdings, upTo []byte) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	e := &exporter{txn: txn{Store: s}, each: each}
	for _, table := range e.tables() {
		if err := e.walk(ctx, table, after); err != nil {
			return fmt.Errorf("export table %c: %w", table.letter, err)
		}
	}
	return e.flush(ctx)
}

// exporter gathers parts.
type exporter struct {
	txn   txn // to read with
	each  func(parley.Holdings, []byte) error
	part  parley.Holdings
	upTo  []byte
	items int
	bytes int
}

// exported is a table and how its rows become holdings.
type exported struct {
	letter byte
	row    func(key *reader, value []byte) error
}

// tables are in the order of their letters, so that keys grow throughout.
func (e *exporter) tables() []exported {
	return []exported{
		{tableMeta, e.numbers},
		{tableCall, e.call},
		{tableSilence, e.silence},
		{tableAlias, e.contact},
		{tableConv, e.conversation},
		{tableDelivery, e.delivery},
		{tableRegistered, e.registration},
		{tableHistory, e.record},
		{tableInbox, e.pending},
		{tableSeen, e.older},
		{tableLease, e.epoch},
		{tableOutbox, e.unsent},
		{tableQuarantine, e.quarantined},
		{tableReceipt, e.receipt},
		{tableTimer, e.timer},
		{tableWatermark, e.watermark},
		{tableDead, e.dead},
	}
}

// walk exports a table's rows behind a place.
func (e *exporter) walk(ctx context.Context, table exported, from []byte) error {
	begin := []byte{table.letter}
	if bytes.Compare(from, begin) >= 0 {
		begin = behind(from)
	}
	end := after([]byte{table.letter})
	if bytes.Compare(begin, end) >= 0 {
		return nil
	}
	return scanOf(e.txn.db, begin, end, func(key, value []byte) (bool, error) {
		r, err := readKey(table.letter, key)
		if err != nil {
			return false, err
		}
		if err := errors.Join(table.row(r, value), r.err); err != nil {
			return false, err
		}
		e.upTo = append(e.upTo[:0], key...)
		e.items, e.bytes = e.items+1, e.bytes+len(key)+len(value)
		if e.items < exportItems && e.bytes < exportBytes {
			return true, nil
		}
		return true, e.flush(ctx)
	})
}

// flush hands on what was gathered.
func (e *exporter) flush(ctx context.Context) error {
	if e.items == 0 {
		return nil
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	part := e.part
	e.part, e.items, e.bytes = parley.Holdings{}, 0, 0
	return e.each(part, e.upTo)
}

func (e *exporter) numbers(key *reader, value []byte) error {
	if string(key.b) != metaReserved {
		return nil
	}
	v := reader{b: value}
	e.part.Numbers = v.uint64()
	return v.end("meta row")
}

func (e *exporter) contact(key *reader, _ []byte) error {
	k := parley.KnownContact{Key: key.conversation()}
	row, err := e.txn.aliasRow(k.Key)
	if err != nil {
		return err
	}
	steps, err := e.txn.merged(k.Key)
	if k.Means = k.Key.Contact; len(steps) > 0 {
		k.Means = steps[len(steps)-1]
	} else {
		k.Born = row.birth
	}
	e.part.Contacts = append(e.part.Contacts, k)
	return err
}

func (e *exporter) conversation(key *reader, value []byte) error {
	s := parley.Snapshot{Conversation: key.conversation()}
	if err := s.UnmarshalBinary(value); err != nil {
		return err
	}
	e.part.Conversations = append(e.part.Conversations, s)
	if s.MergedInto == "" {
		return nil
	}
	steps, err := e.txn.merged(s.Conversation)
	for _, into := range steps {
		e.part.Merged = append(e.part.Merged, parley.Merged{Younger: s.Conversation, Survivor: into})
	}
	return err
}

func (e *exporter) delivery(key *reader, value []byte) error {
	ch := key.channel()
	d, err := decodeDelivery(key.string(), value)
	e.part.Deliveries = append(e.part.Deliveries, parley.HandedOver{
		Delivery: parley.Delivery{
			ID: d.id, Conversation: parley.Conversation{Channel: ch, Contact: d.contact}, ProviderID: d.providerID,
			Status: d.status, At: fromMS(d.at), Code: d.code, Reason: d.reason,
		},
		Claimed: fromMS(d.sent),
	})
	return err
}

func (e *exporter) registration(key *reader, _ []byte) error {
	e.part.Registrations = append(e.part.Registrations, parley.Registration{App: parley.App(key.string()), Channel: key.channel()})
	return nil
}

func (e *exporter) record(key *reader, value []byte) error {
	r, err := readRow(tableHistory, value)
	if err != nil {
		return err
	}
	e.part.History = append(e.part.History, parley.Record{
		Day: int(key.uint32()), Conversation: key.conversation(), Version: key.uint64(), Data: bytes.Clone(r.b),
	})
	return nil
}

func (e *exporter) pending(key *reader, value []byte) error {
	p := parley.Pending{Conversation: key.conversation(), Row: parley.Row{Seq: parley.Seq(key.uint64())}}
	err := decodePending(&p, value)
	e.part.Pending = append(e.part.Pending, p)
	return err
}

func (e *exporter) older(key *reader, value []byte) error {
	key.uint32() // the day, which is that of the time
	k := parley.OlderKey{Conversation: key.conversation(), Seen: parley.SeenKey{Key: parley.EventKey(key.fixed(16))}}
	r, err := readRow(tableSeen, value)
	if err != nil {
		return err
	}
	k.Seen.At = r.time()
	e.part.Older = append(e.part.Older, k)
	return r.end("key seen")
}

func (e *exporter) epoch(key *reader, value []byte) error {
	r, err := readRow(tableLease, value)
	if err != nil {
		return err
	}
	e.part.Epochs = append(e.part.Epochs, parley.Epoch{Channel: key.channel(), Number: r.uvarint()})
	return r.end("lease")
}

// unsent reads a message with its mark. What is claimed stays so, in its epoch:
// the next lease has another one, and makes it doubtful as usual.
func (e *exporter) unsent(key *reader, value []byte) error {
	u := parley.Unsent{Outgoing: parley.Outgoing{Conversation: key.conversation(), Ordinal: key.uint64(), ID: key.id()}}
	if err := decodeOutgoing(&u.Outgoing, value); err != nil {
		return err
	}
	conv := appendConversation(nil, u.Conversation)
	err := read(e.txn.db, markKey(nil, conv), func(v []byte) error {
		m, err := decodeMark(v)
		if err != nil || m.id != u.ID {
			return err
		}
		u.Attempts, u.Doubtful = m.attempts, m.doubtful
		u.Last, u.Epoch, u.Due = fromMS(m.at), m.epoch, fromMS(m.due)
		return nil
	})
	e.part.Unsent = append(e.part.Unsent, u)
	return err
}

func (e *exporter) silence(key *reader, value []byte) error {
	s := parley.Silence{Conversation: key.conversation()}
	var err error
	s.UpTo, s.At, err = decodeSilence(value)
	e.part.Silences = append(e.part.Silences, s)
	return err
}

func (e *exporter) quarantined(key *reader, value []byte) error {
	q := parley.Quarantined{App: parley.App(key.string()), Kind: parley.ChannelKind(key.string()), ChannelID: key.string(), ID: key.id()}
	err := decodeQuarantined(&q, value)
	e.part.Quarantined = append(e.part.Quarantined, q)
	return err
}

func (e *exporter) receipt(key *reader, value []byte) error {
	ch, n := key.channel(), key.uint64()
	r, err := decodeReceipt(value)
	r.Channel = ch
	e.part.Receipts = append(e.part.Receipts, parley.NumberedReceipt{Number: n, Receipt: r})
	return err
}

func (e *exporter) timer(key *reader, value []byte) error {
	t, due, err := readTimer(append([]byte{tableTimer}, key.b...), value)
	if err != nil {
		return err
	}
	name := string([]rune(t.input.Name)) // what isn't UTF-8 ends when it fires, which makes JSON of it
	e.part.Timers = append(e.part.Timers, parley.DueTimer{
		Conversation: t.conversation,
		Timer:        parley.Timer{ID: t.id, Name: name, Generation: t.input.Generation, Due: fromMS(due)},
	})
	return nil
}

func (e *exporter) watermark(key *reader, value []byte) error {
	c := key.conversation()
	w, err := decodeWatermark(value)
	for _, m := range []parley.Watermark{
		{Conversation: c, Status: parley.StatusDelivered, UpTo: fromMS(w.delivered), At: fromMS(w.deliveredAt)},
		{Conversation: c, Status: parley.StatusRead, UpTo: fromMS(w.read), At: fromMS(w.readAt)},
	} {
		if !m.UpTo.IsZero() {
			e.part.Watermarks = append(e.part.Watermarks, m)
		}
	}
	return err
}

func (e *exporter) dead(key *reader, value []byte) error {
	key.string() // the brand, which is the conversation's
	d := parley.DeadLetter{ID: key.id()}
	err := decodeDead(&d, value)
	e.part.Dead = append(e.part.Dead, d)
	return err
}

// call reads a call with its mark. Whoever has claimed it is gone.
func (e *exporter) call(key *reader, value []byte) error {
	c := call{conversation: key.conversation(), id: key.id()}
	content, err := decodeCall(&c, value)
	if err != nil {
		return err
	}
	p := parley.PendingCall{OutgoingCall: parley.OutgoingCall{ID: c.id, Conversation: c.conversation, At: fromMS(c.at)}}
	if err := p.DecodeContent(content); err != nil {
		return err
	}
	err = read(e.txn.db, callKey(nil, tableCallMark, appendConversation(nil, c.conversation), c.id), func(v []byte) (err error) {
		c.mark, err = decodeCallMark(v)
		return err
	})
	p.Attempts, p.Status, p.Cause, p.Due = c.mark.attempts, c.mark.status, c.mark.cause, fromMS(c.mark.due)
	e.part.Calls = append(e.part.Calls, p)
	return err
}
