package actors_test

import (
	"sync"
	"testing"
	"testing/synctest"

	"github.com/parleychat/parley/actors"
)

// TestRunnersWaitForMore: those that have run a mailbox run the next ones, no more of
// them wait than is good, and all of them go home.
func TestRunnersWaitForMore(t *testing.T) {
	t.Parallel()

	synctest.Test(t, func(t *testing.T) {
		end := make(chan struct{})
		r := actors.NewRunners(end)
		run := func(n int) {
			t.Helper()
			gate, all := make(chan struct{}), sync.WaitGroup{}
			for range n {
				all.Add(1)
				r.Schedule(func() {
					<-gate
					all.Done()
				})
			}
			close(gate)
			all.Wait()
			synctest.Wait()
		}
		for _, step := range []struct{ mailboxes, idle int }{
			{1, 1}, {1, 1}, {5, 5}, {3, 5}, {actors.RunnersIdle + 10, actors.RunnersIdle}, {2, actors.RunnersIdle},
		} {
			run(step.mailboxes)
			if got := r.Idle(); got != step.idle {
				t.Errorf("%d wait after %d mailboxes, want %d", got, step.mailboxes, step.idle)
			}
		}
		close(end)
		synctest.Wait()
		if got := r.Idle(); got != 0 {
			t.Errorf("%d still wait", got)
		}
		run(2) // whose messages come too late
		if got := r.Idle(); got != 0 {
			t.Errorf("%d wait for what doesn't come", got)
		}
	})
}
