package flowtest_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow/flowtest"
	"github.com/parleychat/parley/persistence/memory"
)

// TestAgreesWithTheStore plays the same conversations in the kit's own small world and
// through the model of the stores: what is sent, and what is left of each conversation,
// must be the same.
func TestAgreesWithTheStore(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(r *rapid.T) {
		c := flowtest.New(t, parrot())
		s := newLine(t, c.Now())
		for range rapid.IntRange(1, 12).Draw(r, "steps") {
			user := rapid.SampledFrom([]string{"anna", "ben"}).Draw(r, "user")
			switch rapid.IntRange(0, 5).Draw(r, "step") {
			case 0:
				d := rapid.SampledFrom([]time.Duration{time.Second, time.Minute, time.Hour, 23 * time.Hour, 24 * time.Hour, 80 * time.Hour}).Draw(r, "wait")
				c.Wait(d)
				s.wait(d)
			case 1:
				in := parley.Reaction{MessageID: "x", Emoji: "y"}
				c.User(user).Do(in)
				s.event(user, in)
			default:
				in := parley.Message{ID: fmt.Sprint("x", s.n), Text: commands(r)}
				c.User(user).Do(in)
				s.event(user, in)
			}
		}
		for _, user := range s.users {
			u := c.User(user)
			if d := cmp.Diff(s.sent[user], u.Sent()); d != "" {
				r.Fatalf("%s\nsent to %s (-store +kit): %s", c.Transcript(), user, d)
			}
			if d := cmp.Diff(left(s.load(user).Snapshot), left(u.Snapshot())); d != "" {
				r.Fatalf("%s\nleft of %s (-store +kit): %s", c.Transcript(), user, d)
			}
		}
	})
}

func commands(r *rapid.T) string {
	text := ""
	for range rapid.IntRange(1, 4).Draw(r, "commands") {
		text += rapid.SampledFrom([]string{
			"say a", "say b", "timer t 0s", "timer t 1m", "timer u 1h", "timer v 30h", "cancel t", "cancel v", "tag x", "end", "fail x", "handoff 2h",
			"resume", "attribute de", `send {"text":"p","human_agent":true}`, `send {"template":{"name":"n","language":"de","category":"utility"}}`,
		}).Draw(r, "command") + "\n"
	}
	return text[:len(text)-1]
}

// left is what is left of a conversation, without what a nonce has chosen.
func left(s parley.Snapshot) parley.Snapshot {
	s.Version.Token, s.Seen, s.Conversation = 0, nil, parley.Conversation{}
	s.Version.Number = 0 // several events may have been handled in a turn
	s.Timers = slices.Clone(s.Timers)
	for i := range s.Timers {
		s.Timers[i].ID = parley.ID{}
	}
	if len(s.State) == 0 {
		s.State = nil
	}
	if len(s.Timers) == 0 {
		s.Timers = nil
	}
	return s
}

// line is a real line of one node, as far as it needs no socket and no goroutine.
type line struct {
	t     *testing.T
	ctx   context.Context //nolint:containedctx // of the test
	store *memory.Store
	bot   parley.Bot
	now   time.Time
	users []string
	sent  map[string][]parley.Send
	n     int // events and turns
}

func newLine(t *testing.T, now time.Time) *line {
	t.Helper()
	l := &line{t: t, ctx: t.Context(), bot: parrot(), now: now, sent: map[string][]parley.Send{}}
	l.store = memory.New(memory.Config{Now: func() time.Time { return l.now }})
	return l
}

func channel() parley.Channel {
	return parley.Channel{Brand: "test", Kind: parley.WhatsApp, ID: "channel"}
}

func (l *line) must(err error) {
	l.t.Helper()
	if err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) event(user string, in parley.Input) {
	l.t.Helper()
	if !slices.Contains(l.users, user) {
		l.users = append(l.users, user)
	}
	l.n++
	e := parley.Event{
		Channel: channel(), Contacts: []parley.Contact{parley.PhoneKey + parley.Contact(user)},
		Key: parley.NewEventKey(fmt.Sprint(l.n)), Time: l.now, Input: in,
	}
	_, err := l.store.Append(l.ctx, parley.Arrivals{Events: []parley.Event{e}})
	l.must(err)
	l.settle()
}

func (l *line) load(user string) parley.Loaded {
	l.t.Helper()
	c := parley.Conversation{Channel: channel(), Contact: parley.PhoneKey + parley.Contact(user)}
	loaded, err := l.store.Load(l.ctx, c, parley.MaxPendingPerTurn)
	l.must(err)
	return loaded
}

func (l *line) wait(d time.Duration) {
	l.t.Helper()
	for until := l.now.Add(d); ; {
		_, wait, err := l.store.FireTimers(l.ctx, func(uint16) bool { return true }, 100, until.Sub(l.now)+1)
		l.must(err)
		l.settle()
		if wait > until.Sub(l.now) {
			l.now = until
			return
		}
		l.now = l.now.Add(wait)
	}
}

// settle turns and sends until nothing waits.
func (l *line) settle() {
	l.t.Helper()
	for range 1000 {
		fired, _, err := l.store.FireTimers(l.ctx, func(uint16) bool { return true }, 100, time.Hour)
		l.must(err)
		busy := len(fired) > 0
		for _, user := range l.users {
			busy = l.turn(user) || busy
		}
		if !busy {
			return
		}
	}
	l.t.Fatal("never at rest")
}

func (l *line) turn(user string) bool {
	l.t.Helper()
	loaded := l.load(user)
	if len(loaded.Pending) == 0 {
		return false
	}
	l.n++
	c := parley.Circumstance{Nonce: [16]byte{1, byte(l.n), byte(l.n >> 8)}}
	errs, err := l.store.Commit(l.ctx, []parley.Commit{parley.Step(&l.bot, loaded.Snapshot, loaded.Pending, c)})
	l.must(err)
	l.must(errs[0])
	l.send()
	return true
}

// send hands over what is in the outbox, and refuses what a sender would.
func (l *line) send() {
	l.t.Helper()
	lease, err := l.store.Lease(l.ctx, channel(), "me", time.Hour, parley.Lease{})
	l.must(err)
	for {
		claimed, _, err := l.store.Claim(l.ctx, lease, parley.Places{All: 10}, 0, time.Hour)
		l.must(err)
		if len(claimed) == 0 {
			return
		}
		var outcomes []parley.Outcome
		for _, m := range claimed {
			o := parley.Outcome{ID: m.ID, Kind: parley.Sent, ProviderID: m.ID.String()}
			if why := m.Heard.Refuses(parley.WhatsApp, &m.Send, l.now); why != "" {
				o = parley.Outcome{ID: m.ID, Kind: parley.Returned, Why: why, Cause: "the contact has not written for too long"}
			} else {
				_, user := m.Conversation.Contact.Split()
				l.sent[user] = append(l.sent[user], m.Send)
			}
			outcomes = append(outcomes, o)
		}
		l.must(l.store.Settle(l.ctx, lease, outcomes))
	}
}
