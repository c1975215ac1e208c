package main_test

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
	"github.com/parleychat/parley/persistence/postgres"
)

// What was acknowledged and is taken out of the store behind everybody's back is named by
// the node that opens it next: by parley audit with and without it, by the admin API, by
// its metrics and its log, and never with what was said.
func TestPlantedLossIsNamed(t *testing.T) {
	t.Parallel()
	stores(t, func(t *testing.T, h house, config func(string) configuration) {
		t.Helper()
		g := newGraph(t)
		cfg := config(g.URL).with("audit_every", "1s")
		n := h.start(t, asFateful, cfg)
		n.tell(t, "u1", "1", "say a")
		g.heard(t, "u1", "said a #1")
		n.idle(t)
		n.tell(t, "u2", "2", "loop") // what comes behind it waits
		n.tell(t, "u2", "3", "say zanzibar")
		b := booksAt(t, h, n)
		if a := b.account(0); a.Whole.Acknowledged != 3 || a.Whole.Pending != 2 || len(a.Lost) > 0 {
			t.Errorf("before the loss: %+v, lost %+v", a.Whole, a.Lost)
		}
		n.kill()
		lost := plantLoss(t, h, cfg)
		e := run(t, "", append([]string{"audit"}, storeFlags(h, cfg)...)...)
		e.want(t, 1)
		named(t, "without a node", e.out, lost)

		n = h.start(t, asFateful, cfg)
		b = booksAt(t, h, n)
		if a := b.account(1); a.Whole.Missing != 2 || a.Unnamed != 0 || len(a.Lost) != 2 || a.Brands[0].Missing != 2 {
			t.Errorf("after it: %+v, lost %+v", a.Whole, a.Lost)
		}
		named(t, "parley audit", b.run(1), lost)
		named(t, "parley audit --since", b.run(1, "--since", "1h"), lost)
		named(t, "the admin API", b.api(), lost)
		await(t, "the metrics say so", func() bool { return n.metric(t, "parley_audit_missing") == 2 })
		await(t, "the log says so", func() bool { return strings.Contains(n.logged(), "doesn't add up") })
		named(t, "the log", n.logged(), lost)
		n.tell(t, "u1", "4", "say b")
		g.heard(t, "u1", "said b #2")
		n.idle(t)
		b.run(0, "--reopen")
		if a := b.account(0); a.Whole.Missing != 0 || a.Whole.Effected != 2 {
			t.Errorf("after it was forgiven: %+v", a.Whole)
		}
		await(t, "the metrics are at rest", func() bool { return n.metric(t, "parley_audit_missing") == 0 })
		n.stop(t)
	})
}

// named sees that what is told names all that is lost, and tells nothing of it.
func named(t *testing.T, who, told string, lost []parley.Pending) {
	t.Helper()
	for i := range lost {
		if key := hex.EncodeToString(lost[i].Key[:]); !strings.Contains(told, key) || !strings.Contains(told, lost[i].Conversation.String()) {
			t.Errorf("%s doesn't name %s of %s:\n%s", who, key, lost[i].Conversation, told)
		}
	}
	if strings.Contains(told, "zanzibar") {
		t.Errorf("%s tells what was said:\n%s", who, told)
	}
}

// books is the audit of a node.
type books struct {
	t  *testing.T
	n  *instance
	at []string // the flags by which it is asked
}

func booksAt(t *testing.T, h house, n *instance) books {
	t.Helper()
	return books{t: t, n: n, at: n.postbox(t, filepath.Join(h.dir, "admin")).at}
}

// run is parley audit.
func (b books) run(code int, args ...string) string {
	b.t.Helper()
	e := run(b.t, "", append(append([]string{"audit"}, args...), b.at...)...)
	e.want(b.t, code)
	return e.out
}

func (b books) account(code int) (a parley.Account) {
	b.t.Helper()
	if err := json.Unmarshal([]byte(b.run(code, "--json")), &a); err != nil {
		b.t.Fatal(err)
	}
	if t := &a.Whole; a.AddsUp != (code == 0) || t.Acknowledged != t.Effected+t.Duplicate+t.Pending+t.Spooled+t.Quarantined+t.Dead+t.Missing-t.Excess {
		b.t.Errorf("adds up %v with exit code %d: %+v", a.AddsUp, code, t)
	}
	return a
}

// api is what the admin API says.
func (b books) api() string {
	b.t.Helper()
	_, admin := b.n.addresses()
	r, err := http.NewRequestWithContext(b.t.Context(), http.MethodGet, admin+"/api/audit", http.NoBody)
	if err != nil {
		b.t.Fatal(err)
	}
	r.Header.Set("Authorization", "Bearer "+lettersToken)
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		b.t.Fatal(err)
	}
	text, err := io.ReadAll(answer.Body)
	if err = errors.Join(err, answer.Body.Close()); err != nil || answer.StatusCode != http.StatusOK || !strings.Contains(string(text), `"adds_up":false`) {
		b.t.Fatalf("%d %s: %v", answer.StatusCode, text, err)
	}
	return string(text)
}

// storeFlags are those by which parley audit looks into a store that no node has open.
func storeFlags(h house, c configuration) []string {
	if _, ok := c["database"]; ok {
		return []string{"--database", "file:" + filepath.Join(h.dir, "database")}
	}
	return []string{"--data", h.data()}
}

// plantLoss takes what waits of u2 out of the store that no node has open, and returns it.
func plantLoss(t *testing.T, h house, c configuration) []parley.Pending {
	t.Helper()
	if _, ok := c["database"]; !ok {
		s, err := embedded.Open(embedded.Config{Dir: h.data(), Existing: true})
		if err != nil {
			t.Fatal(err)
		}
		return loseWithout(t, s)
	}
	url := strings.TrimSpace(read(t, h.dir, "database"))
	s, err := postgres.Open(t.Context(), postgres.Config{URL: url, Conns: 1})
	if err != nil {
		t.Fatal(err)
	}
	lost := waitsOf(t, s)
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	for i := range lost.Pending {
		if _, err := conn.Exec(t.Context(), "delete from parley.inbox where token = $1", int64(lost.Pending[i].Token)); err != nil {
			t.Fatal(err)
		}
	}
	if err := errors.Join(conn.Close(t.Context()), s.Close()); err != nil {
		t.Fatal(err)
	}
	return lost.Pending
}

// loader is what both stores are here.
type loader interface {
	Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error)
}

func waitsOf(t *testing.T, s loader) parley.Loaded {
	t.Helper()
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: pageID}, Contact: "user:u2"}
	loaded, err := s.Load(t.Context(), c, 10)
	if err != nil || len(loaded.Pending) != 2 {
		t.Fatalf("%d rows wait, want 2: %v", len(loaded.Pending), err)
	}
	return loaded
}

// loseWithout commits a turn that consumes what waits and says nothing of it: as a
// program does that loses it.
func loseWithout(t *testing.T, s *embedded.Store) []parley.Pending {
	t.Helper()
	loaded := waitsOf(t, s)
	turn := parley.Commit{Conversation: loaded.Snapshot.Conversation, Base: loaded.Snapshot.Version, Next: loaded.Snapshot, History: []byte("{}")}
	turn.Next.Version = parley.Version{Number: loaded.Snapshot.Version.Number + 1, Token: 1}
	for _, p := range loaded.Pending {
		turn.Saw, turn.Through = append(turn.Saw, p.Row), p.Seq
	}
	errs, err := s.Commit(t.Context(), []parley.Commit{turn})
	if err := errors.Join(append(errs, err, s.Close())...); err != nil {
		t.Fatal(err)
	}
	return loaded.Pending
}

// While one of two nodes doesn't reach the database, what it acknowledges is in its spool.
// The other's audit has it on both sides, and adds up at each moment that it is asked at,
// until all of it has taken effect.
func TestAuditDuringASpool(t *testing.T) {
	t.Parallel()
	server := private(t)
	if _, err := postgres.Migrate(t.Context(), server.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	proxy, err := faultproxy.New(t.Context(), server.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	through, err := proxy.URL(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	g := newGraph(t)
	nodes, b := twoNodes(t, g, through, server.URL("postgres"))
	nodes[0].tell(t, "u1", "0", "say 0")
	g.heard(t, "u1", "said 0 #1")
	b.account(0)

	proxy.Hang()
	const spooled = 5
	for k := range spooled {
		nodes[0].tell(t, "u1", string(rune('1'+k)), "say "+string(rune('1'+k)))
	}
	nodes[0].tell(t, "u1", "3", "say 3") // once more, as Meta does
	await(t, "the other node counts the spool", func() bool {
		a := b.account(0)
		return a.Whole.Spooled == spooled+1 && a.Whole.Acknowledged == spooled+2 && len(a.Silent) == 0
	})
	proxy.Pass()
	await(t, "all of it has taken effect", func() bool {
		a := b.account(0)
		return a.Whole.Spooled == 0 && a.Whole.Pending == 0 && a.Whole.Effected >= spooled+1 && a.Whole.Duplicate >= 1
	})
	g.heard(t, "u1", "said 5 #6")
	for _, n := range nodes {
		n.terminate(t)
	}
	for _, n := range nodes {
		if code := n.left(t); code != 0 {
			t.Errorf("drained with exit code %d", code)
		}
	}
}

// twoNodes starts two that see each other, each with its connection string, and returns
// the second one's audit.
func twoNodes(t *testing.T, g *graph, urls ...string) (nodes [2]*instance, b books) {
	t.Helper()
	var houses [2]house
	var configs [2]configuration
	for i := range nodes {
		houses[i] = newHouse(t)
		if err := clustertest.WriteCredentials(houses[i].dir, time.Now()); err != nil {
			t.Fatal(err)
		}
		houses[i].copy(t, houses[0], clustertest.AuthorityFile, clustertest.CertificateFile, clustertest.KeyFile, clustertest.GossipKeyFile)
		configs[i] = configured(g.URL, channel("messenger", pageID, "fateful")).on(t, houses[i], urls[i]).among(i, func(int) string { return freeAddress(t) })
		configs[i] = configs[i].joining(configs[0])
		nodes[i] = houses[i].start(t, asFateful, configs[i])
	}
	await(t, "the nodes agree", func() bool {
		held := nodes[0].metric(t, "parley_actors_held_shards") + nodes[1].metric(t, "parley_actors_held_shards")
		return held == parley.Shards && nodes[0].metric(t, "parley_cluster_members") == len(nodes)
	})
	return nodes, books{t: t, n: nodes[1], at: nodes[1].postbox(t, filepath.Join(houses[1].dir, clustertest.GossipKeyFile)).at}
}
