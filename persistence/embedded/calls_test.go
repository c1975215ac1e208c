package embedded_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// gatedSync is a file system whose fsyncs wait as long as its gate is closed.
type gatedSync struct {
	*vfs.MemFS
	gate *atomic.Pointer[chan struct{}]
}

type gatedFile struct {
	vfs.File
	gate *atomic.Pointer[chan struct{}]
}

func (fs gatedSync) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) { //nolint:ireturn // vfs.FS has it so
	f, err := fs.MemFS.Create(name, c)
	return gatedFile{f, fs.gate}, err
}

func (f gatedFile) wait() {
	if closed := f.gate.Load(); closed != nil {
		<-*closed
	}
}

func (f gatedFile) SyncData() error {
	f.wait()
	return f.File.SyncData()
}

func (f gatedFile) Sync() error {
	f.wait()
	return f.File.Sync()
}

// TestCallsAreDurableBeforeTheyAreMade: a call is not given to anybody as long as a
// crash could still undo the turn that decided it.
func TestCallsAreDurableBeforeTheyAreMade(t *testing.T) {
	t.Parallel()
	var gate atomic.Pointer[chan struct{}]
	s := open(t, embedded.Config{Dir: "store", FS: gatedSync{vfs.NewMem(), &gate}})
	rows, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(0)}})
	if err != nil {
		t.Fatal(err)
	}
	c := testConversation(0)
	turn := parley.Commit{
		Conversation: c, Saw: []parley.Row{rows[0].Row}, Through: rows[0].Seq,
		Next:  parley.Snapshot{Conversation: c, Version: parley.Version{Number: 1, Token: 1}},
		Calls: []parley.OutgoingCall{{ID: parley.ID{1}, Conversation: c, Call: parley.Call{Name: "n", Service: "s"}}},
	}
	closed := make(chan struct{})
	gate.Store(&closed)
	committed, claimed := make(chan error, 1), make(chan error, 1)
	go func() {
		errs, err := s.Commit(context.WithoutCancel(t.Context()), []parley.Commit{turn})
		if err == nil {
			err = errs[0]
		}
		committed <- err
	}()
	for seen := 0; seen == 0; time.Sleep(time.Millisecond) { // until the commit waits for the disk
		b, err := s.Backlog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		seen = b.Calls
	}
	n := 0
	go func() {
		q := parley.CallQuery{Services: []parley.CallPlaces{{Service: "s", Limit: 1, Lease: time.Hour}}}
		got, _, err := s.ClaimCalls(context.WithoutCancel(t.Context()), q, time.Hour)
		n = len(got)
		claimed <- err
	}()
	select {
	case err := <-claimed:
		t.Errorf("a call was given to be made that a crash could undo: %v", err)
		claimed <- nil
	case <-time.After(200 * time.Millisecond): // it waits
	}
	gate.Store(nil)
	close(closed)
	for what, done := range map[string]chan error{"commit": committed, "claim": claimed} {
		if err := <-done; err != nil {
			t.Errorf("%s: %v", what, err)
		}
	}
	if n != 1 {
		t.Errorf("claimed %d calls", n)
	}
}
