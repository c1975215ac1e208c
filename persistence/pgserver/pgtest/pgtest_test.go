package pgtest_test

import (
	"context"
	"errors"
	"os"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/pgserver/pgtest"
)

var (
	cluster    = pgtest.Cluster{Migrate: migrate}
	migrations atomic.Int32
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(cluster.Around(m)) }

func migrate(ctx context.Context, url string) error {
	migrations.Add(1)
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	_, err = conn.Exec(ctx, "create table mine (n int)")
	return errors.Join(err, conn.Close(ctx))
}

func connected(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() { _ = conn.Close(ctx) }) // it may be broken by then
	return conn
}

func count(t *testing.T, conn *pgx.Conn, sql string) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), sql).Scan(&n); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return n
}

// Each test has the schema, and nothing of the others.
func TestDatabaseIsOnesOwn(t *testing.T) {
	t.Parallel()
	for range 4 {
		t.Run("one of many", func(t *testing.T) {
			t.Parallel()
			conn := connected(t, cluster.Database(t))
			if _, err := conn.Exec(t.Context(), "insert into mine values (1)"); err != nil {
				t.Fatal(err)
			}
			if n := count(t, conn, "select count(*) from mine"); n != 1 {
				t.Errorf("%d rows", n)
			}
			if n := migrations.Load(); n != 1 {
				t.Errorf("migrated %d times", n)
			}
		})
	}
}

// On a server that stays nothing stays, even if a test forgets a connection; and
// both forms of connection strings are understood.
func TestServerOfOthers(t *testing.T) {
	t.Parallel()
	bin, err := pgserver.Find()
	if errors.Is(err, pgserver.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	server, err := pgserver.Start(t.Context(), pgserver.Config{Bin: bin, TCP: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := server.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	host, port, _ := strings.Cut(server.Addr(), ":")
	admin := connected(t, server.URL("postgres"))
	const left = "select count(*) from pg_database where datname like 'parley%'"
	for _, url := range []string{ //nolint:paralleltest // the end of the inner test is what is looked at
		server.URL("postgres"), "host=" + host + " port=" + port + " user=postgres dbname=postgres",
	} {
		theirs := pgtest.Cluster{URL: url}
		t.Run("test", func(t *testing.T) {
			conn, err := pgx.Connect(t.Context(), theirs.Database(t))
			if err != nil {
				t.Fatal(err)
			}
			if n := count(t, conn, left); n != 2 { // and is forgotten
				t.Errorf("%d databases, want the template and the test's", n)
			}
		})
		if err := theirs.Stop(t.Context()); err != nil {
			t.Error(err)
		}
		if n := count(t, admin, left); n != 0 {
			t.Errorf("%d databases were left", n)
		}
	}
}

// A template that can't be made is an error of each test, not of the first only.
func TestMigrationFails(t *testing.T) {
	t.Parallel()
	broken := pgtest.Cluster{URL: "postgres://postgres@127.0.0.1:1/none?connect_timeout=1"}
	for range 2 {
		if r := record(t, broken.Database); !r.fatal {
			t.Error("got a database from a server that isn't there")
		}
	}
	if err := broken.Stop(t.Context()); err != nil {
		t.Error(err)
	}
}

// recorder is a test that may fail.
type recorder struct {
	testing.TB

	fatal bool
}

func record(t *testing.T, run func(testing.TB) string) *recorder {
	t.Helper()
	r := &recorder{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		run(r)
	}()
	<-done
	return r
}

func (r *recorder) Fatalf(string, ...any) {
	r.fatal = true
	runtime.Goexit()
}

func BenchmarkDatabase(b *testing.B) {
	cluster.Database(b)
	for b.Loop() {
		cluster.Database(b)
	}
}
