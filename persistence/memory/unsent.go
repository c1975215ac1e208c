package memory

import (
	"context"

	"github.com/parleychat/parley"
)

// Unsent returns up to limit of a conversation's messages that wait in the outbox.
func (s *Store) Unsent(ctx context.Context, c parley.Conversation, limit int) ([]parley.Outgoing, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var found []parley.Outgoing
	for _, m := range s.outbox {
		if m.Conversation == c && len(found) < limit {
			found = append(found, m.Outgoing)
		}
	}
	return found, nil
}
