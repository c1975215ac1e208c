package main_test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

func diskFaults() []fault {
	return []fault{{name: "DiskFull", inflict: diskFull, dir: smallFolder, settings: map[string]string{"max_wal_size": "48MB", "min_wal_size": "32MB"}}}
}

// smallFolder is a folder on a small disk that a server, which isn't root, may use.
func smallFolder(t *testing.T) string {
	t.Helper()
	disk := smallDisk(t)
	if err := os.Chmod(filepath.Dir(disk), 0o711); err != nil { //nolint:gosec // others must get through
		t.Fatal(err)
	}
	return filepath.Join(disk, "data")
}

// diskFull takes the last byte of the server's disk. At first only some
// statements fail; when there is no room for the log, the server ends, and is
// started again, as by an init system, until it stays.
func diskFull(s *scene) {
	s.during(func() {
		filler := fill(s.T, filepath.Dir(s.server.Dir()), 0)
		s.rest(pick(4*time.Second, 20*time.Second))
		if err := os.Remove(filler); err != nil {
			s.Fatal(err)
		}
		s.revive()
	})
}

// revive starts the server again if it has ended.
func (s *scene) revive() {
	s.Helper()
	c, err := pgx.Connect(s.Context(), s.server.URL("postgres"))
	if err == nil {
		err = c.Close(s.Context())
	}
	if err != nil {
		s.Logf("the server has ended: %v", err)
		s.kill()
		s.again()
	}
}

func diskUpsets() []upset {
	return []upset{{name: "MemberDiskFull", inflict: memberDiskFull, small: true}}
}

// smallData is a node's folder on a small disk.
func smallData(t *testing.T) string {
	t.Helper()
	return filepath.Join(smallDisk(t), "data")
}

// memberDiskFull takes the last byte of one node's disk, which holds what it notes of
// itself and its spool.
func memberDiskFull(c *crew) {
	data := c.configs[0]["data"].(string) //nolint:forcetypeassert,errcheck // furnish made it
	c.during(func() {
		filler := fill(c.T, filepath.Dir(data), 0)
		c.rest(pick(3*time.Second, 15*time.Second))
		if err := os.Remove(filler); err != nil {
			c.Fatal(err)
		}
	})
}

// ownDiskBytes is the size of a disk of its own; what isn't used takes no room.
const ownDiskBytes = 4 << 30

// ownDisk is a file system of its own, in a file, that a server which isn't root may use.
func ownDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	image, disk := filepath.Join(dir, "image"), filepath.Join(dir, "disk")
	if err := errors.Join(os.Chmod(dir, 0o711), os.Chmod(filepath.Dir(dir), 0o711)); err != nil { //nolint:gosec // others must get through
		t.Fatal(err)
	}
	if err := errors.Join(os.WriteFile(image, nil, 0o600), os.Truncate(image, ownDiskBytes), os.Mkdir(disk, 0o711)); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	for _, words := range [][]string{{"mkfs.ext4", "-q", "-m", "0", image}, {"mount", "-o", "loop", image, disk}} {
		if out, err := exec.CommandContext(t.Context(), words[0], words[1:]...).CombinedOutput(); err != nil { //nolint:gosec // our own words
			t.Skipf("SKIPPED, NOT TESTED: a disk of its own takes root, mkfs.ext4 and loop devices: %s: %v: %s", words[0], err, out)
		}
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(disk, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	if err := os.Chmod(disk, 0o711); err != nil { //nolint:gosec // as above
		t.Fatal(err)
	}
	return disk
}

// stallDisk has a file system stand still for a while: whoever writes, waits.
func stallDisk(t *testing.T, dir string, d time.Duration) {
	t.Helper()
	const freeze, thaw = 0xc0045877, 0xc0045878 // FIFREEZE and FITHAW of linux/fs.h
	f, err := os.Open(dir)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), freeze, 0); no != 0 {
		t.Fatalf("freeze a disk: %v", no)
	}
	time.Sleep(d)
	if _, _, no := syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), thaw, 0); no != 0 {
		t.Fatalf("thaw a disk: %v", no)
	}
}
