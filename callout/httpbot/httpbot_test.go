package httpbot_test

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout/httpbot"
)

// talk is a conversation with a bot over HTTP, whose service is played.
type talk struct {
	t     *testing.T
	bot   parley.Bot
	s     parley.Snapshot
	seq   parley.Seq
	calls []parley.OutgoingCall
	said  []string
	dead  []parley.DeadLetter
}

func newTalk(t *testing.T) *talk {
	t.Helper()
	k := &talk{t: t, bot: httpbot.Bot("shop")}
	k.s.Conversation = parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"}, Contact: "user:a"}
	return k
}

// hear lets inputs come in together.
func (k *talk) hear(ins ...parley.Input) {
	k.t.Helper()
	var rows []parley.Pending
	for _, in := range ins {
		k.seq++
		data, err := parley.EncodeInput(in)
		if err != nil {
			k.t.Fatal(err)
		}
		rows = append(rows, parley.Pending{
			Row: parley.Row{Seq: k.seq, Token: 1}, Conversation: k.s.Conversation, Key: parley.NewEventKey(fmt.Sprint(k.seq)),
			Received: time.Unix(1_700_000_000+int64(k.seq), 0), Input: in, Data: data,
		})
	}
	c := parley.Step(&k.bot, k.s, rows, parley.Circumstance{Nonce: [16]byte{byte(k.seq)}})
	k.s = c.Next
	k.calls = append(k.calls, c.Calls...)
	k.dead = append(k.dead, c.Dead...)
	for _, o := range c.Outbox {
		k.said = append(k.said, o.Send.Text)
	}
}

// asked is the text of the message that the bot is asked about; empty if it isn't asked.
func (k *talk) asked() string {
	k.t.Helper()
	if len(k.calls) == 0 {
		return ""
	}
	var r httpbot.Request
	if err := json.Unmarshal(k.calls[0].Call.Body, &r); err != nil {
		k.t.Fatal(err)
	}
	in, err := parley.DecodeInput(r.Input)
	if err != nil {
		k.t.Fatal(err)
	}
	if m, ok := in.(parley.Message); ok {
		return m.Text
	}
	return in.Kind()
}

// answer is what the service answers to the call under way.
func (k *talk) answer(status int, body string) {
	k.t.Helper()
	c := k.calls[0]
	k.calls = k.calls[1:]
	k.hear(c.Answer(status, []byte(body), 1))
}

func (k *talk) want(what, got, want string) {
	k.t.Helper()
	if got != want {
		k.t.Errorf("%s: %q, want %q", what, got, want)
	}
}

func text(s string) parley.Message { return parley.Message{Text: s} }

func say(s string) string { return `{"effects":[{"effect":"send","value":{"text":"` + s + `"}}]}` }

// TestOneAtATime: later inputs wait, and are met in order, one at a time.
func TestOneAtATime(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	k.hear(text("a"), text("b"))
	k.hear(text("c"))
	for i, name := range []string{"a", "b", "c"} {
		if len(k.calls) != 1 || k.asked() != name {
			t.Fatalf("%d calls, asked about %q, want %q", len(k.calls), k.asked(), name)
		}
		k.answer(200, say(name))
		if len(k.said) != i+1 {
			t.Fatalf("said %q", k.said)
		}
	}
	k.want("said", strings.Join(k.said, " "), "a b c")
	if len(k.calls)+len(k.dead) != 0 {
		t.Errorf("%d calls and %d letters are left", len(k.calls), len(k.dead))
	}
}

// TestRequest: a bot is told what the documentation says.
func TestRequest(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	k.hear(text("a"), text("b"))
	k.answer(200, `{"state":{"n":1},"effects":[{"effect":"set_attribute","value":{"name":"lang","value":"de"}},{"effect":"tag","value":{"name":"vip"}}]}`)
	key := parley.NewEventKey("2").String()
	k.want("request", string(k.calls[0].Call.Body), `{"version":1,"event_id":"`+key+`","conversation":{"brand":"acme","channel":"page","kind":"messenger","contact":"user:a"},`+
		`"now":"2023-11-14T22:13:22Z","input":{"kind":"message","input":{"text":"b"}},"state":{"n":1},"attributes":{"lang":"de"},"tags":["vip"],"speaker":""}`)
	k.answer(200, `{"state":null,"effects":[]}`)
	k.hear(text("c"))
	if !strings.Contains(string(k.calls[0].Call.Body), `"state":null`) {
		t.Errorf("the state isn't forgotten: %s", k.calls[0].Call.Body)
	}
}

// TestNoGoodAnswer: the event that it was the answer to becomes a dead letter with the
// cause, nothing of the answer holds, and the next event goes on.
func TestNoGoodAnswer(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		status     int
		body, want string
	}{
		"nonsense":       {200, "hello", "the bot's answer: decode"},
		"two":            {200, `{"effects":[]}{}`, "something behind"},
		"unknown field":  {200, `{"effects":[],"colour":1}`, "colour"},
		"unknown effect": {200, `{"effects":[{"effect":"sing"}]}`, "effects[0]"},
		"too many":       {200, `{"effects":[` + strings.Repeat(`{"effect":"resume"},`, 40) + `{"effect":"resume"}]}`, "MaxEffects"},
		"too long":       {200, say(strings.Repeat("x", parley.MaxTextBytes+1)), "MaxTextBytes"},
		"state":          {200, `{"state":"` + strings.Repeat("x", httpbot.MaxBotStateBytes) + `"}`, "MaxBotStateBytes"},
		"end":            {200, `{"effects":[{"effect":"end"}]}`, "not for bots over HTTP"},
		"half":           {200, `{"effects":[{"effect":"send","value":{"text":"x"}},{"effect":"tag","value":{"name":""}}]}`, "tag"},
		"reserved":       {200, `{"effects":[{"effect":"cancel_call","value":{"name":"httpbot.x"}}]}`, "reserved"},
		"refused":        {404, "", "refused"},
		"too large":      {200, strings.Repeat("x", parley.MaxAnswerBytes+1), "too_large"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			k := newTalk(t)
			k.hear(text("a"), text("b"))
			k.answer(c.status, c.body)
			if len(k.dead) != 1 || !strings.Contains(k.dead[0].Cause, c.want) {
				t.Fatalf("letters %+v, want one that says %q", k.dead, c.want)
			}
			k.want("letter", string(k.dead[0].Data), `{"kind":"message","input":{"text":"a"}}`)
			if again, err := parley.RetryEvent(k.dead[0], k.s.Conversation, 1, 0); err != nil || k.dead[0].Kind() != parley.DeadEvent || again.Input.Kind() != "message" {
				t.Errorf("the letter can't be retried: %v", err)
			}
			k.want("asked", k.asked(), "b")
			k.answer(200, say("b"))
			k.want("said", strings.Join(k.said, " "), "b")
		})
	}
}

// TestFull: what finds no room to wait is a dead letter, and those that wait aren't
// touched.
func TestFull(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	for i := range httpbot.MaxHeld + 2 {
		k.hear(text(fmt.Sprint(i)))
	}
	if len(k.dead) != 1 || !strings.Contains(k.dead[0].Cause, "MaxHeld") {
		t.Fatalf("letters %+v", k.dead)
	}
	for i := range httpbot.MaxHeld + 1 {
		k.want("asked", k.asked(), fmt.Sprint(i))
		k.answer(200, `{}`)
	}
	k.hear(text(strings.Repeat("x", httpbot.MaxHeldBytes)))
	if len(k.dead) != 2 || !strings.Contains(k.dead[1].Cause, "MaxHeldBytes") {
		t.Errorf("letters %d", len(k.dead))
	}
}

// TestCancelled: a timer that rang while the bot was asked, and which it then cancels,
// isn't heard.
func TestCancelled(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	k.hear(text("a"))
	k.answer(200, `{"effects":[{"effect":"set_timer","value":{"name":"t","in":1000000000}}]}`)
	k.hear(text("b"))
	k.hear(parley.TimerFired{Name: "t", Generation: k.s.Timers[0].Generation})
	k.answer(200, `{"effects":[{"effect":"cancel_timer","value":{"name":"t"}}]}`)
	k.want("asked", k.asked(), "")
}

// FuzzDecode: no answer makes it fail but by an error.
func FuzzDecode(f *testing.F) {
	f.Add([]byte(say("a")))
	f.Add([]byte(`{"state":null,"effects":[{"effect":"set_timer","value":{"name":"t","in":5}}]}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		next, effects, err := httpbot.Decode(body)
		if err != nil && (next != nil || effects != nil) || len(effects) >= parley.MaxEffects {
			t.Errorf("%d effects with %v", len(effects), err)
		}
	})
}
