package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parleychat/parley"
)

// groupBytesMax bounds one transaction of commits. It is kept so small that all
// of it is in the sockets' buffers before the database has locked anything: a
// node that freezes in the middle then holds no locks.
const groupBytesMax = 1 << 20

// Commit takes commits of different conversations: see actors.Store.
//
// Each group is one transaction and one exchange with the database, without a
// decision of the client's in it:
//
//  1. conversations that may be new get a row of the zero version;
//  2. the rows of all conversations are locked, in the order of keys, skipping
//     those that another holds, where version and token are still those that the
//     turn began with and the stored format is one that this program knows;
//  3. a second statement, since it needs a snapshot from behind the locks, reads
//     the inbox rows that each locked conversation's turn must have seen,
//     compares numbers and tokens with those that it did see, and writes only
//     what belongs to turns for which they are the same.
//
// A conversation that fails 2 or 3 has nothing written and is a conflict. If the
// database refuses a value, the group is divided until the culprit is alone.
func (s *Store) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	errs := make([]error, len(commits))
	g := &group{}
	for _, i := range inOrder(commits) {
		if n := len(g.convs); n > 0 && bytes.Equal(g.convs[n-1], conversationKey(commits[i].Conversation)) {
			errs[i] = parley.ErrConflict // a second turn from the same version
			continue
		}
		if g.bytes > groupBytesMax {
			if err := s.commitGroup(ctx, g, errs); err != nil {
				return nil, failure("commit turns", err)
			}
			g = &group{}
		}
		g.add(i, &commits[i])
	}
	if err := s.commitGroup(ctx, g, errs); err != nil {
		return nil, failure("commit turns", err)
	}
	s.metrics.committedAll(errs)
	return errs, nil
}

// inOrder is the order of keys, in which rows are locked.
func inOrder(commits []parley.Commit) []int {
	keys := make([][]byte, len(commits))
	order := make([]int, len(commits))
	for i := range commits {
		keys[i], order[i] = conversationKey(commits[i].Conversation), i
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(keys[a], keys[b]) })
	return order
}

// commitGroup runs one transaction, and notes the errors of single commits.
func (s *Store) commitGroup(ctx context.Context, g *group, errs []error) error {
	if len(g.of) == 0 {
		return nil
	}
	taken := make([]bool, len(g.of))
	b := s.begin()
	g.queue(b, s.now(), taken)
	err := s.send(ctx, s.work, b)
	var refused *pgconn.PgError
	switch {
	case err == nil:
		for n, i := range g.of {
			if !taken[n] {
				errs[i] = parley.ErrConflict
			}
		}
		return nil
	case !errors.As(err, &refused) || !ofTheData(refused.Code):
		return err
	case len(g.of) == 1:
		errs[g.of[0]] = failure("commit turn", err)
		return nil
	}
	half := len(g.of) / 2
	for _, part := range [][2]int{{0, half}, {half, len(g.of)}} {
		smaller := &group{}
		for n := part[0]; n < part[1]; n++ {
			smaller.add(g.of[n], g.commits[n])
		}
		if err := s.commitGroup(ctx, smaller, errs); err != nil {
			return err
		}
	}
	return nil
}

// silenceAll is an ordinal above all others: what was merged decides nothing any more.
const silenceAll = `4611686018427387904` // 2^62

const insertConversationsSQL = `
insert into parley.conversation (conv, version, token, format, snapshot)
select r.conv, 0, 0, 0, '' from unnest($1::bytea[]) as r (conv)
on conflict (conv) do nothing`

// lockConversationsSQL leaves the places of the locked ones, as an array, in a
// setting of the transaction.
const lockConversationsSQL = `
select set_config('parley.locked', coalesce((
    select array_agg(l.i)::text from (
        select r.i
        from unnest($1::bytea[], $2::bigint[], $3::bigint[]) with ordinality as r (conv, version, token, i)
        join parley.conversation c on c.conv = r.conv
        where c.version = r.version and c.token = r.token and c.format <= $4
        order by c.conv
        for update of c skip locked
    ) l
), '{}'), true)`

// applySQL compares and writes. judged has a row for each commit, and passed the
// same as one array, so that the rows of outbox, timers and history, which come
// as arrays with the place of their commit, find theirs without a join.
//
// judged is read from the inbox once; what is deleted is what was compared. It is
// a lateral subquery behind a fence, so that it is a walk of the inbox's key for
// each conversation whatever the planner believes.
const applySQL = `
with locked as materialized (
    select current_setting('parley.locked')::bigint[] as places
), judged as materialized (
    select c.i, c.conv, c.version, c.token, c.format, c.snapshot, h.tids,
        c.i = any((select places from locked)::bigint[])
            and coalesce(h.seqs, '{}') = ($10::bigint[])[c.sawfrom:c.sawto]
            and coalesce(h.tokens, '{}') = ($11::bigint[])[c.sawfrom:c.sawto] as passed
    from unnest($1::bytea[], $2::smallint[], $3::bigint[], $4::integer[], $5::integer[],
            $6::bigint[], $7::bigint[], $8::smallint[], $9::bytea[]) with ordinality
        as c (conv, shard, through, sawfrom, sawto, version, token, format, snapshot, i)
    cross join lateral (
        select array_agg(b.seq order by b.seq) as seqs, array_agg(b.token order by b.seq) as tokens, array_agg(b.ctid) as tids
        from (
            select c.conv, c.shard
            union all
            select m.younger, m.shard from parley.merged m where m.survivor = c.conv
        ) k
        join parley.inbox b on b.shard = k.shard and b.conv = k.conv and b.seq <= c.through
        offset 0
    ) h
), passed as materialized (
    select array_agg(j.passed order by j.i) as flags from judged j
), updated as (
    update parley.conversation c
    set version = j.version, token = j.token, format = j.format, snapshot = j.snapshot
    from judged j where j.passed and c.conv = j.conv
), consumed as (
    delete from parley.inbox
    where ctid = any(array(select unnest(j.tids) from judged j where j.passed))
), sent as (
    insert into parley.outbox (id, channel, conv, ordinal, at, data, due, bulk)
    select o.id, o.channel, o.conv, o.ordinal, o.at, o.data,
        case when not o.first then null when o.bulk then ` + bulkLane + ` else 0 end, o.bulk
    from unnest($12::integer[], $13::uuid[], $14::bytea[], $15::bytea[], $16::bigint[], $17::bigint[], $18::bytea[], $19::boolean[], $47::boolean[])
        as o (i, id, channel, conv, ordinal, at, data, first, bulk)
    where ((select flags from passed))[o.i]
), cancelled as (
    delete from parley.timer
    where id = any(array(
        select t.id from unnest($20::integer[], $21::uuid[]) as t (i, id) where ((select flags from passed))[t.i]
    ))
), set_anew as (
    insert into parley.timer (id, shard, conv, due, key, data)
    select t.id, t.shard, t.conv, t.due, t.key, t.data
    from unnest($22::integer[], $23::uuid[], $24::smallint[], $25::bytea[], $26::bigint[], $27::bytea[], $28::bytea[])
        as t (i, id, shard, conv, due, key, data)
    where ((select flags from passed))[t.i]
), remembered as (
    insert into parley.seen (day, conv, key, at)
    select k.day, k.conv, k.key, k.at
    from unnest($29::integer[], $30::integer[], $31::bytea[], $32::bytea[], $33::bigint[]) as k (i, day, conv, key, at)
    where ((select flags from passed))[k.i]
    on conflict do nothing
), recorded as (
    insert into parley.history (day, conv, version, record)
    select (coalesce($35::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint) / 86400000)::integer,
        h.conv, h.version, h.record
    from unnest($34::integer[], $36::bytea[], $37::bigint[], $38::bytea[]) as h (i, conv, version, record)
    where ((select flags from passed))[h.i]
    on conflict do nothing
), buried as (
    insert into parley.dead (brand, id, conv, at, cause, seq, data)
    select d.brand, d.id, d.conv, d.at, d.cause, d.seq, d.data
    from unnest($39::integer[], $40::bytea[], $41::uuid[], $42::bytea[], $43::bigint[], $44::bytea[], $45::bigint[], $46::bytea[])
        as d (i, brand, id, conv, at, cause, seq, data)
    where ((select flags from passed))[d.i]
), counted as (
    insert into parley.posting (brand, sort, bucket, effected, duplicate, dead)
    select p.brand, 0, p.bucket, sum(p.effected), sum(p.duplicate), sum(p.dead)
    from unnest($56::integer[], $57::bytea[], $58::bigint[], $59::bigint[], $60::bigint[], $61::bigint[])
        as p (i, brand, bucket, effected, duplicate, dead)
    where ((select flags from passed))[p.i]
    group by p.brand, p.bucket
), called as (
    insert into parley.call (id, conv, service, at, due, data)
    select o.id, o.conv, o.service, o.at, coalesce($35::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint), o.data
    from unnest($48::integer[], $49::uuid[], $50::bytea[], $51::bytea[], $52::bigint[], $53::bytea[]) as o (i, id, conv, service, at, data)
    where ((select flags from passed))[o.i]
), uncalled as (
    delete from parley.call
    where id = any(array(
        select o.id from unnest($54::integer[], $55::uuid[]) as o (i, id) where ((select flags from passed))[o.i]
    ))
), silenced as (
    insert into parley.silence (conv, ordinal, at)
    select k.conv, k.ordinal, coalesce($35::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)
    from unnest($62::integer[], $63::bytea[], $64::bigint[], $65::boolean[]) as s (i, conv, ordinal, own)
    cross join lateral (
        select s.conv, s.ordinal, s.own
        union all
        select m.younger, ` + silenceAll + `, false from parley.merged m where m.survivor = s.conv
    ) k
    where ((select flags from passed))[s.i]
        and (k.own or (select true from parley.outbox o where o.conv = k.conv and o.ordinal <= k.ordinal limit 1) is not null)
    on conflict (conv) do update set ordinal = greatest(silence.ordinal, excluded.ordinal), at = excluded.at
)
select j.i from judged j where j.passed`

// queue adds the statements of the group; taken tells in the end which commits
// were.
func (g *group) queue(b *batch, now *int64, taken []bool) {
	if len(g.fresh) > 0 {
		b.exec(insertConversationsSQL, g.fresh)
	}
	b.exec(lockConversationsSQL, g.convs, g.baseVersions, g.baseTokens, int16(parley.SnapshotFormat))
	b.rows(func(r pgx.Rows) error {
		var i int64
		if err := r.Scan(&i); err != nil {
			return err
		}
		taken[i-1] = true
		return nil
	}, applySQL, g.arguments(now)...)
}
