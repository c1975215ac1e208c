package postgres

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"
	"github.com/jackc/pgx/v5/pgxpool"
)

// The time-outs of a session. What is beyond them is a fault, and the work is
// done again by whoever finds it undone.
const (
	statementTimeout = 5 * time.Second
	lockTimeout      = 500 * time.Millisecond
	// idleTransaction frees what a frozen or cut-off node has locked between two
	// steps of a transaction.
	idleTransaction = 2 * time.Second
	// tcpUserTimeout ends a connection whose other side acknowledges nothing.
	tcpUserTimeout = 3 * time.Second
	// healthPeriod is how often a pool replaces what it has lost.
	healthPeriod = 5 * time.Second
	// pingAfter is for how long a connection may have been idle without being asked
	// whether it still works. A node that has nothing to do looks around every second,
	// and would ask before each look.
	pingAfter = 3 * time.Second
)

// settings are a session's. The planner's are there because statistics of queue
// tables are always wrong: with these, every statement of ours runs through the
// index that it was written for, whatever the planner believes of a table's size,
// and is planned once. Not by bitmaps: these visit all that has died in a queue
// since the last vacuum, each time anew, where a plain scan of the index notes
// what is dead and then passes it by.
func settings() [][2]string {
	ms := func(d time.Duration) string { return strconv.FormatInt(d.Milliseconds(), 10) }
	return [][2]string{
		{"statement_timeout", ms(statementTimeout)},
		{"lock_timeout", ms(lockTimeout)},
		{"idle_in_transaction_session_timeout", ms(idleTransaction)},
		{"default_transaction_isolation", "read committed"},
		{"plan_cache_mode", "force_generic_plan"},
		{"enable_seqscan", "off"},
		{"enable_bitmapscan", "off"},
		{"enable_hashjoin", "off"},
		{"enable_mergejoin", "off"},
		{"jit", "off"},
	}
}

// session is what is known of a connection beside what pgx knows.
type session struct {
	established atomic.Bool
	warned      atomic.Bool
}

const sessionKey = "parley"

var errNeverCancel = errors.New("requests are never cancelled")

// connect makes a pool. It doesn't wait for the database: that is for the first
// who asks it something.
func (s *Store) connect(ctx context.Context, conns int) (*pgxpool.Pool, error) {
	cfg, err := poolConfig(s.cfg.URL, s.cfg.ConnectTimeout)
	if err != nil {
		return nil, err
	}
	s.prelude = shared(cfg.ConnConfig)
	if !s.prelude {
		for _, p := range settings() {
			cfg.ConnConfig.RuntimeParams[p[0]] = p[1]
		}
		cfg.ConnConfig.RuntimeParams["tcp_user_timeout"] = strconv.FormatInt(tcpUserTimeout.Milliseconds(), 10)
	}
	cfg.MaxConns, cfg.MinConns = int32(conns), int32(conns)
	cfg.MaxConnLifetime, cfg.MaxConnIdleTime = 365*24*time.Hour, 365*24*time.Hour
	cfg.HealthCheckPeriod = healthPeriod
	cfg.ShouldPing = func(_ context.Context, p pgxpool.ShouldPingParams) bool { return p.IdleDuration > pingAfter }
	// Behind a connection that broke there may be another database: a fail-over may
	// have lost what the cache holds.
	cfg.BeforeClose = func(*pgx.Conn) { s.aliases.forget() }
	pool, err := pgxpool.NewWithConfig(ctx, cfg)
	if err != nil {
		return nil, fmt.Errorf("make a pool of connections: %w", err)
	}
	return pool, nil
}

// shared reports whether sessions may be shared with others by a pooler: then
// nothing may be prepared or set in them.
func shared(c *pgx.ConnConfig) bool {
	return c.DefaultQueryExecMode != pgx.QueryExecModeCacheStatement
}

// poolConfig reads a connection string. Its error never repeats it: it may hold
// a password.
func poolConfig(url string, timeout time.Duration) (*pgxpool.Config, error) {
	cfg, err := pgxpool.ParseConfig(url)
	if err != nil {
		return nil, errors.New("the connection string can't be read: want postgres://user:password@host:port/database or key=value pairs")
	}
	cfg.ConnConfig.ConnectTimeout = timeout
	cfg.ConnConfig.OnNotice = noted
	if cfg.ConnConfig.RuntimeParams["application_name"] == "" {
		cfg.ConnConfig.RuntimeParams["application_name"] = "parley"
	}
	cfg.BeforeConnect = func(_ context.Context, c *pgx.ConnConfig) error {
		own := &session{}
		c.DialFunc = own.dial(dialer(timeout))
		c.ValidateConnect = and(c.ValidateConnect, own.validate)
		return nil
	}
	return cfg, nil
}

func dialer(timeout time.Duration) *net.Dialer {
	return &net.Dialer{Timeout: timeout, KeepAlive: tcpUserTimeout, Control: userTimeout}
}

// and makes a check of a connection that follows another.
func and(first, then pgconn.ValidateConnectFunc) pgconn.ValidateConnectFunc {
	return func(ctx context.Context, c *pgconn.PgConn) error {
		if first != nil {
			if err := first(ctx, c); err != nil {
				return err
			}
		}
		return then(ctx, c)
	}
}

// dial connects, until the connection is there. After that pgx dials only to
// cancel a request, which must not be: see the package's comment.
func (s *session) dial(d *net.Dialer) pgconn.DialFunc {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		if s.established.Load() {
			return nil, errNeverCancel
		}
		c, err := d.DialContext(ctx, network, addr)
		if err != nil {
			return nil, err
		}
		return &hasty{Conn: c}, nil
	}
}

// hasty is a connection that is not waited for when it is given up. pgx waits up
// to 15 s for the server to close it, or for ever if it takes back the deadline at
// the same time; as long the connection counts as one of the pool's. A server that
// has fallen silent would keep its successor waiting, and the process from ending.
// There is no other deadline in the future that pgx sets.
type hasty struct {
	net.Conn
	given atomic.Bool // up
}

// closeTimeout is how long it may take.
const closeTimeout = 500 * time.Millisecond

// SetDeadline sets a deadline. One in the future says that the connection is given
// up: it may not be far, and is the last one.
func (c *hasty) SetDeadline(t time.Time) error {
	latest := time.Now().Add(closeTimeout) //nolint:forbidigo // deadlines are the system's
	switch {
	case t.After(latest):
		c.given.Store(true)
	case c.given.Load() && t.IsZero():
	default:
		return c.Conn.SetDeadline(t)
	}
	return c.Conn.SetDeadline(latest)
}

func (s *session) validate(_ context.Context, c *pgconn.PgConn) error {
	s.established.Store(true)
	c.CustomData()[sessionKey] = s
	return nil
}

// noted takes note of a warning.
func noted(c *pgconn.PgConn, n *pgconn.Notice) {
	if s, ok := c.CustomData()[sessionKey].(*session); ok && n.SeverityUnlocalized == "WARNING" {
		s.warned.Store(true)
	}
}

func sessionOf(c *pgx.Conn) *session {
	if s, ok := c.PgConn().CustomData()[sessionKey].(*session); ok {
		return s
	}
	return &session{}
}
