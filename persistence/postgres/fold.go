package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

const readReceiptsSQL = `
select n, status, provider_id, outgoing, contact, watermark, at, code, reason
from parley.receipt where channel = $1 and current_setting('parley.held') = '1' order by n limit $2`

// removeReceiptsSQL: see readDeliveriesSQL.
const removeReceiptsSQL = `
delete from parley.receipt where ctid = any(array(
    select r.tid from unnest($2::bigint[]) as k (n) cross join lateral (
        select ctid as tid from parley.receipt where channel = $1 and n = k.n offset 0
    ) r
))`

const readAttemptedSQL = `
select id, conv, claimed, data from parley.outbox
where id = any($1::uuid[]) and channel = $2 and claimed <> 0`

// folding is receipts on their way into deliveries, in one transaction.
type folding struct {
	lease      parley.Lease
	limit      int
	now        int64
	held       bool
	numbers    []int64
	receipts   []parley.Receipt
	canonical  map[string]string
	attempted  map[parley.ID]*unsent
	deliveries *deliveries
	removed    leaving
	marks      struct {
		convs, statuses [][]byte
		upTo            []int64
	}
	attempts []attempt // that an echo may be the echo of
	stay     []parley.Receipt
	rows     []parley.Pending
}

// Fold folds receipts into deliveries: see egress.Receipts. A receipt that names
// a message which is still in the outbox, attempted and not settled, proves that
// the provider accepted it: the message leaves the outbox as sent.
func (s *Store) Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error) {
	f := folding{
		lease: l, limit: max(limit, 0), canonical: map[string]string{}, attempted: map[parley.ID]*unsent{},
		deliveries: newDeliveries(l.Channel),
	}
	err := s.transact(ctx, s.work,
		func(b *batch) error {
			now := s.now()
			b.hold(now, l, true, &f.held)
			b.row([]any{&f.now}, readClockSQL, now)
			b.rows(f.scan, readReceiptsSQL, channelKey(l.Channel), f.limit)
			return nil
		},
		func(b *batch) error {
			if err := fenced(f.held); err != nil {
				return err
			}
			f.read(b)
			return nil
		},
		f.write,
	)
	if err != nil {
		return parley.Folded{}, failure("fold receipts", err)
	}
	n := len(f.receipts) - len(f.stay)
	s.metrics.folded.Add(float64(n))
	return parley.Folded{Receipts: n, Held: len(f.stay), Proven: len(f.removed.ids), Rows: f.rows, Told: f.told()}, nil
}

// told is the messages of which it is now known what became.
func (f *folding) told() (ids []parley.ID) {
	for _, d := range f.deliveries.order {
		if d.Status.Told() && !d.was.Status.Told() && !d.ID.IsZero() {
			ids = append(ids, d.ID)
		}
	}
	return ids
}

func (f *folding) scan(r pgx.Rows) error {
	var n, mark, at, code int64
	var status, provider, contact, reason []byte
	var row [16]byte
	if err := r.Scan(&n, &status, &provider, &row, &contact, &mark, &at, &code, &reason); err != nil {
		return err
	}
	f.numbers = append(f.numbers, n)
	f.receipts = append(f.receipts, parley.Receipt{
		Channel: f.lease.Channel, Status: parley.Status(status), ProviderID: string(provider), Row: row,
		Contact: parley.Contact(contact), Watermark: fromMS(mark), Time: fromMS(at), Code: int(code), Reason: string(reason),
	})
	return nil
}

// read adds the reading of what the receipts are about.
func (f *folding) read(b *batch) {
	var providers []string
	var rows [][16]byte
	var contacts, speaks [][]byte
	for i := range f.receipts {
		r := &f.receipts[i]
		if r.ProviderID != "" {
			providers = append(providers, r.ProviderID)
		}
		if !r.Row.IsZero() {
			rows = append(rows, r.Row)
		}
		if _, ok := r.Said(); ok {
			speaks = addKey(speaks, conversationKey(parley.Conversation{Channel: r.Channel, Contact: r.Contact}))
		}
		if r.Channel.Kind == parley.WhatsApp && manyNamed(r.Contact) {
			contacts = append(contacts, conversationKey(parley.Conversation{Channel: r.Channel, Contact: r.Contact}))
		}
	}
	if len(providers) > 0 {
		f.deliveries.read(b, providers)
	}
	if len(rows) > 0 {
		b.rows(func(r pgx.Rows) error { return keepUnsent(r, f.attempted) }, readAttemptedSQL, rows, channelKey(f.lease.Channel))
	}
	if len(speaks) > 0 {
		b.rows(f.scanAttempt, readAttemptsSQL, channelKey(f.lease.Channel), speaks)
	}
	if len(contacts) > 0 {
		b.rows(func(r pgx.Rows) error {
			var alias, canonical []byte
			err := r.Scan(&alias, &canonical)
			f.canonical[string(alias)] = string(canonical)
			return err
		}, lookUpSQL, contacts)
	}
}

func (f *folding) write(b *batch) error {
	for i := range f.receipts {
		if err := f.fold(&f.receipts[i]); err != nil {
			return err
		}
	}
	f.removed.write(b)
	if len(f.numbers) > 0 {
		b.exec(removeReceiptsSQL, channelKey(f.lease.Channel), f.numbers)
	}
	if len(f.marks.convs) > 0 {
		b.exec(raiseWatermarksSQL, f.now, f.marks.convs, f.marks.statuses, f.marks.upTo)
	}
	failed, err := f.deliveries.write(b, f.now)
	f.rows = append(f.rows, failed...)
	insertRows(b, &f.now, f.rows)
	insertReceipts(b, f.stay, false)
	insertPostings(b, parley.PostFold(f.lease.Channel.Brand, len(f.receipts)-len(f.stay), parley.Others(f.rows), fromMS(f.now)))
	return err
}

func (f *folding) fold(r *parley.Receipt) error {
	c, err := f.conversation(r)
	if err != nil {
		return err
	}
	if !r.Watermark.IsZero() && c.Contact != "" && (r.Status == parley.StatusDelivered || r.Status == parley.StatusRead) {
		m := &f.marks
		m.convs, m.statuses, m.upTo = append(m.convs, conversationKey(c)), append(m.statuses, bytesOf(r.Status)), append(m.upTo, toMS(r.Watermark))
	}
	if r.ProviderID == "" {
		return nil
	}
	if done, err := f.hear(r, c); done || err != nil {
		return err
	}
	d := f.deliveries.of(r.ProviderID)
	if m, ok := f.attempted[r.Row]; ok {
		delete(f.attempted, r.Row)
		f.removed.add(m)
		d.accept(m)
	} else {
		if d.ID.IsZero() {
			d.ID = r.Row
		}
		if d.Conversation.Contact == "" {
			d.Conversation.Contact = c.Contact
		}
	}
	d.join(r)
	return nil
}

// conversation is the one that a receipt's recipient means. A name that is too long
// to be one's is nobody's: no message has been sent there.
func (f *folding) conversation(r *parley.Receipt) (parley.Conversation, error) {
	c := parley.Conversation{Channel: r.Channel, Contact: r.Contact}
	if len(conversationKey(c)) > keyBytesMax {
		return parley.Conversation{Channel: r.Channel}, nil
	}
	canonical, ok := f.canonical[c.String()]
	if !ok {
		return c, nil
	}
	return parseKey([]byte(canonical))
}
