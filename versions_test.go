package parley_test

import (
	"bytes"
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// The three versions of what the ledger bot keeps: one thing, several, and several
// with how many of each.
type (
	ledger1 struct{ Item string }
	ledger2 struct{ Items []string }
	ledger3 struct{ Counts map[string]int }
)

var errUnheard = errors.New("an item that was never sold")

// ledger is a bot of three versions. It keeps what is said to it, and says its
// version and how many things it has. "look" is a turn that replaces no state.
func ledger(version int) *parley.Bot {
	b := &parley.Bot{Name: "ledger", Version: version, Migrations: map[int]parley.Migration{}}
	if version > 1 {
		b.Migrations[1] = parley.Migrate(func(l ledger1) (ledger2, error) {
			switch l.Item {
			case "bad":
				return ledger2{}, errUnheard
			case "worse":
				panic("the secret " + l.Item)
			case "large":
				return ledger2{Items: []string{strings.Repeat("x", parley.MaxStateBytes)}}, nil
			}
			return ledger2{Items: []string{l.Item}}, nil
		})
	}
	if version > 2 {
		b.Migrations[2] = parley.Migrate(func(l ledger2) (ledger3, error) {
			counts := map[string]int{}
			for _, item := range l.Items {
				counts[item]++
			}
			return ledger3{counts}, nil
		})
	}
	switch version {
	case 1:
		b.Behavior = keeping(version, func(l *ledger1, s string) int { l.Item = s; return 1 })
	case 2:
		b.Behavior = keeping(version, func(l *ledger2, s string) int { l.Items = append(l.Items, s); return len(l.Items) })
	case 3:
		b.Behavior = keeping(version, func(l *ledger3, s string) int {
			if l.Counts == nil {
				l.Counts = map[string]int{}
			}
			l.Counts[s]++
			return len(l.Counts)
		})
	}
	return b
}

func keeping[S any](version int, keep func(*S, string) int) parley.Behavior {
	return parley.BehaviorFunc(func(t *parley.Turn) error {
		var s S
		if err := t.State(&s); err != nil {
			return err
		}
		m, _ := t.Input().(parley.Message)
		switch m.Text {
		case "look":
			t.Say(fmt.Sprintf("v%d looks", version))
			return nil
		case "fail":
			return errTold
		case "end":
			t.End()
			return nil
		}
		t.Say(fmt.Sprintf("v%d has %d", version, keep(&s, m.Text)))
		return t.SetState(s)
	})
}

// with is the bot with earlier versions to go on with, newest first.
func with(b *parley.Bot, previous ...*parley.Bot) *parley.Bot {
	last := b
	for _, p := range previous {
		last.Previous, last = p, p
	}
	return b
}

// kept is a snapshot that a version of the ledger left.
func kept(version int, state string) parley.Snapshot {
	s := fresh()
	s.Version.Number = 7
	s.Bot, s.BotVersion, s.State = "ledger", version, []byte(state)
	return s
}

// A state is brought to the bot's version by the turn that meets it, over as many
// steps as it takes; what a turn only looks at is stored anew, too, and what a turn
// fails at stays what it was.
func TestMigrations(t *testing.T) {
	t.Parallel()
	const v1, v2, v3 = `{"Item":"a"}`, `{"Items":["a"]}`, `{"Counts":{"a":1}}`
	for name, c := range map[string]struct {
		from    parley.Snapshot
		bot     int
		text    string
		says    string
		state   string
		version int
	}{
		"OneStep":     {kept(1, v1), 2, "b", "v2 has 2", `{"Items":["a","b"]}`, 2},
		"TwoSteps":    {kept(1, v1), 3, "b", "v3 has 2", `{"Counts":{"a":1,"b":1}}`, 3},
		"LastStep":    {kept(2, v2), 3, "b", "v3 has 2", `{"Counts":{"a":1,"b":1}}`, 3},
		"None":        {kept(3, v3), 3, "b", "v3 has 2", `{"Counts":{"a":1,"b":1}}`, 3},
		"NoneIsFirst": {kept(0, v1), 2, "b", "v2 has 2", `{"Items":["a","b"]}`, 2},
		"New":         {fresh(), 3, "b", "v3 has 1", `{"Counts":{"b":1}}`, 3},
		"Look":        {kept(1, v1), 2, "look", "v2 looks", v2, 2},
		"Failed":      {kept(1, v1), 3, "fail", "", v1, 1},
		"Ended":       {kept(1, v1), 3, "end", "", "", 3},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			before := string(c.from.State)
			got := parley.Step(ledger(c.bot), c.from, said(8, c.text), drawn(1))
			if said := strings.Join(texts(got), ""); said != c.says {
				t.Errorf("says %q, want %q", said, c.says)
			}
			if string(got.Next.State) != c.state || got.Next.BotVersion != c.version {
				t.Errorf("left %s of version %d, want %s of %d", got.Next.State, got.Next.BotVersion, c.state, c.version)
			}
			if string(c.from.State) != before {
				t.Errorf("the snapshot was changed to %s", c.from.State)
			}
		})
	}
}

// Events after one whose turn failed are handled from the state that was stored, and
// migrate it.
func TestMigrationAfterFailure(t *testing.T) {
	t.Parallel()
	got := parley.Step(ledger(3), kept(1, `{"Item":"a"}`), said(8, "fail", "b", "c"), drawn(1))
	diff(t, "says", []string{"v3 has 2", "v3 has 3"}, texts(got))
	if len(got.Dead) != 1 {
		t.Errorf("%d dead letters, want that of the first", len(got.Dead))
	}
}

// What can't be migrated makes a dead letter of each input and nothing else, and
// says neither the state nor what a panic said.
func TestMigrationFails(t *testing.T) {
	t.Parallel()
	gap := ledger(3)
	delete(gap.Migrations, 2)
	greedy := ledger(2)
	greedy.Migrations[1] = func(state []byte) ([]byte, error) { clear(state); return nil, errUnheard }
	for name, c := range map[string]struct {
		bot   *parley.Bot
		state string
		cause string
	}{
		"Error":      {ledger(2), `{"Item":"bad"}`, "migration: from version 1 to 2: an item that was never sold"},
		"Panic":      {ledger(2), `{"Item":"worse"}`, "migration: from version 1 to 2: panic with a value of type string"},
		"TooLarge":   {ledger(2), `{"Item":"large"}`, "migration: from version 1 to 2: state of 65550 bytes: at most 65536 (MaxStateBytes)"},
		"Gap":        {gap, `{"Item":"a"}`, "migration: from version 2 to 3: the bot has no such migration"},
		"OtherType":  {ledger(2), `{"Item":4929123}`, `migration: from version 1 to 2: decode state into parley_test.ledger1: field "Item" is a number, want string`},
		"NoJSON":     {ledger(2), `secret`, "migration: from version 1 to 2: decode state into parley_test.ledger1: not JSON from byte 1 on"},
		"InItsHands": {greedy, `{"Item":"a"}`, "migration: from version 1 to 2: an item that was never sold"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			got := parley.Step(c.bot, kept(1, c.state), said(8, "b", "c"), drawn(1))
			diff(t, "causes", []string{c.cause, c.cause}, causes(got))
			if string(got.Next.State) != c.state || got.Next.BotVersion != 1 || len(got.Outbox) > 0 {
				t.Errorf("left %s of version %d, and said %q", got.Next.State, got.Next.BotVersion, texts(got))
			}
		})
	}
}

// The fallback gets the input with the state as it is stored, and the reason; the
// state is replaced only if it says so.
func TestFallback(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		do      func(*parley.Turn) error
		state   string
		version int
	}{
		"Says":     {func(t *parley.Turn) error { t.Say("sorry"); return nil }, `{"Item":"bad"}`, 1},
		"Replaces": {func(t *parley.Turn) error { return t.SetState(ledger2{Items: []string{"new"}}) }, `{"Items":["new"]}`, 2},
		"Ends":     {func(t *parley.Turn) error { t.End(); return nil }, "", 2},
		"Fails":    {func(*parley.Turn) error { return errTold }, `{"Item":"bad"}`, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot := ledger(2)
			var was ledger1
			var why error
			bot.Fallback = parley.BehaviorFunc(func(turn *parley.Turn) error {
				why = turn.FallbackCause()
				if err := turn.State(&was); err != nil {
					return err
				}
				return c.do(turn)
			})
			got := parley.Step(bot, kept(1, `{"Item":"bad"}`), said(8, "b"), drawn(1))
			var fault *parley.TurnError
			if !errors.As(why, &fault) || fault.Kind != parley.TurnMigration || was.Item != "bad" {
				t.Errorf("the fallback got %+v because of %v", was, why)
			}
			if string(got.Next.State) != c.state || got.Next.BotVersion != c.version {
				t.Errorf("left %s of version %d, want %s of %d", got.Next.State, got.Next.BotVersion, c.state, c.version)
			}
		})
	}
}

// A behaviour that isn't there any more is the fallback's, with the state in its
// new form; without one it is Bot.Behavior's.
func TestFallbackOfBehavior(t *testing.T) {
	t.Parallel()
	gone := kept(1, `{"Item":"a"}`)
	gone.Behavior = "sizes"
	bot := ledger(2)
	diff(t, "without", []string{"v2 has 2"}, texts(parley.Step(bot, gone, said(8, "b"), drawn(1))))
	bot.Fallback = parley.BehaviorFunc(func(turn *parley.Turn) error {
		var s ledger2
		if err := turn.State(&s); err != nil {
			return err
		}
		turn.Become("")
		turn.Say(fmt.Sprint(turn.FallbackCause(), " ", s.Items))
		return nil
	})
	got := parley.Step(bot, gone, said(8, "b", "c"), drawn(1))
	diff(t, "with", []string{`behavior: the bot has no behaviour "sizes" [a]`, "v2 has 2"}, texts(got))
}

// A state that the behaviour can't decode, of whichever bot, is the fallback's, and
// nothing of what the behaviour wanted is left; without one it is a dead letter, again
// and again. A behaviour that can do without its state is left alone.
func TestFallbackOfState(t *testing.T) {
	t.Parallel()
	bot := &parley.Bot{Name: "b", Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		t.Say("first")
		t.SetTimer("t", 0)
		var s ledger2
		if err := t.State(&s); err != nil {
			return fmt.Errorf("in vain: %w", err)
		}
		return nil
	})}
	for _, of := range []string{"b", "another"} {
		s := fresh()
		s.Bot, s.State = of, []byte(`{"Items":1}`)
		if c := parley.Step(bot, s, said(1, "x", "y"), drawn(1)); len(c.Dead) != 2 || string(c.Next.State) != `{"Items":1}` {
			t.Errorf("without a fallback: %+v", c)
		}
		able := *bot
		able.Fallback = parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say(fmt.Sprintf("%T", t.FallbackCause()))
			return t.SetState(ledger2{})
		})
		c := parley.Step(&able, s, said(1, "x", "y"), drawn(1))
		diff(t, "says", []string{"*parley.TurnError", "first"}, texts(c))
		if len(c.Dead) > 0 || len(c.SetTimers) != 1 || string(c.Next.State) != `{"Items":null}` || c.Next.Bot != "b" {
			t.Errorf("with a fallback: %+v", c)
		}
		able.Behavior = parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say(fmt.Sprint(t.State(&ledger2{}) != nil))
			return nil
		})
		diff(t, "a behaviour that goes on", []string{"true"}, texts(parley.Step(&able, s, said(1, "x"), drawn(1))))
		able.Behavior = bot.Behavior
		able.Fallback = parley.BehaviorFunc(func(t *parley.Turn) error { return t.State(&ledger2{}) })
		if c := parley.Step(&able, s, said(1, "x"), drawn(1)); len(c.Dead) != 1 || len(c.Outbox) > 0 {
			t.Errorf("a fallback that fails, too: %+v", c)
		}
	}
}

// FallbackCause is nothing for every other behaviour.
func TestNoFallbackCause(t *testing.T) {
	t.Parallel()
	bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(turn *parley.Turn) error {
		if turn.FallbackCause() != nil {
			turn.Say("why?")
		}
		return nil
	})}
	if c := parley.Step(bot, fresh(), said(1, "x"), drawn(1)); len(c.Outbox)+len(c.Dead) > 0 {
		t.Errorf("%+v", c)
	}
}

// Which version takes a turn, by what the program has, what everybody reads, and
// what is stored. 0: none, the turn is put off.
func TestBarrier(t *testing.T) {
	t.Parallel()
	const v1, v2, v3 = `{"Item":"a"}`, `{"Items":["a"]}`, `{"Counts":{"a":1}}`
	for name, c := range map[string]struct {
		bot       *parley.Bot
		everybody int
		stored    parley.Snapshot
		version   int
		why       parley.PutOff
	}{
		"Alone":                  {ledger(2), 0, kept(1, v1), 2, ""},
		"AllReadIt":              {with(ledger(2), ledger(1)), 2, kept(1, v1), 2, ""},
		"SomebodyReadsMore":      {ledger(2), 3, kept(1, v1), 2, ""},
		"Previous":               {with(ledger(2), ledger(1)), 1, kept(1, v1), 1, ""},
		"PreviousForNew":         {with(ledger(2), ledger(1)), 1, fresh(), 1, ""},
		"SecondPrevious":         {with(ledger(3), ledger(2), ledger(1)), 1, kept(1, v1), 1, ""},
		"NewestThatAllRead":      {with(ledger(3), ledger(2), ledger(1)), 2, kept(1, v1), 2, ""},
		"OlderThanAllRead":       {with(ledger(3), ledger(1)), 2, kept(1, v1), 1, ""},
		"NoPrevious":             {ledger(2), 1, kept(1, v1), 0, parley.OlderReaders},
		"NoPreviousForNew":       {ledger(2), 1, fresh(), 0, parley.OlderReaders},
		"StoredAlready":          {with(ledger(2), ledger(1)), 1, kept(2, v2), 2, ""},
		"StoredBetween":          {with(ledger(3), ledger(2), ledger(1)), 1, kept(2, v2), 2, ""},
		"StoredBetweenAndGone":   {with(ledger(3), ledger(1)), 1, kept(2, v2), 0, parley.OlderReaders},
		"Newer":                  {ledger(2), 0, kept(3, v3), 0, parley.NewerState},
		"NewerWithPrevious":      {with(ledger(2), ledger(1)), 1, kept(3, v3), 0, parley.NewerState},
		"NewerThanUnnumbered":    {ledger(1), 0, kept(2, v2), 0, parley.NewerState},
		"NewerWithNothingInIt":   {ledger(2), 0, kept(3, ""), 2, ""},
		"NewerAndOfAnotherTruly": {ledger(2), 0, parley.Snapshot{Conversation: talk(), Bot: "another", BotVersion: 3, State: []byte(v2)}, 2, ""},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			circumstance := drawn(1)
			circumstance.BotVersion = c.everybody
			got := parley.Step(c.bot, c.stored, said(8, "b"), circumstance)
			if got.PutOff != c.why {
				t.Fatalf("put off: %q, want %q", got.PutOff, c.why)
			}
			if c.why != "" {
				if got.Next.Version.Number != 0 || len(got.Saw)+len(got.Dead)+len(got.Outbox)+len(got.History) > 0 {
					t.Errorf("put off with %+v", got)
				}
				return
			}
			if said := strings.Join(texts(got), ""); !strings.HasPrefix(said, fmt.Sprintf("v%d has", c.version)) || got.Next.BotVersion != c.version {
				t.Errorf("says %q and leaves version %d, want %d", said, got.Next.BotVersion, c.version)
			}
		})
	}
}

// A behaviour of a newer version without a state is its state.
func TestNewerBehavior(t *testing.T) {
	t.Parallel()
	s := kept(3, "")
	s.Behavior = "sizes"
	if c := parley.Step(ledger(2), s, said(8, "b"), drawn(1)); c.PutOff != parley.NewerState {
		t.Errorf("put off: %q", c.PutOff)
	}
}

// Whatever versions programs have, keep and know of each other: nothing that is
// stored is ever replaced by something of an older version, nothing is stored that
// somebody doesn't read unless it was so before, and when all have one version every
// event takes effect.
func TestVersionsProperty(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		s := fresh()
		programs := rapid.SliceOfN(rapid.IntRange(1, 3), 1, 4).Draw(t, "programs")
		for n := range rapid.IntRange(1, 20).Draw(t, "turns") {
			i := rapid.IntRange(0, len(programs)-1).Draw(t, "who")
			if rapid.IntRange(0, 3).Draw(t, "replace") == 0 {
				programs[i] = rapid.IntRange(1, 3).Draw(t, "version")
			}
			bot, everybody := ledger(programs[i]), 3
			if rapid.Bool().Draw(t, "keeps") {
				for v := programs[i] - 1; v > 0; v-- {
					with(last(bot), ledger(v))
				}
			}
			for _, v := range programs {
				everybody = min(everybody, v)
			}
			c := drawn(byte(n))
			c.BotVersion = everybody
			got := parley.Step(bot, s, said(n+1, rapid.SampledFrom([]string{"a", "look", "fail", "end"}).Draw(t, "text")), c)
			if got.PutOff != "" {
				if bot.Previous != nil && s.BotVersion <= programs[i] {
					t.Fatalf("put off (%s) by a program that keeps all versions up to %d, with %d stored", got.PutOff, programs[i], s.BotVersion)
				}
				continue
			}
			check(t, s, got.Next, everybody)
			s = got.Next
		}
		got := parley.Step(ledger(3), s, said(100, "z"), drawn(100))
		if got.PutOff != "" || len(got.Dead) > 0 || !bytes.Contains(got.Next.State, []byte(`"z"`)) {
			t.Fatalf("in the end: %+v", got)
		}
	})
}

func last(b *parley.Bot) *parley.Bot {
	for b.Previous != nil {
		b = b.Previous
	}
	return b
}

func check(t *rapid.T, was, is parley.Snapshot, everybody int) {
	if len(was.State) > 0 && len(is.State) > 0 && is.BotVersion < was.BotVersion {
		t.Fatalf("version %d was replaced by %d", was.BotVersion, is.BotVersion)
	}
	before := everybody
	if len(was.State) > 0 {
		before = max(everybody, was.BotVersion)
	}
	if len(is.State) > 0 && is.BotVersion > before {
		t.Fatalf("version %d is stored, everybody reads %d, and %d was before", is.BotVersion, everybody, was.BotVersion)
	}
}

func TestValidateVersions(t *testing.T) {
	t.Parallel()
	other := ledger(1)
	other.Name = "other"
	long := ledger(3)
	for i := range parley.MaxPrevious + 1 {
		b := ledger(1)
		b.Version, b.Migrations = 100-i, nil
		last(long).Previous = b
	}
	long.Version = 101
	for name, c := range map[string]struct {
		bot  *parley.Bot
		want string
	}{
		"Good":          {with(ledger(3), ledger(2), ledger(1)), ""},
		"None":          {&parley.Bot{Name: "b"}, ""},
		"Negative":      {&parley.Bot{Name: "ledger", Version: -1}, "versions begin with 1"},
		"BeyondVersion": {&parley.Bot{Name: "ledger", Version: 2, Migrations: map[int]parley.Migration{2: ledger(2).Migrations[1]}}, "want functions from 1 to 1"},
		"Nil":           {&parley.Bot{Name: "ledger", Version: 2, Migrations: map[int]parley.Migration{1: nil}}, "want functions from 1 to 1"},
		"OtherName":     {with(ledger(3), other), "named other"},
		"NotOlder":      {with(ledger(2), ledger(2)), "version 2 has 2 for the previous one"},
		"TooMany":       {long, "MaxPrevious"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := c.bot.Validate()
			if got := fmt.Sprint(err); c.want == "" && err != nil || !strings.Contains(got, c.want) && c.want != "" {
				t.Errorf("%v, want %q", err, c.want)
			}
		})
	}
}

// What a state is made into is of no use to a program that reads less.
func TestUpgradeRefusesNewer(t *testing.T) {
	t.Parallel()
	s := kept(3, `{"Counts":{"a":1}}`)
	if b, err := ledger(2).Upgrade(&s); !errors.Is(err, parley.ErrFormat) || b != nil {
		t.Errorf("%s, %v: want ErrFormat", b, err)
	}
}
