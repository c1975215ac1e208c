package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/parleychat/parley"
)

// DeadLetters returns a page of the dead letters that the query means. It reads all
// letters, or all of a brand if the query names one, and keeps no more than a page
// and its half of them at a time.
func (s *Store) DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error) {
	found, err := s.deadLetters(ctx, &q)
	if err != nil {
		return nil, fmt.Errorf("read dead letters: %w", err)
	}
	return found, nil
}

func (s *Store) deadLetters(ctx context.Context, q *parley.DeadQuery) ([]parley.DeadLetter, error) {
	if !q.ID.IsZero() {
		return s.oneDead(ctx, q)
	}
	p := deadPage{query: q, limit: q.Page()}
	prefix := []byte{tableDead}
	for _, brand := range []parley.Brand{q.Brand, q.Channel.Brand, q.Conversation.Channel.Brand} {
		if brand != "" { // another brand's letters it doesn't mean, whichever names it
			prefix = appendName([]byte{tableDead}, brand)
		}
	}
	err := s.scan(ctx, prefix, prefix, func(key, value []byte) (bool, error) {
		d, err := readDead(key, value)
		if err == nil {
			p.add(d)
		}
		return ctx.Err() == nil, err
	})
	if err == nil {
		err = ctx.Err()
	}
	return p.end(), err
}

// oneDead reads the letter of a query that names one.
func (s *Store) oneDead(ctx context.Context, q *parley.DeadQuery) (found []parley.DeadLetter, err error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	d, ok, err := s.findDead(q.ID)
	if ok && q.Means(&d) && q.Behind(&d) && q.Page() > 0 {
		found = append(found, d)
	}
	return found, err
}

// deadPage is the first letters of those that it is given, in the query's order.
type deadPage struct {
	query *parley.DeadQuery
	limit int
	kept  []parley.DeadLetter
}

func (p *deadPage) add(d parley.DeadLetter) {
	if !p.query.Means(&d) || !p.query.Behind(&d) {
		return
	}
	if p.kept = append(p.kept, d); len(p.kept) > p.limit+p.limit/2 {
		p.end()
	}
}

// end orders what is kept, and drops what is beyond the page.
func (p *deadPage) end() []parley.DeadLetter {
	slices.SortFunc(p.kept, func(a, b parley.DeadLetter) int { return p.query.Order(&a, &b) })
	if len(p.kept) > p.limit {
		clear(p.kept[p.limit:])
		p.kept = p.kept[:p.limit]
	}
	return p.kept
}

func readDead(key, value []byte) (parley.DeadLetter, error) {
	r, err := readKey(tableDead, key)
	if err != nil {
		return parley.DeadLetter{}, err
	}
	_ = r.raw() // the brand, which is the conversation's
	d := parley.DeadLetter{ID: r.id()}
	if err := r.end("key of a dead letter"); err != nil {
		return parley.DeadLetter{}, err
	}
	err = decodeDead(&d, value)
	return d, err
}

// findDead looks for a letter by its id alone, one lookup in each brand that has
// any: the brand leads the key.
func (s *Store) findDead(id parley.ID) (d parley.DeadLetter, ok bool, err error) {
	for begin := []byte{tableDead}; begin != nil && !ok; {
		var brand []byte // with the table before it, and its length
		err := scanOf(s.db, begin, after([]byte{tableDead}), func(key, _ []byte) (bool, error) {
			brand = slices.Clone(key[:len(key)-len(id)])
			return false, nil
		})
		if err != nil || brand == nil {
			return d, false, err
		}
		key := append(slices.Clone(brand), id[:]...)
		err = read(s.db, key, func(value []byte) (err error) {
			ok = true
			d, err = readDead(key, value)
			return err
		})
		if err != nil {
			return d, false, err
		}
		begin = after(brand)
	}
	return d, ok, nil
}

// RetryDeadLetter puts a dead letter's message back into the outbox, or its event
// into the inbox, and removes the letter, all in one group: see parley.RetryMessage
// and parley.RetryEvent, which reads is for. Like what comes in, it is refused below the reserve.
func (s *Store) RetryDeadLetter(ctx context.Context, id parley.ID, reads int) (parley.Retried, error) {
	var r parley.Retried
	err := s.write(ctx, bringsEvents, func(t *txn) (err error) {
		r, err = t.retryDead(id, reads)
		return err
	})
	if err != nil {
		return parley.Retried{}, fmt.Errorf("retry dead letter: %w", err)
	}
	return r, nil
}

func (t *txn) retryDead(id parley.ID, reads int) (parley.Retried, error) {
	d, err := t.letter(id)
	if err != nil {
		return parley.Retried{}, err
	}
	into, err := t.final(d.Conversation)
	if err != nil {
		return parley.Retried{}, err
	}
	r := parley.Retried{Letter: d}
	if d.Kind() == parley.DeadMessage {
		err = t.retryMessage(d, into, reads)
	} else {
		r.Rows, err = t.retryEvent(d, into, reads)
	}
	if err == nil {
		t.unbury(&d)
		t.post(parley.PostRetry(&d, fromMS(t.now))...)
	}
	return r, err
}

// letter reads the dead letter of an id.
func (t *txn) letter(id parley.ID) (parley.DeadLetter, error) {
	d, ok, err := t.findDead(id)
	if err == nil && !ok {
		err = parley.ErrNoLetter
	}
	return d, err
}

// retryMessage takes a commit with the message in it. The conversation can't have
// moved: what writes it has the mutex.
func (t *txn) retryMessage(d parley.DeadLetter, into parley.Conversation, reads int) error {
	snapshot, err := t.snapshotOf(into)
	if err != nil {
		return err
	}
	random, err := t.random(16)
	if err != nil {
		return err
	}
	c, err := parley.RetryMessage(snapshot, d, fromMS(t.now), [16]byte(random), reads)
	if err != nil {
		return err
	}
	encoded, err := encodeCommit(&c)
	if err != nil {
		return err
	}
	ch := t.channel(into.Channel)
	t.conv = ch.conversation(t.conv[:0], into.Contact)
	t.take(ch, nil, &c, encoded)
	return nil
}

func (t *txn) retryEvent(d parley.DeadLetter, into parley.Conversation, reads int) ([]parley.Pending, error) {
	random, err := t.random(8)
	if err != nil {
		return nil, err
	}
	p, err := parley.RetryEvent(d, into, parley.Token(binary.BigEndian.Uint64(random)), reads)
	if err != nil {
		return nil, err
	}
	t.enqueue(&p)
	return []parley.Pending{p}, nil
}

// unbury removes a letter. It may have been written more than once under its key: a
// message that was retried and refused again has the same id.
func (t *txn) unbury(d *parley.DeadLetter) {
	t.counts.dead--
	t.key = deadKey(t.key[:0], d.Conversation.Channel.Brand, d.ID)
	t.del(t.key)
}

// DropDeadLetter removes a dead letter for good.
func (s *Store) DropDeadLetter(ctx context.Context, id parley.ID) (gone parley.DeadLetter, _ error) {
	err := s.write(ctx, makesSpace, func(t *txn) (err error) {
		if gone, err = t.letter(id); err == nil {
			t.unbury(&gone)
			t.post(parley.PostDrop(&gone, fromMS(t.now))...)
		}
		return err
	})
	if err != nil {
		return parley.DeadLetter{}, fmt.Errorf("drop dead letter: %w", err)
	}
	return gone, nil
}
