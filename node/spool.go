package node

import (
	"cmp"
	"context"
	"log/slog"
	"path/filepath"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// spoolPoll is how often a node that drains looks whether its spool is empty.
const spoolPoll = 10 * time.Millisecond

// later is what the spool passes on to: parts of the node that are made after it.
// Nothing reaches it before they are there.
type later struct{ n *Node }

// Append stores a, and wakes the senders.
func (l later) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	return inbox{Inbox: l.n.store, wake: l.n.host.Notify}.Append(ctx, a)
}

// Quarantined is the store's.
func (l later) Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	return quarantine{l.n.store}.Quarantined(ctx, app, ch, after, limit)
}

// Release is the store's.
func (l later) Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	return quarantine{l.n.store}.Release(ctx, ids, a)
}

// Deliver passes rows to the actors.
func (l later) Deliver(rows []parley.Pending) { l.n.host.Deliver(rows) }

// openSpool takes the spool, early: one that another process has, or that a newer
// version has left, is a mistake to be told before anything runs.
func (n *Node) openSpool() (err error) {
	to := later{n}
	n.spool, err = ingress.OpenSpool(ingress.SpoolConfig{
		Inbox: to, Quarantine: to, Deliverer: to,
		Dir:      cmp.Or(n.cfg.Spool.Dir, filepath.Join(n.cfg.Data, "spool")),
		MaxBytes: n.cfg.Spool.MaxBytes, ReserveBytes: n.cfg.ReserveBytes,
		Logger: n.log.With(slog.String("part", "spool")), Registerer: n.registry,
	})
	return err
}

// drainSpool runs the spool until ctx ends, and then, as long as that helps, until
// it is empty: what stays is drained by the next process on this folder, which
// there may not be soon.
func (n *Node) drainSpool(ctx context.Context) error {
	running, stop := context.WithCancel(context.WithoutCancel(ctx))
	defer stop()
	ended := make(chan error, 1)
	go func() { ended <- n.spool.Run(running) }()
	select {
	case err := <-ended:
		return err
	case <-ctx.Done():
	}
	n.emptySpool(running)
	stop()
	if left := n.spool.State(); left.Records > 0 {
		n.log.WarnContext(ctx, "the spool isn't empty: start a node on this folder again", slog.Int("groups", left.Records), slog.Int64("bytes", left.Bytes))
	}
	return <-ended
}

// emptySpool waits until the spool is empty, for spoolDrain at most.
func (n *Node) emptySpool(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, spoolDrain)
	defer cancel()
	poll := time.NewTicker(spoolPoll) //nolint:forbidigo // the drain's one clock
	defer poll.Stop()
	for n.spool.State().Records > 0 {
		select {
		case <-ctx.Done():
			return
		case <-poll.C:
		}
	}
}
