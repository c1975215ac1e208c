package meta

import (
	"strconv"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// event makes a messaging update an event. Its Input is nil if the update is of
// no kind that is known.
func (m *messagingUpdate) event(u *update, kind string) (parley.Event, error) {
	e := parley.Event{Time: parseTime(m.Timestamp)}
	if m.Message != nil {
		m.message(u, &e)
	} else if !m.named(u, &e) {
		if err := m.nameless(u, &e, kind); err != nil || e.Input == nil {
			return e, err
		}
	}
	var err error
	if e.Key == (parley.EventKey{}) {
		e.Key, err = u.contentKey(e.Input.Kind())
	}
	return e, err
}

// message decodes what has the member message: also echoes and withdrawals.
func (m *messagingUpdate) message(u *update, e *parley.Event) {
	msg := m.Message
	id, discriminator := string(msg.MID), ""
	switch {
	case bool(msg.IsEcho):
		e.Input = m.echo()
	case bool(msg.IsDeleted):
		e.Input = parley.Deleted{ID: id}
	default:
		in := msg.input()
		in.Extra = joinObjects(in.Extra, m.Rest)
		e.Input, discriminator = in, in.Unsupported
	}
	if id != "" {
		e.Key = u.key(e.Input.Kind(), id, discriminator)
	}
}

// named are the kinds that refer to a mid.
func (m *messagingUpdate) named(u *update, e *parley.Event) bool {
	at := string(m.Timestamp)
	switch {
	case m.Edit != nil:
		x := m.Edit
		e.Input = parley.Edited{ID: string(x.MID), Text: x.Text, Edits: int(x.Edits)}
		if x.Edits > 0 {
			at = "" // the number of edits identifies the edit
		}
		if x.MID != "" {
			e.Key = u.key("edited", string(x.MID), strconv.Itoa(int(x.Edits)), at)
		}
	case m.Postback != nil:
		x := m.Postback
		e.Input = parley.Postback{ID: string(x.MID), Title: x.Title, Payload: x.Payload, Referral: referralInput(x.Referral)}
		if x.MID != "" {
			e.Key = u.key("postback", string(x.MID), x.Payload, at)
		}
	case m.Reaction != nil:
		x := m.Reaction
		e.Input = parley.Reaction{
			MessageID: string(x.MID), Emoji: x.Emoji, Name: x.Reaction, Removed: x.Action == "unreact",
		}
		if x.MID != "" {
			e.Key = u.key("reaction", string(x.MID), string(m.Sender.ID), x.Action, x.Emoji, x.Reaction, at)
		}
	default:
		return false
	}
	return true
}

// nameless are the kinds that refer to no message.
func (m *messagingUpdate) nameless(u *update, e *parley.Event, kind string) error {
	switch {
	case m.OptIn != nil:
		x := m.OptIn.Value
		e.Input = parley.OptIn{
			Type: x.Type, Ref: x.Ref, Payload: x.Payload, Status: x.Status, Raw: []byte(m.OptIn.Raw),
		}
	case m.Referral != nil:
		e.Input = parley.Referred{Referral: *referralInput(m.Referral)}
	case m.Link != nil:
		e.Input = parley.AccountLink{Status: m.Link.Status, AuthorizationCode: m.Link.AuthorizationCode}
	case m.Pass != nil:
		e.Input = threadControl("pass", m.Pass)
	case m.Take != nil:
		e.Input = threadControl("take", m.Take)
	case m.Request != nil:
		e.Input = threadControl("request", m.Request)
	default:
		return m.rest(u, e, kind)
	}
	return nil
}

// rest are the kinds of which only the name is known.
func (m *messagingUpdate) rest(u *update, e *parley.Event, kind string) error {
	switch kind {
	case "app_roles":
		var r struct {
			Roles jsontext.Value `json:"app_roles"`
		}
		if err := decodeStrictly(m.Rest, &r); err != nil {
			return err
		}
		e.Input = parley.ThreadControl{Action: "roles", Raw: []byte(r.Roles)}
	case "policy_enforcement", "messaging_feedback", "response_feedback", "game_play", "payment", "pre_checkout", "checkout_update",
		"prior_message", "send_cart", "message_context":
		e.Input = parley.Notice{Field: kind, Raw: u.keep()}
	}
	return nil
}

func threadControl(action string, h *kept[handover]) parley.ThreadControl {
	to := h.Value.New
	if action == "request" {
		to = h.Value.Requested
	}
	return parley.ThreadControl{
		Action: action, From: string(h.Value.Previous), To: string(to),
		Metadata: string(h.Value.Metadata), Raw: []byte(h.Raw),
	}
}

// referralInput is nil without a referral.
func referralInput(r *kept[referral]) *parley.Referral {
	if r == nil {
		return nil
	}
	return &parley.Referral{
		Ref: r.Value.Ref, Source: r.Value.Source, Type: r.Value.Type, AdID: string(r.Value.AdID), Raw: []byte(r.Raw),
	}
}

func (m *messagingUpdate) echo() parley.Echo {
	msg := m.Message
	attachments, _ := attachmentInputs(msg.Attachments)
	return parley.Echo{ID: string(msg.MID), App: string(msg.AppID), Text: msg.Text, Attachments: attachments}
}

func (m *messengerMessage) input() parley.Message {
	in := parley.Message{
		ID: string(m.MID), Text: m.Text, Referral: referralInput(m.Referral), Extra: []byte(m.Rest),
	}
	if m.QuickReply != nil {
		in.Payload = m.QuickReply.Payload
	}
	if m.IsUnsupported {
		in.Unsupported = "unsupported_type"
	}
	if r := m.ReplyTo; r != nil {
		in.ReplyTo = &parley.ReplyTo{MessageID: string(r.MID)}
		if r.Story != nil {
			in.ReplyTo.StoryID, in.ReplyTo.StoryURL = string(r.Story.ID), r.Story.URL
		}
	}
	in.Attachments, in.Location = attachmentInputs(m.Attachments)
	return in
}

// attachmentInputs are the attachments of a message, without the place that it
// shares.
func attachmentInputs(as []messengerAttachment) ([]parley.Attachment, *parley.Location) {
	var out []parley.Attachment
	var place *parley.Location
	for _, a := range as {
		in := parley.Attachment{Type: a.Type, Name: a.Title, URL: a.URL}
		var p struct {
			URL         string `json:"url"`
			Coordinates struct {
				Latitude  degrees `json:"lat"`
				Longitude degrees `json:"long"`
			} `json:"coordinates"`
			Rest jsontext.Value `json:",embed"`
		}
		// A payload of another form is kept as it is: there are many.
		if err := decodeStrictly(a.Payload, &p); err != nil || len(p.Rest) > 0 {
			in.Raw = rawOrNil(a.Payload)
		}
		if p.URL != "" {
			in.URL = p.URL
		}
		if c := p.Coordinates; c.Latitude.known && c.Longitude.known && place == nil {
			place = &parley.Location{Latitude: c.Latitude.value, Longitude: c.Longitude.value, Name: a.Title}
			continue
		}
		out = append(out, in)
	}
	return out, place
}

// rawOrNil is nil for what says nothing.
func rawOrNil(v jsontext.Value) []byte {
	if len(v) == 0 || v.Kind() == 'n' {
		return nil
	}
	return []byte(v)
}
