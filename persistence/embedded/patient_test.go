package embedded_test

import (
	"math/rand/v2"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// What comes alone waits for nobody: an append and the commit of its turn are no reason
// to expect another write. Many of late are.
func TestClaimsWaitWhileOthersWrite(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for _, c := range []struct {
		name string
		ago  []time.Duration
		want bool
	}{
		{"nothing was written", nil, false},
		{"a message and its turn", []time.Duration{3 * ms, ms}, false},
		{"many, of late", []time.Duration{20 * ms, 15 * ms, 10 * ms, 5 * ms}, true},
		{"many in a moment", []time.Duration{2 * ms, 2 * ms, 2 * ms, 2 * ms}, true},
		{"more than are counted", []time.Duration{99 * ms, 20 * ms, 15 * ms, 10 * ms, 5 * ms}, true},
		{"some, now and then", []time.Duration{30 * ms, 20 * ms, 10 * ms, ms}, false},
		{"none for a while", []time.Duration{44 * ms, 43 * ms, 42 * ms, 41 * ms}, false},
	} {
		if got := embedded.Frequent(6*ms, c.ago...); got != c.want {
			t.Errorf("%s: waits %v, want %v", c.name, got, c.want)
		}
	}
}

// A claim that waited for another write, and none came, is durable when it returns: its
// message is doubtful after a power loss.
func TestAPatientClaimIsDurable(t *testing.T) {
	t.Parallel()
	const every, attempts = 20 * time.Millisecond, 50
	waited := false
	for i := 0; i < attempts && !waited; i++ {
		fs := vfs.NewCrashableMem()
		s := open(t, embedded.Config{Dir: "store", FS: fs, SyncEvery: every})
		l, err := s.Lease(t.Context(), testChannel(), "before", time.Hour, parley.Lease{})
		if err != nil {
			t.Fatal(err)
		}
		leave(t, s, 0)
		began := time.Now()
		claimed, _, err := s.Claim(t.Context(), l, parley.Places{All: 1}, time.Minute, time.Minute)
		if err != nil || len(claimed) != 1 {
			t.Fatalf("%d claimed: %v", len(claimed), err)
		}
		waited = time.Since(began) >= 3*every // else this machine was too slow for writes to be frequent
		after := open(t, embedded.Config{Dir: "store", FS: fs.CrashClone(vfs.CrashCloneCfg{})})
		a := acked{claimed: map[parley.ID]bool{claimed[0].ID: true}}
		a.checkClaims(t, after)
	}
	if !waited {
		t.Errorf("no claim of %d waited for another write", attempts)
	}
}

// leave leaves a message of a conversation to be sent, by four writes.
func leave(t *testing.T, s *embedded.Store, i int) {
	t.Helper()
	for range 3 {
		if _, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(i)}}); err != nil {
			t.Fatal(err)
		}
	}
	loaded, err := s.Load(t.Context(), testConversation(i), 1)
	if err != nil {
		t.Fatal(err)
	}
	turn := benchTurn(&loaded.Pending[0], loaded.Snapshot, rand.New(rand.NewPCG(1, 1)))
	if errs, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
}
