package meta

import (
	"fmt"
	"net/url"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// DefaultListLabel is on the button that opens a WhatsApp list.
const DefaultListLabel = "Menu"

// Sending is how an account sends, beside what the message itself says.
type Sending struct {
	// From is the id in the request's path: for an Instagram account that is
	// reached through a Page, the Page's. Empty: the channel's own id.
	From string
	// ListLabel is on the button that opens a WhatsApp list that brings none, as
	// do more than MaxWhatsAppButtons quick replies. Empty: DefaultListLabel.
	ListLabel string
}

// EncodeSend makes the request for an outgoing message: the path below the
// version, and the JSON body. Quick replies become quick replies on Messenger
// and Instagram; on WhatsApp up to three become buttons, up to ten a list. A
// reply without a payload has its title as payload. Messenger and WhatsApp tell
// o.ID back, in the echo's metadata and the status's biz_opaque_callback_data;
// there is none for reactions on Messenger, and for signals.
//
// A message outside the platform's limits is a *LimitError, one that it can't
// show an *UnsupportedError. Both are for good.
func EncodeSend(o *parley.Outgoing, s Sending) (path string, body []byte, err error) {
	ch := o.Conversation.Channel
	from := s.From
	if from == "" {
		from = ch.ID
	}
	var request any
	switch ch.Kind {
	case parley.Messenger, parley.Instagram:
		request, err = messagingSend(o)
	case parley.WhatsApp:
		request, err = whatsAppSend(o, s)
	case parley.WhatsAppAccount:
		err = fmt.Errorf("channel kind %s can't send", ch.Kind)
	default:
		err = fmt.Errorf("channel kind %q is not known", ch.Kind)
	}
	if err != nil {
		return "", nil, err
	}
	if body, err = json.Marshal(request, jsontext.AllowInvalidUTF8(true)); err != nil {
		return "", nil, fmt.Errorf("encode send: %w", shapeOf(err))
	}
	// Meta's ids are digits. One that isn't must not name another place.
	return url.PathEscape(from) + "/" + edge(&o.Send), body, nil
}

// edge is where a send is posted to, below its channel.
func edge(s *parley.Send) string {
	switch {
	case s.Signal == nil:
	case s.Signal.Kind == parley.PassThread:
		return "pass_thread_control"
	case s.Signal.Kind == parley.TakeThread:
		return "take_thread_control"
	}
	return "messages"
}

// notAddressable is a conversation of a sort to which nothing can be sent.
func notAddressable(c parley.Conversation) error {
	sort, _ := c.Contact.Split()
	return fmt.Errorf("nothing can be sent to a contact of sort %q on %s", sort, c.Channel.Kind)
}
