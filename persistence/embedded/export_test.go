package embedded

import "time"

// Clock is a store's clock.
type Clock struct{ c clock }

// Seen notes a time from the store.
func (c *Clock) Seen(ms int64) { c.c.seen(ms) }

// Read returns the time.
func (c *Clock) Read(wall int64, lived time.Duration) int64 { return c.c.read(wall, lived) }
