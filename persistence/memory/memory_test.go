package memory_test

import (
	"testing"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/persistence/memory"
	"github.com/parleychat/parley/persistence/storetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestExam(t *testing.T) {
	t.Parallel()
	storetest.Run(t, func(t *testing.T, o storetest.Options) storetest.Store {
		t.Helper()
		if o.Reopen != nil {
			return nil // it doesn't outlive its Close
		}
		return memory.New(memory.Config{Now: o.Now})
	})
}
