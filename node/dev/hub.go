package dev

import "sync"

// hub tells those who watch that something has changed. What, they look up: a piece of
// news that comes while one waits to be seen is the same.
type hub struct {
	mu       sync.Mutex
	watchers map[chan struct{}]bool
}

func newHub() *hub { return &hub{watchers: map[chan struct{}]bool{}} }

func (h *hub) tell() {
	h.mu.Lock()
	defer h.mu.Unlock()
	for w := range h.watchers {
		select {
		case w <- struct{}{}:
		default:
		}
	}
}

// join begins to watch; leave ends it.
func (h *hub) join() (news <-chan struct{}, leave func()) {
	w := make(chan struct{}, 1)
	h.mu.Lock()
	defer h.mu.Unlock()
	h.watchers[w] = true
	return w, func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		delete(h.watchers, w)
	}
}
