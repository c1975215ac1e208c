package main_test

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
)

// What befalls the store: the server of the database, its disk and its clock; one
// node's way to it, and that node's own disk.
const (
	serverKilled    trouble = "the database killed"
	serverStopped   trouble = "the database stopped (SIGSTOP)"
	sessionKilled   trouble = "a process of the database killed"
	sessionsEnded   trouble = "sessions of the database ended"
	serverDiskFull  trouble = "the database's disk full"
	serverDiskSlow  trouble = "the database's disk slow"
	serverClockBack trouble = "the database's clock set back"
	memberSevered   trouble = "node 1 without the database"
	memberFar       trouble = "node 1 far from the database"
	memberMisled    trouble = "answers to commits of node 1 lost"
	memberFull      trouble = "the disk of node 1 full"
)

// without is a time in which nodes don't reach the store, or not surely. What they
// acknowledge may lie in their spools, and what they hear of sends they can't note, so that
// it is lost with a node that is killed. It ends when all spools are empty.
func (m *mix) without(do func()) {
	m.Helper()
	from := time.Now()
	m.sim.StoreDown(from)
	do()
	m.unspooled()
	now := time.Now()
	m.sim.StoreUp(now)
	m.sim.Spooled(from, now)
}

// unspooled waits until no node has anything in its spool.
func (m *mix) unspooled() {
	m.Helper()
	m.rest(lookEvery)
	for i := range crewSize {
		await(m.T, fmt.Sprintf("the spool of node %d is empty", i+1), func() bool {
			status, text := m.node(i).look(m.T, "/metrics")
			return status != 0 && text != "" && sum(m.T, text, "parley_ingress_spool_records") == 0
		})
	}
}

func (m *mix) killServer(a act) string {
	m.without(func() {
		m.kill()
		m.rest(a.lasts)
		m.again()
	})
	return fmt.Sprintf("away for %.1f s", a.lasts.Seconds())
}

func (m *mix) stopServer(a act) string {
	m.without(func() {
		if err := m.server.Pause(); err != nil {
			m.Fatal(err)
		}
		defer func() {
			if err := m.server.Resume(); err != nil {
				m.Error(err)
			}
		}()
		m.rest(a.lasts)
	})
	return ""
}

// killSession kills one of the server's processes; then it ends the others, and
// recovers.
func (m *mix) killSession(act) string {
	m.without(func() {
		var pid int
		c := m.connect(m.server)
		if err := c.QueryRow(m.Context(), oneSession).Scan(&pid); errors.Is(err, pgx.ErrNoRows) {
			return // all nodes are dead just now
		} else if err != nil {
			m.Fatal(err)
		}
		if err := syscall.Kill(pid, syscall.SIGKILL); err != nil && !errors.Is(err, syscall.ESRCH) {
			m.Fatal(err)
		}
		m.back()
	})
	return ""
}

func (m *mix) endSessions(a act) string {
	n := 0
	m.without(func() {
		c := m.connect(m.server)
		for end := time.Now().Add(a.lasts); time.Now().Before(end); m.rest(chance(50 * time.Millisecond)) {
			m.do(c, "select pg_terminate_backend(pid) from ("+oneSession+") one")
			n++
		}
	})
	return fmt.Sprintf("%d of them", n)
}

func (m *mix) fillServer(a act) string {
	m.without(func() {
		filler := fill(m.T, m.disk, 0)
		m.rest(a.lasts)
		if err := os.Remove(filler); err != nil {
			m.Fatal(err)
		}
		m.revive()
	})
	return ""
}

// stallServer has the server's disk stand still again and again.
func (m *mix) stallServer(a act) string {
	const pass = 50 * time.Millisecond
	stalls, stall := 0, 50*time.Millisecond+time.Duration(a.draw%uint64(400*time.Millisecond))
	m.without(func() {
		for end := time.Now().Add(a.lasts); time.Now().Before(end); m.rest(pass) {
			stallDisk(m.T, m.disk, stall)
			stalls++
		}
	})
	return fmt.Sprintf("%d times %d ms", stalls, stall.Milliseconds())
}

func (m *mix) setBack(a act) string {
	m.without(func() { m.clock.step(m.T, -a.lasts) })
	return fmt.Sprintf("by %.1f s, now %.1f s behind", a.lasts.Seconds(), -m.clock.behind.Seconds())
}

func (m *mix) sever(a act) string {
	m.without(func() {
		m.proxy.Hang()
		m.rest(a.lasts)
		m.proxy.Pass()
	})
	return ""
}

func (m *mix) far(a act) string {
	delay := 20*time.Millisecond + time.Duration(a.draw%uint64(380*time.Millisecond))
	m.without(func() {
		m.proxy.Slow(delay)
		m.rest(a.lasts)
		m.proxy.Slow(0)
	})
	return fmt.Sprintf("%d ms a round trip", delay.Milliseconds())
}

func (m *mix) mislead(a act) string {
	const often = 3 // one of so many commits is picked
	before := m.proxy.Lost()
	m.without(func() {
		for end := time.Now().Add(a.lasts); time.Now().Before(end); m.rest(lookEvery) {
			m.proxy.LoseAnswers(1, func(sent []faultproxy.Message) bool { return rand.IntN(often) == 0 && faultproxy.Commit(sent) })
		}
		m.proxy.LoseAnswers(0, nil)
	})
	return fmt.Sprintf("%d of them", m.proxy.Lost()-before)
}

func (m *mix) fillMember(a act) string {
	m.without(func() {
		data := m.configs[0]["data"].(string) //nolint:forcetypeassert,errcheck // furnish made it
		filler := fill(m.T, filepath.Dir(data), 0)
		m.rest(a.lasts)
		if err := os.Remove(filler); err != nil {
			m.Fatal(err)
		}
	})
	return ""
}

// serverClock is the clock of the server's processes, and of nobody else.
type serverClock struct {
	library string
	offset  *os.File
	behind  time.Duration // negative
}

// newServerClock builds it, which takes a C compiler, and Linux.
func newServerClock(t *testing.T) (*serverClock, error) {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil { //nolint:gosec // the server, which isn't root, must get through
		t.Fatal(err)
	}
	c := &serverClock{library: filepath.Join(dir, "clock.so")}
	cmd := exec.CommandContext(t.Context(), "cc", "-shared", "-fPIC", "-O2", "-o", c.library, filepath.Join("testdata", "clock.c"))
	if out, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("a clock that can be stepped takes Linux and a C compiler: %w: %s", err, out)
	}
	var err error
	if c.offset, err = os.Create(filepath.Join(dir, "offset")); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.offset.Close() })
	c.step(t, 0)
	return c, nil
}

func (c *serverClock) environment() []string {
	return []string{"LD_PRELOAD=" + c.library, "CLOCK_OFFSET=" + c.offset.Name()}
}

func (c *serverClock) step(t *testing.T, by time.Duration) {
	t.Helper()
	c.behind += by
	if _, err := c.offset.WriteAt(binary.LittleEndian.AppendUint64(nil, uint64(c.behind)), 0); err != nil {
		t.Fatal(err)
	}
}

// The server's clock is the one that is stepped, and the test's own isn't.
func TestServerClock(t *testing.T) {
	t.Parallel()
	cluster.Database(t) // skips, loudly, where there is no PostgreSQL
	clock, err := newServerClock(t)
	if err != nil {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
	s := &scene{T: t}
	c := s.connectTo(clock)
	behind := func() time.Duration {
		var now time.Time
		if err := c.QueryRow(context.WithoutCancel(t.Context()), "select clock_timestamp()").Scan(&now); err != nil {
			t.Fatal(err)
		}
		return time.Since(now)
	}
	for _, step := range []time.Duration{0, -3 * time.Second, -time.Hour} {
		clock.step(t, step)
		if got := behind(); got < -clock.behind || got > -clock.behind+patience {
			t.Errorf("the server is %s behind, want %s", got, -clock.behind)
		}
	}
}

// connectTo is a connection to a server with that clock.
func (s *scene) connectTo(clock *serverClock) *pgx.Conn {
	s.Helper()
	return s.connect(s.start(pgserver.Config{Env: clock.environment()}))
}
