package meta

import (
	"fmt"
	"net/url"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// What the platforms take, from their pages on sending (Messenger: Send API and
// quick replies, May 2026; WhatsApp: messages and interactive messages,
// November 2025). The row count of a WhatsApp list and Instagram's text limit
// are not on the pages that were read; they are as generally known.
const (
	MaxMessengerText         = 2000 // characters
	MaxMessengerQuickReplies = 13
	MaxMessengerTitle        = 20   // characters
	MaxMessengerPayload      = 1000 // characters

	MaxInstagramText = 1000 // bytes of UTF-8

	MaxWhatsAppText       = 4096 // characters
	MaxWhatsAppButtons    = 3
	MaxWhatsAppButtonBody = 1024 // characters
	MaxWhatsAppButton     = 20   // characters of a title
	MaxWhatsAppButtonID   = 256  // characters
	MaxWhatsAppRows       = 10   // of a list
	MaxWhatsAppListBody   = 4096 // characters
	MaxWhatsAppRow        = 24   // characters of a title
	MaxWhatsAppRowID      = 200  // characters
	MaxWhatsAppListLabel  = 20   // characters
)

// DefaultListLabel is on the button that opens a WhatsApp list.
const DefaultListLabel = "Menu"

// A LimitError is a message that the platform would refuse. It names the limit,
// never the message.
type LimitError struct {
	Limit string // the name of the const
	Have  int
	Max   int
}

func (e *LimitError) Error() string {
	return fmt.Sprintf("%d: at most %d (%s)", e.Have, e.Max, e.Limit)
}

// Sending is how an account sends, beside what the message itself says.
type Sending struct {
	// From is the id in the request's path: for an Instagram account that is
	// reached through a Page, the Page's. Empty: the channel's own id.
	From string
	// ListLabel is on the button that opens a WhatsApp list, where more than
	// MaxWhatsAppButtons quick replies go. Empty: DefaultListLabel.
	ListLabel string
}

// EncodeSend makes the request for an outgoing message: the path below the
// version, and the JSON body. Quick replies become quick replies on Messenger
// and Instagram; on WhatsApp up to three become buttons, up to ten a list. A
// reply without a payload has its title as payload. Messenger and WhatsApp tell
// o.ID back, in the echo's metadata and the status's biz_opaque_callback_data.
//
// A message outside the platform's limits is a *LimitError.
func EncodeSend(o *parley.Outgoing, s Sending) (path string, body []byte, err error) {
	ch := o.Conversation.Channel
	from := s.From
	if from == "" {
		from = ch.ID
	}
	var request any
	switch ch.Kind {
	case parley.Messenger:
		request, err = messengerSend(o)
	case parley.Instagram:
		request, err = instagramSend(o)
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
	return url.PathEscape(from) + "/messages", body, nil
}

// notAddressable is a conversation of a sort to which nothing can be sent.
func notAddressable(c parley.Conversation) error {
	sort, _ := c.Contact.Split()
	return fmt.Errorf("nothing can be sent to a contact of sort %q on %s", sort, c.Channel.Kind)
}

type messengerRequest struct {
	Recipient messengerRecipient `json:"recipient"`
	Type      string             `json:"messaging_type,omitempty"`
	Message   messengerText      `json:"message"`
}

type messengerRecipient struct {
	ID      string `json:"id,omitempty"`
	UserRef string `json:"user_ref,omitempty"`
}

type messengerText struct {
	Text         string                `json:"text"`
	QuickReplies []messengerQuickReply `json:"quick_replies,omitempty"`
	Metadata     string                `json:"metadata,omitempty"`
}

type messengerQuickReply struct {
	ContentType string `json:"content_type"`
	Title       string `json:"title"`
	Payload     string `json:"payload"`
}

func messengerSend(o *parley.Outgoing) (*messengerRequest, error) {
	r := &messengerRequest{Type: "RESPONSE"}
	switch sort, id := o.Conversation.Contact.Split(); sort {
	case parley.UserKey:
		r.Recipient.ID = id
	case parley.UserRefKey:
		r.Recipient.UserRef = id
	default:
		return nil, notAddressable(o.Conversation)
	}
	if err := within("MaxMessengerText", characters(o.Send.Text), MaxMessengerText); err != nil {
		return nil, err
	}
	var err error
	r.Message, err = quickReplies(o)
	r.Message.Metadata = o.ID.String()
	return r, err
}

// instagramSend has no metadata: Instagram does not know it.
func instagramSend(o *parley.Outgoing) (*messengerRequest, error) {
	sort, id := o.Conversation.Contact.Split()
	if sort != parley.UserKey {
		return nil, notAddressable(o.Conversation)
	}
	if err := within("MaxInstagramText", len(o.Send.Text), MaxInstagramText); err != nil {
		return nil, err
	}
	r := &messengerRequest{Recipient: messengerRecipient{ID: id}}
	var err error
	r.Message, err = quickReplies(o)
	return r, err
}

func quickReplies(o *parley.Outgoing) (messengerText, error) {
	m := messengerText{Text: o.Send.Text}
	if err := within("MaxMessengerQuickReplies", len(o.Send.QuickReplies), MaxMessengerQuickReplies); err != nil {
		return m, err
	}
	for _, q := range o.Send.QuickReplies {
		title, payload := q.Title, payloadOf(q)
		if err := within("MaxMessengerTitle", characters(title), MaxMessengerTitle); err != nil {
			return m, err
		}
		if err := within("MaxMessengerPayload", characters(payload), MaxMessengerPayload); err != nil {
			return m, err
		}
		m.QuickReplies = append(m.QuickReplies, messengerQuickReply{ContentType: "text", Title: title, Payload: payload})
	}
	return m, nil
}

type whatsAppRequest struct {
	Product       string               `json:"messaging_product"`
	RecipientType string               `json:"recipient_type"`
	To            string               `json:"to,omitempty"`
	Recipient     string               `json:"recipient,omitempty"`
	Type          string               `json:"type"`
	Text          *waText              `json:"text,omitempty"`
	Interactive   *whatsAppInteractive `json:"interactive,omitempty"`
	Opaque        string               `json:"biz_opaque_callback_data"`
}

type whatsAppInteractive struct {
	Type   string         `json:"type"`
	Body   whatsAppBody   `json:"body"`
	Action whatsAppAction `json:"action"`
}

type whatsAppBody struct {
	Text string `json:"text"`
}

type whatsAppAction struct {
	Button   string            `json:"button,omitempty"`
	Buttons  []whatsAppButton  `json:"buttons,omitempty"`
	Sections []whatsAppSection `json:"sections,omitempty"`
}

type whatsAppButton struct {
	Type  string        `json:"type"`
	Reply whatsAppReply `json:"reply"`
}

type whatsAppSection struct {
	Rows []whatsAppReply `json:"rows"`
}

type whatsAppReply struct {
	ID    string `json:"id"`
	Title string `json:"title"`
}

// whatsAppSend addresses a phone number by to and a business-scoped user id by
// recipient. A user id in to is answered like a success and never delivered
// (github.com/chatwoot/chatwoot/pull/15150).
func whatsAppSend(o *parley.Outgoing, s Sending) (*whatsAppRequest, error) {
	r := &whatsAppRequest{Product: "whatsapp", RecipientType: "individual", Opaque: o.ID.String()}
	switch sort, id := o.Conversation.Contact.Split(); sort {
	case parley.PhoneKey:
		r.To = id
	case parley.BSUIDKey:
		r.Recipient = id
	case parley.GroupKey:
		r.To, r.RecipientType = id, "group"
	default:
		return nil, notAddressable(o.Conversation)
	}
	var err error
	switch n := len(o.Send.QuickReplies); {
	case n == 0:
		r.Type, r.Text = "text", &waText{Body: o.Send.Text}
		err = within("MaxWhatsAppText", characters(o.Send.Text), MaxWhatsAppText)
	case n <= MaxWhatsAppButtons:
		r.Type = "interactive"
		r.Interactive, err = whatsAppButtons(o.Send)
	default:
		r.Type = "interactive"
		r.Interactive, err = whatsAppList(o.Send, s.ListLabel)
	}
	return r, err
}

func whatsAppButtons(send parley.Send) (*whatsAppInteractive, error) {
	in := &whatsAppInteractive{Type: "button", Body: whatsAppBody{Text: send.Text}}
	if err := within("MaxWhatsAppButtonBody", characters(send.Text), MaxWhatsAppButtonBody); err != nil {
		return nil, err
	}
	for _, q := range send.QuickReplies {
		reply := whatsAppReply{ID: payloadOf(q), Title: q.Title}
		if err := within("MaxWhatsAppButton", characters(reply.Title), MaxWhatsAppButton); err != nil {
			return nil, err
		}
		if err := within("MaxWhatsAppButtonID", characters(reply.ID), MaxWhatsAppButtonID); err != nil {
			return nil, err
		}
		in.Action.Buttons = append(in.Action.Buttons, whatsAppButton{Type: "reply", Reply: reply})
	}
	return in, nil
}

func whatsAppList(send parley.Send, label string) (*whatsAppInteractive, error) {
	if label == "" {
		label = DefaultListLabel
	}
	in := &whatsAppInteractive{Type: "list", Body: whatsAppBody{Text: send.Text}}
	in.Action = whatsAppAction{Button: label, Sections: []whatsAppSection{{}}}
	for _, limit := range []struct {
		name      string
		have, max int
	}{
		{"MaxWhatsAppRows", len(send.QuickReplies), MaxWhatsAppRows},
		{"MaxWhatsAppListBody", characters(send.Text), MaxWhatsAppListBody},
		{"MaxWhatsAppListLabel", characters(label), MaxWhatsAppListLabel},
	} {
		if err := within(limit.name, limit.have, limit.max); err != nil {
			return nil, err
		}
	}
	rows := &in.Action.Sections[0].Rows
	for _, q := range send.QuickReplies {
		row := whatsAppReply{ID: payloadOf(q), Title: q.Title}
		if err := within("MaxWhatsAppRow", characters(row.Title), MaxWhatsAppRow); err != nil {
			return nil, err
		}
		if err := within("MaxWhatsAppRowID", characters(row.ID), MaxWhatsAppRowID); err != nil {
			return nil, err
		}
		*rows = append(*rows, row)
	}
	return in, nil
}

// payloadOf is what comes back when the reply is chosen: all platforms want
// something there.
func payloadOf(q parley.QuickReply) string {
	if q.Payload == "" {
		return q.Title
	}
	return q.Payload
}

func characters(s string) int { return utf8.RuneCountInString(s) }

func within(limit string, have, most int) error {
	if have > most {
		return &LimitError{Limit: limit, Have: have, Max: most}
	}
	return nil
}
