package embedded_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

func appendOne(t *testing.T, s *embedded.Store, n int) {
	t.Helper()
	if _, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(n)}}); err != nil {
		t.Fatal(err)
	}
}

func pendingOf(t *testing.T, dir string) int {
	t.Helper()
	s := open(t, embedded.Config{Dir: dir})
	b, err := s.Backlog(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Pending
}

// A backup of a running store has what was there, and not what came after it.
func TestBackupOfARunningStore(t *testing.T) {
	t.Parallel()
	s := open(t, embedded.Config{Dir: filepath.Join(t.TempDir(), "data")})
	parent := t.TempDir()
	for n, name := range []string{"first", "second"} { // the second checkpoint takes the place of the first
		for range 100 {
			appendOne(t, s, 0)
		}
		made, err := s.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		appendOne(t, s, 0)
		backup, restored := filepath.Join(parent, name), filepath.Join(parent, name+"-restored")
		for _, step := range [][2]string{{made, backup}, {backup, restored}} {
			if err := embedded.Copy(t.Context(), step[0], step[1]); err != nil {
				t.Fatal(err)
			}
		}
		want := 100 + n*101
		if got := pendingOf(t, restored); got != want {
			t.Errorf("%s: %d events pending, want %d", name, got, want)
		}
		if got := pendingOf(t, backup); got != want {
			t.Errorf("the backup itself has changed: %d events pending, want %d", got, want)
		}
	}
}

// What was acknowledged before the checkpoint is in it, whatever is being written
// meanwhile.
func TestCheckpointUnderLoad(t *testing.T) {
	t.Parallel()
	s := open(t, embedded.Config{Dir: filepath.Join(t.TempDir(), "data")})
	var acknowledged, begun atomic.Int64
	loading, stop := context.WithCancel(t.Context())
	var writers sync.WaitGroup
	for range 4 {
		writers.Go(func() {
			for loading.Err() == nil {
				begun.Add(1)
				if _, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(0)}}); err != nil {
					t.Error(err)
					return
				}
				acknowledged.Add(1)
			}
		})
	}
	for k := range 3 {
		for acknowledged.Load() < int64(k+1)*200 && !t.Failed() {
			appendOne(t, s, 0)
			begun.Add(1)
			acknowledged.Add(1)
		}
		least := acknowledged.Load()
		made, err := s.Checkpoint(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		to := filepath.Join(t.TempDir(), "copy")
		if err := embedded.Copy(t.Context(), made, to); err != nil {
			t.Fatal(err)
		}
		if got, most := int64(pendingOf(t, to)), begun.Load(); got < least || got > most {
			t.Errorf("%d events in the copy, of which at least %d were acknowledged before, of %d in all", got, least, most)
		}
	}
	stop()
	writers.Wait()
}

// A copy is made of a store, into nothing, while nobody uses either.
func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	closed := filepath.Join(t.TempDir(), "closed")
	if err := open(t, embedded.Config{Dir: closed}).Close(); err != nil {
		t.Fatal(err)
	}
	used := filepath.Join(t.TempDir(), "used")
	open(t, embedded.Config{Dir: used})
	written := func(name, text string) string {
		dir := t.TempDir()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		return dir
	}
	for name, row := range map[string]struct {
		from, to string
		is       error
		word     string
	}{
		"InUse":        {used, t.TempDir(), parley.ErrLocked, used},
		"IntoAFull":    {closed, written("thesis.txt", "x"), nil, "thesis.txt"},
		"IntoAnother":  {closed, used, nil, "empty"},
		"OfNothing":    {t.TempDir(), t.TempDir(), nil, "isn't a store"},
		"OfWhatIsNot":  {filepath.Join(t.TempDir(), "none"), t.TempDir(), nil, "isn't a store"},
		"OfANewFormat": {written("PARLEY", "parley embedded store, format 99\n"), t.TempDir(), parley.ErrFormat, "format 99"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			err := embedded.Copy(t.Context(), row.from, row.to)
			if err == nil || row.is != nil && !errors.Is(err, row.is) || !strings.Contains(err.Error(), row.word) {
				t.Errorf("got %v, want an error with %q", err, row.word)
			}
		})
	}
}

// A copy that was broken off is not taken for a store.
func TestBrokenCopyIsNoStore(t *testing.T) {
	t.Parallel()
	from, to := filepath.Join(t.TempDir(), "from"), filepath.Join(t.TempDir(), "to")
	if err := open(t, embedded.Config{Dir: from}).Close(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := embedded.Copy(ctx, from, to); !errors.Is(err, context.Canceled) {
		t.Fatalf("got %v", err)
	}
	if err := embedded.Copy(t.Context(), from, to); err != nil { // nothing was written yet
		t.Fatal(err)
	}
	if err := os.Remove(filepath.Join(to, "PARLEY")); err != nil { // is written last
		t.Fatal(err)
	}
	if _, err := embedded.Open(embedded.Config{Dir: to}); err == nil || !strings.Contains(err.Error(), "no file PARLEY") {
		t.Errorf("opened as a store: %v", err)
	}
}
