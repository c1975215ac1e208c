package embedded

import "time"

// clock is a store's, in ms. It never goes back. When the system's clock has been
// set back, it goes on at half the speed until the other has caught up: if it
// stood still, whatever waits would wait for an hour if that was the step, and if
// it went on at full speed, it would never be right again.
type clock struct {
	last  int64         // ms; the latest that was handed out, or found in the store
	lived time.Duration // at the last reading
	owed  time.Duration // what has passed since last, as long as it isn't a ms
}

// seen notes a time that the store has from earlier.
func (c *clock) seen(ms int64) { c.last = max(c.last, ms) }

// read returns the time. wall is what the system's clock shows, and lived how long
// the process has measured, from any moment on, by a clock that nobody sets.
func (c *clock) read(wall int64, lived time.Duration) int64 {
	passed := max(0, lived-c.lived)
	c.lived = lived
	if wall >= c.last {
		c.last, c.owed = wall, 0
		return c.last
	}
	c.owed += passed / 2
	c.last += c.owed.Milliseconds()
	c.owed %= time.Millisecond
	return c.last
}
