// Package postgres keeps everything in a PostgreSQL database, which any number
// of nodes share.
//
// # The protocol
//
// What a call does, it does in one transaction; the calls of the hot path
// (Append, Commit, Load) send all their statements at once, without waiting for
// an answer in between, and carry the rows of many conversations as arrays. Who
// may write a conversation is decided in SQL, by its version and token, under the
// lock of its row: see [Store.Commit]. Who may send for a channel is decided
// under the lock of its lease: see [Store.Claim].
//
// Row locks are taken in the order of keys, and where another may hold one for
// long, skipped: a conversation that is busy elsewhere is a conflict, not a wait.
//
// # Time
//
// The store's clock is the database's. Nothing here depends on the clocks of
// nodes. If the database's clock is set back, timers, leases that nobody renews
// and messages that wait stand still for as long; events don't (see
// [Store.Overdue]), and a conversation's own time never goes back (see
// parley.Step).
//
// # When the database doesn't answer
//
// Every call ends with its context. A connection whose call has ended so is
// closed, and the call's outcome is open: it is never cancelled, since cancelling
// may turn "not replicated yet" into success. For the same reason a transaction
// that ends with a warning counts as one whose outcome is open. Such errors wrap
// [parley.ErrUnavailable]; errors that are about the data don't.
//
// The package imports the root package only.
package postgres

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/prometheus/client_golang/prometheus"
)

// Config says which database, and how many connections to it.
type Config struct {
	// URL is a PostgreSQL connection string. Through pgbouncer in transaction
	// mode it needs default_query_exec_mode=cache_describe, as prepared statements
	// belong to one connection of the server.
	URL string
	// Conns is the number of connections for turns and sends; DefaultConns. Two more
	// are kept for the entrance, so that no work behind it can use them up.
	Conns int
	// ConnectTimeout bounds how long one attempt to connect takes. Default 2 s.
	ConnectTimeout time.Duration
	// Now replaces the database's clock, in tests.
	Now func() time.Time

	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: metrics are kept, not registered
}

// DefaultConns is [Config].Conns unless configured otherwise.
const DefaultConns = 8

const (
	entranceConns         = 2
	defaultConnectTimeout = 2 * time.Second
)

// Store is a database with Parley's schema. It is safe for concurrent use, also
// by several processes.
type Store struct {
	cfg      Config
	entrance *pgxpool.Pool // for Append and Release
	work     *pgxpool.Pool // for the rest
	prelude  bool          // sessions aren't ours: settings go with each transaction
	aliases  aliases
	metrics  *metrics

	mu   sync.Mutex
	last int64 // ms: what Config.Now said last
}

// Open connects to the database and checks that it has a schema that this
// program can work with, and no half of another store; if not, the error says
// what to do. The caller closes the store.
func Open(ctx context.Context, cfg Config) (*Store, error) {
	s, err := prepare(ctx, cfg)
	if err != nil {
		return nil, err
	}
	if err := s.checkCopied(ctx); err != nil {
		s.closePools()
		return nil, fmt.Errorf("open database: %w", err)
	}
	if err := s.metrics.register(cfg.Registerer); err != nil {
		s.closePools()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return s, nil
}

// prepare makes a store of a database, whatever is in it. Nothing of it is
// registered yet.
func prepare(ctx context.Context, cfg Config) (*Store, error) {
	cfg.Conns = cmp.Or(cfg.Conns, DefaultConns)
	cfg.ConnectTimeout = cmp.Or(cfg.ConnectTimeout, defaultConnectTimeout)
	cfg.Logger = cmp.Or(cfg.Logger, slog.New(slog.DiscardHandler))
	s := &Store{cfg: cfg}
	s.metrics = newMetrics(s)
	if err := s.open(ctx); err != nil {
		s.closePools()
		return nil, fmt.Errorf("open database: %w", err)
	}
	return s, nil
}

func (s *Store) open(ctx context.Context) (err error) {
	if s.entrance, err = s.connect(ctx, entranceConns); err != nil {
		return err
	}
	if s.work, err = s.connect(ctx, s.cfg.Conns); err != nil {
		return err
	}
	return s.checkSchema(ctx)
}

// Close closes all connections. What is under way ends first.
func (s *Store) Close() error {
	s.metrics.unregister()
	s.closePools()
	return nil
}

func (s *Store) closePools() {
	for _, p := range []*pgxpool.Pool{s.entrance, s.work} {
		if p != nil {
			p.Close()
		}
	}
}

// clock is SQL for the store's time, in ms. Its parameter is always $1, which is
// null unless a test drives the clock.
const clock = `coalesce($1::bigint, floor(extract(epoch from clock_timestamp()) * 1000)::bigint)`

// now is what $1 is given: the test's clock, which never goes back.
func (s *Store) now() *int64 {
	if s.cfg.Now == nil {
		return nil
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	s.last = max(s.last, s.cfg.Now().UnixMilli())
	now := s.last
	return &now
}

// token draws the token of a row.
func token() int64 {
	var b [8]byte
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return int64(binary.BigEndian.Uint64(b[:]))
}

func nonce() (b [16]byte) {
	_, _ = rand.Read(b[:]) // as above
	return b
}
