package postgres

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/parleychat/parley"
)

// batch is the statements of one transaction, or of a part of it, sent together.
type batch struct{ pgx.Batch }

// exec adds a statement.
func (b *batch) exec(sql string, args ...any) { b.Queue(sql, args...) }

// rows adds a statement, each of whose rows is given to scan.
func (b *batch) rows(scan func(pgx.Rows) error, sql string, args ...any) {
	b.Queue(sql, args...).Query(func(rows pgx.Rows) error {
		defer rows.Close()
		for rows.Next() {
			if err := scan(rows); err != nil {
				return err
			}
		}
		return rows.Err()
	})
}

// row adds a statement with at most one row, which is scanned into targets.
func (b *batch) row(targets []any, sql string, args ...any) {
	b.rows(func(r pgx.Rows) error { return r.Scan(targets...) }, sql, args...)
}

// preludeSQL gives one transaction the settings that a session of ours has.
func preludeSQL() string {
	var parts []string
	for _, p := range settings() {
		if p[0] != "default_transaction_isolation" {
			parts = append(parts, "set_config('"+p[0]+"', '"+p[1]+"', true)")
		}
	}
	return "select " + strings.Join(parts, ", ")
}

// begin makes a batch, which begins with the settings where sessions are shared.
func (s *Store) begin() *batch {
	b := &batch{}
	if s.prelude {
		b.exec(preludeSQL())
	}
	return b
}

// send runs a batch as one transaction: the server commits it at its end.
func (s *Store) send(ctx context.Context, pool *pgxpool.Pool, b *batch) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	own := sessionOf(conn.Conn())
	own.warned.Store(false)
	if err := conn.SendBatch(ctx, &b.Batch).Close(); err != nil {
		leave(ctx, conn.Conn(), err)
		return err
	}
	if own.warned.Load() {
		return errWarned
	}
	return nil
}

// readOnly is the answer of a database that has become a standby.
const readOnly = "25006"

// leave closes a connection to a database that takes no writes any more: the next
// one may lead to its successor.
func leave(ctx context.Context, c *pgx.Conn, cause error) {
	var pg *pgconn.PgError
	if errors.As(cause, &pg) && pg.Code == readOnly {
		_ = c.Close(ctx) // it has nothing to lose
	}
}

// script runs statements that are run once, as one transaction: nothing of them is
// prepared, and the later ones may use what the earlier ones make.
func (s *Store) script(ctx context.Context, statements ...string) ([]*pgconn.Result, error) {
	conn, err := s.work.Acquire(ctx)
	if err != nil {
		return nil, err
	}
	defer conn.Release()
	if s.prelude {
		statements = append([]string{preludeSQL()}, statements...)
	}
	return conn.Conn().PgConn().Exec(ctx, strings.Join(statements, ";\n")).ReadAll()
}

// rollbackTimeout is what it may take to keep a connection whose transaction
// came to nothing.
const rollbackTimeout = time.Second

// transact runs steps as one transaction: each returns what is to be sent next,
// and may decide by what the one before has read. An error of a step rolls back.
func (s *Store) transact(ctx context.Context, pool *pgxpool.Pool, steps ...func(*batch) error) error {
	conn, err := pool.Acquire(ctx)
	if err != nil {
		return err
	}
	defer conn.Release() // closes it if its transaction is still open
	own := sessionOf(conn.Conn())
	own.warned.Store(false)
	for i, step := range steps {
		b := &batch{}
		if i == 0 {
			b.exec("begin")
			b.QueuedQueries = append(b.QueuedQueries, s.begin().QueuedQueries...)
		}
		err := step(b)
		if i == len(steps)-1 {
			b.exec("commit")
		}
		if err == nil && b.Len() > 0 {
			err = conn.SendBatch(ctx, &b.Batch).Close()
		}
		if err != nil {
			leave(ctx, conn.Conn(), err)
			rollback(ctx, conn.Conn())
			return err
		}
	}
	if own.warned.Load() {
		return errWarned
	}
	return nil
}

func rollback(ctx context.Context, c *pgx.Conn) {
	if c.IsClosed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), rollbackTimeout)
	defer cancel()
	_, _ = c.Exec(ctx, "rollback") // if not, the connection is closed
}

// fenced is for statements that report under which lock they ran: none, no right.
func fenced(held bool) error {
	if !held {
		return parley.ErrFenced
	}
	return nil
}
