package embedded

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"slices"

	"github.com/parleychat/parley"
)

// Try notes rows that are about to be run: see actors.Suspects. A row that is
// noted already is written once more as it is, since whoever noted it may still
// wait for the disk: so the answer is durable too.
func (s *Store) Try(ctx context.Context, rows []parley.Row) (tried []parley.Row, err error) {
	err = s.write(ctx, makesSpace, func(t *txn) error {
		notes := make([][]byte, 0, len(rows))
		sorted := each(rows)
		for _, r := range sorted {
			v, err := t.get(suspectKey(nil, r))
			if err != nil {
				return err
			}
			if v != nil {
				tried = append(tried, r)
			} else {
				v = binary.AppendVarint([]byte{rowFormat}, t.now)
			}
			notes = append(notes, slices.Clone(v))
		}
		for i, r := range sorted {
			t.key = suspectKey(t.key[:0], r)
			t.set(t.key, notes[i])
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("note suspects: %w", err)
	}
	return tried, nil
}

// Acquit forgets rows that were run: see actors.Suspects.
func (s *Store) Acquit(ctx context.Context, rows []parley.Row) error {
	err := s.write(ctx, makesSpace, func(t *txn) error {
		for _, r := range rows {
			t.key = suspectKey(t.key[:0], r)
			t.del(t.key)
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("acquit suspects: %w", err)
	}
	return nil
}

// each is rows in the order of numbers, each once.
func each(rows []parley.Row) []parley.Row {
	sorted := slices.SortedFunc(slices.Values(rows), func(a, b parley.Row) int {
		return cmp.Or(cmp.Compare(a.Seq, b.Seq), cmp.Compare(a.Token, b.Token))
	})
	return slices.Compact(sorted)
}

// pruneSuspects goes through the next suspects behind a key, and forgets those
// that are old. It returns the last key that it looked at; nil at the end.
func (s *Store) pruneSuspects(ctx context.Context, from []byte) (last []byte, err error) {
	err = s.write(ctx, makesSpace, func(t *txn) error {
		looked := 0
		err := scanOf(t.db, behind(from), after([]byte{tableSuspect}), func(key, value []byte) (bool, error) {
			r, err := readRow(tableSuspect, value)
			if err != nil {
				return false, err
			}
			noted := r.varint()
			if err := r.end("suspect"); err != nil {
				return false, err
			}
			if t.now-noted > parley.SuspectFor.Milliseconds() {
				t.del(key)
			}
			if looked++; looked == pruneGroup {
				last = slices.Clone(key)
			}
			return looked < pruneGroup, nil
		})
		return err
	})
	return last, err
}
