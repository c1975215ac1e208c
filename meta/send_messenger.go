package meta

import (
	"cmp"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// messengerRequest is a send of Messenger or Instagram: a message, or an action
// and nothing else.
type messengerRequest struct {
	Recipient messengerRecipient  `json:"recipient"`
	Type      string              `json:"messaging_type,omitempty"`
	Tag       string              `json:"tag,omitempty"`
	ReplyTo   *messengerQuoted    `json:"reply_to,omitempty"`
	Message   *messengerContent   `json:"message,omitempty"`
	Action    string              `json:"sender_action,omitempty"`
	Payload   *messengerReactedTo `json:"payload,omitempty"`
	App       string              `json:"target_app_id,omitempty"`
}

type messengerRecipient struct {
	ID        string `json:"id,omitempty"`
	UserRef   string `json:"user_ref,omitempty"`
	CommentID string `json:"comment_id,omitempty"`
	PostID    string `json:"post_id,omitempty"`
}

type messengerQuoted struct {
	MID string `json:"mid"`
}

type messengerReactedTo struct {
	MessageID string `json:"message_id"`
	Reaction  string `json:"reaction,omitempty"`
}

type messengerContent struct {
	Text         string                `json:"text,omitempty"`
	Attachment   *messengerAttached    `json:"attachment,omitempty"`
	Template     *graphTemplate        `json:"template,omitempty"`
	QuickReplies []messengerQuickReply `json:"quick_replies,omitempty"`
	Metadata     string                `json:"metadata,omitempty"`
}

type messengerAttached struct {
	Type    string           `json:"type"`
	Payload messengerPayload `json:"payload"`
}

// messengerPayload is that of media or of a template that is shown.
type messengerPayload struct {
	URL          string            `json:"url,omitempty"`
	AttachmentID string            `json:"attachment_id,omitempty"`
	Reusable     bool              `json:"is_reusable,omitzero"`
	TemplateType string            `json:"template_type,omitempty"`
	Text         string            `json:"text,omitempty"`
	Buttons      []messengerButton `json:"buttons,omitempty"`
	Elements     []messengerCard   `json:"elements,omitempty"`
}

type messengerButton struct {
	Type    string `json:"type"`
	Title   string `json:"title,omitempty"`
	URL     string `json:"url,omitempty"`
	Payload string `json:"payload,omitempty"`
}

type messengerCard struct {
	Title    string            `json:"title"`
	Subtitle string            `json:"subtitle,omitempty"`
	ImageURL string            `json:"image_url,omitempty"`
	Default  *messengerButton  `json:"default_action,omitempty"`
	Buttons  []messengerButton `json:"buttons,omitempty"`
}

type messengerQuickReply struct {
	ContentType string `json:"content_type"`
	Title       string `json:"title"`
	Payload     string `json:"payload"`
}

// messagingSend is a send of Messenger or Instagram. Instagram knows neither
// metadata nor a messaging_type, but for the tag of a person.
func messagingSend(o *parley.Outgoing) (*messengerRequest, error) {
	send, kind := &o.Send, o.Conversation.Channel.Kind
	r := &messengerRequest{}
	var err error
	if r.Recipient, err = messagingRecipient(o); err != nil {
		return nil, err
	}
	switch {
	case send.Signal != nil && send.Signal.OfThread():
		r.App = send.Signal.App
		return r, nil
	case send.Signal != nil:
		r.Action = messagingAction(send.Signal.Kind)
		return r, nil
	case send.Reaction != nil:
		err = r.react(kind, send.Reaction)
		return r, err
	}
	if r.Message, err = messagingContent(kind, send); err != nil {
		return nil, err
	}
	if kind == parley.Messenger {
		r.Type, r.Message.Metadata = messagingType(send), o.ID.String()
	}
	if send.HumanAgent && send.Template == nil {
		r.Type, r.Tag = "MESSAGE_TAG", "HUMAN_AGENT"
	}
	if send.ReplyTo != "" {
		r.ReplyTo = &messengerQuoted{MID: send.ReplyTo}
	}
	return r, nil
}

func messagingRecipient(o *parley.Outgoing) (messengerRecipient, error) {
	kind := o.Conversation.Channel.Kind
	sort, id := o.Conversation.Contact.Split()
	switch p := o.Send.Private; {
	case p != nil && p.Comment != "":
		return messengerRecipient{CommentID: p.Comment}, nil
	case p != nil && kind == parley.Instagram:
		return messengerRecipient{}, &UnsupportedError{Kind: kind, What: "private reply to a post"}
	case p != nil:
		return messengerRecipient{PostID: p.Post}, nil
	case sort == parley.UserKey:
		return messengerRecipient{ID: id}, nil
	case sort == parley.UserRefKey && kind == parley.Messenger:
		return messengerRecipient{UserRef: id}, nil
	}
	return messengerRecipient{}, notAddressable(o.Conversation)
}

func messagingType(send *parley.Send) string {
	switch {
	case send.Template != nil:
		return "UTILITY"
	case send.Bulk:
		return "UPDATE"
	}
	return "RESPONSE"
}

func messagingAction(s parley.SignalKind) string {
	switch s {
	case parley.MarkRead:
		return "mark_seen"
	case parley.TypingOff:
		return "typing_off"
	case parley.Typing, parley.PassThread, parley.TakeThread:
	}
	return "typing_on"
}

// react has an emoji on Messenger (its page on sender actions), and on Instagram
// also a name.
func (r *messengerRequest) react(kind parley.ChannelKind, x *parley.Reaction) error {
	r.Action, r.Payload = "react", &messengerReactedTo{MessageID: x.MessageID, Reaction: x.Emoji}
	if kind == parley.Instagram {
		r.Payload.Reaction = cmp.Or(x.Name, x.Emoji)
	}
	switch {
	case x.Removed:
		r.Action, r.Payload.Reaction = "unreact", ""
	case r.Payload.Reaction == "":
		return &UnsupportedError{Kind: kind, What: "reaction without an emoji"}
	}
	return nil
}

func messagingContent(kind parley.ChannelKind, send *parley.Send) (m *messengerContent, err error) {
	m = &messengerContent{}
	switch {
	case send.Header != "" || send.Footer != "":
		return nil, &UnsupportedError{Kind: kind, What: "header or footer"}
	case len(send.QuickReplies) > 0 && send.Text == "" && kind == parley.Instagram:
		return nil, &UnsupportedError{Kind: kind, What: "quick replies without a text"}
	case len(send.Buttons) > 0:
		m.Attachment, err = messengerButtons(kind, send)
	case len(send.Cards) > 0:
		m.Attachment, err = messengerCards(send.Cards)
	case send.Media != nil:
		m.Attachment, err = messengerMedia(kind, send.Media)
	case send.Template != nil:
		m.Template, err = messengerTemplate(kind, send.Template)
	case send.List != nil, send.Flow != nil, send.AskLocation, send.Location != nil:
		return nil, &UnsupportedError{Kind: kind, What: send.Contents()[0]}
	default:
		m.Text, err = send.Text, messagingText(kind, send.Text)
	}
	if err == nil {
		m.QuickReplies, err = messengerQuickReplies(send.QuickReplies)
	}
	return m, err
}

func messagingText(kind parley.ChannelKind, s string) error {
	if kind == parley.Instagram {
		return within(limit{"MaxInstagramText", len(s), MaxInstagramText})
	}
	return within(limit{"MaxMessengerText", characters(s), MaxMessengerText})
}

func messengerQuickReplies(replies []parley.QuickReply) ([]messengerQuickReply, error) {
	if err := within(limit{"MaxMessengerQuickReplies", len(replies), MaxMessengerQuickReplies}); err != nil {
		return nil, err
	}
	var out []messengerQuickReply
	for _, q := range replies {
		payload := cmp.Or(q.Payload, q.Title)
		if err := messengerChoice(q.Title, payload); err != nil {
			return nil, err
		}
		out = append(out, messengerQuickReply{ContentType: "text", Title: q.Title, Payload: payload})
	}
	return out, nil
}

func messengerChoice(title, payload string) error {
	return within(
		limit{"MaxMessengerTitle", characters(title), MaxMessengerTitle},
		limit{"MaxMessengerPayload", characters(payload), MaxMessengerPayload},
	)
}

// messengerButtons is the button template. Instagram takes it, too, with a text
// that is a text's for it as well.
func messengerButtons(kind parley.ChannelKind, send *parley.Send) (*messengerAttached, error) {
	limits := []limit{{"MaxMessengerButtonText", characters(send.Text), MaxMessengerButtonText}}
	if kind == parley.Instagram {
		limits = append(limits, limit{"MaxInstagramText", len(send.Text), MaxInstagramText})
	}
	if err := within(limits...); err != nil {
		return nil, err
	}
	buttons, err := messengerButtonsOf(send.Buttons)
	return &messengerAttached{Type: "template", Payload: messengerPayload{
		TemplateType: "button", Text: send.Text, Buttons: buttons,
	}}, err
}

func messengerButtonsOf(buttons []parley.Button) ([]messengerButton, error) {
	if err := within(limit{"MaxMessengerButtons", len(buttons), MaxMessengerButtons}); err != nil {
		return nil, err
	}
	var out []messengerButton
	for _, b := range buttons {
		button := messengerButton{Type: "web_url", Title: b.Title, URL: b.URL}
		if b.URL == "" {
			button.Type, button.Payload = "postback", cmp.Or(b.Payload, b.Title)
		}
		if err := messengerChoice(button.Title, button.Payload); err != nil {
			return nil, err
		}
		out = append(out, button)
	}
	return out, nil
}

// messengerCards is the generic template.
func messengerCards(cards []parley.Card) (*messengerAttached, error) {
	if err := within(limit{"MaxMessengerCards", len(cards), MaxMessengerCards}); err != nil {
		return nil, err
	}
	p := messengerPayload{TemplateType: "generic"}
	for _, c := range cards {
		if err := within(
			limit{"MaxMessengerCardText", characters(c.Title), MaxMessengerCardText},
			limit{"MaxMessengerCardText", characters(c.Subtitle), MaxMessengerCardText},
		); err != nil {
			return nil, err
		}
		card := messengerCard{Title: c.Title, Subtitle: c.Subtitle, ImageURL: c.ImageURL}
		if c.URL != "" {
			card.Default = &messengerButton{Type: "web_url", URL: c.URL}
		}
		var err error
		if card.Buttons, err = messengerButtonsOf(c.Buttons); err != nil {
			return nil, err
		}
		p.Elements = append(p.Elements, card)
	}
	return &messengerAttached{Type: "template", Payload: p}, nil
}

func messengerMedia(kind parley.ChannelKind, m *parley.Media) (*messengerAttached, error) {
	if m.Caption != "" {
		return nil, &UnsupportedError{Kind: kind, What: "caption"}
	}
	name, err := messengerMediaType(kind, m.Kind)
	return &messengerAttached{Type: name, Payload: messengerPayload{URL: m.URL, AttachmentID: m.ID}}, err
}

func messengerMediaType(kind parley.ChannelKind, m parley.MediaKind) (string, error) {
	switch m {
	case parley.Image, parley.Audio, parley.Video:
		return string(m), nil
	case parley.Document:
		return "file", nil
	case parley.Sticker:
	}
	return "", &UnsupportedError{Kind: kind, What: "media of kind " + string(m)}
}

// graphTemplate is a template as WhatsApp has it, and Messenger for utility
// messages (its page of March 2026).
type graphTemplate struct {
	Name       string           `json:"name"`
	Language   graphLanguage    `json:"language"`
	Components []jsontext.Value `json:"components,omitempty"`
}

type graphLanguage struct {
	Code string `json:"code"`
}

func messengerTemplate(kind parley.ChannelKind, t *parley.Template) (*graphTemplate, error) {
	if kind != parley.Messenger || t.Category != parley.Utility {
		return nil, &UnsupportedError{Kind: kind, What: "template of category " + string(t.Category)}
	}
	return newTemplate(kind, t)
}
