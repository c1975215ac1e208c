package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// History returns up to limit of the records that commits of c have left, those
// of versions greater than version, in order.
func (s *Store) History(ctx context.Context, c parley.Conversation, version uint64, limit int) ([][]byte, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	conv := appendConversation(nil, c)
	var found [][]byte
	for d, ok, err := s.nextDay(tableHistory, 0); len(found) < limit; d, ok, err = s.nextDay(tableHistory, d+1) {
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
		if !ok {
			break
		}
		begin := historyKey(nil, d, conv, version)
		err := scanOf(s.db, behind(begin), after(begin[:len(begin)-8]), func(_, value []byte) (bool, error) {
			r, err := readRow(tableHistory, value)
			if err != nil {
				return false, err
			}
			found = append(found, append([]byte(nil), r.b...))
			return len(found) < limit, nil
		})
		if err != nil {
			return nil, fmt.Errorf("read history: %w", err)
		}
	}
	return found, nil
}

// nextDay finds the first day from d on that has rows in a table by day.
func (s *Store) nextDay(table byte, d uint32) (found uint32, ok bool, err error) {
	begin := binary.BigEndian.AppendUint32([]byte{table}, d)
	err = scanOf(s.db, begin, after([]byte{table}), func(key, _ []byte) (bool, error) {
		r := reader{b: key[1:]}
		found, ok = r.uint32(), true
		return false, r.err
	})
	return found, ok, err
}

// Backlog counts what waits. It reads memory only.
func (s *Store) Backlog(ctx context.Context) (parley.Backlog, error) {
	if err := s.enter(ctx); err != nil {
		return parley.Backlog{}, err
	}
	defer s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.backlog(), nil
}

func (s *Store) backlog() parley.Backlog {
	b := parley.Backlog{
		Pending: s.arrived.live, Unsent: s.counts.unsent, Timers: s.counts.timers,
		Receipts: s.counts.receipts, Quarantined: s.counts.quarantined, Dead: s.counts.dead, Calls: len(s.calling.byID),
	}
	if a, ok := s.arrived.front(); ok {
		b.Oldest = time.Duration(s.now()-a.row.received) * time.Millisecond
	}
	if oldest := s.calling.oldest(); oldest != never {
		b.OldestCall = time.Duration(max(s.now()-oldest, 0)) * time.Millisecond
	}
	return b
}

// Register notes durably that a channel is served through an app, and reports
// whether that is news.
func (s *Store) Register(ctx context.Context, r parley.Registration) (fresh bool, err error) {
	key := appendChannel(appendName([]byte{tableRegistered}, r.App), r.Channel)
	err = s.write(ctx, makesSpace, func(t *txn) error {
		v, err := t.get(key)
		if err != nil {
			return err
		}
		if fresh = v == nil; fresh {
			t.set(key, []byte{rowFormat})
		}
		return nil
	})
	if err != nil {
		return false, fmt.Errorf("register channel: %w", err)
	}
	return fresh, nil
}

// Registered returns all registrations, by app and channel.
func (s *Store) Registered(ctx context.Context) ([]parley.Registration, error) {
	var found []parley.Registration
	table := []byte{tableRegistered}
	err := s.scan(ctx, table, table, func(key, _ []byte) (bool, error) {
		r, err := readKey(tableRegistered, key)
		if err != nil {
			return false, err
		}
		found = append(found, parley.Registration{App: parley.App(r.string()), Channel: r.channel()})
		return true, r.end("registration")
	})
	if err != nil {
		return nil, fmt.Errorf("read registrations: %w", err)
	}
	return found, nil
}
