package meta

import (
	"errors"
	"fmt"
	"time"

	"github.com/go-json-experiment/json/jsontext"

	"github.com/parleychat/parley"
)

// The objects whose webhooks are about channels.
const (
	objectPage      = "page"
	objectInstagram = "instagram"
	objectWhatsApp  = "whatsapp_business_account"
)

// CauseUnknownChannel begins the cause of an update whose channel Resolve does
// not know.
const CauseUnknownChannel = "unknown channel"

// ErrNotJSON is a body that isn't a JSON object. It is the only way in which
// Decode fails.
var ErrNotJSON = errors.New("body is not a JSON object")

// Resolve finds the channel of which an update speaks, by Meta's id. It must be
// fast and not block: it is asked for each update.
type Resolve func(kind parley.ChannelKind, id string) (parley.Channel, bool)

// Options say what the body itself doesn't.
type Options struct {
	Resolve Resolve
	// OwnAppID is Meta's id of the app whose webhooks these are: it tells the
	// echoes of its own sends. May be empty.
	OwnAppID string
	// Fallback is the channel to which the updates of objects other than page,
	// instagram and whatsapp_business_account go, as parley.Unknown. Without
	// one (the zero Channel) they are quarantined.
	Fallback parley.Channel
}

// Decoded is what a body held. Each update of it became an event, a receipt or
// a quarantined entry (a Messenger delivery that names several messages became
// one receipt for each).
//
// An update is an element of messaging[], standby[], changes[] or
// changed_fields[]; in a WhatsApp change it is an element of one of the lists
// in its value (messages, statuses, message_echoes, calls, user_preferences,
// user_id_update, history, errors, groups, state_sync, automatic_events), and
// the change itself only if the value has no such elements, or has members
// beside them. An entry with none of these envelopes is an update if it has
// anything but id, uid and time.
type Decoded struct {
	Object      string
	Updates     int // how many were in the body
	Events      []parley.Event
	Receipts    []parley.Receipt
	Quarantined []parley.Quarantined // without App and Received
}

// Decode reads the body of a webhook, of any size. It is ErrNotJSON if the body
// is not a JSON object; whatever else is wrong with it costs only the update it
// is in, which is quarantined with its cause. A body that can't be split into
// updates (no object, no entry) is quarantined whole.
//
// The body of a quarantined entry is itself a webhook body: decoded again, it
// yields that update and nothing else. Nothing in Decoded refers to body.
func Decode(body []byte, o Options) (Decoded, error) {
	d := decoder{opts: o}
	if err := d.walk(body); err != nil {
		return Decoded{}, notJSON(err)
	}
	d.out.Object = d.object
	if d.object == "" {
		d.spoil("object: missing")
	}
	if !d.hasList {
		d.spoil("entry: missing")
	}
	if d.bad != "" {
		d.out.Updates = 1
		d.quarantine(item{change: -1, raw: body}, nil, errors.New(d.bad))
		return d.out, nil
	}
	for _, it := range d.items {
		if d.isUpdate(it) {
			d.out.Updates++
			d.update(it)
		}
	}
	return d.out, nil
}

// notJSON says where the body goes wrong, never what it holds.
func notJSON(err error) error {
	if syntax, ok := errors.AsType[*jsontext.SyntacticError](err); ok {
		return fmt.Errorf("%w: wrong at byte %d", ErrNotJSON, syntax.ByteOffset)
	}
	return ErrNotJSON
}

// decoder is one call of Decode.
type decoder struct {
	walker
	opts Options
	out  Decoded
	last struct { // the answer of Resolve that was asked for last
		kind    parley.ChannelKind
		id      string
		channel parley.Channel
		known   bool
	}
	known people // of one change
}

// address is where an update belongs.
type address struct {
	channel parley.Channel
	kind    parley.ChannelKind
	id      string
}

// isUpdate tells the elements that are updates from those that merely look so,
// see Decoded.
func (d *decoder) isUpdate(it item) bool {
	if it.change < 0 {
		return true
	}
	c := &d.changes[it.change]
	split := d.isSplit(c)
	if it.list != "" {
		return split
	}
	return !split || c.rest
}

// isSplit reports whether the lists of a change are updates of their own. A
// change with a fault in what they share stays whole.
func (d *decoder) isSplit(c *change) bool {
	return d.object == objectWhatsApp && c.listed > 0 && !c.twice && c.common().fault == nil
}

// update decodes one update, or quarantines it.
func (d *decoder) update(it item) {
	to, err := d.address(it)
	if fault := d.envelopeFault(it); fault != nil {
		err = fault
	}
	if err == nil {
		err = d.dispatch(to.channel, it)
	}
	if err != nil {
		d.quarantine(it, &to, err)
	}
}

// unknownChannel is the fault of an update whose channel Resolve doesn't know.
type unknownChannel struct {
	kind parley.ChannelKind
	id   string
}

func (e *unknownChannel) Error() string {
	return CauseUnknownChannel + " " + string(e.kind) + " " + quoteID(e.id)
}

// address finds the channel of an update. The kind and id are returned with an
// error too, as far as they are known.
func (d *decoder) address(it item) (address, error) {
	var to address
	switch d.object {
	case objectPage:
		to.kind = parley.Messenger
	case objectInstagram:
		to.kind = parley.Instagram
	case objectWhatsApp:
		to.kind = parley.WhatsAppAccount
	default:
		to.channel = d.opts.Fallback
		if to.channel == (parley.Channel{}) {
			return to, fmt.Errorf("unknown object %s: no fallback channel", quoteID(d.object))
		}
		return to, nil
	}
	if it.change >= 0 && d.object == objectWhatsApp {
		common := d.changes[it.change].common()
		if common.fault != nil {
			return to, common.fault
		}
		if common.number != "" {
			return d.resolve(parley.WhatsApp, common.number)
		}
	}
	id, err := scalar(d.entries[it.entry].id)
	if err != nil {
		return to, fmt.Errorf("id: %w", err)
	}
	return d.resolve(to.kind, string(id))
}

func (d *decoder) resolve(kind parley.ChannelKind, id string) (address, error) {
	l := &d.last
	if l.kind != kind || l.id != id {
		l.kind, l.id = kind, id
		l.channel, l.known = d.opts.Resolve(kind, id)
	}
	to := address{channel: l.channel, kind: kind, id: id}
	if !l.known {
		return to, &unknownChannel{kind: kind, id: id}
	}
	return to, nil
}

// dispatch hands an update to what understands its envelope and object.
func (d *decoder) dispatch(ch parley.Channel, it item) error {
	u := update{channel: ch, object: d.object, raw: it.raw}
	switch {
	case d.object != objectPage && d.object != objectInstagram && d.object != objectWhatsApp,
		it.envelope == inEntry:
		return d.entryUpdate(u, it)
	case it.envelope == inChangedFields:
		return d.changedField(u)
	case it.envelope == inMessaging, it.envelope == inStandby:
		return d.messaging(u, it.envelope == inStandby)
	case d.object == objectWhatsApp:
		return d.whatsApp(u, it)
	}
	return d.pageChange(u, &d.changes[it.change])
}

// envelopeFault is what is wrong with an update before it is looked into.
func (d *decoder) envelopeFault(it item) error {
	k := jsontext.Value(it.raw).Kind()
	switch {
	case d.entries[it.entry].twice:
		return errors.New("id or time: given twice")
	case it.index < 0:
		return &shapeError{want: "an array", got: k}
	case it.envelope == inChangedFields && k != '"':
		return &shapeError{want: "a string", got: k}
	case it.envelope != inChangedFields && k != '{':
		return &shapeError{want: "an object", got: k}
	case it.change < 0:
		return nil
	}
	c := &d.changes[it.change]
	if c.twice {
		return errors.New("field, value, metadata or contacts: given twice")
	}
	if d.object == objectWhatsApp {
		return c.common().fault
	}
	return nil
}

// common judges what the updates of a WhatsApp change share.
func (c *change) common() *sharedPart {
	s := &c.shared
	if s.judged {
		return s
	}
	s.judged = true
	if k := jsontext.Value(c.contacts).Kind(); c.contacts != nil && k != 'n' {
		s.fault = at("value.contacts", &shapeError{want: "an array", got: k})
	}
	if k := jsontext.Value(c.metadata).Kind(); c.metadata != nil && k != '{' && k != 'n' {
		s.fault = at("value.metadata", &shapeError{want: "an object", got: k})
	}
	number, err := scalar(c.number)
	if err != nil {
		s.fault = at("value.metadata.phone_number_id", err)
	}
	s.number = string(number)
	return s
}

// update is an update whose channel is known.
type update struct {
	channel parley.Channel
	object  string
	field   string // of a change
	raw     []byte // the element as it came; must be copied to be kept
}

// keep is the raw update for an input.
func (u *update) keep() []byte { return append([]byte(nil), u.raw...) }

func (d *decoder) event(u *update, contacts []parley.Contact, e parley.Event) error {
	for _, c := range contacts {
		if len(c) > maxContactBytes {
			sort, _ := c.Split()
			return fmt.Errorf("contact %s of %d bytes: at most %d", sort, len(c), maxContactBytes)
		}
	}
	e.Channel, e.Contacts = u.channel, contacts
	d.out.Events = append(d.out.Events, e)
	return nil
}

func (d *decoder) receipt(u *update, r parley.Receipt) error {
	if len(r.ProviderID) > maxProviderIDBytes || len(r.Contact) > maxContactBytes {
		return fmt.Errorf("id of %d bytes: at most %d", max(len(r.ProviderID), len(r.Contact)), maxProviderIDBytes)
	}
	r.Channel = u.channel
	d.out.Receipts = append(d.out.Receipts, r)
	return nil
}

// unknown makes an update that isn't known an event of its own, by its content.
func (d *decoder) unknown(u *update, contacts []parley.Contact, kind string) error {
	return d.unknownAt(u, contacts, kind, time.Time{})
}

func (d *decoder) unknownAt(u *update, contacts []parley.Contact, kind string, when time.Time) error {
	key, err := u.contentKey("unknown")
	if err != nil {
		return err
	}
	return d.event(u, contacts, parley.Event{Key: key, Time: when, Input: parley.Unknown{
		Object: u.object, Field: u.field, Type: kind, Raw: u.keep(),
	}})
}
