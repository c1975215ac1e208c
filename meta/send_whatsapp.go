package meta

import (
	"cmp"

	"github.com/parleychat/parley"
)

// whatsAppRequest is a send of WhatsApp: a message of the type that Type says,
// or a status and nothing else.
type whatsAppRequest struct {
	Product       string               `json:"messaging_product"`
	RecipientType string               `json:"recipient_type,omitempty"`
	To            string               `json:"to,omitempty"`
	Recipient     string               `json:"recipient,omitempty"`
	Context       *whatsAppContext     `json:"context,omitempty"`
	Type          string               `json:"type,omitempty"`
	Text          *whatsAppText        `json:"text,omitempty"`
	Interactive   *whatsAppInteractive `json:"interactive,omitempty"`
	Image         *whatsAppMedia       `json:"image,omitempty"`
	Audio         *whatsAppMedia       `json:"audio,omitempty"`
	Video         *whatsAppMedia       `json:"video,omitempty"`
	Document      *whatsAppMedia       `json:"document,omitempty"`
	Sticker       *whatsAppMedia       `json:"sticker,omitempty"`
	Location      *whatsAppLocation    `json:"location,omitempty"`
	Template      *graphTemplate       `json:"template,omitempty"`
	Reaction      *whatsAppReaction    `json:"reaction,omitempty"`
	Status        string               `json:"status,omitempty"`
	MessageID     string               `json:"message_id,omitempty"`
	Typing        *whatsAppTyping      `json:"typing_indicator,omitempty"`
	Opaque        string               `json:"biz_opaque_callback_data,omitempty"`
}

type whatsAppContext struct {
	MessageID string `json:"message_id"`
}

type whatsAppText struct {
	Preview bool   `json:"preview_url,omitzero"`
	Body    string `json:"body"`
}

type whatsAppMedia struct {
	ID       string `json:"id,omitempty"`
	Link     string `json:"link,omitempty"`
	Caption  string `json:"caption,omitempty"`
	Filename string `json:"filename,omitempty"`
}

type whatsAppLocation struct {
	Latitude  float64 `json:"latitude"`
	Longitude float64 `json:"longitude"`
	Name      string  `json:"name,omitempty"`
	Address   string  `json:"address,omitempty"`
}

// whatsAppReaction has an empty emoji to remove one.
type whatsAppReaction struct {
	MessageID string `json:"message_id"`
	Emoji     string `json:"emoji"`
}

type whatsAppTyping struct {
	Type string `json:"type"`
}

// whatsAppSend addresses a phone number by to and a business-scoped user id by
// recipient. A user id in to is answered like a success and never delivered
// (github.com/chatwoot/chatwoot/pull/15150).
func whatsAppSend(o *parley.Outgoing, s Sending) (*whatsAppRequest, error) {
	if o.Send.Signal != nil {
		return whatsAppSignal(o.Send.Signal)
	}
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
	if o.Send.Private != nil {
		return nil, noneOnWhatsApp("private reply")
	}
	if o.Send.ReplyTo != "" {
		r.Context = &whatsAppContext{MessageID: o.Send.ReplyTo}
	}
	if err := r.fill(&o.Send, s); err != nil {
		return nil, err
	}
	return r, nil
}

func noneOnWhatsApp(what string) error { return &UnsupportedError{Kind: parley.WhatsApp, What: what} }

// whatsAppSignal marks a message, and those before it, as read. Typing comes
// with that.
func whatsAppSignal(x *parley.Signal) (*whatsAppRequest, error) {
	r := &whatsAppRequest{Product: "whatsapp", Status: "read", MessageID: x.MessageID}
	switch {
	case x.Kind == parley.TypingOff || x.OfThread():
		return nil, noneOnWhatsApp("signal " + string(x.Kind))
	case x.MessageID == "":
		return nil, noneOnWhatsApp("signal without the id of a message")
	case x.Kind == parley.Typing:
		r.Typing = &whatsAppTyping{Type: "text"}
	}
	return r, nil
}

// fill adds what is sent.
func (r *whatsAppRequest) fill(send *parley.Send, s Sending) (err error) {
	switch {
	case len(send.Cards) > 0:
		return noneOnWhatsApp("cards")
	case send.Media != nil:
		if len(send.QuickReplies) > 0 {
			return noneOnWhatsApp("quick replies with media")
		}
		return r.attach(send.Media)
	case send.Location != nil:
		r.Type, r.Location = "location", newLocation(send.Location)
	case send.Template != nil:
		r.Type = "template"
		r.Template, err = newTemplate(parley.WhatsApp, send.Template)
	case send.Reaction != nil:
		r.Type, r.Reaction = "reaction", &whatsAppReaction{MessageID: send.Reaction.MessageID, Emoji: send.Reaction.Emoji}
		if send.Reaction.Emoji == "" && !send.Reaction.Removed {
			return noneOnWhatsApp("reaction without an emoji")
		}
	case isInteractive(send):
		r.Type = "interactive"
		r.Interactive, err = newInteractive(send, s)
	default:
		r.Type, r.Text = "text", &whatsAppText{Body: send.Text, Preview: send.Preview}
		err = within(limit{"MaxWhatsAppText", characters(send.Text), MaxWhatsAppText})
	}
	return err
}

func (r *whatsAppRequest) attach(m *parley.Media) error {
	media := &whatsAppMedia{ID: m.ID, Link: m.URL, Caption: m.Caption, Filename: m.Name}
	r.Type = string(m.Kind)
	switch m.Kind {
	case parley.Image:
		r.Image = media
	case parley.Audio:
		r.Audio = media
	case parley.Video:
		r.Video = media
	case parley.Document:
		r.Document = media
	case parley.Sticker:
		r.Sticker = media
	default:
		return noneOnWhatsApp("media of kind " + string(m.Kind))
	}
	return within(limit{"MaxWhatsAppCaption", characters(m.Caption), MaxWhatsAppCaption})
}

func newLocation(l *parley.Location) *whatsAppLocation {
	return &whatsAppLocation{Latitude: l.Latitude, Longitude: l.Longitude, Name: l.Name, Address: l.Address}
}

// listLabel is on the button that opens a list.
func listLabel(l *parley.List, s Sending) string {
	if l == nil {
		return cmp.Or(s.ListLabel, DefaultListLabel)
	}
	return cmp.Or(l.Button, s.ListLabel, DefaultListLabel)
}
