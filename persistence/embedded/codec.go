package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// rowFormat is the first byte of each value but snapshots (which bring their
// own) and history (which is JSON behind it). It is raised only when older
// programs could not read the new form.
const rowFormat = 1

// lateFormat is that of an inbox row which was acknowledged from a spool; it is
// otherwise as format 1. Older programs would take such a row for one that isn't
// late, so they must not read it; all other rows they still can.
const lateFormat = 2

// bulkFormat is that of an outgoing message which is bulk; it is otherwise as
// format 1, and says at once what else would have to be decoded when the store is
// opened. Older programs know no such messages.
const bulkFormat = 3

var errShort = errors.New("ends too early")

// reader takes a row apart. After the first error it yields zeros, so that the
// caller checks once, at the end.
type reader struct {
	b   []byte
	err error
}

// readRow begins to read a value of a table.
func readRow(table byte, value []byte) (*reader, error) {
	if len(value) == 0 {
		return nil, fmt.Errorf("row of table %c is empty", table)
	}
	if f := value[0]; f == lateFormat && table == tableInbox || f == bulkFormat && table == tableOutbox {
		return &reader{b: value[1:]}, nil
	} else if f > rowFormat {
		return nil, fmt.Errorf("row of table %c has format %d: %w", table, f, parley.ErrFormat)
	} else if f != rowFormat {
		return nil, fmt.Errorf("row of table %c has format %d: not one that was ever written", table, f)
	}
	return &reader{b: value[1:]}, nil
}

func (r *reader) fixed(n int) []byte {
	if r.err != nil || n < 0 || len(r.b) < n {
		r.err = errShort
		return make([]byte, min(max(n, 0), 16))
	}
	out := r.b[:n]
	r.b = r.b[n:]
	return out
}

func (r *reader) uint32() uint32 { return binary.BigEndian.Uint32(r.fixed(4)) }
func (r *reader) uint64() uint64 { return binary.BigEndian.Uint64(r.fixed(8)) }
func (r *reader) id() parley.ID  { return parley.ID(r.fixed(16)) }

func (r *reader) uvarint() uint64 {
	v, n := binary.Uvarint(r.b)
	if r.err != nil || n <= 0 {
		r.err = errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

func (r *reader) varint() int64 {
	v, n := binary.Varint(r.b)
	if r.err != nil || n <= 0 {
		r.err = errShort
		return 0
	}
	r.b = r.b[n:]
	return v
}

// raw is a framed piece of the row itself, not a copy.
func (r *reader) raw() []byte {
	n := r.uvarint()
	if r.err != nil || n > uint64(len(r.b)) {
		r.err = errShort
		return nil
	}
	return r.fixed(int(n))
}

func (r *reader) string() string { return string(r.raw()) }

func (r *reader) bytes() []byte {
	b := r.raw()
	if len(b) == 0 {
		return nil
	}
	return append([]byte(nil), b...)
}

func (r *reader) time() time.Time { return fromMS(r.varint()) }

func (r *reader) end(what string) error {
	if r.err == nil && len(r.b) > 0 {
		r.err = fmt.Errorf("%d bytes too many", len(r.b))
	}
	if r.err != nil {
		return fmt.Errorf("decode %s: %w", what, r.err)
	}
	return nil
}

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

func appendTime(b []byte, t time.Time) []byte { return binary.AppendVarint(b, toMS(t)) }

func appendBytes(b, p []byte) []byte {
	return append(binary.AppendUvarint(b, uint64(len(p))), p...)
}

func appendPending(b []byte, p *parley.Pending) []byte {
	format := byte(rowFormat)
	if p.Late {
		format = lateFormat
	}
	b = append(b, format)
	b = binary.BigEndian.AppendUint64(b, uint64(p.Token))
	b = appendTime(b, p.Received)
	b = append(b, p.Key[:]...)
	b = appendTime(b, p.Time)
	return appendBytes(b, p.Data)
}

// decodeHead reads what the index of the inbox needs.
func decodeHead(value []byte) (inboxRow, error) {
	r, err := readRow(tableInbox, value)
	if err != nil {
		return inboxRow{}, err
	}
	row := inboxRow{token: parley.Token(r.uint64()), received: r.varint()}
	return row, r.err
}

// decodePending reads the rest of p, whose Conversation and Seq are its key.
func decodePending(p *parley.Pending, value []byte) error {
	r, err := readRow(tableInbox, value)
	if err != nil {
		return err
	}
	p.Late = value[0] == lateFormat
	p.Token = parley.Token(r.uint64())
	p.Received = r.time()
	p.Key = parley.EventKey(r.fixed(16))
	p.Time = r.time()
	p.Data = r.bytes()
	if err := r.end("inbox row"); err != nil {
		return err
	}
	p.Input, err = parley.DecodeInput(p.Data)
	return err
}

func appendQuarantined(b []byte, q *parley.Quarantined) []byte {
	b = appendTime(append(b, rowFormat), q.Received)
	return appendBytes(appendName(b, q.Cause), q.Body)
}

func decodeQuarantined(q *parley.Quarantined, value []byte) error {
	r, err := readRow(tableQuarantine, value)
	if err != nil {
		return err
	}
	q.Received, q.Cause, q.Body = r.time(), r.string(), r.bytes()
	return r.end("quarantine entry")
}

func appendDead(b []byte, d *parley.DeadLetter) []byte {
	b = appendConversation(append(b, rowFormat), d.Conversation)
	b = appendName(appendTime(b, d.At), d.Cause)
	b = binary.AppendUvarint(b, uint64(d.Seq))
	return appendBytes(b, d.Data)
}

func decodeDead(d *parley.DeadLetter, value []byte) error {
	r, err := readRow(tableDead, value)
	if err != nil {
		return err
	}
	d.Conversation, d.At, d.Cause = r.conversation(), r.time(), r.string()
	d.Seq, d.Data = parley.Seq(r.uvarint()), r.bytes()
	return r.end("dead letter")
}

func appendReceipt(b []byte, r *parley.Receipt) []byte {
	b = appendName(append(b, rowFormat), r.Status)
	b = append(appendName(b, r.ProviderID), r.Row[:]...)
	b = appendTime(appendTime(appendName(b, r.Contact), r.Watermark), r.Time)
	return appendName(binary.AppendVarint(b, int64(r.Code)), r.Reason)
}

func decodeReceipt(value []byte) (parley.Receipt, error) {
	r, err := readRow(tableReceipt, value)
	if err != nil {
		return parley.Receipt{}, err
	}
	out := parley.Receipt{Status: parley.Status(r.string()), ProviderID: r.string(), Row: r.id()}
	out.Contact, out.Watermark, out.Time = parley.Contact(r.string()), r.time(), r.time()
	out.Code, out.Reason = int(r.varint()), r.string()
	return out, r.end("receipt")
}
