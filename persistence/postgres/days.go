package postgres

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"github.com/parleychat/parley"
)

const (
	// daysMade is for how many days tables are made ahead, today included.
	daysMade = 8
	// DaysAlarm is the number of days ahead below which a node isn't ready: the
	// upkeep has not worked for days.
	DaysAlarm = 2
	// dayLockTimeout is how long making or removing a day's table waits for the
	// lock on its parent. Everybody else's statements wait behind it, so it is
	// short; what didn't succeed is tried again with the next upkeep.
	dayLockTimeout = 200 * time.Millisecond
	// pruneBatch is how many rows are deleted at a time where there is no table to
	// remove.
	pruneBatch = 5000
)

// byDay are the tables that have one for each day, and for how long days of each
// are kept; 0 is as long as history.
type byDay struct {
	table string
	keep  time.Duration
}

func tablesByDay() []byDay {
	return []byDay{{"history", 0}, {"seen", parley.SeenFor}, {"quarantine", 0}}
}

// Prune makes the tables of the days to come, and drops what is old: history and
// deliveries that have not changed for historyFor, and keys seen for longer than
// parley.SeenFor, and suspects after parley.SuspectFor. A day of the quarantine is
// dropped once it is old and empty.
//
// A table is taken out of its parent and dropped, each in a transaction of its
// own that waits only shortly for its lock. (PostgreSQL can't take one out
// concurrently where there is a default partition.)
func (s *Store) Prune(ctx context.Context, historyFor time.Duration) error {
	now, err := s.readClock(ctx)
	if err != nil {
		return failure("prune", err)
	}
	today := day(now)
	var errs []error
	for _, t := range tablesByDay() {
		keep := t.keep
		if keep == 0 {
			keep = historyFor
		}
		// A row of a day was written before the end of it.
		first := day(now - keep.Milliseconds())
		errs = append(errs, s.makeDays(ctx, t.table, today), s.dropDays(ctx, t.table, first))
	}
	errs = append(errs, s.pruneDeliveries(ctx, day(now-historyFor.Milliseconds())), s.pruneSuspects(ctx, now-parley.SuspectFor.Milliseconds()),
		s.pruneSilences(ctx, now-silenceFor.Milliseconds()))
	return failure("prune", errors.Join(errs...))
}

func (s *Store) readClock(ctx context.Context) (now int64, err error) {
	b := s.begin()
	b.row([]any{&now}, readClockSQL, s.now())
	err = s.send(ctx, s.work, b)
	return now, err
}

func dayTable(table string, d int32) string {
	return table + "_" + strconv.Itoa(int(d))
}

const listDaysSQL = `
select substr(c.relname, length($1::text) + 2)::integer
from pg_inherits i join pg_class c on c.oid = i.inhrelid
where i.inhparent = ('parley.' || $1::text)::regclass and c.relname ~ ('^' || $1::text || '_[0-9]+$')
order by 1`

// days lists the days of a table.
func (s *Store) days(ctx context.Context, table string) (days []int32, err error) {
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var d int32
		err := r.Scan(&d)
		days = append(days, d)
		return err
	}, listDaysSQL, table)
	err = s.send(ctx, s.work, b)
	return days, err
}

// daysAhead is for how many days from now on, today included, all tables are made.
func (s *Store) daysAhead(ctx context.Context) (int, error) {
	now, err := s.readClock(ctx)
	if err != nil {
		return 0, failure("look at the tables by day", err)
	}
	least := daysMade
	for _, t := range tablesByDay() {
		made, err := s.days(ctx, t.table)
		if err != nil {
			return 0, failure("look at the tables by day", err)
		}
		n := 0
		for d := day(now); n < daysMade && slices.Contains(made, d); d++ {
			n++
		}
		least = min(least, n)
	}
	return least, nil
}

// Ready is an error while something is wrong that needs a person's eye though
// everything works still: the days ahead are running out.
func (s *Store) Ready(ctx context.Context) error {
	ahead, err := s.daysAhead(ctx)
	if err == nil && ahead < DaysAlarm {
		err = fmt.Errorf("tables by day are made for %d days only: the upkeep fails, see the log", ahead)
	}
	return err
}

// makeDays makes the tables of the days to come. A day that can't be made, because
// too much of it is in the default partition to be moved in time, doesn't keep the
// days behind it from being made while nothing of them is there. But if somebody
// holds a lock, it is not waited for again and again.
func (s *Store) makeDays(ctx context.Context, table string, today int32) error {
	made, err := s.days(ctx, table)
	if err != nil {
		return err
	}
	var errs []error
	for d := today; d < today+daysMade; d++ {
		if slices.Contains(made, d) {
			continue
		}
		err := s.makeDay(ctx, table, d)
		errs = append(errs, err)
		if isLocked(err) {
			break
		}
	}
	return errors.Join(errs...)
}

func (s *Store) makeDay(ctx context.Context, table string, d int32) error {
	if err := s.alter(ctx, makeDaySQL(table, d)...); err != nil && !isDuplicate(err) {
		return fmt.Errorf("make a day of %s: %w", table, err)
	}
	return nil
}

// makeDaySQL makes a table, moves to it what the default partition holds of its
// day, and makes it a partition.
func makeDaySQL(table string, d int32) []string {
	parent, own, rest := "parley."+table, "parley."+dayTable(table, d), "parley."+table+"_default"
	return []string{
		"lock table " + parent + " in share update exclusive mode",
		fmt.Sprintf("create table %s (like %s including all)", own, parent),
		"lock table " + rest + " in access exclusive mode",
		fmt.Sprintf("with moved as (delete from %s where day = %d returning *) insert into %s select * from moved", rest, d, own),
		fmt.Sprintf("alter table %s attach partition %s for values from (%d) to (%d)", parent, own, d, d+1),
	}
}

// isDuplicate: another node has just made it.
func isDuplicate(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && (pg.Code == "42P07" || pg.Code == "42P17" || pg.Code == "23505")
}

// isLocked: somebody has held a lock for longer than it is waited for.
func isLocked(err error) bool {
	var pg *pgconn.PgError
	return errors.As(err, &pg) && pg.Code == "55P03"
}

// alter runs statements as one transaction that waits only shortly for locks.
func (s *Store) alter(ctx context.Context, statements ...string) error {
	_, err := s.script(ctx, append([]string{fmt.Sprintf("set local lock_timeout = %d", dayLockTimeout.Milliseconds())}, statements...)...)
	return err
}

// dropDays drops the days before first.
func (s *Store) dropDays(ctx context.Context, table string, first int32) error {
	made, err := s.days(ctx, table)
	if err != nil {
		return err
	}
	for _, d := range made {
		if d >= first {
			continue
		}
		if err := s.dropDay(ctx, table, d); err != nil {
			return fmt.Errorf("drop a day of %s: %w", table, err)
		}
	}
	if table == "quarantine" {
		return nil // what is in the default partition waits for its channel
	}
	return s.deleteBatches(ctx, fmt.Sprintf(
		"delete from parley.%[1]s_default where ctid = any(array(select ctid from parley.%[1]s_default where day < %[2]d limit %[3]d for update skip locked))", table, first, pruneBatch))
}

// dropDay drops a day, if another node hasn't done so.
func (s *Store) dropDay(ctx context.Context, table string, d int32) error {
	err := s.dropOldDay(ctx, table, "parley."+dayTable(table, d))
	var pg *pgconn.PgError
	if errors.As(err, &pg) && pg.Code == "42P01" {
		return nil
	}
	return err
}

func (s *Store) dropOldDay(ctx context.Context, table, own string) error {
	if table == "quarantine" {
		found, err := s.script(ctx, "select 1 from "+own+" limit 1")
		if err != nil || len(found[len(found)-1].Rows) > 0 {
			return err
		}
	}
	return s.alter(ctx, fmt.Sprintf("alter table parley.%s detach partition %s", table, own), "drop table "+own)
}

// pruneDeliveries deletes what has not changed since a day, and watermarks as old.
func (s *Store) pruneDeliveries(ctx context.Context, first int32) error {
	return errors.Join(
		s.deleteBatches(ctx, fmt.Sprintf(
			"delete from parley.delivery where ctid = any(array(select ctid from parley.delivery where day < %d limit %d for update skip locked))", first, pruneBatch)),
		s.pruneWatermarks(ctx, int64(first)*msPerDay),
	)
}

// silenceFor is how old a silence is at least when it is looked at whether it still
// silences anything. One that is said anew meanwhile is young again, so that nothing is
// deleted for what the outbox was a moment ago.
const silenceFor = time.Hour

// pruneSilences deletes those that were said before and of whose messages none is left.
func (s *Store) pruneSilences(ctx context.Context, since int64) error {
	return s.deleteBatches(ctx, fmt.Sprintf(
		"delete from parley.silence where ctid = any(array(select s.ctid from parley.silence s where s.at < %d"+
			" and not exists (select from parley.outbox o where o.conv = s.conv and o.ordinal <= s.ordinal) limit %d for update of s skip locked))", since, pruneBatch))
}

// pruneSuspects deletes those that were noted before. They are few, and so their
// time is in no index.
func (s *Store) pruneSuspects(ctx context.Context, since int64) error {
	return s.deleteBatches(ctx, fmt.Sprintf(
		"delete from parley.suspect where ctid = any(array(select ctid from parley.suspect where noted < %d limit %d for update skip locked))", since, pruneBatch))
}

// pruneWatermarksSQL looks at a page of watermarks and tells where it ends. Their
// time is in no index, as each report of a read message would change that, and all
// of them at once may be more than can be looked at within the time-out.
const pruneWatermarksSQL = `
with page as materialized (
    select w.ctid as tid, w.conv, w.status, w.at from parley.watermark w
    where (w.conv, w.status) > ($1, $2) order by w.conv, w.status limit $3
), gone as (
    delete from parley.watermark where ctid = any(array(
        select w.ctid from parley.watermark w
        where w.ctid = any(array(select p.tid from page p where p.at < $4)) and w.at < $4 for update skip locked
    ))
)
select p.conv, p.status from page p order by p.conv desc, p.status desc limit 1`

// pruneWatermarks deletes those that have not been raised since.
func (s *Store) pruneWatermarks(ctx context.Context, since int64) error {
	conv, status := []byte{}, []byte{}
	for conv != nil {
		from := []any{conv, status, pruneBatch, since}
		conv, status = nil, nil
		b := s.begin()
		b.row([]any{&conv, &status}, pruneWatermarksSQL, from...)
		if err := s.send(ctx, s.work, b); err != nil {
			return err
		}
	}
	return nil
}

// deleteBatches runs a statement until it has nothing more to delete. Rows that
// somebody is working on are left for the next time: two who delete and change
// many rows, each in its own order, would wait for each other.
func (s *Store) deleteBatches(ctx context.Context, sql string) error {
	for {
		done, err := s.script(ctx, sql)
		if err != nil || done[len(done)-1].CommandTag.RowsAffected() < pruneBatch {
			return err
		}
	}
}
