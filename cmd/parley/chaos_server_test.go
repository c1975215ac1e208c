package main_test

import (
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"
)

// postmasterKilled kills the server with SIGKILL and starts it again, as an init
// system would: all its processes at once, or only the first, which the others
// notice.
func postmasterKilled(s *scene) {
	for round := range pick(2, 10) {
		s.during(func() {
			if round%2 == 0 {
				s.kill()
			} else if err := syscall.Kill(s.server.PID(), syscall.SIGKILL); err != nil {
				s.Fatal(err)
			}
			s.rest(chance(time.Second))
			s.again()
		})
		s.rest(chance(time.Second))
	}
}

// kill kills the whole server.
func (s *scene) kill() {
	s.Helper()
	if err := s.server.Kill(); err != nil {
		s.Fatal(err)
	}
}

// again starts the server again. It may find that the last one has not quite
// gone, and is then started once more.
func (s *scene) again() {
	s.Helper()
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); ; {
		err := s.server.StartAgain(s.Context())
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.Fatal(err)
		}
		s.rest(100 * time.Millisecond)
	}
}

// serverAway is a server that is away for long, at full rate. Everything is
// acknowledged all the while.
func serverAway(s *scene) {
	s.during(func() {
		s.kill()
		s.rest(pick(4*time.Second, time.Minute))
		s.again()
	})
}

// backendKilled kills one of the server's processes with SIGKILL. The others end
// then, too, as the memory that they share may be damaged, and the server
// recovers by itself.
func backendKilled(s *scene) {
	for range pick(2, 10) {
		s.during(func() {
			var pid int
			c := s.connect(s.server)
			if err := c.QueryRow(s.Context(), oneSession).Scan(&pid); err != nil {
				s.Fatal(err)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				s.Fatal(err)
			}
			s.back()
		})
		s.rest(chance(time.Second))
	}
}

// oneSession is the process of one of the node's sessions.
const oneSession = `select pid from pg_stat_activity where application_name = 'parley' order by random() limit 1`

// back waits until the server takes connections.
func (s *scene) back() {
	s.Helper()
	const patience = 30 * time.Second
	for end := time.Now().Add(patience); ; s.rest(20 * time.Millisecond) {
		c, err := pgx.Connect(s.Context(), s.server.URL("postgres"))
		if err == nil {
			err = c.Close(s.Context())
		}
		if err == nil {
			return
		}
		if time.Now().After(end) {
			s.Fatal(err)
		}
	}
}

// nodeKilledInAnOutage kills the node with SIGKILL while its database is away,
// and starts it again before the database is back.
func nodeKilledInAnOutage(s *scene) {
	s.during(func() {
		s.sim.StoreDown(time.Now())
		s.kill()
		s.rest(pick(2*time.Second, 10*time.Second))
		s.count(s.node)
		s.node.kill()
		s.sim.Killed(time.Now())
		next := s.home.launch(s.T, asItself, s.configuration(s.home, s.url(s.server)))
		s.rest(pick(time.Second, 10*time.Second))
		s.again()
		s.sim.StoreUp(time.Now())
		next.serving(s.T, 1)
		s.turnTo(next)
	})
}
