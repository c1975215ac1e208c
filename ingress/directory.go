package ingress

import (
	"sync"

	"github.com/parleychat/parley"
)

// channelKey is what a webhook says about its channel.
type channelKey struct {
	kind parley.ChannelKind
	id   string
}

// directory knows which channels an app serves, and keeps the one order that
// the inbox can't keep by itself: what was quarantined because its channel was
// unknown takes effect before the channel's first live event.
//
// Whoever finds a channel unknown holds the gate for reading from before the
// look-up that counts until its quarantine entry is durable. Learn publishes a
// channel while it holds the gate for writing: no entry is then on its way, all
// are in the quarantine, and it has released them. A look-up that finds its
// channel needs no gate, so that learning never delays the channels known.
type directory struct {
	gate sync.RWMutex

	mu       sync.RWMutex
	channels map[channelKey]parley.Channel
}

func newDirectory() *directory {
	return &directory{channels: make(map[channelKey]parley.Channel)}
}

func (d *directory) lookup(kind parley.ChannelKind, id string) (parley.Channel, bool) {
	d.mu.RLock()
	ch, ok := d.channels[channelKey{kind, id}]
	d.mu.RUnlock()
	return ch, ok
}

// publish makes channels known. The caller holds the gate for writing.
func (d *directory) publish(channels []parley.Channel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, ch := range channels {
		d.channels[channelKey{ch.Kind, ch.ID}] = ch
	}
}

func (d *directory) forget(ch parley.Channel) {
	d.mu.Lock()
	defer d.mu.Unlock()
	k := channelKey{ch.Kind, ch.ID}
	if d.channels[k] == ch {
		delete(d.channels, k)
	}
}
