package pizza_test

import (
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
