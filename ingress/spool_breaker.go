package ingress

import (
	"context"
	"sync"
)

// breaker says which way an append takes: through to the inbox, or into the
// spool as one of its writers.
//
// It opens with the first append that was not answered, and it shuts at a moment
// in which all records of the spool are durable in the inbox and nobody is about
// to write one: so no append that comes later can overtake one that was spooled.
// While appends keep coming, that moment may never come by itself; so the drain
// may hold appends at the entrance for a while.
type breaker struct {
	wake chan struct{} // capacity 1; that a writer has left

	mu      sync.Mutex
	open    bool
	writers int
	held    chan struct{} // if not nil, who comes waits until it is closed, once
}

// enter returns true for an append that passes through. One that doesn't is a
// writer, and has to leave.
func (b *breaker) enter(ctx context.Context) (through bool, err error) {
	through, held := b.admit(false)
	if held == nil {
		return through, nil
	}
	select {
	case <-held:
	case <-ctx.Done():
		return false, ctx.Err()
	}
	through, _ = b.admit(true)
	return through, nil
}

func (b *breaker) admit(waited bool) (through bool, held chan struct{}) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !b.open:
		return true, nil
	case b.held != nil && !waited:
		return false, b.held
	}
	b.writers++
	return false, nil
}

// trip opens the breaker, makes the caller a writer, and reports whether it was
// shut before.
func (b *breaker) trip() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	was := b.open
	b.open = true
	b.writers++
	return !was
}

// leave ends a writer.
func (b *breaker) leave() {
	b.mu.Lock()
	b.writers--
	b.mu.Unlock()
	select {
	case b.wake <- struct{}{}:
	default: // there is news already
	}
}

// hold makes new appends wait until release.
func (b *breaker) hold() {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.held == nil {
		b.held = make(chan struct{})
	}
}

func (b *breaker) release() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.releaseLocked()
}

func (b *breaker) releaseLocked() {
	if b.held != nil {
		close(b.held)
		b.held = nil
	}
}

// shut shuts the breaker if nobody is writing and end agrees. It reports whether
// the breaker is shut.
func (b *breaker) shut(end func() bool) bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.open && b.writers == 0 && end() {
		b.open = false
		b.releaseLocked()
	}
	return !b.open
}

func (b *breaker) isOpen() bool {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.open
}
