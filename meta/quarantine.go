package meta

import (
	"errors"
	"reflect"
	"strconv"
	"strings"
	"unicode/utf8"

	"github.com/go-json-experiment/json"
	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// The limits on what the provider's ids may cost us: they become parts of
// stored keys. Meta's longest are about 250 bytes.
const (
	maxContactBytes    = 512
	maxProviderIDBytes = 1024
	maxFieldBytes      = 128
	// maxPathBytes is the part of a faulty member's path that is told.
	maxPathBytes = 160
)

// quarantine keeps an update with the cause for which it is no event.
func (d *decoder) quarantine(it item, to *address, cause error) {
	q := parley.Quarantined{Cause: cause.Error()}
	if to == nil { // the whole body
		q.Body = append([]byte(nil), it.raw...)
		d.out.Quarantined = append(d.out.Quarantined, q)
		return
	}
	q.Kind, q.ChannelID = to.kind, to.id
	q.Body = d.rebuild(it)
	if _, unknown := errors.AsType[*unknownChannel](cause); !unknown {
		q.Cause = d.path(it) + ": " + q.Cause
	}
	d.out.Quarantined = append(d.out.Quarantined, q)
}

// path says where in the body an update was.
func (d *decoder) path(it item) string {
	var b strings.Builder
	index := func(name string, i int) {
		b.WriteString(name)
		if i >= 0 {
			b.WriteString("[" + strconv.Itoa(i) + "]")
		}
	}
	index("entry", it.entry)
	if it.envelope != inEntry {
		b.WriteByte('.')
		if it.list == "" {
			index(it.envelope.String(), it.index)
		} else {
			b.WriteString(it.envelope.String() + ".value.")
			index(it.list, it.index)
		}
	}
	return b.String()
}

// rebuild is a whole webhook body that holds one update only.
func (d *decoder) rebuild(it item) []byte {
	e := &d.entries[it.entry]
	b := make([]byte, 0, len(it.raw)+256)
	b = append(b, `{"object":`...)
	b = appendString(b, d.object)
	b = append(b, `,"entry":[`...)
	if it.envelope == inEntry {
		return append(append(b, it.raw...), "]}"...)
	}
	b = append(b, '{')
	if e.id != nil {
		b = append(append(append(b, `"id":`...), e.id...), ',')
	}
	if e.time != nil {
		b = append(append(append(b, `"time":`...), e.time...), ',')
	}
	b = append(append(append(b, '"'), it.envelope.String()...), `":`...)
	if it.index < 0 && it.list == "" {
		return append(append(b, it.raw...), "}]}"...)
	}
	b = append(append(append(b, '['), d.alone(it)...), "]}]}"...)
	return b
}

// alone is the element of the envelope that holds one update only.
func (d *decoder) alone(it item) []byte {
	if it.change < 0 {
		return it.raw
	}
	c := &d.changes[it.change]
	switch {
	case it.list != "":
		list := it.raw
		if it.index >= 0 {
			list = append(append([]byte{'['}, it.raw...), ']')
		}
		return d.rebuildElement(it, list)
	case c.rest && d.isSplit(c):
		return rebuildChange(c, restOfValue(c))
	}
	return it.raw
}

// rebuildElement is a WhatsApp change that holds one element of one of its
// lists, and of the contacts only the element's own: a thousand messages from
// a channel that isn't known yet must not become a thousand copies of a
// thousand contacts.
func (d *decoder) rebuildElement(it item, elements []byte) []byte {
	c := &d.changes[it.change]
	b := append([]byte(nil), `{"field":`...)
	if c.field == nil {
		b = append(b, "null"...)
	}
	b = append(b, c.field...)
	b = append(b, `,"value":{"messaging_product":"whatsapp",`...)
	if c.metadata != nil {
		b = append(append(append(b, `"metadata":`...), c.metadata...), ',')
	}
	if own := d.peopleOf(c).ownOf(it.list, it.raw); own != nil {
		b = append(append(append(b, `"contacts":[`...), own...), "],"...)
	}
	b = append(append(append(b, '"'), it.list...), `":`...)
	return append(append(b, elements...), "}}"...)
}

// restOfValue is the value of a WhatsApp change without its lists and contacts:
// what it says beside them.
func restOfValue(c *change) []byte {
	var members map[string]jsontext.Value
	if decodeLoosely(c.value, &members) != nil {
		return c.value // it was walked before: it can be read
	}
	b := append([]byte(nil), "{"...)
	for _, name := range sortedNames(members) {
		if listName([]byte(name)) != "" || name == "contacts" {
			continue
		}
		if len(b) > 1 {
			b = append(b, ',')
		}
		b = append(appendString(b, name), ':')
		b = append(b, members[name]...)
	}
	return append(b, '}')
}

// rebuildChange is a change with another value.
func rebuildChange(c *change, value []byte) []byte {
	b := append([]byte(nil), `{"field":`...)
	if c.field == nil {
		b = append(b, "null"...)
	}
	b = append(b, c.field...)
	if value != nil {
		b = append(append(b, `,"value":`...), value...)
	}
	return append(b, '}')
}

func appendString(b []byte, s string) []byte {
	out, err := jsontext.AppendQuote(b, s)
	if err != nil { // not UTF-8: quoted nevertheless, with replacements
		return out
	}
	return out
}

// decodeStrictly decodes one update. A name given twice is a fault: which one
// holds?
func decodeStrictly(raw []byte, into any) error {
	if err := json.Unmarshal(raw, into, jsontext.AllowInvalidUTF8(true)); err != nil {
		return shapeOf(err)
	}
	return nil
}

// decodeLoosely takes apart what holds many updates.
func decodeLoosely(raw []byte, into any) error {
	return json.Unmarshal(raw, into, jsontext.AllowInvalidUTF8(true), jsontext.AllowDuplicateNames(true))
}

// scalar reads an id or a name that was kept as JSON; absent is empty.
func scalar(raw []byte) (text, error) {
	var t text
	switch {
	case raw == nil:
		return "", nil
	case raw[0] == '"' && isPlain(raw):
		return text(raw[1 : len(raw)-1]), nil
	}
	err := decodeStrictly(raw, &t)
	return t, err
}

// isPlain reports whether a JSON string says what it seems to say: no escapes,
// nothing but ASCII.
func isPlain(raw []byte) bool {
	for _, c := range raw {
		if c == '\\' || c >= utf8.RuneSelf {
			return false
		}
	}
	return true
}

// fault is what is wrong with an update, and where. It holds names of members
// and kinds of values, never a value.
type fault struct {
	path string
	what string
}

func (f *fault) Error() string {
	if f.path == "" {
		return f.what
	}
	return f.path + ": " + f.what
}

// at says that err was met below path.
func at(path string, err error) error {
	f := fault{path: path}
	if below, ok := errors.AsType[*fault](err); ok {
		f.what = below.what
		if below.path != "" {
			f.path += "." + below.path
		}
		return &f
	}
	f.what = err.Error()
	return &f
}

// shapeOf turns an error of the JSON decoder into a fault.
func shapeOf(err error) error {
	if below, ok := errors.AsType[*fault](err); ok {
		return below
	}
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		what := "not valid JSON"
		if errors.Is(err, jsontext.ErrDuplicateName) {
			what = "name given twice"
		}
		return &fault{path: dotted(syntax.JSONPointer), what: what}
	}
	semantic, ok := errors.AsType[*json.SemanticError](err)
	if !ok {
		return &fault{what: "can't be read"}
	}
	f := &fault{path: dotted(semantic.JSONPointer)}
	if shape, ok := errors.AsType[*shapeError](err); ok {
		f.what = shape.Error()
		return f
	}
	f.what = "want " + wanted(semantic.GoType) + ", got " + kindName(semantic.JSONKind)
	return f
}

func wanted(t reflect.Type) string {
	if t == nil {
		return "something else"
	}
	switch t.Kind() {
	case reflect.String:
		return "a string"
	case reflect.Slice, reflect.Array:
		return "an array"
	case reflect.Struct, reflect.Map, reflect.Pointer:
		return "an object"
	case reflect.Bool:
		return "a boolean"
	default:
		return "a number"
	}
}

// dotted writes /message/attachments/0 as message.attachments.0, cut to what a
// cause may hold.
func dotted(p jsontext.Pointer) string {
	s := strings.ReplaceAll(strings.TrimPrefix(string(p), "/"), "/", ".")
	return quotable(s[:min(len(s), maxPathBytes)])
}

// quoteID quotes an id for a cause, cut to what a cause may hold.
func quoteID(s string) string { return strconv.Quote(s[:min(len(s), maxPathBytes)]) }

// quotable drops what must not be in a line of a log.
func quotable(s string) string {
	return strings.Map(func(r rune) rune {
		if r < ' ' || r == 0x7f || r == '\ufffd' {
			return -1
		}
		return r
	}, s)
}
