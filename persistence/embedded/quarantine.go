package embedded

import (
	"context"
	"fmt"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleychat/parley"
)

func (t *txn) quarantine(q parley.Quarantined, random [16]byte) {
	q.ID = t.lastID.next(t.now, random)
	q.Received = fromMS(t.now)
	t.counts.quarantined++
	t.key = quarantineKey(t.key[:0], &q)
	t.val = appendQuarantined(t.val[:0], &q)
	t.set(t.key, t.val)
	t.set(quarantineIndexKey(q.ID), append([]byte{rowFormat}, t.key...))
}

func quarantineIndexKey(id parley.ID) []byte {
	return append([]byte{tableQuarIndex}, id[:]...)
}

// Quarantined reads entries of the quarantine: see ingress.Quarantine. An entry
// belongs to the channel if it names the channel's kind and id.
func (s *Store) Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	pattern := parley.Quarantined{ID: after, App: app, Kind: ch.Kind, ChannelID: ch.ID}
	begin := quarantineKey(nil, &pattern)
	prefix := begin[:len(begin)-len(after)]
	var found []parley.Quarantined
	err := s.scan(ctx, behind(begin), prefix, func(key, value []byte) (bool, error) {
		if len(found) >= limit {
			return false, nil
		}
		q := pattern
		q.ID = parley.ID(key[len(prefix):])
		found = append(found, q)
		return true, decodeQuarantined(&found[len(found)-1], value)
	})
	if err != nil {
		return nil, fmt.Errorf("read quarantine: %w", err)
	}
	return found, nil
}

// Release moves entries from the quarantine to where they belong: see
// ingress.Quarantine.
func (s *Store) Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	datas, err := encodeInputs(a.Events)
	if err != nil {
		return nil, fmt.Errorf("release from quarantine: %w", err)
	}
	kind := bringsEvents
	if a.Empty() {
		kind = makesSpace
	}
	var rows []parley.Pending
	err = s.writeArrivals(ctx, kind, a.Events, func(t *txn, united bool) error {
		keys, missing, err := t.quarantineKeys(ids)
		if err != nil {
			return err
		}
		released, err := t.releases(keys)
		if err != nil {
			return err
		}
		if missing && !a.Empty() {
			return parley.ErrConflict
		}
		if rows, err = t.arrive(a, datas, united); err != nil {
			return err
		}
		for id, key := range keys {
			t.delOnce(key)
			t.delOnce(quarantineIndexKey(id))
			t.counts.quarantined--
		}
		t.post(released...)
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("release from quarantine: %w", err)
	}
	return rows, nil
}

// quarantineKeys finds entries by their ids, and whether some aren't there any more.
func (t *txn) quarantineKeys(ids []parley.ID) (keys map[parley.ID][]byte, missing bool, err error) {
	keys = make(map[parley.ID][]byte, len(ids))
	for _, id := range ids {
		v, err := t.get(quarantineIndexKey(id))
		if err != nil {
			return nil, false, err
		}
		if v == nil {
			missing = true
			continue
		}
		r, err := readRow(tableQuarIndex, v)
		if err != nil {
			return nil, false, err
		}
		keys[id] = append([]byte(nil), r.b...)
	}
	return keys, missing, nil
}

// releases counts entries that are to be taken out.
func (t *txn) releases(keys map[parley.ID][]byte) (all []parley.Posting, _ error) {
	for _, key := range keys {
		v, err := t.get(key)
		if err != nil {
			return nil, err
		}
		r, err := readRow(tableQuarantine, v)
		if err != nil {
			return nil, err
		}
		all = append(all, parley.PostRelease(r.time()))
	}
	return all, nil
}

// behind is the smallest key that is greater than key.
func behind(key []byte) []byte { return append(append([]byte(nil), key...), 0) }

// scan calls each for the rows from begin on whose keys have the prefix, until
// each says stop.
func (s *Store) scan(ctx context.Context, begin, prefix []byte, each func(key, value []byte) (bool, error)) error {
	if err := s.enter(ctx); err != nil {
		return err
	}
	defer s.leave()
	return scanOf(s.db, begin, after(prefix), each)
}

func scanOf(from pebble.Reader, begin, end []byte, each func(key, value []byte) (bool, error)) (err error) {
	it, err := from.NewIter(&pebble.IterOptions{LowerBound: begin, UpperBound: end})
	if err != nil {
		return err
	}
	defer func() {
		if cerr := it.Close(); err == nil {
			err = cerr
		}
	}()
	for it.First(); it.Valid(); it.Next() {
		value, err := it.ValueAndErr()
		if err != nil {
			return err
		}
		if more, err := each(it.Key(), value); err != nil || !more {
			return err
		}
	}
	return it.Error()
}
