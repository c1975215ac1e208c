package meta

import (
	"bytes"
	"errors"

	"github.com/go-json-experiment/json/jsontext"
)

// errNotObject is JSON that can't be a webhook.
var errNotObject = errors.New("want a JSON object")

// A walker takes a webhook body apart, once and without understanding it, into
// the updates it holds. What it keeps are slices of the body. It works in any
// order of members (object may come last), and a member of the wrong kind costs
// that update, not its neighbours.
type walker struct {
	body    []byte
	object  string
	bad     string // why the body can't be split into updates
	hasList bool   // entry was there
	entries []entry
	changes []change
	people  []contactJSON
	items   []item

	// Room for the usual body of one update.
	entryRoom  [1]entry
	changeRoom [1]change
	personRoom [1]contactJSON
	itemRoom   [2]item
}

// entry is what the updates of one entry have in common.
type entry struct {
	raw, id, time []byte // JSON
	twice         bool   // id or time is there twice: which one holds?
}

// change is what the updates of one element of changes[] have in common.
type change struct {
	raw      []byte
	field    []byte // JSON
	value    []byte // JSON; nil if absent
	metadata []byte // members of value
	number   []byte // phone_number_id of metadata
	contacts []byte // if it isn't an array
	listing  bool   // contacts was an array:
	from, to int    // the elements, in the walker's people
	rest     bool   // value has members beside these and its lists
	listed   int    // elements in its lists
	twice    bool

	shared sharedPart // once judged
}

// sharedPart is what a WhatsApp change says to all of its updates.
type sharedPart struct {
	judged bool
	number string // phone_number_id; empty if the change is about the account
	fault  error  // for which none of its updates can be told from the others
}

// contactJSON is an element of contacts[], whose members are JSON.
type contactJSON struct {
	raw, phone, userID []byte
	twice              bool
}

// item is one update: an element of an envelope, or of a list in a change.
type item struct {
	entry    int
	index    int // in its array; -1 if it stands for the whole member
	envelope envelope
	change   int    // in changes; -1 if it has none
	list     string // in the change's value; empty for the change itself
	raw      []byte
}

// envelope is the member of an entry that an update came in.
type envelope uint8

const (
	inEntry         envelope = iota // the entry itself
	inMessaging                     // messaging[]
	inStandby                       // standby[]
	inChanges                       // changes[]
	inChangedFields                 // changed_fields[]: names only, if values are not subscribed
)

func (e envelope) String() string {
	return [...]string{"entry", "messaging", "standby", "changes", "changed_fields"}[e]
}

// listName tells the arrays in a WhatsApp change's value whose elements are
// updates of their own; empty for every other member.
func listName(member []byte) string {
	for _, name := range [...]string{
		"messages", "statuses", "message_echoes", "calls", "user_preferences", "user_id_update",
		"history", "errors", "groups", "state_sync", "automatic_events",
	} {
		if string(member) == name {
			return name
		}
	}
	return ""
}

func (w *walker) walk(body []byte) error {
	w.body = body
	w.entries, w.changes = w.entryRoom[:0], w.changeRoom[:0]
	w.people, w.items = w.personRoom[:0], w.itemRoom[:0]
	return decodeLoosely(body, w)
}

// UnmarshalJSONFrom walks the body's object.
func (w *walker) UnmarshalJSONFrom(d *jsontext.Decoder) error {
	if d.PeekKind() != '{' {
		if err := d.SkipValue(); err != nil {
			return err
		}
		return errNotObject
	}
	return w.members(d, func(name []byte) error {
		switch string(name) {
		case "object":
			return w.objectName(d)
		case "entry":
			if w.hasList {
				w.spoil("entry: given twice")
			}
			w.hasList = true
			if k := d.PeekKind(); k != '[' {
				w.spoil("entry: want an array, got " + kindName(k))
				return d.SkipValue()
			}
			return w.elements(d, func(int) error { return w.entry(d) })
		}
		return d.SkipValue()
	})
}

func (w *walker) spoil(cause string) {
	if w.bad == "" {
		w.bad = cause
	}
}

func (w *walker) objectName(d *jsontext.Decoder) error {
	if k := d.PeekKind(); k != '"' {
		w.spoil("object: want a string, got " + kindName(k))
		return d.SkipValue()
	}
	if w.object != "" {
		w.spoil("object: given twice")
	}
	tok, err := d.ReadToken()
	if err == nil {
		w.object = tok.String()
	}
	return err
}

func (w *walker) entry(d *jsontext.Decoder) error {
	w.entries = append(w.entries, entry{})
	n, first := len(w.entries)-1, len(w.items)
	if d.PeekKind() != '{' {
		raw, err := w.value(d)
		w.entries[n].raw = raw
		w.add(item{entry: n, index: n, change: -1, raw: raw})
		return err
	}
	start, other := -1, false
	err := w.membersFrom(d, &start, func(name []byte) (err error) {
		switch string(name) {
		case "id":
			return w.keep(d, &w.entries[n].id, &w.entries[n].twice)
		case "time":
			return w.keep(d, &w.entries[n].time, &w.entries[n].twice)
		case "messaging":
			return w.envelope(d, n, inMessaging)
		case "standby":
			return w.envelope(d, n, inStandby)
		case "changes":
			return w.envelope(d, n, inChanges)
		case "changed_fields":
			return w.envelope(d, n, inChangedFields)
		case "uid": // of the permissions and user objects; says the same as id
		default:
			other = true
		}
		return d.SkipValue()
	})
	if err != nil {
		return err
	}
	w.entries[n].raw = w.body[start:d.InputOffset()]
	if w.entries[n].twice {
		w.items = w.items[:first]
	}
	if len(w.items) == first && (other || w.entries[n].twice) {
		w.add(item{entry: n, index: n, change: -1, raw: w.entries[n].raw})
	}
	return nil
}

// envelope walks messaging[], standby[], changes[] or changed_fields[].
func (w *walker) envelope(d *jsontext.Decoder, n int, e envelope) error {
	it := item{entry: n, index: -1, envelope: e, change: -1}
	if d.PeekKind() != '[' {
		raw, err := w.value(d)
		it.raw = raw
		w.add(it)
		return err
	}
	return w.elements(d, func(i int) (err error) {
		it.index = i
		if e == inChanges && d.PeekKind() == '{' {
			return w.change(d, it)
		}
		it.raw, err = w.value(d)
		w.add(it)
		return err
	})
}

// change walks one element of changes[]. The change's own item comes first, its
// lists' elements follow: which of them are updates is known only when the
// body's object is.
func (w *walker) change(d *jsontext.Decoder, it item) error {
	w.changes = append(w.changes, change{})
	it.change = len(w.changes) - 1
	self := len(w.items)
	w.add(it)
	start := -1
	err := w.membersFrom(d, &start, func(name []byte) error {
		c := &w.changes[it.change]
		switch string(name) {
		case "field":
			return w.keep(d, &c.field, &c.twice)
		case "value":
			if d.PeekKind() != '{' || c.value != nil {
				return w.keep(d, &c.value, &c.twice)
			}
			return w.changeValue(d, it)
		}
		return d.SkipValue()
	})
	if err != nil {
		return err
	}
	w.changes[it.change].raw = w.body[start:d.InputOffset()]
	w.items[self].raw = w.changes[it.change].raw
	return nil
}

func (w *walker) changeValue(d *jsontext.Decoder, it item) error {
	start := -1
	err := w.membersFrom(d, &start, func(name []byte) (err error) {
		c := &w.changes[it.change]
		switch string(name) {
		case "messaging_product":
			return d.SkipValue()
		case "metadata":
			return w.metadata(d, c)
		case "contacts":
			return w.contacts(d, c)
		}
		it.list = listName(name)
		if it.list == "" {
			c.rest = true
			return d.SkipValue()
		}
		if d.PeekKind() != '[' {
			c.listed++
			it.index = -1
			it.raw, err = w.value(d)
			w.add(it)
			return err
		}
		return w.elements(d, func(i int) (err error) {
			w.changes[it.change].listed++
			it.index = i
			it.raw, err = w.value(d)
			w.add(it)
			return err
		})
	})
	if err == nil {
		w.changes[it.change].value = w.body[start:d.InputOffset()]
	}
	return err
}

func (w *walker) metadata(d *jsontext.Decoder, c *change) error {
	if d.PeekKind() != '{' || c.metadata != nil {
		return w.keep(d, &c.metadata, &c.twice)
	}
	start := -1
	err := w.membersFrom(d, &start, func(name []byte) error {
		if string(name) == "phone_number_id" {
			return w.keep(d, &c.number, &c.twice)
		}
		return d.SkipValue()
	})
	if err == nil {
		c.metadata = w.body[start:d.InputOffset()]
	}
	return err
}

func (w *walker) contacts(d *jsontext.Decoder, c *change) error {
	c.twice = c.twice || c.listing
	if d.PeekKind() != '[' || c.listing {
		return w.keep(d, &c.contacts, &c.twice)
	}
	c.listing, c.twice = true, c.twice || c.contacts != nil
	c.from = len(w.people)
	err := w.elements(d, func(int) error { return w.contact(d) })
	c.to = len(w.people)
	return err
}

func (w *walker) contact(d *jsontext.Decoder) (err error) {
	w.people = append(w.people, contactJSON{})
	p := &w.people[len(w.people)-1]
	if d.PeekKind() != '{' {
		p.raw, err = w.value(d)
		return err
	}
	start := -1
	err = w.membersFrom(d, &start, func(name []byte) error {
		switch string(name) {
		case "wa_id":
			return w.keep(d, &p.phone, &p.twice)
		case "user_id":
			return w.keep(d, &p.userID, &p.twice)
		}
		return d.SkipValue()
	})
	if err == nil {
		p.raw = w.body[start:d.InputOffset()]
	}
	return err
}

func (w *walker) add(it item) { w.items = append(w.items, it) }

// keep keeps the next value as JSON, and notes if there is one already.
func (w *walker) keep(d *jsontext.Decoder, into *[]byte, twice *bool) error {
	had := *into != nil
	raw, err := w.value(d)
	*into, *twice = raw, *twice || had
	return err
}

// value reads the next value as a slice of the body.
func (w *walker) value(d *jsontext.Decoder) ([]byte, error) {
	v, err := d.ReadValue()
	if err != nil {
		return nil, err
	}
	end := int(d.InputOffset())
	return w.body[end-len(v) : end : end], nil
}

// members calls f for each member of the object that comes next; f reads the
// value.
func (w *walker) members(d *jsontext.Decoder, f func(name []byte) error) error {
	start := 0
	return w.membersFrom(d, &start, f)
}

// membersFrom is members, and also says where the object starts.
func (w *walker) membersFrom(d *jsontext.Decoder, start *int, f func(name []byte) error) error {
	if _, err := d.ReadToken(); err != nil { // {
		return err
	}
	*start = int(d.InputOffset()) - 1
	for d.PeekKind() != '}' {
		raw, err := d.ReadValue()
		if err != nil {
			return err
		}
		name := raw[1 : len(raw)-1]
		if bytes.IndexByte(name, '\\') >= 0 {
			// A lone surrogate is an error, but what it is replaced by will do:
			// no name that matters has one.
			name, _ = jsontext.AppendUnquote(nil, raw)
		}
		if err := f(name); err != nil {
			return err
		}
	}
	_, err := d.ReadToken() // }
	return err
}

// elements calls f for each element of the array that comes next; f reads it.
func (w *walker) elements(d *jsontext.Decoder, f func(i int) error) error {
	if _, err := d.ReadToken(); err != nil { // [
		return err
	}
	for i := 0; d.PeekKind() != ']'; i++ {
		if err := f(i); err != nil {
			return err
		}
	}
	_, err := d.ReadToken() // ]
	return err
}
