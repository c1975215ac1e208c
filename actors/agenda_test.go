package actors_test

import (
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley/actors"
)

// Looks of one kind are at multiples of their time and never two at once; those whose
// times are multiples of each other meet.
func TestUntilLook(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		every := time.Duration(rapid.Int64Range(2, int64(time.Hour)).Draw(t, "every"))
		now := time.Duration(rapid.Int64Range(0, int64(1e6*time.Hour)).Draw(t, "now"))
		d := actors.UntilLook(now, every)
		if (now+d)%every != 0 || d < every/2 || d > 2*every-every/2 {
			t.Errorf("%d at %d, %d apart", d, now, every)
		}
		if again := actors.UntilLook(now+d, every); again != every {
			t.Errorf("%d from a look to the next, want %d", again, every)
		}
	})
}
