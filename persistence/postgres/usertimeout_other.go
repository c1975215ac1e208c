//go:build !linux

package postgres

import "syscall"

// userTimeout does nothing where the system has no such option: the time-outs of
// the calls have to do.
func userTimeout(string, string, syscall.RawConn) error { return nil }
