package pgserver_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/persistence/pgserver"
)

func TestMain(m *testing.M) {
	if os.Getenv(orphanVariable) != "" {
		os.Exit(beOrphaned())
	}
	if os.Getenv(findVariable) != "" {
		bin, err := pgserver.Find()
		if err != nil {
			bin = err.Error()
		}
		fmt.Print(bin)
		return
	}
	goleak.VerifyTestMain(m)
}

const testMax = time.Minute // for anything that a test waits for

// found is the folder of PostgreSQL's programs; without one the test is skipped,
// which CI doesn't allow.
func found(t *testing.T) string {
	t.Helper()
	bin, err := pgserver.Find()
	if errors.Is(err, pgserver.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return bin
}

// deadline is a context that ends after the test's own, for cleaning up.
func deadline(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testMax)
	t.Cleanup(cancel)
	return ctx
}

// openDir is a folder that the server reaches even if the test is root and the
// server is not: Go's own are closed to others.
func openDir(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o755); err != nil {
		t.Fatal(err)
	}
	return dir
}

func started(t *testing.T, cfg pgserver.Config) *pgserver.Server {
	t.Helper()
	cfg.Bin = found(t)
	s, err := pgserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, s)
	return s
}

func stopAtEnd(t *testing.T, s *pgserver.Server) {
	t.Helper()
	ctx := deadline(t)
	t.Cleanup(func() {
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
}

func connected(t *testing.T, s *pgserver.Server) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), s.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	ctx := deadline(t)
	t.Cleanup(func() { _ = conn.Close(ctx) }) // its server may be gone
	return conn
}

func run(t *testing.T, conn *pgx.Conn, sql string) {
	t.Helper()
	if _, err := conn.Exec(t.Context(), sql); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
}

func ask[T any](t *testing.T, conn *pgx.Conn, sql string) T {
	t.Helper()
	var answer T
	if err := conn.QueryRow(t.Context(), sql).Scan(&answer); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return answer
}

// until asks again and again until the answer is yes.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for end := time.Now().Add(testMax); !done(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("still not: %s", what)
		}
	}
}
