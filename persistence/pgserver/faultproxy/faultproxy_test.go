package faultproxy_test

import (
	"context"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
	"github.com/parleychat/parley/persistence/pgserver/pgtest"
)

var cluster = pgtest.Cluster{Migrate: func(ctx context.Context, url string) error {
	conn, err := pgx.Connect(ctx, url)
	if err != nil {
		return err
	}
	if _, err := conn.Exec(ctx, "create table kept (n int)"); err != nil {
		return err
	}
	return conn.Close(ctx)
}}

func TestMain(m *testing.M) { goleak.VerifyTestMain(cluster.Around(m)) }

const (
	testMax  = time.Minute
	quietFor = 200 * time.Millisecond // in which nothing happens if nothing is going to
)

// setup is a proxy before a database, with the database's own URL and the one
// through the proxy.
func setup(t *testing.T) (proxy *faultproxy.Proxy, direct, through string) {
	t.Helper()
	direct = cluster.Database(t)
	cfg, err := pgx.ParseConfig(direct)
	if err != nil {
		t.Fatal(err)
	}
	target := cfg.Host + ":" + strconv.Itoa(int(cfg.Port))
	if strings.HasPrefix(cfg.Host, "/") {
		target = cfg.Host + "/.s.PGSQL." + strconv.Itoa(int(cfg.Port))
	}
	if proxy, err = faultproxy.New(t.Context(), target); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	if through, err = proxy.URL(direct); err != nil {
		t.Fatal(err)
	}
	return proxy, direct, through
}

func connected(t *testing.T, url string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), testMax)
	t.Cleanup(func() {
		defer cancel()
		_ = conn.Close(ctx) // it may be broken by then
	})
	return conn
}

func rows(t *testing.T, conn *pgx.Conn) int {
	t.Helper()
	var n int
	if err := conn.QueryRow(t.Context(), "select count(*) from kept").Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

func insert(t *testing.T, conn *pgx.Conn) error {
	t.Helper()
	_, err := conn.Exec(t.Context(), "insert into kept values ($1)", 1)
	return err
}

// Large messages, copies and many answers in a row go through as they are, also
// for a client that asks for encryption first.
func TestPass(t *testing.T) {
	t.Parallel()
	_, direct, through := setup(t)
	conn := connected(t, strings.Replace(through, "sslmode=disable", "sslmode=prefer", 1))
	text := strings.Repeat("0123456789", 300_000)
	var back string
	if err := conn.QueryRow(t.Context(), "select $1::text", text).Scan(&back); err != nil || back != text {
		t.Errorf("%d of %d bytes came back, %v", len(back), len(text), err)
	}
	for size := 900; size < 10_000; size += 517 { // around the sizes of buffers
		sql := "select '" + text[:size] + "'"
		if err := conn.QueryRow(t.Context(), sql, pgx.QueryExecModeSimpleProtocol).Scan(&back); err != nil || back != text[:size] {
			t.Errorf("%d of %d bytes came back, %v", len(back), size, err)
		}
	}
	many := make([][]any, 50_000)
	for i := range many {
		many[i] = []any{i}
	}
	if n, err := conn.CopyFrom(t.Context(), pgx.Identifier{"kept"}, []string{"n"}, pgx.CopyFromRows(many)); err != nil || int(n) != len(many) {
		t.Errorf("copied %d, %v", n, err)
	}
	var batch pgx.Batch
	for range 500 {
		batch.Queue("insert into kept values ($1)", 1)
	}
	if err := conn.SendBatch(t.Context(), &batch).Close(); err != nil {
		t.Error(err)
	}
	if n := rows(t, connected(t, direct)); n != len(many)+batch.Len() {
		t.Errorf("%d rows", n)
	}
}

// The server has committed, and the client can't know: by a query, by a single
// statement, by a batch.
func TestLoseAnswers(t *testing.T) {
	t.Parallel()
	proxy, direct, through := setup(t)
	observer := connected(t, direct)
	inTransaction := func(conn *pgx.Conn) error {
		return pgx.BeginFunc(t.Context(), conn, func(pgx.Tx) error { return insert(t, conn) })
	}
	for want, c := range []struct {
		name   string
		pick   func([]faultproxy.Message) bool
		commit func(*pgx.Conn) error
	}{
		{"query", faultproxy.QueryCommit, inTransaction},
		{"statement", faultproxy.Commit, func(conn *pgx.Conn) error { return insert(t, conn) }},
		{"batch", faultproxy.Commit, func(conn *pgx.Conn) error {
			var batch pgx.Batch
			batch.Queue("begin")
			batch.Queue("insert into kept values (1)")
			batch.Queue("commit")
			return conn.SendBatch(t.Context(), &batch).Close()
		}},
		{"large message", func(sent []faultproxy.Message) bool { return strings.HasPrefix(sent[0].Text(), "insert") }, func(conn *pgx.Conn) error {
			_, err := conn.Exec(t.Context(), "insert into kept select length('"+strings.Repeat("x", 100_000)+"')", pgx.QueryExecModeSimpleProtocol)
			return err
		}},
	} {
		conn := connected(t, through)
		if _, err := conn.Prepare(t.Context(), "insert into kept values ($1)", "insert into kept values ($1)"); err != nil {
			t.Fatal(err)
		}
		proxy.LoseAnswers(1, c.pick)
		if err := c.commit(conn); err == nil || !conn.IsClosed() {
			t.Errorf("%s: the client heard the answer: %v", c.name, err)
		}
		if n := rows(t, observer); n != want+1 {
			t.Errorf("%s: %d rows, want %d: the server did not commit", c.name, n, want+1)
		}
		if n := proxy.Lost(); n != want+1 {
			t.Errorf("%s: lost %d answers", c.name, n)
		}
		if err := inTransactionRolledBack(t, connected(t, through)); err != nil {
			t.Errorf("%s: more was lost than was ordered: %v", c.name, err)
		}
	}
}

func inTransactionRolledBack(t *testing.T, conn *pgx.Conn) error {
	t.Helper()
	tx, err := conn.Begin(t.Context())
	if err != nil {
		return err
	}
	if err := insert(t, conn); err != nil {
		return err
	}
	return tx.Rollback(t.Context())
}

// What isn't picked is not touched: reads, begins, other connections.
func TestLosesOnlyWhatIsPicked(t *testing.T) {
	t.Parallel()
	proxy, _, through := setup(t)
	conn := connected(t, through)
	proxy.LoseAnswers(1, faultproxy.QueryCommit)
	for range 3 {
		if err := inTransactionRolledBack(t, conn); err != nil {
			t.Fatal(err)
		}
		if n := rows(t, conn); n != 0 {
			t.Errorf("%d rows", n)
		}
	}
	proxy.LoseAnswers(0, nil)
	if err := pgx.BeginFunc(t.Context(), conn, func(pgx.Tx) error { return nil }); err != nil {
		t.Error(err)
	}
	if n := proxy.Lost(); n != 0 {
		t.Errorf("lost %d answers", n)
	}
}

func TestRefuseAndCut(t *testing.T) {
	t.Parallel()
	proxy, _, through := setup(t)
	old := connected(t, through)
	proxy.Refuse()
	if conn, err := pgx.Connect(t.Context(), through); err == nil {
		t.Error("connected")
		_ = conn.Close(t.Context())
	}
	if err := insert(t, old); err != nil {
		t.Errorf("a connection that there was: %v", err)
	}
	if n := proxy.Cut(); n != 1 {
		t.Errorf("cut %d connections", n)
	}
	if err := insert(t, old); err == nil {
		t.Error("a connection outlived the cut")
	}
	proxy.Pass()
	if err := insert(t, connected(t, through)); err != nil {
		t.Errorf("after the fault: %v", err)
	}
}

// A connection that hung goes on where it was.
func TestHang(t *testing.T) {
	t.Parallel()
	proxy, direct, through := setup(t)
	conn := connected(t, through)
	proxy.Hang()
	answered := make(chan error, 1)
	go func() { answered <- insert(t, conn) }()
	short, cancel := context.WithTimeout(t.Context(), quietFor)
	defer cancel()
	if other, err := pgx.Connect(short, through); err == nil {
		t.Error("logged in")
		_ = other.Close(t.Context())
	}
	select {
	case err := <-answered:
		t.Errorf("answered: %v", err)
	default:
	}
	if n := rows(t, connected(t, direct)); n != 0 {
		t.Error("the server heard of it")
	}
	proxy.Pass()
	if err := <-answered; err != nil {
		t.Error(err)
	}
	proxy.Hang() // and is closed while it hangs
	go func() { answered <- insert(t, conn) }()
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
	if err := <-answered; err == nil {
		t.Error("answered by a proxy that is closed")
	}
}

// A server that isn't there looks like one through the proxy as well.
func TestServerIsAway(t *testing.T) {
	t.Parallel()
	proxy, err := faultproxy.New(t.Context(), "127.0.0.1:1")
	if err != nil {
		t.Fatal(err)
	}
	url, err := proxy.URL("postgres://someone@elsewhere:5432/db?host=other&port=1")
	if err != nil {
		t.Fatal(err)
	}
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		t.Error("connected to nothing")
		_ = conn.Close(t.Context())
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
}

// Each round trip takes longer, one that hasn't begun is waited for, and a cut
// ends the wait.
func TestSlow(t *testing.T) {
	t.Parallel()
	const delay = 300 * time.Millisecond
	proxy, _, through := setup(t)
	conn := connected(t, through)
	if err := insert(t, conn); err != nil { // prepares
		t.Fatal(err)
	}
	proxy.Slow(delay)
	began := time.Now()
	if err := insert(t, conn); err != nil {
		t.Fatal(err)
	}
	if took := time.Since(began); took < delay {
		t.Errorf("a round trip took %s", took)
	}
	proxy.Slow(time.Hour)
	failed := make(chan error, 1)
	go func() { failed <- insert(t, conn) }()
	select {
	case err := <-failed:
		t.Fatalf("it didn't wait: %v", err)
	case <-time.After(quietFor):
	}
	proxy.Cut()
	if err := <-failed; err == nil {
		t.Error("it came through although the connection was cut")
	}
	proxy.Slow(0)
	conn = connected(t, through)
	if n := rows(t, conn); n != 2 {
		t.Errorf("%d rows, want 2: what was cut while it waited had not been sent", n)
	}
}

// It listens where it is told, and says when it can't.
func TestListen(t *testing.T) {
	t.Parallel()
	proxy, err := faultproxy.Listen(t.Context(), "127.0.0.2:0", "/nowhere")
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: a second address of the loopback: %v", err)
	}
	if !strings.HasPrefix(proxy.Addr(), "127.0.0.2:") {
		t.Errorf("it listens at %s", proxy.Addr())
	}
	if second, err := faultproxy.Listen(t.Context(), proxy.Addr(), "/nowhere"); err == nil {
		t.Error("two at one address")
		_ = second.Close()
	}
	if err := proxy.Close(); err != nil {
		t.Error(err)
	}
}
