package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// wall is a clock that a test sets.
type wall struct{ ms atomic.Int64 }

func newWall() *wall {
	w := &wall{}
	w.ms.Store(time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).UnixMilli())
	return w
}

func (w *wall) now() time.Time      { return time.UnixMilli(w.ms.Load()) }
func (w *wall) add(d time.Duration) { w.ms.Add(d.Milliseconds()) }

const aDay = 24 * time.Hour

// tables lists the tables of days.
func tables(t *testing.T, c *pgx.Conn, parent string) (names []string) {
	t.Helper()
	rows, err := c.Query(t.Context(), "select relname from pg_class where relnamespace = 'parley'::regnamespace and relkind = 'r' and relname ~ $1 order by 1", "^"+parent+"_[0-9]+$")
	if err != nil {
		t.Fatal(err)
	}
	names, err = pgx.CollectRows(rows, pgx.RowTo[string])
	if err != nil {
		t.Fatal(err)
	}
	return names
}

func prune(t *testing.T, s *postgres.Store) {
	t.Helper()
	if err := s.Prune(t.Context(), 3*aDay); err != nil {
		t.Fatal(err)
	}
}

func count(t *testing.T, c *pgx.Conn, from string) (n int) {
	t.Helper()
	if err := c.QueryRow(t.Context(), "select count(*) from "+from).Scan(&n); err != nil {
		t.Fatal(err)
	}
	return n
}

// TestDays: tables are made for a week ahead, what the default partition had of
// their days moves in, and days that are over are dropped.
func TestDays(t *testing.T) {
	t.Parallel()
	url, clock := database(t), newWall()
	s, c := open(t, postgres.Config{URL: url, Now: clock.now}), session(t, url)
	if err := s.Ready(t.Context()); err == nil {
		t.Error("ready without a day ahead")
	}
	turn := func(name string) {
		t.Helper()
		commit := turnOf(t, s, say(t, s, name).Conversation)
		commit.Evicted = []parley.SeenKey{{Key: parley.NewEventKey("old", name), At: clock.now()}}
		if errs, err := s.Commit(t.Context(), []parley.Commit{commit}); err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
	}
	turn("a")
	if n := count(t, c, "parley.history_default"); n != 1 {
		t.Fatalf("%d records in the default partition", n)
	}
	prune(t, s)
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
	for _, parent := range []string{"history", "seen", "quarantine"} {
		if names := tables(t, c, parent); len(names) != 8 {
			t.Errorf("days of %s: %v", parent, names)
		}
		if n := count(t, c, "parley."+parent+"_default"); n != 0 {
			t.Errorf("%d rows of %s stayed in the default partition", n, parent)
		}
	}
	first := tables(t, c, "history")[0]
	if n := count(t, c, "parley."+first); n != 1 {
		t.Errorf("%d records in the day's table", n)
	}
	quarantine(t, s)
	clock.add(2 * aDay)
	turn("b")
	clock.add(2*aDay + time.Hour)
	prune(t, s)
	if names := tables(t, c, "history"); len(names) != 11 || names[0] == first {
		t.Errorf("days of history after 4 days, 3 of them kept: %v", names)
	}
	if n := count(t, c, "parley.history"); n != 1 {
		t.Errorf("%d records are left, want 1", n)
	}
	if n := count(t, c, "parley.quarantine"); n != 1 {
		t.Error("what was in quarantine is gone")
	}
	clock.add(20 * aDay)
	if err := s.Ready(t.Context()); err == nil {
		t.Error("ready after 20 days without an upkeep")
	}
}

func quarantine(t *testing.T, s *postgres.Store) {
	t.Helper()
	q := parley.Quarantined{App: "app", Kind: parley.Messenger, ChannelID: "page", Cause: "unknown", Body: []byte("{}")}
	if _, err := s.Append(t.Context(), parley.Arrivals{Quarantined: []parley.Quarantined{q}}); err != nil {
		t.Fatal(err)
	}
}

// takeTurn says something and takes the turn. It fails, and is to be taken again, if
// the table of its day is made at that very moment.
func takeTurn(t *testing.T, s *postgres.Store, name string) error {
	t.Helper()
	const tries = 5
	c := say(t, s, name).Conversation
	for try := 1; ; try++ {
		errs, err := s.Commit(t.Context(), []parley.Commit{turnOf(t, s, c)})
		err = errors.Join(append(errs, err)...)
		if err == nil || try == tries || !errors.Is(err, parley.ErrUnavailable) {
			return err
		}
	}
}

// TestDaysByManyAtOnce: each node does the upkeep; they don't get in each
// other's way, nor in that of turns.
func TestDaysByManyAtOnce(t *testing.T) {
	t.Parallel()
	url, clock := database(t), newWall()
	s := open(t, postgres.Config{URL: url, Now: clock.now, Conns: 8})
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := s.Prune(t.Context(), 3*aDay); err != nil && !strings.Contains(err.Error(), "lock timeout") {
				t.Error(err)
			}
		})
	}
	wg.Go(func() {
		for i := range 50 {
			if err := takeTurn(t, s, fmt.Sprint(i)); err != nil {
				t.Error(err)
			}
		}
	})
	wg.Wait()
	prune(t, s)
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestDaysGiveWay: somebody holds a table for long; the upkeep gives up instead
// of making everybody wait behind it.
func TestDaysGiveWay(t *testing.T) {
	t.Parallel()
	url, clock := database(t), newWall()
	s, c := open(t, postgres.Config{URL: url, Now: clock.now}), session(t, url)
	prune(t, s)
	clock.add(10 * aDay)
	run(t, c, "begin")
	run(t, c, "lock table parley.history in row exclusive mode")
	began := time.Now()
	err := s.Prune(t.Context(), 3*aDay)
	if err == nil || !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("upkeep of a table that is held: %v", err)
	}
	if waited := time.Since(began); waited > 5*time.Second {
		t.Errorf("it waited for %s", waited)
	}
	run(t, c, "rollback")
	prune(t, s)
	if err := s.Ready(context.WithoutCancel(t.Context())); err != nil {
		t.Error(err)
	}
}

// TestDaysBehindOneThatCantBeMade: too much of a day is in the default partition
// to be moved in time. The days behind it are made nevertheless, or they would end
// there as well, and so on.
func TestDaysBehindOneThatCantBeMade(t *testing.T) {
	t.Parallel()
	url, clock := database(t), newWall()
	s, c := open(t, postgres.Config{URL: url, Now: clock.now}), session(t, url)
	turn := turnOf(t, s, say(t, s, "a").Conversation)
	if errs, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	run(t, c, `create function parley.slow() returns trigger language plpgsql as $$begin raise sqlstate '57014'; end$$`)
	run(t, c, `create trigger slow before delete on parley.history_default for each row execute function parley.slow()`)
	if err := s.Prune(t.Context(), 3*aDay); err == nil {
		t.Error("the upkeep doesn't tell of a day that it could not make")
	}
	if names := tables(t, c, "history"); len(names) != 7 {
		t.Errorf("days of history: %v, want all but the first", names)
	}
	clock.add(aDay)
	prune(t, s)
	if err := s.Ready(t.Context()); err != nil {
		t.Error(err)
	}
}

// TestPruneBesideTheSenders: what is old and being changed at this moment is left
// alone, and not waited for.
func TestPruneBesideTheSenders(t *testing.T) {
	t.Parallel()
	url, clock := database(t), newWall()
	s, c := open(t, postgres.Config{URL: url, Now: clock.now}), session(t, url)
	run(t, c, `insert into parley.delivery select 'c', n::text::bytea, '', gen_random_uuid(), '', '', 0, 0, 0, '', 0 from generate_series(1, 9) n`)
	run(t, c, `insert into parley.watermark select n::text::bytea, '', 0, 0 from generate_series(1, 9) n`)
	run(t, c, "begin")
	run(t, c, `update parley.delivery set day = 99999 where digest = '1'`)
	run(t, c, `update parley.watermark set at = 1e15 where conv = '1'`)
	prune(t, s)
	run(t, c, "commit")
	prune(t, s)
	if d, w := count(t, c, "parley.delivery"), count(t, c, "parley.watermark"); d != 1 || w != 1 {
		t.Errorf("%d deliveries and %d watermarks are left, want those that changed", d, w)
	}
}

// TestPruneOfManyWatermarks: they are looked at by the page.
func TestPruneOfManyWatermarks(t *testing.T) {
	t.Parallel()
	url, clock := database(t), newWall()
	s, c := open(t, postgres.Config{URL: url, Now: clock.now}), session(t, url)
	run(t, c, `insert into parley.watermark select (n / 2)::text::bytea, (n % 2)::text::bytea, 0, case when n % 5 = 0 then 1e15 else 0 end from generate_series(1, 12000) n`)
	prune(t, s)
	if n := count(t, c, "parley.watermark"); n != 2400 {
		t.Errorf("%d watermarks are left, want 2400", n)
	}
}
