package gallery_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/gallery"
	"github.com/parleychat/parley/flow/flowtest"
	"github.com/parleychat/parley/meta"
)

// ask lets the bot answer a message, and holds what it says to what the platform takes.
func ask(t *testing.T, kind parley.ChannelKind, text string) []parley.Outgoing {
	t.Helper()
	bot := gallery.Bot()
	c := parley.Conversation{Channel: parley.Channel{Brand: "b", Kind: kind, ID: "1"}, Contact: "user:2"}
	if kind == parley.WhatsApp {
		c.Contact = "phone:2"
	}
	in := parley.Message{ID: "mid.1", Text: text}
	data, err := parley.EncodeInput(in)
	if err != nil {
		t.Fatal(err)
	}
	commit := parley.Step(&bot, parley.Snapshot{Conversation: c}, []parley.Pending{{
		Row: parley.Row{Seq: 1, Token: 1}, Conversation: c, Key: parley.NewEventKey("1"), Received: time.UnixMilli(1795680000000), Input: in, Data: data,
	}}, parley.Circumstance{})
	if len(commit.Dead) > 0 {
		t.Fatalf("%s on %s: %s", text, kind, commit.Dead[0].Cause)
	}
	for i := range commit.Outbox {
		if _, _, err := meta.EncodeSend(&commit.Outbox[i], meta.Sending{}); err != nil {
			t.Errorf("%s on %s: %v", text, kind, err)
		}
	}
	return commit.Outbox
}

// All that the menu offers can be shown where it is offered.
func TestMenuIsTrue(t *testing.T) {
	t.Parallel()
	for kind, least := range map[parley.ChannelKind]int{parley.Messenger: 7, parley.Instagram: 7, parley.WhatsApp: 10} {
		menu := ask(t, kind, "hello")
		if len(menu) != 1 || len(menu[0].Send.QuickReplies) < least {
			t.Fatalf("%s: %+v", kind, menu)
		}
		for _, q := range menu[0].Send.QuickReplies {
			shown := ask(t, kind, q.Payload)
			if len(shown) != 1 || len(shown[0].Send.QuickReplies) > 0 {
				t.Errorf("%s on %s: %+v", q.Payload, kind, shown)
			}
		}
	}
}

func TestTranscripts(t *testing.T) {
	t.Parallel()
	flowtest.Run(t, gallery.Bot(), "testdata/*.txt")
}
