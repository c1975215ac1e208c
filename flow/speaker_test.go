package flow_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// While a person has the word the bot's rules rest, but for those that are Always.
func TestPersonSpeaks(t *testing.T) {
	t.Parallel()
	b := bot(flow.Flow[memory]{
		PersonTakesOver: 2 * time.Hour,
		Commands: []flow.Rule[memory]{
			flow.On(flow.Text("person"), func(t *flow.Turn[memory]) error {
				t.Say("I get somebody.")
				t.HandOff(parley.SpeakerPerson, time.Hour)
				return nil
			}),
			flow.On(flow.Text("help"), says("help")),
			flow.On(flow.Text("bot"), func(t *flow.Turn[memory]) error {
				t.Resume()
				t.Say("It is me again.")
				return nil
			}).Always(),
		},
		Start: flow.Match(
			flow.On(flow.Returned(), says("I am back.")),
			flow.On(flow.Spoke(), func(t *flow.Turn[memory]) error {
				t.State.Words = append(t.State.Words, t.Said())
				t.Sayf("%d words", len(t.State.Words))
				return nil
			})),
	})
	p := play(t, b, `
		> a
		< 1 words
		> person
		< I get somebody.
		> b
		> help
		! 59m
		> c
		! 1m
		< I am back.
		> d
		< 2 words
		> person
		< I get somebody.
		> bot
		< It is me again.
		> e
		< 3 words
		# A message of a person's takes the word, and each one anew.
		@ hello, this is Ann
		> f
		! 119m
		@ anything else?
		! 119m
		> g
		! 1m
		< I am back.`)
	if got, want := p.state(), `{"words":["a","d","e"]}`; got != want {
		t.Errorf("state %s, want %s", got, want)
	}
}

// A person who writes doesn't shorten the time for which they were given the word.
func TestPersonTakesOverForNoLess(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		to   parley.Speaker
		d    time.Duration
		back time.Duration // after which the bot has the word again; 0: never
	}{
		"longer":      {parley.SpeakerPerson, 10 * time.Hour, 10 * time.Hour},
		"shorter":     {parley.SpeakerPerson, time.Hour, 2 * time.Hour},
		"until later": {parley.SpeakerPerson, 0, 0},
		"another app": {parley.SpeakerApp, time.Hour, time.Hour},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p := newPlayer(t, bot(flow.Flow[memory]{PersonTakesOver: 2 * time.Hour, Start: flow.Match(
				flow.On(flow.Returned(), says("back")),
				flow.On(flow.Text("go"), func(t *flow.Turn[memory]) error { t.HandOff(c.to, c.d); return nil }),
			)}), parley.WhatsApp)
			p.plays("> go\n@ hello")
			p.out.Reset()
			if c.back == 0 {
				p.waits(100 * time.Hour)
			} else {
				p.waits(c.back - time.Millisecond)
			}
			if got := p.out.String(); got != "" {
				t.Errorf("too early: %q", got)
			}
			p.waits(time.Millisecond)
			if got := p.out.String(); (got == "") != (c.back == 0) {
				t.Errorf("in time: %q", got)
			}
		})
	}
}
