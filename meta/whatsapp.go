package meta

import (
	"cmp"
	"errors"
	"strings"

	"github.com/parleychat/parley"
)

// whatsApp decodes a WhatsApp change, or one element of a list in its value.
func (d *decoder) whatsApp(u update, it item) error {
	c := &d.changes[it.change]
	field, err := fieldName(c)
	if err != nil {
		return err
	}
	u.field = field
	p := d.peopleOf(c)
	switch it.list {
	case "messages":
		return d.waMessage(&u, p)
	case "statuses":
		if u.field == "calls" {
			return d.callStatus(&u, p)
		}
		return d.waStatus(&u, p)
	case "message_echoes":
		return d.waEcho(&u, p)
	case "calls":
		return d.waCall(&u, p)
	case "user_preferences":
		return d.preference(&u, p)
	case "user_id_update":
		return d.userIDUpdate(&u, p)
	case "history", "errors", "groups", "state_sync", "automatic_events":
		return d.listed(&u, it.list)
	}
	value := c.value
	if c.listed > 0 {
		value = restOfValue(c)
		u.raw = rebuildChange(c, value)
	}
	return d.account(&u, value)
}

type waStatus struct {
	ID              text      `json:"id"`
	Status          string    `json:"status"`
	Timestamp       text      `json:"timestamp"`
	RecipientID     text      `json:"recipient_id"`
	RecipientUserID text      `json:"recipient_user_id"`
	RecipientType   string    `json:"recipient_type"`
	Opaque          text      `json:"biz_opaque_callback_data"`
	Errors          []waError `json:"errors"`
}

type waError struct {
	Code    count  `json:"code"`
	Title   string `json:"title"`
	Message string `json:"message"`
	Data    *struct {
		Details string `json:"details"`
	} `json:"error_data"`
}

// reason is what the provider says, the most precise words first.
func (e *waError) reason() string {
	title := cmp.Or(e.Title, e.Message)
	if e.Data == nil || e.Data.Details == "" || e.Data.Details == title {
		return title
	}
	if title == "" {
		return e.Data.Details
	}
	return title + ": " + e.Data.Details
}

func (d *decoder) waStatus(u *update, p *people) error {
	var s waStatus
	if err := decodeStrictly(u.raw, &s); err != nil {
		return err
	}
	if s.ID == "" || s.Status == "" {
		return errors.New("id or status: missing")
	}
	who, err := s.recipient(p)
	if err != nil {
		return err
	}
	r := parley.Receipt{
		Status: parley.Status(s.Status), ProviderID: string(s.ID), Row: rowID(string(s.Opaque)),
		Contact: who, Time: parseTime(s.Timestamp),
	}
	if len(s.Errors) > 0 {
		r.Code, r.Reason = int(s.Errors[0].Code), clipReason(s.Errors[0].reason())
	}
	return d.receipt(u, r)
}

// recipient is to whom the message went: a group as a whole, even if the status
// is about one participant.
func (s *waStatus) recipient(p *people) (parley.Contact, error) {
	if s.RecipientType == "group" {
		return parley.GroupKey + parley.Contact(s.RecipientID), nil
	}
	keys, err := p.keys(waParty{phone: s.RecipientID, userID: s.RecipientUserID})
	if err != nil || len(keys) == 0 {
		return "", err
	}
	return keys[0], nil
}

type waCall struct {
	ID         text   `json:"id"`
	CallID     text   `json:"wacid"` // seen in the field messages
	From       text   `json:"from"`
	FromUserID text   `json:"from_user_id"`
	To         text   `json:"to"`
	ToUserID   text   `json:"to_user_id"`
	Event      string `json:"event"`
	Status     string `json:"status"`
	Direction  text   `json:"direction"`
	Timestamp  text   `json:"timestamp"`
}

func (d *decoder) waCall(u *update, p *people) error {
	var c waCall
	if err := decodeStrictly(u.raw, &c); err != nil {
		return err
	}
	names := parties{From: c.From, FromUserID: c.FromUserID, To: c.To, ToUserID: c.ToUserID, Direction: c.Direction}
	who, err := d.userOr(p, names.user("calls"), "calls")
	if err != nil {
		return err
	}
	id := string(cmp.Or(c.ID, c.CallID))
	e := parley.Event{Time: parseTime(c.Timestamp), Input: parley.PhoneCall{
		ID: id, Event: c.Event, Direction: string(c.Direction), Raw: u.keep(),
	}}
	if e.Key = u.key("call", id, c.Event, c.Status, string(c.Timestamp)); id == "" {
		if e.Key, err = u.contentKey("call"); err != nil {
			return err
		}
	}
	return d.event(u, who, e)
}

// callStatus is a status in the field calls: of a call, not of a message.
func (d *decoder) callStatus(u *update, p *people) error {
	var s waStatus
	if err := decodeStrictly(u.raw, &s); err != nil {
		return err
	}
	who, err := d.userOr(p, waParty{phone: s.RecipientID, userID: s.RecipientUserID}, "calls")
	if err != nil {
		return err
	}
	return d.event(u, who, parley.Event{
		Key: u.key("call", string(s.ID), "status", s.Status, string(s.Timestamp)), Time: parseTime(s.Timestamp),
		Input: parley.PhoneCall{ID: string(s.ID), Event: s.Status, Direction: businessCalls, Raw: u.keep()},
	})
}

// userOr is the user, or the subject if no user is named.
func (d *decoder) userOr(p *people, who waParty, name string) ([]parley.Contact, error) {
	keys, err := p.keys(who)
	if err == nil && len(keys) == 0 {
		keys = subject(name)
	}
	return keys, err
}

func (d *decoder) preference(u *update, p *people) error {
	var x struct {
		Phone     text   `json:"wa_id"`
		UserID    text   `json:"user_id"`
		Category  string `json:"category"`
		Value     string `json:"value"`
		Detail    string `json:"detail"`
		Timestamp text   `json:"timestamp"`
	}
	if err := decodeStrictly(u.raw, &x); err != nil {
		return err
	}
	who, err := d.userOr(p, waParty{phone: x.Phone, userID: x.UserID}, u.field)
	if err != nil {
		return err
	}
	key, err := u.contentKey("preference")
	if err != nil {
		return err
	}
	return d.event(u, who, parley.Event{
		Key: key, Time: parseTime(x.Timestamp),
		Input: parley.Preference{Category: x.Category, Value: x.Value, Detail: x.Detail},
	})
}

// userIDUpdate says that a user's business-scoped id changed. The event is
// addressed by both: they mean the same person, and ids are never given again.
func (d *decoder) userIDUpdate(u *update, p *people) error {
	var x struct {
		Phone  text `json:"wa_id"`
		UserID struct {
			Previous text `json:"previous"`
			Current  text `json:"current"`
		} `json:"user_id"`
		Timestamp text `json:"timestamp"`
	}
	if err := decodeStrictly(u.raw, &x); err != nil {
		return err
	}
	who, err := d.userOr(p, waParty{phone: x.Phone, userID: x.UserID.Current}, u.field)
	if err != nil {
		return err
	}
	in := parley.ContactChanged{Now: waParty{userID: x.UserID.Current}.contacts(), Raw: u.keep()}
	if in.Was = (waParty{userID: x.UserID.Previous}).contacts(); in.Was != nil {
		who = union(who, in.Was)
	}
	key, err := u.contentKey("contact_changed")
	if err != nil {
		return err
	}
	return d.event(u, who, parley.Event{Key: key, Time: parseTime(x.Timestamp), Input: in})
}

// listed is an element of which a bot needs to know that it came.
func (d *decoder) listed(u *update, list string) error {
	var x struct {
		GroupID   text `json:"group_id"`
		Type      text `json:"type"`
		Action    text `json:"action"`     // state_sync
		EventName text `json:"event_name"` // automatic_events
		Timestamp text `json:"timestamp"`
	}
	if err := decodeStrictly(u.raw, &x); err != nil {
		return err
	}
	who := subject(cmp.Or(u.field, list))
	if list == "groups" && x.GroupID != "" {
		who = []parley.Contact{parley.GroupKey + parley.Contact(x.GroupID)}
	}
	key, err := u.contentKey("notice " + list)
	if err != nil {
		return err
	}
	event := string(cmp.Or(x.Action, x.EventName, x.Type))
	if list == "errors" {
		event = "error"
	}
	return d.event(u, who, parley.Event{
		Key: key, Time: parseTime(x.Timestamp),
		Input: parley.Notice{Field: cmp.Or(u.field, list), Event: event, Raw: u.keep()},
	})
}

// account decodes a change that is about the account, a number or a template.
func (d *decoder) account(u *update, value []byte) error {
	if !knownField(u.field) || value == nil {
		return d.unknown(u, subject(u.field), "")
	}
	var x struct {
		TemplateID    text `json:"message_template_id"`
		DisplayNumber text `json:"display_phone_number"`
		Number        text `json:"phone_number"`
		Event         text `json:"event"`
		Decision      text `json:"decision"`
		Status        text `json:"status"`
	}
	if err := decodeStrictly(value, &x); err != nil {
		return at("value", err)
	}
	who := subject(u.field)
	if number := cmp.Or(x.DisplayNumber, x.Number); x.TemplateID != "" {
		who = []parley.Contact{parley.TemplateKey + parley.Contact(x.TemplateID)}
	} else if number != "" {
		who = []parley.Contact{parley.NumberKey + parley.Contact(digits(number))}
	}
	key, err := u.contentKey("notice")
	if err != nil {
		return err
	}
	return d.event(u, who, parley.Event{Key: key, Input: parley.Notice{
		Field: u.field, Event: string(cmp.Or(x.Event, x.Decision, x.Status)), Raw: append([]byte(nil), value...),
	}})
}

// knownField tells the documented fields of whatsapp_business_account.
func knownField(field string) bool {
	switch field {
	case "messages", "account_alerts", "account_review_update", "account_update", "automatic_events",
		"business_capability_update", "history", "message_template_components_update",
		"message_template_quality_update", "message_template_status_update", "partner_solutions",
		"payment_configuration_update", "phone_number_name_update", "phone_number_quality_update", "security",
		"smb_app_state_sync", "smb_message_echoes", "template_category_update", "user_preferences", "calls",
		"business_username_update", "user_id_update", "account_settings_update", "flows":
		return true
	}
	return strings.HasPrefix(field, "group_") && strings.HasSuffix(field, "_update")
}

// clipReason keeps a reason's first words.
func clipReason(s string) string {
	if len(s) <= parley.MaxCauseBytes {
		return s
	}
	return strings.ToValidUTF8(s[:parley.MaxCauseBytes], "")
}
