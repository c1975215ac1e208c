package main_test

import (
	"cmp"
	"context"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/meta/metatest/history"
	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
	"github.com/parleychat/parley/persistence/postgres"
)

const (
	chaosWait  = "2s"             // doubtful_wait of its nodes
	chaosGrace = 30 * time.Second // for what is owed at the end
	loadMax    = time.Hour        // it is ended by hand
	spoolOpens = time.Second      // from the loss of the database until events go to the spool
)

// scene is where one fault is played: a server, a node, Meta and its users.
type scene struct {
	*testing.T

	fault   fault
	form    form
	server  *pgserver.Server
	standby *pgserver.Server  // if the fault wants one
	proxy   *faultproxy.Proxy // likewise
	sim     *metatest.Simulator
	past    *history.File // what is seen of conversations
	home    house         // of the first node
	node    *instance     // the one that webhooks go to
	began   time.Time
	spans   []span
	overdue []string

	listen         string // of the Graph API, if not on loopback
	doubtful, late int    // as far as nodes have been counted
}

func newScene(t *testing.T, f fault) *scene {
	t.Helper()
	return newSceneAt(t, f, "")
}

func newSceneAt(t *testing.T, f fault, listen string) *scene {
	t.Helper()
	cluster.Database(t) // skips, loudly, where there is no PostgreSQL
	s := &scene{T: t, fault: f, form: f.form, listen: listen}
	if f.form.rate == 0 {
		s.form = theForm()
	}
	cfg := pgserver.Config{Durable: true, TCP: f.standby, Settings: f.settings, Env: f.env}
	if f.dir != nil {
		cfg.Dir = f.dir(t)
	}
	s.server = s.start(cfg)
	s.prepare(s.server)
	if f.standby {
		standby, err := s.server.Standby(t.Context(), pgserver.Config{Durable: true, TCP: true})
		if err != nil {
			t.Fatal(err)
		}
		s.standby = standby
		s.ends(standby)
	}
	s.simulate()
	return s
}

// start starts a server that ends with the test.
func (s *scene) start(cfg pgserver.Config) *pgserver.Server {
	s.Helper()
	server, err := pgserver.Start(s.Context(), cfg)
	if err != nil {
		s.Fatal(err)
	}
	s.ends(server)
	return server
}

// ends stops a server when the test has ended, and shows its log if that failed.
func (s *scene) ends(server *pgserver.Server) {
	ctx := context.WithoutCancel(s.Context())
	s.Cleanup(func() {
		if s.Failed() {
			s.Logf("the end of a server's log:\n%s", tailOf(server.Log()))
		}
		if err := server.Stop(ctx); err != nil && server.PID() != 0 {
			s.Error(err)
		}
	})
}

func tailOf(path string) string {
	const most = 4096
	b, err := os.ReadFile(path)
	if err != nil {
		return err.Error()
	}
	return string(b[max(0, len(b)-most):])
}

// The node's own role and database: it is nobody special.
const parleyRole = "parley"

// prepare makes role, database and schema.
func (s *scene) prepare(server *pgserver.Server) {
	s.Helper()
	s.exec(server, "create role "+parleyRole+" login", "create database "+parleyRole+" owner "+parleyRole)
	if _, err := postgres.Migrate(s.Context(), s.url(server)); err != nil {
		s.Fatal(err)
	}
}

// url is the node's connection string.
func (s *scene) url(server *pgserver.Server) string {
	s.Helper()
	u, err := url.Parse(server.URL(parleyRole))
	if err != nil {
		s.Fatal(err)
	}
	u.User = url.User(parleyRole)
	return u.String()
}

// connect makes a connection of an administrator's.
func (s *scene) connect(server *pgserver.Server) *pgx.Conn {
	s.Helper()
	c, err := pgx.Connect(s.Context(), server.URL(parleyRole))
	if err != nil {
		c, err = pgx.Connect(s.Context(), server.URL("postgres"))
	}
	if err != nil {
		s.Fatal(err)
	}
	s.Cleanup(func() { _ = c.Close(context.WithoutCancel(s.Context())) }) // the server may have ended
	return c
}

// exec runs statements over a connection of their own.
func (s *scene) exec(server *pgserver.Server, statements ...string) {
	s.Helper()
	c := s.connect(server)
	for _, sql := range statements {
		s.do(c, sql)
	}
	if err := c.Close(s.Context()); err != nil {
		s.Error(err)
	}
}

func (s *scene) do(c *pgx.Conn, sql string) {
	s.Helper()
	if _, err := c.Exec(s.Context(), sql); err != nil {
		s.Fatalf("%s: %v", sql, err)
	}
}

// simulate makes Meta.
func (s *scene) simulate() {
	s.Helper()
	// Every user writes once a second, so that there is an order to be kept; in the long
	// form every seven.
	cfg := metatest.Sized(s.form.rate, s.form.users)
	cfg.Seed, cfg.Duration, cfg.Duplicates = cmp.Or(s.fault.seed, uint64(time.Now().UnixNano())), loadMax, 0.1
	cfg.TimerMax = 2 * time.Second
	past, err := history.Create(filepath.Join(s.TempDir(), "history.jsonl"))
	if err != nil {
		s.Fatal(err)
	}
	s.past, cfg.History = past, past.Writer
	s.Cleanup(past.Abandon)
	grace := chaosGrace
	if s.fault.grace > 0 {
		grace = s.fault.grace
	}
	sim, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: cfg, Grace: grace, Listen: s.listen, Workers: s.form.posts})
	if err != nil {
		s.Fatal(err)
	}
	s.sim = sim
	s.Cleanup(func() {
		if err := sim.Close(); err != nil {
			s.Error(err)
		}
	})
}

// configuration is that of a node for the simulated Meta, on a database.
func (s *scene) configuration(h house, database string) configuration {
	s.Helper()
	cfg := s.sim.Config()
	secret := func(name, value string) string {
		h.write(s.T, name, value)
		return "file:" + name
	}
	var channels []map[string]any
	for _, ch := range s.sim.Channels() {
		channels = append(channels, map[string]any{
			"brand": "demo", "kind": string(ch.Platform), "id": ch.ID, "token": secret("token-"+ch.ID, ch.Token), "bot": "tally",
		})
	}
	c := configured(s.sim.GraphURL()).with("doubtful_wait", chaosWait).with("apps", []any{map[string]any{
		"name": cfg.App, "meta_app_id": cfg.AppID, "channels": channels,
		"secrets": []string{secret("app", cfg.Secret)}, "verify_tokens": []string{secret("hello", cfg.VerifyToken)},
	}})
	return c.on(s.T, h, database)
}

// serve starts a node in a folder, and returns when it serves.
func (s *scene) serve(h house, database string) *instance {
	s.Helper()
	return h.start(s.T, asItself, s.configuration(h, database))
}

// turnTo makes Meta post to a node.
func (s *scene) turnTo(n *instance) {
	webhooks, _ := n.addresses()
	s.node = n
	s.sim.SetTarget(webhooks)
}

// database is what the node's first database is called, through the proxy if
// there is one.
func (s *scene) database() string {
	s.Helper()
	direct := s.url(s.server)
	switch {
	case s.fault.standby:
		return s.both()
	case !s.fault.proxied:
		return direct
	}
	proxy, err := faultproxy.New(s.Context(), s.server.Socket())
	if err != nil {
		s.Fatal(err)
	}
	s.proxy = proxy
	s.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			s.Error(err)
		}
	})
	through, err := proxy.URL(direct)
	if err != nil {
		s.Fatal(err)
	}
	return through
}

// both is a connection string that names the server and its standby, and wants
// whichever takes writes.
func (s *scene) both() string {
	u := url.URL{
		Scheme: "postgres", User: url.User(parleyRole), Host: s.server.Addr() + "," + s.standby.Addr(), Path: "/" + parleyRole,
		RawQuery: url.Values{"sslmode": {"disable"}, "target_session_attrs": {"read-write"}}.Encode(),
	}
	return u.String()
}

// play plays the fault, judges, and stops the node.
func (s *scene) play() result {
	s.Helper()
	s.home = newHouse(s.T)
	s.turnTo(s.serve(s.home, s.database()))
	played := make(chan error, 1)
	s.began = time.Now()
	go func() { played <- s.sim.Run(s.Context()) }()
	s.rest(s.form.before)
	s.fault.inflict(s)
	s.settle()
	s.rest(s.form.after)
	s.count(s.node)
	s.sim.Farewell(s.lastWithin())
	if err := <-played; err != nil {
		s.Fatal(err)
	}
	r := s.judge()
	r.doubtful, r.late = s.doubtful, s.late
	s.node.stop(s.T)
	return r
}

// count adds what a node has counted, which goes with it.
func (s *scene) count(n *instance) {
	s.Helper()
	s.doubtful += n.metric(s.T, "parley_egress_doubtful_total")
	s.late += n.metric(s.T, "parley_ingress_spool_spooled_total")
}

// rest lets the load go on for a while.
func (s *scene) rest(d time.Duration) {
	s.Helper()
	end := time.NewTimer(d)
	defer end.Stop()
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-end.C:
			return
		case <-s.Context().Done():
			s.Fatal("the test was ended")
		case <-tick.C:
			s.progress()
		}
	}
}

// progress prints a line, in the long form.
func (s *scene) progress() {
	if !long() {
		return
	}
	p := s.sim.Progress()
	s.Logf("%4.0fs  offered %6d  acked %6d  effects %6d  retried posts %5d  ack p99 %7.1f ms",
		time.Since(s.began).Seconds(), p.Offered, p.Acked, p.Effects, p.Retries, p.AckP99MS)
}

// during is a time in which the fault lasts: what is done in it. After it the node
// must heal.
func (s *scene) during(do func()) {
	s.Helper()
	sp := span{from: time.Now()}
	retries := s.sim.Progress().Retries
	do()
	sp.until = time.Now()
	s.spans = append(s.spans, sp)
	refused := s.sim.Progress().Retries - retries
	if refused > 0 && !s.fault.refuses {
		s.Errorf("%d posts were not answered with 200 during the fault", refused)
	}
	s.heal(sp)
}

// heal waits for the first effect after a fault, and for the first of what came
// after it.
func (s *scene) heal(sp span) {
	s.Helper()
	const patience = 4 * healsWithin // to see how long it does take
	for {
		r := s.sim.Recovery(sp.from, sp.until)
		switch over := time.Since(sp.until); {
		case r.First >= 0:
			if r.Resumed > healsWithin || r.First > s.allowed(sp) {
				s.tardy("the first effect came %s after the fault's end, want %s at most; the first of something new %s, want %s",
					r.Resumed, healsWithin, r.First, s.allowed(sp))
			}
			return
		case over > patience+s.allowed(sp):
			s.Fatalf("no effect for %s after the fault's end", over)
		}
		s.rest(50 * time.Millisecond)
	}
}

// settle waits until everything that was acknowledged by the end of the fault
// has taken effect.
func (s *scene) settle() {
	s.Helper()
	last := s.spans[len(s.spans)-1]
	limit := s.allowed(last)
	for {
		r := s.sim.Recovery(last.from, last.until)
		if r.Waiting == 0 && r.CaughtUp <= limit {
			return
		}
		if over := time.Since(last.until); over > limit && s.fault.grace == 0 {
			s.tardy("%d messages acknowledged by the end of the fault are without effect after %s, caught up after %s; want all within %s",
				r.Waiting, over, r.CaughtUp, limit)
			return
		} else if over > limit {
			return
		}
		s.rest(50 * time.Millisecond)
	}
}

// tardy takes note of a time that was not kept.
func (s *scene) tardy(format string, args ...any) {
	s.overdue = append(s.overdue, fmt.Sprintf(format, args...))
}

// allowed is how long after a fault its backlog may be there, and be in the way of
// what is new.
func (s *scene) allowed(sp span) time.Duration {
	limit := healsWithin
	if s.fault.behind > 0 {
		limit = s.fault.behind
	}
	return limit + time.Duration(s.form.backlog*float64(sp.until.Sub(sp.from)))
}

// judge is the verdict, and the worst of the recoveries.
func (s *scene) judge() result {
	s.Helper()
	r := result{name: s.fault.name, overdue: s.overdue, verdict: s.sim.Verdict()}
	for _, sp := range s.spans {
		r.lasted += sp.until.Sub(sp.from)
		one := s.sim.Recovery(sp.from, sp.until)
		r.recovery.Acked += one.Acked
		r.recovery.Resumed = max(r.recovery.Resumed, one.Resumed)
		r.recovery.First = max(r.recovery.First, one.First)
		r.recovery.CaughtUp = max(r.recovery.CaughtUp, one.CaughtUp)
		r.recovery.Slowest = max(r.recovery.Slowest, one.Slowest)
		r.recovery.AckMS.P99 = max(r.recovery.AckMS.P99, one.AckMS.P99)
	}
	r.retried = r.verdict.PostsRetried
	if !r.verdict.Clean() {
		s.Errorf("the verdict isn't clean: %q", r.verdict.Problems())
	}
	s.judgeHistory(&r)
	if r.verdict.Effects < int(s.form.rate) {
		s.Errorf("only %d effects: this tried too little", r.verdict.Effects)
	}
	return r
}

// lastWithin is how soon a last message must be answered when all is well again: sends
// of its own or before it may be in doubt.
func (s *scene) lastWithin() time.Duration {
	const doubts = 15 * time.Second
	return s.allowed(s.spans[len(s.spans)-1]) + doubts
}

// judgeHistory sees that some order of events explains each conversation.
func (s *scene) judgeHistory(r *result) {
	s.Helper()
	h, err := s.past.Check(s.Context(), history.Options{})
	if err != nil {
		s.Fatal(err)
	}
	s.Logf("%s: %s", r.name, h.Summary())
	if !h.Clean() || h.Operations < r.verdict.Effects || h.LastAsked == 0 {
		s.Errorf("the history: %s; %d last messages; %v %v", h.Summary(), h.LastAsked, h.Findings, h.UndecidedOnes)
	}
}

// await waits until a query says true.
func (s *scene) await(c *pgx.Conn, what, sql string) {
	s.Helper()
	await(s.T, what, func() bool {
		var yes bool
		if err := c.QueryRow(s.Context(), sql).Scan(&yes); err != nil {
			s.Fatalf("%s: %v", what, err)
		}
		return yes
	})
}

// pick is what the short form takes, or what the long one does.
func pick[T any](brief, lengthy T) T {
	if long() {
		return lengthy
	}
	return brief
}
