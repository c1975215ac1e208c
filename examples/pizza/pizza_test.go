package pizza_test

import (
	"slices"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/pizza"
	"github.com/parleychat/parley/flow/flowtest"
	"github.com/parleychat/parley/meta"
)

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Kit{Bot: pizza.Bot(), Encodes: everywhere}.Run(t, "testdata/*.txt")
}

// everywhere holds a message to the limits of all platforms: whatever is sent on one
// can be sent on each.
func everywhere(o *parley.Outgoing) error {
	out := *o
	for kind, contact := range map[parley.ChannelKind]parley.Contact{
		parley.Messenger: parley.UserKey + "1", parley.Instagram: parley.UserKey + "1", parley.WhatsApp: parley.PhoneKey + "1",
	} {
		out.Conversation.Channel.Kind, out.Conversation.Contact = kind, contact
		if _, _, err := meta.EncodeSend(&out, meta.Sending{}); err != nil {
			return err
		}
	}
	return nil
}

// What the bot stored before it was made of a form goes on where it was.
func TestOrdersBegunBefore(t *testing.T) {
	t.Parallel()
	bot := pizza.Bot()
	s := parley.Snapshot{
		Conversation: parley.Conversation{Channel: parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "1"}, Contact: parley.PhoneKey + "49151"},
		Version:      parley.Version{Number: 3, Token: 1},
		Bot:          "pizza", BotVersion: 1, State: []byte(`{"pizza":"Salami"}`),
		Timers: []parley.Timer{{Name: "reminder", Generation: 2}},
	}
	for name, c := range map[string]struct {
		in   parley.Input
		want []string
	}{
		"says":     {parley.Message{Text: "a small one"}, []string{"A small Salami. Shall I order it?"}},
		"presses":  {parley.Message{Text: "Large", Payload: "large"}, []string{"A large Salami. Shall I order it?"}},
		"is quiet": {parley.TimerFired{Name: "reminder", Generation: 2}, []string{"Are you still hungry? Your order is not finished.", "One Salami. What size?"}},
		"reacts":   {parley.Reaction{MessageID: "m", Emoji: "👍"}, nil},
	} {
		rows := []parley.Pending{{Row: parley.Row{Seq: 9, Token: 9}, Conversation: s.Conversation, Key: parley.NewEventKey("9"), Input: c.in}}
		var got []string
		for _, o := range parley.Step(&bot, s, rows, parley.Circumstance{}).Outbox {
			got = append(got, o.Send.Text)
		}
		if !slices.Equal(got, c.want) {
			t.Errorf("%s: %q, want %q", name, got, c.want)
		}
	}
}
