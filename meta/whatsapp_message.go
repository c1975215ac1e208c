package meta

import (
	"cmp"
	"slices"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

func (d *decoder) waMessage(u *update, p *people) error {
	var m waMessage
	if err := decodeStrictly(u.raw, &m); err != nil {
		return err
	}
	who, err := m.contacts(d, p)
	if err != nil {
		return err
	}
	if u.field == "history" { // long past: to be known, not to be answered
		return d.historic(u, who, &m)
	}
	e := parley.Event{Time: parseTime(m.Timestamp), Input: m.input(who)}
	if e.Input == nil {
		return d.unknownAt(u, who, m.Type, e.Time)
	}
	switch in := e.Input.(type) {
	case parley.Message:
		if m.GroupID != "" {
			in.From, who = recipient(who), []parley.Contact{parley.GroupKey + parley.Contact(m.GroupID)}
			e.Input = in
		}
	case parley.ContactChanged:
		who = union(in.Now, who)
	default:
		if m.GroupID != "" {
			who = []parley.Contact{parley.GroupKey + parley.Contact(m.GroupID)}
		}
	}
	if e.Key, err = m.key(u, e.Input); err != nil {
		return err
	}
	return d.event(u, who, e)
}

// contacts are the author's keys.
func (m *waMessage) contacts(d *decoder, p *people) ([]parley.Contact, error) {
	who := waParty{phone: m.From, userID: m.FromUserID}
	if who == (waParty{}) && m.System != nil { // has no from and no contacts
		return (waParty{phone: m.System.Value.Phone, userID: m.System.Value.UserID}).orSubject("messages"), nil
	}
	return d.userOr(p, who, "messages")
}

func (w waParty) orSubject(name string) []parley.Contact {
	if w == (waParty{}) {
		return subject(name)
	}
	return w.contacts()
}

// union are the keys of both, without subjects unless there is nothing else,
// and no more than an event may have.
func union(a, b []parley.Contact) []parley.Contact {
	out := slices.Clone(a)
	for _, c := range b {
		sort, _ := c.Split()
		if !slices.Contains(out, c) && (sort != parley.SubjectKey || len(out) == 0) && len(out) < parley.MaxContacts {
			out = append(out, c)
		}
	}
	return out
}

// key is the message's id with what happened. A message that could not be
// passed on may come again, under its id, when it can.
func (m *waMessage) key(u *update, in parley.Input) (parley.EventKey, error) {
	if m.ID == "" {
		return u.contentKey(in.Kind())
	}
	discriminator := ""
	switch m.kind() {
	case "unsupported", "unknown":
		discriminator = m.unsupported()
	case "edit":
		discriminator = string(m.Edit.Original) + " " + string(m.Timestamp)
	case "reaction":
		discriminator = string(m.Reaction.MessageID) + " " + m.Reaction.Emoji
	}
	return u.key(in.Kind(), string(m.ID), discriminator), nil
}

// input is nil if the type isn't known.
func (m *waMessage) input(who []parley.Contact) parley.Input {
	switch m.kind() {
	case "reaction":
		return parley.Reaction{
			MessageID: string(m.Reaction.MessageID), Emoji: m.Reaction.Emoji, Removed: m.Reaction.Emoji == "",
		}
	case "edit":
		return parley.Edited{ID: string(m.Edit.Original), Text: m.Edit.Message.text()}
	case "revoke":
		return parley.Deleted{ID: string(m.Revoke.Original)}
	case "system":
		return m.System.Value.input(m.System.Raw, who)
	case "":
		return nil
	}
	return m.message()
}

// kind is the type, if the content is there that it calls for; empty if it is
// none that is known.
func (m *waMessage) kind() string {
	known := false
	switch m.Type {
	case "reaction":
		known = m.Reaction != nil
	case "edit":
		known = m.Edit != nil
	case "revoke":
		known = m.Revoke != nil
	case "system":
		known = m.System != nil
	case "text":
		known = m.Text != nil
	case "image", "video", "audio", "voice", "document", "sticker":
		known = m.media() != nil
	case "location":
		known = m.Location != nil
	case "button":
		known = m.Button != nil
	case "interactive":
		known = m.Interactive != nil
	case "order":
		known = m.Order != nil
	case "contacts", "unsupported", "unknown":
		known = true
	}
	if !known {
		return ""
	}
	return m.Type
}

func (m *waMessage) media() *waMedia {
	switch m.Type {
	case "image":
		return m.Image
	case "video":
		return m.Video
	case "audio":
		return m.Audio
	case "voice":
		return m.Voice
	case "document":
		return m.Document
	case "sticker":
		return m.Sticker
	}
	return nil
}

func (m *waMessage) message() parley.Message {
	in := parley.Message{ID: string(m.ID), Extra: []byte(m.Rest)}
	if m.Text != nil {
		in.Text = m.Text.Body
	}
	if a := m.media(); a != nil {
		in.Attachments = []parley.Attachment{a.input(m.Type)}
	}
	if m.Type == "unsupported" || m.Type == "unknown" {
		in.Unsupported = m.unsupported()
	}
	m.addAnswer(&in)
	m.addPlace(&in)
	m.addContext(&in)
	return in
}

// unsupported names what could not be passed on.
func (m *waMessage) unsupported() string {
	if m.Unsupported == nil {
		return m.Type
	}
	return cmp.Or(m.Unsupported.Type, m.Type)
}

func (a *waMedia) input(kind string) parley.Attachment {
	return parley.Attachment{
		Type: kind, URL: a.URL, ID: string(a.ID), MIME: a.MIME, SHA256: a.SHA256, Caption: a.Caption, Name: a.Filename,
		Raw: []byte(a.Rest),
	}
}

// addAnswer adds what was chosen or filled in.
func (m *waMessage) addAnswer(in *parley.Message) {
	if m.Button != nil {
		in.Text, in.Payload = m.Button.Text, m.Button.Payload
	}
	if m.Order != nil {
		in.Text, in.Extra = m.Order.Value.Text, joinObjects(in.Extra, member("order", m.Order.Raw))
	}
	if m.Interactive == nil {
		return
	}
	x := &m.Interactive.Value
	switch reply := cmp.Or(x.Button, x.List); {
	case reply != nil:
		in.Text, in.Payload = reply.Title, string(reply.ID)
		return
	case x.Form != nil:
		in.Text = x.Form.Body
	}
	in.Extra = joinObjects(in.Extra, member("interactive", m.Interactive.Raw))
}

func (m *waMessage) addPlace(in *parley.Message) {
	if m.Location == nil {
		return
	}
	l := &m.Location.Value
	placed := l.Latitude.known && l.Longitude.known
	if placed {
		in.Location = &parley.Location{
			Latitude: l.Latitude.value, Longitude: l.Longitude.value, Name: l.Name, Address: l.Address,
		}
	}
	if !placed || l.URL != "" {
		in.Extra = joinObjects(in.Extra, member("location", m.Location.Raw))
	}
}

func (m *waMessage) addContext(in *parley.Message) {
	if c := m.Context; c != nil {
		if c.ID != "" {
			in.ReplyTo = &parley.ReplyTo{MessageID: string(c.ID)}
		}
		in.Forwarded = bool(c.Forwarded || c.FrequentlyForwarded)
		in.Extra = joinObjects(in.Extra, member("referred_product", c.Product))
	}
	if r := m.Referral; r != nil {
		in.Referral = &parley.Referral{
			Ref: r.Value.ClickID, Source: r.Value.SourceType, AdID: string(r.Value.SourceID), Raw: []byte(r.Raw),
		}
	}
}

// text is what an edit left to read.
func (c *waContent) text() string {
	if c == nil {
		return ""
	}
	if c.Text != nil {
		return c.Text.Body
	}
	for _, a := range []*waMedia{c.Image, c.Video, c.Document} {
		if a != nil {
			return a.Caption
		}
	}
	return ""
}

// input tells a change of number or id from the other news about a user.
func (s *waSystem) input(raw jsontext.Value, who []parley.Contact) parley.Input {
	now := waParty{phone: cmp.Or(s.Phone, s.NewPhone), userID: s.UserID}
	switch s.Type {
	case "user_changed_number", "user_changed_user_id", "customer_changed_number":
		in := parley.ContactChanged{Now: now.contacts(), Raw: []byte(raw)}
		for _, c := range who {
			if sort, _ := c.Split(); sort != parley.SubjectKey && !slices.Contains(in.Now, c) {
				in.Was = append(in.Was, c)
			}
		}
		return in
	}
	return parley.Notice{Field: "system", Event: s.Type, Raw: []byte(raw)}
}

// historic is a message from before the number came to the platform.
func (d *decoder) historic(u *update, who []parley.Contact, m *waMessage) error {
	key, err := u.contentKey("history")
	if err != nil {
		return err
	}
	return d.event(u, who, parley.Event{Key: key, Time: parseTime(m.Timestamp), Input: parley.Notice{
		Field: u.field, Event: m.Type, Raw: u.keep(),
	}})
}

// waEcho decodes what the business sent from its phone app.
func (d *decoder) waEcho(u *update, p *people) error {
	var m waMessage
	if err := decodeStrictly(u.raw, &m); err != nil {
		return err
	}
	who, err := d.userOr(p, waParty{phone: m.To, userID: m.ToUserID}, "message_echoes")
	if err != nil {
		return err
	}
	in := parley.Echo{ID: string(m.ID), Phone: true}
	if m.Text != nil {
		in.Text = m.Text.Body
	}
	if a := m.media(); a != nil {
		in.Attachments = []parley.Attachment{a.input(m.Type)}
	}
	e := parley.Event{Key: u.key("echo", string(m.ID)), Time: parseTime(m.Timestamp), Input: in}
	if m.ID == "" {
		if e.Key, err = u.contentKey("echo"); err != nil {
			return err
		}
	}
	return d.event(u, who, e)
}
