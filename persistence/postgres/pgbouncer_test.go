package postgres_test

import (
	"context"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/postgres"
	"github.com/parleychat/parley/persistence/storetest"
)

// bouncer is a pgbouncer in transaction mode in front of the tests' server.
type bouncer struct{ port int }

// throughBouncer starts one; without pgbouncer the test is skipped, or fails in CI.
func throughBouncer(t *testing.T) bouncer {
	t.Helper()
	program, err := exec.LookPath("pgbouncer")
	if err != nil {
		program = "/usr/sbin/pgbouncer"
	}
	if _, err := os.Stat(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("no pgbouncer: apt-get install pgbouncer")
		}
		t.Skip("SKIPPED, NOT TESTED: no pgbouncer: apt-get install pgbouncer")
	}
	b := bouncer{port: freePort(t)}
	host, port := address(t, database(t))
	folder := t.TempDir()
	config := filepath.Join(folder, "pgbouncer.ini")
	text := fmt.Sprintf(`[databases]
* = host=%s port=%s user=postgres
[pgbouncer]
listen_addr = 127.0.0.1
listen_port = %d
unix_socket_dir =
auth_type = any
pool_mode = transaction
default_pool_size = 3
max_client_conn = 5000
server_lifetime = 3600
`, host, port, b.port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	b.start(t, program, config)
	return b
}

func (b bouncer) start(t *testing.T, program, config string) {
	t.Helper()
	cmd := exec.CommandContext(context.WithoutCancel(t.Context()), program, config)
	if os.Geteuid() == 0 { // it refuses to be root
		cmd.Args = []string{program, "-u", "postgres", config}
		for path := config; path != "/" && path != os.TempDir(); path = filepath.Dir(path) {
			if err := os.Chmod(path, 0o755); err != nil {
				t.Fatal(err)
			}
		}
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait() // it ends by the signal
	})
	deadline, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	for {
		c, err := new(net.Dialer).DialContext(deadline, "tcp", fmt.Sprintf("127.0.0.1:%d", b.port))
		if err == nil {
			_ = c.Close()
			return
		}
		if deadline.Err() != nil {
			t.Fatalf("pgbouncer doesn't listen: %v", err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func freePort(t *testing.T) int {
	t.Helper()
	port, err := pgserver.FreePort(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	return port
}

// address is the host and port of a connection string.
func address(t *testing.T, of string) (host, port string) {
	t.Helper()
	cfg, err := pgx.ParseConfig(of)
	if err != nil {
		t.Fatal(err)
	}
	return cfg.Host, fmt.Sprint(cfg.Port)
}

// url is the way to a database through the bouncer.
func (b bouncer) url(t *testing.T, of string) string {
	t.Helper()
	cfg, err := pgx.ParseConfig(of)
	if err != nil {
		t.Fatal(err)
	}
	u := url.URL{Scheme: "postgres", User: url.User("parley"), Host: fmt.Sprintf("127.0.0.1:%d", b.port), Path: "/" + cfg.Database}
	u.RawQuery = "sslmode=disable&default_query_exec_mode=cache_describe"
	return u.String()
}

// TestThroughPgbouncer is the exam, without the parts that play the same with
// thousands of calls, behind a pooler that gives every transaction another session.
func TestThroughPgbouncer(t *testing.T) {
	t.Parallel()
	b := throughBouncer(t)
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Store {
		t.Helper()
		var direct string
		if old, ok := o.Reopen.(survivor); ok {
			direct = old.url
		} else {
			direct = database(t)
		}
		return survivor{Store: open(t, postgres.Config{URL: b.url(t, direct), Now: o.Now}), url: direct}
	}, "Append", "Quarantine", "Load", "Commit", "Older", "Overdue", "Timers", "Lease", "Claim", "Settle", "Operator", "Merge", "Concurrent")
}
