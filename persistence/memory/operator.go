package memory

import (
	"cmp"
	"context"
	"maps"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// Register notes that a channel is served through an app, and whether that is
// news.
func (s *Store) Register(ctx context.Context, r parley.Registration) (bool, error) {
	if err := s.begin(ctx); err != nil {
		return false, err
	}
	defer s.end()
	if slices.Contains(s.apps, r) {
		return false, nil
	}
	s.apps = append(s.apps, r)
	return true, nil
}

// Registered returns all registrations in the order in which they were made.
func (s *Store) Registered(ctx context.Context) ([]parley.Registration, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	return slices.Clone(s.apps), nil
}

// History returns the records of commits after a version.
func (s *Store) History(ctx context.Context, c parley.Conversation, after uint64, limit int) ([][]byte, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var found [][]byte
	if st, ok := s.stored[c]; ok {
		for _, r := range st.history {
			if r.version > after && len(found) < limit {
				found = append(found, slices.Clone(r.json))
			}
		}
	}
	return found, nil
}

// Backlog counts what waits.
func (s *Store) Backlog(ctx context.Context) (parley.Backlog, error) {
	if err := s.begin(ctx); err != nil {
		return parley.Backlog{}, err
	}
	defer s.end()
	b := parley.Backlog{
		Pending: len(s.inbox), Unsent: len(s.outbox), Timers: len(s.agenda),
		Quarantined: len(s.quar), Dead: len(s.dead), Calls: len(s.calls),
	}
	for _, c := range s.calls {
		b.OldestCall = max(b.OldestCall, s.now().Sub(c.At))
	}
	if len(s.inbox) > 0 {
		b.Oldest = s.now().Sub(s.inbox[0].Received)
	}
	for _, ch := range s.channels {
		b.Receipts += len(ch.receipts)
	}
	return b, nil
}

// Prune drops what is older than it must be kept.
func (s *Store) Prune(ctx context.Context, historyFor time.Duration) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	now := s.now()
	old := func(at time.Time, keep time.Duration) bool { return now.Sub(at) > keep }
	for _, st := range s.stored {
		st.history = slices.DeleteFunc(st.history, func(r record) bool { return old(r.at, historyFor) })
		for k, at := range st.older {
			if old(at, parley.SeenFor) {
				delete(st.older, k)
			}
		}
	}
	maps.DeleteFunc(s.suspects, func(_ parley.Row, at time.Time) bool { return old(at, parley.SuspectFor) })
	for _, ch := range s.channels {
		for id, d := range ch.deliveries {
			if old(d.At, historyFor) {
				delete(ch.deliveries, id)
			}
		}
	}
	return nil
}

// Snapshots calls each with up to limit stored conversations: those behind a
// conversation, in the order of their names. One that can't be read comes with its
// error, and with nothing of it but its name.
func (s *Store) Snapshots(ctx context.Context, after parley.Conversation, limit int, each func(parley.Snapshot, error)) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	byName := func(a, b parley.Conversation) int { return cmp.Compare(a.String(), b.String()) }
	for _, c := range slices.SortedFunc(maps.Keys(s.stored), byName) {
		if limit <= 0 {
			return nil
		}
		stored := s.stored[c].snapshot
		if after != (parley.Conversation{}) && byName(c, after) <= 0 || len(stored) == 0 {
			continue
		}
		snapshot := parley.Snapshot{Conversation: c}
		err := snapshot.UnmarshalBinary(stored)
		each(snapshot, err)
		limit--
	}
	return nil
}
