package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// snapshotsSQL reads a page of conversations by the primary key. A conversation
// that was inserted and never committed has no snapshot.
const snapshotsSQL = `
select conv, snapshot from parley.conversation
where conv > $1 and snapshot <> '' order by conv limit $2`

// Snapshots calls each with up to limit stored conversations: those behind a
// conversation, in an order that stays the same; all of them come by pages of which
// each begins behind the last of the one before. One that can't be read comes with
// its error, parley.ErrFormat if it is of a newer format, and with nothing of it but
// its name. What changes meanwhile is seen or not.
func (s *Store) Snapshots(ctx context.Context, after parley.Conversation, limit int, each func(parley.Snapshot, error)) error {
	begin := []byte{}
	if after != (parley.Conversation{}) {
		begin = conversationKey(after)
	}
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var conv, stored []byte
		if err := r.Scan(&conv, &stored); err != nil {
			return err
		}
		c, err := parseKey(conv)
		if err != nil {
			return err
		}
		snapshot := parley.Snapshot{Conversation: c}
		err = unpackSnapshot(&snapshot, stored)
		each(snapshot, err)
		return nil
	}, snapshotsSQL, begin, max(limit, 0))
	if err := s.send(ctx, s.work, b); err != nil {
		return failure("read snapshots", err)
	}
	return nil
}
