package egress_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

func nobodys(parley.Channel) bool { return false }

func pages(context.Context) ([]parley.Channel, error) { return []parley.Channel{page}, nil }

// A channel that is another's from now on is free soon, though the store doesn't
// answer at the moment at which it should be given back.
func TestManagerGivesBackThoughTheStoreFails(t *testing.T) {
	t.Parallel()
	for name, under := range map[string]bool{"AnIdleChannel": false, "OneThatIsAtWork": true} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			in(t, func(f *floor) {
				var failures atomic.Int32
				f.store.fault = func(step string, after bool) error {
					if step == "yield" && !after && failures.Add(-1) >= 0 {
						return errStore
					}
					return nil
				}
				one := f.manager("one", func(c *egress.Config) { c.Channels = pages })
				stopOne := f.start(one)
				defer stopOne()
				f.write(page, "a", 1)
				one.Wake(page)
				f.emptied(time.Second)
				if under {
					f.write(page, "a", 2)
					one.Wake(page)
				}
				time.Sleep(10 * time.Millisecond)
				failures.Store(2)
				if !under {
					time.Sleep(egress.Linger + 100*time.Millisecond)
				}
				one.Serve(nobodys)
				two := f.manager("two", nil)
				stopTwo := f.start(two)
				defer stopTwo()
				f.write(page, "b", 1)
				two.Wake(page)
				f.emptied(5 * time.Second)
			})
		})
	}
}
