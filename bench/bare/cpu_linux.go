package bare

import (
	"fmt"
	"time"

	"golang.org/x/sys/unix"
)

// ProcessCPU returns the CPU time, user and system, that a running process has
// used so far with all its threads, those that ended included. It reads the
// process's CPU clock, which counts nanoseconds where /proc counts ticks of 10 ms.
func ProcessCPU(pid int) (time.Duration, error) {
	const perProcessScheduled = 2 // CPUCLOCK_SCHED; see clock_getcpuclockid(3)
	var at unix.Timespec
	if err := unix.ClockGettime(int32(^pid<<3|perProcessScheduled), &at); err != nil {
		return 0, fmt.Errorf("CPU clock of process %d: %w", pid, err)
	}
	return time.Duration(at.Nano()), nil
}
