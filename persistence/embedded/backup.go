package embedded

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
)

// checkpointFolder is where in the store's directory a checkpoint is made: on the
// same file system, so that it consists of links and takes no time.
const checkpointFolder = "checkpoint"

// Checkpoint makes a copy of the store in the folder checkpoint of its directory,
// in the place of an earlier one, and returns the copy's path. All that was
// acknowledged before the call is in it, and of what comes in meanwhile a part
// such that nothing is there without what it builds on.
//
// Its files are shared with the store as long as that has them, so it is not a
// backup itself, but what [Copy] makes one of.
func (s *Store) Checkpoint(ctx context.Context) (dir string, err error) {
	if err := s.enter(ctx); err != nil {
		return "", err
	}
	defer s.leave()
	s.checkpoint.Lock()
	defer s.checkpoint.Unlock()
	fs := s.cfg.FS
	dir = fs.PathJoin(s.cfg.Dir, checkpointFolder)
	if err := fs.RemoveAll(dir); err != nil {
		return "", fmt.Errorf("remove the checkpoint before: %w", err)
	}
	if err := s.db.Checkpoint(dir, pebble.WithFlushedWAL()); err != nil {
		return "", fmt.Errorf("make a checkpoint: %w", err)
	}
	if err := writeFormat(fs, dir); err != nil {
		return "", fmt.Errorf("make a checkpoint: %w", err)
	}
	return dir, nil
}

// Copy copies a store that nobody has open, a checkpoint or a copy, into a folder
// that is empty or not there, and returns once all of it is on the disk. Both are
// locked meanwhile. The file that makes a folder a store is written last: a copy
// that was broken off is refused by Open.
func Copy(ctx context.Context, from, to string) (err error) {
	fs := vfs.Default
	if err := copyable(fs, from, to); err != nil {
		return err
	}
	if err := fs.MkdirAll(to, 0o700); err != nil {
		return fmt.Errorf("copy store to %s: %w", to, err)
	}
	unlock, err := lockBoth(fs, from, to)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, unlock()) }()
	names, err := fs.List(from)
	if err != nil {
		return fmt.Errorf("copy store from %s: %w", from, err)
	}
	for _, name := range names {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("copy store to %s: %w", to, err)
		}
		if err := copyFile(fs, fs.PathJoin(from, name), fs.PathJoin(to, name)); err != nil {
			return fmt.Errorf("copy store: %s: %w", name, err)
		}
	}
	if err := writeFormat(fs, to); err != nil {
		return fmt.Errorf("copy store to %s: %w", to, err)
	}
	return nil
}

// lockBoth locks the folders of a copy. One without a lock's file has never been
// open, and may be where nothing can be written.
func lockBoth(fs vfs.FS, from, to string) (unlock func() error, err error) {
	target, err := pebble.LockDirectory(to, fs)
	if err != nil {
		return nil, fmt.Errorf("%w: %s (%w)", parley.ErrLocked, to, err)
	}
	if _, err := fs.Stat(fs.PathJoin(from, lockFile)); errors.Is(err, os.ErrNotExist) {
		return target.Close, nil
	}
	source, err := pebble.LockDirectory(from, fs)
	if err != nil {
		return nil, errors.Join(fmt.Errorf("%w: %s (%w)", parley.ErrLocked, from, err), target.Close())
	}
	return func() error { return errors.Join(source.Close(), target.Close()) }, nil
}

// copyable says what speaks against a copy: it must be of a store, of a format
// that this program knows, and into nothing.
func copyable(fs vfs.FS, from, to string) error {
	switch marked, err := readFormat(fs, from); {
	case err != nil:
		return fmt.Errorf("%s: %w", from, err)
	case !marked:
		return fmt.Errorf("%s: it has no file %s, so it isn't a store of Parley, or a copy that was broken off", from, formatFile)
	}
	names, err := fs.List(to)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for _, name := range names {
		if !slices.Contains(nothing(), name) {
			return fmt.Errorf("%s: it holds %q; name a folder that is empty or not there", to, name)
		}
	}
	return err
}

// copyFile copies one file of a store. Folders are none of it, nor are locks and
// files that were not finished; the format is written by itself.
func copyFile(fs vfs.FS, from, to string) error {
	name := fs.PathBase(from)
	if name == formatFile || slices.Contains(nothing(), name) || strings.HasSuffix(name, ".tmp") {
		return nil
	}
	info, err := fs.Stat(from)
	if err != nil || info.IsDir() {
		return err
	}
	in, err := fs.Open(from)
	if err != nil {
		return err
	}
	out, err := fs.Create(to, vfs.WriteCategoryUnspecified)
	if err != nil {
		return errors.Join(err, in.Close())
	}
	_, err = io.Copy(out, in)
	return errors.Join(err, out.Sync(), out.Close(), in.Close())
}
