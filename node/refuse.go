package node

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"time"
)

// refuseAfter is when Meta, or whoever asks, may come again.
const refuseAfter = "5"

// refuse answers webhooks with 503 until ctx ends, and leaves the listener as it
// was: a node that waits for its database must not let them hang, since those who
// wait for an answer hold connections and learn nothing.
func refuse(ctx context.Context, ln net.Listener) error {
	srv := &http.Server{
		ReadTimeout: adminReadTimeout,
		Handler: http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Retry-After", refuseAfter)
			w.WriteHeader(http.StatusServiceUnavailable)
		}),
	}
	on := &lent{Listener: ln}
	ended := make(chan error, 1)
	go func() { ended <- srv.Serve(on) }()
	select {
	case err := <-ended:
		return fmt.Errorf("refuse webhooks: %w", err)
	case <-ctx.Done():
	}
	limit, cancel := context.WithTimeout(context.WithoutCancel(ctx), adminDrainTimeout)
	defer cancel()
	_ = srv.Shutdown(limit) // what is still open after this is cut off
	if err := <-ended; !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("refuse webhooks: %w", err)
	}
	return on.giveBack()
}

// lent is a listener that its server can't close, but only stop to wait on.
type lent struct{ net.Listener }

// deadliner is a listener whose waiting can be ended.
type deadliner interface{ SetDeadline(t time.Time) error }

// Close ends the waiting for a connection.
func (l *lent) Close() error {
	d, ok := l.Listener.(deadliner)
	if !ok {
		return l.Listener.Close()
	}
	return d.SetDeadline(time.Unix(1, 0))
}

func (l *lent) giveBack() error {
	d, ok := l.Listener.(deadliner)
	if !ok {
		return nil
	}
	return d.SetDeadline(time.Time{})
}
