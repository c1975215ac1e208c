package flow_test

import (
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

func template(category parley.Category) *parley.Template {
	return &parley.Template{Name: "reminder", Language: "en", Category: category}
}

// follower says later what it is told to.
func follower(f flow.Follow) parley.Bot {
	f.Name = "later"
	return bot(flow.Flow[memory]{Start: flow.Match(
		flow.On(flow.Text("follow"), func(t *flow.Turn[memory]) error { t.Follow(f); return nil }),
		flow.On(flow.Text("forget"), func(t *flow.Turn[memory]) error { t.CancelFollow("later"); return nil }),
		flow.On(flow.Text("person"), func(t *flow.Turn[memory]) error { t.HandOff(parley.SpeakerPerson, time.Hour); return nil }),
		flow.On(flow.Text("set"), func(t *flow.Turn[memory]) error { t.SetTimer("flow.x", 0); return nil }),
		flow.On(flow.Text("coming?"), func(t *flow.Turn[memory]) error { t.Sayf("%t", t.Following("later")); return nil }),
		flow.On(flow.Timer("later"), says("missed")),
	)})
}

// A follow-up is a text as long as the platform takes one, then a template.
func TestFollow(t *testing.T) {
	t.Parallel()
	soon := flow.Follow{In: time.Hour, Text: "how was it?", Template: template(parley.Utility)}
	late := flow.Follow{In: 25 * time.Hour, Text: "how was it?", Template: template(parley.Utility)}
	p := play(t, follower(soon), `
		> follow
		> coming?
		< true
		! 1h
		< how was it?
		> coming?
		< false
		! 48h
		> follow
		> forget
		! 48h`)
	if got := p.state(); got != "{}" {
		t.Errorf("state %s: something is left", got)
	}
	play(t, follower(late), `
		> follow
		! 25h
		< (template reminder)
		> follow
		! 10h
		> coming?
		< true
		! 15h
		< how was it?`)
	playOn(t, follower(late), parley.Messenger, "> follow\n! 25h\n< (template reminder)")
	// Where no template can be sent, or none is given, the bot hears of it.
	playOn(t, follower(late), parley.Instagram, "> follow\n! 25h\n< missed")
	late.Template = template(parley.Marketing)
	playOn(t, follower(late), parley.Messenger, "> follow\n! 25h\n< missed")
	late.Template = nil
	play(t, follower(late), "> follow\n! 25h\n< missed")
	// It is not for somebody who has written since, or who talks to a person.
	soon.IfSilent = true
	play(t, follower(soon), "> follow\n> coming?\n< false\n! 2h")
	play(t, follower(flow.Follow{In: time.Minute, Text: "x"}), "> follow\n> person\n! 2h\n> coming?\n< false")
}

func TestFollowLimits(t *testing.T) {
	t.Parallel()
	broken := *template(parley.Utility)
	broken.Name = ""
	for want, f := range map[string]flow.Follow{
		"neither":        {},
		"MaxFollowBytes": {Text: strings.Repeat("x", flow.MaxFollowBytes)},
		"a name and":     {Template: &broken},
		"MaxTimerAhead":  {Text: "x", In: 1000 * 24 * time.Hour},
	} {
		c := meet(follower(f), parley.Message{Text: "follow"})
		if len(c.Dead) != 1 || !strings.Contains(c.Dead[0].Cause, want) {
			t.Errorf("want a dead letter with %q, got %+v", want, c.Dead)
		}
	}
	many := bot(flow.Flow[memory]{Start: func(t *flow.Turn[memory]) error {
		for i := range flow.MaxFollows + 1 {
			t.Follow(flow.Follow{Name: strings.Repeat("x", i+1), Text: "x"})
		}
		return nil
	}})
	if c := meet(many, parley.Message{}); len(c.Dead) != 1 || !strings.Contains(c.Dead[0].Cause, "MaxFollows") {
		t.Errorf("%+v", c.Dead)
	}
	play(t, follower(flow.Follow{}), `> set
		x error: timer "flow.x": names that begin with "flow." are the flow's own`)
}
