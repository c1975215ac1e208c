//go:build unix

package meta

import (
	"errors"
	"syscall"
)

// peek looks at a socket without waiting and without taking anything: Go's
// sockets don't block.
func peek(fd uintptr) bool {
	var b [1]byte
	_, _, err := syscall.Recvfrom(int(fd), b[:], syscall.MSG_PEEK)
	return !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.EWOULDBLOCK) && !errors.Is(err, syscall.EINTR)
}
