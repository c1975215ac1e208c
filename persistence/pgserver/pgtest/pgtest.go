// Package pgtest gives each test a PostgreSQL database of its own.
//
// The server is the one that TEST_DATABASE_URL names, or else a private one,
// which is started when the first test asks and ends with the test process. The
// schema is made once, in a template database, and copied for each test, which
// takes some hundredths of a second.
//
// A package of tests holds one Cluster, and ends it in TestMain:
//
//	var cluster = pgtest.Cluster{Migrate: migrate}
//
//	func TestMain(m *testing.M) { goleak.VerifyTestMain(cluster.Around(m)) }
//
//	func TestSomething(t *testing.T) {
//		t.Parallel()
//		url := cluster.Database(t)
//		…
//	}
//
// A test that kills its server starts one with pgserver itself.
package pgtest

import (
	"cmp"
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley/persistence/pgserver"
)

const (
	startMax = 3 * time.Minute // for the server and the template
	cloneMax = time.Minute     // for one database to be made, or dropped
	stopMax  = 30 * time.Second
	// connectionsMax has room for the pools of tests that run in parallel.
	connectionsMax = "400"
	// prefix begins the name of every database, so that what a killed test left on
	// a server that stays can be told from what belongs there.
	prefix = "parley_test_"
)

// Cluster is the server of one test process. Its methods may be called by tests
// that run in parallel.
type Cluster struct {
	// URL names a database of the server to use, whose user may create others. By
	// default it is TEST_DATABASE_URL; if that is empty too, the server is private.
	URL string
	// Migrate makes the schema in the database that a URL names, and leaves no
	// connection behind. Without it databases are empty.
	Migrate func(ctx context.Context, url string) error

	once     sync.Once
	err      error
	url      string
	template string
	strategy string // of copying the template
	server   *pgserver.Server
}

// Database makes a database with the schema in it and returns its URL. It is
// dropped when the test ends, whoever is still connected to it. If there is no
// PostgreSQL the test is skipped, or fails where CI=true.
func (c *Cluster) Database(t testing.TB) string {
	t.Helper()
	c.once.Do(func() { c.err = c.start(context.WithoutCancel(t.Context())) })
	if errors.Is(c.err, pgserver.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED, NOT TESTED: %v", c.err)
	}
	if c.err != nil {
		t.Fatalf("databases for tests: %v", c.err)
	}
	name := newName()
	if err := c.command(t.Context(), "CREATE DATABASE "+quote(name)+" TEMPLATE "+quote(c.template)+c.strategy); err != nil {
		t.Fatalf("database for the test: %v", err)
	}
	t.Cleanup(func() {
		if err := c.drop(context.WithoutCancel(t.Context()), name); err != nil {
			t.Errorf("database of the test: %v", err)
		}
	})
	return named(c.url, name)
}

// start finds or starts the server and makes the template.
func (c *Cluster) start(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startMax)
	defer cancel()
	if c.url = cmp.Or(c.URL, os.Getenv("TEST_DATABASE_URL")); c.url == "" {
		var err error
		c.server, err = pgserver.Start(ctx, pgserver.Config{Settings: map[string]string{"max_connections": connectionsMax}})
		if err != nil {
			return err
		}
		c.url = c.server.URL("postgres")
		c.strategy = c.quickest(ctx)
	}
	// From template0, for a server that stays may have anything in template1 and
	// order texts as its country does.
	template := newName()
	if err := c.command(ctx, "CREATE DATABASE "+quote(template)+" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'"); err != nil {
		return fmt.Errorf("template database: %w", err)
	}
	c.template = template
	if c.Migrate == nil {
		return nil
	}
	if err := c.Migrate(ctx, named(c.url, template)); err != nil {
		return fmt.Errorf("migrate the template database: %w", err)
	}
	return nil
}

// quickest is how a server that syncs nothing copies a template in a third of the time:
// not page by page through the log, which is what PostgreSQL 15 and newer begin with, but
// as files, as older ones do anyway.
func (c *Cluster) quickest(ctx context.Context) string {
	const strategy = " STRATEGY FILE_COPY"
	probe := newName()
	if c.command(ctx, "CREATE DATABASE "+quote(probe)+" TEMPLATE template0"+strategy) != nil {
		return ""
	}
	_ = c.drop(ctx, probe) // it is in nobody's way
	return strategy
}

// command runs a statement over a connection of its own.
func (c *Cluster) command(ctx context.Context, sql string) error {
	ctx, cancel := context.WithTimeout(ctx, cloneMax)
	defer cancel()
	conn, err := pgx.Connect(ctx, c.url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, sql)
	return errors.Join(err, conn.Close(ctx))
}

func (c *Cluster) drop(ctx context.Context, name string) error {
	return c.command(ctx, "DROP DATABASE IF EXISTS "+quote(name)+" WITH (FORCE)")
}

// Stop ends the private server, or removes what was made on another. After it
// no test may ask for a database.
func (c *Cluster) Stop(ctx context.Context) error {
	c.once.Do(func() { c.err = errors.New("the tests are over") })
	ctx, cancel := context.WithTimeout(ctx, stopMax)
	defer cancel()
	switch {
	case c.server != nil:
		return c.server.Stop(ctx)
	case c.template != "":
		return c.drop(ctx, c.template)
	}
	return nil
}

// Run is the run of a package's tests with a cluster around it.
type Run struct {
	m       *testing.M
	cluster *Cluster
}

// Around wraps the run of a package's tests, so that the server has ended, and
// its goroutine with it, when goleak looks for what was left.
func (c *Cluster) Around(m *testing.M) Run { return Run{m: m, cluster: c} }

// Run runs the tests, stops the server, and returns the exit code.
func (r Run) Run() int {
	code := r.m.Run()
	if err := r.cluster.Stop(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, "databases for tests:", err)
		return max(code, 1)
	}
	return code
}

func newName() string { return prefix + strings.ToLower(rand.Text()) }

func quote(name string) string { return pgx.Identifier{name}.Sanitize() }

// named is a connection string with another database, in either of its forms.
func named(server, database string) string {
	if u, err := url.Parse(server); err == nil && u.Scheme != "" {
		u.Path = "/" + database
		return u.String()
	}
	return server + " dbname=" + database // the last one counts
}
