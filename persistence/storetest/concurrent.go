package storetest

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// workers is how many goroutines the tests of concurrency use.
const workers = 8

// together runs f by all workers at once, each with a desk of its own at the
// same store.
func (d *desk) together(f func(ctx context.Context, w int, own *desk) error) {
	d.t.Helper()
	var wg sync.WaitGroup
	for w := range workers {
		own := *d
		own.n = uint64(w+1) << 40
		wg.Go(func() {
			if err := f(d.t.Context(), w, &own); err != nil {
				d.t.Errorf("worker %d: %v", w, err)
			}
		})
	}
	wg.Wait()
}

func runConcurrent(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"NumbersGrowPastWhatHadReturned":       concurrentAppends,
		"OfTwoCommitsFromOneVersionOneIsTaken": concurrentCommits,
		"EachRowIsConsumedOnce":                concurrentRows,
		"EachMessageIsClaimedOnceInOrder":      concurrentClaims,
		"EachTimerFiresOnce":                   concurrentTimers,
		"OneHolder":                            concurrentLeases,
		"GroupsOfTheSameDoNotFail":             concurrentGroups,
	})
}

func concurrentAppends(t *testing.T, d *desk) {
	var mu sync.Mutex
	returned := parley.Seq(0) // the largest number of any Append that has returned
	d.together(func(ctx context.Context, w int, own *desk) error {
		for i := range 50 {
			mu.Lock()
			before := returned
			mu.Unlock()
			rows, err := own.Append(ctx, parley.Arrivals{Events: []parley.Event{
				own.event(conv(fmt.Sprint(w)), "x"), own.event(conv("all"), "x"),
			}})
			if err != nil {
				return err
			}
			if rows[0].Seq <= before || rows[1].Seq <= before {
				return fmt.Errorf("append %d got rows %d and %d; %d had been returned before", i, rows[0].Seq, rows[1].Seq, before)
			}
			mu.Lock()
			returned = max(returned, rows[0].Seq, rows[1].Seq)
			mu.Unlock()
		}
		return nil
	})
	d.same("pending", d.backlog().Pending, workers*100)
}

func concurrentCommits(t *testing.T, d *desk) {
	var mu sync.Mutex
	taken := map[parley.Version]int{}
	d.together(func(ctx context.Context, w int, own *desk) error {
		for range 40 {
			loaded, err := own.Load(ctx, conv("a"), 10)
			if err != nil {
				return err
			}
			turn := own.turn(loaded)
			errs, err := own.Commit(ctx, []parley.Commit{turn})
			if err != nil {
				return err
			}
			switch {
			case errs[0] == nil:
				mu.Lock()
				taken[turn.Base]++
				mu.Unlock()
			case !errors.Is(errs[0], parley.ErrConflict):
				return errs[0]
			}
		}
		return nil
	})
	for base, n := range taken {
		if n > 1 {
			t.Errorf("%d commits from version %d were taken", n, base.Number)
		}
	}
	d.same("version", d.load(conv("a")).Snapshot.Version.Number, uint64(len(taken)))
	records, err := d.History(t.Context(), conv("a"), 0, 1000)
	if err != nil {
		t.Fatal(err)
	}
	d.same("records", len(records), len(taken))
}

// concurrentGroups lets all commit groups of the same conversations, new ones and
// known ones, each in another order: a commit may lose, a group never fails.
func concurrentGroups(t *testing.T, d *desk) {
	const conversations, groups = 24, 12
	d.together(func(ctx context.Context, w int, own *desk) error {
		for round := range groups {
			var names []string
			for i := range conversations {
				// Half of them are new in each round.
				names = append(names, fmt.Sprint(round*(i%2), "-", (i*(2*w+1)+w)%conversations))
			}
			if err := own.commitGroup(ctx, names); err != nil {
				return fmt.Errorf("group %d: %w", round, err)
			}
		}
		return nil
	})
	for i := range conversations {
		c := conv(fmt.Sprint("0-", i))
		records, err := d.History(t.Context(), c, 0, 10_000)
		if err != nil {
			t.Fatal(err)
		}
		d.same("records of "+string(c.Contact), uint64(len(records)), d.load(c).Snapshot.Version.Number)
	}
}

// commitGroup commits a turn of each conversation in one group. That a turn loses
// to another's is no error.
func (d *desk) commitGroup(ctx context.Context, names []string) error {
	var turns []parley.Commit
	for _, name := range names {
		loaded, err := d.Load(ctx, conv(name), 0)
		if err != nil {
			return err
		}
		turns = append(turns, d.turn(loaded))
	}
	errs, err := d.Commit(ctx, turns)
	if err != nil {
		return err
	}
	for _, err := range errs {
		if err != nil && !errors.Is(err, parley.ErrConflict) {
			return err
		}
	}
	return nil
}

// rowsTaken is what the commits of one conversation consumed, by the version
// that they made.
type rowsTaken struct {
	mu   sync.Mutex
	seqs map[uint64][]parley.Seq
}

// take makes one turn of a, which may lose to another.
func (r *rowsTaken) take(ctx context.Context, own *desk) error {
	loaded, err := own.Load(ctx, conv("a"), 3)
	if err != nil {
		return err
	}
	turn := own.turn(loaded)
	errs, err := own.Commit(ctx, []parley.Commit{turn})
	if err != nil {
		return err
	}
	if errors.Is(errs[0], parley.ErrConflict) {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, row := range turn.Saw {
		r.seqs[turn.Next.Version.Number] = append(r.seqs[turn.Next.Version.Number], row.Seq)
	}
	return errs[0]
}

// concurrentRows lets all append and all compete to consume.
func concurrentRows(t *testing.T, d *desk) {
	const perWorker = 30
	taken := &rowsTaken{seqs: map[uint64][]parley.Seq{}}
	calls := &appendCalls{began: map[parley.Seq]int{}, ended: map[parley.Seq]int{}}
	d.together(func(ctx context.Context, _ int, own *desk) error {
		for range perWorker {
			if err := calls.append(ctx, own); err != nil {
				return err
			}
			if err := taken.take(ctx, own); err != nil {
				return err
			}
		}
		return nil
	})
	for len(d.load(conv("a")).Pending) > 0 { // each turn takes some, since nobody competes any more
		if err := taken.take(t.Context(), d); err != nil {
			t.Fatal(err)
		}
	}
	var consumed []parley.Seq
	for v := range d.load(conv("a")).Snapshot.Version.Number {
		consumed = append(consumed, taken.seqs[v+1]...)
	}
	d.same("rows consumed", len(consumed), workers*perWorker)
	calls.check(t, consumed)
}

// appendCalls notes when appends began and ended. Of two that overlap, either may
// be seen first; one that had ended before another began takes effect before it.
type appendCalls struct {
	mu           sync.Mutex
	at           int
	began, ended map[parley.Seq]int
}

func (a *appendCalls) tick() int {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.at++
	return a.at
}

func (a *appendCalls) append(ctx context.Context, own *desk) error {
	began := a.tick()
	rows, err := own.Append(ctx, parley.Arrivals{Events: []parley.Event{own.event(conv("a"), "x")}})
	if err != nil {
		return err
	}
	ended := a.tick()
	a.mu.Lock()
	defer a.mu.Unlock()
	a.began[rows[0].Seq], a.ended[rows[0].Seq] = began, ended
	return nil
}

func (a *appendCalls) check(t *testing.T, consumed []parley.Seq) {
	t.Helper()
	latest := 0 // begin of those consumed so far
	for i, seq := range consumed {
		if slices.Contains(consumed[:i], seq) {
			t.Errorf("row %d was consumed twice", seq)
		}
		if a.ended[seq] < latest {
			t.Errorf("row %d was consumed after one whose append began when its own had ended", seq)
		}
		latest = max(latest, a.began[seq])
	}
}

func concurrentClaims(t *testing.T, d *desk) {
	const conversations, each = 10, 6
	for i := range conversations {
		d.send(conv(fmt.Sprint(i)), make([]string, each)...)
	}
	l := d.lease("s", parley.Lease{})
	var mu sync.Mutex
	sends := map[parley.Conversation][]uint64{}
	d.together(func(ctx context.Context, _ int, own *desk) error {
		for range conversations * each {
			claimed, _, err := own.Claim(ctx, l, parley.Places{All: 3}, doubtfulWait, time.Minute)
			if err != nil {
				return err
			}
			var outcomes []parley.Outcome
			mu.Lock()
			for _, c := range claimed {
				sends[c.Conversation] = append(sends[c.Conversation], c.Ordinal)
				outcomes = append(outcomes, sent(c.Outgoing))
			}
			mu.Unlock()
			if err := own.Settle(ctx, l, outcomes); err != nil {
				return err
			}
		}
		return nil
	})
	for i := range conversations {
		d.same("ordinals sent", sends[conv(fmt.Sprint(i))], []uint64{1, 2, 3, 4, 5, 6})
	}
	d.same("unsent", d.backlog().Unsent, 0)
}

func concurrentTimers(t *testing.T, d *desk) {
	const timers = 60
	for i := range timers {
		turn := d.turn(d.load(conv(fmt.Sprint(i))))
		d.timer(&turn, "t", time.Second)
		d.commit(turn)
	}
	d.clock.Add(time.Minute)
	var mu sync.Mutex
	fired := map[parley.Conversation]int{}
	d.together(func(ctx context.Context, _ int, own *desk) error {
		for range timers {
			rows, _, err := own.FireTimers(ctx, all, 2, time.Minute)
			if err != nil {
				return err
			}
			mu.Lock()
			for _, p := range rows {
				fired[p.Conversation]++
			}
			mu.Unlock()
		}
		return nil
	})
	d.same("conversations whose timer fired", len(fired), timers)
	d.same("backlog", d.backlog().Pending, timers)
}

func concurrentLeases(t *testing.T, d *desk) {
	var mu sync.Mutex
	holders := map[uint64]string{}
	for range 5 {
		d.together(func(ctx context.Context, w int, own *desk) error {
			l, err := own.Lease(ctx, page(), fmt.Sprint("s", w), leaseTTL, parley.Lease{})
			if errors.Is(err, parley.ErrFenced) {
				return nil
			}
			mu.Lock()
			defer mu.Unlock()
			if other, taken := holders[l.Epoch]; taken && err == nil {
				return fmt.Errorf("epoch %d is held by %s too", l.Epoch, other)
			}
			holders[l.Epoch] = l.Holder
			return err
		})
		d.clock.Add(leaseTTL)
	}
	d.same("epochs", len(holders), 5)
}
