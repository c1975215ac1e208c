package postgres

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// Source is a store that is copied. Nobody changes it meanwhile.
type Source interface {
	// Export calls each with all that the store holds, part by part, always in the
	// same order, and with the place up to which the part goes. It begins behind
	// the place after; nil is the beginning.
	Export(ctx context.Context, after []byte, each func(part parley.Holdings, upTo []byte) error) error
	// Ledger and Accepted tell what has been counted: see audit.Store.
	Ledger(ctx context.Context) (parley.Ledger, error)
	Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error
}

// The errors of a copy on which a caller decides.
var (
	// ErrUnfinished is the answer of Open if a copy into the database was begun and
	// is not finished.
	ErrUnfinished = errors.New("the database holds a part of another store only: its copy is not finished")
	// ErrNotEmpty is the answer to a copy into a database that holds something else.
	ErrNotEmpty = errors.New("the database is not empty")
	// ErrDiffers is the answer to a copy that was made and is not equal to its
	// source.
	ErrDiffers = errors.New("the database does not hold what the source does")
)

// CopyStage says what a copy is doing.
type CopyStage string

// The stages of a copy, in their order.
const (
	CopyReading  CopyStage = "reading"  // the source is read once: what is there, and how much
	CopyWriting  CopyStage = "writing"  // it is written to the database
	CopyChecking CopyStage = "checking" // the database is read and compared
)

// CopyProgress says how far a copy is in one of its stages.
type CopyProgress struct {
	Stage CopyStage
	Kind  string // of the last items: see parley.HoldingKinds
	Items uint64
	Of    uint64 // 0 if it isn't known yet
}

// Copied is what a copy has come to.
type Copied struct {
	Source parley.Tally
	// Target is what the database holds, if that was read.
	Target parley.Tally
	// Before is when an earlier call had finished the copy, so that this one had
	// nothing to do; zero if it didn't.
	Before time.Time
}

// CopyInto copies a store into an empty database, and checks the copy. It may be
// broken off at any time, and is finished by another call for the same source.
//
// First the source is read, and comes to a tally. Its digest is what identifies
// the source: a folder can be moved, and a name says nothing of what has been
// changed since. So a copy goes on only if the source still holds what it held
// when it was begun; had a node worked there in between, what was copied before
// would be of another moment than the rest.
//
// Then the parts of the source are written. Each is one transaction, which also
// notes in parley.copy up to which place of the source everything is there, and
// takes hold only if that was the place where it begins. So each part is written
// once, whatever becomes of answers, and of two copies at a time one gives up.
//
// At last all that the database holds is read and comes to a tally of its own. Only
// if both are equal is the copy marked as finished; until then Open refuses the
// database.
func CopyInto(ctx context.Context, cfg Config, from Source, progress func(CopyProgress)) (Copied, error) {
	s, err := prepare(ctx, cfg)
	if err != nil {
		return Copied{}, fmt.Errorf("copy: %w", err)
	}
	defer s.closePools()
	c := &copying{store: s, from: from, progress: progress, days: map[string][]int32{}}
	for _, step := range []struct {
		name string
		do   func(context.Context) error
	}{{"read the source", c.read}, {"begin", c.begin}, {"write", c.write}, {"check", c.check}, {"finish", c.finish}} {
		if err := step.do(ctx); err != nil {
			return c.result, fmt.Errorf("copy: %s: %w", step.name, err)
		}
		if !c.result.Before.IsZero() {
			break
		}
	}
	return c.result, nil
}

// copying is a copy under way.
type copying struct {
	store    *Store
	from     Source
	progress func(CopyProgress)
	result   Copied
	source   [32]byte
	upTo     []byte
	items    uint64
	days     map[string][]int32 // that are made, by table
}

// tell says how far a stage is with a part that is done.
func (c *copying) tell(stage CopyStage, part *parley.Holdings, items uint64) {
	p := CopyProgress{Stage: stage, Items: items}
	if _, p.Kind = part.Items(); stage != CopyReading {
		p.Of = c.result.Source.Items()
	}
	c.progress(p)
}

func (c *copying) read(ctx context.Context) error {
	err := c.from.Export(ctx, nil, func(part parley.Holdings, _ []byte) error {
		c.result.Source.Add(&part)
		c.tell(CopyReading, &part, c.result.Source.Items())
		return nil
	})
	c.source = c.result.Source.Digest()
	return err
}

const readCopySQL = `select source, up_to, items, coalesce(finished, 0) from parley.copy`

const beginCopySQL = `
insert into parley.copy (source, up_to, items, began) values ($2, '', 0, ` + clock + `)`

// begin finds where to go on, or that the database is empty and begins.
func (c *copying) begin(ctx context.Context) error {
	var source []byte
	var finished int64
	err := c.transaction(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		err := tx.QueryRow(ctx, readCopySQL).Scan(&source, &c.upTo, &c.items, &finished)
		if !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		if err := mustBeEmpty(ctx, tx); err != nil {
			return err
		}
		_, err = tx.Exec(ctx, beginCopySQL, c.store.now(), c.source[:])
		return err
	})
	switch {
	case err != nil || source == nil:
		return err
	case bytes.Equal(source, c.source[:]):
		c.result.Before = fromMS(finished)
		return nil
	case finished != 0:
		return fmt.Errorf("%w: it holds the copy of another store, or of this one as it was then", ErrNotEmpty)
	}
	return fmt.Errorf("%w: it holds a part of another store, or of this one as it was before something was changed there; %s", ErrNotEmpty, emptyAdvice)
}

const emptyAdvice = `name another database, or if nothing in this one is needed: drop schema parley cascade, and then "parley migrate up"`

// mustBeEmpty names a table that has rows.
func mustBeEmpty(ctx context.Context, tx pgx.Tx) error {
	var parts []string
	for _, t := range copiedTables() {
		parts = append(parts, fmt.Sprintf("select '%[1]s' from (select from parley.%[1]s limit 1) one", t.name))
	}
	var name string
	err := tx.QueryRow(ctx, strings.Join(parts, " union all ")+" limit 1").Scan(&name)
	switch {
	case errors.Is(err, pgx.ErrNoRows):
		return nil
	case err != nil:
		return err
	}
	return fmt.Errorf("%w: its table %s has rows, and they are of no copy; %s", ErrNotEmpty, name, emptyAdvice)
}

func (c *copying) write(ctx context.Context) error {
	c.tell(CopyWriting, &parley.Holdings{}, c.items)
	return c.from.Export(ctx, c.upTo, func(part parley.Holdings, upTo []byte) error {
		n, _ := part.Items()
		if err := c.put(ctx, &part, upTo, n); err != nil {
			return err
		}
		c.upTo, c.items = bytes.Clone(upTo), c.items+n
		c.tell(CopyWriting, &part, c.items)
		return nil
	})
}

// The time that a statement of a copy may take: one that writes a part, and one
// that reads a whole table.
const (
	copyTimeout      = "set local statement_timeout = '1min'"
	copyCheckTimeout = "set local statement_timeout = 0"
)

const noteCopiedSQL = `
update parley.copy set up_to = $3, items = items + $4
where source = $1 and up_to = $2 and finished is null`

// raiseNumbersSQL: numbers go on above those of the source.
const raiseNumbersSQL = `
select setval('parley.inbox_seq', greatest($1::bigint, (select last_value from parley.inbox_seq))),
    setval('parley.receipt_seq', greatest($1::bigint, (select last_value from parley.receipt_seq))),
    setval('parley.contact_seq', greatest($1::bigint, (select last_value from parley.contact_seq)))`

var errAnotherCopy = errors.New("another copy into this database is under way")

// put writes one part.
func (c *copying) put(ctx context.Context, part *parley.Holdings, upTo []byte, items uint64) error {
	c.makeDays(ctx, part)
	return c.transaction(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, copyTimeout); err != nil {
			return err
		}
		noted, err := tx.Exec(ctx, noteCopiedSQL, c.source[:], some(c.upTo), upTo, int64(items))
		if err == nil && noted.RowsAffected() == 0 {
			err = errAnotherCopy
		}
		if err == nil && part.Numbers > 0 {
			_, err = tx.Exec(ctx, raiseNumbersSQL, int64(part.Numbers))
		}
		if err != nil {
			return err
		}
		for _, t := range copiedTables() {
			if err := t.write(ctx, tx, part); err != nil {
				return err
			}
		}
		return nil
	})
}

// copiedDaysMax is for how many days back tables by day are made. What is older
// goes to their default partitions.
const copiedDaysMax = 400

// makeDays makes the tables of the days that a part has rows of, so that they can
// be dropped one day. Without one, its rows go to the default partition.
func (c *copying) makeDays(ctx context.Context, part *parley.Holdings) {
	for table, days := range daysOf(part) {
		err := c.makeDaysOf(ctx, table, days)
		if err != nil {
			c.store.cfg.Logger.WarnContext(ctx, "make the tables of past days", slog.String("table", table), slog.Any("error", failure("make days", err)))
		}
	}
}

func (c *copying) makeDaysOf(ctx context.Context, table string, days []int32) error {
	now, err := c.store.readClock(ctx)
	if err != nil {
		return err
	}
	if c.days[table] == nil {
		if c.days[table], err = c.store.days(ctx, table); err != nil {
			return err
		}
	}
	for _, d := range days {
		if slices.Contains(c.days[table], d) || d > day(now) || d < day(now)-copiedDaysMax {
			continue
		}
		c.days[table] = append(c.days[table], d) // also if it fails: once is enough
		if err := c.store.makeDay(ctx, table, d); err != nil {
			return err
		}
	}
	return nil
}

// daysOf lists the days of a part, by table.
func daysOf(part *parley.Holdings) map[string][]int32 {
	days := map[string][]int32{}
	add := func(table string, d int32) {
		if of := days[table]; len(of) == 0 || of[len(of)-1] != d {
			days[table] = append(of, d)
		}
	}
	for i := range part.History {
		add("history", int32(part.History[i].Day))
	}
	for i := range part.Older {
		add("seen", day(toMS(part.Older[i].Seen.At)))
	}
	for i := range part.Quarantined {
		add("quarantine", day(toMS(part.Quarantined[i].Received)))
	}
	return days
}

// check reads what the database holds, at one moment.
func (c *copying) check(ctx context.Context) error {
	want, got := &c.result.Source, &c.result.Target
	c.tell(CopyChecking, &parley.Holdings{}, 0)
	err := c.transaction(ctx, pgx.TxOptions{IsoLevel: pgx.RepeatableRead, AccessMode: pgx.ReadOnly}, func(tx pgx.Tx) error {
		if _, err := tx.Exec(ctx, copyCheckTimeout); err != nil {
			return err
		}
		for _, t := range copiedTables() {
			err := t.read(ctx, tx, func(part *parley.Holdings) {
				got.Add(part)
				c.tell(CopyChecking, part, got.Items())
			})
			if err != nil {
				return err
			}
		}
		return nil
	})
	if err == nil && *got != *want {
		err = fmt.Errorf("%w: %s", ErrDiffers, strings.Join(differing(want, got), ", "))
	}
	return err
}

// differing names the kinds in which two tallies are not equal.
func differing(want, got *parley.Tally) (kinds []string) {
	for i, name := range parley.HoldingKinds() {
		if want[i] != got[i] {
			kinds = append(kinds, name)
		}
	}
	return kinds
}

const finishCopySQL = `update parley.copy set finished = ` + clock + ` where source = $2 and finished is null`

// finish marks the copy as finished, and takes over what the source has counted, in
// one transaction: so the books go on.
func (c *copying) finish(ctx context.Context) error {
	g, err := c.from.Ledger(ctx)
	if err != nil {
		return err
	}
	return c.transaction(ctx, pgx.TxOptions{}, func(tx pgx.Tx) error {
		done, err := tx.Exec(ctx, finishCopySQL, c.store.now(), c.source[:])
		if err != nil || done.RowsAffected() == 0 { // another call has finished it
			return err
		}
		return c.takeOver(ctx, tx, &g)
	})
}

const takeBooksSQL = `update parley.books set opened = $1, turn = turn + 1`

const takeAcceptedSQL = `insert into parley.accepted (bucket, events) values ($1, $2)`

// takeOver writes what the source has counted, and what it has listed, and reads it back.
func (c *copying) takeOver(ctx context.Context, tx pgx.Tx, g *parley.Ledger) error {
	if _, err := tx.Exec(ctx, takeBooksSQL, toMS(g.Opened)); err != nil {
		return err
	}
	b := &batch{}
	want := books{opened: toMS(g.Opened), counted: map[parley.Posting]int{}, listed: map[string]int{}}
	seen := map[int64]bool{}
	for i := range g.Lines {
		p := g.Lines[i].Posting
		insertPostings(b, []parley.Posting{p})
		want.counted[p]++
		if p.Sort != parley.AuditEvents || seen[p.Bucket] {
			continue
		}
		seen[p.Bucket] = true
		err := c.from.Accepted(ctx, p.Bucket, func(some []parley.Accepted) bool {
			events := encodeAccepted(some)
			b.exec(takeAcceptedSQL, p.Bucket, events)
			want.listed[listKey(p.Bucket, events)]++
			return true
		})
		if err != nil {
			return err
		}
	}
	if err := tx.SendBatch(ctx, &b.Batch).Close(); err != nil {
		return err
	}
	got, err := readBooks(ctx, tx)
	if err == nil && (got.opened != want.opened || !maps.Equal(got.counted, want.counted) || !maps.Equal(got.listed, want.listed)) {
		err = fmt.Errorf("%w: books of the audit", ErrDiffers)
	}
	return err
}

// books are what the audit keeps, as a database holds it: how often each posting is
// there, and each list of accepted events.
type books struct {
	opened  int64
	counted map[parley.Posting]int
	listed  map[string]int
}

// listKey stands for a list, which may be long.
func listKey(bucket int64, events []byte) string {
	return fmt.Sprintf("%d %x", bucket, sha256.Sum256(events))
}

const (
	readPostingsSQL = `select brand, sort, bucket, acknowledged, effected, duplicate, dead, dropped from parley.posting`
	readListsSQL    = `select bucket, events from parley.accepted`
	readOpenedSQL   = `select opened from parley.books`
)

func readBooks(ctx context.Context, tx pgx.Tx) (got books, _ error) {
	got.counted, got.listed = map[parley.Posting]int{}, map[string]int{}
	if err := tx.QueryRow(ctx, readOpenedSQL).Scan(&got.opened); err != nil {
		return got, err
	}
	var brand, events []byte
	var sort int16
	var p parley.Posting
	rows, err := tx.Query(ctx, readPostingsSQL)
	if err != nil {
		return got, err
	}
	_, err = pgx.ForEachRow(rows, []any{&brand, &sort, &p.Bucket, &p.Acknowledged, &p.Effected, &p.Duplicate, &p.Dead, &p.Dropped}, func() error {
		p.Brand, p.Sort = parley.Brand(brand), parley.AuditSort(sort)
		got.counted[p]++
		return nil
	})
	if err != nil {
		return got, err
	}
	if rows, err = tx.Query(ctx, readListsSQL); err != nil {
		return got, err
	}
	_, err = pgx.ForEachRow(rows, []any{&p.Bucket, &events}, func() error {
		got.listed[listKey(p.Bucket, events)]++
		return nil
	})
	return got, err
}

// transaction runs one with a client's decisions in it.
func (c *copying) transaction(ctx context.Context, o pgx.TxOptions, do func(pgx.Tx) error) error {
	conn, err := c.store.work.Acquire(ctx)
	if err != nil {
		return failure("connect", err)
	}
	defer conn.Release()
	own := sessionOf(conn.Conn())
	own.warned.Store(false)
	err = pgx.BeginTxFunc(ctx, conn, o, func(tx pgx.Tx) error {
		if c.store.prelude {
			if _, err := tx.Exec(ctx, preludeSQL()); err != nil {
				return err
			}
		}
		return do(tx)
	})
	if err == nil && own.warned.Load() {
		err = errWarned
	}
	if err == nil || isOurs(err) {
		return err
	}
	return failure("transaction", err)
}

const unfinishedSQL = `select true from parley.copy where finished is null`

// checkCopied refuses a database that holds a part of another store only.
func (s *Store) checkCopied(ctx context.Context) error {
	var unfinished bool
	b := s.begin()
	b.row([]any{&unfinished}, unfinishedSQL)
	if err := s.send(ctx, s.work, b); err != nil {
		return failure("look for an unfinished copy", err)
	}
	if unfinished {
		return fmt.Errorf(`%w; run the same "parley store copy" again`, ErrUnfinished)
	}
	return nil
}
