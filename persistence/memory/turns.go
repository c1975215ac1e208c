package memory

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// Load is actors.Store's.
func (s *Store) Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error) {
	if err := s.begin(ctx); err != nil {
		return parley.Loaded{}, err
	}
	defer s.end()
	snapshot, err := s.snapshot(c)
	if err != nil {
		return parley.Loaded{}, fmt.Errorf("load conversation: %w", err)
	}
	loaded := parley.Loaded{Snapshot: snapshot}
	for _, p := range s.inbox {
		if s.final(p.Conversation) != c {
			continue
		}
		if loaded.More = len(loaded.Pending) >= limit; loaded.More {
			break
		}
		p.Conversation = c
		loaded.Pending = append(loaded.Pending, p)
	}
	return loaded, nil
}

func (s *Store) snapshot(c parley.Conversation) (parley.Snapshot, error) {
	snapshot := parley.Snapshot{Conversation: c}
	if st, ok := s.stored[c]; ok && st.snapshot != nil {
		if err := snapshot.UnmarshalBinary(st.snapshot); err != nil {
			return parley.Snapshot{}, err
		}
	}
	return snapshot, nil
}

// Older is actors.Store's.
func (s *Store) Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	found := map[parley.EventKey]bool{}
	for part, st := range s.stored {
		if !s.within(part, c) {
			continue
		}
		for _, k := range keys {
			if at, ok := st.older[k]; ok && s.now().Sub(at) <= parley.SeenFor {
				found[k] = true
			}
		}
	}
	return found, nil
}

// Commit is actors.Store's.
func (s *Store) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	errs := make([]error, len(commits))
	for i := range commits {
		errs[i] = s.commit(&commits[i])
	}
	return errs, nil
}

func (s *Store) commit(c *parley.Commit) error {
	snapshot, err := c.Next.AppendBinary(nil)
	if err != nil {
		return fmt.Errorf("commit: %w", err)
	}
	st := s.conversation(c.Conversation)
	if st.version != c.Base || !slices.Equal(s.through(c), c.Saw) {
		return parley.ErrConflict
	}
	s.inbox = slices.DeleteFunc(s.inbox, func(p parley.Pending) bool {
		return s.final(p.Conversation) == c.Conversation && p.Seq <= c.Through
	})
	st.snapshot, st.version = snapshot, c.Next.Version
	if len(c.History) > 0 {
		st.history = append(st.history, record{version: c.Next.Version.Number, at: s.now(), json: slices.Clone(c.History)})
	}
	for _, k := range c.Evicted {
		st.older[k.Key] = millis(k.At)
	}
	for _, gone := range c.CancelTimers {
		s.agenda = slices.DeleteFunc(s.agenda, func(t due) bool { return t.ID == gone.ID })
	}
	for _, t := range c.SetTimers {
		t.Due = millis(t.Due)
		s.agenda = append(s.agenda, due{Timer: t, conversation: c.Conversation})
	}
	slices.SortFunc(s.agenda, byDue)
	for _, o := range c.Outbox {
		o.At, o.Conversation = millis(o.At), c.Conversation
		s.outbox = append(s.outbox, &message{Outgoing: o})
	}
	s.silence(c)
	s.takeCalls(c)
	for _, d := range c.Dead {
		d.At = millis(d.At)
		s.dead = append(s.dead, d)
	}
	s.post(c.Postings...)
	return nil
}

// silence marks what a commit silences.
func (s *Store) silence(c *parley.Commit) {
	for _, m := range s.outbox {
		own := m.Conversation == c.Conversation && m.Ordinal <= c.Silence
		if own || c.Silence > 0 && m.Conversation != c.Conversation && s.within(m.Conversation, c.Conversation) {
			m.silenced = true
		}
	}
}

// through is the rows of the commit's conversation up to its last number: what
// the turn must have seen.
func (s *Store) through(c *parley.Commit) []parley.Row {
	var rows []parley.Row
	for i := range s.inbox {
		if p := &s.inbox[i]; s.final(p.Conversation) == c.Conversation && p.Seq <= c.Through {
			rows = append(rows, p.Row)
		}
	}
	return rows
}

// Overdue is actors.Agenda's.
func (s *Store) Overdue(ctx context.Context, owned func(uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	now := s.now()
	var found []parley.Conversation
	for i := range s.inbox {
		c := s.final(s.inbox[i].Conversation)
		if now.Sub(s.inbox[i].Received) > age && len(found) < limit && owned(c.Shard()) && !slices.Contains(found, c) {
			found = append(found, c)
		}
	}
	return found, nil
}

// FireTimers is actors.Agenda's.
func (s *Store) FireTimers(ctx context.Context, owned func(uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error) {
	if err := s.begin(ctx); err != nil {
		return nil, 0, err
	}
	defer s.end()
	now, wait := s.now(), horizon
	var rows []parley.Pending
	var left []due
	for i, t := range s.agenda {
		mine := owned(t.conversation.Shard())
		if !mine || t.Due.After(now) || len(rows) >= limit {
			if left = append(left, t); mine {
				wait = min(wait, max(t.Due.Sub(now), 0))
			}
			continue
		}
		p, err := s.fired(t)
		if err != nil { // keep it, and those behind it
			s.agenda = append(left, s.agenda[i:]...)
			return nil, 0, fmt.Errorf("fire timers: %w", err)
		}
		s.enqueue(&p)
		rows = append(rows, p)
	}
	s.agenda = left
	return rows, wait, nil
}

func (s *Store) fired(t due) (parley.Pending, error) {
	token, err := s.token()
	if err != nil {
		return parley.Pending{}, err
	}
	input := parley.TimerFired{Name: t.Name, Generation: t.Generation, Due: t.Due}
	data, err := parley.EncodeInput(input)
	return parley.Pending{
		Row: parley.Row{Token: token}, Conversation: t.conversation,
		Key:   parley.NewEventKey("timer", t.conversation.String(), t.ID.String()),
		Input: input, Data: data,
	}, err
}
