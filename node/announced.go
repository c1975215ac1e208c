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
	// maxAnnounced is how many announced messages wait to be appended, and are
	// remembered to have been. More are dropped: they are announced again.
	maxAnnounced   = 1 << 14
	announcedBatch = 512
	// announcedTime is how long one append may take, and announcedFor how long it is
	// tried again: who has sent them announces them again, or reports them by itself.
	announcedTime = 2 * time.Second
	announcedWait = 100 * time.Millisecond
	announcedFor  = 30 * time.Second
	// announcedOnce is how long what was appended isn't appended again.
	announcedOnce = time.Minute
)

// announced is what other nodes have sent and can't note: receipts that this node appends.
type announced struct {
	receipts func() egress.Receipts
	log      *slog.Logger
	news     chan struct{} // holds one: there are some that wait

	mu      sync.Mutex
	waiting []parley.Receipt
	since   map[parley.ID]time.Time // of what waits, or was appended
}

func newAnnounced(receipts func() egress.Receipts, log *slog.Logger) *announced {
	return &announced{receipts: receipts, log: log, news: make(chan struct{}, 1), since: map[parley.ID]time.Time{}}
}

// add takes what was announced. It doesn't block.
func (a *announced) add(sent []parley.Receipt, now time.Time) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range sent {
		since, known := a.since[sent[i].Row]
		if known && now.Sub(since) < announcedOnce {
			continue
		}
		if len(a.since) >= maxAnnounced && !known {
			a.forget(now)
			if len(a.since) >= maxAnnounced {
				break
			}
		}
		a.since[sent[i].Row] = now
		a.waiting = append(a.waiting, sent[i])
	}
	select {
	case a.news <- struct{}{}:
	default:
	}
}

// forget makes room: of what was appended long ago nothing is remembered.
func (a *announced) forget(now time.Time) {
	for id, since := range a.since {
		if now.Sub(since) >= announcedOnce {
			delete(a.since, id)
		}
	}
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

// giveUp lets what wasn't appended be announced again.
func (a *announced) giveUp(batch []parley.Receipt) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for i := range batch {
		delete(a.since, batch[i].Row)
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
		limited, done := context.WithTimeout(ctx, announcedTime)
		_, err := a.receipts().Append(limited, parley.Arrivals{Receipts: batch})
		done()
		switch {
		case err == nil:
			a.log.InfoContext(ctx, "another node has sent what it can't note: it is noted", slog.Int("messages", len(batch)))
			return
		case ctx.Err() != nil:
			a.log.WarnContext(ctx, "what another node has sent and can't note isn't noted here", slog.Int("messages", len(batch)), slog.Any("error", err))
			a.giveUp(batch)
			return
		}
		wait(ctx, announcedWait)
	}
}
