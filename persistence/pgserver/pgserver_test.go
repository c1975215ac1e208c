package pgserver_test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley/persistence/pgserver"
)

func TestStart(t *testing.T) {
	t.Parallel()
	s := started(t, pgserver.Config{Settings: map[string]string{"application_name": `it's a \ 'test'`, "work_mem": "5MB"}})
	conn := connected(t, s)
	for setting, want := range map[string]string{
		"application_name": `it's a \ 'test'`, "work_mem": "5MB", "fsync": "off", "synchronous_commit": "on",
		"listen_addresses": "", "server_encoding": "UTF8", "max_connections": "100", "lc_messages": "C",
	} {
		if got := ask[string](t, conn, "show "+setting); got != want {
			t.Errorf("%s is %q, want %q", setting, got, want)
		}
	}
	if s.Addr() != "" || s.PID() == 0 {
		t.Errorf("a server on a socket has address %q and process %d", s.Addr(), s.PID())
	}
}

func TestDurableOnTCP(t *testing.T) {
	t.Parallel()
	s := started(t, pgserver.Config{Durable: true, TCP: true})
	host, port, err := net.SplitHostPort(s.Addr())
	if err != nil {
		t.Fatal(err)
	}
	conn, err := pgx.Connect(t.Context(), "host="+host+" port="+port+" user=postgres dbname=postgres sslmode=disable")
	if err != nil {
		t.Fatal(err)
	}
	if got := ask[string](t, conn, "show fsync"); got != "on" {
		t.Errorf("fsync is %q", got)
	}
	if err := conn.Close(t.Context()); err != nil {
		t.Error(err)
	}
	run(t, connected(t, s), "select 1") // the socket is there as well
}

// Whatever was committed is there after a crash and after a stop, even while
// clients hold connections and one is in the middle of something.
func TestKilledAndStartedAgain(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(openDir(t), "cluster")
	s := started(t, pgserver.Config{Dir: dir})
	url := s.URL("postgres")
	run(t, connected(t, s), "create table kept (n int)")
	for n, end := range []func() error{
		s.Kill,
		func() error { return s.Stop(t.Context()) },
		func() error { return errors.Join(s.Pause(), s.Kill()) },
		func() error { return errors.Join(s.Pause(), s.Stop(t.Context())) },
	} {
		conn := connected(t, s)
		run(t, conn, "insert into kept values (1)")
		run(t, connected(t, s), "begin; insert into kept values (1)")
		broken := make(chan error, 1)
		go func() {
			_, err := conn.Exec(t.Context(), "select pg_sleep(600)")
			broken <- err
		}()
		if err := end(); err != nil {
			t.Fatal(err)
		}
		if err := <-broken; err == nil {
			t.Error("a client was answered")
		}
		if s.PID() != 0 {
			t.Error("it has a process after its end")
		}
		if err := s.StartAgain(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got := ask[int](t, connected(t, s), "select count(*) from kept"); got != n+1 {
			t.Errorf("%d rows after end %d", got, n+1)
		}
	}
	if s.URL("postgres") != url {
		t.Error("it has moved")
	}
	if err := s.StartAgain(t.Context()); err == nil {
		t.Error("a running server was started")
	}
}

// A second process takes over a folder that a first one has left.
func TestFolderIsTakenOver(t *testing.T) {
	t.Parallel()
	cfg := pgserver.Config{Dir: openDir(t), Bin: found(t)}
	first, err := pgserver.Start(t.Context(), cfg)
	if err != nil {
		t.Fatal(err)
	}
	run(t, connected(t, first), "create table kept (n int)")
	if err := first.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	if got := ask[int](t, connected(t, started(t, cfg)), "select count(*) from kept"); got != 0 {
		t.Errorf("%d rows", got)
	}
}

func TestStopRemovesWhatStartMade(t *testing.T) {
	t.Parallel()
	s := started(t, pgserver.Config{})
	run(t, connected(t, s), "begin") // a client doesn't keep it
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	for _, path := range []string{s.Dir(), s.Log(), filepath.Dir(s.Socket())} {
		if _, err := os.Stat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("%s: %v", path, err)
		}
	}
	if err := s.StartAgain(t.Context()); err == nil {
		t.Error("started without its data")
	}
	if err := s.Kill(); err == nil {
		t.Error("killed though it didn't run")
	}
}

// A paused server neither answers nor accepts; a resumed one goes on where it was.
func TestPause(t *testing.T) {
	t.Parallel()
	s := started(t, pgserver.Config{})
	conn := connected(t, s)
	if err := s.Pause(); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), "select 1")
		answered <- err
	}()
	short, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if other, err := pgx.Connect(short, s.URL("postgres")); err == nil {
		t.Error("a frozen server accepted")
		_ = other.Close(t.Context())
	}
	select {
	case err := <-answered:
		t.Errorf("a frozen server answered: %v", err)
	default:
	}
	if err := s.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Errorf("it did not go on: %v", err)
	}
}

// CPU time only grows: over the ends of backends, a crash and a new start.
func TestCPU(t *testing.T) {
	t.Parallel()
	s := started(t, pgserver.Config{Dir: openDir(t)})
	var last time.Duration
	grown := func(by time.Duration, what string) {
		t.Helper()
		now, err := s.CPU()
		if errors.Is(err, errors.ErrUnsupported) {
			t.Skip("this system does not tell")
		}
		if err != nil || now < last+by {
			t.Errorf("%s: %s after %s, %v", what, now, last, err)
		}
		last = now
	}
	grown(0, "started")
	conn := connected(t, s)
	run(t, conn, "select sum(sqrt(n)) from generate_series(1, 2000000) n")
	grown(50*time.Millisecond, "while the backend lives")
	if err := conn.Close(t.Context()); err != nil {
		t.Fatal(err)
	}
	grown(0, "after its end")
	run(t, connected(t, s), "select sum(sqrt(n)) from generate_series(1, 2000000) n")
	if err := s.Kill(); err != nil {
		t.Fatal(err)
	}
	grown(50*time.Millisecond, "killed")
	if err := s.StartAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	grown(0, "started again")
	if err := s.Stop(t.Context()); err != nil {
		t.Fatal(err)
	}
	grown(0, "stopped")
}

func TestStandby(t *testing.T) {
	t.Parallel()
	primary := started(t, pgserver.Config{})
	if _, err := os.Stat(filepath.Join(primary.Bin(), "pg_basebackup")); err != nil {
		t.Skipf("SKIPPED: this PostgreSQL makes no replicas: %v", err)
	}
	run(t, connected(t, primary), "create table kept as select 1 as n")
	standby, err := primary.Standby(t.Context(), pgserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	stopAtEnd(t, standby)
	run(t, connected(t, primary), "insert into kept values (2)")
	replica := connected(t, standby)
	until(t, "replicated", func() bool { return ask[int](t, replica, "select count(*) from kept") == 2 })
	if !ask[bool](t, replica, "select pg_is_in_recovery()") {
		t.Error("the standby is none")
	}
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	run(t, replica, "insert into kept values (3)")
	if err := standby.Promote(t.Context()); err == nil {
		t.Error("promoted twice")
	}
	if err := standby.Kill(); err != nil {
		t.Fatal(err)
	}
}

// What goes wrong says why, and leaves nothing behind.
func TestStartFails(t *testing.T) {
	t.Parallel()
	log := filepath.Join(t.TempDir(), "log")
	s, err := pgserver.Start(t.Context(), pgserver.Config{Bin: found(t), Log: log, Settings: map[string]string{"no_such_setting": "1"}})
	if err == nil {
		t.Error("started with a setting that there isn't")
		_ = s.Stop(t.Context())
		return
	}
	if !strings.Contains(err.Error(), "no_such_setting") {
		t.Errorf("the error is not the server's: %v", err)
	}
	if os.Geteuid() == 0 {
		_, err := pgserver.Start(t.Context(), pgserver.Config{Bin: found(t), Dir: t.TempDir()})
		if err == nil || !strings.Contains(err.Error(), "closed to others") {
			t.Errorf("a folder that only root reaches: %v", err)
		}
	}
	_, err = pgserver.Start(t.Context(), pgserver.Config{Bin: openDir(t)})
	if err == nil || !strings.Contains(err.Error(), "initdb") {
		t.Errorf("an empty folder as the programs': %v", err)
	}
}

// What is added to the environment is the server's.
func TestEnvironment(t *testing.T) {
	t.Parallel()
	s := started(t, pgserver.Config{Env: []string{"PGTZ_OF_TEST=here", "TZ=UTC"}})
	environ, err := os.ReadFile(fmt.Sprintf("/proc/%d/environ", s.PID()))
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	if !strings.Contains(string(environ), "PGTZ_OF_TEST=here\x00") {
		t.Error("the server doesn't have it")
	}
}
