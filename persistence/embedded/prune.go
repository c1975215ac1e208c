package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// pruneGroup is how many deliveries or suspects are looked at in one group of writes, so
// that others don't wait.
const pruneGroup = 256

// Prune drops the history and the deliveries that have not changed for
// historyFor, the keys seen that are older than parley.SeenFor, and the suspects
// older than parley.SuspectFor. But for these it goes by whole days: something may
// stay for a day longer, and never goes earlier.
func (s *Store) Prune(ctx context.Context, historyFor time.Duration) error {
	var before uint32
	err := s.write(ctx, makesSpace, func(t *txn) error {
		before = day(t.now - historyFor.Milliseconds())
		t.dropDays(tableHistory, before)
		t.dropDays(tableSeen, day(t.now-parley.SeenFor.Milliseconds()))
		return nil
	})
	for more := true; more && err == nil; {
		more, err = s.pruneDeliveries(ctx, before)
	}
	for from := []byte{tableSuspect}; from != nil && err == nil; {
		from, err = s.pruneSuspects(ctx, from)
	}
	if err != nil {
		return fmt.Errorf("prune: %w", err)
	}
	return nil
}

// dropDays deletes the rows of all days before one, if there are any.
func (t *txn) dropDays(table byte, before uint32) {
	first, ok, err := t.nextDay(table, 0)
	t.note(err)
	if err == nil && ok && first < before {
		begin := binary.BigEndian.AppendUint32([]byte{table}, 0)
		end := binary.BigEndian.AppendUint32([]byte{table}, before)
		t.note(t.b.DeleteRange(begin, end, nil))
	}
}

// pruneDeliveries goes through the next deliveries that were new on a day
// before: those that have changed since stay, noted under that day.
func (s *Store) pruneDeliveries(ctx context.Context, before uint32) (more bool, err error) {
	end := binary.BigEndian.AppendUint32([]byte{tableDeliveries}, before)
	err = s.write(ctx, makesSpace, func(t *txn) error {
		var notes [][]byte
		err := scanOf(t.db, []byte{tableDeliveries}, end, func(key, _ []byte) (bool, error) {
			notes = append(notes, append([]byte(nil), key...))
			return len(notes) < pruneGroup, nil
		})
		more = len(notes) == pruneGroup
		for _, key := range notes {
			if err == nil {
				err = t.pruneDelivery(key, before)
			}
		}
		return err
	})
	return more, err
}

// noteHead is what a key of tableDeliveries begins with: the table and the day.
const noteHead = 5

func (t *txn) pruneDelivery(note []byte, before uint32) error {
	if len(note) < noteHead {
		return fmt.Errorf("key %x of table %c: %w", note, tableDeliveries, errShort)
	}
	tail := note[noteHead:] // the channel and the id, as in tableDelivery
	t.key = append(append(t.key[:0], tableDelivery), tail...)
	v, err := t.get(t.key)
	if err != nil {
		return err
	}
	t.del(note)
	if v == nil {
		return nil
	}
	d, err := decodeDelivery("", v)
	if err != nil {
		return err
	}
	if day(d.at) < before {
		t.del(t.key)
		return nil
	}
	t.key = binary.BigEndian.AppendUint32(append(t.key[:0], tableDeliveries), day(d.at))
	t.key = append(t.key, tail...)
	t.set(t.key, nil)
	return nil
}
