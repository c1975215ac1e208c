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

// TestWatch: an answer whose turn fails is buried with its event, and those that wait go
// on without another input.
func TestWatch(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	k.hear(text("a"), text("b"))
	good := k.bot
	k.bot.Behavior = parley.BehaviorFunc(func(*parley.Turn) error { panic("as if it had killed its process") })
	k.answer(200, say("a"))
	k.bot = good
	if len(k.calls) != 0 || len(k.s.Timers) != 1 {
		t.Fatalf("%d calls, timers %+v: want nothing but a watch", len(k.calls), k.s.Timers)
	}
	watch := k.s.Timers[0]
	k.hear(parley.TimerFired{Name: watch.Name, Generation: watch.Generation})
	k.want("asked", k.asked(), "b")
	k.answer(200, say("b"))
	k.want("said", strings.Join(k.said, " "), "b")
	if len(k.dead) != 2 || len(k.s.Timers) != 0 {
		t.Errorf("letters %+v, timers %+v: want the answer and its event, and no watch", k.dead, k.s.Timers)
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

// TestNoneCanBeAsked: more inputs than a turn may bury, which have become too large to be
// posted, are buried in several turns; the answer holds.
func TestNoneCanBeAsked(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	const waiting = 40
	for range waiting + 1 {
		k.hear(text("a"))
	}
	var effects []string
	for i := range 20 {
		effects = append(effects, fmt.Sprintf(`{"effect":"set_attribute","value":{"name":"a%d","value":%q}}`, i, strings.Repeat("<", 1000)))
	}
	k.answer(200, `{"effects":[`+strings.Join(effects, ",")+`]}`)
	if len(k.dead) != parley.MaxEffects-1 || len(k.s.Timers) != 1 || k.s.Timers[0].Due.After(k.s.Last) {
		t.Fatalf("%d letters, timers %+v at %v: want a watch that is due", len(k.dead), k.s.Timers, k.s.Last)
	}
	k.hear(parley.TimerFired{Name: k.s.Timers[0].Name, Generation: k.s.Timers[0].Generation})
	if len(k.dead) != waiting || len(k.s.Timers) != 0 || !strings.Contains(k.dead[0].Cause, "MaxCallBytes") {
		t.Errorf("%d letters, the first for %q, timers %+v", len(k.dead), k.dead[0].Cause, k.s.Timers)
	}
}

// TestStateAsStored: a state is measured as it is stored, so that no answer that is
// taken makes the turn fail.
func TestStateAsStored(t *testing.T) {
	t.Parallel()
	k := newTalk(t)
	k.hear(text("a"), text("b"))
	k.answer(200, `{"state":"`+strings.Repeat("<", httpbot.MaxBotStateBytes/2)+`"}`)
	if len(k.dead) != 1 || !strings.Contains(k.dead[0].Cause, "MaxBotStateBytes") {
		t.Fatalf("letters %+v", k.dead)
	}
	k.want("asked", k.asked(), "b")
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

// FuzzAnswer: whatever the bot answers, with whatever status, the turn that meets it
// holds: the event is buried or it isn't, and the next is posted.
func FuzzAnswer(f *testing.F) {
	for _, body := range []string{
		say("a"), "", "null", "{}", `{"effects":null}`, `{"state":{"a":"<&>"}}`, `{"effects":[{}]}`, `{"effects":[{"effect":"end"}]}`,
		`{"effects":[{"effect":"set_timer","value":{"name":"httpbot.watch","in":5}}]}`,
		`{"effects":[{"effect":"call","value":{"name":"c","service":"s","body":{"x":1}}},{"effect":"cancel_call","value":{"name":"c"}}]}`,
		`{"effects":[{"effect":"hand_off","value":{"to":"person"}},{"effect":"set_attribute","value":{"name":"n","value":"v"}},{"effect":"tag","value":{"name":"t"}}]}`,
	} {
		f.Add(200, []byte(body))
	}
	f.Add(500, []byte("x"))
	f.Add(0, []byte(nil))
	f.Fuzz(func(t *testing.T, status int, body []byte) {
		k := newTalk(t)
		k.hear(text("a"), text("b"))
		k.answer(status, string(body))
		for _, d := range k.dead {
			if want := `{"kind":"message","input":{"text":"a"}}`; string(d.Data) != want || len(k.dead) != 1 {
				t.Errorf("%d dead letters, among them %s: %s", len(k.dead), d.Data, d.Cause)
			}
		}
		posted := 0
		for i := range k.calls {
			if strings.HasPrefix(k.calls[i].Call.Name, "httpbot.") {
				posted++
			}
		}
		if posted != 1 {
			t.Errorf("the next event was posted %d times", posted)
		}
	})
}
