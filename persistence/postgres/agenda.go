package postgres

import (
	"context"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// overdueSQL looks at the oldest rows only, whosever they are: there may be millions
// behind them, and those of other nodes may all be older. It tells how many it
// looked at, in each of its rows, and in one without a conversation if it found none.
// A row from the future is one from before the clock was set back, however long it
// has been waiting. $3 is a mask of shards: an array would be searched from its
// beginning for each row.
const overdueSQL = `
with now as materialized (select ` + clock + ` as ms
), old as materialized (
    (select b.shard, b.conv, b.seq from parley.inbox b
    where b.received < (select ms from now) - $2::bigint order by b.received, b.seq limit $5)
    union all
    (select b.shard, b.conv, b.seq from parley.inbox b
    where b.received > (select ms from now) + $2::bigint order by b.received, b.seq limit $5)
), owned as materialized (
    select o.conv, min(o.seq) as seq from old o
    where $3::bytea is null or get_bit($3::bytea, o.shard) = 1 group by o.conv order by min(o.seq) limit $4
)
select o.conv, n.looked from (select count(*) as looked from old) n left join owned o on true order by o.seq`

// overdueEachSQL walks through owned shards from conversation to conversation,
// however many rows each of them has, and however many there are of others.
const overdueEachSQL = `
with recursive heads as (
    select f.shard, f.conv, f.seq, f.received from unnest($3::smallint[]) as o (shard) cross join lateral (
        select b.shard, b.conv, b.seq, b.received from parley.inbox b
        where b.shard = o.shard order by b.conv, b.seq limit 1
    ) f
    union all
    select n.shard, n.conv, n.seq, n.received from heads h cross join lateral (
        select b.shard, b.conv, b.seq, b.received from parley.inbox b
        where b.shard = h.shard and b.conv > h.conv order by b.conv, b.seq limit 1
    ) n
)
select h.conv from heads h
where abs(` + clock + ` - h.received) > $2::bigint
order by h.seq limit $4`

// overdueWindow is how many rows are looked at for each conversation wanted. If
// fewer conversations of the owned shards have so many rows, they are looked for one
// by one.
const overdueWindow = 16

// Overdue returns conversations whose rows wait for too long: see actors.Agenda.
func (s *Store) Overdue(ctx context.Context, owned func(uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error) {
	if limit <= 0 {
		return nil, nil
	}
	shards, window := shardsOf(owned), limit*overdueWindow
	var found []parley.Conversation
	var looked int
	read := func(r pgx.Rows, counted ...any) error {
		var key []byte
		if err := r.Scan(append([]any{&key}, counted...)...); err != nil || key == nil {
			return err
		}
		c, err := parseKey(key)
		if err != nil {
			s.cfg.Logger.ErrorContext(ctx, "a pending row's conversation is left out", slog.Any("error", err))
			return nil // it must not hide the others
		}
		found = append(found, c)
		return nil
	}
	b := s.begin()
	b.rows(func(r pgx.Rows) error { return read(r, &looked) }, overdueSQL, s.now(), age.Milliseconds(), maskOf(shards), limit, window)
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("look for overdue conversations", err)
	}
	if looked < window || len(found) == limit {
		return found, nil
	}
	found = nil
	b = s.begin()
	b.rows(func(r pgx.Rows) error { return read(r) }, overdueEachSQL, s.now(), age.Milliseconds(), shards, limit)
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("look for overdue conversations", err)
	}
	return found, nil
}

// shardsOf is the owned shards.
func shardsOf(owned func(uint16) bool) []int16 {
	shards := make([]int16, 0, parley.Shards)
	for i := range uint16(parley.Shards) {
		if owned(i) {
			shards = append(shards, int16(i))
		}
	}
	return shards
}

// maskOf has a bit for each shard, as get_bit counts them; nil for all of them.
func maskOf(shards []int16) []byte {
	if len(shards) == parley.Shards {
		return nil
	}
	mask := make([]byte, parley.Shards/8)
	for _, s := range shards {
		mask[s/8] |= 1 << (s % 8)
	}
	return mask
}

// fireSQL moves due timers, which carry the input that they become.
const fireSQL = `
with now as materialized (select ` + clock + ` as ms
), due as materialized (
    select t.ctid as tid from parley.timer t
    where t.due <= (select ms from now) and ($2::bytea is null or get_bit($2::bytea, t.shard) = 1)
    order by t.due, t.id limit $3 for update skip locked
), gone as (
    delete from parley.timer where ctid = any(array(select tid from due))
    returning id, shard, conv, due, key, data
)
insert into parley.inbox (shard, conv, token, received, at, key, late, data)
select g.shard, g.conv, ('x' || left(md5(gen_random_uuid()::text), 16))::bit(64)::bigint, (select ms from now), 0, g.key, false, g.data
from (select * from gone order by due, id offset 0) g
returning conv, seq, token, received, at, key, late, data`

// nextTimerSQL says how long it is until the next timer will be due, within a
// horizon. Those that are due it leaves out unless $4: the statement before has fired
// them, but for those that another node is just firing, or they were more than its
// limit.
const nextTimerSQL = `
with now as materialized (select ` + clock + ` as ms)
select greatest(t.due - (select ms from now), 0) from parley.timer t
where t.due > (select case when $4::boolean then -1 else ms end from now) and t.due < (select ms from now) + $3::bigint
    and ($2::bytea is null or get_bit($2::bytea, t.shard) = 1)
order by t.due, t.id limit 1`

// FireTimers moves due timers to inboxes, each once: see actors.Agenda. Those that
// another node is just firing are passed by.
func (s *Store) FireTimers(ctx context.Context, owned func(uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error) {
	mask, now := maskOf(shardsOf(owned)), s.now()
	var rows []parley.Pending
	next := horizon.Milliseconds()
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		p, err := scanFired(r)
		rows = append(rows, p)
		return err
	}, fireSQL, now, mask, max(limit, 0))
	b.row([]any{&next}, nextTimerSQL, now, mask, next, false)
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, 0, failure("fire timers", err)
	}
	if len(rows) < limit {
		return rows, time.Duration(next) * time.Millisecond, nil
	}
	b = s.begin()
	b.row([]any{&next}, nextTimerSQL, now, mask, next, true)
	if err := s.send(ctx, s.work, b); err != nil {
		next = 0 // they are fired: their caller must hear of them
	}
	return rows, time.Duration(next) * time.Millisecond, nil
}

// scanFired reads a row of the inbox and whose it is.
func scanFired(r pgx.Rows) (parley.Pending, error) {
	var name []byte
	p, err := scanPending(prefixed{r, &name}, parley.Conversation{})
	if err != nil {
		return p, err
	}
	p.Conversation, err = parseKey(name)
	return p, err
}

// prefixed reads one column more than its caller asks for, into the first.
type prefixed struct {
	pgx.Rows
	first any
}

// Scan reads a row.
func (p prefixed) Scan(targets ...any) error {
	return p.Rows.Scan(append([]any{p.first}, targets...)...)
}
