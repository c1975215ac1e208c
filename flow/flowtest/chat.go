package flowtest

import (
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// Chat is a world around a bot, for tests that compute. What goes wrong ends the test.
type Chat struct {
	t   testing.TB
	kit Kit
	p   *player
}

// User is somebody who talks to the bot.
type User struct {
	c    *Chat
	name string
}

// New begins a world around the bot: on WhatsApp, on the morning of Monday, 2 March
// 2026.
func New(t testing.TB, bot parley.Bot) *Chat {
	t.Helper()
	return Kit{Bot: bot}.New(t)
}

// New begins a world around the kit's bot.
func (k Kit) New(t testing.TB) *Chat {
	t.Helper()
	c := &Chat{t: t, kit: k}
	c.p = newPlayer(&c.kit, &way{name: "plain"}, nil)
	return c
}

func (c *Chat) do(lines []string, a action) {
	c.t.Helper()
	if err := c.p.do(Step{source: lines, act: a}, false); err != nil {
		c.t.Fatal(err)
	}
}

// Lines plays lines of a transcript. What they say that happens is not compared.
func (c *Chat) Lines(text string) {
	c.t.Helper()
	script, err := Parse("lines", text)
	if err != nil {
		c.t.Fatal(err)
	}
	for _, s := range script.Steps {
		c.do(s.source, s.act)
	}
}

// Platform says on which platform all talk, before anything happens.
func (c *Chat) Platform(kind parley.ChannelKind) {
	c.t.Helper()
	c.Lines("platform " + string(kind))
}

// Now is the virtual time.
func (c *Chat) Now() time.Time { return c.p.w.now }

// Wait lets time pass. Timers fire when they are due.
func (c *Chat) Wait(d time.Duration) {
	c.t.Helper()
	c.do([]string{"wait " + shownDuration(d)}, wait{d})
}

// Answer answers the oldest call of the service that waits.
func (c *Chat) Answer(service string, a Answer) {
	c.t.Helper()
	line := service + " answers " + a.String()
	if a.Failure != "" {
		line = service + " " + a.String()
	}
	c.do([]string{line}, answers{service, a})
}

// Transcript is what was played so far, with all that happened.
func (c *Chat) Transcript() *Transcript {
	t := *c.p.t
	t.Steps = slices.Clone(t.Steps)
	return &t
}

// Verify plays what was played so far in all other ways, and takes each turn again, as
// Run does.
func (c *Chat) Verify(t *testing.T) {
	t.Helper()
	c.kit.otherWays(t, c.Transcript(), c.p)
}

// User is the user of that name.
func (c *Chat) User(name string) *User {
	c.t.Helper()
	if err := checkName(name); err != nil {
		c.t.Fatal(err)
	}
	return &User{c: c, name: name}
}

func (u *User) talk() *talk {
	u.c.t.Helper()
	k, err := u.c.p.talk(u.name)
	if err != nil {
		u.c.t.Fatal(err)
	}
	return k
}

// Say sends a text.
func (u *User) Say(text string) {
	u.c.t.Helper()
	u.Do(parley.Message{Text: text})
}

// Choose presses what was offered under a title or a payload.
func (u *User) Choose(title string) {
	u.c.t.Helper()
	u.c.do([]string{u.name + ": " + choice("[", title, "", "]")}, chooses{user: u.name, title: title})
}

// Do lets any input happen to the conversation.
func (u *User) Do(in parley.Input) {
	u.c.t.Helper()
	lines, err := inputLines(u.name, in)
	if err != nil {
		u.c.t.Fatal(err)
	}
	u.c.do(lines, happens{u.name, in})
}

// Sent are all messages that were sent to the user, oldest first.
func (u *User) Sent() []parley.Send {
	u.c.t.Helper()
	var all []parley.Send
	for _, o := range u.talk().sent {
		all = append(all, o.Send)
	}
	return all
}

// Heard is the text of the last message that was sent to the user; empty if there is
// none.
func (u *User) Heard() string {
	u.c.t.Helper()
	for _, o := range slices.Backward(u.talk().sent) {
		if o.Send.Signal == nil && o.Send.Reaction == nil {
			return o.Send.Text
		}
	}
	return ""
}

// State decodes the state of the conversation into v.
func (u *User) State(v any) {
	u.c.t.Helper()
	if s := u.talk().snapshot.State; len(s) > 0 {
		if err := json.Unmarshal(s, v); err != nil {
			u.c.t.Fatal(err)
		}
	}
}

// History are the records of the conversation's turns, as a store keeps them.
func (u *User) History() [][]byte {
	u.c.t.Helper()
	return u.talk().history
}

// Snapshot is the conversation after its last turn: its timers, tags, attributes.
func (u *User) Snapshot() parley.Snapshot {
	u.c.t.Helper()
	return u.talk().snapshot
}
