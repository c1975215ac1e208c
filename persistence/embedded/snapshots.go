package embedded

import (
	"context"
	"fmt"

	"github.com/parleychat/parley"
)

// Snapshots calls each with up to limit stored conversations: those behind a
// conversation, in an order that stays the same; all of them come by pages of which
// each begins behind the last of the one before. One that can't be read comes with
// its error, parley.ErrFormat if it is of a newer format, and with nothing of it but
// its name. What changes meanwhile is seen or not.
func (s *Store) Snapshots(ctx context.Context, after parley.Conversation, limit int, each func(parley.Snapshot, error)) error {
	table := []byte{tableConv}
	begin := table
	if after != (parley.Conversation{}) {
		begin = behind(appendConversation(table, after))
	}
	if limit <= 0 {
		return nil
	}
	err := s.scan(ctx, begin, table, func(key, value []byte) (bool, error) {
		r, err := readKey(tableConv, key)
		if err != nil {
			return false, err
		}
		snapshot := parley.Snapshot{Conversation: r.conversation()}
		if r.err != nil {
			return false, r.err
		}
		err = snapshot.UnmarshalBinary(value)
		each(snapshot, err)
		limit--
		return limit > 0, nil
	})
	if err != nil {
		return fmt.Errorf("read snapshots: %w", err)
	}
	return nil
}
