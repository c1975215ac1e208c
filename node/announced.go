package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

const (
	// maxAnnounced is how many announced messages wait to be appended, or are
	// remembered to have been. More are dropped: they are announced again.
	maxAnnounced   = 1 << 14
	announcedBatch = 512
	// announcedFor is how long an append is tried again: who has sent the messages
	// announces them again, or reports them by itself.
	announcedWait = 100 * time.Millisecond
	announcedFor  = 30 * time.Second
	// announcedOnce is how long what was appended isn't appended again.
	announcedOnce = time.Minute
)

// announced is what other nodes have sent and can't note: receipts that this node appends.
type announced struct {
	store func(context.Context, parley.Arrivals) ([]parley.Pending, error)
	log   *slog.Logger
	news  chan struct{} // holds one: there are some that wait

	mu      sync.Mutex
	waiting []parley.Receipt
	known   map[parley.ID]time.Time // when it was appended; zero: it waits, or is being
}

func newAnnounced(store func(context.Context, parley.Arrivals) ([]parley.Pending, error), log *slog.Logger) *announced {
	return &announced{store: store, log: log, news: make(chan struct{}, 1), known: map[parley.ID]time.Time{}}
}

// add takes what was announced. It doesn't block.
func (a *announced) add(sent []parley.Receipt, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range sent {
		appended, known := a.known[sent[i].Row]
		if known && (appended.IsZero() || now.Sub(appended) < announcedOnce) {
			continue
		}
		if !known && !a.room(now) {
			break
		}
		a.known[sent[i].Row] = time.Time{}
		a.waiting = append(a.waiting, sent[i])
	}
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// room reports whether there is room for one more, and makes some if it can: what was
// appended long ago isn't remembered.
func (a *announced) room(now time.Time) bool {
	if len(a.known) < maxAnnounced {
		return true
	}
	for id, appended := range a.known {
		if !appended.IsZero() && now.Sub(appended) >= announcedOnce {
			delete(a.known, id)
		}
	}
	return len(a.known) < maxAnnounced
}

// take takes the oldest that wait.
func (a *announced) take() []parley.Receipt {
	a.mu.Lock()
	defer a.mu.Unlock()
	n := min(len(a.waiting), announcedBatch)
	batch := a.waiting[:n:n]
	if a.waiting = a.waiting[n:]; len(a.waiting) == 0 {
		a.waiting = nil
	}
	return batch
}

// done remembers that a batch was appended; if it wasn't, it may be announced again.
func (a *announced) done(batch []parley.Receipt, appended bool, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range batch {
		if appended {
			a.known[batch[i].Row] = now
		} else {
			delete(a.known, batch[i].Row)
		}
	}
}

// run appends what comes, until ctx ends.
func (a *announced) run(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-a.news:
		}
		for batch := a.take(); len(batch) > 0; batch = a.take() {
			a.append(ctx, batch)
		}
	}
}

// append stores a batch, and tries again for a while.
func (a *announced) append(ctx context.Context, batch []parley.Receipt) {
	ctx, cancel := context.WithTimeout(ctx, announcedFor)
	defer cancel()
	for {
		limited, end := context.WithTimeout(ctx, egress.StoreTimeout)
		_, err := a.store(limited, parley.Arrivals{Receipts: batch})
		end()
		now := time.Now() //nolint:forbidigo // how long they are remembered
		switch {
		case err == nil:
			a.done(batch, true, now)
			a.log.InfoContext(ctx, "another node has sent what it can't note: it is noted", slog.Int("messages", len(batch)))
			return
		case ctx.Err() != nil:
			a.done(batch, false, now)
			a.log.WarnContext(ctx, "what another node has sent and can't note isn't noted here", slog.Int("messages", len(batch)), slog.Any("error", err))
			return
		}
		wait(ctx, announcedWait)
	}
}
