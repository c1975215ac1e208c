package postgres

import (
	"context"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

const loadSnapshotSQL = `select snapshot from parley.conversation where conv = $1`

// loadRowsSQL reads the first rows of a conversation and of those it has
// absorbed, each from the beginning of its own range.
const loadRowsSQL = `
select r.seq, r.token, r.received, r.at, r.key, r.late, r.data
from (
    select $1::smallint as shard, $2::bytea as conv
    union all
    select m.shard, m.younger from parley.merged m where m.survivor = $2::bytea
) k
cross join lateral (
    select b.seq, b.token, b.received, b.at, b.key, b.late, b.data
    from parley.inbox b where b.shard = k.shard and b.conv = k.conv order by b.seq limit $3
) r
order by r.seq limit $3`

// Load reads a conversation: see actors.Store. The two statements may see two
// moments; if a turn was committed between them, the commit of what was loaded
// is a conflict.
func (s *Store) Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error) {
	loaded := parley.Loaded{Snapshot: parley.Snapshot{Conversation: c}}
	limit = max(limit, 0)
	key := conversationKey(c)
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var snapshot []byte
		if err := r.Scan(&snapshot); err != nil {
			return err
		}
		return unpackSnapshot(&loaded.Snapshot, snapshot)
	}, loadSnapshotSQL, key)
	b.rows(func(r pgx.Rows) error {
		p, err := scanPending(r, c)
		if err != nil {
			return err
		}
		loaded.Pending = append(loaded.Pending, p)
		return nil
	}, loadRowsSQL, int16(c.Shard()), key, limit+1)
	if err := s.send(ctx, s.work, b); err != nil {
		return parley.Loaded{}, failure("load conversation", err)
	}
	if loaded.More = len(loaded.Pending) > limit; loaded.More {
		loaded.Pending = loaded.Pending[:limit]
	}
	if loaded.Snapshot.MergedInto != "" {
		loaded.Pending, loaded.More = nil, false // they are the survivor's
	}
	return loaded, nil
}

// scanPending reads a row of the inbox as one of c.
func scanPending(r pgx.Rows, c parley.Conversation) (parley.Pending, error) {
	p := parley.Pending{Conversation: c}
	var seq, token, received, at int64
	var key []byte
	if err := r.Scan(&seq, &token, &received, &at, &key, &p.Late, &p.Data); err != nil {
		return p, err
	}
	if len(key) != len(p.Key) {
		return p, errStored
	}
	p.Seq, p.Token, p.Key = parley.Seq(seq), parley.Token(token), parley.EventKey(key)
	p.Received, p.Time = fromMS(received), fromMS(at)
	var err error
	p.Input, err = parley.DecodeInput(p.Data)
	return p, err
}

const olderSQL = `
select s.key from (
    select $2::bytea as conv
    union all
    select m.younger from parley.merged m where m.survivor = $2::bytea
) c
cross join unnest($3::bytea[]) as k (key)
join parley.seen s on s.conv = c.conv and s.key = k.key
where s.at >= ` + clock + ` - $4::bigint`

// Older returns those of keys that took effect long ago: see actors.Store.
func (s *Store) Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error) {
	found := map[parley.EventKey]bool{}
	if len(keys) == 0 {
		return found, nil
	}
	wanted := make([][]byte, len(keys))
	for i := range keys {
		wanted[i] = keys[i][:]
	}
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var key []byte
		err := r.Scan(&key)
		if err == nil && len(key) == len(parley.EventKey{}) {
			found[parley.EventKey(key)] = true
		}
		return err
	}, olderSQL, s.now(), conversationKey(c), wanted, parley.SeenFor.Milliseconds())
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("look up older keys", err)
	}
	return found, nil
}
