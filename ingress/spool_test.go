package ingress_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

const (
	spoolTimeout = 500 * time.Millisecond // the defaults
	spoolProbe   = 100 * time.Millisecond
)

func same(tb testing.TB, what string, got, want any) {
	tb.Helper()
	if d := cmp.Diff(want, got); d != "" {
		tb.Fatalf("%s (-want +got):\n%s", what, d)
	}
}

func TestSpoolPassesThrough(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := openSpool(t, newPlatter(1), newBase())
		g.run(t)
		for i := range 5 {
			rows := g.append(t, fmt.Sprint(i))
			if len(rows) != 1 || rows[0].Late {
				t.Fatalf("rows %+v", rows)
			}
		}
		if files := g.disk.names(""); len(files) > 0 {
			t.Errorf("files %v", files)
		}
		same(t, "state", g.State(), ingress.Spooled{})
	})
}

// TestSpoolTakesOver: whatever way the database has of not answering, the first
// group waits for Timeout at most, the others for nothing; all of it arrives, in
// order and marked late.
func TestSpoolTakesOver(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		fault fault
		waits time.Duration
	}{
		"hangs": {hangs, spoolTimeout}, "deaf": {deaf, spoolTimeout}, "mute": {mute, spoolTimeout},
		"unavailable": {before, 0}, "unavailable after all": {after, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				g := openSpool(t, newPlatter(1), newBase())
				g.run(t)
				g.append(t, "a")
				g.base.set(tt.fault)
				began := time.Now()
				if rows := g.append(t, "b"); rows != nil || time.Since(began) != tt.waits {
					t.Fatalf("first: %v rows after %v, want %v", rows, time.Since(began), tt.waits)
				}
				began = time.Now()
				g.append(t, "c", "d")
				g.append(t, "e")
				if waited := time.Since(began); waited > 0 {
					t.Errorf("the others waited for %v", waited)
				}
				if st := g.State(); !st.Open || st.Records != 3 || st.Bytes == 0 {
					t.Errorf("state %+v", st)
				}
				time.Sleep(time.Minute)
				g.base.set(healthy)
				close(g.base.thaw)
				time.Sleep(spoolTimeout + 2*spoolProbe)
				same(t, "texts", g.base.texts(), []string{"a", "b", "c", "d", "e"})
				checkLate(t, g.base, "b", "c", "d", "e")
				same(t, "state", g.State(), ingress.Spooled{})
				if rows := g.append(t, "f"); len(rows) != 1 || rows[0].Late {
					t.Errorf("afterwards: %+v", rows)
				}
				if files := g.disk.names(""); len(files) > 0 {
					t.Errorf("files %v", files)
				}
			})
		})
	}
}

// checkLate wants each of the texts to be among the rows as late, at least once.
func checkLate(t *testing.T, d *base, texts ...string) {
	t.Helper()
	d.look(func() {
		for _, text := range texts {
			if !slices.ContainsFunc(d.rows, func(e parley.Event) bool { return e.Late && textOf(e) == text }) {
				t.Errorf("%q is not marked late", text)
			}
		}
	})
}

// TestSpoolLeavesOtherErrorsAlone: they are the caller's, and nothing is spooled.
func TestSpoolLeavesOtherErrorsAlone(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := openSpool(t, newPlatter(1), newBase())
		g.run(t)
		for f, want := range map[fault]error{full: parley.ErrFull, broken: errDisk} {
			g.base.set(f)
			if _, err := g.Append(t.Context(), say("x")); !errors.Is(err, want) {
				t.Errorf("got %v, want %v", err, want)
			}
		}
		g.base.set(healthy)
		if _, err := g.Append(t.Context(), say(poison)); !errors.Is(err, errData) {
			t.Errorf("got %v, want %v", err, errData)
		}
		g.base.set(hangs)
		ctx, cancel := context.WithTimeout(t.Context(), spoolProbe)
		defer cancel()
		gone, leave := context.WithCancel(t.Context())
		leave()
		if _, err := g.Append(gone, say("x")); !errors.Is(err, context.Canceled) {
			t.Errorf("of a caller that has gone: %v", err)
		}
		same(t, "state", g.State(), ingress.Spooled{})
		// A caller with less patience than the spool gets no answer, but the next does.
		if _, err := g.Append(ctx, say("x")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("of a caller without patience: %v", err)
		}
	})
}

// TestSpoolRefusesWhatNoStoreTakes, so that it is not acknowledged.
func TestSpoolRefusesWhatNoStoreTakes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		g := openSpool(t, newPlatter(1), db)
		for name, spoil := range map[string]func(*parley.Event){
			"input":    func(e *parley.Event) { e.Input = nil },
			"contacts": func(e *parley.Event) { e.Contacts = nil },
			"channel":  func(e *parley.Event) { e.Channel.Brand = "" },
		} {
			a := say("x", "y")
			spoil(&a.Events[1])
			if _, err := g.Append(t.Context(), a); err == nil || errors.Is(err, parley.ErrUnavailable) {
				t.Errorf("without %s: %v", name, err)
			}
		}
		same(t, "records", g.State().Records, 0)
	})
}

// TestSpoolProbes: while the database is away it is asked for a batch of bounded
// size once per Probe, and for nothing else.
func TestSpoolProbes(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		g := openSpool(t, newPlatter(1), db)
		g.run(t)
		for i := range 3000 {
			g.append(t, fmt.Sprint(i))
			if i%3 == 0 {
				time.Sleep(time.Millisecond)
			}
		}
		time.Sleep(10 * time.Second)
		db.look(func() {
			if n := len(db.calls); n < 100 || n > 112 {
				t.Errorf("%d calls in 11 s", n)
			}
			for i, c := range db.calls[1:] {
				if c.updates > 256 {
					t.Errorf("a probe with %d updates", c.updates)
				}
				if gap := c.at.Sub(db.calls[i].at); i > 0 && gap < spoolProbe {
					t.Errorf("a probe %v after the last", gap)
				}
			}
		})
		db.set(healthy)
		time.Sleep(spoolProbe)
		synctest.Wait()
		same(t, "state", g.State(), ingress.Spooled{})
		same(t, "texts", len(db.texts()), 3000)
		db.look(func() {
			if n := len(db.calls); n > 132 {
				t.Errorf("%d calls to drain 3000 updates", n-112)
			}
		})
	})
}

// TestSpoolIsNotOvertaken: until the last spooled event is in the database, no
// event takes the short way.
func TestSpoolIsNotOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		g := openSpool(t, newPlatter(1), db)
		g.run(t)
		var want []string
		add := func() {
			text := fmt.Sprintf("%04d", len(want))
			want = append(want, text)
			g.append(t, text)
		}
		for range 500 {
			add()
		}
		db.look(func() { db.fault, db.takes = healthy, 20*time.Millisecond })
		for range 500 {
			add()
			time.Sleep(time.Millisecond)
		}
		time.Sleep(time.Second)
		same(t, "texts", db.texts(), want)
		same(t, "state", g.State(), ingress.Spooled{})
	})
}

// TestSpoolWaitsForItsWriters: the spool isn't empty while somebody is about to
// write into it.
func TestSpoolWaitsForItsWriters(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		disk := newPlatter(1)
		disk.slow = 50 * time.Millisecond
		g := openSpool(t, disk, db)
		g.run(t)
		acked := make(chan string, 2)
		for _, text := range []string{"a", "b"} {
			go func() {
				if _, err := g.Append(context.Background(), say(text)); err != nil {
					t.Errorf("append: %v", err)
				}
				acked <- text
			}()
			time.Sleep(time.Millisecond)
		}
		db.set(healthy)
		same(t, "acknowledged first", <-acked, "a")
		same(t, "acknowledged next", <-acked, "b")
		g.append(t, "c")
		time.Sleep(time.Second)
		same(t, "texts", db.texts(), []string{"a", "b", "c"})
	})
}

// TestSpoolGivesUpWaiting: behind a disk that hangs an append waits no longer
// than its caller wants.
func TestSpoolGivesUpWaiting(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		disk := newPlatter(1)
		disk.slow = time.Hour
		g := openSpool(t, disk, db)
		acked := make(chan error, 1)
		go func() {
			_, err := g.Append(context.Background(), say("a"))
			acked <- err
		}()
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if _, err := g.Append(ctx, say("b")); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("got %v", err)
		}
		if err := <-acked; err != nil {
			t.Error(err)
		}
	})
}

// TestSpoolDrainEnds although events come in faster than the database takes them
// one by one, and even if it takes them more slowly in any case; nobody waits
// for longer than twice Timeout.
func TestSpoolDrainEnds(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		takes, each time.Duration
		lanes       int
	}{
		"slow calls":             {40 * time.Millisecond, 0, 1},
		"slow calls, many lanes": {40 * time.Millisecond, 0, 12},
		"slow for each":          {0, 2 * time.Millisecond, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				db := newBase()
				db.set(before)
				g := openSpool(t, newPlatter(1), db)
				g.run(t)
				for i := range 200 {
					g.append(t, fmt.Sprint("outage ", i))
				}
				stop := make(chan struct{})
				ended := make(chan time.Duration)
				for lane := range tt.lanes {
					go func() { ended <- pour(t, g, lane, stop) }()
				}
				time.Sleep(spoolTimeout)
				db.look(func() { db.fault, db.takes, db.each = healthy, tt.takes, tt.each })
				deadline := time.Now().Add(2 * time.Minute)
				for g.State().Open && time.Now().Before(deadline) {
					time.Sleep(10 * time.Millisecond)
				}
				if st := g.State(); st.Open {
					t.Errorf("after two minutes: %+v", st)
				}
				close(stop)
				for range tt.lanes {
					if longest := <-ended; longest > 2*spoolTimeout {
						t.Errorf("an append waited for %v", longest)
					}
				}
			})
		})
	}
}

// pour appends without a pause but a millisecond, and returns the longest wait.
func pour(t *testing.T, g *spoolRig, lane int, stop <-chan struct{}) (longest time.Duration) {
	t.Helper()
	for i := 0; ; i++ {
		select {
		case <-stop:
			return longest
		case <-time.After(time.Millisecond):
		}
		began := time.Now()
		if _, err := g.Append(context.Background(), say(fmt.Sprintf("lane %d %d", lane, i))); err != nil {
			t.Errorf("append: %v", err)
			return longest
		}
		longest = max(longest, time.Since(began))
	}
}

// TestSpoolBoundsItsCalls: appends that the database never answers are few,
// however many come.
func TestSpoolBoundsItsCalls(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(deaf)
		g := openSpool(t, newPlatter(1), db)
		g.run(t)
		acked := make(chan error)
		for i := range 100 {
			go func() {
				_, err := g.Append(context.Background(), say(fmt.Sprint(i)))
				acked <- err
			}()
		}
		for range 100 {
			if err := <-acked; err != nil {
				t.Error(err)
			}
		}
		time.Sleep(time.Minute)
		db.look(func() {
			if db.most > 16 {
				t.Errorf("%d calls at a time", db.most)
			}
			db.fault = healthy
		})
		close(db.thaw)
		time.Sleep(time.Second)
		same(t, "texts", len(db.texts()), 100)
		same(t, "state", g.State(), ingress.Spooled{})
	})
}

// TestSpoolAcknowledgesWhatIsDurable: the power goes right after the answer.
func TestSpoolAcknowledgesWhatIsDurable(t *testing.T) {
	t.Parallel()
	for seed := range uint64(20) {
		db := newBase()
		db.set(before)
		g := openSpool(t, newPlatter(seed), db)
		var want []string
		for i := range 1 + seed%3 {
			want = append(want, fmt.Sprint(i))
			g.append(t, want[i])
		}
		again := openSpool(t, g.disk.powerOff(), newBase())
		drainAll(t, again)
		same(t, "texts", again.base.texts(), want)
	}
}

// drainAll runs a spool until it is empty.
func drainAll(tb testing.TB, g *spoolRig) {
	tb.Helper()
	g.run(tb)
	eventually(tb, "drained", func() bool { return !g.State().Open })
	g.stop()
}

// TestSpoolGivesUpWhatIsDurableElsewhere: the process ends at some moment of the
// drain, and nothing is missing.
func TestSpoolGivesUpWhatIsDurableElsewhere(t *testing.T) {
	t.Parallel()
	for _, f := range []fault{before, after, mute} {
		synctest.Test(t, func(t *testing.T) {
			db := newBase()
			db.set(before)
			g := openSpool(t, newPlatter(1), db, func(c *ingress.SpoolConfig) { c.SegmentBytes = 4000 })
			var want []string
			for i := range 1000 { // of many segments
				want = append(want, fmt.Sprint(i))
				g.append(t, want[i])
			}
			g.run(t)
			db.look(func() { db.fault, db.takes = healthy, 10*time.Millisecond })
			time.Sleep(200 * time.Millisecond)
			db.set(f)
			if n := len(db.texts()); n < 100 || n > 900 {
				t.Fatalf("%d are drained", n)
			}
			time.Sleep(spoolTimeout + 3*spoolProbe)
			g.stop()
			again := openSpool(t, g.disk.powerOff(), db)
			db.set(healthy)
			drainAll(t, again)
			same(t, "texts", db.texts(), want)
		})
	}
}

// TestSpoolGoesOnAfterARestart: what is left goes first.
func TestSpoolGoesOnAfterARestart(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		db := newBase()
		db.set(before)
		g := openSpool(t, newPlatter(1), db)
		g.append(t, "a")
		time.Sleep(time.Minute)
		if err := g.Close(); err != nil {
			t.Fatal(err)
		}
		if _, err := g.Append(t.Context(), say("x")); err == nil {
			t.Error("a closed spool takes events")
		}
		db.set(healthy)
		again := openSpool(t, g.disk, db)
		if st := again.State(); !st.Open || st.Records != 1 || st.Oldest != time.Minute {
			t.Errorf("state %+v", st)
		}
		if rows := again.append(t, "b"); rows != nil {
			t.Errorf("passed through before what was left: %+v", rows)
		}
		again.run(t)
		synctest.Wait()
		again.append(t, "c")
		same(t, "texts", db.texts(), []string{"a", "b", "c"})
		if _, err := ingress.OpenSpool(again.cfg); !errors.Is(err, parley.ErrLocked) {
			t.Errorf("a second time: %v", err)
		}
	})
}

// TestSpoolIsBounded by its own limit, by what is kept of the disk, and by the
// disk.
func TestSpoolIsBounded(t *testing.T) {
	t.Parallel()
	for name, tt := range map[string]struct {
		adjust func(*ingress.SpoolConfig)
		disk   func(*platter)
	}{
		"MaxBytes": {func(c *ingress.SpoolConfig) { c.MaxBytes = 5000 }, func(*platter) {}},
		"reserve":  {func(*ingress.SpoolConfig) {}, func(p *platter) { p.free = 256<<20 + 5000 }},
		"disk": {func(*ingress.SpoolConfig) {}, func(p *platter) {
			written := 0
			p.fault = func(op, _ string) error {
				if op != "write" {
					return nil
				}
				if written++; written > 10 {
					return syscall.ENOSPC
				}
				return nil
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				db := newBase()
				db.set(before)
				disk := newPlatter(1)
				tt.disk(disk)
				g := openSpool(t, disk, db, tt.adjust)
				g.run(t)
				var want []string
				var err error
				for i := 0; err == nil && i < 1000; i++ {
					text := fmt.Sprint(i)
					if _, err = g.Append(t.Context(), say(text)); err == nil {
						want = append(want, text)
					}
				}
				if !errors.Is(err, parley.ErrFull) || len(want) < 5 || len(want) > 200 {
					t.Fatalf("after %d: %v", len(want), err)
				}
				disk.setFault(nil)
				db.set(healthy)
				time.Sleep(spoolProbe)
				synctest.Wait()
				same(t, "state", g.State(), ingress.Spooled{})
				same(t, "texts", db.texts(), want)
				g.append(t, "after")
			})
		})
	}
}

// TestSpoolOnABadDisk: what could not be written or synced is not acknowledged,
// what was acknowledged is not lost by it, and what comes later is not put where
// the disk has failed.
func TestSpoolOnABadDisk(t *testing.T) {
	t.Parallel()
	for name, fails := range map[string][]string{
		"create": {"create"}, "folder": {"syncdir"}, "header": {"sync", "remove"}, "write": {"write"}, "sync": {"sync"},
		"write and truncate": {"write", "truncate"}, "sync and truncate": {"sync", "truncate"},
		"all": {"create", "write", "sync", "truncate", "remove", "syncdir"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(24) {
				spoolOnABadDisk(t, seed, seed%2 == 0, int(seed/2%4), fails)
			}
		})
	}
}

// spoolOnABadDisk fails after an append, or from the first on, but lets some
// operations through before: so it is a segment's header, or its first record.
func spoolOnABadDisk(t *testing.T, seed uint64, first bool, passes int, fails []string) {
	t.Helper()
	db := newBase()
	db.set(before)
	g := openSpool(t, newPlatter(seed), db)
	var want []string
	say1 := func(text string) {
		_, err := g.Append(t.Context(), say(text))
		if err == nil {
			want = append(want, text)
		}
	}
	if first {
		say1("a")
	}
	g.disk.setFault(func(op, _ string) error {
		if !slices.Contains(fails, op) {
			return nil
		}
		if passes--; passes >= 0 {
			return nil
		}
		return errBroken
	})
	say1("b")
	say1("c")
	g.disk.setFault(nil)
	say1("d")
	if !slices.Contains(want, "d") || len(want) > 3 && passes < 0 {
		t.Fatalf("acknowledged %v", want)
	}
	if len(g.disk.abused) > 0 {
		t.Errorf("written again after a failure: %v", g.disk.abused)
	}
	again := openSpool(t, g.disk.powerOff(), newBase())
	drainAll(t, again)
	got := slices.DeleteFunc(again.base.texts(), func(s string) bool { return !slices.Contains(want, s) })
	same(t, "texts", got, want)
	if files := again.disk.names(""); len(files) > 0 {
		t.Errorf("files left, or taken for damaged: %v", files)
	}
}
