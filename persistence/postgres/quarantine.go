package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/binary"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// entrance is what an entry is found by. What a body says of its channel has no
// limit, a key of an index has.
func entrance(app parley.App, kind parley.ChannelKind, id string) []byte {
	var b []byte
	for _, part := range []string{string(app), string(kind), id} {
		b = append(binary.AppendUvarint(b, uint64(len(part))), part...)
	}
	sum := sha256.Sum256(b)
	return sum[:16]
}

// insertQuarantinedSQL makes ids that are UUIDv7 and grow: behind the time comes
// a number of the database's.
const insertQuarantinedSQL = `
with now as materialized (select ` + clock + ` as ms
), counted as (
    insert into parley.posting (brand, sort, bucket, acknowledged) select '', 2, n.ms / ` + bucketSize + `, $9::bigint from now n
)
insert into parley.quarantine (day, id, entrance, app, kind, channel_id, cause, body, received)
select ((select ms from now) / 86400000)::integer,
    (lpad(to_hex((select ms from now)), 12, '0') || '7' || substr(r.n, 1, 3) || '8' || substr(r.n, 4, 5) || encode(r.rest, 'hex'))::uuid,
    r.entrance, r.app, r.kind, r.channel_id, r.cause, r.body, (select ms from now)
from (
    select lpad(to_hex(nextval('parley.quarantine_seq') & 4294967295), 8, '0') as n, e.*
    from unnest($2::bytea[], $3::bytea[], $4::bytea[], $5::bytea[], $6::bytea[], $7::bytea[], $8::bytea[])
        as e (rest, entrance, app, kind, channel_id, cause, body)
    offset 0
) r`

func insertQuarantined(b *batch, now *int64, entries []parley.Quarantined) {
	if len(entries) == 0 {
		return
	}
	n := len(entries)
	rests, entrances, apps, kinds := make([][]byte, n), make([][]byte, n), make([][]byte, n), make([][]byte, n)
	channels, causes, bodies := make([][]byte, n), make([][]byte, n), make([][]byte, n)
	for i := range entries {
		q := &entries[i]
		random := nonce()
		rests[i], entrances[i] = random[:5], entrance(q.App, q.Kind, q.ChannelID)
		apps[i], kinds[i], channels[i] = bytesOf(q.App), bytesOf(q.Kind), bytesOf(q.ChannelID)
		causes[i], bodies[i] = bytesOf(q.Cause), some(q.Body)
	}
	b.exec(insertQuarantinedSQL, now, rests, entrances, apps, kinds, channels, causes, bodies, int64(n))
}

const quarantinedSQL = `
select id, app, kind, channel_id, cause, body, received
from parley.quarantine where entrance = $1 and id > $2 order by id limit $3`

// Quarantined returns entries of a channel of an app: see ingress.Quarantine.
func (s *Store) Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	var found []parley.Quarantined
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var id [16]byte
		var app, kind, channel, cause []byte
		var received int64
		var q parley.Quarantined
		if err := r.Scan(&id, &app, &kind, &channel, &cause, &q.Body, &received); err != nil {
			return err
		}
		q.ID, q.App, q.Kind, q.ChannelID = id, parley.App(app), parley.ChannelKind(kind), string(channel)
		q.Cause, q.Received = string(cause), fromMS(received)
		found = append(found, q)
		return nil
	}, quarantinedSQL, entrance(app, ch.Kind, ch.ID), [16]byte(after), max(limit, 0))
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("read quarantine", err)
	}
	return found, nil
}

// releaseSQL goes by its index, and so in the order of ids: two who release the
// same entries don't wait for each other in a circle.
const releaseSQL = `
with gone as (delete from parley.quarantine where id = any($1::uuid[]) returning id, received
), counted as (
    insert into parley.posting (brand, sort, bucket, acknowledged)
    select '', 2, g.received / ` + bucketSize + `, -count(*) from gone g group by 3
)
select count(*) from gone`

// release takes entries out, waits for whoever is doing so at the same time, and
// appends if they were all there: else another has appended what they became.
func (s *Store) release(ctx context.Context, released []parley.ID, a parley.Arrivals, rows []parley.Pending) error {
	gone := 0
	return s.transact(ctx, s.entrance, func(b *batch) error {
		b.row([]any{&gone}, releaseSQL, ids(released))
		return nil
	}, func(b *batch) error {
		if gone < len(released) && !a.Empty() {
			return parley.ErrConflict
		}
		insertArrivals(b, s.now(), a, rows)
		return nil
	})
}

// Release takes entries out of the quarantine and appends what they became, in
// one transaction: see ingress.Quarantine.
func (s *Store) Release(ctx context.Context, released []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	rows, err := s.arrive(ctx, slices.Compact(slices.SortedFunc(slices.Values(released), compareIDs)), a)
	if err != nil {
		return nil, failure("release from quarantine", err)
	}
	s.metrics.appended.Add(float64(len(rows)))
	return rows, nil
}

func compareIDs(a, b parley.ID) int { return bytes.Compare(a[:], b[:]) }
