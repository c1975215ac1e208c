package postgres

import (
	"context"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// Append makes arrivals durable, in one transaction: see ingress.Inbox. Contacts
// that the node doesn't know yet are looked up, and made known, before it.
func (s *Store) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	rows, err := s.arrive(ctx, nil, a)
	if err != nil {
		return nil, failure("append to inbox", err)
	}
	s.metrics.appended.Add(float64(len(rows)))
	return rows, nil
}

// arrive appends, and releases what is named from the quarantine.
func (s *Store) arrive(ctx context.Context, release []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	conversations, err := s.resolve(ctx, a.Events)
	if err != nil {
		return nil, err
	}
	rows, err := pendings(a.Events, conversations)
	if err != nil {
		return nil, err
	}
	if len(release) == 0 && a.Empty() {
		return nil, nil
	}
	if len(release) > 0 {
		return rows, s.release(ctx, release, a, rows)
	}
	b := s.begin()
	insertArrivals(b, s.now(), a, rows)
	if err := s.send(ctx, s.entrance, b); err != nil {
		return nil, err
	}
	return rows, nil
}

func insertArrivals(b *batch, now *int64, a parley.Arrivals, rows []parley.Pending) {
	acceptRows(b, now, rows)
	insertReceipts(b, a.Receipts, true)
	insertQuarantined(b, now, a.Quarantined)
}

// pendings are the rows to be, without what the database adds.
func pendings(events []parley.Event, conversations []parley.Conversation) ([]parley.Pending, error) {
	rows := make([]parley.Pending, len(events))
	for i := range events {
		e := &events[i]
		data, err := parley.EncodeInput(e.Input)
		if err != nil {
			return nil, fmt.Errorf("%w: %w", errForm, err)
		}
		rows[i] = parley.Pending{
			Row: parley.Row{Token: parley.Token(token())}, Conversation: conversations[i],
			Key: e.Key, Time: fromMS(toMS(e.Time)), Late: e.Late, Input: e.Input, Data: data,
		}
	}
	return rows, nil
}

// insertRowsSQL numbers rows in the order in which it is given them. One
// statement has one time.
const insertRowsSQL = `
with now as materialized (select ` + clock + ` as ms)` + insertInto

// insertInto ends a statement that inserts rows.
const insertInto = `
insert into parley.inbox (shard, conv, token, received, at, key, late, data)
select r.shard, r.conv, r.token, (select ms from now), r.at, r.key, r.late, r.data
from unnest($2::smallint[], $3::bytea[], $4::bigint[], $5::bigint[], $6::bytea[], $7::boolean[], $8::bytea[])
    as r (shard, conv, token, at, key, late, data)
returning seq, token, received`

// acceptRowsSQL inserts rows of what came in: they are counted, and listed, in the
// bucket of their time.
const acceptRowsSQL = `
with now as materialized (select ` + clock + ` as ms
), listed as (
    insert into parley.accepted (bucket, events) select n.ms / ` + bucketSize + `, $9 from now n
), counted as (
    insert into parley.posting (brand, sort, bucket, acknowledged)
    select p.brand, 0, n.ms / ` + bucketSize + `, p.n from now n cross join unnest($10::bytea[], $11::bigint[]) as p (brand, n)
)` + insertInto

// acceptRows inserts rows of what came in.
func acceptRows(b *batch, now *int64, rows []parley.Pending) {
	var brands counted
	accepted := make([]parley.Accepted, len(rows))
	for i := range rows {
		brands.add(rows[i].Conversation.Channel.Brand)
		accepted[i] = parley.Accepted{Conversation: rows[i].Conversation, Key: rows[i].Key, Token: rows[i].Token}
	}
	addRows(b, rows, acceptRowsSQL, now, encodeAccepted(accepted), brands.brands, brands.n)
}

// insertRows inserts rows of Parley's own making, and those that others count.
func insertRows(b *batch, now *int64, rows []parley.Pending) {
	addRows(b, rows, insertRowsSQL, now)
}

func addRows(b *batch, rows []parley.Pending, sql string, now *int64, more ...any) {
	if len(rows) == 0 {
		return
	}
	n := len(rows)
	shards, convs, tokens := make([]int16, n), make([][]byte, n), make([]int64, n)
	times, keys, lates, data := make([]int64, n), make([][]byte, n), make([]bool, n), make([][]byte, n)
	for i := range rows {
		p := &rows[i]
		shards[i], convs[i], tokens[i] = int16(p.Conversation.Shard()), conversationKey(p.Conversation), int64(p.Token)
		times[i], keys[i], lates[i], data[i] = toMS(p.Time), p.Key[:], p.Late, p.Data
	}
	i := 0
	b.rows(func(r pgx.Rows) error {
		var seq, token, received int64
		if err := r.Scan(&seq, &token, &received); err != nil {
			return err
		}
		if i >= n || parley.Token(token) != rows[i].Token {
			return fmt.Errorf("row %d of %d came back out of order", i, n)
		}
		rows[i].Seq, rows[i].Received = parley.Seq(seq), fromMS(received)
		i++
		return nil
	}, sql, append([]any{now, shards, convs, tokens, times, keys, lates, data}, more...)...)
}

const insertReceiptsSQL = `
with counted as (
    insert into parley.posting (brand, sort, bucket, acknowledged)
    select p.brand, 1, 0, p.n from unnest($10::bytea[], $11::bigint[]) as p (brand, n)
)
insert into parley.receipt (channel, status, provider_id, outgoing, contact, watermark, at, code, reason)
select * from unnest($1::bytea[], $2::bytea[], $3::bytea[], $4::uuid[], $5::bytea[], $6::bigint[], $7::bigint[], $8::bigint[], $9::bytea[])`

// insertReceipts inserts receipts, and counts them if they have just come in.
func insertReceipts(b *batch, receipts []parley.Receipt, fresh bool) {
	var brands counted
	if len(receipts) == 0 {
		return
	}
	n := len(receipts)
	channels, statuses, providers, rows, contacts := make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][16]byte, n), make([][]byte, n)
	marks, times, codes, reasons := make([]int64, n), make([]int64, n), make([]int64, n), make([][]byte, n)
	for i := range receipts {
		r := &receipts[i]
		if fresh {
			brands.add(r.Channel.Brand)
		}
		channels[i], statuses[i], providers[i], rows[i] = channelKey(r.Channel), bytesOf(r.Status), bytesOf(r.ProviderID), r.Row
		contacts[i], marks[i], times[i], codes[i], reasons[i] = bytesOf(r.Contact), toMS(r.Watermark), toMS(r.Time), int64(r.Code), bytesOf(r.Reason)
	}
	b.exec(insertReceiptsSQL, channels, statuses, providers, rows, contacts, marks, times, codes, reasons, array(brands.brands), array(brands.n))
}

// ids are values of a column of uuids.
func ids(of []parley.ID) [][16]byte {
	out := make([][16]byte, len(of))
	for i, id := range of {
		out[i] = id
	}
	return out
}
