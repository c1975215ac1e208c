package flowtest_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// heard is the state of the bots of these tests.
type heard struct {
	Heard int    `json:"heard"`
	Last  string `json:"last,omitempty"`
}

// parrot does as it is told: a line of a message is a command each. What it hears that
// isn't a message it repeats in its stored form.
func parrot() parley.Bot {
	return parley.Bot{
		Name: "parrot", Version: 1, Behavior: parley.Stateful(obey),
		Named: map[string]parley.Behavior{"deaf": parley.BehaviorFunc(func(t *parley.Turn) error {
			if m, ok := t.Input().(parley.Message); ok && m.Text == "wake" {
				t.Become("")
			}
			return nil
		})},
	}
}

func obey(t *parley.Turn, m *heard) error {
	m.Heard++
	switch in := t.Input().(type) {
	case parley.Message:
		if in.Payload != "" || len(in.Attachments) > 0 || in.Location != nil || in.ReplyTo != nil {
			return repeat(t, in)
		}
		m.Last = in.Text
		for line := range strings.SplitSeq(in.Text, "\n") {
			if err := command(t, line); err != nil {
				return err
			}
		}
		return nil
	default:
		return repeat(t, in)
	}
}

func repeat(t *parley.Turn, in parley.Input) error {
	if f, ok := in.(parley.SendFailed); ok {
		f.ID = parley.ID{} // it is another one each time
		in = f
	}
	if f, ok := in.(parley.Called); ok {
		t.Say(fmt.Sprintf("%s answers %d %s%s", f.Service, f.Status, f.Body, f.Failure))
		return nil
	}
	b, err := parley.EncodeInput(in)
	t.Say(string(b))
	return err
}

func command(t *parley.Turn, line string) error {
	word, rest, _ := strings.Cut(line, " ")
	switch word {
	case "say":
		t.Say(rest)
	case "send":
		var s parley.Send
		if err := json.Unmarshal([]byte(rest), &s); err != nil {
			return err
		}
		t.Do(s)
	case "timer":
		name, in, _ := strings.Cut(rest, " ")
		d, err := time.ParseDuration(in)
		t.SetTimer(name, d)
		return err
	case "cancel":
		t.CancelTimer(rest)
	case "call":
		var c parley.Call
		if err := json.Unmarshal([]byte(rest), &c); err != nil {
			return err
		}
		t.Call(c)
	case "uncall":
		t.CancelCall(rest)
	case "handoff":
		d, err := time.ParseDuration(rest)
		t.HandOff(parley.SpeakerPerson, d)
		return err
	case "resume":
		t.Resume()
	case "tag":
		t.Tag(rest)
	case "attribute":
		t.SetAttribute("language", rest)
	case "become":
		t.Become(rest)
	case "end":
		t.End()
	case "fail":
		return errors.New(rest)
	case "panic":
		panic(rest)
	default:
		t.Say("what?")
	}
	return nil
}
