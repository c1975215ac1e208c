package egress

import (
	"time"

	"golang.org/x/sys/unix"
)

// SinceBoot is the time since the computer started, its sleep included. Go's
// monotonic clock stands still during sleep: a suspended node would believe
// that its lease has hardly aged. (Kernels before 2.6.39 lack this clock; Go
// needs a newer one, so the call doesn't fail.)
func SinceBoot() time.Duration {
	var ts unix.Timespec
	if err := unix.ClockGettime(unix.CLOCK_BOOTTIME, &ts); err != nil {
		return time.Duration(time.Now().UnixNano()) //nolint:forbidigo // a clock of last resort
	}
	return time.Duration(ts.Nano())
}
