package flow_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/flow"
)

// What a flow stores beside the state is read by all later versions: these forms never
// change, they only gain fields.
func TestStoredForm(t *testing.T) {
	t.Parallel()
	b := booking(fields(guests(), size(), name(), note()), func(f *flow.Flow[table]) {
		f.Policy = flow.Collect(time.Minute)
		f.Commands = []flow.Rule[table]{flow.On(flow.Text("later"), func(t *flow.Turn[table]) error {
			t.Follow(flow.Follow{Name: "x", In: time.Hour, Text: "later", Template: template(parley.Utility), IfSilent: true, AskAgain: true})
			return nil
		})}
	})
	p := newPlayer(t, b, parley.WhatsApp)
	p.plays("> hi\n! 1m\n< How many?\n> 0\n! 1m\n< What size? [Small] [Large] [Extra large]\n> hm\n> later")
	want := `{"$flow":{"form":{"form":"booking","field":"size","given":["guests"]},"offered":"Small\nLarge\nExtra large",` +
		`"held":[{"kind":"message","input":{"id":"m5","text":"hm"}}],"since":1772366520000,` +
		`"follows":[{"name":"x","text":"later","template":{"name":"reminder","language":"en","category":"utility"},"if_silent":true,"ask_again":true}]},"$state":{}}`
	if got := p.state(); got != want {
		t.Errorf("stored\n%s, want\n%s", got, want)
	}

	// Read from what is written here, and not from what the test has just made.
	p.snapshot.State = []byte(`{"$flow":{"form":{"form":"booking","field":"size","tries":2,"given":["guests"]},"offered":"a\tSmall\nb\tLarge","number":true},"$state":{"name":"Ann"}}`)
	p.plays("> 2\n< A note?")
	p.snapshot.State = []byte(`{"name":"Ann","guests":1,"size":"Small"}`)
	p.plays("* hello\n< A note?")
}
