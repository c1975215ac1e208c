package embedded_test

import (
	"math/rand/v2"
	"sync"
	"testing"
	"time"

	"github.com/cockroachdb/pebble/v2/vfs"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// burials makes n dead letters, half of them messages, each of a conversation of its
// own, and returns their ids.
func burials(t *testing.T, s *embedded.Store, n int) (ids []parley.ID) {
	t.Helper()
	for i := range n {
		rows, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{testEvent(i)}})
		if err != nil {
			t.Fatal(err)
		}
		p := rows[0]
		d := parley.DeadLetter{
			ID: parley.NewID(time.UnixMilli(1795680000000), [16]byte{15: byte(i)}), Conversation: p.Conversation,
			At: p.Received, Cause: "c", Seq: p.Seq, Data: p.Data,
		}
		if i%2 == 1 {
			d.Seq, d.Data = 0, []byte(`{"effect":"send","value":{"text":"x"}}`)
		}
		c := parley.Commit{
			Conversation: p.Conversation, Saw: []parley.Row{p.Row}, Through: p.Seq, Dead: []parley.DeadLetter{d},
			Next: parley.Snapshot{Conversation: p.Conversation, Version: parley.Version{Number: 1, Token: 1}},
		}
		if errs, err := s.Commit(t.Context(), []parley.Commit{c}); err != nil || errs[0] != nil {
			t.Fatalf("commit: %v %v", errs, err)
		}
		ids = append(ids, d.ID)
	}
	return ids
}

// TestRetryAndPowerLoss: whenever the power goes while dead letters are retried, each
// of them is there, or what it has become, and not both.
func TestRetryAndPowerLoss(t *testing.T) {
	t.Parallel()
	const letters = 40
	fs := vfs.NewCrashableMem()
	s := open(t, embedded.Config{Dir: "store", FS: slowSync{fs}})
	ids := burials(t, s, letters)
	var workers sync.WaitGroup
	for w := range 2 {
		workers.Go(func() {
			for i := w; i < letters; i += 2 {
				if _, err := s.RetryDeadLetter(t.Context(), ids[i], 0); err != nil {
					t.Error(err)
				}
			}
		})
	}
	over := make(chan struct{})
	go func() {
		workers.Wait()
		close(over)
	}()
	var crashes []*vfs.MemFS
	for running := true; running && len(crashes) < 60; {
		select {
		case <-over:
			running = false
		case <-time.After(time.Duration(rand.IntN(400)) * time.Microsecond): // at any moment
		}
		cfg := vfs.CrashCloneCfg{UnsyncedDataPercent: 50 * (len(crashes) % 2), RNG: rand.New(rand.NewPCG(uint64(len(crashes)), 7))}
		crashes = append(crashes, fs.CrashClone(cfg))
	}
	<-over
	amid := 0
	for i, after := range crashes {
		b, err := open(t, embedded.Config{Dir: "store", FS: after}).Backlog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if b.Dead > 0 && b.Dead < letters {
			amid++
		}
		if b.Dead+b.Pending+b.Unsent != letters || b.Pending > letters/2 || b.Unsent > letters/2 {
			t.Errorf("crash %d: %+v, of %d letters", i, b, letters)
		}
	}
	t.Logf("%d of %d crashes were amid the retries", amid, len(crashes))
	if amid == 0 {
		t.Error("no crash was amid the retries")
	}
}
