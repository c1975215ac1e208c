//go:build !linux

package bare

import (
	"errors"
	"fmt"
	"time"
)

// ProcessCPU returns the CPU time that a running process has used. On this
// system nothing tells that of another process.
func ProcessCPU(pid int) (time.Duration, error) {
	return 0, fmt.Errorf("CPU clock of process %d: %w", pid, errors.ErrUnsupported)
}
