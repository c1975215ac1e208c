package postgres

import (
	"context"
	"database/sql"
	"embed"
	"errors"
	"fmt"
	"io/fs"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/stdlib"
	"github.com/pressly/goose/v3"
	"github.com/pressly/goose/v3/lock"
)

//go:embed migrations/*.sql
var migrations embed.FS

// Schema is the version of the schema that this program was made for: the number
// of its newest migration.
const Schema = 8

// migrationTable is where goose notes what it has done.
const migrationTable = "parley.migration"

// migrateLockTimeout is how long a step of a migration waits for the lock on a
// table. It waits in front of everybody else's statements, so it must not be long;
// a step that didn't get its lock has changed nothing and is to be tried again.
const migrateLockTimeout = 5 * time.Second

// Migration is one step of the schema.
type Migration struct {
	Version int64
	Name    string
	Applied time.Time // zero if it is not
}

// Migrate brings the schema of a database up to this program's, and returns the
// steps that were made. Any number of processes may call it at the same time: one
// works, the others wait and find it done. It never goes back.
func Migrate(ctx context.Context, url string) (made []Migration, err error) {
	p, closeDB, err := provider(url)
	if err != nil {
		return nil, fmt.Errorf("migrate: %w", err)
	}
	defer func() { err = errors.Join(err, closeDB()) }()
	if err := createSchema(ctx, url); err != nil {
		return nil, failure("migrate: create schema", err)
	}
	results, err := p.Up(ctx)
	for _, r := range results {
		if r.Error == nil {
			made = append(made, Migration{Version: r.Source.Version, Name: r.Source.Path})
		}
	}
	if err != nil {
		return made, failure("migrate", err)
	}
	return made, nil
}

// Status lists the steps of the schema and which of them a database has.
func Status(ctx context.Context, url string) (all []Migration, err error) {
	p, closeDB, err := provider(url)
	if err != nil {
		return nil, fmt.Errorf("migration status: %w", err)
	}
	defer func() { err = errors.Join(err, closeDB()) }()
	version, _, err := readSchema(ctx, url)
	if err != nil {
		return nil, failure("migration status", err)
	}
	for _, source := range p.ListSources() {
		all = append(all, Migration{Version: source.Version, Name: source.Path})
	}
	if version == 0 {
		return all, nil
	}
	status, err := p.Status(ctx)
	if err != nil {
		return nil, failure("migration status", err)
	}
	for i, s := range status {
		all[i].Applied = s.AppliedAt
	}
	return all, nil
}

// provider is goose on a database, behind a lock of the session.
func provider(url string) (*goose.Provider, func() error, error) {
	db, err := openSQL(url)
	if err != nil {
		return nil, nil, err
	}
	locker, err := lock.NewPostgresSessionLocker()
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	steps, err := fs.Sub(migrations, "migrations")
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	p, err := goose.NewProvider(goose.DialectPostgres, db, steps,
		goose.WithSessionLocker(locker), goose.WithTableName(migrationTable), goose.WithDisableGlobalRegistry(true))
	if err != nil {
		return nil, nil, errors.Join(err, db.Close())
	}
	return p, db.Close, nil
}

func openSQL(url string) (*sql.DB, error) {
	cfg, err := poolConfig(url, defaultConnectTimeout)
	if err != nil {
		return nil, err
	}
	if !shared(cfg.ConnConfig) {
		cfg.ConnConfig.RuntimeParams["lock_timeout"] = fmt.Sprint(migrateLockTimeout.Milliseconds())
	}
	return stdlib.OpenDB(*cfg.ConnConfig), nil
}

// createSchema makes the schema in which everything is. Two who do so at once may
// both see that it is missing; one of them is told that it was there after all.
func createSchema(ctx context.Context, url string) error {
	conn, err := connectOnce(ctx, url)
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }() // nothing is lost by it
	_, err = conn.Exec(ctx, "create schema if not exists parley")
	var pg *pgconn.PgError
	if errors.As(err, &pg) && (pg.Code == "23505" || pg.Code == "42P06") {
		return nil
	}
	return err
}

func connectOnce(ctx context.Context, url string) (*pgx.Conn, error) {
	cfg, err := poolConfig(url, defaultConnectTimeout)
	if err != nil {
		return nil, err
	}
	return pgx.ConnectConfig(ctx, cfg.ConnConfig)
}

// readSchema tells which version a database's schema has, 0 if none, and the
// oldest version whose programs may work with it.
func readSchema(ctx context.Context, url string) (version, oldest int64, err error) {
	conn, err := connectOnce(ctx, url)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = conn.Close(ctx) }() // as above
	var there bool
	err = conn.QueryRow(ctx, "select to_regclass('parley.contract') is not null").Scan(&there)
	if err != nil || !there {
		return 0, 0, err
	}
	err = conn.QueryRow(ctx, `
select (select coalesce(max(version_id), 0) from `+migrationTable+` where is_applied), (select oldest from parley.contract)`).Scan(&version, &oldest)
	return version, oldest, err
}

// ErrSchema is wrapped by errors about a schema that this program can't work with.
var ErrSchema = errors.New("the database's schema doesn't fit this program")

// checkSchema applies the rule by which programs of two versions run on one
// database. A release adds to the schema what the next will use, and takes away
// only what the one before used (expand, then contract). Each step that takes
// something away raises parley.contract.oldest. So a program works with any schema
// that has at least what it was made for, and doesn't exclude it.
func (s *Store) checkSchema(ctx context.Context) error {
	version, oldest, err := readSchema(ctx, s.cfg.URL)
	switch {
	case err != nil:
		return failure("read schema", err)
	case version == 0:
		return fmt.Errorf("%w: it has none; run: parley migrate up", ErrSchema)
	case version < Schema:
		return fmt.Errorf("%w: it has version %d, this program needs %d; run: parley migrate up", ErrSchema, version, Schema)
	case oldest > Schema:
		return fmt.Errorf("%w: it has version %d, which programs made for less than version %d can't use, and this one was made for %d; start a newer parley",
			ErrSchema, version, oldest, Schema)
	}
	return nil
}
