package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

const unsentSQL = `
select id, ordinal, at, data from parley.outbox where conv = $1 order by ordinal, id limit $2`

// Unsent returns up to limit of a conversation's messages that wait in the outbox,
// in the order in which they leave it.
func (s *Store) Unsent(ctx context.Context, c parley.Conversation, limit int) ([]parley.Outgoing, error) {
	var found []parley.Outgoing
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var id [16]byte
		var ordinal, at int64
		var data []byte
		if err := r.Scan(&id, &ordinal, &at, &data); err != nil {
			return err
		}
		o := parley.Outgoing{ID: id, Conversation: c, Ordinal: uint64(ordinal), At: fromMS(at)}
		err := o.DecodeContent(data)
		found = append(found, o)
		return err
	}, unsentSQL, conversationKey(c), max(limit, 0))
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("read outbox", err)
	}
	return found, nil
}
