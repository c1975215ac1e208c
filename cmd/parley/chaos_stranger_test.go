package main_test

import (
	"context"
	"sync"
	"time"

	"github.com/jackc/pgx/v5"
)

// sessionsTerminated ends the node's sessions, one at random after the other, as
// an administrator's script would that means others.
func sessionsTerminated(s *scene) {
	c := s.connect(s.server)
	s.during(func() {
		for end := time.Now().Add(pick(4*time.Second, time.Minute)); time.Now().Before(end); s.rest(chance(50 * time.Millisecond)) {
			s.do(c, "select pg_terminate_backend(pid) from ("+oneSession+") one")
		}
	})
}

// crowd is strangers who take every connection that they can get, and try again
// when they get none.
type crowd struct {
	leave context.CancelFunc
	gone  sync.WaitGroup
	mu    sync.Mutex
	held  int
}

const strangerRole = "stranger"

func (s *scene) crowdIn(size int) *crowd {
	s.Helper()
	ctx, cancel := context.WithCancel(s.Context())
	c := &crowd{leave: cancel}
	s.Cleanup(cancel)
	s.exec(s.server, "create role "+strangerRole+" login")
	cfg, err := pgx.ParseConfig(s.server.URL("postgres"))
	if err != nil {
		s.Fatal(err)
	}
	cfg.User = strangerRole
	for range size {
		c.gone.Go(func() { c.stay(ctx, cfg) })
	}
	return c
}

// stay holds a connection until ctx ends.
func (c *crowd) stay(ctx context.Context, cfg *pgx.ConnConfig) {
	for ctx.Err() == nil {
		conn, err := pgx.ConnectConfig(ctx, cfg.Copy())
		if err != nil {
			select {
			case <-ctx.Done():
			case <-time.After(chance(5 * time.Millisecond)):
			}
			continue
		}
		c.count(1)
		<-ctx.Done()
		_ = conn.Close(context.WithoutCancel(ctx)) // the server may have ended it
		c.count(-1)
	}
}

func (c *crowd) count(n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.held += n
}

func (c *crowd) size() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.held
}

// noConnectionsLeft has strangers take all connections that are left, first
// beside the node, which keeps its own, and then instead of it: its own are
// terminated, and it gets none before the strangers go.
func noConnectionsLeft(s *scene) {
	const (
		more = 40         // than there are
		room = 20 - 3 - 1 // beside those reserved for administrators, and this one's
	)
	admin := s.connect(s.server)
	all := func(who string) int {
		var n int
		if err := admin.QueryRow(s.Context(), "select count(*) from pg_stat_activity where usename = $1", who).Scan(&n); err != nil {
			s.Fatal(err)
		}
		return n
	}
	var c *crowd
	s.during(func() {
		c = s.crowdIn(more)
		await(s.T, "strangers have taken what there is", func() bool { return c.size() > 0 && c.size()+all(parleyRole) >= room })
		s.rest(pick(2*time.Second, 20*time.Second))
	})
	s.during(func() {
		await(s.T, "the node has no connection", func() bool {
			s.do(admin, "select pg_terminate_backend(pid) from pg_stat_activity where usename = '"+parleyRole+"'")
			return all(parleyRole) == 0 && c.size() >= room
		})
		s.rest(pick(3*time.Second, 20*time.Second))
		c.leave()
		c.gone.Wait()
	})
}

// hold begins a transaction that holds what a statement locks, until the returned
// function is called.
func (s *scene) hold(sql string) (release func()) {
	s.Helper()
	c := s.connect(s.server)
	s.do(c, "begin")
	s.do(c, sql)
	return func() {
		s.Helper()
		s.do(c, "rollback")
	}
}

// longerThanAll is longer than all time-outs of the store and of who calls it.
const longerThanAll = 6 * time.Second

// rowsLocked is strangers who are idle in transactions that hold conversations,
// and rows of the inbox of another one. What is locked waits; everything else
// goes on.
func rowsLocked(s *scene) {
	const (
		some = `select conv from parley.conversation order by conv limit 3 for update`
		one  = `select conv from parley.conversation order by conv desc limit 1 for update`
		last = `(select conv from parley.conversation order by conv desc limit 1)`
		rows = `select 1 from parley.inbox where conv = ` + last + ` for update`
	)
	admin := s.connect(s.server)
	s.during(func() {
		conversations, another := s.hold(some), s.hold(one)
		s.await(admin, "the held conversation has rows", "select count(*) > 0 from parley.inbox where conv = "+last)
		inbox := s.hold(rows)
		another()
		effects := s.sim.Progress().Effects
		lasts := pick(longerThanAll, 20*time.Second)
		s.rest(lasts)
		if got, want := s.sim.Progress().Effects-effects, int(s.form.rate*lasts.Seconds()/2); got < want {
			s.Errorf("%d effects while four conversations of %d were held, want %d at least", got, s.sim.Config().Users, want)
		}
		inbox()
		conversations()
	})
}

// tablesLocked is a stranger idle in a transaction that holds a whole table, one
// after the other.
func tablesLocked(s *scene) {
	for _, table := range pick([]string{"inbox", "conversation"}, []string{"inbox", "conversation", "outbox", "lease", "timer", "contact"}) {
		s.during(func() {
			release := s.hold("lock table parley." + table + " in access exclusive mode")
			s.rest(pick(longerThanAll, 15*time.Second))
			release()
		})
	}
}
