package node

import (
	"context"
	"errors"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	upkeepEvery = time.Hour
	// After one that failed, doubled with each more.
	upkeepAgain, upkeepAgainMax = 5 * time.Second, time.Minute
	upkeepTimeout               = 10 * time.Minute // of one
)

// upkeep drops what is old, and makes room for the days to come, now and then.
// With several nodes on one database each does so: what one has done the next
// finds done.
//
// Trouble of the upkeep is for people: an error in the log, a gauge, a line of
// /readyz. It doesn't make the node unready, since it would do so on all nodes at
// once, and take the service down while everything works.
type upkeep struct {
	log     *slog.Logger
	failing upkeepGauge
	trouble atomic.Pointer[string]
	again   time.Duration // the wait after the next failure
}

func newUpkeep(log *slog.Logger, to prometheus.Registerer) *upkeep {
	u := &upkeep{log: log, failing: newUpkeepGauge(), again: upkeepAgain}
	to.MustRegister(u.failing)
	return u
}

// readier is a store that knows of trouble to come while everything works still.
type readier interface {
	Ready(ctx context.Context) error
}

// run does the upkeep until ctx ends.
func (u *upkeep) run(ctx context.Context, s keeper, historyFor time.Duration) error {
	next := time.NewTimer(0) //nolint:forbidigo // the upkeep's one clock
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-next.C:
		}
		next.Reset(u.once(ctx, s, historyFor))
	}
}

// once does it and returns when it is to be done again.
func (u *upkeep) once(ctx context.Context, s keeper, historyFor time.Duration) time.Duration {
	limited, cancel := context.WithTimeout(ctx, upkeepTimeout)
	defer cancel()
	err := s.Prune(limited, historyFor)
	if r, ok := s.(readier); ok {
		err = errors.Join(err, r.Ready(limited))
	}
	switch {
	case ctx.Err() != nil:
		return upkeepEvery
	case err == nil:
		u.failing.Set(0)
		u.trouble.Store(nil)
		u.again = upkeepAgain
		return upkeepEvery
	}
	u.log.ErrorContext(ctx, "upkeep of the store", slog.Any("error", err))
	text := err.Error()
	u.failing.Set(1)
	u.trouble.Store(&text)
	wait := u.again
	u.again = min(2*u.again, upkeepAgainMax)
	return wait
}
