package flow_test

import (
	"errors"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

type memory struct {
	Words []string `json:"words,omitempty"`
	Name  string   `json:"name,omitempty"`
}

func echo(t *flow.Turn[memory]) error {
	t.Say("heard " + strings.ReplaceAll(t.Said(), "\n", "+"))
	return nil
}

// says makes a handler that says a text.
func says(text string) flow.Handler[memory] { return flow.Reply[memory](text) }

func bot(f flow.Flow[memory]) parley.Bot {
	f.Name, f.Version = "test", 1
	if f.Start == nil {
		f.Start = echo
	}
	return f.Bot()
}

// An input goes to the commands, then to the behaviour, then to Otherwise.
func TestDispatch(t *testing.T) {
	t.Parallel()
	b := bot(flow.Flow[memory]{
		Commands: []flow.Rule[memory]{
			flow.On(flow.Text("help"), says("this is help")),
			flow.On(flow.Says("pass"), func(t *flow.Turn[memory]) error { t.Say("passing"); return t.Pass() }),
			flow.On(flow.Text("away"), func(t *flow.Turn[memory]) error { t.Become("away"); return nil }),
			flow.On(flow.Text("lost"), func(t *flow.Turn[memory]) error { t.Become("lost"); return nil }),
			flow.On(flow.Text("end"), func(t *flow.Turn[memory]) error { t.End(); return nil }),
			flow.On(flow.Text("note"), func(t *flow.Turn[memory]) error {
				t.State.Words = append(t.State.Words, "x")
				t.Sayf("%d notes", len(t.State.Words))
				return nil
			}),
			flow.On(flow.Text("fail"), func(t *flow.Turn[memory]) error {
				t.State.Words = nil
				t.Say("never said")
				return errors.New("broken")
			}),
		},
		Start: flow.Match(flow.On(flow.Text("hello"), says("hello")), flow.On(flow.Text("pass on"), says("passed"))),
		Named: map[string]flow.Behavior[memory]{
			"away": {Handle: func(t *flow.Turn[memory]) error {
				if t.Said() != "back" {
					return t.Pass()
				}
				t.Become("")
				return nil
			}},
		},
		Otherwise: says("what?"),
	})
	p := play(t, b, `
		> hello
		< hello
		> HÉLP!
		< this is help
		> hm
		< what?
		> pass on
		< passing
		< passed
		~
		> away
		> hello
		< what?
		> help
		< this is help
		> back
		> hello
		< hello
		> lost
		x error: become "lost": not a behaviour of this flow
		> note
		< 1 notes
		> fail
		x error: broken
		> note
		< 2 notes`)
	if got, want := p.state(), `{"words":["x","x"]}`; got != want {
		t.Errorf("state %s, want %s: nothing but the developer's own", got, want)
	}
	p.plays(`
		> end
		> note
		< 1 notes`)
}

// A flow that isn't sound is told so when it is made, and all at once.
func TestCheck(t *testing.T) {
	t.Parallel()
	name := func(m *memory) *string { return &m.Name }
	field := flow.Ask("name", "?", name, flow.Line(10))
	form := func(f flow.Form[memory]) flow.Flow[memory] {
		return flow.Flow[memory]{Name: "x", Start: echo, Forms: []flow.Form[memory]{f}}
	}
	for _, c := range []struct {
		says string
		flow flow.Flow[memory]
	}{
		{"", flow.Flow[memory]{Name: "x", Start: echo}},
		{"no name", flow.Flow[memory]{Start: echo}},
		{"no Start", flow.Flow[memory]{Name: "x"}},
		{`behaviour "a": no handler`, flow.Flow[memory]{Name: "x", Start: echo, Named: map[string]flow.Behavior[memory]{"a": {}}}},
		{"MaxQuiet", flow.Flow[memory]{Name: "x", Start: echo, Policy: flow.Collect(time.Hour)}},
		{"command 1 of 1", flow.Flow[memory]{Name: "x", Start: echo, Commands: make([]flow.Rule[memory], 1)}},
		{"PersonTakesOver", flow.Flow[memory]{Name: "x", Start: echo, PersonTakesOver: -1}},
		{"0 fields", form(flow.Form[memory]{Name: "f", Done: echo})},
		{"no Done", form(flow.Form[memory]{Name: "f", Fields: []flow.Field[memory]{field}})},
		{"two fields", form(flow.Form[memory]{Name: "f", Done: echo, Fields: []flow.Field[memory]{field, field}})},
		{"two fields", form(flow.Form[memory]{Name: "f", Done: echo, Fields: []flow.Field[memory]{field, flow.Ask("other", "?", name, flow.Line(10)).Label("Náme")}})},
		{"Anytime", form(flow.Form[memory]{Name: "f", Done: echo, Fields: []flow.Field[memory]{field.Anytime()}})},
		{"without its place", form(flow.Form[memory]{Name: "f", Done: echo, Fields: []flow.Field[memory]{flow.Ask[memory]("a", "?", nil, flow.Line(1))}})},
		{"none in the flow's own Language", flow.Flow[memory]{Name: "x", Start: echo, Messages: flow.Messages{"de": {}}, Language: "en"}},
		{"two forms", flow.Flow[memory]{Name: "x", Start: echo, Forms: []flow.Form[memory]{
			{Name: "f", Done: echo, Fields: []flow.Field[memory]{field}}, {Name: "f", Done: echo, Fields: []flow.Field[memory]{field}},
		}}},
	} {
		t.Run(c.says, func(t *testing.T) {
			t.Parallel()
			err := c.flow.Check()
			if (err == nil) != (c.says == "") || err != nil && !strings.Contains(err.Error(), c.says) {
				t.Errorf("got %v, want %q", err, c.says)
			}
			defer func() {
				if r := recover(); (r == nil) != (c.says == "") {
					t.Errorf("Bot: %v, Check: %v", r, err)
				}
			}()
			c.flow.Bot()
		})
	}
	if err := (flow.Flow[struct {
		Flow int `json:"$flow"`
	}]{Name: "x", Start: func(*flow.Turn[struct {
		Flow int `json:"$flow"`
	}],
	) error {
		return nil
	}}).Check(); err == nil {
		t.Error("a state that looks like a flow's own was taken")
	}
}

func TestMatchers(t *testing.T) {
	t.Parallel()
	text := func(s string) parley.Input { return parley.Message{Text: s} }
	for _, c := range []struct {
		name    string
		matcher flow.Matcher
		in      parley.Input
		found   string // 0 and 1, joined; "-" if it doesn't match
	}{
		{"text", flow.Text("adios", "bye"), text("  ¡ADIÓS!  "), "  ¡ADIÓS!  ,"},
		{"text in more", flow.Text("adios"), text("adios amigo"), "-"},
		{"text of a button", flow.Text("yes"), parley.Postback{Title: "Yes", Payload: "y"}, "Yes,"},
		{"text of nothing", flow.Text("?"), text(""), "-"},
		{"text of punctuation", flow.Text("?"), text(" ? "), " ? ,"},
		{"says", flow.Says("stop it", "cancel"), text("please STOP  it now"), "stop it,"},
		{"says, part of a word", flow.Says("art"), text("start"), "-"},
		{"says, second time", flow.Says("art"), text("start art"), "art,"},
		{"regexp", flow.Regexp(`(?i)order (\d+)`), text("Order 4711"), "Order 4711,4711"},
		{"regexp, none", flow.Regexp(`order (\d+)`), text("no"), "-"},
		{"payload", flow.Payload("a", "b"), parley.Message{Text: "B", Payload: "b"}, "b,"},
		{"payload, none", flow.Payload(""), text("x"), "-"},
		{"payload prefix", flow.PayloadPrefix("day:"), parley.Postback{Payload: "day:7"}, "day:7,7"},
		{"media", flow.Media(parley.Document), parley.Message{Attachments: []parley.Attachment{{Type: "image", ID: "1"}, {Type: "file", URL: "u"}}}, "u,"},
		{"media, other", flow.Media(parley.Audio), parley.Message{Attachments: []parley.Attachment{{Type: "image"}}}, "-"},
		{"media, any", flow.Media(), parley.Message{Attachments: []parley.Attachment{{Type: "image", ID: "1"}}}, "1,"},
		{"location", flow.Location(), parley.Message{Location: &parley.Location{}}, ","},
		{"reaction", flow.Reaction("👍"), parley.Reaction{Emoji: "👍", MessageID: "m"}, "👍,m"},
		{"reaction, removed", flow.Reaction(), parley.Reaction{Emoji: "👍", Removed: true}, "-"},
		{"referral of a message", flow.Referral("shop"), parley.Message{Referral: &parley.Referral{Ref: "shop"}}, "shop,"},
		{"referral of a postback", flow.Referral(), parley.Postback{Referral: &parley.Referral{Ref: "ad"}}, "ad,"},
		{"referral alone", flow.Referral("x"), parley.Referred{Referral: parley.Referral{Ref: "ad"}}, "-"},
		{"timer", flow.Timer("a"), parley.TimerFired{Name: "a"}, "a,"},
		{"answered", flow.Answered("llm"), parley.Called{Name: "llm"}, "llm,"},
		{"person", flow.PersonSpoke(), parley.Echo{Text: "hi"}, "hi,"},
		{"returned", flow.Returned(), parley.SpeakerReturned{}, ","},
		{"failed", flow.Failed(), parley.SendFailed{Why: parley.WindowClosed}, "window_closed,"},
		{"spoke", flow.Spoke(), text("x"), "x,"},
		{"spoke, a reaction", flow.Spoke(), parley.Reaction{}, "-"},
		{"when", flow.When(func(in parley.Input) bool { return in.Kind() == "lead" }), parley.Lead{}, ","},
		{"any", flow.Any(flow.Text("x"), flow.Payload("p")), parley.Postback{Payload: "p"}, "p,"},
		{"any, none", flow.Any(flow.Text("x"), flow.Text("y")), text("z"), "-"},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			got := "-"
			f := flow.Flow[memory]{Name: "x", Start: flow.Match(flow.On(c.matcher, func(t *flow.Turn[memory]) error {
				got = t.Found(0) + "," + t.Found(1)
				return nil
			}))}
			meet(f.Bot(), c.in)
			if got != c.found {
				t.Errorf("found %q, want %q", got, c.found)
			}
		})
	}
}

// meet runs the bot's behaviour with an input that nothing announced.
func meet(b parley.Bot, in parley.Input) parley.Commit {
	if fired, ok := in.(parley.TimerFired); ok {
		fired.Retried = true // so that it needs no live timer
		in = fired
	}
	if called, ok := in.(parley.Called); ok {
		called.Retried = true
		in = called
	}
	c := parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}, Contact: parley.PhoneKey + "49151"}
	rows := []parley.Pending{{Row: parley.Row{Seq: 1, Token: 1}, Conversation: c, Key: parley.NewEventKey("1"), Received: time.Unix(1, 0), Input: in}}
	return parley.Step(&b, parley.Snapshot{Conversation: c}, rows, parley.Circumstance{})
}

func TestMistakesAtStart(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]func(){
		"no handler":       func() { flow.On[memory](flow.Text("x"), nil) },
		"no matcher":       func() { flow.On(flow.Matcher{}, echo) },
		"no rule":          func() { flow.Match(flow.Rule[memory]{}) },
		"no phrase":        func() { flow.Text(" ") },
		"bad expression":   func() { flow.Regexp("(") },
		"no titles":        func() { flow.OneOf() },
		"half an answer":   func() { flow.OnAnswer("x", func(*flow.Turn[memory], int) error { return nil }, nil) },
		"too many options": func() { flow.OneOf(strings.Split(strings.Repeat("a,", 31), ",")...) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			defer func() {
				if recover() == nil {
					t.Error("it was taken")
				}
			}()
			f()
		})
	}
}

func TestFold(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]string{
		"": "", "  ": "", "?!": "?!", "Grüße,  aus\tKÖLN!": "grusse aus koln", "e\u0301té": "ete", "Đặt hàng": "dat hang",
		"don’t": "don t", "❤️": "❤", "Łódź": "lodz", "привет": "привет", "İstanbul": "istanbul", "+49": "+49",
	} {
		if got := flow.Fold(in); got != want {
			t.Errorf("Fold(%q) = %q, want %q", in, got, want)
		}
	}
}
