package parley_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// shelf is the store of a property test: the snapshot in its stored form, and
// the keys that were moved out of it.
type shelf struct {
	stored  []byte
	evicted map[parley.EventKey]bool
	asked   int // how often NeedsOlder made a turn ask for older keys
	commits []parley.Commit
}

func (s *shelf) load(t *rapid.T) parley.Snapshot {
	snapshot := fresh()
	if s.stored != nil {
		if err := snapshot.UnmarshalBinary(s.stored); err != nil {
			t.Fatalf("load: %v", err)
		}
	}
	return snapshot
}

// turn takes one step over the rows and stores its commit, as an actor does.
func (s *shelf) turn(t *rapid.T, bot *parley.Bot, rows []parley.Pending) parley.Commit {
	snapshot := s.load(t)
	c := drawn(byte(len(s.commits)))
	c.Nonce[1] = byte(len(s.commits) >> 8)
	c.Older = map[parley.EventKey]bool{}
	for _, row := range rows {
		if snapshot.NeedsOlder(row) {
			s.asked++
			if s.evicted[row.Key] {
				c.Older[row.Key] = true
			}
		}
	}
	commit := parley.Step(bot, snapshot, rows, c)
	checkCommit(t, snapshot, rows, commit)
	for _, k := range commit.Evicted {
		s.evicted[k.Key] = true
	}
	stored, err := commit.Next.AppendBinary(nil)
	if err != nil {
		t.Fatalf("store: %v", err)
	}
	s.stored = stored
	s.commits = append(s.commits, commit)
	return commit
}

// checkCommit holds a commit against what every commit must be.
func checkCommit(t *rapid.T, before parley.Snapshot, rows []parley.Pending, c parley.Commit) {
	if c.Base != before.Version || c.Next.Version.Number != before.Version.Number+1 {
		t.Fatalf("from version %+v: base %+v, next %+v", before.Version, c.Base, c.Next.Version)
	}
	if c.Through != rows[len(rows)-1].Seq || len(c.Saw) != len(rows) {
		t.Fatalf("%d rows up to %d: saw %d through %d", len(rows), rows[len(rows)-1].Seq, len(c.Saw), c.Through)
	}
	for i, row := range rows {
		if c.Saw[i] != row.Row {
			t.Fatalf("row %d is %+v, saw %+v", i, row.Row, c.Saw[i])
		}
	}
	for i, o := range c.Outbox {
		if o.Ordinal != before.Ordinal+uint64(i)+1 {
			t.Fatalf("message %d after ordinal %d has ordinal %d", i, before.Ordinal, o.Ordinal)
		}
	}
	if c.Next.Ordinal != before.Ordinal+uint64(len(c.Outbox)) {
		t.Fatalf("ordinal %d after %d and %d messages", c.Next.Ordinal, before.Ordinal, len(c.Outbox))
	}
	if len(c.Next.Seen) > parley.InlineSeen || len(c.Next.Timers) > parley.MaxTimers {
		t.Fatalf("%d keys, %d timers", len(c.Next.Seen), len(c.Next.Timers))
	}
	if !slices.IsSortedFunc(c.Next.Seen, func(a, b parley.SeenKey) int { return a.At.Compare(b.At) }) {
		t.Fatalf("keys out of order of time: %v", c.Next.Seen)
	}
	if c.Next.Last.Before(before.Last) {
		t.Fatalf("time runs backwards: %s, then %s", before.Last, c.Next.Last)
	}
	if !json.Valid(c.History) {
		t.Fatalf("history is not JSON: %s", c.History)
	}
}

// world makes deliveries to one conversation as a bad day would: events whose
// own time is missing, old, or far in the future, delivered again at any time.
type world struct {
	clock  time.Time
	seq    int
	events []parley.Pending // every event there was, once
}

func (w *world) deliver(t *rapid.T) parley.Pending {
	w.clock = w.clock.Add(time.Duration(rapid.Int64Range(0, int64(5*time.Minute)).Draw(t, "pause")))
	if rapid.IntRange(0, 40).Draw(t, "set back") == 0 {
		w.clock = w.clock.Add(-time.Hour)
	}
	w.seq++
	var row parley.Pending
	if len(w.events) > 0 && rapid.IntRange(0, 2).Draw(t, "repeat") == 0 {
		row = w.events[rapid.IntRange(0, len(w.events)-1).Draw(t, "which")]
	} else {
		row = pend(w.seq, fmt.Sprint("event ", w.seq), parley.Message{Text: w.text(t)})
		row.Time = w.providerTime(t)
		w.events = append(w.events, row)
	}
	row.Row = parley.Row{Seq: parley.Seq(w.seq), Token: parley.Token(w.seq)}
	row.Received = w.clock.Truncate(time.Millisecond)
	return row
}

func (w *world) text(t *rapid.T) string {
	return rapid.SampledFrom([]string{"say", "say", "say", "fail", "panic"}).Draw(t, "does") + fmt.Sprint(" ", w.seq)
}

func (w *world) providerTime(t *rapid.T) time.Time {
	switch rapid.IntRange(0, 9).Draw(t, "time") {
	case 0:
		return time.Time{}
	case 1: // a clock that is ahead
		return w.clock.Add(time.Duration(rapid.Int64Range(0, int64(6*time.Hour)).Draw(t, "ahead")))
	case 2: // an event that was kept back for days
		return w.clock.Add(-time.Duration(rapid.Int64Range(0, int64(7*24*time.Hour)).Draw(t, "behind")))
	default:
		return w.clock.Add(-time.Duration(rapid.Int64Range(0, int64(time.Minute)).Draw(t, "behind")))
	}
}

// Whatever comes again, however late and with whatever time: each event takes
// effect once, and none is lost.
func TestEachEventTakesEffectOnce(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		w := world{clock: after(0)}
		s := shelf{evicted: map[parley.EventKey]bool{}}
		said, dead := map[string]int{}, map[parley.Seq]int{}
		firstSeq := map[parley.EventKey]parley.Seq{}
		keyOf := map[parley.Seq]parley.EventKey{}
		for range rapid.IntRange(1, 60).Draw(t, "batches") {
			var rows []parley.Pending
			for range rapid.IntRange(1, 8).Draw(t, "rows") {
				row := w.deliver(t)
				keyOf[row.Seq] = row.Key
				if _, ok := firstSeq[row.Key]; !ok {
					firstSeq[row.Key] = row.Seq
				}
				rows = append(rows, row)
			}
			c := s.turn(t, scripted(), rows)
			for _, text := range texts(c) {
				said[text]++
			}
			for _, d := range c.Dead {
				dead[firstSeq[keyOf[d.Seq]]]++
			}
		}
		for _, e := range w.events {
			message, ok := e.Input.(parley.Message)
			if !ok {
				t.Fatalf("event is a %T", e.Input)
			}
			does, n, _ := strings.Cut(message.Text, " ")
			effects := dead[firstSeq[e.Key]]
			if does == "say" {
				effects += said[n]
			}
			if effects != 1 {
				t.Fatalf("event %s (%s) of time %s took effect %d times", n, does, e.Time, effects)
			}
		}
	})
}

// A usual conversation, with a working clock and repeats soon after, never asks
// for older keys.
func TestUsualTurnsNeedNoOlderKeys(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := shelf{evicted: map[parley.EventKey]bool{}}
		for i := range rapid.IntRange(parley.InlineSeen, 2*parley.InlineSeen).Draw(t, "messages") {
			row := said(i+1, "say x")[0]
			row.Received = after(time.Duration(i) * 10 * time.Second)
			row.Time = row.Received.Add(-time.Duration(rapid.IntRange(0, 60).Draw(t, "late")) * time.Second)
			s.turn(t, scripted(), []parley.Pending{row})
		}
		if s.asked != 0 {
			t.Fatalf("asked %d times", s.asked)
		}
	})
}

// program is a random message of the scripted bot.
func program(t *rapid.T) string {
	commands := rapid.SliceOfN(rapid.SampledFrom([]string{
		"say hello", "say ok", "set a 1m", "set b 90s", "set a 1h", "cancel a", "cancel b",
		"become loud", "become", "become nobody", "end", "fail", "panic", "index", "say", "storm 33",
	}), 0, 4)
	return strings.Join(commands.Draw(t, "commands"), ";")
}

// rows are messages, timers of the generations that may be live, and repeats.
func rowsOf(t *rapid.T, most int) []parley.Pending {
	n := rapid.IntRange(1, most).Draw(t, "rows")
	rows := make([]parley.Pending, 0, n)
	for seq := 1; seq <= n; seq++ {
		var in parley.Input = parley.Message{Text: program(t)}
		if rapid.IntRange(0, 3).Draw(t, "timer") == 0 {
			in = parley.TimerFired{
				Name:       rapid.SampledFrom([]string{"a", "b"}).Draw(t, "name"),
				Generation: uint64(rapid.IntRange(1, seq).Draw(t, "generation")),
			}
		}
		rows = append(rows, pend(seq, fmt.Sprint("key ", rapid.IntRange(1, 4*n).Draw(t, "key")), in))
	}
	return rows
}

// outcome is what is left of commits when ids and versions are set aside.
type outcome struct {
	Said, Dead []string
	Ordinals   []uint64
	State      []string
	Behavior   string
	Live       []string
	Due        map[string]bool // the due list that the commits leave in the store
	Seen       []parley.SeenKey
	Generation uint64
	Last       time.Time
}

func (o *outcome) take(t *rapid.T, c parley.Commit) {
	name := func(timer parley.Timer) string {
		return fmt.Sprint(timer.Name, " ", timer.Generation, " ", timer.Due)
	}
	for _, m := range c.Outbox {
		o.Said = append(o.Said, m.Send.Text)
		o.Ordinals = append(o.Ordinals, m.Ordinal)
	}
	o.Dead = append(o.Dead, causes(c)...)
	for _, timer := range c.CancelTimers {
		delete(o.Due, name(timer))
	}
	for _, timer := range c.SetTimers {
		o.Due[name(timer)] = true
	}
	o.Live = nil
	for _, timer := range c.Next.Timers {
		o.Live = append(o.Live, name(timer))
		if !o.Due[name(timer)] {
			t.Fatalf("live timer %s is not in the due list %v: it would never fire", name(timer), o.Due)
		}
	}
	o.Behavior, o.Generation, o.Last = c.Next.Behavior, c.Next.Generation, c.Next.Last
	o.Seen = slices.Concat(o.Seen[:max(0, len(o.Seen)-parley.InlineSeen)], c.Evicted, c.Next.Seen)
}

// It makes no difference how rows are gathered into turns, nor whether the
// conversation was stored and loaded between them.
func TestTurnsMayBeCutAnywhere(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		rows := rowsOf(t, 40)
		whole, cut := outcome{Due: map[string]bool{}}, outcome{Due: map[string]bool{}}
		c := parley.Step(scripted(), fresh(), rows, drawn(1))
		whole.take(t, c)
		whole.State = lines(t, c.Next)
		s := shelf{evicted: map[parley.EventKey]bool{}}
		for len(rows) > 0 {
			n := rapid.IntRange(1, len(rows)).Draw(t, "cut")
			c = s.turn(t, scripted(), rows[:n])
			rows = rows[n:]
			cut.take(t, c)
		}
		cut.State = lines(t, c.Next)
		whole.forgetFired()
		cut.forgetFired()
		diff(t, "cut", whole, cut)
	})
}

// forgetFired takes from the due list what has fired: in the test the entries
// reach the inbox by another road than the store's.
func (o *outcome) forgetFired() {
	for name := range o.Due {
		if !slices.Contains(o.Live, name) {
			delete(o.Due, name)
		}
	}
}
