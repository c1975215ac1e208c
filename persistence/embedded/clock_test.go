package embedded_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley/persistence/embedded"
)

// The clock follows the system's, but doesn't go back with it, nor stands.
func TestClock(t *testing.T) {
	t.Parallel()
	const hour = int64(time.Hour / time.Millisecond)
	c := &embedded.Clock{}
	c.Seen(1000)
	for i, row := range []struct {
		wall  int64
		lived time.Duration
		want  int64
	}{
		{900, 0, 1000}, // behind what the store has seen
		{1000, 100 * time.Millisecond, 1000},
		{1300, 400 * time.Millisecond, 1300},
		{1400 - hour, 500 * time.Millisecond, 1350}, // set back
		{1401 - hour, 501 * time.Millisecond, 1350}, // half a ms
		{1402 - hour, 502 * time.Millisecond, 1351},
		{1402 - hour, 502 * time.Millisecond, 1351},
		{1600 - hour, 702 * time.Millisecond, 1451},
		{1300 - hour, 402 * time.Millisecond, 1451}, // what can't be
		{1451, 802 * time.Millisecond, 1451},        // set right again
		{1500, 851 * time.Millisecond, 1500},
		{1500 + hour, 852 * time.Millisecond, 1500 + hour},
	} {
		if got := c.Read(row.wall, row.lived); got != row.want {
			t.Errorf("reading %d is %d, want %d", i, got, row.want)
		}
	}
}
