package sim

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"maps"
	"path/filepath"
	"slices"

	"github.com/parleychat/parley/ingress"
)

var errDisk = errors.New("the disk is in trouble")

const diskFree = 1 << 40

// disk is what a machine's spool lies on. It survives the node; if the machine loses
// power, it does so as far as it was synced.
type disk struct {
	line  *line
	files map[string]*file
	kept  map[string]*file // the folder as it was synced last
}

type file struct {
	disk         *disk
	data, synced []byte
}

// powerLoss forgets what wasn't synced: of each file any part of it may be left, of
// the folder any change.
func (d *disk) powerLoss() {
	names := maps.Clone(d.kept)
	maps.Copy(names, d.files)
	left := map[string]*file{}
	for _, name := range slices.Sorted(maps.Keys(names)) {
		f := d.kept[name]
		if d.line.chance(0.5) {
			f = d.files[name]
		}
		if f == nil {
			continue
		}
		data := bytes.Clone(f.synced)
		if more := len(f.data) - len(f.synced); more > 0 {
			data = bytes.Clone(f.data[:len(f.synced)+d.line.rng.IntN(more+1)])
		}
		left[name] = &file{disk: d, data: data, synced: bytes.Clone(data)}
	}
	d.files, d.kept = left, maps.Clone(left)
}

// fails reports whether an operation that changes something fails.
func (d *disk) fails() bool {
	if !d.line.with(DiskTrouble) || !d.line.chance(0.03) {
		return false
	}
	d.line.tally.DiskFailed++
	return true
}

// Lock is ingress.SpoolDisk's. A dead process holds nothing.
func (d *disk) Lock(string) (io.Closer, error) { return io.NopCloser(nil), nil }

// List is ingress.SpoolDisk's.
func (d *disk) List(string) ([]string, error) { return slices.Sorted(maps.Keys(d.files)), nil }

// Create is ingress.SpoolDisk's.
func (d *disk) Create(name string) (ingress.SpoolFile, error) { //nolint:ireturn // SpoolDisk has it so
	base := filepath.Base(name)
	if d.files[base] != nil {
		return nil, fs.ErrExist
	}
	if d.fails() {
		return nil, errDisk
	}
	d.files[base] = &file{disk: d}
	return d.files[base], nil
}

// Open is ingress.SpoolDisk's.
func (d *disk) Open(name string) (ingress.SpoolFile, error) { //nolint:ireturn // SpoolDisk has it so
	if f := d.files[filepath.Base(name)]; f != nil {
		return f, nil
	}
	return nil, fs.ErrNotExist
}

// Rename is ingress.SpoolDisk's.
func (d *disk) Rename(from, to string) error {
	f := d.files[filepath.Base(from)]
	if f == nil {
		return fs.ErrNotExist
	}
	delete(d.files, filepath.Base(from))
	d.files[filepath.Base(to)] = f
	return nil
}

// Remove is ingress.SpoolDisk's.
func (d *disk) Remove(name string) error {
	if d.files[filepath.Base(name)] == nil {
		return fs.ErrNotExist
	}
	delete(d.files, filepath.Base(name))
	return nil
}

// SyncDir is ingress.SpoolDisk's.
func (d *disk) SyncDir(string) error {
	if d.fails() {
		return errDisk
	}
	d.kept = maps.Clone(d.files)
	return nil
}

// Free is ingress.SpoolDisk's.
func (d *disk) Free(string) (uint64, error) { return diskFree, nil }

// ReadAt is ingress.SpoolFile's.
func (f *file) ReadAt(b []byte, at int64) (int, error) { return bytes.NewReader(f.data).ReadAt(b, at) }

// WriteAt is ingress.SpoolFile's. One that fails is done in part.
func (f *file) WriteAt(b []byte, at int64) (int, error) {
	n := len(b)
	if f.disk.fails() {
		n /= 2
	}
	if grow := int(at) + n - len(f.data); grow > 0 {
		f.data = append(f.data, make([]byte, grow)...)
	}
	copy(f.data[at:], b[:n])
	if n < len(b) {
		return n, errDisk
	}
	return n, nil
}

// Close is ingress.SpoolFile's.
func (f *file) Close() error { return nil }

// Size is ingress.SpoolFile's.
func (f *file) Size() (int64, error) { return int64(len(f.data)), nil }

// Sync is ingress.SpoolFile's.
func (f *file) Sync() error {
	if f.disk.fails() {
		return errDisk
	}
	f.synced = bytes.Clone(f.data)
	return nil
}

// Truncate is ingress.SpoolFile's.
func (f *file) Truncate(size int64) error {
	f.data = f.data[:size]
	return nil
}
