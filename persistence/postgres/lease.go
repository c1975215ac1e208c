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
