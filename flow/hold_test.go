package flow_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

func collecting(p flow.Policy) parley.Bot {
	return bot(flow.Flow[memory]{Policy: p, Commands: []flow.Rule[memory]{
		flow.On(flow.Text("now"), says("at once")),
		flow.On(flow.Text("end"), func(t *flow.Turn[memory]) error { t.End(); return nil }),
	}, Start: flow.Match(
		flow.On(flow.Text("boom"), func(*flow.Turn[memory]) error { return errors.New("broken") }),
		flow.On(flow.Spoke(), func(t *flow.Turn[memory]) error {
			t.Say(fmt.Sprintf("heard %d: %s (%s)", len(t.Parts()), strings.ReplaceAll(t.Said(), "\n", "+"), t.Chosen()))
			return nil
		}))})
}

// A burst is met as one.
func TestCollect(t *testing.T) {
	t.Parallel()
	p := play(t, collecting(flow.Collect(2*time.Second)), `
		> hi
		! 1s
		> I want
		! 1900ms
		> a pizza
		~
		! 1999ms
		! 1ms
		< heard 3: hi+I want+a pizza ()
		> one
		> now
		< at once
		! 2s
		< heard 1: one ()
		# What is pressed ends the wait.
		> this
		* yes
		< heard 2: this (yes)
		! 1m
		> gone
		> end
		! 1m`)
	if got := p.state(); got != "" {
		t.Errorf("state after End: %s", got)
	}
	// Somebody who never stops is met all the same.
	p.out.Reset()
	for range 20 {
		p.line("> a")
		p.waits(time.Second)
	}
	if got := p.out.String(); !strings.HasPrefix(got, "< heard 16: a+") {
		t.Errorf("after 20 s: %s", got)
	}
	p.out.Reset()
	p = newPlayer(t, collecting(flow.Collect(2*time.Second)), parley.WhatsApp)
	for range flow.MaxHeld {
		p.line("> a")
	}
	if got := p.out.String(); !strings.HasPrefix(got, "< heard 16: a+") {
		t.Errorf("after MaxHeld: %q", got)
	}
	long := strings.Repeat("x", flow.MaxHeldBytes)
	p.out.Reset()
	p.line("> a")
	p.line("> " + long)
	if got := p.out.String(); !strings.HasPrefix(got, "< heard 2: a+xxx") {
		t.Errorf("after MaxHeldBytes: %.20q", got)
	}
}

// What the contact changes or takes back while it waits is met as changed, or not.
func TestCollectRevised(t *testing.T) {
	t.Parallel()
	p := newPlayer(t, collecting(flow.Collect(2*time.Second)), parley.Messenger)
	p.plays("> one\n> two\n> three")
	p.happens(parley.Edited{ID: "m2", Text: "TWO"})
	p.happens(parley.Edited{ID: "other", Text: "no"})
	p.happens(parley.Deleted{ID: "m1"})
	p.plays("! 2s\n< heard 2: TWO+three ()")
}

func TestDebounce(t *testing.T) {
	t.Parallel()
	play(t, collecting(flow.Debounce(2*time.Second)), `
		> one
		> two
		! 1s
		> three
		! 2s
		< heard 1: three ()
		> four
		* x
		< heard 1:  (x)
		! 1m`)
}

// A turn that fails over what waited doesn't fail those that follow.
func TestCollectHeals(t *testing.T) {
	t.Parallel()
	play(t, collecting(flow.Collect(2*time.Second)), `
		> boom
		! 2s
		x error: broken
		> hi
		! 2s
		< heard 1: hi ()`)
}

// The wait survives whatever the process doesn't: it is in the stored state.
func TestCollectWithAForm(t *testing.T) {
	t.Parallel()
	b := booking(fields(size().Anytime(), name()), func(f *flow.Flow[table]) { f.Policy = flow.Collect(2 * time.Second) })
	play(t, b, `
		> hi
		> I want
		> a large one
		! 2s
		< Your name?
		> Ann
		> Lee
		! 2s
		< booked {Guests:0 Size:Large Name:Ann / Lee Note: Dogs:false Breed:}`)
}

type ask struct {
	Asked int `json:"asked,omitempty"`
}

func caller(more ...flow.Rule[ask]) parley.Bot {
	question := func(t *flow.Turn[ask]) error {
		t.State.Asked++
		t.Say("one moment")
		t.CallWith(parley.Call{Name: "llm", Service: "llm"}, t.Said())
		t.HoldUntil("llm")
		return nil
	}
	rules := append([]flow.Rule[ask]{}, more...)
	rules = append(rules,
		flow.OnAnswer("llm", func(t *flow.Turn[ask], a struct{ Text string }) error { t.Say(a.Text); return nil },
			func(t *flow.Turn[ask], c parley.Called) error { t.Say("sorry: " + string(c.Failure)); return nil }),
		flow.On(flow.Spoke(), question))
	return flow.Flow[ask]{Name: "caller", Version: 1, Start: flow.Match(rules...), Commands: []flow.Rule[ask]{
		flow.On(flow.Text("stop"), func(t *flow.Turn[ask]) error { t.CancelCall("llm"); t.Say("stopped"); return nil }),
		flow.On(flow.Text("help"), flow.Reply[ask]("help")),
		flow.On(flow.Text("hold"), func(t *flow.Turn[ask]) error { t.HoldUntil("llm"); return nil }),
	}}.Bot()
}

// What is said while a call is under way waits for its answer.
func TestHoldUntil(t *testing.T) {
	t.Parallel()
	play(t, caller(), `
		> why?
		< one moment
		call llm "why?"
		> and
		> how?
		> help
		< help
		= llm {"Text": "because"}
		< because
		< one moment
		call llm "and\nhow?"
		= llm 500
		< sorry: gave_up
		> again
		< one moment
		call llm "again"
		= llm no JSON
		< sorry: unreadable
		! 1h
		> who?
		< one moment
		call llm "who?"
		> please
		> stop
		< stopped
		! 1s
		< one moment
		call llm "please"
		# A call that is never answered doesn't keep them for ever.
		> hello?
		! 15m
		< one moment
		call llm "hello?"
		> stop
		< stopped
		> hold
		x error: hold until the answer to "llm": no such call is under way`)
}

// The turn of an answer may fail; what waited for it is met.
func TestHoldHeals(t *testing.T) {
	t.Parallel()
	b := caller(flow.On(flow.Answered("llm"), func(t *flow.Turn[ask]) error {
		if t.State.Asked == 1 {
			return errors.New("broken")
		}
		return t.Pass()
	}))
	play(t, b, `
		> why?
		< one moment
		call llm "why?"
		> how?
		= llm {"Text": "because"}
		x error: broken
		~
		! 1s
		< one moment
		call llm "how?"
		= llm {"Text": "so"}
		< so`)
}

func TestCallWithWhatHasNoForm(t *testing.T) {
	t.Parallel()
	b := bot(flow.Flow[memory]{Start: func(t *flow.Turn[memory]) error {
		t.CallWith(parley.Call{Name: "a", Service: "b"}, func() {})
		return nil
	}})
	play(t, b, "> hi\nx error: call \"a\": encode func(): json: unsupported type: func()")
}
