package storetest

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

func runLoad(t *testing.T, open Open) {
	t.Helper()
	t.Run("NewConversationIsZero", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.same("loaded", d.load(conv("a")), parley.Loaded{Snapshot: parley.Snapshot{Conversation: conv("a")}})
	})
	t.Run("InOrderUpToTheLimit", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		var rows []parley.Pending
		for range 10 {
			rows = append(rows, d.say(conv("a"), "x"))
		}
		l, err := d.Load(t.Context(), conv("a"), 4)
		if err != nil {
			t.Fatal(err)
		}
		d.same("rows", l.Pending, rows[:4])
		if !l.More {
			t.Error("More is false with 6 rows left")
		}
		if l, err = d.Load(t.Context(), conv("a"), 10); err != nil || l.More {
			t.Errorf("More is %v with all rows read: %v", l.More, err)
		}
	})
	t.Run("ReturnsCopies", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		turn := d.turn(d.load(conv("a")))
		turn.Next.State = []byte("abc")
		turn.Next.Seen = []parley.SeenKey{{Key: parley.NewEventKey("k"), At: d.clock.Now()}}
		want := turn.Next
		want.State, want.Seen = []byte("abc"), []parley.SeenKey{turn.Next.Seen[0]}
		d.commit(turn)
		turn.Next.State[0], turn.Next.Seen[0].Key[0] = 'X', 0
		l := d.load(conv("a"))
		d.same("snapshot", l.Snapshot, want)
		l.Snapshot.State[0], l.Snapshot.Seen[0].Key[0] = 'Y', 1
		d.same("snapshot", d.load(conv("a")).Snapshot, want)
	})
}

func runCommit(t *testing.T, open Open) {
	t.Helper()
	t.Run("WritesAllOfIt", func(t *testing.T) { t.Parallel(); commitWritesAllOfIt(t, open) })
	t.Run("TwiceIsOnce", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.say(conv("a"), "x")
		turn := d.turn(d.load(conv("a")))
		d.replies(&turn, "hi")
		d.commit(turn)
		d.conflict(turn)
		d.same("unsent", d.backlog().Unsent, 1)
		records, err := d.History(t.Context(), conv("a"), 0, 10)
		if err != nil || len(records) != 1 {
			t.Fatalf("history: %q %v", records, err)
		}
	})
	t.Run("OfTwoFromOneVersionOneIsTaken", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.commit(d.turn(d.load(conv("a"))))
		base := d.load(conv("a"))
		one, two := d.turn(base), d.turn(base)
		d.commit(one)
		d.conflict(two)
	})
	t.Run("TwiceInOneGroupIsOnce", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		base := d.load(conv("a"))
		errs := d.tryCommit(d.turn(base), d.turn(base))
		if errs[0] != nil || !errors.Is(errs[1], parley.ErrConflict) {
			t.Fatalf("got %v", errs)
		}
	})
	t.Run("FirstTurnNeedsTheZeroVersion", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		turn := d.turn(d.load(conv("a")))
		turn.Base = parley.Version{Number: 1, Token: 1}
		d.conflict(turn)
	})
	t.Run("TokenOfVersionCompared", func(t *testing.T) { // numbers come back after a fail-over
		t.Parallel()
		d := sit(t, open)
		d.commit(d.turn(d.load(conv("a"))))
		turn := d.turn(d.load(conv("a")))
		turn.Base.Token++
		d.conflict(turn)
	})
	t.Run("TokenOfRowCompared", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.say(conv("a"), "x")
		turn := d.turn(d.load(conv("a")))
		turn.Saw[0].Token++
		d.conflict(turn)
	})
	t.Run("RangeSeesLateRow", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.say(conv("a"), "x")
		base := d.load(conv("a"))
		late := d.say(conv("a"), "between read and commit")
		turn := d.turn(base)
		turn.Through = late.Seq // the turn read past the place where the row came in
		d.conflict(turn)
		d.same("rows", len(d.load(conv("a")).Pending), 2)
	})
	t.Run("RangeSeesRowThatIsGone", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.say(conv("a"), "x")
		stale := d.load(conv("a"))
		d.commit(d.turn(stale))
		turn := d.turn(stale)
		turn.Base = d.load(conv("a")).Snapshot.Version
		d.conflict(turn)
	})
	t.Run("RowsBehindThroughStay", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.say(conv("a"), "x")
		turn := d.turn(d.load(conv("a")))
		later := d.say(conv("a"), "y")
		other := d.say(conv("b"), "z")
		d.commit(turn)
		d.same("rows of a", d.load(conv("a")).Pending, []parley.Pending{later})
		d.same("rows of b", d.load(conv("b")).Pending, []parley.Pending{other})
	})
	t.Run("OneConflictDoesNotFailTheGroup", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		var turns []parley.Commit
		for i := range 9 {
			c := conv(fmt.Sprint("c", i))
			d.say(c, "x")
			turns = append(turns, d.turn(d.load(c)))
		}
		turns[4].Base.Number = 7
		for i, err := range d.tryCommit(turns...) {
			if (i == 4) != errors.Is(err, parley.ErrConflict) || i != 4 && err != nil {
				t.Errorf("commit %d: %v", i, err)
			}
			d.same("rows left", len(d.load(turns[i].Conversation).Pending) == 1, i == 4)
		}
	})
	t.Run("WithoutRows", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		row := d.say(conv("a"), "x")
		l := d.load(conv("a"))
		l.Pending = nil
		d.commit(d.turn(l))
		d.same("rows", d.load(conv("a")).Pending, []parley.Pending{row})
	})
}

func commitWritesAllOfIt(t *testing.T, open Open) {
	t.Helper()
	d := sit(t, open)
	p := d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	turn.Next.Bot, turn.Next.BotVersion, turn.Next.Behavior = "pizza", 3, "confirm"
	turn.Next.State, turn.Next.Last = []byte(`{"a":1}`), p.Received
	turn.Next.Seen = []parley.SeenKey{{Key: p.Key, At: p.Received}}
	set := d.timer(&turn, "remind", time.Minute)
	out := d.replies(&turn, "one", "two")
	dead := parley.DeadLetter{ID: d.id(), Conversation: conv("a"), At: p.Received, Cause: "panic: boom", Seq: p.Seq, Data: p.Data}
	turn.Dead = []parley.DeadLetter{dead}
	d.commit(turn)

	d.same("loaded", d.load(conv("a")), parley.Loaded{Snapshot: turn.Next})
	records, err := d.History(t.Context(), conv("a"), 0, 10)
	if err != nil {
		t.Fatal(err)
	}
	d.same("history", records, [][]byte{turn.History})
	letters, err := d.DeadLetters(t.Context(), "acme", parley.ID{}, 10)
	if err != nil {
		t.Fatal(err)
	}
	d.same("dead letters", letters, []parley.DeadLetter{dead})
	d.same("backlog", d.backlog(), parley.Backlog{Unsent: 2, Timers: 1, Dead: 1})
	d.claims(d.lease("s", parley.Lease{}), out[0])
	d.clock.Add(time.Minute)
	rows, _, err := d.FireTimers(t.Context(), all, 10, time.Hour)
	if err != nil || len(rows) != 1 {
		t.Fatalf("fired %v: %v", rows, err)
	}
	d.same("timer", rows[0].Input, parley.Input(parley.TimerFired{Name: set.Name, Generation: set.Generation, Due: set.Due}))
}

func runOlder(t *testing.T, open Open) {
	t.Helper()
	older := func(d *desk, c parley.Conversation, keys ...parley.EventKey) map[parley.EventKey]bool {
		d.t.Helper()
		found, err := d.Older(d.t.Context(), c, keys)
		if err != nil {
			d.t.Fatal(err)
		}
		for k, ok := range found {
			if !ok {
				delete(found, k)
			}
		}
		return found
	}
	key := func(i int) parley.EventKey { return parley.NewEventKey("older", fmt.Sprint(i)) }
	evict := func(d *desk, i int) {
		d.t.Helper()
		turn := d.turn(d.load(conv("a")))
		turn.Evicted = []parley.SeenKey{{Key: key(i), At: d.clock.Now()}}
		d.commit(turn)
	}
	t.Run("FindsWhatWasMovedOut", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		evict(d, 1)
		d.clock.Add(25 * time.Hour)
		evict(d, 2)
		d.same("found", older(d, conv("a"), key(1), key(2), key(3)), map[parley.EventKey]bool{key(1): true, key(2): true})
		d.same("found of another conversation", older(d, conv("b"), key(1)), map[parley.EventKey]bool{})
		d.same("found of nothing", older(d, conv("a")), map[parley.EventKey]bool{})
	})
	t.Run("ForSevenDaysAndMore", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		evict(d, 1)
		for day := range 7 {
			d.clock.Add(24 * time.Hour)
			if err := d.Prune(t.Context(), parley.HistoryFor); err != nil {
				t.Fatal(err)
			}
			if !older(d, conv("a"), key(1))[key(1)] {
				t.Fatalf("forgotten after %d days", day+1)
			}
		}
		d.clock.Add(3 * 24 * time.Hour)
		d.same("found after 10 days", older(d, conv("a"), key(1)), map[parley.EventKey]bool{})
	})
	t.Run("ARefusedCommitMovesNothing", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		turn := d.turn(d.load(conv("a")))
		turn.Base.Number = 9
		turn.Evicted = []parley.SeenKey{{Key: key(1), At: d.clock.Now()}}
		d.conflict(turn)
		d.same("found", older(d, conv("a"), key(1)), map[parley.EventKey]bool{})
	})
}

func runOverdue(t *testing.T, open Open) {
	t.Helper()
	overdue := func(d *desk, owned func(uint16) bool, limit int) []parley.Conversation {
		d.t.Helper()
		found, err := d.Overdue(d.t.Context(), owned, time.Second, limit)
		if err != nil {
			d.t.Fatal(err)
		}
		return found
	}
	t.Run("OldestFirst", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		for _, name := range []string{"a", "b", "a", "c"} {
			d.say(conv(name), "x")
			d.clock.Add(400 * time.Millisecond)
		}
		d.clock.Add(500 * time.Millisecond) // ages: 2.1, 1.7, 1.3, 0.9 s
		d.same("overdue", overdue(d, all, 10), []parley.Conversation{conv("a"), conv("b")})
		d.same("overdue, at most one", overdue(d, all, 1), []parley.Conversation{conv("a")})
		d.commit(d.turn(d.load(conv("a"))))
		d.clock.Add(time.Second)
		d.same("overdue", overdue(d, all, 10), []parley.Conversation{conv("b"), conv("c")})
	})
	t.Run("OfOwnedShards", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		d.say(conv("a"), "x")
		d.say(conv("b"), "x")
		d.clock.Add(2 * time.Second)
		mine := conv("b").Shard()
		d.same("overdue", overdue(d, func(s uint16) bool { return s == mine }, 10), []parley.Conversation{conv("b")})
	})
}

func runTimers(t *testing.T, open Open) {
	t.Helper()
	fire := func(d *desk, limit int) ([]parley.Pending, time.Duration) {
		d.t.Helper()
		rows, wait, err := d.FireTimers(d.t.Context(), all, limit, time.Minute)
		if err != nil {
			d.t.Fatal(err)
		}
		return rows, wait
	}
	set := func(d *desk, c parley.Conversation, name string, in time.Duration) parley.Timer {
		d.t.Helper()
		turn := d.turn(d.load(c))
		timer := d.timer(&turn, name, in)
		d.commit(turn)
		return timer
	}
	t.Run("OnceNeverEarly", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		timer := set(d, conv("a"), "remind", 10*time.Second)
		rows, wait := fire(d, 10)
		if len(rows) > 0 || wait != 10*time.Second {
			t.Fatalf("fired %v, wait %s", rows, wait)
		}
		d.clock.Add(10*time.Second - time.Millisecond)
		if rows, wait = fire(d, 10); len(rows) > 0 || wait != time.Millisecond {
			t.Fatalf("fired early: %v, wait %s", rows, wait)
		}
		d.clock.Add(time.Millisecond)
		rows, wait = fire(d, 10)
		if len(rows) != 1 || wait != time.Minute {
			t.Fatalf("fired %v, wait %s", rows, wait)
		}
		d.same("input", rows[0].Input, parley.Input(parley.TimerFired{Name: "remind", Generation: timer.Generation, Due: timer.Due}))
		d.same("pending", d.load(conv("a")).Pending, rows)
		if rows, _ = fire(d, 10); len(rows) > 0 {
			t.Fatalf("fired again: %v", rows)
		}
	})
	t.Run("OnceNeverAfterCancel", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		timer := set(d, conv("a"), "remind", time.Second)
		kept := set(d, conv("b"), "remind", time.Second)
		turn := d.turn(d.load(conv("a")))
		turn.Next.Timers, turn.CancelTimers = nil, []parley.Timer{timer}
		d.commit(turn)
		d.same("timers", d.backlog().Timers, 1)
		d.clock.Add(time.Hour)
		rows, _ := fire(d, 10)
		if len(rows) != 1 || rows[0].Conversation != conv("b") {
			t.Fatalf("fired %v", rows)
		}
		turn = d.turn(d.load(conv("b"))) // cancelling what has fired does nothing
		turn.Next.Timers, turn.CancelTimers = nil, []parley.Timer{kept}
		d.commit(turn)
		d.same("backlog", d.backlog(), parley.Backlog{})
	})
	t.Run("SetAnewFiresOnce", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		timer := set(d, conv("a"), "remind", time.Second)
		turn := d.turn(d.load(conv("a")))
		turn.Next.Timers, turn.CancelTimers = nil, []parley.Timer{timer}
		again := d.timer(&turn, "remind", 2*time.Second)
		d.commit(turn)
		d.clock.Add(time.Hour)
		rows, _ := fire(d, 10)
		if len(rows) != 1 {
			t.Fatalf("fired %d times", len(rows))
		}
		d.same("input", rows[0].Input, parley.Input(parley.TimerFired{Name: "remind", Generation: again.Generation, Due: again.Due}))
	})
	t.Run("ByDueTimeUpToTheLimit", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		for _, s := range []int{5, 1, 4, 2, 3} {
			set(d, conv(fmt.Sprint(s)), "t", time.Duration(s)*time.Second)
		}
		d.clock.Add(4500 * time.Millisecond)
		var got []string
		rows, wait := fire(d, 3)
		if wait != 0 {
			t.Fatalf("wait %s with one more due", wait)
		}
		more, wait := fire(d, 3)
		if wait != 500*time.Millisecond {
			t.Fatalf("wait %s", wait)
		}
		for _, p := range append(rows, more...) {
			got = append(got, string(p.Conversation.Contact))
		}
		d.same("fired", got, []string{"user:1", "user:2", "user:3", "user:4"})
	})
	t.Run("OfOwnedShards", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		set(d, conv("a"), "t", time.Second)
		set(d, conv("b"), "t", 2*time.Second)
		d.clock.Add(time.Minute)
		mine := conv("b").Shard()
		rows, _, err := d.FireTimers(t.Context(), func(s uint16) bool { return s == mine }, 10, time.Minute)
		if err != nil || len(rows) != 1 || rows[0].Conversation != conv("b") {
			t.Fatalf("fired %v: %v", rows, err)
		}
		if rows, _ := fire(d, 10); len(rows) != 1 || rows[0].Conversation != conv("a") {
			t.Fatalf("fired %v", rows)
		}
	})
	t.Run("KeysDiffer", func(t *testing.T) {
		t.Parallel()
		d := sit(t, open)
		keys := map[parley.EventKey]bool{}
		for i := range 3 {
			set(d, conv("a"), fmt.Sprint("t", i), time.Second)
			set(d, conv("b"), fmt.Sprint("t", i), time.Second)
		}
		d.clock.Add(time.Second)
		rows, _ := fire(d, 10)
		for _, p := range rows {
			keys[p.Key] = true
		}
		d.same("different keys", len(keys), 6)
	})
}
