package postgres

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// A message's due says where it stands (see the table). Claims look only at
// messages with a due that has come; whatever a conversation has behind its head
// has none, so that thousands of one conversation don't hide others. A message
// becomes one without due when a claim finds it behind another, or when its
// commit put it there; it gets one when what was before it leaves the outbox.
const dueClaimed = `1152921504606846976` // 2^60

// bulkLane is added to the due of what waits in the second lane, so that it is
// below 0: replies are claimed from 0 on, bulk from the smallest on.
const bulkLane = `-2305843009213693952` // -2^61

// orphanSQL: what another epoch had claimed and not settled may have been sent.
const orphanSQL = `
update parley.outbox set epoch = 0, doubtful = true, due = claimed + $3::bigint
where channel = $1 and due >= ` + dueClaimed + ` and epoch <> $2 and current_setting('parley.held') = '1'`

// recallSQL: what is claimed in this epoch beside what its holder knows of was
// claimed, or settled, in a history that the database has lost.
const recallSQL = `
with recalled as (
    update parley.outbox set epoch = 0, doubtful = true, due = claimed + $3::bigint
    where channel = $1 and due >= ` + dueClaimed + ` and epoch = $2 and id <> all($4::uuid[]) and current_setting('parley.held') = '1'
    returning 1
)
select count(*) from recalled`

// claimSQL claims the heads among the candidates of both lanes, and puts the others
// behind them. A conversation that has absorbed others is behind what they have
// left. What is behind and not bulk lifts what it is behind into its lane.
//
// Of the limit ($4) up to $6 are for bulk; replies go before the rest of it. What is
// silenced is claimed as well: its sender ends it.
const claimSQL = `
with now as materialized (select ` + clock + ` as ms
), candidate as materialized (
    (select o.ctid as tid, o.id, o.conv, o.ordinal, o.due, o.bulk from parley.outbox o
    where o.channel = $2 and o.due >= 0 and o.due <= (select ms from now) and current_setting('parley.held') = '1'
    order by o.due, o.id limit $5)
    union all
    (select o.ctid as tid, o.id, o.conv, o.ordinal, o.due, o.bulk from parley.outbox o
    where o.channel = $2 and o.due <= (select ms from now) + ` + bulkLane + ` and current_setting('parley.held') = '1'
    order by o.due, o.id limit $5)
), judged as materialized (
    select c.tid, c.due, c.id, c.conv, c.ordinal, c.bulk,
        (select true from parley.outbox p where p.conv = c.conv and p.ordinal < c.ordinal limit 1) is not null
        or (select true from parley.merged m cross join lateral (select 1 from parley.outbox p where p.conv = m.younger limit 1) p
            where m.survivor = c.conv limit 1) is not null as behind
    from candidate c
), ranked as materialized (
    select j.tid, j.bulk, j.due, j.id, row_number() over (partition by j.due < 0 order by j.due, j.id) as place
    from judged j where not j.behind
), head as materialized (
    select r.tid from ranked r
    order by case when r.due >= 0 then 1 when r.place <= $6 then 0 else 2 end, r.due, r.id limit $4
), lifting as materialized (
    select j.conv, max(j.ordinal) as upto from judged j where j.behind and not j.bulk group by j.conv
), put_behind as (
    update parley.outbox set due = null, bulk = bulk and not conv = any(array(select conv from lifting))
    where ctid = any(array(select j.tid from judged j where j.behind))
), lifted as (
    update parley.outbox set bulk = false, due = case when due < 0 then due - (` + bulkLane + `) else due end
    where ctid = any(array(
        select p.tid from lifting l cross join lateral (
            select p.ctid as tid from parley.outbox p where p.conv = l.conv and p.ordinal < l.upto and p.bulk offset 0
        ) p
    )) and not ctid = any(array(select tid from head)) and not ctid = any(array(select j.tid from judged j where j.behind))
), claimed as (
    update parley.outbox set epoch = $3, claimed = (select ms from now), due = ` + dueClaimed + `,
        bulk = bulk and not conv = any(array(select conv from lifting))
    where ctid = any(array(select tid from head))
    returning id, conv, ordinal, at, data, attempts, doubtful
)
select (select count(*) from candidate), c.*,
    (select true from parley.silence s where s.conv = c.conv and s.ordinal >= c.ordinal) is not null
from (select 1) one left join claimed c on true`

// nextDueSQL says how long it is until a message may be claimed.
const nextDueSQL = `
select greatest(w.due - ` + clock + `, 0) from (select least(
    (select o.due from parley.outbox o where o.channel = $2 and o.due >= 0 and o.due < ` + dueClaimed + ` order by o.due, o.id limit 1),
    (select o.due - (` + bulkLane + `) from parley.outbox o where o.channel = $2 and o.due < 0 order by o.due, o.id limit 1)
) as due) w where w.due is not null`

// Recall finds claims that their sender knows nothing of: see egress.Outbox.
func (s *Store) Recall(ctx context.Context, l parley.Lease, open []parley.ID, doubtfulWait time.Duration) (int, error) {
	var held bool
	var n int
	b := s.begin()
	b.hold(s.now(), l, false, &held)
	b.row([]any{&n}, recallSQL, channelKey(l.Channel), int64(l.Epoch), doubtfulWait.Milliseconds(), ids(open))
	err := s.send(ctx, s.work, b)
	if err == nil {
		err = fenced(held)
	}
	if err != nil {
		return 0, failure("recall", err)
	}
	return n, nil
}

// candidates is how many messages one claim looks at: more than it wants, since
// some turn out to be behind others.
func candidates(limit int) int { return 2*limit + 64 } // of each lane

// Claim marks messages as attempted: see egress.Outbox. Each round is one
// transaction under the lease's lock; there is another only if the candidates of
// one were mostly behind others.
func (s *Store) Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	var all []parley.Claimed
	for {
		r := claimRound{wait: horizon.Milliseconds()}
		err := s.claim(ctx, l, parley.Places{All: places.All - len(all), Bulk: max(places.Bulk-bulkAmong(all), 0)}, doubtfulWait, &r)
		if err == nil {
			err = fenced(r.held)
		}
		if err != nil {
			return nil, 0, failure("claim", err)
		}
		all = append(all, r.claimed...)
		if len(all) >= places.All || r.looked < candidates(places.All-len(all)+len(r.claimed)) {
			return all, time.Duration(r.wait) * time.Millisecond, nil
		}
	}
}

func bulkAmong(claimed []parley.Claimed) (n int) {
	for i := range claimed {
		if claimed[i].Send.Bulk {
			n++
		}
	}
	return n
}

type claimRound struct {
	held    bool
	claimed []parley.Claimed
	looked  int
	wait    int64
}

func (s *Store) claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait time.Duration, out *claimRound) error {
	channel, now, limit := channelKey(l.Channel), s.now(), max(places.All, 0)
	b := s.begin()
	b.hold(now, l, false, &out.held)
	b.exec(orphanSQL, channel, int64(l.Epoch), doubtfulWait.Milliseconds())
	b.rows(func(r pgx.Rows) error {
		c, ok, err := scanClaimed(r, &out.looked)
		switch {
		case errors.Is(err, errStored): // it must not hold up the others
			s.cfg.Logger.ErrorContext(ctx, "a message that can't be read waits for a program that can", slog.Any("id", c.ID))
			return nil
		case ok:
			out.claimed = append(out.claimed, c)
		}
		return err
	}, claimSQL, now, channel, int64(l.Epoch), limit, candidates(limit), min(places.Bulk, limit))
	b.rows(func(r pgx.Rows) error {
		var wait int64
		err := r.Scan(&wait)
		out.wait = min(out.wait, wait)
		return err
	}, nextDueSQL, now, channel)
	return s.send(ctx, s.work, b)
}

// scanClaimed reads a claimed message, if the row has one beside the count.
func scanClaimed(r pgx.Rows, looked *int) (c parley.Claimed, ok bool, err error) {
	var id *[16]byte
	var conv, data []byte
	var ordinal, at *int64
	var attempts *int
	var doubtful *bool
	if err := r.Scan(looked, &id, &conv, &ordinal, &at, &data, &attempts, &doubtful, &c.Silenced); err != nil || id == nil {
		return c, false, err
	}
	c.ID, c.Ordinal, c.At, c.Attempts, c.Doubtful = *id, uint64(*ordinal), fromMS(*at), *attempts, *doubtful
	if c.Conversation, err = parseKey(conv); err != nil {
		return c, false, err
	}
	if err := c.DecodeContent(data); err != nil {
		return c, false, errStored
	}
	return c, true, nil
}
