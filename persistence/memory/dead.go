package memory

import (
	"context"
	"fmt"
	"io"
	"slices"

	"github.com/parleychat/parley"
)

// DeadLetters returns a page of the dead letters that the query means.
func (s *Store) DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var found []parley.DeadLetter
	for i := range s.dead {
		if d := &s.dead[i]; q.Means(d) && q.Behind(d) {
			found = append(found, *d)
		}
	}
	slices.SortFunc(found, func(a, b parley.DeadLetter) int { return q.Order(&a, &b) })
	return found[:min(len(found), q.Page())], nil
}

// RetryDeadLetter puts a dead letter's message back into the outbox, or its event
// into the inbox, and removes the letter. reads is as for parley.RetryMessage.
func (s *Store) RetryDeadLetter(ctx context.Context, id parley.ID, reads int) (parley.Retried, error) {
	if err := s.begin(ctx); err != nil {
		return parley.Retried{}, err
	}
	defer s.end()
	i := s.letter(id)
	if i < 0 {
		return parley.Retried{}, fmt.Errorf("retry dead letter: %w", parley.ErrNoLetter)
	}
	r := parley.Retried{Letter: s.dead[i]}
	into := s.final(r.Letter.Conversation)
	var err error
	if r.Letter.Kind() == parley.DeadMessage {
		err = s.retryMessage(r.Letter, into, reads)
	} else {
		r.Rows, err = s.retryEvent(r.Letter, into, reads)
	}
	if err != nil {
		return parley.Retried{}, fmt.Errorf("retry dead letter: %w", err)
	}
	s.dead = slices.Delete(s.dead, i, i+1)
	s.post(parley.PostRetry(&r.Letter, s.now())...)
	return r, nil
}

func (s *Store) retryMessage(d parley.DeadLetter, into parley.Conversation, reads int) error {
	snapshot, err := s.snapshot(into)
	if err != nil {
		return err
	}
	var nonce [16]byte
	if _, err := io.ReadFull(s.cfg.Random, nonce[:]); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	c, err := parley.RetryMessage(snapshot, d, s.now(), nonce, reads)
	if err != nil {
		return err
	}
	return s.commit(&c)
}

func (s *Store) retryEvent(d parley.DeadLetter, into parley.Conversation, reads int) ([]parley.Pending, error) {
	token, err := s.token()
	if err != nil {
		return nil, err
	}
	p, err := parley.RetryEvent(d, into, token, reads)
	if err != nil {
		return nil, err
	}
	s.enqueue(&p)
	return []parley.Pending{p}, nil
}

// letter is where a dead letter is among all; -1 if it isn't.
func (s *Store) letter(id parley.ID) int {
	return slices.IndexFunc(s.dead, func(d parley.DeadLetter) bool { return d.ID == id })
}

// DropDeadLetter removes a dead letter for good.
func (s *Store) DropDeadLetter(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	if err := s.begin(ctx); err != nil {
		return parley.DeadLetter{}, err
	}
	defer s.end()
	i := s.letter(id)
	if i < 0 {
		return parley.DeadLetter{}, fmt.Errorf("drop dead letter: %w", parley.ErrNoLetter)
	}
	gone := s.dead[i]
	s.dead = slices.Delete(s.dead, i, i+1)
	s.post(parley.PostDrop(&gone, s.now())...)
	return gone, nil
}
