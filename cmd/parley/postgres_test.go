package main_test

import (
	"context"
	"encoding/json"
	"net"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/pgserver/pgtest"
	"github.com/parleychat/parley/persistence/postgres"
)

// cluster is the PostgreSQL server of these tests; its databases have the schema.
var cluster = pgtest.Cluster{Migrate: func(ctx context.Context, url string) error {
	_, err := postgres.Migrate(ctx, url)
	return err
}}

// private is a server of the test's own, to be stopped and killed.
func private(t *testing.T) *pgserver.Server {
	t.Helper()
	cluster.Database(t) // skips, loudly, where there is no PostgreSQL
	s, err := pgserver.Start(t.Context(), pgserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.WithoutCancel(t.Context())
	t.Cleanup(func() {
		if err := s.Stop(ctx); err != nil {
			t.Error(err)
		}
	})
	return s
}

// on is c with the database that url means.
func (c configuration) on(t *testing.T, h house, url string) configuration {
	t.Helper()
	h.write(t, "database", url)
	return c.with("database", map[string]any{"url": "file:database", "connections": 4})
}

// backlog is what waits in the store, as the node tells it.
func (n *instance) backlog(t *testing.T) (b struct{ Pending, Unsent, Timers, Receipts, Quarantined, Dead int }, ok bool) {
	t.Helper()
	status, text := n.look(t, "/backlog")
	if status != http.StatusOK {
		return b, false
	}
	if err := json.Unmarshal([]byte(text), &b); err != nil {
		t.Fatalf("backlog: %v: %s", err, text)
	}
	return b, true
}

// A conversation goes on where it was, after the process with another one on the
// same database, and no folder but the database remembers it.
func TestPostgresKeepsConversations(t *testing.T) {
	t.Parallel()
	url := cluster.Database(t)
	g := newGraph(t)
	for k, name := range []string{"first", "second"} {
		h := newHouse(t)
		n := h.start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, url))
		n.tell(t, "u1", name, "say "+name)
		g.heard(t, "u1", "said "+name+" #"+string(rune('1'+k)))
		await(t, "nothing waits", func() bool {
			b, ok := n.backlog(t)
			return ok && b.Pending == 0 && b.Unsent == 0
		})
		n.stop(t)
	}
}

// Two nodes on one database answer each message once.
func TestTwoNodesOnOneDatabase(t *testing.T) {
	t.Parallel()
	url := cluster.Database(t)
	g := newGraph(t)
	var nodes []*instance
	for range 2 {
		h := newHouse(t)
		nodes = append(nodes, h.start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, url)))
	}
	for k := range 10 {
		nodes[k%2].tell(t, "u1", string(rune('a'+k)), "say "+string(rune('a'+k)))
	}
	await(t, "all is answered", func() bool { return len(g.texts("u1")) >= 10 })
	for _, n := range nodes {
		await(t, "nothing waits", func() bool {
			b, ok := n.backlog(t)
			return ok && b.Pending == 0 && b.Unsent == 0
		})
		n.stop(t)
	}
	for k, text := range g.texts("u1") {
		if want := "said " + string(rune('a'+k)) + " #"; !strings.HasPrefix(text, want) {
			t.Errorf("reply %d is %q, want %q", k, text, want)
		}
	}
}

// An update that the database can't take is kept in the quarantine, and doesn't
// keep the node from starting again.
func TestRefusedByTheDatabase(t *testing.T) {
	t.Parallel()
	g, h := newGraph(t), newHouse(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, cluster.Database(t))
	for k := range 2 {
		n := h.start(t, asFateful, cfg)
		n.tell(t, strings.Repeat("x", 3000), string(rune('a'+k)), "say so") // beyond an index's keys
		await(t, "it is in quarantine", func() bool {
			b, ok := n.backlog(t)
			return ok && b.Quarantined == k+1
		})
		n.tell(t, "u1", string(rune('1'+k)), "say a")
		g.heard(t, "u1", "said a #"+string(rune('1'+k)))
		n.stop(t)
	}
}

// While the database is away a node goes on to acknowledge; what it acknowledged
// takes effect when the database is back, whatever happened to the node meanwhile,
// and whether the database had died or fallen silent.
func TestSpool(t *testing.T) {
	t.Parallel()
	die := func(s *pgserver.Server, _ context.Context) error { return s.Kill() }
	freeze := func(s *pgserver.Server, _ context.Context) error { return s.Pause() }
	thaw := func(s *pgserver.Server, _ context.Context) error { return s.Resume() }
	kill := func(_ *testing.T, n *instance) { n.kill() }
	stop := func(t *testing.T, n *instance) {
		t.Helper()
		began := time.Now()
		n.stop(t)
		if took := time.Since(began); took > drainWithin {
			t.Errorf("drained in %s", took)
		}
	}
	for name, row := range map[string]outage{
		"DeadNodeStays":     {die, (*pgserver.Server).StartAgain, nil},
		"DeadNodeKilled":    {die, (*pgserver.Server).StartAgain, kill},
		"DeadNodeStopped":   {die, (*pgserver.Server).StartAgain, stop},
		"SilentNodeStays":   {freeze, thaw, nil},
		"SilentNodeStopped": {freeze, thaw, stop},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			row.play(t)
		})
	}
}

// outage is one of the database.
type outage struct {
	away, back func(*pgserver.Server, context.Context) error
	meanwhile  func(*testing.T, *instance) // what becomes of the node; it stays if nil
}

func (o outage) play(t *testing.T) {
	t.Helper()
	server := private(t)
	if _, err := postgres.Migrate(t.Context(), server.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	h, g := newHouse(t), newGraph(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, server.URL("postgres"))
	n := h.start(t, asFateful, cfg)
	n.tell(t, "u1", "0", "say 0")
	g.heard(t, "u1", "said 0 #1")
	await(t, "that it was said is noted", func() bool {
		b, ok := n.backlog(t)
		return ok && b.Unsent == 0
	})
	if err := o.away(server, t.Context()); err != nil {
		t.Fatal(err)
	}
	const spooled = 5
	for k := range spooled {
		n.tell(t, "u1", string(rune('1'+k)), "say "+string(rune('1'+k)))
	}
	n.tell(t, "u1", "2", "say 2") // once more, as Meta does
	if status, text := n.look(t, "/readyz"); status != http.StatusOK || !strings.Contains(text, "spool") {
		t.Errorf("/readyz: %d %s", status, text)
	}
	if o.meanwhile != nil {
		o.meanwhile(t, n)
		n = h.launch(t, asFateful, cfg)
	}
	if err := o.back(server, t.Context()); err != nil {
		t.Fatal(err)
	}
	n.serving(t, 1)
	await(t, "all is answered", func() bool { return len(g.texts("u1")) > spooled })
	await(t, "the spool is empty", func() bool {
		_, text := n.look(t, "/readyz")
		return text != "" && !strings.Contains(text, "spool")
	})
	n.tell(t, "u1", "9", "say 9")
	g.heard(t, "u1", "said 9 #7")
	for k, text := range g.texts("u1")[:spooled+1] {
		if want := "said " + string(rune('0'+k)) + " #" + string(rune('1'+k)); text != want {
			t.Errorf("reply %d is %q, want %q", k, text, want)
		}
	}
	n.stop(t)
}

// freeAddress is an address that nobody listens on.
func freeAddress(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(freePort(t)))
}

// A node whose database is not there waits for it, says so, and isn't ready; it
// can be told to stop all the while.
func TestWaitsForTheDatabase(t *testing.T) {
	t.Parallel()
	server := private(t)
	if _, err := postgres.Migrate(t.Context(), server.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	h, g := newHouse(t), newGraph(t)
	admin, listen := freeAddress(t), freeAddress(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, server.URL("postgres")).with("admin", admin).with("listen", listen)
	waits := func() *instance {
		n := h.launch(t, asFateful, cfg)
		n.admin, n.webhooks = "http://"+admin, "http://"+listen
		await(t, "the log says what it waits for", func() bool { return strings.Contains(n.logged(), "waiting for the database") })
		if status, text := n.look(t, "/readyz"); status != http.StatusServiceUnavailable || !strings.Contains(text, "not ready") {
			t.Errorf("/readyz: %d %s", status, text)
		}
		if status, _ := n.look(t, "/livez"); status != http.StatusOK {
			t.Errorf("/livez: %d", status)
		}
		if a := n.post(t, message("u1", "0", "too early")); a.status != http.StatusServiceUnavailable || a.retryAfter == "" {
			t.Errorf("a webhook: %+v", a)
		}
		if status, _ := n.look(t, "/backlog"); status != http.StatusServiceUnavailable {
			t.Errorf("/backlog: %d", status)
		}
		return n
	}
	waits().stop(t)
	n := waits()
	second := newHouse(t)
	other := second.launch(t, asFateful, cfg.on(t, second, server.URL("postgres")))
	if code := other.left(t); code != 1 || !strings.Contains(other.logged(), "address already in use") {
		t.Errorf("a second node on the address: exit code %d", code)
	}
	third := h.launch(t, asFateful, cfg)
	if code := third.left(t); code != 1 || !strings.Contains(third.logged(), "in use by another process") {
		t.Errorf("a second node on the data folder: exit code %d", code)
	}
	if err := server.StartAgain(t.Context()); err != nil {
		t.Fatal(err)
	}
	n.serving(t, 1)
	if status, text := n.look(t, "/readyz"); status != http.StatusOK || text != "ready\n" {
		t.Errorf("/readyz: %d %s", status, text)
	}
	n.tell(t, "u1", "1", "say a")
	g.heard(t, "u1", "said a #1")
	n.stop(t)
}

// What waiting doesn't help is said at once, with what to do.
func TestRefusesADatabase(t *testing.T) {
	t.Parallel()
	server := private(t)
	for name, row := range map[string]struct {
		url   string
		words []string
	}{
		"WithoutSchema": {server.URL("postgres"), []string{"schema", "parley migrate up"}},
		"MalformedURL":  {"postgres://a:secretword@[::1", []string{"connection string"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHouse(t)
			n := h.launch(t, asFateful, configured("http://127.0.0.1:1").on(t, h, row.url))
			if code := n.left(t); code != 1 {
				t.Errorf("exit code %d", code)
			}
			for _, w := range row.words {
				if !strings.Contains(n.logged(), w) {
					t.Errorf("standard error lacks %q: %s", w, n.logged())
				}
			}
			if strings.Contains(n.logged(), "secretword") {
				t.Error("the log has the password")
			}
		})
	}
}

// The flags name the place of the connection string; the string itself would be
// seen by everybody on the machine, and is refused without being repeated.
func TestDatabaseFlags(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	path := h.configure(t, configured("http://127.0.0.1:1", channel("messenger", pageID, "fateful")))
	place := "file:" + h.write(t, "database", "no connection string")
	for name, row := range map[string]struct {
		args []string
		env  []string
		want string
	}{
		"Itself":      {args: []string{"--database", "postgres://u:secretword@h/d"}, want: "env:NAME or file:PATH"},
		"Nowhere":     {args: []string{"--database", "env:PARLEY_TEST_UNSET"}, want: "PARLEY_TEST_UNSET"},
		"File":        {args: []string{"--database", place}, want: "connection string"},
		"Environment": {env: []string{"PARLEY_DATABASE=" + place}, want: "connection string"},
		"NoDatabase":  {args: []string{"--store", "postgres"}, want: "database.url"},
		"NoStore":     {args: []string{"--store", "paper"}, want: `"paper"`},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			data := []string{"--data", t.TempDir()}
			e := runIn(t, append([]string{asCommand + "=" + asFateful}, row.env...), "", append(append([]string{"serve", "-c", path}, data...), row.args...)...)
			e.want(t, 1, row.want)
			if strings.Contains(e.errors, "secretword") {
				t.Error("the password is repeated")
			}
		})
	}
}
