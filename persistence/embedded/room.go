package embedded

import (
	"errors"
	"fmt"
	"math"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
)

// writeKind says what becomes of a group of writes when the disk is nearly full, or has
// much to do.
type writeKind uint8

const (
	bringsEvents writeKind = iota // refused below the reserve
	makesSpace                    // goes on until half of the reserve is left
	canWait                       // the same, and patient: its fsync may be another's, some milliseconds later
)

const (
	// hardReserveShare is the part of the reserve that is kept for Pebble's own
	// files: with the defaults twice the size of a table in memory, so that the
	// next flush finds room.
	hardReserveShare = 2
	roomEveryMS      = 100     // free space is asked for this often,
	roomEveryBytes   = 4 << 20 // or after so many bytes have been written
)

// room watches the free space of the disk.
type room struct {
	free    func() (uint64, error)
	reserve uint64
	asked   int64 // ms; when it was asked for last
	since   int   // bytes written since
	known   uint64
	err     error
}

// written notes that n bytes more are on their way to the disk.
func (r *room) written(n int) { r.since += n }

// check answers an error that wraps ErrFull if there is no room for such a
// write. After a refusal it asks anew each time, so that the store serves again
// as soon as there is room.
func (r *room) check(kind writeKind, now int64) error {
	need := r.reserve
	if kind != bringsEvents {
		need /= hardReserveShare
	}
	fresh := r.asked != 0 && now >= r.asked && now < r.asked+roomEveryMS && r.since < roomEveryBytes
	if !fresh || r.err != nil || r.known < need {
		r.known, r.err = r.free()
		r.asked, r.since = now, 0
	}
	if r.err != nil {
		return fmt.Errorf("ask for free space: %w", r.err)
	}
	if r.known < need {
		return fmt.Errorf("%d MiB free, %d MiB are kept: %w", r.known>>20, need>>20, parley.ErrFull)
	}
	return nil
}

// freeOf asks the file system. One that can't tell (in memory) is boundless.
func freeOf(fs vfs.FS, dir string) func() (uint64, error) {
	return func() (uint64, error) {
		u, err := fs.GetDiskUsage(dir)
		if errors.Is(err, vfs.ErrUnsupported) {
			return math.MaxUint64, nil
		}
		return u.AvailBytes, err
	}
}
