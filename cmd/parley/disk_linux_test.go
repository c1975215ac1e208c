package main_test

import (
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/google/go-cmp/cmp"
)

const (
	diskBytes    = 160 << 20
	reserveBytes = 32 << 20
)

// smallDisk mounts a disk of diskBytes in memory.
func smallDisk(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := syscall.Mount("tmpfs", dir, "tmpfs", 0, fmt.Sprintf("size=%d", diskBytes)); err != nil {
		t.Skipf("can't mount a small disk, which takes root: %v", err)
	}
	t.Cleanup(func() {
		if err := syscall.Unmount(dir, syscall.MNT_DETACH); err != nil {
			t.Error(err)
		}
	})
	return dir
}

// fill leaves so many bytes of a disk.
func fill(t *testing.T, dir string, leave uint64) (path string) {
	t.Helper()
	var st syscall.Statfs_t
	if err := syscall.Statfs(dir, &st); err != nil {
		t.Fatal(err)
	}
	free := st.Bavail * uint64(st.Bsize)
	if free < leave {
		t.Fatalf("only %d bytes are free", free)
	}
	path = filepath.Join(dir, "filler")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	left := allocate(f, free-leave)
	chunk := make([]byte, 1<<20)
	for left > 0 {
		n, err := f.Write(chunk[:min(left, uint64(len(chunk)))])
		left -= uint64(n)
		if err != nil && leave > 0 {
			t.Fatal(err)
		}
		if err != nil {
			break // not a byte is left, as wanted
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// allocate gives a file room without writing, where that can be done, and returns how
// much of it is left to be written.
func allocate(f *os.File, size uint64) (left uint64) {
	const block = 4096
	offset := int64(0)
	for try := size; try >= block && size > 0; try = min(try, size) {
		if err := syscall.Fallocate(int(f.Fd()), 0, offset, int64(try)); err != nil {
			try /= 2
			continue
		}
		offset, size = offset+int64(try), size-try
	}
	_, _ = f.Seek(offset, io.SeekStart) // never fails: it is a file
	return size
}

// A disk without room: no webhook is acknowledged, none is lost, and the node
// serves again as soon as there is room, by itself.
func TestDiskFull(t *testing.T) {
	t.Parallel()
	for name, leave := range map[string]uint64{"BelowTheReserve": reserveBytes - 1<<20, "NotAByteLeft": 0} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			disk := smallDisk(t)
			g := newGraph(t)
			cfg := configured(g.URL, channel("messenger", pageID, "fateful")).
				with("data", filepath.Join(disk, "data")).with("reserve_bytes", reserveBytes)
			n := newHouse(t).start(t, asFateful, cfg)
			n.tell(t, "u1", "1", "say a")
			g.heard(t, "u1", "said a #1")
			filler := fill(t, disk, leave)
			// What the node knows of the disk may be a tenth of a second old.
			var refused answer
			stored := 0
			await(t, "the disk counts as full", func() bool {
				refused = n.post(t, message("u2", fmt.Sprintf("fills-%d", stored), "say x"))
				if refused.status == http.StatusOK {
					stored++
				}
				return refused.status != http.StatusOK
			})
			if refused.status != http.StatusServiceUnavailable || refused.retryAfter == "" {
				t.Errorf("answered %+v, want 503 and when to come again", refused)
			}
			for range 20 {
				if a := n.post(t, message("u1", "2", "say b")); a.status != http.StatusServiceUnavailable {
					t.Errorf("answered %+v while the disk is full", a)
				}
			}
			if err := os.Remove(filler); err != nil {
				t.Fatal(err)
			}
			await(t, "the node serves again", func() bool { return n.post(t, message("u1", "2", "say b")).status == http.StatusOK })
			n.tell(t, "u1", "3", "say c")
			g.heard(t, "u1", "said c #3")
			n.drained(t)
			if diff := cmp.Diff([]string{"said a #1", "said b #2", "said c #3"}, g.texts("u1")); diff != "" {
				t.Errorf("replies (-want +got):\n%s", diff)
			}
			if got := len(g.texts("u2")); got != stored {
				t.Errorf("%d replies to %d acknowledged messages", got, stored)
			}
			n.stop(t)
		})
	}
}

// Without a small disk at hand the reserve does: more than any disk has.
func TestReserveIsKept(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	h := newHouse(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful"))
	n := h.start(t, asFateful, cfg)
	n.tell(t, "u1", "1", "say a")
	g.heard(t, "u1", "said a #1")
	n.drained(t)
	n.stop(t)

	n = h.start(t, asFateful, cfg.with("reserve_bytes", uint64(1)<<62))
	if a := n.post(t, message("u1", "2", "say b")); a.status != http.StatusServiceUnavailable || a.retryAfter == "" {
		t.Errorf("answered %+v, want 503 and when to come again", a)
	}
	if got := n.metric(t, "parley_ingress_requests_total", `answer="full"`); got != 1 {
		t.Errorf("%d requests counted as full, want 1", got)
	}
	n.stop(t)

	n = h.start(t, asFateful, cfg)
	n.tell(t, "u1", "2", "say b")
	g.heard(t, "u1", "said b #2")
	n.stop(t)
}
