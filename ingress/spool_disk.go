package ingress

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"

	"github.com/parleychat/parley"
)

// SpoolDisk is the file system that a spool's folder is in. It is an interface
// so that tests can have disks that fail, fill up and lose what was not synced.
// Names are paths.
type SpoolDisk interface {
	// Lock makes the folder if it isn't there, and takes it for this process
	// until the lock is closed; ErrLocked if another has it.
	Lock(dir string) (io.Closer, error)
	List(dir string) ([]string, error)
	Create(name string) (SpoolFile, error) // to be read and written; an error if it is there
	Open(name string) (SpoolFile, error)   // to be read
	Rename(from, to string) error
	Remove(name string) error
	// SyncDir makes the creation, renaming and removal of files in dir durable.
	SyncDir(dir string) error
	// Free tells the bytes that are free for dir.
	Free(dir string) (uint64, error)
}

// SpoolFile is a file of a SpoolDisk.
type SpoolFile interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	Size() (int64, error)
	Sync() error
	Truncate(size int64) error
}

// osDisk is the machine's file system.
type osDisk struct{}

// Lock takes a lock that ends with the process, however it ends.
func (osDisk) Lock(dir string) (io.Closer, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(filepath.Join(dir, lockName), os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, err
	}
	err = unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		err = fmt.Errorf("%w: stop the process that uses it, or name another folder", parley.ErrLocked)
	}
	if err != nil {
		return nil, errors.Join(err, f.Close())
	}
	return f, nil
}

func (osDisk) List(dir string) ([]string, error) {
	d, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	names, err := d.Readdirnames(-1)
	return names, errors.Join(err, d.Close())
}

func (osDisk) Create(name string) (SpoolFile, error) { //nolint:ireturn // SpoolDisk has it so
	return openFile(name, os.O_RDWR|os.O_CREATE|os.O_EXCL)
}

func (osDisk) Open(name string) (SpoolFile, error) { //nolint:ireturn // SpoolDisk has it so
	return openFile(name, os.O_RDONLY)
}

func openFile(name string, flag int) (SpoolFile, error) { //nolint:ireturn // so that an error comes with a nil interface
	f, err := os.OpenFile(name, flag, 0o600)
	if err != nil {
		return nil, err
	}
	return osFile{f}, nil
}

func (osDisk) Rename(from, to string) error { return os.Rename(from, to) }
func (osDisk) Remove(name string) error     { return os.Remove(name) }

func (osDisk) SyncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

func (osDisk) Free(dir string) (uint64, error) {
	var st unix.Statfs_t
	if err := unix.Statfs(dir, &st); err != nil {
		return 0, err
	}
	return uint64(st.Bavail) * uint64(st.Bsize), nil //nolint:unconvert // its type is not the same on all systems
}

type osFile struct{ *os.File }

// Size is the file's length.
func (f osFile) Size() (int64, error) {
	info, err := f.Stat()
	if err != nil {
		return 0, err
	}
	return info.Size(), nil
}
