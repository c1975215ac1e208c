package main_test

import (
	"time"

	"github.com/jackc/pgx/v5"
)

// failOver promotes an asynchronous standby that hasn't heard of the last moments
// of its primary. The node knows both by its URL. What the survivor has keeps all
// promises; only what was acknowledged in those moments may be missing, and only
// what was seen in them may happen again.
func failOver(s *scene) {
	primary, replica := s.connect(s.server), s.connect(s.standby)
	s.during(func() {
		from := s.cutOff(primary, replica)
		s.rest(pick(400*time.Millisecond, time.Second))
		until := time.Now()
		s.kill()
		// Whoever decides about a fail-over has to notice first. Meanwhile what was
		// under way comes to an end.
		s.rest(2 * time.Second)
		s.sim.StoreLost(from, until)
		if err := s.standby.Promote(s.Context()); err != nil {
			s.Fatal(err)
		}
	})
}

// cutOff makes the standby deaf, and returns an instant up to which it has heard
// everything.
func (s *scene) cutOff(primary, replica *pgx.Conn) time.Time {
	s.Helper()
	from := time.Now()
	var at string
	if err := primary.QueryRow(s.Context(), "select pg_current_wal_lsn()::text").Scan(&at); err != nil {
		s.Fatal(err)
	}
	s.await(replica, "the standby has it", "select pg_last_wal_receive_lsn() >= '"+at+"'::pg_lsn")
	s.do(replica, "alter system set primary_conninfo = ''")
	s.do(replica, "select pg_reload_conf()")
	s.await(replica, "the standby is cut off", "select count(*) = 0 from pg_stat_wal_receiver")
	return from
}
