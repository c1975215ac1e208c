package egress_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/parleychat/parley/egress"
)

// While both wait, bulk has its share and not more, at any pace; what one leaves
// the other takes.
func TestLanes(t *testing.T) {
	t.Parallel()
	for _, perSecond := range []float64{2, egress.NumberPerSecond, egress.UpgradedPerSecond} {
		t.Run(fmt.Sprint(perSecond), func(t *testing.T) {
			t.Parallel()
			r := newRoad(t, perSecond, &meter{limit: 1 << 30})
			during := func(replies, bulk bool, d time.Duration) float64 {
				r.spring.replies, r.spring.bulk = replies, bulk
				r.bulk, r.all = 0, 0
				r.pass(d)
				if r.all == 0 {
					t.Fatal("nothing was sent")
				}
				return float64(r.bulk) / float64(r.all)
			}
			if got := during(true, false, 20*time.Second); got != 0 {
				t.Errorf("%v of nothing", got)
			}
			soon := during(true, true, 5*time.Second)
			if got := during(true, true, time.Minute); got < egress.BulkShare-0.02 || got > egress.BulkShare+0.02 {
				t.Errorf("bulk has %v of both, want %v", got, egress.BulkShare)
			}
			if soon > egress.BulkShare+0.1 {
				t.Errorf("bulk had %v at first: it had saved up", soon)
			}
			if got := during(false, true, 20*time.Second); got != 1 {
				t.Errorf("bulk has %v of itself", got)
			}
			if got := during(true, true, time.Minute); got < egress.BulkShare-0.02 || got > egress.BulkShare+0.02 {
				t.Errorf("bulk has %v of both after it was alone, want %v", got, egress.BulkShare)
			}
		})
	}
}
