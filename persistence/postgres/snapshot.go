package postgres

import (
	"fmt"

	"github.com/klauspost/compress/s2"

	"github.com/parleychat/parley"
)

// A stored snapshot begins with the form it is kept in. Compression is ours, and
// the column's own is off: it would try each time, and find the keys seen, which
// are hashes.
const (
	formPlain = 0
	formS2    = 1
)

const (
	// compressFrom is the size of a state from which compressing pays.
	compressFrom = 1 << 10
	// snapshotBytesMax bounds what is unpacked: a damaged row must not take the
	// memory of a node.
	snapshotBytesMax = 16 << 20
)

// packSnapshot is the stored form of a snapshot, and its format.
func packSnapshot(s *parley.Snapshot) ([]byte, int16) {
	plain, _ := s.AppendBinary([]byte{formPlain}) // it never fails
	format := int16(plain[1])
	if len(s.State) < compressFrom {
		return plain, format
	}
	packed := s2.Encode(nil, plain[1:])
	if len(packed) >= len(plain)-1 {
		return plain, format
	}
	return append([]byte{formS2}, packed...), format
}

// unpackSnapshot reads what packSnapshot wrote; nothing is a snapshot of the zero
// version.
func unpackSnapshot(into *parley.Snapshot, b []byte) error {
	if len(b) == 0 {
		return nil
	}
	plain := b[1:]
	switch b[0] {
	case formPlain:
	case formS2:
		n, err := s2.DecodedLen(plain)
		if err != nil || n > snapshotBytesMax {
			return fmt.Errorf("snapshot can't be unpacked: %d bytes, at most %d (snapshotBytesMax)", n, snapshotBytesMax)
		}
		if plain, err = s2.Decode(nil, plain); err != nil {
			return fmt.Errorf("unpack snapshot: %w", err)
		}
	default:
		return fmt.Errorf("snapshot kept in form %d: %w", b[0], parley.ErrFormat)
	}
	return into.UnmarshalBinary(plain)
}
