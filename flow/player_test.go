package flow_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
)

// player is a contact who talks to a bot in virtual time.
type player struct {
	tb       testing.TB
	bot      parley.Bot
	snapshot parley.Snapshot
	due      []parley.Timer
	calls    []parley.OutgoingCall
	offered  map[string]string // title: payload
	now      time.Time
	seq      parley.Seq
	out      strings.Builder
}

func newPlayer(tb testing.TB, bot parley.Bot, kind parley.ChannelKind) *player {
	tb.Helper()
	return &player{tb: tb, bot: bot, now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC), snapshot: parley.Snapshot{
		Conversation: parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: kind, ID: "1"}, Contact: parley.PhoneKey + "49151"},
	}}
}

// play takes the lines of a script that say what happens, and compares the whole with
// what the bot makes of it:
//
//	> hello        the contact writes
//	> [Large]      the contact presses what was offered last
//	* yes          the contact presses a button with the payload yes
//	@ hello        a person writes to the contact
//	~              a reaction
//	! 30m          time passes
//	= name {…}     the call of that name is answered; = name 500 is its failure
//	< Hi! [Yes]    the bot answers, and offers; {Yes} is in a list
//	x cause        the event became a dead letter
func play(t *testing.T, bot parley.Bot, script string) *player {
	t.Helper()
	return playOn(t, bot, parley.WhatsApp, script)
}

func playOn(t *testing.T, bot parley.Bot, kind parley.ChannelKind, script string) *player {
	t.Helper()
	p := newPlayer(t, bot, kind)
	p.plays(script)
	return p
}

func (p *player) plays(script string) {
	p.tb.Helper()
	p.out.Reset()
	lines := strings.Split(strings.TrimSpace(script), "\n")
	for i := range lines {
		lines[i] = strings.TrimSpace(lines[i])
		if strings.HasPrefix(lines[i], "<") || strings.HasPrefix(lines[i], "x ") || strings.HasPrefix(lines[i], "call ") {
			continue
		}
		p.out.WriteString(lines[i] + "\n")
		p.line(lines[i])
	}
	if d := cmp.Diff(lines, strings.Split(strings.TrimSpace(p.out.String()), "\n")); d != "" {
		p.tb.Errorf("-want +got:\n%s", d)
	}
}

func (p *player) line(line string) {
	p.tb.Helper()
	sign, rest, _ := strings.Cut(line, " ")
	switch sign {
	case ">":
		p.writes(rest)
	case "*":
		p.happens(parley.Postback{Payload: rest})
	case "@":
		p.happens(parley.Echo{Text: rest})
	case "~":
		p.happens(parley.Reaction{MessageID: "m", Emoji: "👍"})
	case "!":
		d, err := time.ParseDuration(rest)
		if err != nil {
			p.tb.Fatal(err)
		}
		p.waits(d)
	case "=":
		p.answers(rest)
	case "", "#":
	default:
		p.tb.Fatalf("line %q", line)
	}
}

func (p *player) writes(text string) {
	p.tb.Helper()
	if !strings.HasPrefix(text, "[") {
		p.happens(parley.Message{ID: fmt.Sprintf("m%d", p.seq+1), Text: text})
		return
	}
	title := strings.Trim(text, "[]")
	payload, ok := p.offered[title]
	if !ok {
		p.tb.Fatalf("%q was not offered", title)
	}
	p.happens(parley.Message{Text: title, Payload: payload})
}

func (p *player) answers(text string) {
	p.tb.Helper()
	name, answer, _ := strings.Cut(text, " ")
	for i, c := range p.calls {
		if c.Call.Name != name {
			continue
		}
		p.calls = slices.Delete(p.calls, i, i+1)
		in := c.Answer(200, []byte(answer), 1)
		if answer == "500" {
			in.Body, in.Status, in.Failure = nil, 500, parley.CallGaveUp
		}
		p.happens(in)
		return
	}
	p.tb.Fatalf("no call %q under way", name)
}

func (p *player) waits(d time.Duration) {
	p.tb.Helper()
	until := p.now.Add(d)
	for {
		slices.SortStableFunc(p.due, func(a, b parley.Timer) int { return a.Due.Compare(b.Due) })
		if len(p.due) == 0 || p.due[0].Due.After(until) {
			p.now = until
			return
		}
		timer := p.due[0]
		p.due = p.due[1:]
		p.now = timer.Due
		p.happens(parley.TimerFired{Name: timer.Name, Generation: timer.Generation, Due: timer.Due})
	}
}

// happens lets the bot meet an input, twice, to see that it is pure.
func (p *player) happens(in parley.Input) {
	p.tb.Helper()
	p.seq++
	data, err := parley.EncodeInput(in)
	if err != nil {
		p.tb.Fatal(err)
	}
	rows := []parley.Pending{{
		Row: parley.Row{Seq: p.seq, Token: parley.Token(p.seq)}, Conversation: p.snapshot.Conversation,
		Key: parley.NewEventKey(fmt.Sprint(p.seq)), Time: p.now, Received: p.now, Input: in, Data: data,
	}}
	how := parley.Circumstance{Nonce: [16]byte{byte(p.seq), byte(p.seq >> 8)}}
	c := parley.Step(&p.bot, p.snapshot, rows, how)
	if d := cmp.Diff(c, parley.Step(&p.bot, p.snapshot, rows, how)); d != "" {
		p.tb.Fatalf("the bot is not a pure function:\n%s", d)
	}
	p.commit(c)
}

func (p *player) commit(c parley.Commit) {
	p.tb.Helper()
	for _, gone := range c.CancelTimers {
		p.due = slices.DeleteFunc(p.due, func(t parley.Timer) bool { return t.ID == gone.ID })
	}
	p.due = append(p.due, c.SetTimers...)
	for _, id := range c.CancelCalls {
		p.calls = slices.DeleteFunc(p.calls, func(c parley.OutgoingCall) bool { return c.ID == id })
	}
	for _, o := range c.Outbox {
		p.shows(o.Send)
	}
	for _, call := range c.Calls {
		p.calls = append(p.calls, call)
		fmt.Fprintf(&p.out, "call %s %s\n", call.Call.Name, call.Call.Body)
	}
	for _, d := range c.Dead {
		fmt.Fprintf(&p.out, "x %s\n", d.Cause)
	}
	stored, err := c.Next.AppendBinary(nil)
	if err != nil {
		p.tb.Fatal(err)
	}
	if err := p.snapshot.UnmarshalBinary(stored); err != nil {
		p.tb.Fatal(err)
	}
}

func (p *player) shows(s parley.Send) {
	fmt.Fprintf(&p.out, "< %s", strings.ReplaceAll(s.Text, "\n", " / "))
	p.offered = map[string]string{}
	for _, q := range s.QuickReplies {
		p.offered[q.Title] = q.Payload
		fmt.Fprintf(&p.out, " [%s]", q.Title)
	}
	if s.List != nil {
		for _, row := range s.List.Sections[0].Rows {
			p.offered[row.Title] = row.Payload
			fmt.Fprintf(&p.out, " {%s}", row.Title)
		}
	}
	if s.Template != nil {
		fmt.Fprintf(&p.out, "(template %s)", s.Template.Name)
	}
	if s.AskLocation {
		p.out.WriteString(" (location?)")
	}
	p.out.WriteByte('\n')
}

// state is what is stored of the conversation.
func (p *player) state() string { return string(p.snapshot.State) }
