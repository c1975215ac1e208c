// Package examples_test plays the example bots through transcripts, see play.
package examples_test

import (
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/greeter"
	"github.com/parleychat/parley/examples/pizza"
	"github.com/parleychat/parley/examples/pizzeria"
	"github.com/parleychat/parley/examples/tally"
)

var update = flag.Bool("update", false, "write what the bots answer into the transcripts")

func TestTranscripts(t *testing.T) {
	t.Parallel()
	bots := map[string]parley.Bot{"greeter": greeter.Bot(), "pizza": pizza.Bot(), "tally": tally.Bot(), "pizzeria": pizzeria.Bot()}
	paths, err := filepath.Glob("testdata/*.txt")
	if err != nil {
		t.Fatal(err)
	}
	played := map[string]bool{}
	for _, path := range paths {
		name, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(path), ".txt"), "-")
		bot, ok := bots[name]
		if !ok {
			t.Fatalf("%s: no bot called %s", path, name)
		}
		played[name] = true
		t.Run(filepath.Base(path), func(t *testing.T) {
			t.Parallel()
			transcript(t, path, &bot)
		})
	}
	for name := range bots {
		if !played[name] {
			t.Errorf("no transcript of %s", name)
		}
	}
}

func transcript(t *testing.T, path string, bot *parley.Bot) {
	t.Helper()
	script, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	got, err := play(bot, string(script))
	if err != nil {
		t.Fatal(err)
	}
	if *update {
		if err := os.WriteFile(path, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
		return
	}
	if d := cmp.Diff(strings.Split(string(script), "\n"), strings.Split(got, "\n")); d != "" {
		t.Errorf("%s (-written +played; -update writes it anew):\n%s", path, d)
	}
}

// player is a contact who talks to a bot in virtual time.
type player struct {
	bot      *parley.Bot
	snapshot parley.Snapshot
	due      []parley.Timer
	offered  []parley.QuickReply
	now      time.Time
	seq      parley.Seq
	out      strings.Builder
}

// play takes the lines of a script that say what happens, and returns it with
// what the bot makes of each:
//
//	> hello      the contact writes
//	> [Large]    the contact presses a quick reply that was offered last
//	* yes        the contact presses a button with the payload yes
//	~            something happens that is not for the bot: a reaction
//	! 30m        time passes
//	< Hi! [Yes] [No]   the bot answers, and offers
//	x limit: …   the event became a dead letter
//	# …          a comment
func play(bot *parley.Bot, script string) (string, error) {
	p := player{
		bot: bot, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC),
		snapshot: parley.Snapshot{Conversation: parley.Conversation{
			Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}, Contact: parley.PhoneKey + "49151",
		}},
	}
	for i, line := range strings.Split(strings.TrimRight(script, "\n"), "\n") {
		if strings.HasPrefix(line, "<") || strings.HasPrefix(line, "x ") {
			continue
		}
		p.out.WriteString(line + "\n")
		if err := p.line(line); err != nil {
			return "", fmt.Errorf("line %d: %w", i+1, err)
		}
	}
	return p.out.String(), nil
}

func (p *player) line(line string) error {
	sign, rest, _ := strings.Cut(line, " ")
	switch sign {
	case ">":
		return p.writes(rest)
	case "*":
		return p.happens(parley.Postback{Payload: rest})
	case "~":
		return p.happens(parley.Reaction{MessageID: "m", Emoji: "👍"})
	case "!":
		return p.waits(rest)
	case "", "#":
		return nil
	}
	return fmt.Errorf("%q: want >, *, ~, ! or #", line)
}

func (p *player) writes(text string) error {
	title := strings.TrimSuffix(strings.TrimPrefix(text, "["), "]")
	if title == text {
		return p.happens(parley.Message{Text: text})
	}
	for _, q := range p.offered {
		if q.Title == title {
			return p.happens(parley.Message{Text: q.Title, Payload: q.Payload})
		}
	}
	return fmt.Errorf("%q was not offered", title)
}

func (p *player) waits(duration string) error {
	d, err := time.ParseDuration(duration)
	if err != nil {
		return err
	}
	until := p.now.Add(d)
	for {
		slices.SortStableFunc(p.due, func(a, b parley.Timer) int { return a.Due.Compare(b.Due) })
		if len(p.due) == 0 || p.due[0].Due.After(until) {
			p.now = until
			return nil
		}
		timer := p.due[0]
		p.due = p.due[1:]
		p.now = timer.Due
		if err := p.happens(parley.TimerFired{Name: timer.Name, Generation: timer.Generation, Due: timer.Due}); err != nil {
			return err
		}
	}
}

func (p *player) happens(in parley.Input) error {
	p.seq++
	data, err := parley.EncodeInput(in)
	if err != nil {
		return err
	}
	rows := []parley.Pending{{
		Row: parley.Row{Seq: p.seq, Token: parley.Token(p.seq)}, Conversation: p.snapshot.Conversation,
		Key:  parley.NewEventKey(fmt.Sprint(p.seq)),
		Time: p.now, Received: p.now, Input: in, Data: data,
	}}
	how := parley.Circumstance{Nonce: [16]byte{byte(p.seq), byte(p.seq >> 8)}}
	c := parley.Step(p.bot, p.snapshot, rows, how)
	if d := cmp.Diff(c, parley.Step(p.bot, p.snapshot, rows, how)); d != "" {
		return fmt.Errorf("the bot is not a pure function:\n%s", d)
	}
	return p.commit(c)
}

// commit does with a commit what the stores do.
func (p *player) commit(c parley.Commit) error {
	for _, gone := range c.CancelTimers {
		p.due = slices.DeleteFunc(p.due, func(t parley.Timer) bool { return t.ID == gone.ID })
	}
	p.due = append(p.due, c.SetTimers...)
	for _, o := range c.Outbox {
		if err := sendable(o.Send); err != nil {
			return err
		}
		p.offered = o.Send.QuickReplies
		fmt.Fprintf(&p.out, "< %s", o.Send.Text)
		for _, q := range p.offered {
			fmt.Fprintf(&p.out, " [%s]", q.Title)
		}
		p.out.WriteByte('\n')
	}
	for _, d := range c.Dead {
		fmt.Fprintf(&p.out, "x %s\n", d.Cause)
	}
	stored, err := c.Next.AppendBinary(nil)
	if err != nil {
		return err
	}
	return p.snapshot.UnmarshalBinary(stored)
}

// sendable holds a message against the narrowest of the three platforms.
func sendable(s parley.Send) error {
	const instagramBytes, whatsappButtons, titleRunes = 1000, 3, 20
	if len(s.Text) > instagramBytes || len(s.QuickReplies) > whatsappButtons {
		return errors.New("too much for one message on one of the platforms")
	}
	for _, q := range s.QuickReplies {
		if utf8.RuneCountInString(q.Title) > titleRunes {
			return fmt.Errorf("title %q: more than %d characters", q.Title, titleRunes)
		}
	}
	return nil
}

// A player that believes anything would prove nothing.
func TestPlayRefuses(t *testing.T) {
	t.Parallel()
	bot := greeter.Bot()
	turns := 0
	impure := parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		turns++
		t.Say(fmt.Sprint(turns))
		return nil
	})}
	wide := parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		q := parley.QuickReply{Title: "x"}
		t.Say("x", q, q, q, q)
		return nil
	})}
	long := parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
		t.Say("x", parley.QuickReply{Title: strings.Repeat("x", 21)})
		return nil
	})}
	for _, c := range []struct {
		name, script, says string
		bot                *parley.Bot
	}{
		{"a line of no sort", "hello", "want >", &bot},
		{"a reply that wasn't offered", "> hi\n> [Yes]", `line 2: "Yes" was not offered`, &bot},
		{"a duration that is none", "! soon", "duration", &bot},
		{"a bot that remembers elsewhere", "> hi", "not a pure function", &impure},
		{"a menu that is too long", "> hi", "too much for one message", &wide},
		{"a title that is too long", "> hi", "more than 20", &long},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got, err := play(c.bot, c.script)
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("played %q: %v", got, err)
			}
		})
	}
}

// The bot in the README is the one in the folder: it compiles and is tested.
func TestReadmeShowsTheGreeter(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("../README.md")
	if err != nil {
		t.Fatal(err)
	}
	source, err := os.ReadFile("greeter/greeter.go")
	if err != nil {
		t.Fatal(err)
	}
	if !strings.Contains(string(readme), "```go\n"+string(source)+"```\n") {
		t.Error("README.md does not show examples/greeter/greeter.go as it is")
	}
}
