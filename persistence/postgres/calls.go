package postgres

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"slices"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// claimCallsSQL claims calls of each service by itself, those that have been due for
// longest. What another is just claiming is passed by.
const claimCallsSQL = `
with now as materialized (select ` + clock + ` as ms
), picked as materialized (
    select k.tid from unnest($3::bytea[], $4::integer[]) as p (service, places) cross join lateral (
        select c.ctid as tid from parley.call c
        where c.service = p.service and c.due <= (select ms from now)
        order by c.due, c.id limit p.places for update skip locked
    ) k
)
update parley.call c set claim = $2, due = (select ms from now) + (
    select p.lease from unnest($3::bytea[], $5::bigint[]) as p (service, lease) where p.service = c.service limit 1
)
where ctid = any(array(select tid from picked))
returning id, conv, at, greatest((select ms from now) - at, 0), attempts, status, cause, data`

// claimOthersSQL claims calls of services that aren't named ($3), if they have been
// due for a while ($4). It finds the names of services by walking from one to the
// next, however many calls each has.
const claimOthersSQL = `
with recursive now as materialized (select ` + clock + ` as ms
), present as (
    (select c.service from parley.call c where c.service >= ''::bytea order by c.service, c.due, c.id limit 1)
    union all
    select n.service from present p cross join lateral (
        select c.service from parley.call c where c.service > p.service order by c.service, c.due, c.id limit 1
    ) n
), picked as materialized (
    select k.tid from present p cross join lateral (
        select c.ctid as tid from parley.call c
        where c.service = p.service and c.due <= (select ms from now) - $4::bigint
        order by c.due, c.id limit $5 for update skip locked
    ) k
    where p.service <> all($3::bytea[]) limit $5
)
update parley.call c set claim = $2, due = (select ms from now) + $6::bigint
where ctid = any(array(select tid from picked))
returning id, conv, at, greatest((select ms from now) - at, 0), attempts, status, cause, data`

// nextCallSQL says how long it is until the next call of some services is due.
const nextCallSQL = `
select min(greatest(k.due - ` + clock + `, 0)) from unnest($2::bytea[]) as p (service) cross join lateral (
    select c.due from parley.call c where c.service = p.service order by c.due, c.id limit 1
) k`

// ClaimCalls gives calls to be made, each to one caller at a time: see callout.Calls.
func (s *Store) ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error) {
	claim, now := int64(parley.NewClaim(q.Holder, uint32(token()))), s.now()
	var services, wanted [][]byte
	var limits []int32
	var leases []int64
	for _, p := range q.Services {
		services, limits = append(services, bytesOf(p.Service)), append(limits, int32(max(p.Limit, 0)))
		leases = append(leases, wholeMS(p.Lease))
		if p.Limit > 0 {
			wanted = append(wanted, bytesOf(p.Service))
		}
	}
	var claimed []parley.ClaimedCall
	scan := func(r pgx.Rows) error {
		c, err := scanCall(r)
		c.Claim = parley.Token(claim)
		switch {
		case errors.Is(err, errStored): // it must not hold up the others
			s.cfg.Logger.ErrorContext(ctx, "a call that can't be read waits for a program that can", slog.Any("id", c.ID))
			return nil
		case err == nil:
			claimed = append(claimed, c)
		}
		return err
	}
	b := s.begin()
	if len(services) > 0 {
		b.rows(scan, claimCallsSQL, now, claim, services, limits, leases)
	}
	if q.Others.Limit > 0 {
		b.rows(scan, claimOthersSQL, now, claim, array(services), wholeMS(q.OthersAfter), q.Others.Limit, wholeMS(q.Others.Lease))
	}
	next := (*int64)(nil)
	b.row([]any{&next}, nextCallSQL, now, array(wanted))
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, 0, failure("claim calls", err)
	}
	if next != nil {
		horizon = min(horizon, time.Duration(*next)*time.Millisecond)
	}
	return claimed, horizon, nil
}

// wholeMS is d in ms, rounded up: nothing is due early.
func wholeMS(d time.Duration) int64 { return (max(d, 0) + time.Millisecond - 1).Milliseconds() }

func scanCall(r pgx.Rows) (c parley.ClaimedCall, err error) {
	var id [16]byte
	var conv, cause, data []byte
	var at, age int64
	if err := r.Scan(&id, &conv, &at, &age, &c.Attempts, &c.Status, &cause, &data); err != nil {
		return c, err
	}
	c.ID, c.At, c.Age, c.Cause = id, fromMS(at), time.Duration(age)*time.Millisecond, string(cause)
	if c.Conversation, err = parseKey(conv); err != nil {
		return c, err
	}
	if err := c.DecodeContent(data); err != nil {
		return c, errStored
	}
	return c, nil
}

// yieldCallsSQL looks at all calls: it is for the day when a node is lost. What
// somebody is just settling or cancelling is passed by.
const yieldCallsSQL = `
update parley.call set claim = 0, due = least(due, ` + clock + `)
where ctid = any(array(
    select c.ctid from parley.call c where c.claim <> 0 and c.claim >> 32 = $2 order by c.id for update skip locked
))`

// YieldCalls gives back what somebody has claimed: see callout.Calls.
func (s *Store) YieldCalls(ctx context.Context, holder string) error {
	b := s.begin()
	b.exec(yieldCallsSQL, s.now(), int64(parley.NewClaim(holder, 0))>>32)
	return failure("yield calls", s.send(ctx, s.work, b))
}

// answerCallsSQL makes rows of the inbox of answers, for calls whose claim is still
// the one that they are for, and deletes these. $2 and the rest are in the order of
// ids, in which commits that cancel calls lock them, too; n is the order of rows.
const answerCallsSQL = `
with now as materialized (select ` + clock + ` as ms
), gone as (
    delete from parley.call c
    using unnest($2::uuid[], $3::bigint[], $4::smallint[], $5::bigint[], $6::bytea[], $7::bytea[], $8::integer[])
        as a (id, claim, shard, token, key, data, n)
    where c.id = a.id and c.claim = a.claim
    returning c.conv, a.shard, a.token, a.key, a.data, a.n
)
insert into parley.inbox (shard, conv, token, received, at, key, late, data)
select g.shard, g.conv, g.token, (select ms from now), 0, g.key, false, g.data
from (select * from gone order by n offset 0) g
returning seq, token, received`

const laterCallsSQL = `
update parley.call c set claim = 0, due = ` + clock + ` + a.wait, attempts = c.attempts + a.counts,
    status = case when a.counts = 0 then c.status else a.status end, cause = case when a.counts = 0 then c.cause else a.cause end
from unnest($2::uuid[], $3::bigint[], $4::bigint[], $5::integer[], $6::integer[], $7::bytea[])
    as a (id, claim, wait, counts, status, cause)
where c.id = a.id and c.claim = a.claim
returning c.id`

// SettleCalls notes what came of claims: see callout.Calls. An answer is appended
// under the name of the conversation that has called, whatever it was merged into.
func (s *Store) SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error) {
	var answers answeredCalls
	var later postponedCalls
	for _, i := range inOrderOfCalls(outcomes) {
		if outcomes[i].Answer == nil {
			later.add(&outcomes[i])
		} else if err := answers.add(i, &outcomes[i]); err != nil {
			return parley.SettledCalls{}, failure("settle calls", err)
		}
	}
	b := s.begin()
	answers.write(b, s.now())
	later.write(b, s.now())
	if b.Len() == 0 {
		return parley.SettledCalls{}, nil
	}
	if err := s.send(ctx, s.work, b); err != nil {
		return parley.SettledCalls{}, failure("settle calls", err)
	}
	return parley.SettledCalls{Rows: answers.taken, Lost: len(outcomes) - len(answers.taken) - later.taken}, nil
}

// inOrderOfCalls are the places of outcomes in the order in which their calls are
// locked; of several for one claim that of the first.
func inOrderOfCalls(outcomes []parley.CallOutcome) []int {
	var order []int
	for i := range outcomes {
		of := outcomes[i].Of
		same := func(n int) bool { return outcomes[n].Of.ID == of.ID && outcomes[n].Of.Claim == of.Claim }
		if !slices.ContainsFunc(order, same) {
			order = append(order, i)
		}
	}
	slices.SortStableFunc(order, func(a, b int) int { return bytes.Compare(outcomes[a].Of.ID[:], outcomes[b].Of.ID[:]) })
	return order
}

// answeredCalls are answers on their way into the inbox.
type answeredCalls struct {
	rows           map[parley.Token]parley.Pending // to be
	ids            [][16]byte
	claims, tokens []int64
	shards         []int16
	keys, data     [][]byte
	places         []int32

	taken []parley.Pending
}

func (a *answeredCalls) add(place int, o *parley.CallOutcome) error {
	data, err := parley.EncodeInput(*o.Answer)
	if err != nil {
		return err
	}
	p := parley.Pending{
		Row: parley.Row{Token: parley.Token(token())}, Conversation: o.Of.Conversation, Key: o.Of.Key(), Input: *o.Answer, Data: data,
	}
	if a.rows == nil {
		a.rows = map[parley.Token]parley.Pending{}
	}
	a.rows[p.Token] = p
	a.ids, a.claims, a.tokens = append(a.ids, o.Of.ID), append(a.claims, int64(o.Of.Claim)), append(a.tokens, int64(p.Token))
	a.shards, a.keys, a.data = append(a.shards, int16(p.Conversation.Shard())), append(a.keys, p.Key[:]), append(a.data, data)
	a.places = append(a.places, int32(place))
	return nil
}

func (a *answeredCalls) write(b *batch, now *int64) {
	if len(a.ids) == 0 {
		return
	}
	b.rows(func(r pgx.Rows) error {
		var seq, token, received int64
		if err := r.Scan(&seq, &token, &received); err != nil {
			return err
		}
		p := a.rows[parley.Token(token)]
		p.Seq, p.Received = parley.Seq(seq), fromMS(received)
		a.taken = append(a.taken, p)
		return nil
	}, answerCallsSQL, now, a.ids, a.claims, a.shards, a.tokens, a.keys, a.data, a.places)
}

// postponedCalls are calls on their way to their next attempt.
type postponedCalls struct {
	ids              [][16]byte
	claims, waits    []int64
	counts, statuses []int32
	causes           [][]byte

	taken int
}

func (l *postponedCalls) add(o *parley.CallOutcome) {
	counts := int32(1)
	if o.Uncounted {
		counts = 0
	}
	l.ids, l.claims, l.waits = append(l.ids, o.Of.ID), append(l.claims, int64(o.Of.Claim)), append(l.waits, wholeMS(o.Wait))
	l.counts, l.statuses, l.causes = append(l.counts, counts), append(l.statuses, int32(o.Status)), append(l.causes, bytesOf(o.Cause))
}

func (l *postponedCalls) write(b *batch, now *int64) {
	if len(l.ids) == 0 {
		return
	}
	b.rows(func(pgx.Rows) error {
		l.taken++
		return nil
	}, laterCallsSQL, now, l.ids, l.claims, l.waits, l.counts, l.statuses, l.causes)
}

// callRows are the calls of a group of commits, and those that it cancels.
type callRows struct {
	places                []int32
	ids                   [][16]byte
	convs, services, data [][]byte
	at                    []int64

	cancelledPlaces []int32
	cancelled       [][16]byte
}

// addCalls adds the calls of a commit.
func (g *group) addCalls(place int32, key []byte, c *parley.Commit) {
	r := &g.calls
	for n := range c.Calls {
		o := &c.Calls[n]
		data, _ := o.EncodeContent() // its body was validated: it has a form
		r.places, r.ids, r.convs = append(r.places, place), append(r.ids, o.ID), append(r.convs, key)
		r.services, r.at, r.data = append(r.services, bytesOf(o.Call.Service)), append(r.at, toMS(o.At)), append(r.data, data)
		g.bytes += len(data)
	}
	for _, id := range c.CancelCalls {
		r.cancelledPlaces, r.cancelled = append(r.cancelledPlaces, place), append(r.cancelled, id)
	}
}
