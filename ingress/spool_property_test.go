package ingress_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// deed is one step of a story: what the world does to a spool.
type deed struct {
	kind string
	n, m int
}

func (d deed) String() string { return fmt.Sprintf("%s(%d,%d)", d.kind, d.n, d.m) }

func anyDeed(t *rapid.T) deed {
	kind := rapid.SampledFrom([]string{
		"append", "append", "append", "append", "wait", "wait", "database", "database", "well", "disk", "power", "fuse", "restart",
	}).Draw(t, "kind")
	return deed{kind, rapid.IntRange(0, 7).Draw(t, "n"), rapid.IntRange(1, 900).Draw(t, "m")}
}

// TestSpoolStories: whatever happens, in any order, to the database, the disk
// and the machine: what was acknowledged reaches the database (or is put aside,
// if that refuses it), of each conversation in the order in which it was
// acknowledged, and what was told to be in the database is there.
func TestSpoolStories(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(rt *rapid.T) {
		story := rapid.SliceOfN(rapid.Custom(anyDeed), 1, 40).Draw(rt, "story")
		seed := rapid.Uint64().Draw(rt, "seed")
		var err error
		synctest.Test(t, func(t *testing.T) { err = tell(t, seed, story) })
		if err != nil {
			rt.Fatalf("%v\nstory %v", err, story)
		}
	})
}

// teller plays a story and keeps the account of what was acknowledged.
type teller struct {
	disk  *platter
	db    *base
	spool *ingress.Spool
	stop  func()
	slow  time.Duration // what an fsync takes

	mu    sync.Mutex
	n     int
	acked map[int][]string // by conversation, in order
	err   error
}

func tell(t *testing.T, seed uint64, story []deed) error {
	t.Helper()
	w := &teller{disk: newPlatter(seed), db: newBase(), acked: map[int][]string{}, slow: time.Duration(seed%4) * time.Millisecond}
	w.db.takes = time.Duration(seed/4%3) * time.Millisecond
	w.open(t)
	for _, d := range story {
		w.do(t, d)
		if w.disk.dead() {
			w.boot(t)
		}
	}
	w.end(t)
	return w.err
}

// open opens the spool, as often as the power goes meanwhile.
func (w *teller) open(t *testing.T) {
	t.Helper()
	for {
		w.disk.slow = w.slow
		s, err := ingress.OpenSpool(ingress.SpoolConfig{
			Inbox: w.db, Dir: "spool", Disk: w.disk, SegmentBytes: 700, MaxBytes: 12_000,
		})
		if err == nil {
			w.spool = s
			break
		}
		switch {
		case w.disk.dead():
			w.disk = w.disk.powerOff()
		case w.disk.fault != nil:
			w.disk.setFault(nil) // somebody repairs it, or there is no process
		default:
			t.Fatalf("open: %v", err)
		}
	}
	ctx, cancel := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func(s *ingress.Spool) {
		defer close(ended)
		w.check(s.Run(ctx))
	}(w.spool)
	w.stop = func() { cancel(); <-ended }
}

// boot starts a new process on what the disk has kept.
func (w *teller) boot(t *testing.T) {
	t.Helper()
	after := w.disk.powerOff()
	w.stop()
	w.disk = after
	w.open(t)
}

func (w *teller) check(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.err == nil {
		w.err = err
	}
}

func (w *teller) do(t *testing.T, d deed) {
	t.Helper()
	switch d.kind {
	case "append":
		w.append(d)
	case "wait":
		time.Sleep(time.Duration(d.m) * time.Millisecond)
	case "database":
		w.db.set([]fault{hangs, deaf, before, after, mute, full, before, after}[d.n])
	case "well":
		w.db.set(healthy)
		w.disk.setFault(nil)
	case "disk":
		ops := [][]string{{"write"}, {"sync"}, {"create"}, {"remove"}, {"truncate", "write"}, {"truncate", "sync"}, {"syncdir"}, {"read", "rename"}}[d.n]
		w.disk.setFault(func(op, _ string) error {
			if slices.Contains(ops, op) {
				return errBroken
			}
			return nil
		})
	case "power":
		w.disk.powerOff()
	case "fuse": // the power goes in one of the next operations
		w.disk.mu.Lock()
		w.disk.dieAt = w.disk.ops + 1 + d.m%20
		w.disk.mu.Unlock()
	case "restart":
		w.stop()
		if err := w.spool.Close(); err != nil {
			w.check(err)
		}
		w.open(t)
	}
}

// append has some conversations speak at the same time, each one message after
// the other.
func (w *teller) append(d deed) {
	var wg sync.WaitGroup
	for conv := range 1 + d.n%3 {
		wg.Go(func() {
			for range 1 + d.m%3 {
				w.say(conv, d.m%11 == 0)
			}
		})
	}
	wg.Wait()
}

func (w *teller) say(conv int, poisoned bool) {
	w.mu.Lock()
	w.n++
	text := fmt.Sprintf("message %d of %d.", w.n, conv)
	if poisoned {
		text = fmt.Sprintf("%s %d.", poison, w.n)
	}
	w.mu.Unlock()
	a := say(text)
	a.Events[0].Contacts = []parley.Contact{parley.Contact(fmt.Sprint("phone:", conv))}
	rows, err := w.spool.Append(context.Background(), a)
	if err != nil || w.disk.dead() {
		return
	}
	if len(rows) > 0 && !slices.Contains(w.db.texts(), text) {
		w.check(fmt.Errorf("%q is said to be in the database", text))
	}
	w.mu.Lock()
	defer w.mu.Unlock()
	w.acked[conv] = append(w.acked[conv], text)
}

// end lets everything be well and looks at what has arrived.
func (w *teller) end(t *testing.T) {
	t.Helper()
	w.disk.mu.Lock()
	w.disk.dieAt, w.disk.fault = 0, nil
	w.disk.mu.Unlock()
	w.db.set(healthy)
	close(w.db.thaw)
	for end := time.Now().Add(time.Hour); w.spool.State().Open && time.Now().Before(end); {
		time.Sleep(time.Second)
	}
	time.Sleep(2 * time.Second) // for files that could not be removed
	w.stop()
	if st := w.spool.State(); st.Open || st.Records > 0 {
		w.check(fmt.Errorf("not drained within an hour: %+v", st))
	}
	w.check(w.spool.Close())
	if left := w.disk.names("spool-"); len(left) > 0 {
		w.check(fmt.Errorf("files left: %v", left))
	}
	if kept := w.disk.names("damaged-"); len(kept) > 0 {
		w.check(fmt.Errorf("taken for damage: %v", kept))
	}
	for conv, said := range w.acked {
		w.check(w.compare(conv, said))
	}
}

func (w *teller) compare(conv int, said []string) error {
	arrived := slices.DeleteFunc(w.db.texts(), func(s string) bool { return !slices.Contains(said, s) })
	var want []string
	for _, s := range said {
		if !strings.HasPrefix(s, poison) {
			want = append(want, s)
		} else if !w.putAside(s) {
			return fmt.Errorf("conversation %d: %q was acknowledged and is nowhere", conv, s)
		}
	}
	if !slices.Equal(arrived, want) {
		return fmt.Errorf("conversation %d: acknowledged %q, arrived %q", conv, want, arrived)
	}
	return nil
}

func (w *teller) putAside(text string) bool {
	return slices.ContainsFunc(w.disk.names("refused-"), func(name string) bool {
		return bytes.Contains(w.disk.files[name].synced, []byte(text))
	})
}
