package flowtest

import "testing"

// Diff is what a failed test shows.
func Diff(written, said *Transcript) string { return diff(written, said) }

// Pure is the part of Run that moves the clock.
func (k Kit) Pure(t *testing.T, script *Transcript) error {
	t.Helper()
	return k.pure(t, script)
}
