package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// unsent is a message of the outbox that has been attempted.
type unsent struct {
	id           parley.ID
	conversation parley.Conversation
	claimed      int64 // ms
	send         parley.Send
}

const readClaimedSQL = `
select id, conv, claimed, data from parley.outbox
where id = any($1::uuid[]) and channel = $2 and epoch = $3`

const removeSQL = `delete from parley.outbox where id = any($1::uuid[])`

// promoteSQL makes what comes next in conversations their heads, and in those that
// have absorbed them: they may have waited for this one. It is a statement behind
// the one that removes.
const promoteSQL = `
update parley.outbox set due = case when bulk then ` + bulkLane + ` else 0 end where ctid = any(array(
    select h.tid from (
        select c.conv from unnest($1::bytea[]) as c (conv)
        union
        select m.survivor from unnest($1::bytea[]) as c (conv) cross join lateral (
            select m.survivor from parley.merged m where m.younger = c.conv offset 0
        ) m
    ) c cross join lateral (
        select o.ctid as tid, o.due from parley.outbox o where o.conv = c.conv order by o.ordinal limit 1
    ) h
    where h.due is null
))`

const againSQL = `
update parley.outbox o set epoch = 0, due = a.due + case when o.bulk then ` + bulkLane + ` else 0 end, attempts = o.attempts + a.counts, doubtful = o.doubtful or a.doubtful
from unnest($1::uuid[], $2::bigint[], $3::integer[], $4::boolean[]) as a (id, due, counts, doubtful)
where o.id = a.id`

const buryMessagesSQL = `
insert into parley.dead (brand, id, conv, at, cause, seq, data)
select d.brand, d.id, d.conv, $1::bigint, d.cause, 0, d.data
from unnest($2::bytea[], $3::uuid[], $4::bytea[], $5::bytea[], $6::bytea[]) as d (brand, id, conv, cause, data)
on conflict do nothing`

const readClockSQL = `select ` + clock

// settling is the outcomes of one call, on their way into one transaction.
type settling struct {
	now        int64
	held       bool
	claimed    map[parley.ID]*unsent
	deliveries *deliveries

	removed leaving
	told    []parley.Pending // of what was returned
	again   struct {
		ids      [][16]byte
		due      []int64
		counts   []int32
		doubtful []bool
	}
	dead struct {
		brands, convs, causes, data [][]byte
		ids                         [][16]byte
	}
}

// leaving is messages that leave the outbox.
type leaving struct {
	ids   [][16]byte
	convs [][]byte
}

func (l *leaving) add(m *unsent) {
	l.ids, l.convs = append(l.ids, m.id), append(l.convs, conversationKey(m.conversation))
}

// write adds the removal, and then the promotion of what comes next.
func (l *leaving) write(b *batch) {
	if len(l.ids) > 0 {
		b.exec(removeSQL, l.ids)
		b.exec(promoteSQL, l.convs)
	}
}

// Settle notes how attempts ended: see egress.Outbox.
func (s *Store) Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	st := settling{claimed: map[parley.ID]*unsent{}, deliveries: newDeliveries(l.Channel)}
	err := s.transact(ctx, s.work, func(b *batch) error {
		now := s.now()
		b.hold(now, l, true, &st.held)
		b.row([]any{&st.now}, readClockSQL, now)
		st.read(b, l, outcomes)
		return nil
	}, func(b *batch) error {
		if err := fenced(st.held); err != nil {
			return err
		}
		return st.write(b, outcomes)
	})
	return failure("settle", err)
}

func (st *settling) read(b *batch, l parley.Lease, outcomes []parley.Outcome) {
	var claimed [][16]byte
	var providers []string
	for i := range outcomes {
		claimed = append(claimed, outcomes[i].ID)
		if outcomes[i].Kind == parley.Sent && outcomes[i].ProviderID != "" {
			providers = append(providers, outcomes[i].ProviderID)
		}
	}
	if len(claimed) > 0 {
		b.rows(st.scan, readClaimedSQL, claimed, channelKey(l.Channel), int64(l.Epoch))
	}
	if len(providers) > 0 {
		st.deliveries.read(b, providers)
	}
}

func (st *settling) scan(r pgx.Rows) error { return keepUnsent(r, st.claimed) }

// keepUnsent reads a message. One that can't be read was never handed over, so
// nothing is to be noted of it.
func keepUnsent(r pgx.Rows, in map[parley.ID]*unsent) error {
	m, err := scanUnsent(r)
	switch {
	case errors.Is(err, errStored):
		return nil
	case err == nil:
		in[m.id] = m
	}
	return err
}

func scanUnsent(r pgx.Rows) (*unsent, error) {
	var id [16]byte
	var conv, data []byte
	m := &unsent{}
	if err := r.Scan(&id, &conv, &m.claimed, &data); err != nil {
		return m, err
	}
	m.id = id
	var err error
	if m.conversation, err = parseKey(conv); err != nil {
		return m, err
	}
	o := parley.Outgoing{ID: m.id, Conversation: m.conversation}
	if err := o.DecodeContent(data); err != nil {
		return m, errStored
	}
	m.send = o.Send
	return m, nil
}

func (st *settling) write(b *batch, outcomes []parley.Outcome) error {
	for i := range outcomes {
		o := &outcomes[i]
		m, ok := st.claimed[o.ID]
		if !ok {
			continue // not claimed in this epoch, or settled already
		}
		delete(st.claimed, o.ID)
		if err := st.settle(m, o); err != nil {
			return err
		}
	}
	st.removed.write(b)
	if a := &st.again; len(a.ids) > 0 {
		b.exec(againSQL, a.ids, a.due, a.counts, a.doubtful)
	}
	if d := &st.dead; len(d.ids) > 0 {
		b.exec(buryMessagesSQL, st.now, d.brands, d.ids, d.convs, d.causes, d.data)
	}
	failed, err := st.deliveries.write(b, st.now)
	insertRows(b, &st.now, append(failed, st.told...))
	return err
}

func (st *settling) settle(m *unsent, o *parley.Outcome) error {
	switch o.Kind {
	case parley.Sent:
		st.removed.add(m)
		if o.ProviderID != "" {
			st.deliveries.of(o.ProviderID).accept(m)
		}
	case parley.Refused:
		st.removed.add(m)
		return st.bury(m, o)
	case parley.Returned:
		st.removed.add(m)
		return st.tell(m, o)
	case parley.Retry:
		counts := int32(1)
		if o.Uncounted {
			counts = 0
		}
		st.later(m, o, counts, false)
	case parley.Doubt:
		st.later(m, o, 0, true)
	default:
		return fmt.Errorf("outcome of kind %d: no such kind", o.Kind)
	}
	return nil
}

func (st *settling) tell(m *unsent, o *parley.Outcome) error {
	input, key := o.Failed(&parley.Outgoing{ID: m.id, Conversation: m.conversation})
	p, err := tells(m.conversation, input, key)
	st.told = append(st.told, p)
	return err
}

func (st *settling) later(m *unsent, o *parley.Outcome, counts int32, doubtful bool) {
	wait := (o.Wait + time.Millisecond - 1).Milliseconds()
	a := &st.again
	a.ids, a.due = append(a.ids, m.id), append(a.due, st.now+wait)
	a.counts, a.doubtful = append(a.counts, counts), append(a.doubtful, doubtful)
}

func (st *settling) bury(m *unsent, o *parley.Outcome) error {
	cause := o.Cause
	if o.Code != 0 {
		cause = fmt.Sprintf("%s (code %d)", cause, o.Code)
	}
	data, err := parley.EncodeEffect(m.send)
	d := &st.dead
	d.brands, d.ids = append(d.brands, bytesOf(m.conversation.Channel.Brand)), append(d.ids, m.id)
	d.convs, d.causes, d.data = append(d.convs, conversationKey(m.conversation)), append(d.causes, bytesOf(cause)), append(d.data, data)
	return err
}
