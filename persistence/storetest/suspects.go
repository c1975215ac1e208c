package storetest

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runSuspects(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"TriedTwiceIsTold":         suspectsTriedTwice,
		"AcquittedIsForgotten":     suspectsAcquitted,
		"NumbersComeBackTokensNot": suspectsTokens,
		"EachOnceInOrder":          suspectsEachOnce,
		"OutliveTheirCommit":       suspectsOutliveTheirCommit,
		"PrunedAfterADay":          suspectsPruned,
		"OutliveTheStore":          suspectsReopened,
		"OfTwoAtOnceOneIsFirst":    suspectsAtOnce,
		"TriedAndAcquittedAtOnce":  suspectsTriedAndAcquittedAtOnce,
	})
}

func (d *desk) try(rows ...parley.Row) []parley.Row {
	d.t.Helper()
	tried, err := d.Try(d.t.Context(), rows)
	if err != nil {
		d.t.Fatalf("try: %v", err)
	}
	return tried
}

func (d *desk) acquit(rows ...parley.Row) {
	d.t.Helper()
	if err := d.Acquit(d.t.Context(), rows); err != nil {
		d.t.Fatalf("acquit: %v", err)
	}
}

// someRows are rows with tokens of all sizes: the half of them are negative where
// a store keeps them as signed numbers.
func someRows(n int) (rows []parley.Row) {
	for i := range n {
		rows = append(rows, parley.Row{Seq: parley.Seq(i + 1), Token: parley.Token(uint64(i+1) * 0x9e3779b97f4a7c15)})
	}
	return rows
}

func suspectsTriedTwice(_ *testing.T, d *desk) {
	rows := someRows(4)
	d.same("tried at first", d.try(rows[:2]...), []parley.Row(nil))
	d.same("tried then", d.try(rows[1:]...), rows[1:2])
	d.same("tried at last", d.try(rows...), rows)
	d.same("of no rows", d.try(), []parley.Row(nil))
}

func suspectsAcquitted(_ *testing.T, d *desk) {
	rows := someRows(4)
	d.acquit(rows[3]) // nobody has tried it
	d.try(rows...)
	d.acquit(rows[0], rows[2], rows[0])
	d.acquit(rows[2])
	d.acquit()
	d.same("tried", d.try(rows...), []parley.Row{rows[1], rows[3]})
	d.same("tried again", d.try(rows...), rows)
}

// suspectsTokens: a number alone doesn't name a row.
func suspectsTokens(_ *testing.T, d *desk) {
	one := parley.Row{Seq: 7, Token: 1}
	other := parley.Row{Seq: 7, Token: 1 << 63}
	d.try(one)
	d.same("another row of that number", d.try(other), []parley.Row(nil))
	d.acquit(other)
	d.same("the first", d.try(one), []parley.Row{one})
}

func suspectsEachOnce(_ *testing.T, d *desk) {
	rows := someRows(3)
	d.same("named twice", d.try(rows[2], rows[0], rows[2]), []parley.Row(nil))
	d.same("tried", d.try(rows[2], rows[1], rows[0], rows[2]), []parley.Row{rows[0], rows[2]})
}

// suspectsOutliveTheirCommit: it is their process that acquits them.
func suspectsOutliveTheirCommit(_ *testing.T, d *desk) {
	p := d.say(conv("a"), "x")
	d.try(p.Row)
	d.commit(d.turn(d.load(conv("a"))))
	d.same("tried", d.try(p.Row), []parley.Row{p.Row})
	d.acquit(p.Row)
	d.same("tried after it was acquitted", d.try(p.Row), []parley.Row(nil))
	d.same("backlog", d.backlog(), parley.Backlog{})
}

func suspectsPruned(_ *testing.T, d *desk) {
	rows := someRows(700) // more than a store looks at in one go
	d.try(rows[:690]...)
	d.clock.Add(parley.SuspectFor - time.Second)
	d.try(rows[690:]...)
	d.prune(30 * 24 * time.Hour)
	d.same("tried within a day", d.try(rows[5]), rows[5:6])
	d.clock.Add(2*24*time.Hour - parley.SuspectFor)
	d.prune(30 * 24 * time.Hour)
	d.same("tried within a day", d.try(rows[699]), rows[699:])
	d.clock.Add(parley.SuspectFor)
	d.prune(30 * 24 * time.Hour)
	d.same("tried later", d.try(rows[:690]...), []parley.Row(nil))
}

func suspectsReopened(_ *testing.T, d *desk) {
	rows := someRows(4)
	d.try(rows...)
	d.acquit(rows[2])
	d.reopen()
	d.same("tried", d.try(rows...), []parley.Row{rows[0], rows[1], rows[3]})
}

// suspectsAtOnce: all try the same rows, each in another order.
func suspectsAtOnce(t *testing.T, d *desk) {
	rows := someRows(40)
	var mu sync.Mutex
	told := map[parley.Row]int{}
	d.together(func(ctx context.Context, w int, own *desk) error {
		for part := range 4 {
			mine := shuffled(rows[part*10:part*10+10], w)
			tried, err := own.Try(ctx, mine)
			if err != nil {
				return fmt.Errorf("part %d: %w", part, err)
			}
			mu.Lock()
			for _, r := range tried {
				told[r]++
			}
			mu.Unlock()
		}
		return nil
	})
	for _, r := range rows {
		if told[r] != workers-1 {
			t.Errorf("of %d who tried row %d at once %d were told, want all but one", workers, r.Seq, told[r])
		}
	}
}

// shuffled is rows in one of many orders.
func shuffled(rows []parley.Row, n int) []parley.Row {
	out := slices.Clone(rows)
	r := rand.New(rand.NewPCG(uint64(n), 0)) //nolint:gosec // an order is no secret
	r.Shuffle(len(out), func(i, j int) { out[i], out[j] = out[j], out[i] })
	return out
}

// suspectsTriedAndAcquittedAtOnce: nobody is in anybody's way, and at the end none
// is left.
func suspectsTriedAndAcquittedAtOnce(_ *testing.T, d *desk) {
	rows := someRows(11)
	d.together(func(ctx context.Context, w int, own *desk) error {
		for round := range 20 {
			mine := shuffled(rows, w+round)
			if _, err := own.Try(ctx, mine); err != nil {
				return fmt.Errorf("try, round %d: %w", round, err)
			}
			if err := own.Acquit(ctx, shuffled(rows, w*3+round)); err != nil {
				return fmt.Errorf("acquit, round %d: %w", round, err)
			}
		}
		return nil
	})
	d.acquit(rows...)
	d.same("tried", d.try(rows...), []parley.Row(nil))
}
