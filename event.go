package parley

import (
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"fmt"
	"time"
)

// Event is something that the provider reported, decoded and not yet stored.
type Event struct {
	Channel Channel
	// Contacts are the keys of the party or subject, strongest first; at least
	// one, at most MaxContacts. A WhatsApp user may come with a business-scoped
	// id, a phone number or both: the store decides which conversation they mean.
	Contacts []Contact
	Key      EventKey
	// Time is when the event happened, by the provider's clock. It is part of
	// the event: every delivery of the event brings the same. Zero if the event
	// has none; never the time of a delivery, by which repeats would be missed.
	Time  time.Time
	Input Input
	// Late says that the event was acknowledged from a spool, since the store did
	// not answer: its place among the events of other nodes is not known. Events
	// that came in through this node keep their order.
	Late bool
}

// EventKey identifies a provider's event within its channel: two deliveries of
// one event have the same key, two events never do. It is a hash, since it is
// kept for days and must not say who wrote what.
type EventKey [16]byte

// NewEventKey hashes the parts that identify an event. The parts are framed by
// their lengths: ("ab","c") and ("a","bc") differ.
func NewEventKey(parts ...string) EventKey {
	var buf [512]byte
	b := buf[:0]
	for _, p := range parts {
		b = binary.AppendUvarint(b, uint64(len(p)))
		b = append(b, p...)
	}
	sum := sha256.Sum256(b)
	return EventKey(sum[:16])
}

func (k EventKey) String() string { return hex.EncodeToString(k[:]) }

// Seq is the number of an inbox row: larger than that of every row that was
// acknowledged before this one came in. Gaps are normal. A number may come back
// after a database fail-over, so it is always compared together with its Token.
type Seq uint64

// Token is drawn at random for each inbox row and each version of a
// conversation. A row that has the same number but another token is another row.
type Token uint64

// Row identifies an inbox row.
type Row struct {
	Seq   Seq
	Token Token
}

// Pending is an inbox row: an event that is durable and has not yet taken
// effect.
type Pending struct {
	Row
	Conversation Conversation
	Key          EventKey
	Time         time.Time // the provider's; zero if none
	Received     time.Time // stamped by the store's clock, millisecond precision
	Late         bool      // as of the Event: acknowledged from a spool; or a dead letter, retried
	Input        Input
	Data         []byte // Input as EncodeInput wrote it; read-only
}

// Arrivals is what one group of webhooks brought, made durable together.
type Arrivals struct {
	Events      []Event
	Receipts    []Receipt
	Quarantined []Quarantined
}

// Empty reports whether there is nothing in a.
func (a Arrivals) Empty() bool {
	return len(a.Events) == 0 && len(a.Receipts) == 0 && len(a.Quarantined) == 0
}

// Quarantined is a signed update that could not become an event: its shape is
// wrong, or its channel is unknown. It is kept whole and acknowledged, so that
// it is neither lost nor delivered for seven days.
type Quarantined struct {
	ID        ID // assigned by the store; ids of later entries are larger
	App       App
	Kind      ChannelKind // empty if not known
	ChannelID string      // Meta's id of the channel; empty if not known
	Cause     string
	Body      []byte // a whole webhook body that holds this update only
	Received  time.Time
}

// ID is a UUIDv7: its first 48 bits are a time in milliseconds, so that ids of
// one conversation sort by the turns that made them. IDs are never sequence
// numbers: those come back after a fail-over.
type ID [16]byte

// NewID makes an id from a time and 16 random bytes.
func NewID(at time.Time, random [16]byte) ID {
	id := ID(random)
	ms := uint64(at.UnixMilli())
	binary.BigEndian.PutUint16(id[0:], uint16(ms>>32))
	binary.BigEndian.PutUint32(id[2:], uint32(ms))
	id[6] = id[6]&0x0f | 0x70
	id[8] = id[8]&0x3f | 0x80
	return id
}

// IsZero reports whether id is the zero id, which no row has.
func (id ID) IsZero() bool { return id == ID{} }

// String is the usual form with hyphens. [ParseID] reads it back.
func (id ID) String() string {
	var b [36]byte
	hex.Encode(b[:8], id[:4])
	hex.Encode(b[9:13], id[4:6])
	hex.Encode(b[14:18], id[6:8])
	hex.Encode(b[19:23], id[8:10])
	hex.Encode(b[24:], id[10:])
	b[8], b[13], b[18], b[23] = '-', '-', '-', '-'
	return string(b[:])
}

// MarshalText is [ID.String], for JSON.
func (id ID) MarshalText() ([]byte, error) { return []byte(id.String()), nil }

// UnmarshalText is [ParseID], for JSON.
func (id *ID) UnmarshalText(b []byte) (err error) {
	*id, err = ParseID(string(b))
	return err
}

// ParseID reads the form with hyphens.
func ParseID(s string) (ID, error) {
	var id ID
	if len(s) != 36 || s[8] != '-' || s[13] != '-' || s[18] != '-' || s[23] != '-' {
		return ID{}, fmt.Errorf("id of %d bytes: want 8-4-4-4-12 hexadecimal digits", len(s))
	}
	plain := s[:8] + s[9:13] + s[14:18] + s[19:23] + s[24:]
	if _, err := hex.Decode(id[:], []byte(plain)); err != nil {
		return ID{}, fmt.Errorf("id: %w", err)
	}
	return id, nil
}

// Backlog is what waits in a store, as an operator looks at it.
type Backlog struct {
	Pending     int           `json:"pending"` // inbox rows that have not taken effect
	Oldest      time.Duration `json:"oldest"`  // age of the oldest of them, by the store's clock
	Unsent      int           `json:"unsent"`  // messages in the outbox
	Timers      int           `json:"timers"`
	Calls       int           `json:"calls"`       // not yet answered
	OldestCall  time.Duration `json:"oldest_call"` // since the turn that decided the oldest of them
	Receipts    int           `json:"receipts"`    // not yet folded
	Quarantined int           `json:"quarantined"`
	Dead        int           `json:"dead"`
}

// Registration says that a channel is served through an app.
type Registration struct {
	App     App
	Channel Channel
}
