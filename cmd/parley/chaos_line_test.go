package main_test

import (
	"math/rand/v2"
	"time"

	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
)

// answersLost loses the answers to commits, of any kind, picked at random: what
// was done stays done, and nobody hears of it.
func answersLost(s *scene) {
	const (
		every = 200 * time.Millisecond
		often = 3 // one of so many commits is picked
	)
	lasts := pick(5*time.Second, time.Minute)
	s.during(func() {
		for end := time.Now().Add(lasts); time.Now().Before(end); s.rest(chance(every)) {
			s.proxy.LoseAnswers(1, func(sent []faultproxy.Message) bool { return rand.IntN(often) == 0 && faultproxy.Commit(sent) })
		}
		s.proxy.LoseAnswers(0, nil)
	})
	if lost, want := s.proxy.Lost(), int(lasts/every/2); lost < want {
		s.Errorf("%d answers were lost, want %d at least", lost, want)
	}
}

// hanging is a database that takes everything and says nothing, as one does whose
// network is gone.
func hanging(s *scene) {
	s.during(func() {
		s.proxy.Hang()
		s.rest(pick(4*time.Second, 10*time.Second))
		s.proxy.Pass()
	})
}

// slow is a database that takes its time for everything.
func slow(s *scene) {
	const latency = 300 * time.Millisecond
	s.during(func() {
		s.proxy.Slow(latency)
		s.rest(pick(5*time.Second, 30*time.Second))
		s.proxy.Slow(0)
	})
}
