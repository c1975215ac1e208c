package parley_test

import (
	"errors"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
)

// mourned is a conversation, and a message of it that was refused.
func mourned(t *testing.T) (parley.Snapshot, parley.DeadLetter) {
	t.Helper()
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "1"}, Contact: "user:2"}
	send := parley.Send{Text: "hello", QuickReplies: []parley.QuickReply{{Title: "yes", Payload: "\x00"}}}
	data, err := parley.EncodeEffect(send)
	if err != nil {
		t.Fatal(err)
	}
	s := parley.Snapshot{
		Conversation: c, Version: parley.Version{Number: 6, Token: 60}, Bot: "pizza", State: []byte("{}"), Ordinal: 4,
		Last: time.UnixMilli(1795680000000).UTC(), Heard: parley.Heard{At: time.UnixMilli(1795600000000).UTC()},
	}
	return s, parley.DeadLetter{ID: parley.NewID(s.Last, [16]byte{15: 1}), Conversation: c, At: s.Last, Cause: "no", Data: data}
}

func TestRetryMessage(t *testing.T) {
	t.Parallel()
	s, d := mourned(t)
	at := s.Last.Add(time.Hour).In(time.FixedZone("east", 3600))
	c, err := parley.RetryMessage(s, d, at, [16]byte{7: 9}, 0)
	if err != nil {
		t.Fatal(err)
	}
	want := s
	want.Version, want.Ordinal, want.Last = parley.Version{Number: 7, Token: 9}, 5, at.UTC()
	diff(t, "commit", parley.Commit{
		Conversation: s.Conversation, Base: s.Version, Next: want,
		Outbox: []parley.Outgoing{{ID: d.ID, Conversation: s.Conversation, Ordinal: 5, At: at.UTC(), Send: parley.Send{
			Text: "hello", QuickReplies: []parley.QuickReply{{Title: "yes", Payload: "\x00"}},
		}, Heard: s.Heard}},
		Format:  1,
		History: []byte(`{"version":7,"at":"2026-11-26T09:00:00Z","bot":"pizza","retried":"` + d.ID.String() + `","out":[` + string(d.Data) + `]}`),
	}, c)
	// The store's clock may be set back; a conversation's time never is.
	if c, err = parley.RetryMessage(s, d, s.Last.Add(-time.Hour), [16]byte{}, 0); err != nil || !c.Outbox[0].At.Equal(s.Last) {
		t.Errorf("at %v: %v", c.Outbox[0].At, err)
	}
}

func TestRetryMessageRefuses(t *testing.T) {
	t.Parallel()
	s, d := mourned(t)
	merged := s
	merged.MergedInto = "user:3"
	if _, err := parley.RetryMessage(merged, d, s.Last, [16]byte{}, 0); !errors.Is(err, parley.ErrConflict) {
		t.Errorf("a conversation that was merged: %v", err)
	}
	for name, data := range map[string]string{
		"newer": `{"effect":"sing","value":{}}`, "event": `{"kind":"message","input":{}}`,
		"newer generation": `{"effect":"send","value":{"format":1000,"text":"look"}}`,
		"nothing":          "", "broken off": "{", "no message": `{"effect":"send","value":7}`, "no value": `{"effect":"send"}`,
	} {
		d.Data = []byte(data)
		if _, err := parley.RetryMessage(s, d, s.Last, [16]byte{}, 0); !errors.Is(err, parley.ErrFormat) {
			t.Errorf("%s: %v", name, err)
		}
	}
}

func TestRetryEvent(t *testing.T) {
	t.Parallel()
	s, d := mourned(t)
	d.Seq, d.Data = 7, []byte(`{"kind":"message","input":{"id":"m1","text":"hello"}}`)
	p, err := parley.RetryEvent(d, s.Conversation, 9, 0)
	if err != nil {
		t.Fatal(err)
	}
	other := d
	other.ID[15]++
	q, err := parley.RetryEvent(other, s.Conversation, 9, 0)
	if err != nil || p.Key == q.Key || p.Key == (parley.EventKey{}) {
		t.Errorf("keys %s and %s: %v", p.Key, q.Key, err)
	}
	diff(t, "row", parley.Pending{
		Row: parley.Row{Token: 9}, Conversation: s.Conversation, Key: p.Key, Late: true,
		Input: parley.Message{ID: "m1", Text: "hello"}, Data: d.Data,
	}, p)
	for _, data := range []string{"", "{", `{"kind":"thought","input":{}}`, `{"kind":"message","input":7}`} {
		d.Data = []byte(data)
		if _, err := parley.RetryEvent(d, s.Conversation, 9, 0); !errors.Is(err, parley.ErrFormat) {
			t.Errorf("%q: %v", data, err)
		}
	}
}

// A timer's event fires though the timer isn't live any more; but not if it was set
// anew, since that one will.
func TestRetriedTimer(t *testing.T) {
	t.Parallel()
	s, d := mourned(t)
	d.Seq = 7
	d.Data = []byte(`{"kind":"timer_fired","input":{"name":"t","generation":3,"due":"2026-11-26T08:00:00Z"}}`)
	p, err := parley.RetryEvent(d, s.Conversation, 9, 0)
	if err != nil {
		t.Fatal(err)
	}
	p.Seq, p.Received = 8, s.Last
	if again, err := parley.DecodeInput(p.Data); err != nil || !cmp.Equal(again, p.Input) {
		t.Errorf("stored as %s, which is %+v: %v", p.Data, again, err)
	}
	bot := scripted()
	s.State = nil
	if c := parley.Step(bot, s, []parley.Pending{p}, parley.Circumstance{}); len(c.Outbox) != 1 {
		t.Errorf("it didn't fire: %s", c.History)
	}
	s.Timers = []parley.Timer{{Name: "t", Generation: 4, Due: s.Last}}
	c := parley.Step(bot, s, []parley.Pending{p}, parley.Circumstance{})
	if len(c.Outbox) != 0 || len(c.Next.Timers) != 1 {
		t.Errorf("it fired beside the one set anew: %s", c.History)
	}
}

func TestDeadQuery(t *testing.T) {
	t.Parallel()
	_, d := mourned(t)
	if d.Kind() != parley.DeadMessage || d.What() != "send" {
		t.Errorf("it was %s %q", d.Kind(), d.What())
	}
	d.Seq, d.Data = 1, []byte(`{"kind":"postback","input":{}}`)
	if d.Kind() != parley.DeadEvent || d.What() != "postback" {
		t.Errorf("it was %s %q", d.Kind(), d.What())
	}
	d.Data = []byte("{")
	if d.What() != "" {
		t.Errorf("what can't be read was %q", d.What())
	}
	for limit, want := range map[int]int{-1: 0, 0: 0, 7: 7, parley.MaxDeadPage + 1: parley.MaxDeadPage} {
		q := parley.DeadQuery{Limit: limit}
		if q.Page() != want {
			t.Errorf("a limit of %d is %d", limit, q.Page())
		}
	}
}

func TestParseChannel(t *testing.T) {
	t.Parallel()
	want := parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}
	if c, err := parley.ParseChannel(want.String()); err != nil || c != want {
		t.Errorf("%v, %v", c, err)
	}
	for _, s := range []string{"", "acme/whatsapp", "acme/telegram/1", "acme/whatsapp/", "/whatsapp/1", "acme/whatsapp/1/user:2"} {
		if _, err := parley.ParseChannel(s); err == nil {
			t.Errorf("%q was read", s)
		}
	}
}

// A message is retried with all that is in it, whichever generation it is stored in.
func TestRetryMessageWhole(t *testing.T) {
	t.Parallel()
	s, d := mourned(t)
	for name, send := range map[string]parley.Send{
		"Footer":   {Text: "hello", Footer: "below", Bulk: true},
		"Location": {Location: &parley.Location{Latitude: 1, Longitude: 2}},
		"Buttons":  {Text: "which", Buttons: []parley.Button{{Title: "this", URL: "https://a.example/"}}},
	} {
		var err error
		if d.Data, err = parley.EncodeEffect(send); err != nil {
			t.Fatal(err)
		}
		c, err := parley.RetryMessage(s, d, s.Last, [16]byte{}, 0)
		if err != nil {
			t.Errorf("%s: %v", name, err)
			continue
		}
		diff(t, name, send, c.Outbox[0].Send)
		if c.Format != send.Format() || c.Format < 2 {
			t.Errorf("%s is of format %d", name, c.Format)
		}
	}
}

// A retry stores nothing that a member doesn't read, as no turn does.
func TestRetryWaitsForOlderMembers(t *testing.T) {
	t.Parallel()
	s, d := mourned(t)
	retry := func(data []byte, err error, reads int) (message, event error) {
		if err != nil {
			t.Fatal(err)
		}
		d.Data = data
		_, message = parley.RetryMessage(s, d, s.Last, [16]byte{}, reads)
		_, event = parley.RetryEvent(d, s.Conversation, 9, reads)
		return message, event
	}
	for name, row := range map[string]struct {
		send  parley.Send
		takes int
	}{
		"Text": {parley.Send{Text: "hello"}, 1}, "Footer": {parley.Send{Text: "hello", Footer: "below"}, 2},
	} {
		for reads := range parley.Format + 1 {
			data, err := parley.EncodeEffect(row.send)
			got, _ := retry(data, err, reads)
			if ahead := reads != 0 && reads < row.takes; errors.Is(got, parley.ErrAhead) != ahead || !ahead && got != nil {
				t.Errorf("%s where members read %d: %v", name, reads, got)
			}
		}
	}
	d.Seq = 7
	for name, row := range map[string]struct {
		in    parley.Input
		takes int
	}{
		"Message": {parley.Message{ID: "m"}, 1}, "Called": {parley.Called{Name: "n"}, 3}, "SpeakerReturned": {parley.SpeakerReturned{}, 3},
	} {
		for reads := range parley.Format + 1 {
			data, err := parley.EncodeInput(row.in)
			_, got := retry(data, err, reads)
			if ahead := reads != 0 && reads < row.takes; errors.Is(got, parley.ErrAhead) != ahead || !ahead && got != nil {
				t.Errorf("%s where members read %d: %v", name, reads, got)
			}
		}
	}
}

// When a retried event was said nobody knows any more: it must neither open a window
// for writing, nor take back what the contact has said since.
func TestRetriedEventIsNotHeardAgain(t *testing.T) {
	t.Parallel()
	s, d := mourned(t)
	s.State, s.Heard.Stopped = nil, s.Heard.At
	d.Seq = 7
	bot := &parley.Bot{Name: "b", Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}
	for name, in := range map[string]parley.Input{
		"Message": parley.Message{ID: "m", Text: "hello", Referral: &parley.Referral{Source: "ad"}},
		"Resume":  parley.Preference{Value: "resume"},
	} {
		var err error
		if d.Data, err = parley.EncodeInput(in); err != nil {
			t.Fatal(err)
		}
		p, err := parley.RetryEvent(d, s.Conversation, 9, 0)
		if err != nil {
			t.Fatal(err)
		}
		p.Seq, p.Received = 8, s.Last.Add(48*time.Hour)
		c := parley.Step(bot, s, []parley.Pending{p}, parley.Circumstance{Format: parley.Format})
		diff(t, name, s.Heard, c.Next.Heard)
		p.Late, p.Key = false, parley.NewEventKey("x", name) // as one that has just come in it would
		if c = parley.Step(bot, s, []parley.Pending{p}, parley.Circumstance{Format: parley.Format}); cmp.Equal(c.Next.Heard, s.Heard) {
			t.Errorf("%s is never heard", name)
		}
	}
}
