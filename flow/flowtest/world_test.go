package flowtest_test

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
)

func parse(t testing.TB, text string) *flowtest.Transcript {
	t.Helper()
	script, err := flowtest.Parse("x.txt", text)
	if err != nil {
		t.Fatal(err)
	}
	return script
}

func botOf(f func(*parley.Turn)) parley.Bot {
	return parley.Bot{Name: "test", Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		f(t)
		return nil
	})}
}

// says holds an error to what it must say, in that order.
func says(t *testing.T, err error, wants ...string) {
	t.Helper()
	rest := fmt.Sprint(err)
	for _, want := range wants {
		_, after, ok := strings.Cut(rest, want)
		if !ok {
			t.Fatalf("error %q: want %q", fmt.Sprint(err), wants)
		}
		rest = after
	}
}

// Whatever a bot takes from beside its turn is found, and named.
func TestImpure(t *testing.T) {
	t.Parallel()
	var count atomic.Int64
	menu := map[string]int{"a": 1, "b": 2, "c": 3, "d": 4}
	pair := map[string]int{"yes": 1, "no": 2}
	for _, c := range []struct {
		name  string
		does  func(*parley.Turn)
		wants []string
	}{
		{
			"the clock", func(t *parley.Turn) { t.Say("It is " + time.Now().Format("15:04")) },
			[]string{"x.txt:", " the bot is not a pure function", "the clock", "effect 1 (send)", "bot: It is "},
		},
		{"the date only", func(t *parley.Turn) { t.Say(time.Now().Format(time.DateOnly)) }, []string{"the clock"}},
		{
			"a variable", func(t *parley.Turn) { t.Say(fmt.Sprintf("You are number %d.", count.Add(1))) },
			[]string{"x.txt:2:", "a variable that outlives the turn, and counts", "effect 1 (send)"},
		},
		{
			"a variable in the state", func(t *parley.Turn) { _ = t.SetState(count.Add(1)) },
			[]string{"a variable that outlives the turn, and counts", "the state"},
		},
		{"chance", func(t *parley.Turn) { t.Say(fmt.Sprint(rand.Uint64())) }, []string{"a random number"}}, //nolint:gosec // an impure bot
		{"a map in one text", func(t *parley.Turn) {
			text := "We have"
			for name := range menu {
				text += " " + name
			}
			t.Say(text)
		}, []string{"the order of a map", "bot: We have"}},
		{"a map of two", func(t *parley.Turn) {
			for name := range pair {
				t.Say(name)
			}
		}, []string{"the order of a map\n", "effect 1 (send)"}},
		{"a map in several effects", func(t *parley.Turn) {
			t.Say("first")
			for name := range menu {
				t.SetTimer(name, time.Hour)
			}
		}, []string{"the order of a map", "(set_timer)"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			kit := flowtest.Kit{Bot: botOf(c.does)}
			says(t, kit.Pure(t, parse(t, "# thrice\nanna: hi\nanna: hi\nanna: hi")), c.wants...)
		})
	}
}

// A bot that asks the world what is not of one turn goes another way when the world
// does.
func TestOtherWays(t *testing.T) {
	t.Parallel()
	var turns atomic.Int64
	kit := flowtest.Kit{Bot: parrot(), Services: map[string]flowtest.Service{
		"fickle": func(parley.Call) flowtest.Answer {
			return flowtest.Answer{Status: 200, Body: fmt.Append(nil, turns.Add(1))}
		},
	}}
	err := kit.Verify(parse(t, `anna: call {"name":"c","service":"fickle"}`))
	says(t, err, "x.txt:1: anna: call", `played with "every event comes three times", anna's conversation`, "plain:", "-> 200 1", "here:", "-> 200")
	kit = flowtest.Kit{Bot: parrot()}
	if err := kit.Verify(parse(t, "anna: say hi\nanna: say ho\nwait 1h\nben: tag x\nanna: say hu")); err != nil {
		t.Error(err)
	}
}

// A bot that never comes to rest is stopped, and what keeps it busy is named.
func TestNeverAtRest(t *testing.T) {
	t.Parallel()
	busy := botOf(func(t *parley.Turn) { t.SetTimer("again", 0) })
	kit := flowtest.Kit{Bot: busy}
	_, err := kit.Play(parse(t, "anna: hi"))
	says(t, err, "x.txt:1:", "10000 turns (MaxTurns)", "timer_fired", "again")
	often := botOf(func(t *parley.Turn) { t.SetTimer("tick", time.Second) })
	kit = flowtest.Kit{Bot: often}
	if _, err = kit.Play(parse(t, "anna: hi\nwait 84m\nwait 84m")); err != nil { // each line may take as many
		t.Error(err)
	}
}

// What can't be played is told with its line.
func TestPlayRefuses(t *testing.T) {
	t.Parallel()
	for _, c := range []struct{ script, want string }{
		{"anna: hi\n\nanna: [Yes]", "x.txt:3: [Yes] was not offered to anna, nor anything"},
		{`anna: send {"text":"x","quick_replies":[{"title":"A"}]}` + "\nanna: [B]", "the last message offered [A]"},
		{`anna: send {"text":"x","buttons":[{"title":"A","url":"https://example.com"}]}` + "\nanna: [A]", "opens a page"},
		{"anna: hi\nben: [what?]", "x.txt:2: [what?] was not offered to ben"},
		{"anna reacts x", "x.txt:1: the bot has sent nothing to anna"},
		{"anna: hi\nanna misses b7 1", "x.txt:2: the bot has sent no b7 to anna"},
		{"anna edits: x", "anna has sent nothing yet"},
		{"anna: hi\nplatform whatsapp", "x.txt:2: the platform is told before"},
		{"person: hi", "nobody has done anything yet"},
		{"state", "nobody has done anything yet"},
		{"anna: hi\nat 2020-01-01 09:00", "x.txt:2: it is 2026-03-02 09:00:00 already"},
		{"anna: hi\nllm answers 200 {}", "x.txt:2: no call of llm waits"},
	} {
		kit := flowtest.Kit{Bot: parrot()}
		_, err := kit.Play(parse(t, c.script))
		says(t, err, c.want)
	}
	var crowd strings.Builder
	for i := range flowtest.MaxUsers + 1 {
		fmt.Fprintf(&crowd, "u%d: hi\n", i)
	}
	kit := flowtest.Kit{Bot: parrot()}
	_, err := kit.Play(parse(t, crowd.String()))
	says(t, err, "x.txt:65:", "MaxUsers")
}

// What differs is shown beside what is the same, with its line.
func TestDiff(t *testing.T) {
	t.Parallel()
	written := parse(t, "# x\nanna: say a\nbot: a\nanna: say b\n    | say c\n    | say d\nbot: b\nbot: x\nbot: d\nanna: say e\n")
	kit := flowtest.Kit{Bot: parrot()}
	said, err := kit.Play(written)
	if err != nil {
		t.Fatal(err)
	}
	want := "x.txt:4: anna: say b\n      bot: b\n    - bot: x\n    + bot: c\n      bot: d\nx.txt:10: anna: say e\n    + bot: e\n"
	if got := flowtest.Diff(written, said); got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
	again := parse(t, said.String())
	if got := flowtest.Diff(again, said); got != "" {
		t.Errorf("what was written anew differs:\n%s", got)
	}
}

// The same world, moved by calls.
func TestChat(t *testing.T) {
	t.Parallel()
	c := flowtest.New(t, parrot())
	anna, ben := c.User("anna"), c.User("ben")
	began := c.Now()
	anna.Say("timer tea 5m\nsay set")
	ben.Do(parley.Message{Text: `send {"text":"Which?","quick_replies":[{"title":"A","payload":"a"}]}`})
	ben.Choose("a")
	c.Wait(time.Hour)
	anna.Say(`call {"name":"q","service":"llm"}`)
	c.Answer("llm", flowtest.Answer{Status: 200, Body: []byte("fine")})
	if got := anna.Heard(); got != "llm answers 200 fine" {
		t.Errorf("heard %q", got)
	}
	if got := anna.Sent(); len(got) != 3 || !strings.Contains(got[1].Text, "timer_fired") {
		t.Errorf("sent %+v", got)
	}
	var m heard
	if ben.State(&m); m.Heard != 2 {
		t.Errorf("state %+v", m)
	}
	if got := c.Now().Sub(began); got != time.Hour || len(anna.Snapshot().Timers) != 0 {
		t.Errorf("after %s: %+v", got, anna.Snapshot())
	}
	c.Verify(t)
	want := c.Transcript().String()
	again := flowtest.New(t, parrot())
	again.Lines(want)
	if got := again.Transcript().String(); got != want {
		t.Errorf("played again:\n%s\nwant\n%s", got, want)
	}
}

// A new release of the bot goes on where the one before was, whatever the way.
func TestReleases(t *testing.T) {
	t.Parallel()
	numbered := func(release int) parley.Bot {
		return parley.Bot{Name: "numbered", Version: 1, Behavior: parley.Stateful(func(t *parley.Turn, m *heard) error {
			m.Heard++
			t.Say(fmt.Sprintf("release %d, message %d", release, m.Heard))
			return nil
		})}
	}
	kit := flowtest.Kit{Bot: numbered(2), Earlier: []parley.Bot{numbered(1)}}
	text := "release 1\nanna: a\nbot: release 1, message 1\nrelease 2\nanna: b\nbot: release 2, message 2\n"
	script := parse(t, text)
	said, err := kit.Play(script)
	if err != nil || said.String() != text {
		t.Errorf("%v\n%v", said, err)
	}
	if err := kit.Verify(script); err != nil {
		t.Error(err)
	}
	_, err = kit.Play(parse(t, "anna: a\nrelease 3"))
	says(t, err, "x.txt:2:", "the kit has 1 to 2")
}

// A platform that can't show a message is asked first.
func TestEncodes(t *testing.T) {
	t.Parallel()
	kit := flowtest.Kit{Bot: parrot(), Encodes: func(o *parley.Outgoing) error {
		if o.Send.List != nil {
			return fmt.Errorf("no list on %s", o.Conversation.Channel.Kind)
		}
		return nil
	}}
	said, err := kit.Play(parse(t, `anna: send {"text":"x","list":{"sections":[{"rows":[{"title":"A"}]}]}}`))
	if err != nil || !strings.Contains(said.String(), "\nbot (dead: no list on whatsapp): x\n") {
		t.Errorf("%v\n%v", said, err)
	}
}

// weeks is a conversation of 100 messages over three weeks.
func weeks() string {
	var b strings.Builder
	for i := range 100 {
		fmt.Fprintf(&b, "anna: timer t%d 1h\n    | say %d\nwait 5h\n", i, i)
	}
	return b.String()
}

func BenchmarkThreeWeeks(b *testing.B) {
	kit := flowtest.Kit{Bot: parrot()}
	text := weeks()
	for b.Loop() {
		said, err := kit.Play(parse(b, text))
		if err != nil || len(said.Steps) != 200 {
			b.Fatal(err)
		}
	}
}
