package embedded_test

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

func testChannel() parley.Channel {
	return parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"}
}

func testConversation(i int) parley.Conversation {
	return parley.Conversation{Channel: testChannel(), Contact: parley.Contact(fmt.Sprint("user:", i))}
}

func testEvent(i int) parley.Event {
	c := testConversation(i)
	key := parley.EventKey{}
	binary.BigEndian.PutUint64(key[:], rand.Uint64())
	return parley.Event{Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: key, Input: parley.Message{Text: "x"}}
}

// acked is what calls have returned: what must be there after any crash.
type acked struct {
	mu       sync.Mutex
	rows     map[parley.Conversation]map[parley.EventKey]bool // appended; true: consumed
	versions map[parley.Conversation]parley.Version
	claimed  map[parley.ID]bool
	settled  map[parley.ID]bool
	tried    map[parley.Row]bool // false: and acquitted
	calls    map[parley.ID]calledOut
}

// calledOut is a call that was claimed.
type calledOut struct {
	key      parley.EventKey // of its answer
	answered bool
}

// work runs one conversation's life until stop, noting what was returned.
func (a *acked) work(t *testing.T, s *embedded.Store, l parley.Lease, i int, stop func() bool) error {
	t.Helper()
	ctx, c := t.Context(), testConversation(i)
	for !stop() {
		rows, err := s.Append(ctx, parley.Arrivals{Events: []parley.Event{testEvent(i), testEvent(i)}})
		if err != nil {
			return err
		}
		a.note(func() { a.rows[c][rows[0].Key], a.rows[c][rows[1].Key] = false, false })
		loaded, err := s.Load(ctx, c, 1)
		if err != nil {
			return err
		}
		if len(loaded.Pending) == 0 {
			return errors.New("nothing pending after an append")
		}
		if err := a.try(ctx, s, rows[0].Row, rows[1].Row); err != nil {
			return err
		}
		turn := benchTurn(&loaded.Pending[0], loaded.Snapshot, rand.New(rand.NewPCG(rand.Uint64(), 1)))
		turn.Calls = []parley.OutgoingCall{{ID: turn.Outbox[0].ID, Conversation: c, Call: parley.Call{Name: "n", Service: "s"}}}
		if errs, err := s.Commit(ctx, []parley.Commit{turn}); err != nil || errs[0] != nil {
			return errors.Join(append(errs, err)...)
		}
		a.note(func() { a.rows[c][loaded.Pending[0].Key], a.versions[c] = true, turn.Next.Version })
		claimed, _, err := s.Claim(ctx, l, parley.Places{All: 1}, time.Minute, time.Minute)
		if err != nil {
			return err
		}
		for _, m := range claimed {
			a.note(func() { a.claimed[m.ID] = true })
			if err := s.Settle(ctx, l, []parley.Outcome{{ID: m.ID, Kind: parley.Sent, ProviderID: m.ID.String()}}); err != nil {
				return err
			}
			a.note(func() { a.settled[m.ID] = true })
		}
		if err := a.callOut(ctx, s); err != nil {
			return err
		}
	}
	return nil
}

// callOut claims a call or two, of whomever, and answers the first.
func (a *acked) callOut(ctx context.Context, s *embedded.Store) error {
	q := parley.CallQuery{Services: []parley.CallPlaces{{Service: "s", Limit: 2, Lease: time.Hour}}}
	claimed, _, err := s.ClaimCalls(ctx, q, time.Hour)
	if err != nil {
		return err
	}
	for i := range claimed {
		a.note(func() { a.calls[claimed[i].ID] = calledOut{key: claimed[i].Key()} })
	}
	if len(claimed) == 0 {
		return nil
	}
	in := claimed[0].Answer(200, nil, 1)
	if _, err := s.SettleCalls(ctx, []parley.CallOutcome{{Of: &claimed[0], Answer: &in}}); err != nil {
		return err
	}
	a.note(func() { a.calls[claimed[0].ID] = calledOut{key: claimed[0].Key(), answered: true} })
	return nil
}

// try notes two suspects, and acquits one of them.
func (a *acked) try(ctx context.Context, s *embedded.Store, guilty, innocent parley.Row) error {
	if tried, err := s.Try(ctx, []parley.Row{guilty, innocent}); err != nil || len(tried) > 0 {
		return errors.Join(fmt.Errorf("%d of two new rows were tried before", len(tried)), err)
	}
	a.note(func() { a.tried[guilty] = true })
	if err := s.Acquit(ctx, []parley.Row{innocent}); err != nil {
		return err
	}
	a.note(func() { a.tried[innocent] = false })
	return nil
}

func (a *acked) note(f func()) {
	a.mu.Lock()
	defer a.mu.Unlock()
	f()
}

// check compares a store after a crash with what was returned before it.
func (a *acked) check(t *testing.T, s *embedded.Store) {
	t.Helper()
	for c, rows := range a.rows {
		loaded, err := s.Load(t.Context(), c, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		if loaded.Snapshot.Version.Number < a.versions[c].Number {
			t.Errorf("version %d of a conversation; %d was acknowledged", loaded.Snapshot.Version.Number, a.versions[c].Number)
		}
		pending := map[parley.EventKey]bool{}
		for _, p := range loaded.Pending {
			pending[p.Key] = true
		}
		seen := map[parley.EventKey]bool{}
		for _, k := range loaded.Snapshot.Seen {
			seen[k.Key] = true
		}
		for key, consumed := range rows {
			if consumed && pending[key] {
				t.Error("a row is pending whose commit was acknowledged")
			}
			if !consumed && !pending[key] && !seen[key] {
				t.Error("an acknowledged row is lost")
			}
		}
	}
	a.checkCalls(t, s)
	for id := range a.settled {
		if _, ok, err := s.Delivery(t.Context(), testChannel(), id.String()); err != nil || !ok {
			t.Errorf("delivery of a settled message: %v %v", ok, err)
		}
	}
	a.checkClaims(t, s)
	for row, guilty := range a.tried {
		if tried, err := s.Try(t.Context(), []parley.Row{row}); err != nil || (len(tried) == 1) != guilty {
			t.Errorf("a suspect, acquitted %v: tried before %v, %v", !guilty, len(tried) == 1, err)
		}
	}
}

// checkCalls: what was claimed was committed, and is answered, or there to be claimed
// again.
func (a *acked) checkCalls(t *testing.T, s *embedded.Store) {
	t.Helper()
	known := map[parley.EventKey]bool{}
	for c, rows := range a.rows {
		maps.Copy(known, rows)
		loaded, err := s.Load(t.Context(), c, 1<<20)
		if err != nil {
			t.Fatal(err)
		}
		for _, p := range loaded.Pending {
			known[p.Key] = true
		}
		for _, k := range loaded.Snapshot.Seen {
			known[k.Key] = true
		}
	}
	q := parley.CallQuery{Services: []parley.CallPlaces{{Service: "s", Limit: 1 << 20, Lease: time.Hour}}}
	claimed, _, err := s.ClaimCalls(t.Context(), q, time.Hour)
	if err != nil {
		t.Fatal(err)
	}
	live := map[parley.ID]bool{}
	for i := range claimed {
		live[claimed[i].ID] = true
	}
	for id, c := range a.calls {
		switch _, heard := known[c.key]; {
		case c.answered && live[id]:
			t.Error("an answered call would be made again")
		case c.answered && !heard:
			t.Error("an answer is lost")
		case !live[id] && !heard:
			t.Error("a call was given to be made, and its commit is lost")
		}
	}
}

// checkClaims: what was claimed and not settled comes back as doubtful only.
func (a *acked) checkClaims(t *testing.T, s *embedded.Store) {
	t.Helper()
	l, err := s.Lease(t.Context(), testChannel(), "after", time.Hour, parley.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	claimed, _, err := s.Claim(t.Context(), l, parley.Places{All: 1 << 20}, 0, time.Minute) // no wait: all at once
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range claimed {
		if a.settled[m.ID] {
			t.Error("a settled message would be sent again")
		}
		if a.claimed[m.ID] && !m.Doubtful {
			t.Error("a message that was claimed would be sent again without doubt")
		}
	}
}

const crashWorkers = 6

// live runs the workers over fs, and crash at some moment amid them; what was
// acknowledged by then is in the result.
func live(t *testing.T, s *embedded.Store, crash func()) *acked {
	t.Helper()
	a := &acked{
		rows: map[parley.Conversation]map[parley.EventKey]bool{}, versions: map[parley.Conversation]parley.Version{},
		claimed: map[parley.ID]bool{}, settled: map[parley.ID]bool{}, tried: map[parley.Row]bool{},
		calls: map[parley.ID]calledOut{},
	}
	l, err := s.Lease(t.Context(), testChannel(), "before", time.Hour, parley.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range crashWorkers {
		a.rows[testConversation(i)] = map[parley.EventKey]bool{}
	}
	var wg sync.WaitGroup
	done := make(chan struct{})
	for i := range crashWorkers {
		wg.Go(func() {
			if err := a.work(t, s, l, i, func() bool {
				select {
				case <-done:
					return true
				default:
					return false
				}
			}); err != nil {
				t.Errorf("worker %d: %v", i, err)
			}
		})
	}
	for enough := false; !enough; {
		time.Sleep(time.Millisecond) // until they have done something
		a.note(func() { enough = len(a.settled) > 20+rand.IntN(50) })
	}
	a.mu.Lock() // nothing is acknowledged between here and the crash
	crash()
	frozen := a.clone()
	a.mu.Unlock()
	close(done)
	wg.Wait()
	return frozen
}

func (a *acked) clone() *acked {
	c := &acked{
		rows: map[parley.Conversation]map[parley.EventKey]bool{}, versions: maps.Clone(a.versions),
		claimed: maps.Clone(a.claimed), settled: maps.Clone(a.settled), tried: maps.Clone(a.tried),
		calls: maps.Clone(a.calls),
	}
	for conv, rows := range a.rows {
		c.rows[conv] = maps.Clone(rows)
	}
	return c
}

func TestPowerLoss(t *testing.T) {
	t.Parallel()
	for _, percent := range []int{0, 50} {
		t.Run(fmt.Sprint("Unsynced", percent), func(t *testing.T) {
			t.Parallel()
			for seed := range uint64(6) {
				fs, every := vfs.NewCrashableMem(), time.Duration(-1)
				if seed%2 == 1 { // claims and outcomes share the fsyncs of others
					every = time.Millisecond
				}
				s := open(t, embedded.Config{Dir: "store", FS: slowSync{fs}, SyncEvery: every})
				var after *vfs.MemFS
				a := live(t, s, func() {
					cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: percent, RNG: rand.New(rand.NewPCG(seed, 7))}
					after = fs.CrashClone(cfg)
				})
				a.check(t, open(t, embedded.Config{Dir: "store", FS: after}))
			}
		})
	}
}

// slowSync is a file system whose fsyncs take a moment, as on a disk: so there
// is something that is not yet on it.
type slowSync struct{ *vfs.MemFS }

type slowFile struct{ vfs.File }

func (fs slowSync) Create(name string, c vfs.DiskWriteCategory) (vfs.File, error) { //nolint:ireturn // vfs.FS has it so
	f, err := fs.MemFS.Create(name, c)
	return slowFile{f}, err
}

func (fs slowSync) ReuseForWrite(oldname, newname string, c vfs.DiskWriteCategory) (vfs.File, error) { //nolint:ireturn // vfs.FS has it so
	f, err := fs.MemFS.ReuseForWrite(oldname, newname, c)
	return slowFile{f}, err
}

func (f slowFile) SyncData() error {
	time.Sleep(300 * time.Microsecond)
	return f.File.SyncData()
}

func (f slowFile) Sync() error {
	time.Sleep(300 * time.Microsecond)
	return f.File.Sync()
}

// TestKilled kills a child process with SIGKILL amid its work; what it said was
// appended must be found.
func TestKilled(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	if child := os.Getenv("PARLEY_TEST_STORE"); child != "" {
		appendForEver(t, child)
		return
	}
	acknowledged := map[string]bool{}
	for range 3 {
		killChild(t, dir, acknowledged)
		s, err := embedded.Open(embedded.Config{Dir: dir})
		if err != nil {
			t.Fatal(err)
		}
		loaded, err := s.Load(t.Context(), testConversation(0), 1<<20)
		if err = errors.Join(err, s.Close()); err != nil {
			t.Fatal(err)
		}
		found := map[string]bool{}
		for _, p := range loaded.Pending {
			found[p.Key.String()] = true
		}
		for key := range acknowledged {
			if !found[key] {
				t.Errorf("event %s was acknowledged and is lost", key)
			}
		}
	}
	if len(acknowledged) == 0 {
		t.Error("the children did nothing")
	}
}

func killChild(t *testing.T, dir string, acknowledged map[string]bool) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestKilled$")
	cmd.Env = append(os.Environ(), "PARLEY_TEST_STORE="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	lines := bufio.NewScanner(out)
	for n := 20 + rand.IntN(100); n > 0 && lines.Scan(); n-- {
		if key, ok := strings.CutPrefix(lines.Text(), "acked "); ok {
			acknowledged[key] = true
		}
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	for lines.Scan() { // what it said in its last moments counts too
		if key, ok := strings.CutPrefix(lines.Text(), "acked "); ok && len(key) == 32 {
			acknowledged[key] = true
		}
	}
	if err := cmd.Wait(); err == nil {
		t.Fatal("the child came to an end by itself")
	}
}

// appendForEver is the child: at most a minute, should its parent be gone.
func appendForEver(t *testing.T, dir string) {
	t.Helper()
	s, err := embedded.Open(embedded.Config{Dir: dir})
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(time.Minute); time.Now().Before(end); {
		rows, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(0)}})
		if err != nil {
			t.Fatal(err)
		}
		fmt.Printf("acked %s\n", rows[0].Key)
	}
}
