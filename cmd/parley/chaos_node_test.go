package main_test

import (
	"syscall"
	"time"
)

// freeze stops a node inside of its group commit: a stranger's lock makes the
// commit wait, the node is stopped, and the commit goes on without it.
func (s *scene) freeze(n *instance) {
	s.Helper()
	release := s.hold("lock table parley.conversation in exclusive mode")
	s.await(s.connect(s.server), "a commit waits for the lock",
		"select count(*) > 0 from pg_stat_activity where application_name = 'parley' and wait_event_type = 'Lock'")
	s.signal(n, syscall.SIGSTOP)
	s.sim.Frozen(time.Now())
	release()
}

// thaw lets a frozen node go on.
func (s *scene) thaw(n *instance) {
	s.Helper()
	s.sim.Thawed(time.Now())
	s.signal(n, syscall.SIGCONT)
}

func (s *scene) signal(n *instance, sig syscall.Signal) {
	s.Helper()
	if err := n.cmd.Process.Signal(sig); err != nil {
		s.Fatal(err)
	}
}

// nodeFrozen freezes the only node for a while, several times.
func nodeFrozen(s *scene) {
	for _, d := range pick([]time.Duration{3 * time.Second}, []time.Duration{3 * time.Second, 12 * time.Second, 3 * time.Second, 12 * time.Second}) {
		s.during(func() {
			s.freeze(s.node)
			s.rest(d)
			s.thaw(s.node)
		})
		s.rest(time.Second)
	}
}

// nodeReplaced freezes the node, and lets another on the same database take its
// place. Then the first goes on, believing what it believed: both own everything
// now, and versions, rows and leases decide.
func nodeReplaced(s *scene) {
	first := s.node
	var second *instance
	frozen := time.Now()
	s.during(func() {
		frozen = time.Now()
		s.freeze(first)
		second = s.serve(newHouse(s.T), s.url(s.server))
		s.turnTo(second)
	})
	s.rest(pick(8*time.Second, 12*time.Second) - time.Since(frozen))
	s.during(func() { s.thaw(first) })
	s.rest(pick(2*time.Second, 10*time.Second))
	s.count(first)
	first.stop(s.T)
}
