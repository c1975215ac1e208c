package ingress_test

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// behindSpool puts a spool between a server and its store.
func behindSpool(tb testing.TB, g **spoolRig, h *hints) func(*ingress.Config) {
	tb.Helper()
	return func(c *ingress.Config) {
		*g = openSpool(tb, newPlatter(1), newBase(), func(sc *ingress.SpoolConfig) {
			sc.Inbox, sc.Quarantine, sc.Deliverer = c.Inbox, c.Quarantine, h
			sc.Timeout, sc.Probe = 30*time.Millisecond, 5*time.Millisecond
			sc.Registerer = c.Registerer
		})
		c.Inbox, c.Quarantine = (*g).Spool, (*g).Spool
		(*g).run(tb)
	}
}

// TestServerWithSpool: while the database hangs every webhook gets its 200, the
// node is ready, and no channel is learnt before what the spool holds for it.
func TestServerWithSpool(t *testing.T) {
	t.Parallel()
	var spool *spoolRig
	late := &hints{}
	g := start(t, behindSpool(t, &spool, late))
	var away atomic.Bool
	g.store.before = func(ctx context.Context, _ parley.Arrivals) error {
		if away.Load() {
			<-ctx.Done()
		}
		return ctx.Err()
	}
	away.Store(true)
	var want []string
	for i := range 20 {
		want = append(want, fmt.Sprint("text ", i))
		if got := g.post(t, waText(waNumber, "49", fmt.Sprint(i), want[i])); got.status != 200 {
			t.Fatalf("webhook %d got %d", i, got.status)
		}
		if g.server.Stalled() {
			t.Fatal("stalled")
		}
	}
	for i := range 3 {
		if got := g.post(t, waText(strangeID, "49", fmt.Sprint("q", i), fmt.Sprint("early ", i))); got.status != 200 {
			t.Fatalf("webhook of an unknown channel got %d", got.status)
		}
	}
	if n := g.store.counts(); n.events+n.quarantined > 0 || g.gauge(t, "parley_ingress_spool_open") != 1 {
		t.Fatalf("the database has %+v", n)
	}
	strange := []parley.Channel{{Brand: "acme", Kind: parley.WhatsApp, ID: strangeID}}
	if err := g.server.Learn(t.Context(), appName, strange); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("learnt with a quarantine in the spool: %v", err)
	}
	away.Store(false)
	eventually(t, "drained", func() bool { return !spool.State().Open })
	if err := g.server.Learn(t.Context(), appName, strange); err != nil {
		t.Fatal(err)
	}
	if got := g.post(t, waText(strangeID, "49", "live", "live")); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	same(t, "texts", g.store.texts(), append(want, "early 0", "early 1", "early 2", "live"))
	same(t, "hints of what was drained", late.count(), 20)
}

// TestServerWithAFullSpool: what neither takes is refused.
func TestServerWithAFullSpool(t *testing.T) {
	t.Parallel()
	var spool *spoolRig
	g := start(t, behindSpool(t, &spool, &hints{}))
	g.store.before = func(context.Context, parley.Arrivals) error { return parley.ErrUnavailable }
	if got := g.post(t, waText(waNumber, "49", "1", "hi")); got.status != 200 {
		t.Fatalf("status %d", got.status)
	}
	spool.disk.setFault(func(op, _ string) error {
		if op == "free" || op == "write" {
			return errBroken
		}
		return nil
	})
	if got := g.post(t, waText(waNumber, "49", "2", "hi")); got.status != 503 || got.header("Retry-After") != retryAfter {
		t.Errorf("on a bad disk: %d", got.status)
	}
	spool.disk.setFault(nil)
	spool.disk.mu.Lock()
	spool.disk.free = 1000
	spool.disk.mu.Unlock()
	eventually(t, "full", func() bool {
		got := g.post(t, waText(waNumber, "49", "3", "hi"))
		return got.status == 503 && got.body == "no room\n" && got.header("Retry-After") == retryAfter
	})
}

// TestSpoolTells what it holds.
func TestSpoolTells(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		reg := prometheus.NewRegistry()
		db := newBase()
		g := openSpool(t, newPlatter(1), db, func(c *ingress.SpoolConfig) { c.Registerer = reg })
		g.run(t)
		figures := func() (all [6]float64) {
			for i, name := range []string{"open", "records", "oldest_seconds", "spooled_total", "drained_total", "refused_total"} {
				all[i] = value(t, reg, "parley_ingress_spool_"+name)
			}
			return all
		}
		same(t, "at first", figures(), [6]float64{})
		db.set(before)
		g.append(t, "a", "b")
		time.Sleep(time.Minute)
		g.append(t, "c")
		same(t, "spooling", figures(), [6]float64{1, 2, 60, 3, 0, 0})
		if n := value(t, reg, "parley_ingress_spool_bytes"); n < 100 || n != float64(g.State().Bytes) {
			t.Errorf("%v bytes", n)
		}
		db.set(healthy)
		time.Sleep(spoolProbe)
		synctest.Wait()
		same(t, "afterwards", figures(), [6]float64{0, 0, 0, 3, 3, 0})
		if err := g.Run(t.Context()); err == nil {
			t.Error("Run runs twice")
		}
		g.stop()
		if err := errors.Join(g.Close(), g.Close()); err != nil {
			t.Error(err)
		}
		openSpool(t, g.disk, db, func(c *ingress.SpoolConfig) { c.Registerer = reg })
		if _, err := ingress.OpenSpool(ingress.SpoolConfig{Inbox: db, Dir: "x", Disk: newPlatter(2), Registerer: reg}); err == nil {
			t.Error("metrics are registered twice")
		}
	})
}

func TestSpoolConfigIsChecked(t *testing.T) {
	t.Parallel()
	for name, cfg := range map[string]ingress.SpoolConfig{
		"no inbox":       {Dir: "x"},
		"no folder":      {Inbox: newBase()},
		"negative limit": {Inbox: newBase(), Dir: "x", MaxBytes: -1},
	} {
		cfg.Disk = newPlatter(1)
		if _, err := ingress.OpenSpool(cfg); err == nil {
			t.Errorf("%s: no error", name)
		}
	}
}

// TestSpoolPutsAsideWhatItCannotDecode: records of a newer program, whole, and
// not before the disk keeps them.
func TestSpoolPutsAsideWhatItCannotDecode(t *testing.T) {
	t.Parallel()
	for _, newer := range [][]int{{1}, {0, 1, 2, 3}} {
		t.Run(fmt.Sprint(newer), func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				disk := spooledFiles(t)
				for _, n := range newer {
					disk.edit("spool-0000000000000002.log", func(b []byte) []byte { return massage(b, n) })
				}
				disk.setFault(func(op, name string) error {
					if op == "write" && strings.HasPrefix(name, "refused-") {
						return errBroken
					}
					return nil
				})
				g := openSpool(t, disk, newBase())
				g.run(t)
				time.Sleep(5 * time.Minute)
				same(t, "texts until then", g.base.texts(), texts(0, 4+newer[0]))
				disk.setFault(nil)
				time.Sleep(spoolProbe)
				synctest.Wait()
				var without []int
				for _, n := range newer {
					without = append(without, 4+n)
				}
				same(t, "texts", g.base.texts(), texts(0, 12, without...))
				same(t, "files", disk.names(""), []string{"refused-0000000000000004.log"})
				if n := bytes.Count(disk.files["refused-0000000000000004.log"].synced, []byte(`"massage"`)); n != len(newer) {
					t.Errorf("%d were put aside", n)
				}
			})
		})
	}
}

// massage makes the nth record of a segment one that this program can't decode.
func massage(b []byte, n int) []byte {
	at, end := recordAt(b, n), recordAt(b, n+1)
	copy(b[at:end], bytes.Replace(b[at:end], []byte(`"message"`), []byte(`"massage"`), 1))
	return resum(append(bytes.Clone(b[at+4:at+8]), b[at+12:end]...), b[at+8:], b)
}

// TestSpoolOnTheMachinesDisk goes once through everything that a disk is asked.
func TestSpoolOnTheMachinesDisk(t *testing.T) {
	t.Parallel()
	db := newBase()
	db.set(before)
	cfg := ingress.SpoolConfig{
		Inbox: db, Dir: filepath.Join(t.TempDir(), "a", "spool"), ReserveBytes: 1, SegmentBytes: 500, Probe: time.Millisecond,
	}
	g := openSpool(t, nil, db, func(c *ingress.SpoolConfig) { *c = cfg })
	for _, text := range texts(0, 20) {
		g.append(t, text)
	}
	g.append(t, poison)
	if _, err := ingress.OpenSpool(cfg); !errors.Is(err, parley.ErrLocked) {
		t.Errorf("a second process: %v, want ErrLocked", err)
	}
	if err := g.Close(); err != nil {
		t.Fatal(err)
	}
	files, err := filepath.Glob(filepath.Join(cfg.Dir, "spool-*"))
	if err != nil || len(files) < 4 {
		t.Fatalf("files %v: %v", files, err)
	}
	damage(t, files[1])
	db.set(healthy)
	again := openSpool(t, nil, db, func(c *ingress.SpoolConfig) { *c = cfg })
	drainAll(t, again)
	if got := len(db.texts()); got < 16 || got > 19 {
		t.Errorf("%d texts", got)
	}
	if err := again.Close(); err != nil {
		t.Fatal(err)
	}
	files, err = filepath.Glob(filepath.Join(cfg.Dir, "*"))
	for i := range files {
		files[i] = filepath.Base(files[i])[:4]
	}
	if err != nil || !slices.Equal(files, []string{"LOCK", "dama", "refu"}) {
		t.Errorf("files %v: %v", files, err)
	}
}

func damage(t *testing.T, name string) {
	t.Helper()
	b, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(name, flip(recordAt(b, 0)+20)(b), 0o600); err != nil {
		t.Fatal(err)
	}
}

// TestSpoolKilled kills child processes amid their work with SIGKILL. What they
// said was acknowledged reaches the database, in order.
func TestSpoolKilled(t *testing.T) {
	t.Parallel()
	if dir := os.Getenv("PARLEY_TEST_SPOOL"); dir != "" {
		spoolForEver(t, dir)
		return
	}
	dir := t.TempDir()
	var acked, drained []string
	for range 5 {
		a, d := killSpool(t, dir)
		acked, drained = append(acked, a...), append(drained, d...)
	}
	db := newBase()
	drainAll(t, openSpool(t, nil, db, func(c *ingress.SpoolConfig) {
		*c = ingress.SpoolConfig{Inbox: db, Dir: dir, ReserveBytes: 1}
	}))
	drained = append(drained, db.texts()...)
	known := map[string]bool{}
	for _, text := range acked {
		known[text] = true
	}
	var arrived []string
	for _, text := range drained {
		if known[text] {
			arrived = append(arrived, text)
		}
		known[text] = false // the first time counts
	}
	if len(acked) == 0 {
		t.Error("the children did nothing")
	}
	same(t, "arrived", arrived, acked)
}

// killSpool runs a child for a while and returns what it has said.
func killSpool(t *testing.T, dir string) (acked, drained []string) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestSpoolKilled$")
	cmd.Env = append(os.Environ(), "PARLEY_TEST_SPOOL="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for left := 200 + rand.IntN(400); lines.Scan(); left-- {
		if left == 0 {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		line, whole := strings.CutSuffix(lines.Text(), ".")
		if text, ok := strings.CutPrefix(line, "acked "); ok && whole {
			acked = append(acked, text)
		}
		if text, ok := strings.CutPrefix(line, "drained "); ok && whole {
			drained = append(drained, text)
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child came to an end by itself")
	}
	return acked, drained
}

// announcer says on standard output what is durable: a database that outlives its
// process.
type announcer struct {
	mu sync.Mutex
	n  int
}

func (a *announcer) Append(ctx context.Context, in parley.Arrivals) ([]parley.Pending, error) {
	a.mu.Lock()
	a.n++
	phase := a.n / 7 % 4
	a.mu.Unlock()
	switch phase {
	case 1:
		return nil, parley.ErrUnavailable
	case 2:
		<-ctx.Done()
		return nil, ctx.Err()
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, e := range in.Events {
		fmt.Printf("drained %s.\n", textOf(e))
	}
	return nil, nil
}

// spoolForEver is the child: at most a minute, should its parent be gone.
func spoolForEver(t *testing.T, dir string) {
	t.Helper()
	db := &announcer{}
	s, err := ingress.OpenSpool(ingress.SpoolConfig{
		Inbox: db, Dir: dir, ReserveBytes: 1, SegmentBytes: 1000, Timeout: 5 * time.Millisecond, Probe: time.Millisecond,
	})
	if err != nil {
		t.Fatal(err)
	}
	go func() {
		if err := s.Run(context.Background()); err != nil {
			t.Error(err)
		}
	}()
	run := rand.Uint64()
	for i, end := 0, time.Now().Add(time.Minute); time.Now().Before(end); i++ {
		text := fmt.Sprintf("%x %d", run, i)
		if _, err := s.Append(t.Context(), say(text)); err != nil {
			t.Fatal(err)
		}
		db.mu.Lock()
		fmt.Printf("acked %s.\n", text)
		db.mu.Unlock()
	}
}
