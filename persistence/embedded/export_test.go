package embedded

import "time"

// Clock is a store's clock.
type Clock struct{ c clock }

// Seen notes a time from the store.
func (c *Clock) Seen(ms int64) { c.c.seen(ms) }

// Read returns the time.
func (c *Clock) Read(wall int64, lived time.Duration) int64 { return c.c.read(wall, lived) }

// Frequent reports whether a claim would wait for another write, the eager ones having
// come so long ago.
func Frequent(patience time.Duration, ago ...time.Duration) bool {
	var s sharing
	now := time.Unix(1, 0)
	for _, d := range ago {
		s.noteEager(now.Add(-d))
	}
	return s.frequent(now, patience)
}
