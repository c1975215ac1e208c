package postgres

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// bucketSize is the ms of a bucket, parley.AuditBucket, in SQL.
const bucketSize = "300000"

const insertPostingsSQL = `
insert into parley.posting (brand, sort, bucket, acknowledged, effected, duplicate, dead, dropped)
select * from unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::bigint[], $5::bigint[], $6::bigint[], $7::bigint[], $8::bigint[])`

// insertPostings counts. It is a part of the transaction of what it counts.
func insertPostings(b *batch, all []parley.Posting) {
	if len(all) == 0 {
		return
	}
	n := len(all)
	brands, sorts, buckets := make([][]byte, n), make([]int16, n), make([]int64, n)
	var counts [5][]int64
	for i := range all {
		p := &all[i]
		brands[i], sorts[i], buckets[i] = bytesOf(p.Brand), int16(p.Sort), p.Bucket
		for k, c := range []int64{p.Acknowledged, p.Effected, p.Duplicate, p.Dead, p.Dropped} {
			counts[k] = append(counts[k], c)
		}
	}
	b.exec(insertPostingsSQL, brands, sorts, buckets, counts[0], counts[1], counts[2], counts[3], counts[4])
}

// counted is how many there are of each brand.
type counted struct {
	brands [][]byte
	n      []int64
}

func (c *counted) add(brand parley.Brand) {
	for i, b := range c.brands {
		if string(b) == string(brand) {
			c.n[i]++
			return
		}
	}
	c.brands, c.n = append(c.brands, bytesOf(brand)), append(c.n, 1)
}

// acceptedFormat is the first byte of a list of accepted events. Behind it stand,
// of each, its conversation, framed by its length, its key and its token.
const acceptedFormat = 1

func encodeAccepted(all []parley.Accepted) []byte {
	b := []byte{acceptedFormat}
	for i := range all {
		name := all[i].Conversation.String()
		b = append(binary.AppendUvarint(b, uint64(len(name))), name...)
		b = append(b, all[i].Key[:]...)
		b = binary.BigEndian.AppendUint64(b, uint64(all[i].Token))
	}
	return b
}

var errAccepted = errors.New("a list of accepted events can't be read")

func decodeAccepted(b []byte) (all []parley.Accepted, err error) {
	if len(b) == 0 || b[0] != acceptedFormat {
		return nil, fmt.Errorf("%w: %w", errAccepted, parley.ErrFormat)
	}
	for b = b[1:]; len(b) > 0; {
		size, n := binary.Uvarint(b)
		if n <= 0 || size > uint64(len(b)-n) || len(b)-n-int(size) < 24 {
			return nil, errAccepted
		}
		name := b[n : n+int(size)]
		b = b[n+int(size):]
		a := parley.Accepted{Key: parley.EventKey(b[:16]), Token: parley.Token(binary.BigEndian.Uint64(b[16:]))}
		if a.Conversation, err = parseKey(name); err != nil {
			return nil, err
		}
		all, b = append(all, a), b[24:]
	}
	return all, nil
}

// notOwn is SQL for inputs that are not of Parley's own making: see parley.OfOwn.
const notOwn = `
    substr(b.data, 1, 21) <> '{"kind":"timer_fired"'::bytea and substr(b.data, 1, 21) <> '{"kind":"send_failed"'::bytea
    and substr(b.data, 1, 16) <> '{"kind":"called"'::bytea and substr(b.data, 1, 26) <> '{"kind":"speaker_returned"'::bytea`

// brandOf is SQL for the brand in the stored name of a conversation or a channel.
const brandOf = `substr(b.conv, 1, position('/'::bytea in b.conv) - 1)`

// ledgerSQL reads all that is counted and all that is there. One statement sees one
// moment.
const ledgerSQL = `
with every as (
    select brand, sort, bucket, acknowledged, effected, duplicate, dead, dropped, 0 as pending, 0 as quarantined, 0 as letters from parley.posting
    union all
    select brand, sort, bucket, acknowledged, effected, duplicate, dead, dropped, 0, 0, 0 from parley.ledger
    union all
    select ` + brandOf + `, 0, b.received / ` + bucketSize + `, 0, 0, 0, 0, 0, count(*), 0, 0
    from parley.inbox b where ` + notOwn + ` group by 1, 3
    union all
    select ` + brandOf + `, 1, 0, 0, 0, 0, 0, 0, count(*), 0, 0 from (select channel as conv from parley.receipt) b group by 1
    union all
    select '', 2, q.received / ` + bucketSize + `, 0, 0, 0, 0, 0, 0, count(*), 0 from parley.quarantine q group by 3
    union all
    select ` + brandOf + `, 0, 0, 0, 0, 0, 0, 0, 0, 0, count(*) from parley.dead b where b.seq <> 0 and ` + notOwn + ` group by 1
), lines as (
    select brand, sort, bucket, sum(acknowledged)::bigint as acknowledged, sum(effected)::bigint as effected, sum(duplicate)::bigint as duplicate,
        sum(dead)::bigint as dead, sum(dropped)::bigint as dropped,
        sum(pending)::bigint as pending, sum(quarantined)::bigint as quarantined, sum(letters)::bigint as letters
    from every group by brand, sort, bucket
)
select ` + clock + `, b.opened, b.turn, l.brand, coalesce(l.sort, 0), coalesce(l.bucket, 0),
    coalesce(l.acknowledged, 0), coalesce(l.effected, 0), coalesce(l.duplicate, 0), coalesce(l.dead, 0), coalesce(l.dropped, 0),
    coalesce(l.pending, 0), coalesce(l.quarantined, 0), coalesce(l.letters, 0)
from parley.books b left join lines l on true order by l.brand, l.sort, l.bucket`

// ledgerSettingsSQL: it reads whole tables, and may take its time where much waits.
const ledgerSettingsSQL = `
select set_config('enable_seqscan', 'on', true), set_config('statement_timeout', '60000', true)`

// Ledger reads all counts and all that is there, at one moment: see audit.Store.
func (s *Store) Ledger(ctx context.Context) (g parley.Ledger, _ error) {
	b := s.begin()
	b.row([]any{new(string), new(string)}, ledgerSettingsSQL)
	b.rows(func(r pgx.Rows) error {
		var at, opened int64
		var brand []byte
		var sort int16
		var l parley.AuditLine
		err := r.Scan(&at, &opened, &g.Turn, &brand, &sort, &l.Bucket, &l.Acknowledged, &l.Effected, &l.Duplicate, &l.Dead, &l.Dropped,
			&l.Pending, &l.Quarantined, &l.Letters)
		g.At, g.Opened = fromMS(at), fromMS(opened)
		if brand != nil {
			l.Brand, l.Sort = parley.Brand(brand), parley.AuditSort(sort)
			g.Lines = append(g.Lines, l)
		}
		return err
	}, ledgerSQL, s.now())
	if err := s.send(ctx, s.work, b); err != nil {
		return parley.Ledger{}, failure("read ledger", err)
	}
	return g, nil
}

const openBooksSQL = `
update parley.books set opened = ` + clock + `, turn = turn + 1 where turn = $2 returning true`

// OpenBooks makes a ledger add up: see audit.Store.
func (s *Store) OpenBooks(ctx context.Context, as parley.Ledger) error {
	opened := false
	err := s.transact(ctx, s.work, func(b *batch) error {
		b.row([]any{&opened}, openBooksSQL, s.now(), as.Turn)
		return nil
	}, func(b *batch) error {
		if !opened {
			return parley.ErrConflict
		}
		insertPostings(b, as.Opening())
		return nil
	})
	return failure("open books", err)
}

const closeBooksSQL = `update parley.books set opened = 0, turn = turn + 1 where opened <> 0`

// CloseBooks says that somebody doesn't count: see audit.Store.
func (s *Store) CloseBooks(ctx context.Context) error {
	b := s.begin()
	b.exec(closeBooksSQL)
	return failure("close books", s.send(ctx, s.work, b))
}

const acceptedSQL = `select events from parley.accepted where bucket = $1`

// Accepted shows the events that were accepted in a bucket: see audit.Store. It keeps
// their lists in memory until all are read.
func (s *Store) Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error {
	more := true
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var events []byte
		if err := r.Scan(&events); err != nil || !more {
			return err
		}
		all, err := decodeAccepted(events)
		if err == nil {
			more = each(all)
		}
		return err
	}, acceptedSQL, bucket)
	return failure("read accepted events", s.send(ctx, s.work, b))
}

// tidyBatch is how many postings are added up at a time.
const tidyBatch = 20_000

// tidyingSQL: of several nodes one adds up, so that they don't wait for each other.
const tidyingSQL = `select pg_try_advisory_xact_lock(hashtextextended('parley.ledger', 0))`

const addUpSQL = `
with gone as (
    delete from parley.posting where ctid = any(array(select ctid from parley.posting limit $2 for update skip locked))
    returning *
), counted as (
    insert into parley.ledger as l (brand, sort, bucket, acknowledged, effected, duplicate, dead, dropped)
    select g.brand, g.sort, case when g.bucket < $1 then 0 else g.bucket end as bucket,
        sum(g.acknowledged), sum(g.effected), sum(g.duplicate), sum(g.dead), sum(g.dropped)
    from gone g group by 1, 2, 3
    on conflict (brand, sort, bucket) do update set
        acknowledged = l.acknowledged + excluded.acknowledged, effected = l.effected + excluded.effected,
        duplicate = l.duplicate + excluded.duplicate, dead = l.dead + excluded.dead, dropped = l.dropped + excluded.dropped
)
select count(*) from gone`

const foldLedgerSQL = `
with gone as (
    delete from parley.ledger where bucket < $1 and bucket <> 0 returning *
)
insert into parley.ledger as l (brand, sort, bucket, acknowledged, effected, duplicate, dead, dropped)
select g.brand, g.sort, 0, sum(g.acknowledged), sum(g.effected), sum(g.duplicate), sum(g.dead), sum(g.dropped)
from gone g group by g.brand, g.sort
on conflict (brand, sort, bucket) do update set
    acknowledged = l.acknowledged + excluded.acknowledged, effected = l.effected + excluded.effected,
    duplicate = l.duplicate + excluded.duplicate, dead = l.dead + excluded.dead, dropped = l.dropped + excluded.dropped`

const forgetAcceptedSQL = `
delete from parley.accepted where ctid = any(array(
    select a.ctid from unnest($1::bigint[]) as k (bucket) join parley.accepted a on a.bucket = k.bucket
    union all
    select a.ctid from parley.accepted a where a.bucket < $2
))`

// TidyBooks adds postings up, and forgets what isn't needed any more: see audit.Store.
func (s *Store) TidyBooks(ctx context.Context, settled []int64, before int64) error {
	for gone := int64(tidyBatch); gone == tidyBatch; {
		mine := false
		gone = 0
		err := s.transact(ctx, s.work, func(b *batch) error {
			b.row([]any{&mine}, tidyingSQL)
			return nil
		}, func(b *batch) error {
			if mine {
				b.row([]any{&gone}, addUpSQL, before, int64(tidyBatch))
				b.exec(foldLedgerSQL, before)
			}
			return nil
		})
		if err != nil {
			return failure("tidy books", err)
		}
	}
	b := s.begin()
	b.exec(forgetAcceptedSQL, array(settled), before)
	return failure("tidy books", s.send(ctx, s.work, b))
}
