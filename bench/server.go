package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/postgres"
)

const (
	serverStartMax = time.Minute
	dropMax        = time.Minute // for a database to be removed
	// passable lets the server's account, which isn't root, reach its folder.
	passable = 0o711
)

// serverSettings are those that a server in production has at the least, on a
// machine as small as this one may be; the others are PostgreSQL's own, with
// fsync and autovacuum on.
func serverSettings() [][2]string {
	return [][2]string{{"shared_buffers", "256MB"}, {"max_wal_size", "4GB"}}
}

// timestamps has the server note when each transaction was committed.
func timestamps() [2]string { return [2]string{"track_commit_timestamp", "on"} }

// server is the private PostgreSQL of a run. It starts when the first scenario
// needs it, and lives as long as the run: a server that has just been made writes
// its log into files that it must make first, and the settled one is what costs
// day by day. Each measurement has a database of its own, so that none inherits
// another's dead rows or pages that wait to be written.
type server struct {
	folder  string      // where it may make its own
	further [][2]string // settings
	own     string      // that one
	running *pgserver.Server
	version string
	made    int
}

// start starts the server if that hasn't been done.
func (s *server) start(ctx context.Context) (err error) {
	if s.running != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, serverStartMax)
	defer cancel()
	if s.own, err = os.MkdirTemp(s.folder, "parley-bench-"); err != nil {
		return fmt.Errorf("folder for PostgreSQL: %w", err)
	}
	if err := os.Chmod(s.own, passable); err != nil {
		return fmt.Errorf("folder for PostgreSQL: %w", err)
	}
	settings := map[string]string{}
	for _, set := range append(serverSettings(), s.further...) {
		settings[set[0]] = set[1]
	}
	running, err := pgserver.Start(ctx, pgserver.Config{Dir: filepath.Join(s.own, "data"), Durable: true, Settings: settings})
	if err != nil {
		return err
	}
	s.running = running
	return s.with(ctx, "postgres", func(ctx context.Context, c *pgx.Conn) error {
		return c.QueryRow(ctx, "show server_version").Scan(&s.version)
	})
}

// stop ends the server and removes what it has made.
func (s *server) stop(ctx context.Context) error {
	var err error
	if s.running != nil {
		err = s.running.Stop(context.WithoutCancel(ctx))
		s.running = nil
	}
	if s.own != "" {
		err = errors.Join(err, os.RemoveAll(s.own))
	}
	return err
}

// conditions is what a figure of this server means nothing without; empty if no
// scenario needed it.
func (s *server) conditions() []string {
	if s.version == "" {
		return nil
	}
	said := []string{"PostgreSQL " + s.version + " on the same machine", "fsync on"}
	for _, set := range append(serverSettings(), s.further...) {
		said = append(said, set[0]+" "+set[1])
	}
	return []string{strings.Join(said, ", ") + "; its processes' CPU is part of every figure"}
}

// tell runs statements, each by itself.
func (s *server) tell(ctx context.Context, database string, statements ...string) error {
	return s.with(ctx, database, func(ctx context.Context, c *pgx.Conn) error {
		for _, sql := range statements {
			if _, err := c.Exec(ctx, sql); err != nil {
				return fmt.Errorf("%s: %w", strings.SplitN(strings.TrimSpace(sql), " ", 2)[0], err)
			}
		}
		return nil
	})
}

// with lends a connection.
func (s *server) with(ctx context.Context, database string, do func(context.Context, *pgx.Conn) error) error {
	conn, err := pgx.Connect(ctx, s.running.URL(database))
	if err != nil {
		return fmt.Errorf("connect to PostgreSQL: %w", err)
	}
	return errors.Join(do(ctx, conn), conn.Close(ctx))
}

// database is one measurement's.
type database struct {
	*server
	name string
	url  string
}

// fresh makes a database with Parley's schema in it.
func (s *server) fresh(ctx context.Context) (*database, error) {
	if err := s.start(ctx); err != nil {
		return nil, err
	}
	s.made++
	d := &database{server: s, name: fmt.Sprint("bench", s.made)}
	d.url = s.running.URL(d.name)
	if err := s.tell(ctx, "postgres", "create database "+d.name); err != nil {
		return nil, err
	}
	_, err := postgres.Migrate(ctx, d.url)
	return d, err
}

// drop removes the database, whoever is still connected.
func (d *database) drop(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), dropMax)
	defer cancel()
	return d.tell(ctx, "postgres", "drop database "+d.name+" with (force)")
}

// queues are the tables from which each turn deletes what it has put there.
const queues = "parley.inbox, parley.outbox, parley.timer, parley.receipt"

// reading is the CPU time that a server's processes had used when its upkeep began
// and when it had ended.
type reading struct{ before, after time.Duration }

// read does the upkeep that turns leave for later, and reads the CPU time around
// it. Autovacuum and checkpoints come every few minutes, and a measurement is much
// shorter: left alone, they would fall into one of many and be missing in the
// others. So what the measured turns have made necessary is done at once, and
// counted as theirs; and what was left by those before is done before them. It is
// also the worst case of a page, that each is logged as a whole when it is first
// changed after a checkpoint.
func (d *database) read(ctx context.Context) (r reading, err error) {
	if r.before, err = d.running.CPU(); err != nil {
		return r, err
	}
	if err := d.tell(ctx, d.name, "vacuum (analyze) "+queues, "checkpoint"); err != nil {
		return r, fmt.Errorf("upkeep: %w", err)
	}
	r.after, err = d.running.CPU()
	return r, err
}

// spent is what each of n operations between two readings took of the server: for
// its work, and for the upkeep that it has made necessary.
func spent(n int, from, to reading) (work, upkeep time.Duration) {
	return (to.before - from.after) / time.Duration(n), (to.after - to.before) / time.Duration(n)
}
