package flowtest_test

import (
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// order is the state of a conversation.
type order struct {
	Pizza string `json:"pizza,omitempty"`
}

// shop takes orders, asks a service where they are, and calls a colleague.
func shop() parley.Bot {
	return parley.Bot{Name: "shop", Version: 1, Behavior: parley.Stateful(serve)}
}

func serve(t *parley.Turn, o *order) error {
	switch in := t.Input().(type) {
	case parley.Message:
		o.hear(t, in)
	case parley.TimerFired:
		t.Say(map[string]string{"hungry": "Are you still hungry?", "ask": "How was it?"}[in.Name])
	case parley.Called:
		if !in.OK() {
			t.Say("I can't find out. Sorry!")
			return nil
		}
		t.Say("Your pizza is " + string(in.Body) + ".")
	case parley.SendFailed:
		t.Do(parley.Send{Template: &parley.Template{Name: "how_was_it", Language: "en", Category: parley.Utility}})
	default: // nothing to answer
	}
	return nil
}

func (o *order) hear(t *parley.Turn, m parley.Message) {
	switch {
	case m.Payload != "":
		o.Pizza = m.Payload
		t.Tag("customer")
		t.Say("One " + m.Text + ", coming up.")
		t.CancelTimer("hungry")
		t.SetTimer("ask", 48*time.Hour)
	case m.Location != nil:
		t.Say("That is not far.")
	case strings.HasPrefix(m.Text, "where"):
		t.Call(parley.Call{Name: "where", Service: "kitchen", Method: "GET", Path: "/orders/" + o.Pizza})
	case strings.HasPrefix(m.Text, "help"):
		t.Say("I call somebody.")
		t.HandOff(parley.SpeakerPerson, 8*time.Hour)
	default:
		t.Say("Which pizza would you like?", parley.QuickReply{Title: "Margherita", Payload: "m"}, parley.QuickReply{Title: "Salami", Payload: "s"})
		t.SetTimer("hungry", 30*time.Minute)
	}
}
