package meta

import (
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// key identifies an event within its channel by what the provider calls it, and
// by what tells it from other events of that name: a mid may name a message,
// its edits, its reactions and a postback.
func (u *update) key(parts ...string) parley.EventKey {
	all := make([]string, 0, 8)
	all = append(all, string(u.channel.Kind), u.channel.ID)
	return parley.NewEventKey(append(all, parts...)...)
}

// contentKey identifies an event that has no id by all that it says: parties,
// time, content. Not by entry.time, which is the time of a delivery. So two
// events that say the very same, without a time, are one.
func (u *update) contentKey(kind string) (parley.EventKey, error) {
	content, err := canonical(u.raw)
	if err != nil {
		return parley.EventKey{}, err
	}
	return u.key("content", kind, u.field, string(content)), nil
}

// canonical is raw without the freedoms of JSON: members sorted, no white
// space, strings in their shortest form. Numbers stay as they are: ids don't
// fit into a float64. An object with a name given twice is an error.
func canonical(raw []byte) ([]byte, error) {
	out, err := jsontext.AppendFormat(nil, raw, jsontext.AllowInvalidUTF8(true), jsontext.ReorderRawObjects(true))
	if err != nil {
		return nil, shapeOf(err)
	}
	return out, nil
}
