package ingress

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"io"

	"github.com/parleychat/parley"
)

// A spool's log is a folder of segments. A segment is a header and then records,
// one for each group of arrivals; numbers are big-endian:
//
//	header = "PARLEYSP" format (1 byte) 0 0 0 previous (8) end-of-previous (8) crc (4)
//	record = marker (4) length (4) crc (4) body
//	body   = time of writing in ms (8) arrivals (see arrivalsFormat)
//
// The crc of a header is over its other bytes, that of a record over its length
// and body (CRC-32C). Each record is synced before the next is written, so that
// behind one that is torn nothing whole can follow: bytes that are no record
// with a record behind them are damage. The header names the segment before it
// and how far that one is good, so that an end that got lost is found, too.
const (
	segmentMagic  = "PARLEYSP"
	segmentFormat = 1
	headerBytes   = 32
	frameBytes    = 12
	stampBytes    = 8
	recordMarker  = 0xf1505229 // no UTF-8: in no text, but maybe in a body in quarantine

	// maxRecordBytes is the size of a record's body. The default limits of a group
	// (8 MiB of webhooks, or one webhook) stay well below it.
	maxRecordBytes = 64 << 20
	// resyncBytes is how much is looked at at a time in the search for the next
	// record behind damage.
	resyncBytes = 64 << 10
)

// errBroken is what is found where a record, or a header, should be.
var errBroken = errors.New("no whole record")

func crcTable() *crc32.Table { return crc32.MakeTable(crc32.Castagnoli) } // made once, by crc32

// segmentHeader links a segment to the one before it; zeros if there was none.
type segmentHeader struct {
	previous    uint64
	previousEnd int64
}

func (h segmentHeader) encode() []byte {
	b := append(make([]byte, 0, headerBytes), segmentMagic...)
	b = append(b, segmentFormat, 0, 0, 0)
	b = binary.BigEndian.AppendUint64(b, h.previous)
	b = binary.BigEndian.AppendUint64(b, uint64(h.previousEnd))
	return binary.BigEndian.AppendUint32(b, crc32.Checksum(b, crcTable()))
}

// readHeader reads the header of a segment. ErrFormat: a newer program wrote it,
// in whose formats, too, the header ends with its crc.
func readHeader(r io.ReaderAt) (segmentHeader, error) {
	var b [headerBytes]byte
	if err := readAt(r, b[:], 0); err != nil {
		return segmentHeader{}, fmt.Errorf("read header: %w", err)
	}
	crc := binary.BigEndian.Uint32(b[headerBytes-4:])
	if !bytes.HasPrefix(b[:], []byte(segmentMagic)) || crc != crc32.Checksum(b[:headerBytes-4], crcTable()) {
		return segmentHeader{}, fmt.Errorf("read header: %w", errBroken)
	}
	if f := b[len(segmentMagic)]; f != segmentFormat {
		return segmentHeader{}, fmt.Errorf("format %d, known is %d: %w", f, segmentFormat, parley.ErrFormat)
	}
	h := segmentHeader{previous: binary.BigEndian.Uint64(b[12:]), previousEnd: int64(binary.BigEndian.Uint64(b[20:]))}
	if h.previousEnd < 0 {
		return segmentHeader{}, fmt.Errorf("read header: %w", errBroken)
	}
	return h, nil
}

// readAt fills b. What isn't there is broken; other errors are the disk's.
func readAt(r io.ReaderAt, b []byte, at int64) error {
	n, err := r.ReadAt(b, at)
	switch {
	case n == len(b):
		return nil
	case errors.Is(err, io.EOF):
		return errBroken
	}
	return fmt.Errorf("read at %d: %w", at, err)
}

// frameRecord frames a body that starts at b[frameBytes:].
func frameRecord(b []byte) {
	body := b[frameBytes:]
	binary.BigEndian.PutUint32(b, recordMarker)
	binary.BigEndian.PutUint32(b[4:], uint32(len(body)))
	binary.BigEndian.PutUint32(b[8:], recordCRC(b[4:8], body))
}

func recordCRC(length, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(length, crcTable()), crcTable(), body)
}

// newRecord encodes arrivals as a record, framed.
func newRecord(stamp int64, a *parley.Arrivals, late bool) ([]byte, error) {
	b := make([]byte, frameBytes, frameBytes+stampBytes+256*censusOf(a).updates()+256)
	b = binary.BigEndian.AppendUint64(b, uint64(stamp))
	b, err := appendArrivals(b, a, late)
	if err != nil {
		return nil, err
	}
	if n := len(b) - frameBytes; n > maxRecordBytes {
		return nil, fmt.Errorf("record of %d bytes: at most %d (maxRecordBytes)", n, maxRecordBytes)
	}
	frameRecord(b)
	return b, nil
}

// splitBody takes a record's body apart.
func splitBody(body []byte) (stamp int64, arrivals []byte) {
	return int64(binary.BigEndian.Uint64(body)), body[stampBytes:]
}

// scanner reads the records of a segment one after another.
type scanner struct {
	r    io.ReaderAt
	at   int64 // of the next record
	end  int64 // nothing is read from here on
	body []byte
}

// next returns the body of the next record, good until the next call. io.EOF:
// there is none; errBroken: what is there is none; other errors are the disk's.
func (s *scanner) next() ([]byte, error) {
	if s.at >= s.end {
		return nil, io.EOF
	}
	body, err := s.record(s.at)
	if err == nil {
		s.at += frameBytes + int64(len(body))
	}
	return body, err
}

func (s *scanner) record(at int64) ([]byte, error) {
	var frame [frameBytes]byte
	if s.end-at < frameBytes {
		return nil, errBroken
	}
	if err := readAt(s.r, frame[:], at); err != nil {
		return nil, err
	}
	length := int64(binary.BigEndian.Uint32(frame[4:]))
	if binary.BigEndian.Uint32(frame[:]) != recordMarker || length < stampBytes || length > min(maxRecordBytes, s.end-at-frameBytes) {
		return nil, errBroken
	}
	if int64(cap(s.body)) < length {
		s.body = make([]byte, length)
	}
	s.body = s.body[:length]
	if err := readAt(s.r, s.body, at+frameBytes); err != nil {
		return nil, err
	}
	if binary.BigEndian.Uint32(frame[8:]) != recordCRC(frame[4:8], s.body) {
		return nil, errBroken
	}
	return s.body, nil
}

// resync moves on to the next record behind what is broken, and reports whether
// there is one.
func (s *scanner) resync() (bool, error) {
	marker := binary.BigEndian.AppendUint32(nil, recordMarker)
	chunk := make([]byte, resyncBytes)
	for from := s.at + 1; s.end-from >= frameBytes; {
		n := min(int64(len(chunk)), s.end-from)
		if err := readAt(s.r, chunk[:n], from); errors.Is(err, errBroken) {
			return false, nil
		} else if err != nil {
			return false, err
		}
		i := bytes.Index(chunk[:n], marker)
		if i < 0 {
			from += n - int64(len(marker)) + 1 // a marker may lie across the chunks
			continue
		}
		if _, err := s.record(from + int64(i)); err == nil {
			s.at = from + int64(i)
			return true, nil
		} else if !errors.Is(err, errBroken) {
			return false, err
		}
		from += int64(i) + 1
	}
	return false, nil
}
