package parley_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
)

// heardAfter lets a bot that does nothing hear inputs, a minute apart, and returns
// what it knows of its contact then.
func heardAfter(t *testing.T, start time.Time, inputs ...parley.Input) parley.Heard {
	t.Helper()
	bot := &parley.Bot{Name: "b", Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}
	s := parley.Snapshot{Conversation: parley.Conversation{Channel: parley.Channel{Brand: "b", Kind: parley.WhatsApp, ID: "1"}, Contact: "phone:1"}}
	for i, in := range inputs {
		at := start.Add(time.Duration(i) * time.Minute)
		row := parley.Pending{
			Row: parley.Row{Seq: parley.Seq(i + 1)}, Conversation: s.Conversation, Input: in,
			Key: parley.NewEventKey("x", string(rune('a'+i))), Received: at, Time: at.Add(-time.Second),
		}
		s = parley.Step(bot, s, []parley.Pending{row}, parley.Circumstance{}).Next
	}
	return s.Heard
}

func TestHeard(t *testing.T) {
	t.Parallel()
	start := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	at := func(i int) time.Time { return start.Add(time.Duration(i)*time.Minute - time.Second) }
	ad := parley.Message{Text: "hi", Referral: &parley.Referral{Source: "ad"}}
	stop, resume := parley.Preference{Value: "stop"}, parley.Preference{Value: "resume"}
	for name, c := range map[string]struct {
		inputs []parley.Input
		want   parley.Heard
	}{
		"AMessage":          {[]parley.Input{parley.Message{Text: "hi"}}, parley.Heard{At: at(0)}},
		"APress":            {[]parley.Input{parley.Message{Text: "hi"}, parley.Postback{Payload: "p"}}, parley.Heard{At: at(1)}},
		"ByAnAd":            {[]parley.Input{ad, parley.Message{Text: "more"}}, parley.Heard{At: at(1), Entry: at(0)}},
		"NotATimer":         {[]parley.Input{parley.Message{Text: "hi"}, parley.SendFailed{Code: 1}, parley.Echo{Text: "x"}}, parley.Heard{At: at(0)}},
		"NotARemoval":       {[]parley.Input{parley.Reaction{Emoji: "x"}, parley.Reaction{Removed: true}}, parley.Heard{At: at(0)}},
		"NotTheirOwnCall":   {[]parley.Input{parley.PhoneCall{ID: "1", Direction: "BUSINESS_INITIATED"}}, parley.Heard{}},
		"ACall":             {[]parley.Input{parley.PhoneCall{ID: "1", Direction: "USER_INITIATED"}}, parley.Heard{At: at(0)}},
		"Stop":              {[]parley.Input{stop}, parley.Heard{Stopped: at(0)}},
		"StopTwice":         {[]parley.Input{stop, stop}, parley.Heard{Stopped: at(0)}},
		"StopAndResume":     {[]parley.Input{stop, resume}, parley.Heard{}},
		"StopOfOptIn":       {[]parley.Input{parley.OptIn{Type: "notification_messages", Status: "STOP"}}, parley.Heard{At: at(0), Stopped: at(0)}},
		"TheProvidersWord":  {[]parley.Input{parley.SendFailed{Code: 131050}}, parley.Heard{Stopped: at(0)}},
		"OurWord":           {[]parley.Input{parley.SendFailed{Why: parley.OptedOut}}, parley.Heard{Stopped: at(0)}},
		"AnotherWordOfCode": {[]parley.Input{parley.SendFailed{Code: 131026}}, parley.Heard{}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if diff := cmp.Diff(c.want, heardAfter(t, start, c.inputs...)); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

// Nobody's message comes later than Meta delivers it, whatever its time says.
func TestHeardByABrokenClock(t *testing.T) {
	t.Parallel()
	bot := &parley.Bot{Name: "b", Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}
	received := time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)
	for sent, want := range map[time.Time]time.Time{
		received.Add(-6 * 24 * time.Hour): received.Add(-6 * 24 * time.Hour),
		received.AddDate(-3, 0, 0):        received,
		received.Add(time.Hour):           received,
		{}:                                received,
	} {
		row := parley.Pending{Row: parley.Row{Seq: 1}, Input: parley.Message{Text: "hi"}, Received: received, Time: sent}
		if got := parley.Step(bot, parley.Snapshot{}, []parley.Pending{row}, parley.Circumstance{}).Next.Heard.At; !got.Equal(want) {
			t.Errorf("sent %v: heard at %v, want %v", sent, got, want)
		}
	}
}

// A message carries what its turn knew, and so does a message of a timer's turn,
// which no word of the contact is near.
func TestOutgoingKnowsWhenItsContactWasHeard(t *testing.T) {
	t.Parallel()
	heard := parley.Heard{At: time.UnixMilli(1_700_000_000_000).UTC(), Entry: time.UnixMilli(1_600_000_000_000).UTC(), Stopped: time.UnixMilli(5).UTC()}
	s := parley.Snapshot{Version: parley.Version{Number: 3, Token: 4}, Heard: heard}
	b, err := s.AppendBinary(nil)
	if err != nil {
		t.Fatal(err)
	}
	var back parley.Snapshot
	if err := back.UnmarshalBinary(b); err != nil || back.Heard != heard {
		t.Fatalf("%+v: %v", back.Heard, err)
	}
	o := parley.Outgoing{Send: parley.Send{Text: "hi"}, Heard: heard}
	content, err := o.EncodeContent()
	if err != nil {
		t.Fatal(err)
	}
	var again parley.Outgoing
	if err := again.DecodeContent(content); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(o, again); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	var old parley.Outgoing // what was stored before there was any of it
	if err := old.DecodeContent([]byte(`{"text":"hi"}`)); err != nil || old.Send.Text != "hi" || old.Heard != (parley.Heard{}) {
		t.Errorf("%+v: %v", old, err)
	}
}

// A bot that answers whatever it hears must not go round in circles with a
// refusal.
func TestRefusalIsNotAnsweredInVain(t *testing.T) {
	t.Parallel()
	template := parley.Send{Template: &parley.Template{Name: "t", Language: "de", Category: parley.Marketing}}
	for name, c := range map[string]struct {
		heard       parley.SendFailed
		send        parley.Send
		wantDropped bool
	}{
		"TextAfterTheWindow":        {parley.SendFailed{Why: parley.WindowClosed}, parley.Send{Text: "sorry"}, true},
		"TextAfterMetaSaidSo":       {parley.SendFailed{Code: 131047}, parley.Send{Text: "sorry"}, true},
		"TemplateAfterTheWindow":    {parley.SendFailed{Why: parley.WindowClosed}, template, false},
		"MarketingAfterAStop":       {parley.SendFailed{Why: parley.OptedOut}, template, true},
		"TextAfterAStop":            {parley.SendFailed{Why: parley.OptedOut}, parley.Send{Text: "sorry"}, false},
		"TextAfterSomethingUnknown": {parley.SendFailed{Why: parley.OutcomeUnknown}, parley.Send{Text: "sorry"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			bot := &parley.Bot{Name: "b", Behavior: parley.BehaviorFunc(func(turn *parley.Turn) error { turn.Do(c.send); return nil })}
			row := parley.Pending{Row: parley.Row{Seq: 1}, Input: c.heard, Received: time.UnixMilli(1_700_000_000_000)}
			got := parley.Step(bot, parley.Snapshot{}, []parley.Pending{row}, parley.Circumstance{})
			if dropped := len(got.Dead) == 1 && len(got.Outbox) == 0; dropped != c.wantDropped || len(got.Dead)+len(got.Outbox) != 1 {
				t.Errorf("%d sent, %d dead", len(got.Outbox), len(got.Dead))
			}
		})
	}
}
