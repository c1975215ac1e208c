package postgres

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"math"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

const deadColumns = `d.id, d.conv, d.at, d.cause, d.seq, d.data`

// deadMeant is what a query means: parley.DeadQuery.Means. A conversation's name
// begins with that of its channel and a slash.
const deadMeant = `
    ($1::bytea = '' or d.brand = $1)
    and ($2::bytea = '' or substring(d.conv from 1 for length($2::bytea)) = $2)
    and ($3::bytea = '' or d.conv = $3)
    and ($4::boolean is null or (d.seq = 0) = $4)
    and ($5::bytea = '' or position($5::bytea in d.cause) > 0)
    and d.at <= $6::bigint`

const oldestDeadSQL = `
select ` + deadColumns + ` from parley.dead d
where` + deadMeant + ` and (d.at, d.id) > ($7::bigint, $8::uuid)
order by d.at, d.id limit $9`

const newestDeadSQL = `
select ` + deadColumns + ` from parley.dead d
where` + deadMeant + ` and (d.at, d.id) < ($7::bigint, $8::uuid)
order by d.at desc, d.id desc limit $9`

// deadBrands walks the brands that have dead letters, from one to the next: the
// brand leads the key, and an id alone is to be found by it.
const deadBrands = `
with recursive brands as (
    (select d.brand from parley.dead d order by d.brand limit 1)
    union all
    select (select d.brand from parley.dead d where d.brand > b.brand order by d.brand limit 1)
    from brands b where b.brand is not null
)`

const oneDeadSQL = deadBrands + `
select ` + deadColumns + ` from brands b join parley.dead d on d.brand = b.brand and d.id = $1`

// takeDeadSQL removes a letter. Of several who do so at once one gets it: the others
// wait for the row, and then it is gone.
const takeDeadSQL = deadBrands + `
delete from parley.dead d using brands b where d.brand = b.brand and d.id = $1
returning ` + deadColumns

// finalSQL is what a conversation was merged into in the end: parley.merged has a row
// for each step of a chain. The condition is a value, so that it is looked up by the
// index whatever the planner believes.
const finalSQL = `
select m.survivor from parley.merged m
where m.younger = $1 and (select true from parley.merged n where n.younger = m.survivor limit 1) is null`

// DeadLetters returns a page of the dead letters that the query means. It walks the
// letters in the order of their times, from the place where the page begins and until
// it is full: a query that few letters match reads many.
func (s *Store) DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error) {
	var found []parley.DeadLetter
	b := s.begin()
	keep := func(r pgx.Rows) error {
		d, err := scanDead(r)
		if q.ID.IsZero() || q.Means(&d) && q.Behind(&d) && q.Page() > 0 {
			found = append(found, d)
		}
		return err
	}
	if q.ID.IsZero() {
		sql := oldestDeadSQL
		if q.Newest {
			sql = newestDeadSQL
		}
		b.rows(keep, sql, deadArguments(&q)...)
	} else {
		b.rows(keep, oneDeadSQL, [16]byte(q.ID))
	}
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("read dead letters", err)
	}
	return found, nil
}

func deadArguments(q *parley.DeadQuery) []any {
	brand := cmp.Or(q.Brand, q.Channel.Brand, q.Conversation.Channel.Brand)
	channel, conversation, messages := []byte{}, []byte{}, (*bool)(nil)
	if q.Channel != (parley.Channel{}) {
		channel = append(channelKey(q.Channel), '/')
	}
	if q.Conversation != (parley.Conversation{}) {
		conversation = conversationKey(q.Conversation)
	}
	if q.Kind != "" {
		is := q.Kind == parley.DeadMessage
		messages = &is
	}
	until, at, id := int64(math.MaxInt64), toMS(q.After.At), q.After.ID
	if !q.Until.IsZero() {
		until = q.Until.UnixMilli()
	}
	if q.Newest && (q.After == parley.DeadPlace{}) { // from the end
		at, id = math.MaxInt64, parley.ID(bytes.Repeat([]byte{0xff}, len(id)))
	}
	return []any{bytesOf(brand), channel, conversation, messages, bytesOf(q.Cause), until, at, [16]byte(id), q.Page()}
}

func scanDead(r pgx.Rows) (d parley.DeadLetter, err error) {
	var id [16]byte
	var conv, cause []byte
	var at, seq int64
	if err := r.Scan(&id, &conv, &at, &cause, &seq, &d.Data); err != nil {
		return d, err
	}
	d.ID, d.At, d.Cause, d.Seq = id, fromMS(at), string(cause), parley.Seq(seq)
	d.Conversation, err = parseKey(conv)
	return d, err
}

// retryRounds bounds how often a retry is begun again because the letter's
// conversation was being merged into another at the same time.
const retryRounds = 3

// RetryDeadLetter puts a dead letter's message back into the outbox, or its event
// into the inbox, and removes the letter, all in one transaction: see
// parley.RetryMessage and parley.RetryEvent, which reads is for.
func (s *Store) RetryDeadLetter(ctx context.Context, id parley.ID, reads int) (parley.Retried, error) {
	for round := 1; ; round++ {
		r := retrying{store: s, id: id, reads: reads}
		err := s.transact(ctx, s.work, r.take, r.place, r.look, r.write, r.check)
		switch {
		case err == nil:
			return parley.Retried{Letter: r.letter, Rows: r.rows}, nil
		case !errors.Is(err, parley.ErrConflict) || round == retryRounds:
			return parley.Retried{}, failure("retry dead letter", err)
		}
	}
}

// retrying is a dead letter on its way back.
type retrying struct {
	store    *Store
	id       parley.ID
	reads    int // newest generation that all members read
	now      int64
	letter   parley.DeadLetter
	found    bool
	into     []byte           // the name of the conversation that the letter belongs to by now
	snapshot parley.Snapshot  // of that, for a message
	taken    []bool           // whether the message's commit was
	rows     []parley.Pending // of an event
}

// take removes the letter.
func (r *retrying) take(b *batch) error {
	b.row([]any{&r.now}, readClockSQL, r.store.now())
	b.rows(func(rows pgx.Rows) (err error) {
		r.letter, err = scanDead(rows)
		r.found = true
		return err
	}, takeDeadSQL, [16]byte(r.id))
	return nil
}

// place asks where the letter's conversation has gone.
func (r *retrying) place(b *batch) error {
	if !r.found {
		return parley.ErrNoLetter
	}
	r.into = conversationKey(r.letter.Conversation)
	b.row([]any{&r.into}, finalSQL, r.into)
	return nil
}

// look locks and reads what a message needs: its conversation. An event needs nothing, as any turn finds its row.
func (r *retrying) look(b *batch) (err error) {
	if r.snapshot.Conversation, err = parseKey(r.into); err != nil || r.letter.Kind() != parley.DeadMessage {
		return err
	}
	b.exec(insertConversationsSQL, [][]byte{r.into})
	b.rows(func(rows pgx.Rows) error {
		var key, snapshot []byte
		if err := rows.Scan(&key, &snapshot); err != nil {
			return err
		}
		return unpackSnapshot(&r.snapshot, snapshot)
	}, lockSnapshotsSQL, [][]byte{r.into})
	return nil
}

func (r *retrying) write(b *batch) error {
	if r.letter.Kind() != parley.DeadMessage {
		p, err := parley.RetryEvent(r.letter, r.snapshot.Conversation, parley.Token(token()), r.reads)
		if err != nil {
			return err
		}
		r.rows = []parley.Pending{p}
		insertRows(b, &r.now, r.rows)
		insertPostings(b, parley.PostRetry(&r.letter, fromMS(r.now)))
		return nil
	}
	c, err := parley.RetryMessage(r.snapshot, r.letter, fromMS(r.now), nonce(), r.reads)
	if err != nil {
		return err
	}
	g := &group{}
	g.add(0, &c)
	r.taken = make([]bool, 1)
	g.queue(b, r.store.now(), r.taken)
	return nil
}

// check makes sure that the commit was taken before the transaction is.
func (r *retrying) check(*batch) error {
	if slices.Contains(r.taken, false) {
		return parley.ErrConflict
	}
	return nil
}

// DropDeadLetter removes a dead letter for good.
func (s *Store) DropDeadLetter(ctx context.Context, id parley.ID) (gone parley.DeadLetter, _ error) {
	r := retrying{store: s, id: id}
	err := s.transact(ctx, s.work, r.take, func(b *batch) error {
		if !r.found {
			return parley.ErrNoLetter
		}
		gone = r.letter
		insertPostings(b, parley.PostDrop(&gone, fromMS(r.now)))
		return nil
	})
	if err != nil {
		return parley.DeadLetter{}, failure("drop dead letter", err)
	}
	return gone, nil
}
