package node_test

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

// shelf is where receipts are appended.
type shelf struct {
	mu      sync.Mutex
	fails   func() error
	appends int
	has     map[string]int // how often, by the provider's id
}

func (s *shelf) Append(_ context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fails != nil {
		if err := s.fails(); err != nil {
			return nil, err
		}
	}
	s.appends++
	for _, r := range a.Receipts {
		s.has[r.ProviderID]++
	}
	return nil, nil
}

// announcements are n of them, from a number on.
func announcements(from, n int) []parley.Receipt {
	all := make([]parley.Receipt, n)
	for i := range all {
		number := from + i
		all[i] = parley.Receipt{ProviderID: strconv.Itoa(number), Row: parley.ID{byte(number >> 16), byte(number >> 8), byte(number)}}
	}
	return all
}

// noting runs what a test does with a node that notes what others announce, in a time of
// its own.
func noting(t *testing.T, do func(s *shelf, a node.Announced)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		s := &shelf{has: map[string]int{}}
		a := node.NewAnnounced(s.Append)
		ctx, stop := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		ended.Go(func() { a.Run(ctx) })
		do(s, a)
		stop()
		ended.Wait()
	})
}

func TestAnnouncedIsNoted(t *testing.T) {
	t.Parallel()
	t.Run("OnceHoweverOftenItIsAnnounced", func(t *testing.T) {
		t.Parallel()
		noting(t, func(s *shelf, a node.Announced) {
			_, _, once := a.Bounds()
			for range 10 {
				a.Add(announcements(0, 3))
				time.Sleep(once / 20)
			}
			synctest.Wait()
			if len(s.has) != 3 || s.has["0"] != 1 {
				t.Errorf("appended %v", s.has)
			}
			time.Sleep(once) // the store may have lost it meanwhile
			a.Add(announcements(0, 3))
			synctest.Wait()
			if s.has["0"] != 2 {
				t.Errorf("appended %v", s.has)
			}
		})
	})
	t.Run("ThoughTheStoreFailsForAWhile", func(t *testing.T) {
		t.Parallel()
		noting(t, func(s *shelf, a node.Announced) {
			over := time.Now().Add(3 * time.Second)
			s.fails = func() error {
				if time.Now().Before(over) {
					return errors.New("away")
				}
				return nil
			}
			a.Add(announcements(0, 3))
			time.Sleep(4 * time.Second)
			synctest.Wait()
			if len(s.has) != 3 {
				t.Errorf("appended %v", s.has)
			}
		})
	})
	t.Run("AnewIfItWasGivenUp", func(t *testing.T) {
		t.Parallel()
		noting(t, func(s *shelf, a node.Announced) {
			_, tried, _ := a.Bounds()
			s.fails = func() error { return errors.New("away") }
			a.Add(announcements(0, 3))
			time.Sleep(tried + time.Second)
			s.mu.Lock()
			s.fails = nil
			s.mu.Unlock()
			a.Add(announcements(0, 3))
			synctest.Wait()
			if len(s.has) != 3 {
				t.Errorf("appended %v", s.has)
			}
		})
	})
}

func TestAnnouncedIsBounded(t *testing.T) {
	t.Parallel()
	t.Run("OfManyChannelsTogether", func(t *testing.T) {
		t.Parallel()
		noting(t, func(s *shelf, a node.Announced) {
			heard := make(chan struct{})
			s.fails = func() error { <-heard; return nil } // the first append lasts until all is heard
			for i := range 1000 {
				a.Add(announcements(i, 1))
			}
			close(heard)
			synctest.Wait()
			if len(s.has) != 1000 || s.appends > 10 {
				t.Errorf("%d of 1000 appended, in %d transactions", len(s.has), s.appends)
			}
		})
	})
	t.Run("OnceThoughTheStoreIsAwayForLong", func(t *testing.T) {
		t.Parallel()
		noting(t, func(s *shelf, a node.Announced) {
			over := time.Now().Add(10 * time.Minute)
			s.fails = func() error {
				if time.Now().Before(over) {
					return errors.New("away")
				}
				return nil
			}
			for time.Now().Before(over) {
				a.Add(announcements(0, 4000))
				time.Sleep(4 * time.Second)
			}
			time.Sleep(time.Second)
			synctest.Wait()
			for id, n := range s.has {
				if n != 1 {
					t.Fatalf("%s is appended %d times", id, n)
				}
			}
			if len(s.has) != 4000 {
				t.Errorf("%d are appended", len(s.has))
			}
		})
	})
	t.Run("WithinABound", func(t *testing.T) {
		t.Parallel()
		noting(t, func(s *shelf, a node.Announced) {
			most, _, once := a.Bounds()
			a.Add(announcements(0, most+10))
			synctest.Wait()
			if len(s.has) != most {
				t.Errorf("%d appended, want %d", len(s.has), most)
			}
			time.Sleep(once)
			a.Add(announcements(most, 10))
			synctest.Wait()
			if len(s.has) != most+10 {
				t.Errorf("%d appended, want %d", len(s.has), most+10)
			}
		})
	})
}
