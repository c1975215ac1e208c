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
	promises(t, open, map[string]promise{
		"NewConversationIsZero": loadNewConversationIsZero,
		"InOrderUpToTheLimit":   loadInOrderUpToTheLimit,
		"ReturnsCopies":         loadReturnsCopies,
	})
}

func loadNewConversationIsZero(t *testing.T, d *desk) {
	d.same("loaded", d.load(conv("a")), parley.Loaded{Snapshot: parley.Snapshot{Conversation: conv("a")}})
}

func loadInOrderUpToTheLimit(t *testing.T, d *desk) {
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
}

func loadReturnsCopies(t *testing.T, d *desk) {
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
}

func runCommit(t *testing.T, open Open) {
	t.Helper()
	promises(t, open, map[string]promise{
		"WritesAllOfIt":                  commitWritesAllOfIt,
		"TwiceIsOnce":                    commitTwiceIsOnce,
		"OfTwoFromOneVersionOneIsTaken":  commitOfTwoFromOneVersionOneIsTaken,
		"TwiceInOneGroupIsOnce":          commitTwiceInOneGroupIsOnce,
		"FirstTurnNeedsTheZeroVersion":   commitFirstTurnNeedsTheZeroVersion,
		"TokenOfVersionCompared":         commitTokenOfVersionCompared,
		"TokenOfRowCompared":             commitTokenOfRowCompared,
		"RangeSeesLateRow":               commitRangeSeesLateRow,
		"RangeSeesRowThatIsGone":         commitRangeSeesRowThatIsGone,
		"RowsBehindThroughStay":          commitRowsBehindThroughStay,
		"OneConflictDoesNotFailTheGroup": commitOneConflictDoesNotFailTheGroup,
		"WithoutRows":                    commitWithoutRows,
	})
}

func commitTwiceIsOnce(t *testing.T, d *desk) {
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
}

func commitOfTwoFromOneVersionOneIsTaken(t *testing.T, d *desk) {
	d.commit(d.turn(d.load(conv("a"))))
	base := d.load(conv("a"))
	one, two := d.turn(base), d.turn(base)
	d.commit(one)
	d.conflict(two)
}

func commitTwiceInOneGroupIsOnce(t *testing.T, d *desk) {
	base := d.load(conv("a"))
	errs := d.tryCommit(d.turn(base), d.turn(base))
	if errs[0] != nil || !errors.Is(errs[1], parley.ErrConflict) {
		t.Fatalf("got %v", errs)
	}
}

func commitFirstTurnNeedsTheZeroVersion(t *testing.T, d *desk) {
	turn := d.turn(d.load(conv("a")))
	turn.Base = parley.Version{Number: 1, Token: 1}
	d.conflict(turn)
}

// commitTokenOfVersionCompared: numbers come back after a fail-over.
func commitTokenOfVersionCompared(t *testing.T, d *desk) {
	d.commit(d.turn(d.load(conv("a"))))
	turn := d.turn(d.load(conv("a")))
	turn.Base.Token++
	d.conflict(turn)
}

func commitTokenOfRowCompared(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	turn.Saw[0].Token++
	d.conflict(turn)
}

func commitRangeSeesLateRow(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	base := d.load(conv("a"))
	late := d.say(conv("a"), "between read and commit")
	turn := d.turn(base)
	turn.Through = late.Seq // the turn read past the place where the row came in
	d.conflict(turn)
	d.same("rows", len(d.load(conv("a")).Pending), 2)
}

func commitRangeSeesRowThatIsGone(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	stale := d.load(conv("a"))
	d.commit(d.turn(stale))
	turn := d.turn(stale)
	turn.Base = d.load(conv("a")).Snapshot.Version
	d.conflict(turn)
}

func commitRowsBehindThroughStay(t *testing.T, d *desk) {
	d.say(conv("a"), "x")
	turn := d.turn(d.load(conv("a")))
	later := d.say(conv("a"), "y")
	other := d.say(conv("b"), "z")
	d.commit(turn)
	d.same("rows of a", d.load(conv("a")).Pending, []parley.Pending{later})
	d.same("rows of b", d.load(conv("b")).Pending, []parley.Pending{other})
}

func commitOneConflictDoesNotFailTheGroup(t *testing.T, d *desk) {
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
}

func commitWithoutRows(t *testing.T, d *desk) {
	row := d.say(conv("a"), "x")
	l := d.load(conv("a"))
	l.Pending = nil
	d.commit(d.turn(l))
	d.same("rows", d.load(conv("a")).Pending, []parley.Pending{row})
}

func commitWritesAllOfIt(t *testing.T, d *desk) {
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
	letters, err := d.DeadLetters(t.Context(), parley.DeadQuery{Brand: "acme", Limit: 10})
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
	promises(t, open, map[string]promise{
		"FindsWhatWasMovedOut":       olderFindsWhatWasMovedOut,
		"ForSevenDaysAndMore":        olderForSevenDaysAndMore,
		"ARefusedCommitMovesNothing": olderARefusedCommitMovesNothing,
	})
}

func olderOf(d *desk, c parley.Conversation, keys ...parley.EventKey) map[parley.EventKey]bool {
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

func olderKey(i int) parley.EventKey { return parley.NewEventKey("older", fmt.Sprint(i)) }

func olderEvict(d *desk, i int) {
	d.t.Helper()
	turn := d.turn(d.load(conv("a")))
	turn.Evicted = []parley.SeenKey{{Key: olderKey(i), At: d.clock.Now()}}
	d.commit(turn)
}

func olderFindsWhatWasMovedOut(t *testing.T, d *desk) {
	olderEvict(d, 1)
	d.clock.Add(25 * time.Hour)
	olderEvict(d, 2)
	d.same("found", olderOf(d, conv("a"), olderKey(1), olderKey(2), olderKey(3)), map[parley.EventKey]bool{olderKey(1): true, olderKey(2): true})
	d.same("found of another conversation", olderOf(d, conv("b"), olderKey(1)), map[parley.EventKey]bool{})
	d.same("found of nothing", olderOf(d, conv("a")), map[parley.EventKey]bool{})
}

func olderForSevenDaysAndMore(t *testing.T, d *desk) {
	olderEvict(d, 1)
	for day := range 7 {
		d.clock.Add(24 * time.Hour)
		if err := d.Prune(t.Context(), parley.HistoryFor); err != nil {
			t.Fatal(err)
		}
		if !olderOf(d, conv("a"), olderKey(1))[olderKey(1)] {
			t.Fatalf("forgotten after %d days", day+1)
		}
	}
	d.clock.Add(3 * 24 * time.Hour)
	d.same("found after 10 days", olderOf(d, conv("a"), olderKey(1)), map[parley.EventKey]bool{})
}

func olderARefusedCommitMovesNothing(t *testing.T, d *desk) {
	turn := d.turn(d.load(conv("a")))
	turn.Base.Number = 9
	turn.Evicted = []parley.SeenKey{{Key: olderKey(1), At: d.clock.Now()}}
	d.conflict(turn)
	d.same("found", olderOf(d, conv("a"), olderKey(1)), map[parley.EventKey]bool{})
}
