package embedded_test

import (
	"cmp"
	"testing"

	"github.com/cockroachdb/pebble/v2/vfs"
	"go.uber.org/goleak"

	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// survivor is a store that knows what it was opened on.
type survivor struct {
	*embedded.Store
	fs vfs.FS
}

func openForExam(t *testing.T, o storetest.Options) storetest.Store { //nolint:ireturn // storetest.Open has it so
	t.Helper()
	fs := vfs.FS(vfs.NewMem())
	if old, ok := o.Reopen.(survivor); ok {
		fs = old.fs
	}
	s := open(t, embedded.Config{Dir: "store", FS: fs, Now: o.Now})
	return survivor{Store: s, fs: fs}
}

// open opens a small store and closes it at the end of the test. Unless the test says
// how often, it syncs whenever it is asked to.
func open(t *testing.T, cfg embedded.Config) *embedded.Store {
	t.Helper()
	cfg.MemTableBytes, cfg.CacheBytes, cfg.SyncEvery = 1<<20, 1<<20, cmp.Or(cfg.SyncEvery, -1)
	s, err := embedded.Open(cfg)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	})
	return s
}

func TestExam(t *testing.T) {
	t.Parallel()
	storetest.Run(t, openForExam)
}
