package meta

import (
	"errors"
	"fmt"
	"strings"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// people are the contacts[] of one WhatsApp change: who its messages are from.
type people struct {
	change *change
	all    []waContact
	bad    error  // the first contact that can't be read
	badRaw []byte // as it came
	room   [1]waContact
}

type waContact struct {
	phone  text // digits
	userID text
	raw    []byte
}

// waParty is how an element names the user: by phone number, by business-scoped
// user id, by both, or by a user id in the place of the number.
type waParty struct {
	phone, userID text
}

// peopleOf are the people of a change. A contact that can't be read costs only
// the messages that don't say by themselves whom they are from.
func (d *decoder) peopleOf(c *change) *people {
	p := &d.known
	if p.change == c {
		return p
	}
	p.change, p.bad, p.badRaw, p.all = c, nil, nil, p.room[:0]
	for i := range d.people[c.from:c.to] {
		j := &d.people[c.from+i]
		one, err := j.read()
		switch {
		case err == nil:
			p.all = append(p.all, one)
		case p.bad == nil:
			p.bad, p.badRaw = at(fmt.Sprintf("value.contacts.%d", i), err), j.raw
		}
	}
	return p
}

func (j *contactJSON) read() (c waContact, err error) {
	c.raw = j.raw
	if k := jsontext.Value(j.raw).Kind(); k != '{' {
		return c, &shapeError{want: "an object", got: k}
	}
	if j.twice {
		return c, errors.New("wa_id or user_id: given twice")
	}
	if c.phone, err = scalar(j.phone); err != nil {
		return c, at("wa_id", err)
	}
	if c.userID, err = scalar(j.userID); err != nil {
		return c, at("user_id", err)
	}
	if !isUserID(c.phone) {
		c.phone = digits(c.phone)
	}
	return c, nil
}

// find is the contact that a party means; nil if none is. A contact that is
// alone is meant by an element that names nobody.
func (p *people) find(who waParty) *waContact {
	if who == (waParty{}) {
		if len(p.all) == 1 && p.bad == nil {
			return &p.all[0]
		}
		return nil
	}
	phone := digits(who.phone)
	for i := range p.all {
		c := &p.all[i]
		if c.userID != "" && (c.userID == who.userID || c.userID == who.phone) || c.phone != "" && c.phone == phone {
			return c
		}
	}
	return nil
}

// keys are the contact keys of a party, strongest first: an empty list if the
// element names nobody and nobody else does.
func (p *people) keys(who waParty) ([]parley.Contact, error) {
	if who == (waParty{}) && p.bad != nil {
		return nil, p.bad
	}
	if isUserID(who.phone) {
		if who.userID == "" {
			who.userID = who.phone
		}
		who.phone = ""
	}
	if c := p.find(who); c != nil {
		if who.userID == "" {
			who.userID = c.userID
		}
		if who.phone == "" && !isUserID(c.phone) {
			who.phone = c.phone
		}
	}
	return who.contacts(), nil
}

func (w waParty) contacts() []parley.Contact {
	if w == (waParty{}) {
		return nil
	}
	out := make([]parley.Contact, 0, 2)
	if w.userID != "" {
		out = append(out, parley.BSUIDKey+parley.Contact(w.userID))
	}
	if w.phone != "" {
		out = append(out, parley.PhoneKey+parley.Contact(digits(w.phone)))
	}
	return out
}

// ownOf is the JSON of the contact that an element of a list means, for a body
// of its own; nil if it means none.
func (p *people) ownOf(list string, element []byte) []byte {
	var names parties
	if decodeLoosely(element, &names) != nil {
		names = parties{} // of a wrong shape; so it will be again
	}
	if c := p.find(names.user(list)); c != nil {
		return c.raw
	}
	return p.badRaw // what may make the element faulty goes with it
}

// parties are all the names that the lists' elements have for their users.
type parties struct {
	From            text `json:"from"`
	FromUserID      text `json:"from_user_id"`
	To              text `json:"to"`
	ToUserID        text `json:"to_user_id"`
	Recipient       text `json:"recipient_id"`
	RecipientUserID text `json:"recipient_user_id"`
	Phone           text `json:"wa_id"`
	Direction       text `json:"direction"` // of a call
}

// businessCalls is the direction of a call that the business began.
const businessCalls = "BUSINESS_INITIATED"

// user is the party that isn't the business.
func (n *parties) user(list string) waParty {
	switch list {
	case "statuses":
		return waParty{phone: n.Recipient, userID: n.RecipientUserID}
	case "message_echoes":
		return waParty{phone: n.To, userID: n.ToUserID}
	case "calls":
		if n.Direction == businessCalls {
			return waParty{phone: n.To, userID: n.ToUserID}
		}
	case "user_preferences", "user_id_update":
		return waParty{phone: n.Phone}
	}
	return waParty{phone: n.From, userID: n.FromUserID}
}

// isUserID tells a business-scoped user id from a phone number: a country's two
// letters, a dot, letters and digits; US.ENT. begins a parent's.
func isUserID(t text) bool {
	const prefix = len("US.")
	if len(t) <= prefix || t[2] != '.' {
		return false
	}
	for i := range len(t) {
		c := t[i]
		switch {
		case 'A' <= c && c <= 'Z':
		case i >= prefix && ('a' <= c && c <= 'z' || '0' <= c && c <= '9' || c == '.'):
		case i == 2:
		default:
			return false
		}
	}
	return true
}

// digits is a phone number as wa_id writes it. What isn't a phone number stays
// as it is.
func digits(t text) text {
	plain := true
	for i := range len(t) {
		plain = plain && '0' <= t[i] && t[i] <= '9'
	}
	if plain {
		return t
	}
	s := strings.Map(func(r rune) rune {
		if strings.ContainsRune("+-(). ", r) {
			return -1
		}
		return r
	}, string(t))
	if strings.ContainsFunc(s, func(r rune) bool { return r < '0' || r > '9' }) || s == "" {
		return t
	}
	return text(s)
}
