package embedded_test

import (
	"errors"
	"log/slog"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/cockroachdb/pebble/v2/vfs/errorfs"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

func TestDirectory(t *testing.T) {
	t.Parallel()
	t.Run("OneProcessAtATime", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		open(t, embedded.Config{Dir: dir})
		_, err := embedded.Open(embedded.Config{Dir: dir})
		if !errors.Is(err, parley.ErrLocked) || !strings.Contains(err.Error(), dir) {
			t.Fatalf("got %v, want ErrLocked that names the directory", err)
		}
	})
	t.Run("NewerFormatIsRefusedAndLeft", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		file := filepath.Join(dir, "PARLEY")
		if err := os.WriteFile(file, []byte("parley embedded store, format 2\n"), 0o600); err != nil {
			t.Fatal(err)
		}
		_, err := embedded.Open(embedded.Config{Dir: dir})
		if !errors.Is(err, parley.ErrFormat) || !strings.Contains(err.Error(), "format 2") {
			t.Fatalf("got %v, want ErrFormat that names the format", err)
		}
		if b, err := os.ReadFile(file); err != nil || string(b) != "parley embedded store, format 2\n" {
			t.Fatalf("the file is now %q: %v", b, err)
		}
	})
	t.Run("SomethingElseIsLeft", func(t *testing.T) {
		t.Parallel()
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, "thesis.txt"), []byte("x"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := embedded.Open(embedded.Config{Dir: dir}); err == nil || !strings.Contains(err.Error(), "thesis.txt") {
			t.Fatalf("got %v, want a refusal that names the file", err)
		}
	})
	t.Run("ClosedAnswersSo", func(t *testing.T) {
		t.Parallel()
		s := open(t, embedded.Config{Dir: t.TempDir()})
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(0)}}); !errors.Is(err, embedded.ErrClosed) {
			t.Fatalf("got %v, want ErrClosed", err)
		}
	})
}

func TestRoom(t *testing.T) {
	t.Parallel()
	const reserve = 100 << 20
	var free atomic.Uint64
	free.Store(reserve)
	now := time.Date(2026, 3, 1, 0, 0, 0, 0, time.UTC)
	s := open(t, embedded.Config{
		Dir: t.TempDir(), ReserveBytes: reserve, Now: func() time.Time { return now },
		Free: func() (uint64, error) { return free.Load(), nil },
	})
	appended := func() error {
		_, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(0)}})
		return err
	}
	committed := func() error {
		loaded, err := s.Load(t.Context(), testConversation(0), 1)
		if err != nil || len(loaded.Pending) == 0 {
			t.Fatalf("load: %v", err)
		}
		p := &loaded.Pending[0]
		c := parley.Commit{
			Conversation: p.Conversation, Base: loaded.Snapshot.Version, Through: p.Seq, Saw: []parley.Row{p.Row}, Next: loaded.Snapshot,
		}
		c.Next.Version.Number++
		errs, err := s.Commit(t.Context(), []parley.Commit{c})
		return errors.Join(append(errs, err)...)
	}
	for range 3 {
		if err := appended(); err != nil {
			t.Fatal(err)
		}
	}
	free.Store(reserve - 1)
	now = now.Add(time.Second)
	if err := appended(); !errors.Is(err, parley.ErrFull) {
		t.Fatalf("append below the reserve: got %v, want ErrFull", err)
	}
	if _, err := s.Release(t.Context(), nil, parley.Arrivals{Events: []parley.Event{testEvent(0)}}); !errors.Is(err, parley.ErrFull) {
		t.Fatalf("release below the reserve: got %v, want ErrFull", err)
	}
	if err := committed(); err != nil {
		t.Fatalf("commit below the reserve: %v", err)
	}
	free.Store(reserve/2 - 1)
	now = now.Add(time.Second)
	if err := committed(); err == nil {
		t.Fatal("commit below the hard reserve was taken")
	}
	free.Store(reserve)
	if err := errors.Join(appended(), committed()); err != nil {
		t.Fatalf("with room again, at once: %v", err)
	}
}

// TestBrokenLog: a log that can't be written breaks the store for good, and by
// default ends the process. It happens in child processes, since a broken store
// can't stop its goroutines.
func TestBrokenLog(t *testing.T) {
	t.Parallel()
	switch os.Getenv("PARLEY_TEST_BROKEN") {
	case "answers":
		brokenAnswers(t)
	case "closes":
		brokenCloses(t)
	case "ends":
		brokenEnds(t)
	default:
		for mode, want := range map[string]int{"answers": 0, "closes": 0, "ends": embedded.ExitBroken} {
			cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestBrokenLog$")
			cmd.Env = append(os.Environ(), "PARLEY_TEST_BROKEN="+mode)
			out, err := cmd.CombinedOutput()
			if cmd.ProcessState.ExitCode() != want {
				t.Errorf("%s: status %d, want %d: %v\n%s", mode, cmd.ProcessState.ExitCode(), want, err, out)
			}
			if mode == "ends" && !strings.Contains(string(out), "store can't go on") {
				t.Errorf("it doesn't say why it ends:\n%s", out)
			}
		}
	}
}

// brokenFS is a file system that stops writing logs when it is told to.
func brokenFS(broken *atomic.Bool) *errorfs.FS {
	return errorfs.Wrap(vfs.NewCrashableMem(), errorfs.InjectorFunc(func(op errorfs.Op) error {
		if broken.Load() && strings.HasSuffix(op.Path, ".log") && op.Kind.ReadOrWrite() == errorfs.OpIsWrite {
			return errorfs.ErrInjected
		}
		return nil
	}))
}

// brokenAnswers: nothing that it answers once it is broken is a success, even if
// the disk is well again: the store can't know what is on it.
func brokenAnswers(t *testing.T) {
	t.Helper()
	var broken atomic.Bool
	var asked atomic.Int32 // for the time, once by each write
	var fatal atomic.Int32
	s := openBroken(t, &broken, &asked, &fatal)
	appended := func() error {
		_, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(0)}})
		return err
	}
	l := leased(t, s)
	leave(t, s, 0)
	leave(t, s, 1)
	broken.Store(true)
	before := asked.Load()
	ends(t, "claims", func() {
		var claims sync.WaitGroup
		for range 2 {
			claims.Go(func() { refused(t, s, l) })
		}
		for asked.Load() < before+2 {
			runtime.Gosched()
		}
		if err := appended(); err == nil { // it does the fsync that the claims wait for
			t.Error("an append was acknowledged whose log could not be written")
		}
		claims.Wait()
	})
	for range 3 {
		if err := appended(); err == nil {
			t.Error("an append was acknowledged whose log could not be written")
		}
		broken.Store(false)
	}
	if fatal.Load() != 1 {
		t.Errorf("Fatal was called %d times", fatal.Load())
	}
	if err := s.Close(); err == nil {
		t.Error("closing a broken store is no success")
	}
	if !t.Failed() {
		os.Exit(0) // before anyone looks for the goroutines that can't end
	}
}

// brokenCloses: a claim that waits for its fsync while the store is being closed gets
// to know that there was none, and so does who closes it.
func brokenCloses(t *testing.T) {
	t.Helper()
	var broken atomic.Bool
	var asked atomic.Int32 // for the time, once by each write
	var fatal atomic.Int32
	s := openBroken(t, &broken, &asked, &fatal)
	l := leased(t, s)
	leave(t, s, 0)
	broken.Store(true)
	before := asked.Load()
	ends(t, "a claim and a closing", func() {
		var claim sync.WaitGroup
		claim.Go(func() { refused(t, s, l) })
		for asked.Load() == before {
			runtime.Gosched()
		}
		if err := s.Close(); err == nil {
			t.Error("closing a broken store is no success")
		}
		claim.Wait()
	})
	if fatal.Load() != 1 {
		t.Errorf("Fatal was called %d times", fatal.Load())
	}
	if !t.Failed() {
		os.Exit(0) // before anyone looks for the goroutines that can't end
	}
}

// openBroken opens a store whose log can be broken, and where claims wait for others.
func openBroken(t *testing.T, broken *atomic.Bool, asked, fatal *atomic.Int32) *embedded.Store {
	t.Helper()
	s, err := embedded.Open(embedded.Config{
		Dir: "store", FS: brokenFS(broken), SyncEvery: 20 * time.Millisecond, Fatal: func(error) { fatal.Add(1) },
		Now: func() time.Time { asked.Add(1); return time.Now() },
	})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// refused claims a message, which can't be written.
func refused(t *testing.T, s *embedded.Store, l parley.Lease) {
	t.Helper()
	if claimed, _, err := s.Claim(t.Context(), l, parley.Places{All: 1}, time.Minute, time.Minute); err == nil {
		t.Errorf("%d messages were claimed, which could not be written", len(claimed))
	}
}

func leased(t *testing.T, s *embedded.Store) parley.Lease {
	t.Helper()
	l, err := s.Lease(t.Context(), testChannel(), "before", time.Hour, parley.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// ends fails if something doesn't come to an end.
func ends(t *testing.T, what string, do func()) {
	t.Helper()
	done := make(chan struct{})
	go func() { defer close(done); do() }()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		t.Fatalf("%s: no end", what)
	}
}

func brokenEnds(t *testing.T) {
	t.Helper()
	var broken atomic.Bool
	s, err := embedded.Open(embedded.Config{
		Dir: "store", FS: brokenFS(&broken), Logger: slog.New(slog.NewTextHandler(os.Stderr, nil)),
	})
	if err != nil {
		t.Fatal(err)
	}
	broken.Store(true)
	_, err = s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(0)}})
	t.Errorf("the process goes on: %v", err)
}
