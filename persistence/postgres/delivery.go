package postgres

import (
	"context"
	"crypto/sha256"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// delivery is what is known of a message of the provider's, and what it was
// before a fold or a settling.
type delivery struct {
	parley.Delivery
	sent      int64 // ms: when its message was claimed, which is before the provider's time of it
	was       parley.Delivery
	mentioned bool
}

// digest is what a delivery is found by.
func digest(providerID string) []byte {
	sum := sha256.Sum256([]byte(providerID))
	return sum[:16]
}

// accept notes that the provider took a message of ours.
func (d *delivery) accept(m *unsent) {
	d.ID, d.Conversation, d.sent = m.id, m.conversation, m.claimed
	d.Status = parley.StatusSent.Join(d.Status)
}

// join notes a status.
func (d *delivery) join(r *parley.Receipt) {
	if joined := d.Status.Join(r.Status); joined != d.Status {
		if d.Status = joined; joined == parley.StatusFailed {
			d.Code, d.Reason = r.Code, r.Reason
		}
	}
}

func failureOfOurs(d *parley.Delivery) bool {
	return d.Status == parley.StatusFailed && !d.ID.IsZero() && d.Conversation.Contact != ""
}

// deliveries are those that a transaction works on, in the order of first mention.
type deliveries struct {
	channel parley.Channel
	by      map[string]*delivery
	order   []*delivery
}

func newDeliveries(ch parley.Channel) *deliveries {
	return &deliveries{channel: ch, by: map[string]*delivery{}}
}

// of is the delivery of an id, a new one if nothing is known of it.
func (ds *deliveries) of(providerID string) *delivery {
	d, ok := ds.by[providerID]
	if !ok {
		d = &delivery{}
		d.ProviderID, d.Conversation.Channel = providerID, ds.channel
		ds.by[providerID] = d
	}
	if !d.mentioned {
		d.was, d.mentioned = d.Delivery, true
		ds.order = append(ds.order, d)
	}
	return d
}

// readDeliveriesSQL looks up one digest after the other, behind a fence. Over a
// table that has only begun to fill, channel = $1 and digest = any($2) is planned
// as a walk of all that the channel has, and so it stays when that are millions.
const readDeliveriesSQL = `
select d.provider_id, d.outgoing, d.contact, d.status, d.at, d.sent, d.code, d.reason
from unnest($2::bytea[]) as k (digest) cross join lateral (
    select * from parley.delivery where channel = $1 and digest = k.digest offset 0
) d`

// read adds the reading of what is known of ids.
func (ds *deliveries) read(b *batch, providerIDs []string) {
	digests := make([][]byte, len(providerIDs))
	for i, id := range providerIDs {
		digests[i] = digest(id)
	}
	b.rows(func(r pgx.Rows) error {
		d := &delivery{}
		var provider, contact, status, reason []byte
		var id [16]byte
		var at, code int64
		if err := r.Scan(&provider, &id, &contact, &status, &at, &d.sent, &code, &reason); err != nil {
			return err
		}
		d.ProviderID, d.ID, d.Status, d.At = string(provider), id, parley.Status(status), fromMS(at)
		d.Conversation = parley.Conversation{Channel: ds.channel, Contact: parley.Contact(contact)}
		d.Code, d.Reason = int(code), string(reason)
		ds.by[d.ProviderID] = d
		return nil
	}, readDeliveriesSQL, channelKey(ds.channel), digests)
}

const writeDeliveriesSQL = `
insert into parley.delivery (channel, digest, provider_id, outgoing, contact, status, at, sent, code, reason, day)
select $1, d.digest, d.provider_id, d.outgoing, d.contact, d.status, d.at, d.sent, d.code, d.reason, (d.at / 86400000)::integer
from unnest($2::bytea[], $3::bytea[], $4::uuid[], $5::bytea[], $6::bytea[], $7::bigint[], $8::bigint[], $9::bigint[], $10::bytea[])
    as d (digest, provider_id, outgoing, contact, status, at, sent, code, reason)
order by d.digest
on conflict (channel, digest) do update set
    outgoing = excluded.outgoing, contact = excluded.contact, status = excluded.status, at = excluded.at,
    sent = excluded.sent, code = excluded.code, reason = excluded.reason, day = excluded.day`

// write adds the writing of what has changed, and the rows that tell
// conversations of failures that were not known before.
func (ds *deliveries) write(b *batch, now int64) (failed []parley.Pending, err error) {
	var digests, providers, contacts, statuses, reasons [][]byte
	var rows [][16]byte
	var at, sent, codes []int64
	for _, d := range ds.order {
		if d.Status != d.was.Status {
			d.At = fromMS(now)
		}
		digests, providers, rows = append(digests, digest(d.ProviderID)), append(providers, bytesOf(d.ProviderID)), append(rows, d.ID)
		contacts, statuses, at = append(contacts, bytesOf(d.Conversation.Contact)), append(statuses, bytesOf(d.Status)), append(at, toMS(d.At))
		sent, codes, reasons = append(sent, d.sent), append(codes, int64(d.Code)), append(reasons, bytesOf(d.Reason))
		if failureOfOurs(&d.Delivery) && !failureOfOurs(&d.was) {
			p, err := sendFailed(d)
			if err != nil {
				return nil, err
			}
			failed = append(failed, p)
		}
	}
	if len(digests) > 0 {
		b.exec(writeDeliveriesSQL, channelKey(ds.channel), digests, providers, rows, contacts, statuses, at, sent, codes, reasons)
	}
	return failed, nil
}

func sendFailed(d *delivery) (parley.Pending, error) {
	return tells(d.Conversation, parley.SendFailed{ID: d.ID, ProviderID: d.ProviderID, Code: d.Code, Reason: d.Reason},
		parley.NewEventKey("send_failed", d.Conversation.Channel.String(), d.ProviderID, "failed"))
}

// tells is a row that tells a conversation of something.
func tells(c parley.Conversation, input parley.Input, key parley.EventKey) (parley.Pending, error) {
	data, err := parley.EncodeInput(input)
	return parley.Pending{Row: parley.Row{Token: parley.Token(token())}, Conversation: c, Key: key, Input: input, Data: data}, err
}

const raiseWatermarksSQL = `
insert into parley.watermark as w (conv, status, up_to, at)
select r.conv, r.status, max(r.up_to), $1::bigint
from unnest($2::bytea[], $3::bytea[], $4::bigint[]) as r (conv, status, up_to)
group by r.conv, r.status order by r.conv, r.status
on conflict (conv, status) do update set up_to = excluded.up_to, at = excluded.at
where w.up_to < excluded.up_to`

// readWatermarksSQL: what is reported after a merge is reported of the survivor.
const readWatermarksSQL = `
select w.status, w.up_to, w.at from (
    select $1::bytea as conv
    union all
    select m.survivor from parley.merged m where m.younger = $1::bytea
) c join parley.watermark w on w.conv = c.conv`

// Delivery tells what is known of a message by the provider's id of it,
// watermarks of its conversation included.
func (s *Store) Delivery(ctx context.Context, ch parley.Channel, providerID string) (parley.Delivery, bool, error) {
	ds := newDeliveries(ch)
	b := s.begin()
	ds.read(b, []string{providerID})
	if err := s.send(ctx, s.work, b); err != nil {
		return parley.Delivery{}, false, failure("read delivery", err)
	}
	d, ok := ds.by[providerID]
	if !ok {
		return parley.Delivery{}, false, nil
	}
	b = s.begin()
	b.rows(func(r pgx.Rows) error {
		var status []byte
		var upTo, at int64
		if err := r.Scan(&status, &upTo, &at); err != nil {
			return err
		}
		if joined := d.Status.Join(parley.Status(status)); d.sent != 0 && d.sent <= upTo && joined != d.Status {
			d.Status, d.At = joined, fromMS(max(toMS(d.At), at))
		}
		return nil
	}, readWatermarksSQL, conversationKey(d.Conversation))
	if err := s.send(ctx, s.work, b); err != nil {
		return parley.Delivery{}, false, failure("read delivery", err)
	}
	return d.Delivery, true, nil
}
