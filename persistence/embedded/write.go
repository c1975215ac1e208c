package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"io"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleychat/parley"
)

// txn is one group of writes under construction; whoever has it holds s.mu.
// A function that builds one first reads and decides, and may fail in that; then
// it writes and updates the indexes, which can't fail. So the indexes never know
// of something that isn't written.
type txn struct {
	*Store
	b    *pebble.Batch
	now  int64
	key  []byte // scratch
	conv []byte // scratch: a conversation's stored form
	val  []byte // scratch
	rand []byte // scratch
	// newKeys are contact keys that the cache of aliases knows of and whose rows
	// are to be written.
	newKeys []parley.Conversation
	err     error // the first of writing into b
}

// write builds a group under the mutex and waits for its fsync outside of it: its own,
// or, if the kind can wait, that of another write which comes soon.
func (s *Store) write(ctx context.Context, kind writeKind, build func(*txn) error) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	w, err := s.apply(kind, build)
	if err != nil || w.batch == nil {
		return err
	}
	return s.durable(w)
}

// apply builds a group, and hands it to Pebble in the order of the mutex.
func (s *Store) apply(kind writeKind, build func(*txn) error) (w written, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.broken != nil {
		return w, s.broken
	}
	now := s.now()
	if err := s.room.check(kind, now); err != nil {
		return w, err
	}
	t := &s.tx
	t.Store, t.b, t.now, t.err, t.newKeys = s, s.db.NewBatch(), now, nil, t.newKeys[:0]
	if err := build(t); err != nil {
		t.forgetKeys()
		return w, abandon(t.b, err)
	}
	if t.b.Empty() {
		return w, abandon(t.b, nil)
	}
	t.noteClock()
	t.noteReserved()
	t.writeBooks()
	if t.err != nil {
		return w, s.failLocked(fmt.Errorf("build batch: %w", t.err))
	}
	s.room.written(t.b.Len())
	return s.hand(t.b, s.mayShare(kind))
}

func abandon(b *pebble.Batch, err error) error {
	if cerr := b.Close(); err == nil {
		return cerr
	}
	return err
}

// hand gives the batch to Pebble, which panics if its log has failed before.
func (s *Store) hand(b *pebble.Batch, patient bool) (w written, err error) {
	defer func() {
		if r := recover(); r != nil {
			err = s.failLocked(fmt.Errorf("write the log: %v", r))
		}
	}()
	if patient {
		err = b.Commit(pebble.NoSync)
	} else {
		err = s.db.ApplyNoSyncWait(b, pebble.Sync)
	}
	if err != nil {
		return w, s.failLocked(fmt.Errorf("write the log: %w", err))
	}
	return s.sharing.join(b, patient), nil
}

func (t *txn) set(key, value []byte) { t.note(t.b.Set(key, value, nil)) }
func (t *txn) del(key []byte)        { t.note(t.b.Delete(key, nil)) }

// delOnce deletes what was set exactly once in its life.
func (t *txn) delOnce(key []byte) { t.note(t.b.SingleDelete(key, nil)) }

func (t *txn) note(err error) {
	if t.err == nil {
		t.err = err
	}
}

// number hands out the next number: of an inbox row, a receipt.
func (t *txn) number() uint64 {
	n := t.next
	t.next++
	return n
}

// noteReserved keeps numbers from being handed out again after a restart: all
// of a block count as used as soon as one is. It is part of the very batch that
// uses the block's first.
func (t *txn) noteReserved() {
	if t.next <= t.limit {
		return
	}
	t.limit = t.next + reserveNumbers
	t.books.noted = true
	t.set(metaKey(metaReserved), binary.BigEndian.AppendUint64(nil, t.limit))
}

func (t *txn) noteClock() {
	if t.now < t.notedMS+clockNoteMS {
		return
	}
	t.notedMS = t.now
	t.books.noted = true
	t.set(metaKey(metaClock), binary.BigEndian.AppendUint64(nil, uint64(t.now)))
}

// random returns n random bytes, good until the next call.
func (t *txn) random(n int) ([]byte, error) {
	if cap(t.rand) < n {
		t.rand = make([]byte, n)
	}
	t.rand = t.rand[:n]
	if _, err := io.ReadFull(t.cfg.Random, t.rand); err != nil {
		return nil, fmt.Errorf("draw random bytes: %w", err)
	}
	return t.rand, nil
}

// get reads a value into the scratch; nil if there is none. Good until the
// next call.
func (t *txn) get(key []byte) ([]byte, error) {
	v, closer, err := t.db.Get(key)
	if err == pebble.ErrNotFound { //nolint:errorlint // Pebble returns it bare, and this is on the hot path
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read table %c: %w", key[0], err)
	}
	t.val = append(t.val[:0], v...)
	return t.val, closer.Close()
}

// monotonic makes ids that grow: within a millisecond by a counter of 26 bits
// in front of the random rest.
type monotonic struct {
	ms int64
	n  uint32
}

func (m *monotonic) next(ms int64, random [16]byte) parley.ID {
	if ms > m.ms {
		m.ms, m.n = ms, 0
	}
	m.n++
	random[6], random[7] = byte(m.n>>22), byte(m.n>>14) // 4 bits of the first are kept
	random[8], random[9] = byte(m.n>>8), byte(m.n)      // 6 bits of the first are kept
	return parley.NewID(fromMS(m.ms), random)
}
