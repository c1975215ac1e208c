package storetest

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runOverdue(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"OldestFirst":   overdueOldestFirst,
		"OfOwnedShards": overdueOfOwnedShards,
	})
}

func overdueOf(d *desk, owned func(uint16) bool, limit int) []parley.Conversation {
	d.t.Helper()
	found, err := d.Overdue(d.t.Context(), owned, time.Second, limit)
	if err != nil {
		d.t.Fatal(err)
	}
	return found
}

func overdueOldestFirst(t *testing.T, d *desk) {
	for _, name := range []string{"a", "b", "a", "c"} {
		d.say(conv(name), "x")
		d.clock.Add(400 * time.Millisecond)
	}
	d.clock.Add(500 * time.Millisecond) // ages: 2.1, 1.7, 1.3, 0.9 s
	d.same("overdue", overdueOf(d, all, 10), []parley.Conversation{conv("a"), conv("b")})
	d.same("overdue, at most one", overdueOf(d, all, 1), []parley.Conversation{conv("a")})
	d.commit(d.turn(d.load(conv("a"))))
	d.clock.Add(time.Second)
	d.same("overdue", overdueOf(d, all, 10), []parley.Conversation{conv("b"), conv("c")})
}

func overdueOfOwnedShards(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	d.say(conv("b"), "x")
	d.clock.Add(2 * time.Second)
	mine := conv("b").Shard()
	d.same("overdue", overdueOf(d, func(s uint16) bool { return s == mine }, 10), []parley.Conversation{conv("b")})
}

func runTimers(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"OnceNeverEarly":        timersOnceNeverEarly,
		"OnceNeverAfterCancel":  timersOnceNeverAfterCancel,
		"SetAnewFiresOnce":      timersSetAnewFiresOnce,
		"ByDueTimeUpToTheLimit": timersByDueTimeUpToTheLimit,
		"OfOwnedShards":         timersOfOwnedShards,
		"KeysDiffer":            timersKeysDiffer,
	})
}

func fireTimers(d *desk, limit int) ([]parley.Pending, time.Duration) {
	d.t.Helper()
	rows, wait, err := d.FireTimers(d.t.Context(), all, limit, time.Minute)
	if err != nil {
		d.t.Fatal(err)
	}
	return rows, wait
}

func setTimer(d *desk, c parley.Conversation, name string, in time.Duration) parley.Timer {
	d.t.Helper()
	turn := d.turn(d.load(c))
	timer := d.timer(&turn, name, in)
	d.commit(turn)
	return timer
}

func timersOnceNeverEarly(t *testing.T, d *desk) {
	timer := setTimer(d, conv("a"), "remind", 10*time.Second)
	rows, wait := fireTimers(d, 10)
	if len(rows) > 0 || wait != 10*time.Second {
		t.Fatalf("fired %v, wait %s", rows, wait)
	}
	d.clock.Add(10*time.Second - time.Millisecond)
	if rows, wait = fireTimers(d, 10); len(rows) > 0 || wait != time.Millisecond {
		t.Fatalf("fired early: %v, wait %s", rows, wait)
	}
	d.clock.Add(time.Millisecond)
	rows, wait = fireTimers(d, 10)
	if len(rows) != 1 || wait != time.Minute {
		t.Fatalf("fired %v, wait %s", rows, wait)
	}
	d.same("input", rows[0].Input, parley.Input(parley.TimerFired{Name: "remind", Generation: timer.Generation, Due: timer.Due}))
	d.same("pending", d.load(conv("a")).Pending, rows)
	if rows, _ = fireTimers(d, 10); len(rows) > 0 {
		t.Fatalf("fired again: %v", rows)
	}
}

func timersOnceNeverAfterCancel(t *testing.T, d *desk) {
	timer := setTimer(d, conv("a"), "remind", time.Second)
	kept := setTimer(d, conv("b"), "remind", time.Second)
	turn := d.turn(d.load(conv("a")))
	turn.Next.Timers, turn.CancelTimers = nil, []parley.Timer{timer}
	d.commit(turn)
	d.same("timers", d.backlog().Timers, 1)
	d.clock.Add(time.Hour)
	rows, _ := fireTimers(d, 10)
	if len(rows) != 1 || rows[0].Conversation != conv("b") {
		t.Fatalf("fired %v", rows)
	}
	turn = d.turn(d.load(conv("b"))) // cancelling what has fired does nothing
	turn.Next.Timers, turn.CancelTimers = nil, []parley.Timer{kept}
	d.commit(turn)
	d.same("backlog", d.backlog(), parley.Backlog{})
}

func timersSetAnewFiresOnce(t *testing.T, d *desk) {
	timer := setTimer(d, conv("a"), "remind", time.Second)
	turn := d.turn(d.load(conv("a")))
	turn.Next.Timers, turn.CancelTimers = nil, []parley.Timer{timer}
	again := d.timer(&turn, "remind", 2*time.Second)
	d.commit(turn)
	d.clock.Add(time.Hour)
	rows, _ := fireTimers(d, 10)
	if len(rows) != 1 {
		t.Fatalf("fired %d times", len(rows))
	}
	d.same("input", rows[0].Input, parley.Input(parley.TimerFired{Name: "remind", Generation: again.Generation, Due: again.Due}))
}

func timersByDueTimeUpToTheLimit(t *testing.T, d *desk) {
	for _, s := range []int{5, 1, 4, 2, 3} {
		setTimer(d, conv(fmt.Sprint(s)), "t", time.Duration(s)*time.Second)
	}
	d.clock.Add(4500 * time.Millisecond)
	var got []string
	rows, wait := fireTimers(d, 3)
	if wait != 0 {
		t.Fatalf("wait %s with one more due", wait)
	}
	more, wait := fireTimers(d, 3)
	if wait != 500*time.Millisecond {
		t.Fatalf("wait %s", wait)
	}
	for _, p := range append(rows, more...) {
		got = append(got, string(p.Conversation.Contact))
	}
	d.same("fired", got, []string{"user:1", "user:2", "user:3", "user:4"})
}

func timersOfOwnedShards(t *testing.T, d *desk) {
	setTimer(d, conv("a"), "t", time.Second)
	setTimer(d, conv("b"), "t", 2*time.Second)
	d.clock.Add(time.Minute)
	mine := conv("b").Shard()
	rows, _, err := d.FireTimers(t.Context(), func(s uint16) bool { return s == mine }, 10, time.Minute)
	if err != nil || len(rows) != 1 || rows[0].Conversation != conv("b") {
		t.Fatalf("fired %v: %v", rows, err)
	}
	if rows, _ := fireTimers(d, 10); len(rows) != 1 || rows[0].Conversation != conv("a") {
		t.Fatalf("fired %v", rows)
	}
}

func timersKeysDiffer(t *testing.T, d *desk) {
	keys := map[parley.EventKey]bool{}
	for i := range 3 {
		setTimer(d, conv("a"), fmt.Sprint("t", i), time.Second)
		setTimer(d, conv("b"), fmt.Sprint("t", i), time.Second)
	}
	d.clock.Add(time.Second)
	rows, _ := fireTimers(d, 10)
	for _, p := range rows {
		keys[p.Key] = true
	}
	d.same("different keys", len(keys), 6)
}
