package parley_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parleychat/parley"
)

// diary is the state of the scripted bot: what it handled, line by line.
type diary struct{ Lines []string }

// scripted is a bot whose users tell it what to do: a message holds commands
// separated by semicolons, see obey. "loud" answers in capitals.
func scripted() *parley.Bot {
	return &parley.Bot{
		Name: "scripted", Version: 3,
		Behavior: parley.Stateful(func(t *parley.Turn, d *diary) error { return read(t, d, t.Say) }),
		Named: map[string]parley.Behavior{
			"loud": parley.Stateful(func(t *parley.Turn, d *diary) error {
				return read(t, d, func(text string, _ ...parley.QuickReply) { t.Say(strings.ToUpper(text)) })
			}),
		},
	}
}

type sayFunc func(text string, replies ...parley.QuickReply)

func read(t *parley.Turn, d *diary, say sayFunc) error {
	switch in := t.Input().(type) {
	case parley.Message:
		d.Lines = append(d.Lines, in.Text)
		for command := range strings.SplitSeq(in.Text, ";") {
			if err := obey(t, strings.Fields(command), say); err != nil {
				return err
			}
		}
	case parley.TimerFired:
		d.Lines = append(d.Lines, "ring "+in.Name)
		say("ring " + in.Name)
	default:
		d.Lines = append(d.Lines, in.Kind())
	}
	return nil
}

var errTold = errors.New("told to")

func obey(t *parley.Turn, words []string, say sayFunc) error {
	word := func(i int) string {
		if i < len(words) {
			return words[i]
		}
		return ""
	}
	switch word(0) {
	case "say":
		say(word(1))
	case "set":
		d, err := time.ParseDuration(word(2))
		if err != nil {
			return err
		}
		t.SetTimer(word(1), d)
	case "cancel":
		t.CancelTimer(word(1))
	case "become":
		t.Become(word(1))
	case "end":
		t.End()
	case "storm":
		n, err := strconv.Atoi(word(1))
		if err != nil {
			return err
		}
		for i := range n {
			say(strconv.Itoa(i))
		}
	case "fail":
		return errTold
	case "panic":
		panic("the secret " + word(1))
	case "index":
		var beyond int
		_ = words[len(words)+beyond]
	}
	return nil
}

func talk() parley.Conversation {
	return parley.Conversation{
		Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "1234"},
		Contact: parley.UserKey + "42",
	}
}

// noon is when the tests begin; after(d) is d later.
func after(d time.Duration) time.Time {
	return time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC).Add(d)
}

// pend makes a row of number seq, received seq seconds after noon, whose key is
// made of key.
func pend(seq int, key string, in parley.Input) parley.Pending {
	data, err := parley.EncodeInput(in)
	if err != nil {
		panic(err) // a test's own input
	}
	received := after(time.Duration(seq) * time.Second)
	return parley.Pending{
		Row:          parley.Row{Seq: parley.Seq(seq), Token: parley.Token(seq) * 7919},
		Conversation: talk(), Key: parley.NewEventKey(key), Time: received, Received: received, Input: in, Data: data,
	}
}

// said are messages numbered from seq on.
func said(seq int, texts ...string) []parley.Pending {
	rows := make([]parley.Pending, 0, len(texts))
	for i, text := range texts {
		rows = append(rows, pend(seq+i, fmt.Sprint("mid.", seq+i), parley.Message{Text: text}))
	}
	return rows
}

func fresh() parley.Snapshot { return parley.Snapshot{Conversation: talk()} }

func drawn(n byte) parley.Circumstance { return parley.Circumstance{Nonce: [16]byte{n, 15: n}} }

// step handles rows from the beginning of a conversation.
func step(rows ...parley.Pending) parley.Commit {
	return parley.Step(scripted(), fresh(), rows, drawn(1))
}

// tb is what *testing.T and *rapid.T have in common.
type tb interface {
	Helper()
	Errorf(format string, args ...any)
	Fatalf(format string, args ...any)
}

func lines(t tb, s parley.Snapshot) []string {
	t.Helper()
	var d diary
	if len(s.State) > 0 {
		if err := json.Unmarshal(s.State, &d); err != nil {
			t.Fatalf("state %q: %v", s.State, err)
		}
	}
	return d.Lines
}

func texts(c parley.Commit) []string {
	var out []string
	for _, o := range c.Outbox {
		out = append(out, o.Send.Text)
	}
	return out
}

func causes(c parley.Commit) []string {
	var out []string
	for _, d := range c.Dead {
		out = append(out, d.Cause)
	}
	return out
}

func diff[T any](t tb, what string, want, got T) {
	t.Helper()
	if d := cmp.Diff(want, got, cmpopts.EquateEmpty()); d != "" {
		t.Errorf("%s (-want +got):\n%s", what, d)
	}
}

func TestStep(t *testing.T) {
	t.Parallel()
	t.Run("handles the rows in their order", func(t *testing.T) {
		t.Parallel()
		c := step(said(1, "say a", "say b;say c", "say d")...)
		diff(t, "outbox", []string{"a", "b", "c", "d"}, texts(c))
		diff(t, "state", []string{"say a", "say b;say c", "say d"}, lines(t, c.Next))
	})
	t.Run("goes on from the snapshot", func(t *testing.T) {
		t.Parallel()
		first := step(said(1, "say a")...)
		second := parley.Step(scripted(), first.Next, said(2, "say b"), drawn(2))
		diff(t, "state", []string{"say a", "say b"}, lines(t, second.Next))
		diff(t, "base", first.Next.Version, second.Base)
		if got := second.Outbox[0].Ordinal; got != 2 {
			t.Errorf("ordinal %d, want 2", got)
		}
	})
	t.Run("accounts for what it saw", func(t *testing.T) {
		t.Parallel()
		rows := said(5, "say a", "fail", "say b")
		s := fresh()
		s.Version = parley.Version{Number: 8, Token: 99}
		c := parley.Step(scripted(), s, rows, drawn(3))
		diff(t, "saw", []parley.Row{rows[0].Row, rows[1].Row, rows[2].Row}, c.Saw)
		diff(t, "base", s.Version, c.Base)
		diff(t, "conversation", talk(), c.Conversation)
		if c.Through != 7 || c.Next.Version.Number != 9 || c.Next.Version.Token == 99 || c.Next.Version.Token == 0 {
			t.Errorf("through %d, next version %+v", c.Through, c.Next.Version)
		}
	})
}

func TestStepAndTheBot(t *testing.T) {
	t.Parallel()
	t.Run("names the bot that wrote the state", func(t *testing.T) {
		t.Parallel()
		next := step(said(1, "say a")...).Next
		if next.Bot != "scripted" || next.BotVersion != 3 {
			t.Errorf("bot %q version %d", next.Bot, next.BotVersion)
		}
	})
	t.Run("names another bot only if it writes", func(t *testing.T) {
		t.Parallel()
		first := step(said(1, "say a")...).Next
		visitor := &parley.Bot{Name: "visitor", Version: 9, Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
			if message, ok := t.Input().(parley.Message); ok && message.Text == "write" {
				return t.SetState("mine")
			}
			return nil
		})}
		c := parley.Step(visitor, first, said(2, "look"), drawn(2))
		if c.Next.Bot != "scripted" || c.Next.BotVersion != 3 {
			t.Errorf("after a look: bot %q version %d", c.Next.Bot, c.Next.BotVersion)
		}
		if !strings.Contains(string(c.History), `"bot":"visitor"`) {
			t.Errorf("history %s", c.History)
		}
		c = parley.Step(visitor, c.Next, said(3, "write"), drawn(3))
		if c.Next.Bot != "visitor" || c.Next.BotVersion != 9 {
			t.Errorf("after a write: bot %q version %d", c.Next.Bot, c.Next.BotVersion)
		}
	})
	t.Run("shows the turn what it is about", func(t *testing.T) {
		t.Parallel()
		row := said(1, "x")[0]
		row.Time = after(-time.Hour)
		row.Received = row.Received.In(time.FixedZone("elsewhere", 3600))
		bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say(fmt.Sprint(t.Conversation(), " ", t.Now(), " ", t.SentAt(), " ", t.Input().Kind()))
			return nil
		})}
		c := parley.Step(bot, fresh(), []parley.Pending{row}, drawn(1))
		diff(t, "told", []string{fmt.Sprint(talk(), " ", after(time.Second), " ", after(-time.Hour), " message")}, texts(c))
		diff(t, "outgoing", parley.Outgoing{
			ID: c.Outbox[0].ID, Conversation: talk(), Ordinal: 1, At: after(time.Second), Send: c.Outbox[0].Send,
			Heard: parley.Heard{At: after(-time.Hour)},
		}, c.Outbox[0])
	})
	t.Run("shows and notes what is late", func(t *testing.T) {
		t.Parallel()
		rows := said(1, "x", "y")
		rows[1].Late = true
		bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say(fmt.Sprint("late ", t.Late()))
			return nil
		})}
		c := parley.Step(bot, fresh(), rows, drawn(1))
		diff(t, "told", []string{"late false", "late true"}, texts(c))
		again := parley.Step(bot, c.Next, rows[1:], drawn(2))
		for text, want := range map[string]int{`{"seq":1,"in":`: 1, `{"seq":2,"late":true,"in":`: 1} {
			if n := strings.Count(string(c.History), text); n != want {
				t.Errorf("%q is %d times in %s", text, n, c.History)
			}
		}
		if !strings.Contains(string(again.History), `{"seq":2,"late":true,"not":"repeated"}`) {
			t.Errorf("history of the repeat %s", again.History)
		}
	})
}

func TestStepKeepsToItself(t *testing.T) {
	t.Parallel()
	t.Run("leaves its arguments alone", func(t *testing.T) {
		t.Parallel()
		s := step(said(1, "set a 1m;set b 1m", "set c 1m")...).Next
		before, err := s.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		rows := said(3, "cancel a;set d 1h", "end")
		parley.Step(scripted(), s, rows, drawn(2))
		after, err := s.AppendBinary(nil)
		if err != nil {
			t.Fatal(err)
		}
		diff(t, "snapshot", before, after)
		diff(t, "rows", said(3, "cancel a;set d 1h", "end"), rows)
	})
	t.Run("shares nothing with the same step taken before", func(t *testing.T) {
		t.Parallel()
		s := step(said(1, "set a 1m", "set b 1m")...).Next
		want := parley.Step(scripted(), s, said(3, "set c 1m"), drawn(2))
		s.Seen, s.Timers = slices.Grow(s.Seen, 8), slices.Grow(s.Timers, 8) // room to write into
		first := parley.Step(scripted(), s, said(3, "set c 1m"), drawn(2))
		parley.Step(scripted(), s, said(4, "set d 1m"), drawn(3))
		diff(t, "first", want, first)
	})
}

func TestStepRepeats(t *testing.T) {
	t.Parallel()
	again := func(seq int, of parley.Pending) parley.Pending {
		of.Row = parley.Row{Seq: parley.Seq(seq), Token: parley.Token(seq)}
		return of
	}
	first := said(1, "say a")[0]
	t.Run("within one batch", func(t *testing.T) {
		t.Parallel()
		c := step(first, again(2, first), said(3, "say b")[0], again(4, first))
		diff(t, "outbox", []string{"a", "b"}, texts(c))
		if len(c.Saw) != 4 || c.Through != 4 {
			t.Errorf("saw %d rows through %d: repeats are consumed too", len(c.Saw), c.Through)
		}
	})
	t.Run("known from the snapshot", func(t *testing.T) {
		t.Parallel()
		s := step(first).Next
		c := parley.Step(scripted(), s, []parley.Pending{again(2, first)}, drawn(2))
		diff(t, "outbox", nil, texts(c))
		diff(t, "state", s.State, c.Next.State)
		diff(t, "seen", s.Seen, c.Next.Seen)
		if c.Next.Version.Number != s.Version.Number+1 {
			t.Error("a commit that only consumes is a version, too")
		}
	})
	t.Run("known from the older keys", func(t *testing.T) {
		t.Parallel()
		c := drawn(1)
		c.Older = map[parley.EventKey]bool{first.Key: true}
		got := parley.Step(scripted(), fresh(), append([]parley.Pending{first}, said(2, "say b")...), c)
		diff(t, "outbox", []string{"b"}, texts(got))
	})
	t.Run("of an event that failed", func(t *testing.T) {
		t.Parallel()
		bad := said(1, "fail")[0]
		c := step(bad, again(2, bad))
		if len(c.Dead) != 1 {
			t.Errorf("%d dead letters, want 1", len(c.Dead))
		}
	})
	t.Run("the oldest keys move out", func(t *testing.T) {
		t.Parallel()
		rows := said(1, make([]string, parley.InlineSeen+5)...)
		c := step(rows...)
		if len(c.Next.Seen) != parley.InlineSeen || len(c.Evicted) != 5 {
			t.Fatalf("%d inline, %d moved out", len(c.Next.Seen), len(c.Evicted))
		}
		for i, k := range slices.Concat(c.Evicted, c.Next.Seen) {
			diff(t, "key", parley.SeenKey{Key: rows[i].Key, At: rows[i].Received}, k)
		}
	})
}

func TestStepFailures(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ name, text, cause string }{
		{"error", "say x;fail", "error: told to"},
		{"panic", "say x;set n 1s;panic word", "panic: panic with a value of type string"},
		{"runtime panic", "index", "panic: runtime error: index out of range [1] with length 1"},
		{"limit", "say x;storm 32", "limit: more than 32 effects in a turn (MaxEffects)"},
		{"limit after End", "end;storm 32", "limit: more than 32 effects in a turn (MaxEffects)"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			rows := said(1, "say before;set keep 1h", c.text, "say after")
			got := step(rows...)
			diff(t, "neighbours", []string{"before", "after"}, texts(got))
			diff(t, "state", []string{"say before;set keep 1h", "say after"}, lines(t, got.Next))
			diff(t, "timers", 1, len(got.Next.Timers))
			diff(t, "dead", []parley.DeadLetter{{
				ID: got.Dead[0].ID, Conversation: talk(), At: rows[1].Received, Cause: c.cause, Seq: 2, Data: rows[1].Data,
			}}, got.Dead)
		})
	}
}

func TestStepFailuresOfState(t *testing.T) {
	t.Parallel()
	one := func(s parley.Snapshot, b parley.Behavior) []string {
		return causes(parley.Step(&parley.Bot{Behavior: b}, s, said(1, "x"), drawn(1)))
	}
	t.Run("that can't be decoded", func(t *testing.T) {
		t.Parallel()
		s := fresh()
		s.State = []byte(`{"Lines":"of another form"}`)
		got := one(s, scripted().Behavior)
		if len(got) != 1 || !strings.HasPrefix(got[0], "state: decode state into *parley_test.diary") {
			t.Errorf("causes %q", got)
		}
	})
	t.Run("that can't be encoded", func(t *testing.T) {
		t.Parallel()
		got := one(fresh(), parley.BehaviorFunc(func(t *parley.Turn) error { return t.SetState(make(chan int)) }))
		if len(got) != 1 || !strings.HasPrefix(got[0], "state: encode state of chan int") {
			t.Errorf("causes %q", got)
		}
	})
	t.Run("that is too large, though the bot goes on", func(t *testing.T) {
		t.Parallel()
		got := one(fresh(), parley.BehaviorFunc(func(t *parley.Turn) error {
			_ = t.SetState(strings.Repeat("x", parley.MaxStateBytes))
			return nil
		}))
		if len(got) != 1 || !strings.Contains(got[0], "MaxStateBytes") {
			t.Errorf("causes %q", got)
		}
	})
	t.Run("wrapped by the bot", func(t *testing.T) {
		t.Parallel()
		got := one(fresh(), parley.BehaviorFunc(func(t *parley.Turn) error {
			return fmt.Errorf("remember: %w", t.SetState(make(chan int)))
		}))
		if len(got) != 1 || !strings.HasPrefix(got[0], "state: ") {
			t.Errorf("causes %q", got)
		}
	})
	t.Run("that is no failure at all but a typed nil", func(t *testing.T) {
		t.Parallel()
		got := one(fresh(), parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say("")
			var none *parley.TurnError
			return none
		}))
		if len(got) != 1 {
			t.Errorf("causes %q: a typed nil hid the limit", got)
		}
	})
}

func TestStepWithoutBehavior(t *testing.T) {
	t.Parallel()
	c := parley.Step(&parley.Bot{}, fresh(), said(1, "a", "b"), drawn(1))
	if len(c.Dead) != 2 || len(c.Outbox) != 0 {
		t.Errorf("dead %q", causes(c))
	}
}

func TestStepCondemned(t *testing.T) {
	t.Parallel()
	rows := said(1, "say a", "say b", "say c")
	c := drawn(1)
	c.Condemned = map[parley.Row]string{
		rows[1].Row:                 "ended the process twice",
		{Seq: 3, Token: 1234567890}: "another row of the same number",
	}
	var begun []parley.Seq
	c.Begin = func(r parley.Row) { begun = append(begun, r.Seq) }
	got := parley.Step(scripted(), fresh(), rows, c)
	diff(t, "outbox", []string{"a", "c"}, texts(got))
	diff(t, "causes", []string{"condemned: ended the process twice"}, causes(got))
	diff(t, "begun", []parley.Seq{1, 3}, begun)
}

func TestStepBecome(t *testing.T) {
	t.Parallel()
	t.Run("from the next input on", func(t *testing.T) {
		t.Parallel()
		c := step(said(1, "become loud;say a", "say b", "become;say c", "say d")...)
		diff(t, "outbox", []string{"a", "B", "C", "d"}, texts(c))
	})
	t.Run("is kept in the snapshot", func(t *testing.T) {
		t.Parallel()
		s := step(said(1, "become loud")...).Next
		diff(t, "outbox", []string{"B"}, texts(parley.Step(scripted(), s, said(2, "say b"), drawn(2))))
	})
	t.Run("one that doesn't exist", func(t *testing.T) {
		t.Parallel()
		c := step(said(1, "become nobody", "say a")...)
		diff(t, "outbox", []string{"a"}, texts(c))
		diff(t, "causes", nil, causes(c))
	})
	t.Run("not if the turn fails", func(t *testing.T) {
		t.Parallel()
		diff(t, "outbox", []string{"a"}, texts(step(said(1, "become loud;fail", "say a")...)))
	})
}

func TestStepEnd(t *testing.T) {
	t.Parallel()
	t.Run("forgets", func(t *testing.T) {
		t.Parallel()
		first := step(said(1, "become loud;set a 1h;set b 1h")...)
		c := parley.Step(scripted(), first.Next, said(2, "set c 1h;say bye;end", "say a"), drawn(2))
		diff(t, "outbox", []string{"BYE", "a"}, texts(c))
		diff(t, "state", []string{"say a"}, lines(t, c.Next))
		diff(t, "live timers", nil, c.Next.Timers)
		diff(t, "set timers", nil, c.SetTimers)
		diff(t, "cancelled timers", first.SetTimers, c.CancelTimers)
	})
	t.Run("keeps what must not begin anew", func(t *testing.T) {
		t.Parallel()
		first := step(said(1, "say a;set a 1h")...).Next
		c := parley.Step(scripted(), first, said(2, "end", "say b;set a 1h"), drawn(2))
		if c.Outbox[0].Ordinal != 2 || c.Next.Timers[0].Generation != 2 || len(c.Next.Seen) != 3 {
			t.Errorf("ordinal %d, generation %d, %d keys", c.Outbox[0].Ordinal, c.Next.Timers[0].Generation, len(c.Next.Seen))
		}
	})
	t.Run("at once", func(t *testing.T) {
		t.Parallel()
		bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
			t.End()
			var d diary
			if err := t.State(&d); err != nil {
				return err
			}
			t.Say(fmt.Sprint(len(d.Lines)))
			return t.SetState("too late: the state ends with the turn")
		})}
		c := parley.Step(bot, step(said(1, "x")...).Next, said(2, "y"), drawn(2))
		diff(t, "lines left", []string{"0"}, texts(c))
		diff(t, "state", nil, c.Next.State)
	})
	t.Run("and what the turn wants after it holds", func(t *testing.T) {
		t.Parallel()
		c := step(said(1, "set a 1h", "end;set b 1h;become loud")...)
		if len(c.Next.Timers) != 1 || c.Next.Timers[0].Name != "b" || c.Next.Behavior != "loud" || len(c.Next.State) != 0 {
			t.Errorf("next %+v", c.Next)
		}
	})
}

func TestNowNeverRunsBackwards(t *testing.T) {
	t.Parallel()
	rows := said(1, "a", "b", "c")
	rows[0].Received, rows[1].Received, rows[2].Received = after(time.Hour), after(0), after(2*time.Hour)
	var seen []time.Time
	bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		seen = append(seen, t.Now())
		return nil
	})}
	c := parley.Step(bot, fresh(), rows, drawn(1))
	diff(t, "times", []time.Time{after(time.Hour), after(time.Hour), after(2 * time.Hour)}, seen)
	late := said(4, "d")
	late[0].Received = after(0)
	c = parley.Step(bot, c.Next, late, drawn(2))
	diff(t, "last", after(2*time.Hour), c.Next.Last)
	diff(t, "of the next commit", after(2*time.Hour), seen[3])
}

func TestStepIsDeterministic(t *testing.T) {
	t.Parallel()
	rows := said(1, "say a;set x 1h", "fail", "say b;set x 2h;set y 1h", "cancel y")
	a, b := parley.Step(scripted(), fresh(), rows, drawn(1)), parley.Step(scripted(), fresh(), rows, drawn(1))
	diff(t, "the same step again", a, b)
	other := parley.Step(scripted(), fresh(), rows, drawn(2))
	ids := map[parley.ID]bool{}
	for _, c := range []parley.Commit{a, other} {
		for _, o := range c.Outbox {
			ids[o.ID] = true
		}
		for _, s := range c.SetTimers {
			ids[s.ID] = true
		}
		for _, d := range c.Dead {
			ids[d.ID] = true
		}
	}
	if len(ids) != 8 {
		t.Errorf("%d different ids of two steps with 2 messages, 1 timer and 1 dead letter each", len(ids))
	}
	if a.Next.Version.Token == other.Next.Version.Token {
		t.Error("another nonce, the same token")
	}
}
