package main_test

import (
	"os"
	"path/filepath"
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
