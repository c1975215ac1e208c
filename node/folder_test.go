package node_test

import (
	"errors"
	"os"
	"path/filepath"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

func locked(t *testing.T, dir, fresh, want string) {
	t.Helper()
	id, unlock, err := node.LockFolder(dir, fresh)
	if err != nil {
		t.Fatal(err)
	}
	if id != want {
		t.Errorf("its node is %q, want %q", id, want)
	}
	if _, _, err := node.LockFolder(dir, "other"); !errors.Is(err, parley.ErrLocked) {
		t.Errorf("a second process gets %v", err)
	}
	if err := unlock(); err != nil {
		t.Fatal(err)
	}
}

// TestFolderKeepsItsNode over processes, whatever a crash has left of its id.
func TestFolderKeepsItsNode(t *testing.T) {
	t.Parallel()
	dir := filepath.Join(t.TempDir(), "data")
	locked(t, dir, "one", "one")
	locked(t, dir, "two", "one")
	for _, torn := range []string{"", "on", "\x00\x00\x00\x00"} {
		if err := os.WriteFile(filepath.Join(dir, "NODE"), []byte(torn), 0o600); err != nil {
			t.Fatal(err)
		}
		locked(t, dir, "three", "three")
	}
}
