package postgres

import (
	"context"
	"time"

	"github.com/parleychat/parley"
)

// leaseSQL takes a lease that is free, expired, or the holder's own. The epoch
// stays only for a holder that has it in hand.
const leaseSQL = `
insert into parley.lease as l (channel, holder, epoch, expiry)
values ($2, $3, 1, ` + clock + ` + $4::bigint)
on conflict (channel) do update set
    holder = excluded.holder,
    epoch = l.epoch + case when l.holder = excluded.holder and l.epoch = $5 then 0 else 1 end,
    expiry = excluded.expiry
where l.holder = excluded.holder or l.expiry <= ` + clock + `
returning epoch`

// Lease takes or renews the lease of a channel: see egress.Outbox.
func (s *Store) Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	inHand := uint64(0) // no epoch
	if have.Channel == ch && have.Holder == holder {
		inHand = have.Epoch
	}
	var epoch int64
	b := s.begin()
	b.row([]any{&epoch}, leaseSQL, s.now(), channelKey(ch), []byte(holder), ttl.Milliseconds(), int64(inHand))
	err := s.send(ctx, s.work, b)
	if err == nil {
		err = fenced(epoch != 0)
	}
	if err != nil {
		return parley.Lease{}, failure("lease", err)
	}
	return parley.Lease{Channel: ch, Holder: holder, Epoch: uint64(epoch), TTL: ttl}, nil
}

// yieldFrom and yieldTo are the statements by which leases are given back, but for
// what they do about rows that another has locked. They tell how many of the
// leases they left alone. An expiry of 0 has passed whatever becomes of the
// database's clock.
//
// Rows are locked in the order of channels, so that two who yield for the same
// holder don't wait for each other in a circle. Nobody else locks more than one
// lease, and who yields locks nothing else.
const yieldFrom = `
with named as materialized (
    select n.channel from unnest($2::bytea[]) as n (channel)
    union all
    (select l.channel from parley.lease l where $2::bytea[] is null and l.holder = $1 order by l.channel)
), live as materialized (
    select l.channel from parley.lease l
    where l.channel = any(array(select n.channel from named n)) and l.holder = $1 and l.expiry > 0
), locked as materialized (
    select l.channel from parley.lease l
    where l.channel = any(array(select v.channel from live v)) and l.holder = $1 and l.expiry > 0
    order by l.channel for update`

const yieldTo = `
), yielded as (
    update parley.lease set expiry = 0 where channel = any(array(select k.channel from locked k))
)
select (select count(*) from live) - (select count(*) from locked)`

const (
	yieldSQL        = yieldFrom + ` skip locked` + yieldTo
	yieldWaitingSQL = yieldFrom + yieldTo
)

// Yield gives leases back: see egress.Outbox.
//
// A member that was lost may have frozen in the middle of a transaction that holds
// one of its leases, until the server ends that (idleTransaction), which is longer
// than one waits for a lock. So the free leases are given back without waiting;
// only then it is waited for the others, if there are any. If that takes too long,
// it is an error, and the caller may try again.
func (s *Store) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	var names [][]byte // null, unless some are named
	for _, ch := range channels {
		names = append(names, channelKey(ch))
	}
	if channels != nil && len(names) == 0 {
		return nil
	}
	for _, sql := range []string{yieldSQL, yieldWaitingSQL} {
		var left int
		b := s.begin()
		b.row([]any{&left}, sql, []byte(holder), names)
		if err := s.send(ctx, s.work, b); err != nil {
			return failure("yield leases", err)
		}
		if left == 0 {
			break
		}
	}
	return nil
}

// holdSQL locks the lease for the rest of the transaction if l still is it, and
// leaves that in a setting. Whatever changes the outbox of a channel, beside
// commits that add to it, does so behind this lock.
const holdSQL = `
with held as materialized (
    select 1 from parley.lease
    where channel = $2 and epoch = $3 and holder = $4 and ($5::boolean or expiry > ` + clock + `)
    for update
)
select set_config('parley.held', (select count(*) from held)::text, true) = '1'`

// hold adds the lock. An expired lease that nobody took may still be used to
// note what has happened, but not to begin anything.
func (b *batch) hold(now *int64, l parley.Lease, expiredToo bool, held *bool) {
	b.row([]any{held}, holdSQL, now, channelKey(l.Channel), int64(l.Epoch), []byte(l.Holder), expiredToo)
}
