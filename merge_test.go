package parley_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// other is a conversation with the same person, as it turns out.
func other() parley.Conversation {
	c := talk()
	c.Contact = parley.UserKey + "43"
	return c
}

// stepOther handles rows from the beginning of the other conversation.
func stepOther(rows ...parley.Pending) parley.Commit {
	return parley.Step(scripted(), parley.Snapshot{Conversation: other()}, rows, drawn(2))
}

func merge(survivor, younger parley.Snapshot) (into, from parley.Commit) {
	return parley.Merge(survivor, younger, after(time.Hour), [16]byte{3, 15: 4})
}

func TestMergeStateBelongsToTheSurvivor(t *testing.T) {
	t.Parallel()
	old := step(said(1, "say a;become loud")...).Next
	young := stepOther(said(2, "say b", "say c")...).Next
	t.Run("which has one", func(t *testing.T) {
		t.Parallel()
		into, _ := merge(old, young)
		diff(t, "state", old.State, into.Next.State)
		diff(t, "behaviour", "loud", into.Next.Behavior)
		diff(t, "ordinal", old.Ordinal, into.Next.Ordinal)
	})
	t.Run("unless it has none", func(t *testing.T) {
		t.Parallel()
		for what, survivor := range map[string]parley.Snapshot{
			"never had a turn": fresh(), "ended": step(said(1, "say a;become loud", "end")...).Next,
		} {
			into, _ := merge(survivor, old)
			diff(t, what+": state", old.State, into.Next.State)
			diff(t, what+": bot", fmt.Sprint(old.Bot, old.BotVersion), fmt.Sprint(into.Next.Bot, into.Next.BotVersion))
			diff(t, what+": behaviour", old.Behavior, into.Next.Behavior)
			diff(t, what+": ordinal", survivor.Ordinal, into.Next.Ordinal)
		}
	})
	t.Run("and what it does next", func(t *testing.T) {
		t.Parallel()
		into, _ := merge(old, young)
		c := parley.Step(scripted(), into.Next, said(9, "say d"), drawn(5))
		diff(t, "said", []string{"D"}, texts(c))
		diff(t, "ordinal", old.Ordinal+1, c.Outbox[0].Ordinal)
		diff(t, "absorbed", into.Next.Absorbed, c.Next.Absorbed)
	})
}

func TestMergeLeavesNothingBehind(t *testing.T) {
	t.Parallel()
	young := stepOther(said(1, "say b;set t 1m")...).Next
	young.Ahead = after(time.Minute)
	into, from := merge(fresh(), young)
	diff(t, "the younger", parley.Snapshot{
		Conversation: other(), MergedInto: talk().Contact,
		Version: parley.Version{Number: young.Version.Number + 1, Token: from.Next.Version.Token},
	}, from.Next)
	diff(t, "its due list", young.Timers, from.CancelTimers)
	if into.Base != (parley.Version{}) || from.Base != young.Version || into.Next.Version.Number != 1 {
		t.Errorf("versions: into %+v on %+v, from %+v on %+v", into.Next.Version, into.Base, from.Next.Version, from.Base)
	}
	if a, b := into.Next.Version.Token, from.Next.Version.Token; a == b || a == 0 || b == 0 {
		t.Errorf("tokens %d and %d", a, b)
	}
	for _, c := range []parley.Commit{into, from} {
		if c.Through != 0 || len(c.Saw)+len(c.Outbox)+len(c.Dead) > 0 {
			t.Errorf("a merge takes no rows and says nothing: %+v", c)
		}
	}
	diff(t, "time", after(time.Hour), into.Next.Last)
	diff(t, "ahead", young.Ahead, into.Next.Ahead)
	diff(t, "history of the survivor", `{"version":1,"at":"2026-03-01T13:00:00Z","bot":"scripted","merged":"user:43"}`, string(into.History))
	diff(t, "history of the younger", `{"version":2,"at":"2026-03-01T13:00:00Z","bot":"scripted","merged_into":"user:42"}`, string(from.History))
}

func TestMergeTimers(t *testing.T) {
	t.Parallel()
	old := step(said(1, "set a 1m;set b 2m")...).Next
	young := stepOther(said(1, "set b 1h", "set b 2h;set c 3h")...).Next
	into, from := merge(old, young)
	var got []string
	ids := map[parley.ID]bool{}
	for _, timer := range into.Next.Timers {
		got = append(got, fmt.Sprint(timer.Name, " ", timer.Due.Sub(after(0))))
		ids[timer.ID] = true
		if timer.Generation <= max(old.Generation, young.Generation) || timer.Generation > into.Next.Generation {
			t.Errorf("generation %d after %d and %d, the last is %d", timer.Generation, old.Generation, young.Generation, into.Next.Generation)
		}
	}
	for _, timer := range slices.Concat(old.Timers, young.Timers) {
		ids[timer.ID] = true
	}
	diff(t, "live", []string{"a 1m1s", "b 2m1s", "c 3h0m2s"}, got)
	diff(t, "set", into.Next.Timers, into.SetTimers)
	diff(t, "cancelled", old.Timers, into.CancelTimers)
	diff(t, "cancelled of the younger", young.Timers, from.CancelTimers)
	if len(ids) != 7 {
		t.Errorf("%d ids of 4 timers and of 3 set anew", len(ids))
	}
	var rows []parley.Pending // all that came due before the merge, and after
	for i, timer := range slices.Concat(old.Timers, young.Timers, into.Next.Timers) {
		rows = append(rows, fire(100+i, timer))
	}
	c := parley.Step(scripted(), into.Next, rows, drawn(5))
	diff(t, "rang", []string{"ring a", "ring b", "ring c"}, texts(c))
}

// More timers than a conversation may set: none is lost, and the next turns are
// not at fault for it.
func TestMergeMayLeaveMoreThanMaxTimers(t *testing.T) {
	t.Parallel()
	full := func(s parley.Snapshot, prefix string) parley.Snapshot {
		for i := range parley.MaxTimers {
			s = parley.Step(scripted(), s, said(i+1, fmt.Sprintf("set %s%d 1h", prefix, i)), drawn(byte(i))).Next
		}
		return s
	}
	into, _ := merge(full(fresh(), "a"), full(parley.Snapshot{Conversation: other()}, "b"))
	diff(t, "live", 2*parley.MaxTimers, len(into.Next.Timers))
	c := parley.Step(scripted(), into.Next, said(900, "set a0 2h", "set new 1h", "cancel b0;set new 1h"), drawn(5))
	diff(t, "one more is refused", 1, len(c.Dead))
	diff(t, "live after", 2*parley.MaxTimers, len(c.Next.Timers))
}

func TestMayMerge(t *testing.T) {
	t.Parallel()
	a, b := fresh(), parley.Snapshot{Conversation: other()}
	check := func(what string, want bool, a, b parley.Snapshot) {
		if parley.MayMerge(&a, &b) != want {
			t.Errorf("%s: want %v", what, want)
		}
	}
	check("two", true, a, b)
	check("one", false, a, a)
	into, from := merge(a, b)
	check("twice", false, into.Next, from.Next)
	check("into what went", false, from.Next, into.Next)
	elsewhere := b
	elsewhere.Conversation.Channel.Brand = "other"
	check("of two brands", false, a, elsewhere)
	for i := range parley.MaxAbsorbed - 1 {
		a.Absorbed = append(a.Absorbed, parley.Contact(fmt.Sprint("user:x", i)))
	}
	check("the last that fits", true, a, b)
	b.Absorbed = []parley.Contact{"user:y"}
	check("too many", false, a, b)
	b.Absorbed = a.Absorbed[:1]
	check("one that both absorbed", true, a, b)
}

func TestMergeChain(t *testing.T) {
	t.Parallel()
	third := fresh()
	third.Conversation.Contact = "user:44"
	ab, _ := merge(third, parley.Snapshot{Conversation: other()})
	abc, from := merge(fresh(), ab.Next)
	diff(t, "absorbed", []parley.Contact{"user:44", "user:43"}, abc.Next.Absorbed)
	diff(t, "what went", []parley.Contact(nil), from.Next.Absorbed)
}

// side is a conversation on a bad day, with what took effect in it.
type side struct {
	world
	shelf
	effects map[parley.EventKey]int
}

func newSide(firstSeq int) *side {
	return &side{
		world: world{clock: after(0), seq: firstSeq}, shelf: shelf{evicted: map[parley.EventKey]bool{}},
		effects: map[parley.EventKey]int{},
	}
}

func (s *side) handle(t *rapid.T, rows []parley.Pending) {
	c := s.turn(t, scripted(), rows)
	for _, text := range texts(c) {
		s.effects[parley.NewEventKey("event "+text)]++
	}
	for _, d := range c.Dead {
		for _, row := range rows {
			if row.Seq == d.Seq {
				s.effects[row.Key]++
			}
		}
	}
}

func (s *side) day(t *rapid.T) {
	for range rapid.IntRange(0, 25).Draw(t, "turns") {
		var rows []parley.Pending
		for range rapid.IntRange(1, 8).Draw(t, "rows") {
			rows = append(rows, s.deliver(t))
		}
		s.handle(t, rows)
	}
}

// absorb merges o into s, as a store does it.
func (s *side) absorb(t *rapid.T, o *side) {
	younger := o.load(t)
	younger.Conversation = other()
	into, _ := parley.Merge(s.load(t), younger, s.clock, [16]byte{0xff})
	if !slices.IsSortedFunc(into.Next.Seen, func(a, b parley.SeenKey) int { return a.At.Compare(b.At) }) {
		t.Fatalf("keys out of order of time: %v", into.Next.Seen)
	}
	for _, k := range into.Evicted {
		s.evicted[k.Key] = true
	}
	for k := range o.evicted {
		s.evicted[k] = true
	}
	for k, n := range o.effects {
		s.effects[k] += n
	}
	stored, err := into.Next.AppendBinary(nil)
	if err != nil {
		t.Fatalf("store: %v", err)
	}
	s.stored = stored
	s.events = append(s.events, o.events...)
}

// A repeat of any event of either is recognised after the merge, whatever its
// time, if Older covers both.
func TestMergeRecognisesRepeatsOfEither(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		a, b := newSide(0), newSide(10_000)
		a.day(t)
		b.day(t)
		a.absorb(t, b)
		a.day(t)
		for _, again := range a.events {
			a.seq++
			again.Row = parley.Row{Seq: parley.Seq(a.seq), Token: 1}
			a.handle(t, []parley.Pending{again})
		}
		for _, e := range a.events {
			if n := a.effects[e.Key]; n != 1 {
				t.Fatalf("event of time %s, received %s, took effect %d times", e.Time, e.Received, n)
			}
		}
	})
}

// What both saw before they were known to be the same is kept once.
func TestMergeOfKeysThatBothSaw(t *testing.T) {
	t.Parallel()
	row := said(1, "say a")[0]
	later := row
	later.Received = after(time.Minute)
	into, _ := merge(step(row).Next, stepOther(later).Next)
	diff(t, "seen", []parley.SeenKey{{Key: row.Key, At: after(time.Minute)}}, into.Next.Seen)
	diff(t, "evicted", nil, into.Evicted)
}
