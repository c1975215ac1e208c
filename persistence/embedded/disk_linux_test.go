package embedded_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// TestFullDisk fills a real file system of 48 MiB. It needs the right to mount.
func TestFullDisk(t *testing.T) {
	t.Parallel()
	mount := t.TempDir()
	if err := syscall.Mount("tmpfs", mount, "tmpfs", 0, "size=48m"); err != nil {
		t.Skipf("mount: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(mount, 0); err != nil {
			t.Error(err)
		}
	})
	ballast := filepath.Join(mount, "lost+found")
	if err := os.WriteFile(ballast, make([]byte, 8<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	cfg := embedded.Config{Dir: filepath.Join(mount, "store"), ReserveBytes: 16 << 20}
	s := open(t, cfg)
	event := testEvent(0)
	event.Input = parley.Message{Text: strings.Repeat("x", 100<<10)}
	appended, full := 0, error(nil)
	for full == nil && appended < 1000 {
		if _, full = s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{event}}); full == nil {
			appended++
		}
	}
	if !errors.Is(full, parley.ErrFull) {
		t.Fatalf("after %d events of 100 KiB: %v, want ErrFull", appended, full)
	}
	if _, err := s.Register(t.Context(), parley.Registration{App: "a", Channel: testChannel()}); err != nil {
		t.Fatalf("what brings no events: %v", err)
	}
	if err := os.Remove(ballast); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{event}}); err != nil {
		t.Fatalf("with room again: %v", err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	loaded, err := open(t, cfg).Load(t.Context(), testConversation(0), 1<<20)
	if err != nil || len(loaded.Pending) != appended+1 {
		t.Fatalf("%d events, want %d: %v", len(loaded.Pending), appended+1, err)
	}
}
