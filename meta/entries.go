package meta

import (
	"fmt"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// entryUpdate is an update of an unknown object, or in an unknown envelope.
func (d *decoder) entryUpdate(u update, it item) error {
	subject := u.object
	if it.change >= 0 {
		field, err := fieldName(&d.changes[it.change])
		if err != nil {
			return err
		}
		u.field = field
	}
	if it.envelope == inEntry {
		return d.flatEntry(u)
	}
	return d.unknown(&u, []parley.Contact{parley.SubjectKey + parley.Contact(subject)}, it.envelope.String())
}

func fieldName(c *change) (string, error) {
	if string(c.field) == `"messages"` { // nearly always
		return "messages", nil
	}
	field, err := scalar(c.field)
	if err == nil && len(field) > maxFieldBytes {
		err = fmt.Errorf("%d bytes: at most %d", len(field), maxFieldBytes)
	}
	if err != nil {
		return "", at("field", err)
	}
	return string(field), nil
}

// changedField is the name of a field that changed, of an app that did not
// subscribe to values.
func (d *decoder) changedField(u update) error {
	field, err := scalar(u.raw)
	if err != nil {
		return err
	}
	if len(field) > maxFieldBytes {
		return fmt.Errorf("%d bytes: at most %d", len(field), maxFieldBytes)
	}
	u.field = string(field)
	return d.unknown(&u, subject(u.field), "changed_fields")
}

// flatEntry is an entry that holds field and value itself, which Meta's
// examples for Instagram show for comments.
func (d *decoder) flatEntry(u update) error {
	var e struct {
		Field text           `json:"field"`
		Value jsontext.Value `json:"value"`
	}
	if err := decodeStrictly(u.raw, &e); err != nil {
		return err
	}
	if (u.object != objectPage && u.object != objectInstagram) || e.Field == "" {
		return d.unknownEntry(&u)
	}
	field, err := json.Marshal(string(e.Field), jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return at("field", err)
	}
	c := change{field: field, value: e.Value}
	u.raw = rebuildChange(&c, e.Value)
	return d.pageChange(u, &c)
}

// unknownEntry is an entry that is an event by itself. Its time is that of the
// delivery, by which repeats would be missed.
func (d *decoder) unknownEntry(u *update) error {
	var members map[string]jsontext.Value
	if err := decodeStrictly(u.raw, &members); err != nil {
		return err
	}
	delete(members, "time")
	content, err := json.Marshal(members, jsontext.AllowInvalidUTF8(true))
	if err != nil {
		return shapeOf(err)
	}
	raw := u.keep()
	u.raw = content
	if err := d.unknown(u, subject(u.object), "entry"); err != nil {
		return err
	}
	e := &d.out.Events[len(d.out.Events)-1]
	e.Input = parley.Unknown{Object: u.object, Type: "entry", Raw: raw}
	return nil
}

// subject is the conversation of what has no contact.
func subject(name string) []parley.Contact {
	if name == "" {
		name = "event"
	}
	return []parley.Contact{parley.SubjectKey + parley.Contact(name)}
}
