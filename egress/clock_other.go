//go:build !linux

package egress

import "time"

// SinceBoot is a time that runs while the computer sleeps. Here it is the wall
// clock, which an operator can set back: a lease may then be held for too long.
func SinceBoot() time.Duration {
	return time.Duration(time.Now().UnixNano()) //nolint:forbidigo // the only clock here that runs during sleep
}
