package parley

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"time"
)

// Version identifies one version of a conversation. Both parts are compared: a
// number may come back after a fail-over, its token does not.
type Version struct {
	Number uint64
	Token  Token
}

// Snapshot is a conversation as its last commit left it. The zero Version is a
// conversation that has had no turn.
type Snapshot struct {
	Conversation Conversation
	Version      Version
	Bot          string // name of the bot that wrote State
	BotVersion   int    // its schema version
	Behavior     string // the behaviour's name; empty for Bot.Behavior
	State        []byte // the behaviour's own, encoded by it; empty before the first
	Timers       []Timer
	Generation   uint64 // of the timer that was set last
	Ordinal      uint64 // of the outgoing message that was written last
	Last         time.Time
	Seen         []SeenKey // keys of the last events that took effect, oldest first
	// Ahead is the latest provider's time of an event that claimed to have
	// happened more than ClockSkew after it was received; zero if none ever did.
	Ahead time.Time
	// MergedInto, if not empty, is the contact of the same channel into whose
	// conversation this one has been merged. It has no turns any more, and
	// nothing else is left here.
	MergedInto Contact
	// Absorbed are the contacts of the conversations that were merged into this
	// one, oldest merge first: their pending rows, their older keys and their
	// unsent messages are this one's too. At most MaxAbsorbed.
	Absorbed []Contact
	// Heard is when the contact could last be written to.
	Heard   Heard
	Speaker Speaker    // who has the word
	Calls   []LiveCall // under way
	// Attributes and Tags are what is known of the contact, sorted by name.
	Attributes []Attribute
	Tags       []string
}

// Timer is a live timer of a conversation. A due entry whose generation isn't
// the live one is dropped: it was set anew or cancelled in the meantime.
type Timer struct {
	ID         ID
	Name       string
	Generation uint64
	Due        time.Time
}

// SeenKey is the key of an event that took effect, and when it did.
type SeenKey struct {
	Key EventKey
	At  time.Time
}

// Loaded is what an actor needs to begin: the snapshot and the first rows of
// its pending inbox, in order. More says that further rows wait.
type Loaded struct {
	Snapshot Snapshot
	Pending  []Pending
	More     bool
}

// NeedsOlder reports whether the keys older than the inline ones must be asked
// for, to know whether p took effect before. Usually they needn't: a key leaves
// the snapshot no later than those that stay, and an event takes effect after it
// happened, so that one which happened after the oldest inline effect can't have
// left. Two sorts of events escape this reasoning, those without a time and
// those whose time was in the future when they came: the latter are what Ahead
// remembers. A due timer is known by its generation and an answered call by its id,
// whatever their keys.
func (s *Snapshot) NeedsOlder(p Pending) bool {
	switch p.Input.(type) {
	case TimerFired, Called:
		return false
	default:
	}
	if len(s.Seen) < InlineSeen {
		return false // nothing has ever been moved out
	}
	after := p.Time.After(s.Seen[0].At.Add(ClockSkew)) && p.Time.After(s.Ahead)
	return p.Time.IsZero() || !after
}

func (s *Snapshot) seen(k EventKey) bool {
	for i := range slices.Backward(s.Seen) { // repeats usually come soon
		if s.Seen[i].Key == k {
			return true
		}
	}
	return false
}

func (s *Snapshot) timer(name string) int {
	for i := range s.Timers {
		if s.Timers[i].Name == name {
			return i
		}
	}
	return -1
}

// The first byte of an encoded snapshot is its format. It is raised only when
// older programs could not read the new form, and only the snapshots that need
// the new form are written in it: the rest stays readable for them.
const (
	snapshotPlain  = 1
	snapshotMerged = 2 // ends with MergedInto and Absorbed
	snapshotHeard  = 3 // and then Heard
	snapshotDialog = 4 // and then Speaker, Calls, Attributes and Tags
)

// SnapshotFormat is the newest format of snapshots that this program reads. What
// is stored in a newer one it must not overwrite.
const SnapshotFormat = snapshotDialog

// AppendBinary appends the stored form of s without its conversation, which is
// the key it is stored under. It never fails.
func (s *Snapshot) AppendBinary(b []byte) ([]byte, error) {
	format := s.format()
	b = append(b, format)
	b = binary.AppendUvarint(b, s.Version.Number)
	b = binary.BigEndian.AppendUint64(b, uint64(s.Version.Token))
	b = appendString(b, s.Bot)
	b = binary.AppendVarint(b, int64(s.BotVersion))
	b = appendString(b, s.Behavior)
	b = appendString(b, string(s.State))
	b = binary.AppendUvarint(b, s.Generation)
	b = binary.AppendUvarint(b, s.Ordinal)
	b = appendTime(b, s.Last)
	b = appendTime(b, s.Ahead)
	b = binary.AppendUvarint(b, uint64(len(s.Timers)))
	for _, t := range s.Timers {
		b = append(b, t.ID[:]...)
		b = appendString(b, t.Name)
		b = binary.AppendUvarint(b, t.Generation)
		b = appendTime(b, t.Due)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Seen)))
	for _, k := range s.Seen {
		b = append(b, k.Key[:]...)
		b = appendTime(b, k.At)
	}
	if format >= snapshotMerged {
		b = appendString(b, string(s.MergedInto))
		b = binary.AppendUvarint(b, uint64(len(s.Absorbed)))
		for _, c := range s.Absorbed {
			b = appendString(b, string(c))
		}
	}
	if format >= snapshotHeard {
		b = appendTime(appendTime(appendTime(b, s.Heard.At), s.Heard.Entry), s.Heard.Stopped)
	}
	if format >= snapshotDialog {
		b = s.appendDialog(b)
	}
	return b, nil
}

func (s *Snapshot) appendDialog(b []byte) []byte {
	b = appendString(b, string(s.Speaker))
	b = binary.AppendUvarint(b, uint64(len(s.Calls)))
	for _, c := range s.Calls {
		b = appendString(append(b, c.ID[:]...), c.Name)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Attributes)))
	for _, a := range s.Attributes {
		b = appendString(appendString(b, a.Name), a.Value)
	}
	b = binary.AppendUvarint(b, uint64(len(s.Tags)))
	for _, tag := range s.Tags {
		b = appendString(b, tag)
	}
	return b
}

func (s *Snapshot) readDialog(r *reader) {
	s.Speaker = Speaker(r.string())
	for n := r.count(16); n > 0; n-- {
		s.Calls = append(s.Calls, LiveCall{ID: ID(r.fixed(16)), Name: r.string()})
	}
	for n := r.count(2); n > 0; n-- {
		s.Attributes = append(s.Attributes, Attribute{Name: r.string(), Value: r.string()})
	}
	for n := r.count(1); n > 0; n-- {
		s.Tags = append(s.Tags, r.string())
	}
}

// dialog reports whether there is something that only the newest format has.
func (s *Snapshot) dialog() bool {
	return s.Speaker != SpeakerBot || len(s.Calls)+len(s.Attributes)+len(s.Tags) > 0
}

func (s *Snapshot) format() byte {
	if s.dialog() {
		return snapshotDialog
	}
	if s.Heard != (Heard{}) {
		return snapshotHeard
	}
	if s.MergedInto != "" || len(s.Absorbed) > 0 {
		return snapshotMerged
	}
	return snapshotPlain
}

// UnmarshalBinary reads what AppendBinary wrote, into everything but
// Conversation. It copies; b may be reused. A newer format wraps ErrFormat.
func (s *Snapshot) UnmarshalBinary(b []byte) error {
	r := reader{b: b}
	format := r.byte()
	if format > SnapshotFormat {
		return fmt.Errorf("snapshot format %d: %w", format, ErrFormat)
	} else if format < snapshotPlain {
		return fmt.Errorf("snapshot format %d: not one that was ever written", format)
	}
	out := Snapshot{Conversation: s.Conversation}
	out.Version.Number = r.uvarint()
	out.Version.Token = Token(r.uint64())
	out.Bot = r.string()
	out.BotVersion = int(r.varint())
	out.Behavior = r.string()
	out.State = r.bytes()
	out.Generation = r.uvarint()
	out.Ordinal = r.uvarint()
	out.Last = r.time()
	out.Ahead = r.time()
	for n := r.count(16); n > 0; n-- {
		out.Timers = append(out.Timers, Timer{ID: ID(r.fixed(16)), Name: r.string(), Generation: r.uvarint(), Due: r.time()})
	}
	if n := r.count(16); n > 0 {
		out.Seen = make([]SeenKey, n)
		for i := range out.Seen {
			out.Seen[i] = SeenKey{Key: EventKey(r.fixed(16)), At: r.time()}
		}
	}
	if format >= snapshotMerged {
		out.MergedInto = Contact(r.string())
		for n := r.count(1); n > 0; n-- {
			out.Absorbed = append(out.Absorbed, Contact(r.string()))
		}
	}
	if format >= snapshotHeard {
		out.Heard = Heard{At: r.time(), Entry: r.time(), Stopped: r.time()}
	}
	if format >= snapshotDialog {
		out.readDialog(&r)
	}
	if err := r.end(); err != nil {
		return fmt.Errorf("decode snapshot: %w", err)
	}
	*s = out
	return nil
}

func appendString(b []byte, s string) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime keeps milliseconds; the zero time is 0.
func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendVarint(b, toMS(t))
}

// reader takes an encoded row apart. After the first error it yields zeros, so
// that the caller checks once, at the end.
type reader struct {
	b   []byte
	err error
}

var errShort = errors.New("ends too early")

func (r *reader) fixed(n int) []byte {
	if r.err != nil || len(r.b) < n {
		r.err = errShort
		return make([]byte, n)
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) byte() byte     { return r.fixed(1)[0] }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.fixed(8)) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	return advance(r, v, n)
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	return advance(r, v, n)
}

func advance[T uint64 | int64](r *reader, v T, n int) T {
	if r.err != nil || n <= 0 {
		r.err = errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

// count reads the number of items of at least size bytes each; more than the
// rest can hold is an error, not an allocation.
func (r *reader) count(size int) int {
	n := r.uvarint()
	if n > uint64(len(r.b)/size) {
		r.err = errShort
		return 0
	}
	return int(n)
}

func (r *reader) string() string {
	n := r.count(1)
	return string(r.fixed(n))
}

func (r *reader) bytes() []byte {
	n := r.count(1)
	if n == 0 {
		return nil
	}
	return append([]byte(nil), r.fixed(n)...)
}

func (r *reader) time() time.Time { return fromMS(r.varint()) }

// toMS is the stored form of a time: ms since 1970; 0 for the zero time.
func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

func (r *reader) end() error {
	if r.err == nil && len(r.b) > 0 {
		return fmt.Errorf("%d bytes too many", len(r.b))
	}
	return r.err
}
