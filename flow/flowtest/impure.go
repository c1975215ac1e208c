package flowtest

import (
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

const (
	// repeats is how often each turn is taken again. Go begins a map of two entries with
	// the second of them about every eighth time only: this many turns miss that once in
	// two hundred.
	repeats = 40
	// soundings are how often a turn that differs is taken to find out why.
	soundings = 24
	// later is how far the clock is moved before a turn is taken again: all of a
	// time differs then, from the weekday to the milliseconds.
	later = 25*time.Hour + time.Minute + time.Second + 7*time.Millisecond
)

// impurity takes each turn several times, the last time with another clock. All must
// want the same. moveClock is nil if the clock can't be moved.
func impurity(moveClock func(time.Duration)) func(func() parley.Commit, *parley.Commit) error {
	return func(again func() parley.Commit, commit *parley.Commit) error {
		for range repeats {
			if c := again(); !reflect.DeepEqual(c, *commit) {
				return impureBy(commit, &c, reason(again, commit, &c))
			}
		}
		if moveClock == nil {
			return nil
		}
		moveClock(later)
		if c := again(); !reflect.DeepEqual(c, *commit) {
			return impureBy(commit, &c, "the clock: a turn's time is t.Now()")
		}
		return nil
	}
}

func impureBy(a, b *parley.Commit, why string) error {
	what, was, is := firstDifference(a, b)
	return errors.New("the bot is not a pure function of its turn: taken again, the same turn wants something else; it looks like " + why +
		"\n\tthe first that differs is " + what + ":\n" + indented("\t  once: ", was) + indented("\t  then: ", is))
}

// piece is a part of what a turn wants.
type piece struct{ what, text string }

// pieces are all that a turn wants, in its order.
func pieces(c *parley.Commit) []piece {
	var all []piece
	var r record
	_ = json.Unmarshal(c.History, &r) // what Step writes is JSON
	for _, row := range r.Turn {
		all = append(all, piece{"how the turn ended", row.Not})
		for i, e := range row.Out {
			text := string(e.Value)
			if s, err := parley.DecodeSend(e.Value); err == nil && (e.Effect == "send" || e.Effect == "withheld") {
				text = strings.Join(SendLines(&s), "\n")
			}
			all = append(all, piece{fmt.Sprintf("effect %d (%s)", i+1, e.Effect), text})
		}
	}
	return append(all, piece{"the state", string(c.Next.State)})
}

func firstDifference(a, b *parley.Commit) (what, was, is string) {
	x, y := pieces(a), pieces(b)
	for i := range max(len(x), len(y)) {
		switch {
		case i >= len(x):
			return y[i].what, "", y[i].text
		case i >= len(y):
			return x[i].what, x[i].text, ""
		case x[i] != y[i]:
			return x[i].what, x[i].text, y[i].text
		}
	}
	return "something that is not shown", fmt.Sprintf("%+v", *a), fmt.Sprintf("%+v", *b)
}

// reason guesses why a turn differs while the clock stands still.
func reason(again func() parley.Commit, a, b *parley.Commit) string {
	what, was, is := firstDifference(a, b)
	texts := []string{was, is}
	for range soundings {
		c := again()
		for _, p := range pieces(&c) {
			if p.what == what {
				texts = append(texts, p.text)
				break
			}
		}
	}
	switch {
	case sortedBytes(was) == sortedBytes(is), sortedBytes(asJSON(allTexts(a))) == sortedBytes(asJSON(allTexts(b))):
		return "the order of a map"
	case everMore(texts):
		return "a variable that outlives the turn, and counts"
	case len(slices.Compact(slices.Sorted(slices.Values(texts)))) < len(texts)/2:
		return "the order of a map, or a random choice"
	}
	return "a random number, or a variable that outlives the turn"
}

// allTexts are the texts of all pieces.
func allTexts(c *parley.Commit) (all []string) {
	for _, p := range pieces(c) {
		all = append(all, p.text)
	}
	return all
}

func sortedBytes(s string) string {
	b := []byte(s)
	slices.Sort(b)
	return string(b)
}

// everMore reports whether the texts differ in a number only, which grows.
func everMore(texts []string) bool {
	last := -1
	for _, text := range texts {
		n := differingNumber(texts[0], texts[1], text)
		if n <= last {
			return false
		}
		last = n
	}
	return true
}

// differingNumber is the number in text that stands where a and b begin to differ.
func differingNumber(a, b, text string) int {
	i := 0
	for i < len(a) && i < len(b) && a[i] == b[i] {
		i++
	}
	for i > 0 && a[i-1] >= '0' && a[i-1] <= '9' {
		i--
	}
	if i > len(text) {
		return -1
	}
	digits := text[i : len(text)-len(strings.TrimLeft(text[i:], "0123456789"))]
	n, err := strconv.Atoi(digits)
	if err != nil {
		return -1
	}
	return n
}
