package postgres_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

func everyShard(uint16) bool { return true }

// A row that came before the database's clock was set back, or before a fail-over
// to one whose clock is behind, is from the future, and yet overdue: nobody knows
// how long it has been waiting.
func TestOverdueAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	url, ahead := database(t), newWall()
	behind := newWall()
	ahead.add(time.Hour)
	say(t, open(t, postgres.Config{URL: url, Now: ahead.now}), "a")
	s := open(t, postgres.Config{URL: url, Now: behind.now})
	young := say(t, s, "b")
	for _, limit := range []int{1, 10} {
		found, err := s.Overdue(t.Context(), everyShard, time.Second, limit)
		if err != nil || len(found) != 1 || found[0] == young.Conversation {
			t.Errorf("overdue, up to %d: %v, %v", limit, found, err)
		}
	}
}

// The same where there are so many rows of few conversations that these are
// looked for one by one.
func TestOverdueOfManyRowsAfterTheClockWasSetBack(t *testing.T) {
	t.Parallel()
	url, ahead, behind := database(t), newWall(), newWall()
	ahead.add(time.Hour)
	before := open(t, postgres.Config{URL: url, Now: ahead.now})
	const limit = 2
	many := make([]parley.Event, limit*postgres.OverdueWindow)
	for i := range many {
		many[i] = hello("a")
	}
	appended(t, before, many...)
	appended(t, before, hello("b"))
	s := open(t, postgres.Config{URL: url, Now: behind.now})
	if found, err := s.Overdue(t.Context(), everyShard, time.Second, limit); err != nil || len(found) != 2 {
		t.Errorf("overdue: %v, %v", found, err)
	}
}

// A row of nobody's, which no program of ours writes, doesn't hide the others.
func TestOverdueBesideARowOfNobody(t *testing.T) {
	t.Parallel()
	url := database(t)
	s, c := open(t, postgres.Config{URL: url}), session(t, url)
	run(t, c, `insert into parley.inbox (shard, conv, token, received, at, key, late, data) values (1, 'nobody', 0, 1, 0, '', false, '')`)
	want := say(t, s, "a").Conversation
	run(t, c, `update parley.inbox set received = 2 where conv <> 'nobody'`)
	if found, err := s.Overdue(t.Context(), everyShard, 0, 10); err != nil || len(found) != 1 || found[0] != want {
		t.Errorf("overdue: %v, %v", found, err)
	}
}
