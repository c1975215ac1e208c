package embedded

import (
	"context"
	"fmt"

	"github.com/parleychat/parley"
)

// Unsent returns up to limit of a conversation's messages that wait in the outbox,
// in the order in which they leave it.
func (s *Store) Unsent(ctx context.Context, c parley.Conversation, limit int) ([]parley.Outgoing, error) {
	var found []parley.Outgoing
	prefix := appendConversation([]byte{tableOutbox}, c)
	err := s.scan(ctx, prefix, prefix, func(key, value []byte) (bool, error) {
		if len(found) >= limit {
			return false, nil
		}
		r := reader{b: key[len(prefix):]}
		o := parley.Outgoing{Conversation: c, Ordinal: r.uint64(), ID: r.id()}
		if err := r.end("message"); err != nil {
			return false, err
		}
		err := decodeOutgoing(&o, value)
		found = append(found, o)
		return true, err
	})
	if err != nil {
		return nil, fmt.Errorf("read outbox: %w", err)
	}
	return found, nil
}
