package postgres

import (
	"context"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

const historySQL = `
select record from parley.history where conv = $1 and version > $2 order by version limit $3`

// History returns the records of commits after a version, in order.
func (s *Store) History(ctx context.Context, c parley.Conversation, after uint64, limit int) ([][]byte, error) {
	var found [][]byte
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var record []byte
		err := r.Scan(&record)
		found = append(found, record)
		return err
	}, historySQL, conversationKey(c), int64(after), max(limit, 0))
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("read history", err)
	}
	return found, nil
}

const registerSQL = `
insert into parley.registration (app, channel) values ($1, $2) on conflict do nothing returning true`

// Register notes that a channel is served through an app, and whether that is
// news.
func (s *Store) Register(ctx context.Context, r parley.Registration) (fresh bool, err error) {
	b := s.begin()
	b.row([]any{&fresh}, registerSQL, []byte(r.App), channelKey(r.Channel))
	if err := s.send(ctx, s.work, b); err != nil {
		return false, failure("register channel", err)
	}
	return fresh, nil
}

const registeredSQL = `select app, channel from parley.registration`

// Registered returns all registrations.
func (s *Store) Registered(ctx context.Context) ([]parley.Registration, error) {
	var found []parley.Registration
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var app, channel []byte
		if err := r.Scan(&app, &channel); err != nil {
			return err
		}
		c, err := parseKey(append(channel, "/-"...))
		found = append(found, parley.Registration{App: parley.App(app), Channel: c.Channel})
		return err
	}, registeredSQL)
	if err := s.send(ctx, s.work, b); err != nil {
		return nil, failure("read registrations", err)
	}
	return found, nil
}

const backlogSQL = `
select
    (select count(*) from parley.inbox),
    (select greatest(` + clock + ` - b.received, 0) from parley.inbox b order by b.received limit 1),
    (select count(*) from parley.outbox),
    (select count(*) from parley.timer),
    (select count(*) from parley.receipt),
    (select count(*) from parley.quarantine),
    (select count(*) from parley.dead),
    (select count(*) from parley.call),
    (select greatest(` + clock + ` - c.at, 0) from parley.call c order by c.id limit 1)`

// Backlog counts what waits. It reads all of it: for people, not for every second.
func (s *Store) Backlog(ctx context.Context) (parley.Backlog, error) {
	var out parley.Backlog
	var oldest, oldestCall *int64
	b := s.begin()
	b.row([]any{&out.Pending, &oldest, &out.Unsent, &out.Timers, &out.Receipts, &out.Quarantined, &out.Dead, &out.Calls, &oldestCall}, backlogSQL, s.now())
	if err := s.send(ctx, s.work, b); err != nil {
		return parley.Backlog{}, failure("backlog", err)
	}
	if oldest != nil {
		out.Oldest = time.Duration(*oldest) * time.Millisecond
	}
	if oldestCall != nil {
		out.OldestCall = time.Duration(*oldestCall) * time.Millisecond
	}
	return out, nil
}

// Reach asks the database for nothing, over a connection of the entrance.
func (s *Store) Reach(ctx context.Context) error {
	b := s.begin()
	b.row([]any{new(bool)}, `select $1::bigint is not null`, s.now())
	if err := s.send(ctx, s.entrance, b); err != nil {
		return failure("reach the database", err)
	}
	return nil
}
