package postgres_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

func channelOf(i int) parley.Channel {
	return parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: fmt.Sprint("page", i)}
}

// TestYieldBesideAFrozenHolder: the one that was lost holds a lease's row in a
// transaction that it will never end. Its other leases are given back at once.
func TestYieldBesideAFrozenHolder(t *testing.T) {
	t.Parallel()
	url := database(t)
	s, c := open(t, postgres.Config{URL: url}), session(t, url)
	for i := range 3 {
		if _, err := s.Lease(t.Context(), channelOf(i), "lost", time.Hour, parley.Lease{}); err != nil {
			t.Fatal(err)
		}
	}
	run(t, c, "begin")
	run(t, c, "select from parley.lease where channel = '"+channelOf(1).String()+"' for update")
	began := time.Now()
	err := s.Yield(t.Context(), "lost", nil)
	if !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("yield of a lease that is locked: %v", err)
	}
	if took := time.Since(began); took > 2*time.Second {
		t.Errorf("it took %s", took)
	}
	for _, i := range []int{0, 2} {
		if _, err := s.Lease(t.Context(), channelOf(i), "next", time.Hour, parley.Lease{}); err != nil {
			t.Errorf("lease of channel %d: %v", i, err)
		}
	}
	run(t, c, "rollback")
	if err := s.Yield(t.Context(), "lost", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Lease(t.Context(), channelOf(1), "next", time.Hour, parley.Lease{}); err != nil {
		t.Error(err)
	}
}

// TestYieldWaitsForWhoIsAboutToSettle: a lease in use is given back all the same,
// once its transaction has ended.
func TestYieldWaitsForWhoIsAboutToSettle(t *testing.T) {
	t.Parallel()
	url := database(t)
	s, c, other := open(t, postgres.Config{URL: url}), session(t, url), session(t, url)
	if _, err := s.Lease(t.Context(), channelOf(1), "lost", time.Hour, parley.Lease{}); err != nil {
		t.Fatal(err)
	}
	const tries = 5 // on a machine so slow that it has waited too long meanwhile
	for try := range tries {
		run(t, c, "begin")
		run(t, c, "select from parley.lease for update")
		yielded := make(chan error, 1)
		go func() { yielded <- s.Yield(t.Context(), "lost", nil) }()
		await(t, other, "wait of the second statement",
			"select count(*) filter (where wait_event_type = 'Lock') > 0 from pg_stat_activity where datname = current_database()")
		run(t, c, "commit")
		err := <-yielded
		if err == nil {
			break
		}
		if !errors.Is(err, parley.ErrUnavailable) || try == tries-1 {
			t.Fatal(err)
		}
	}
	if _, err := s.Lease(t.Context(), channelOf(1), "next", time.Hour, parley.Lease{}); err != nil {
		t.Error(err)
	}
}

// TestYieldIsForEver: a database whose clock is set back doesn't give it again.
func TestYieldIsForEver(t *testing.T) {
	t.Parallel()
	url, ahead, behind := database(t), newWall(), newWall()
	ahead.add(time.Hour)
	before := open(t, postgres.Config{URL: url, Now: ahead.now})
	if _, err := before.Lease(t.Context(), channelOf(1), "lost", time.Minute, parley.Lease{}); err != nil {
		t.Fatal(err)
	}
	if err := before.Yield(t.Context(), "lost", nil); err != nil {
		t.Fatal(err)
	}
	if _, err := open(t, postgres.Config{URL: url, Now: behind.now}).Lease(t.Context(), channelOf(1), "next", time.Minute, parley.Lease{}); err != nil {
		t.Error(err)
	}
}
