package ingress

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// arrivalsFormat is the first byte of encoded arrivals. It is raised when older
// programs could not read the new form.
//
//	arrivals   = format events receipts quarantined (numbers), event … receipt … quarantined …
//	event      = flags channel contacts (number) contact … key time? input
//	receipt    = channel status provider-id row contact time time code reason
//	quarantined= id app kind channel-id cause body time
//	channel    = brand kind id
//	time       = seconds nanoseconds
//
// Numbers are varints, names and bodies are framed by their lengths, an input
// is as parley.EncodeInput writes it.
const arrivalsFormat = 1

// The bits of an event's flags.
const (
	flagLate = 1 << iota
	flagTime // there is one; the zero time is none
)

// The least sizes of what arrivals are counted in: a number of them that could
// not be in the rest of the bytes is not believed.
const (
	eventBytesMin       = 23
	receiptBytesMin     = 28
	quarantinedBytesMin = 23
)

var (
	errEndsEarly  = errors.New("ends too early")
	errUnstorable = errors.New("event has no input, a wrong channel, no contact or too many")
)

// appendArrivals encodes a. With late, all events are marked so. It is an error
// if an event is not one that any store would take.
func appendArrivals(b []byte, a *parley.Arrivals, late bool) ([]byte, error) {
	b = append(b, arrivalsFormat)
	b = binary.AppendUvarint(b, uint64(len(a.Events)))
	b = binary.AppendUvarint(b, uint64(len(a.Receipts)))
	b = binary.AppendUvarint(b, uint64(len(a.Quarantined)))
	var err error
	for i := range a.Events {
		if b, err = appendEvent(b, &a.Events[i], late); err != nil {
			return nil, fmt.Errorf("encode event: %w", err)
		}
	}
	for i := range a.Receipts {
		b = appendReceipt(b, &a.Receipts[i])
	}
	for i := range a.Quarantined {
		b = appendQuarantined(b, &a.Quarantined[i])
	}
	return b, nil
}

func appendEvent(b []byte, e *parley.Event, late bool) ([]byte, error) {
	if misshapen(e) {
		return nil, errUnstorable
	}
	input, err := parley.EncodeInput(e.Input)
	if err != nil {
		return nil, err
	}
	flags := byte(0)
	if late || e.Late {
		flags |= flagLate
	}
	if !e.Time.IsZero() {
		flags |= flagTime
	}
	b = appendChannel(append(b, flags), e.Channel)
	b = binary.AppendUvarint(b, uint64(len(e.Contacts)))
	for _, c := range e.Contacts {
		b = appendFramed(b, c)
	}
	b = append(b, e.Key[:]...)
	if flags&flagTime != 0 {
		b = appendTime(b, e.Time)
	}
	return appendFramed(b, input), nil
}

func appendReceipt(b []byte, r *parley.Receipt) []byte {
	b = appendFramed(appendChannel(b, r.Channel), r.Status)
	b = append(appendFramed(b, r.ProviderID), r.Row[:]...)
	b = appendTime(appendTime(appendFramed(b, r.Contact), r.Watermark), r.Time)
	return appendFramed(binary.AppendVarint(b, int64(r.Code)), r.Reason)
}

func appendQuarantined(b []byte, q *parley.Quarantined) []byte {
	b = appendFramed(append(b, q.ID[:]...), q.App)
	b = appendFramed(appendFramed(b, q.Kind), q.ChannelID)
	return appendTime(appendFramed(appendFramed(b, q.Cause), q.Body), q.Received)
}

func appendChannel(b []byte, c parley.Channel) []byte {
	return appendFramed(appendFramed(appendFramed(b, c.Brand), c.Kind), c.ID)
}

func appendFramed[S ~string | ~[]byte](b []byte, s S) []byte {
	return append(binary.AppendUvarint(b, uint64(len(s))), s...)
}

// appendTime writes a time exactly, but for its zone. The zero time is a time
// like others.
func appendTime(b []byte, t time.Time) []byte {
	return binary.AppendUvarint(binary.AppendVarint(b, t.Unix()), uint64(t.Nanosecond()))
}

// census is how many updates encoded arrivals hold.
type census struct{ events, receipts, quarantined int }

func (c census) updates() int { return c.events + c.receipts + c.quarantined }

func censusOf(a *parley.Arrivals) census {
	return census{events: len(a.Events), receipts: len(a.Receipts), quarantined: len(a.Quarantined)}
}

// countArrivals reads the head of encoded arrivals. ErrFormat: a newer program
// wrote them.
func countArrivals(b []byte) (census, error) {
	f := fields{b: b}
	return f.census()
}

// decodeArrivals reads what appendArrivals wrote. Nothing in the result shares
// memory with b. ErrFormat: a newer program wrote it, or an input of it.
func decodeArrivals(b []byte) (parley.Arrivals, error) {
	f := fields{b: b}
	n, err := f.census()
	if err != nil {
		return parley.Arrivals{}, fmt.Errorf("decode arrivals: %w", err)
	}
	a := parley.Arrivals{
		Events: make([]parley.Event, n.events), Receipts: make([]parley.Receipt, n.receipts),
		Quarantined: make([]parley.Quarantined, n.quarantined),
	}
	for i := range a.Events {
		f.event(&a.Events[i])
	}
	for i := range a.Receipts {
		f.receipt(&a.Receipts[i])
	}
	for i := range a.Quarantined {
		f.quarantined(&a.Quarantined[i])
	}
	if f.err == nil && len(f.b) > 0 {
		f.err = fmt.Errorf("%d bytes too many", len(f.b))
	}
	if f.err != nil {
		return parley.Arrivals{}, fmt.Errorf("decode arrivals: %w", f.err)
	}
	return a, nil
}

// fields takes encoded arrivals apart. After the first error it yields zeros, so
// that the caller checks once, at the end.
type fields struct {
	b   []byte
	err error
}

func (f *fields) census() (census, error) {
	if len(f.b) == 0 {
		return census{}, errEndsEarly
	}
	if v := f.b[0]; v != arrivalsFormat {
		return census{}, fmt.Errorf("format %d, known is %d: %w", v, arrivalsFormat, parley.ErrFormat)
	}
	f.b = f.b[1:]
	n := census{events: f.count(eventBytesMin), receipts: f.count(receiptBytesMin), quarantined: f.count(quarantinedBytesMin)}
	return n, f.err
}

func (f *fields) event(e *parley.Event) {
	flags := f.fixed(1)[0]
	if flags&^(flagLate|flagTime) != 0 {
		f.fail(fmt.Errorf("event with flags %#x: %w", flags, parley.ErrFormat))
	}
	e.Late = flags&flagLate != 0
	e.Channel = f.channel()
	n := f.uvarint()
	if n == 0 || n > parley.MaxContacts {
		f.fail(fmt.Errorf("event with %d contacts: 1 to %d", n, parley.MaxContacts))
		return
	}
	e.Contacts = make([]parley.Contact, n)
	for i := range e.Contacts {
		e.Contacts[i] = parley.Contact(f.framed())
	}
	e.Key = parley.EventKey(f.fixed(len(e.Key)))
	if flags&flagTime != 0 {
		e.Time = f.time()
	}
	input := f.framed()
	if f.err != nil {
		return
	}
	in, err := parley.DecodeInput(input)
	e.Input = in
	f.fail(err)
}

func (f *fields) receipt(r *parley.Receipt) {
	r.Channel, r.Status, r.ProviderID = f.channel(), parley.Status(f.framed()), string(f.framed())
	r.Row, r.Contact = parley.ID(f.fixed(len(r.Row))), parley.Contact(f.framed())
	r.Watermark, r.Time = f.time(), f.time()
	r.Code, r.Reason = int(f.varint()), string(f.framed())
}

func (f *fields) quarantined(q *parley.Quarantined) {
	q.ID, q.App = parley.ID(f.fixed(len(q.ID))), parley.App(f.framed())
	q.Kind, q.ChannelID = parley.ChannelKind(f.framed()), string(f.framed())
	q.Cause, q.Body = string(f.framed()), append([]byte(nil), f.framed()...)
	q.Received = f.time()
}

func (f *fields) channel() parley.Channel {
	return parley.Channel{Brand: parley.Brand(f.framed()), Kind: parley.ChannelKind(f.framed()), ID: string(f.framed())}
}

// fail notes the first error.
func (f *fields) fail(err error) {
	if f.err == nil {
		f.err = err
	}
}

// count is a number of things of at least so many bytes that follow.
func (f *fields) count(bytesMin int) int {
	n := f.uvarint()
	if n > uint64(len(f.b)/bytesMin) {
		f.fail(errEndsEarly)
		return 0
	}
	return int(n)
}

// fixed is the next n bytes, at most 16.
func (f *fields) fixed(n int) []byte {
	if f.err != nil || len(f.b) < n {
		f.fail(errEndsEarly)
		return make([]byte, n)
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}

// framed is a piece of b itself, not a copy.
func (f *fields) framed() []byte {
	n := f.uvarint()
	if f.err != nil || n > uint64(len(f.b)) {
		f.fail(errEndsEarly)
		return nil
	}
	out := f.b[:n]
	f.b = f.b[n:]
	return out
}

func (f *fields) uvarint() uint64 {
	v, n := binary.Uvarint(f.b)
	if f.err != nil || n <= 0 {
		f.fail(errEndsEarly)
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) varint() int64 {
	v, n := binary.Varint(f.b)
	if f.err != nil || n <= 0 {
		f.fail(errEndsEarly)
		return 0
	}
	f.b = f.b[n:]
	return v
}

func (f *fields) time() time.Time {
	s, ns := f.varint(), f.uvarint()
	if ns >= uint64(time.Second) {
		f.fail(fmt.Errorf("time with %d nanoseconds", ns))
		return time.Time{}
	}
	return time.Unix(s, int64(ns)).UTC()
}
