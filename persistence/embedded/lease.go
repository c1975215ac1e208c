package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// lease is who may send for a channel. Only the epoch is stored: when the store
// is opened, the lock on its directory proves that no earlier holder is alive.
type lease struct {
	epoch  uint64
	holder string
	expiry int64
	held   bool // by someone since the store was opened; it may have expired
}

// Lease takes or renews the lease of a channel: see egress.Outbox. Renewing
// writes nothing.
func (s *Store) Lease(ctx context.Context, name parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	got := parley.Lease{Channel: name, Holder: holder, TTL: ttl}
	err := s.write(ctx, makesSpace, func(t *txn) error {
		ch := t.channel(name)
		l := &ch.lease
		live := l.held && t.now < l.expiry
		if live && l.holder != holder {
			return parley.ErrFenced
		}
		// One that has expired and that nobody took is still its holder's: all that
		// was claimed under its epoch is known to it.
		inHand := l.held && l.holder == holder && have == parley.Lease{Channel: name, Holder: holder, Epoch: l.epoch, TTL: have.TTL}
		if !inHand {
			l.epoch++
			ch.orphan()
			t.key = append(append(t.key[:0], tableLease), ch.key...)
			t.set(t.key, binary.AppendUvarint([]byte{rowFormat}, l.epoch))
		}
		l.holder, l.held, l.expiry = holder, true, t.now+ttl.Milliseconds()
		got.Epoch = l.epoch
		return nil
	})
	if err != nil {
		return parley.Lease{}, fmt.Errorf("lease %s: %w", name.Kind, err)
	}
	return got, nil
}

// Yield gives leases back: see egress.Outbox. As expiries aren't stored, it writes
// nothing, and there is nothing to wait for.
func (s *Store) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	if err := s.enter(ctx); err != nil {
		return fmt.Errorf("yield leases: %w", err)
	}
	defer s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	for name, ch := range s.channels {
		if ch.lease.holder == holder && (channels == nil || slices.Contains(channels, name)) {
			ch.lease.expiry = 0
		}
	}
	return nil
}

// holds checks that l is the channel's current lease. One that has expired and
// that nobody took may still note what it has done (settle), not begin anew.
func (ch *channel) holds(l parley.Lease) bool {
	return ch.lease.held && ch.lease.epoch == l.Epoch && ch.lease.holder == l.Holder
}
