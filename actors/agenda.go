package actors

import (
	"context"
	"log/slog"
	"time"
)

const (
	sweepLimit   = 1024                   // conversations woken by one look
	timerLimit   = 1024                   // timers moved by one look
	timerHorizon = 200 * time.Millisecond // longest wait between two looks for due timers
)

// all says that this node owns every shard.
func all(uint16) bool { return true }

// sweep wakes the conversations whose rows were forgotten, and lets idle ones
// leave memory, until ctx ends.
func (h *Host) sweep(ctx context.Context) {
	tick := time.NewTicker(h.cfg.SweepEvery) //nolint:forbidigo // the sweeper's one clock
	defer tick.Stop()
	h.wakeOverdue(ctx, 0) // at start everything that waits is overdue
	for {
		select {
		case <-ctx.Done():
			return
		case <-tick.C:
			h.wakeOverdue(ctx, h.cfg.SweepEvery)
			h.passivate(h.tick.Add(1))
		}
	}
}

func (h *Host) wakeOverdue(ctx context.Context, age time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
	defer cancel()
	ids, err := h.cfg.Agenda.Overdue(ctx, all, age, sweepLimit)
	if err != nil {
		if ctx.Err() == nil {
			h.log.ErrorContext(ctx, "look for overdue conversations", slog.Any("error", err))
		}
		return
	}
	h.metrics.woken.Add(float64(len(ids)))
	for _, id := range ids {
		h.system.Root.Send(h.shard(id.Shard()), &wake{id: id})
	}
}

// passivate asks the idle conversations to leave: those that have been idle for
// PassivateIn, or all that are if there are more than MaxLive.
func (h *Host) passivate(now int64) {
	after := int64(h.cfg.PassivateIn / h.cfg.SweepEvery)
	crowded := h.live.Load() > int64(h.cfg.MaxLive)
	if crowded {
		after = 1
	}
	// The shards take turns, so that a look at all of them is spread out.
	const rounds = 16
	for s := range h.shards {
		if pid := h.shards[s].Load(); pid != nil && (crowded || int64(s%rounds) == now%rounds) {
			h.system.Root.Send(pid, &sweepIdle{before: now - after})
		}
	}
}

// timers moves due timers to their inboxes and hints them, until ctx ends.
func (h *Host) timers(ctx context.Context) {
	next := time.NewTimer(0) //nolint:forbidigo // the agenda's one clock
	defer next.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			next.Reset(h.fire(ctx))
		}
	}
}

func (h *Host) fire(ctx context.Context) time.Duration {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
	defer cancel()
	rows, wait, err := h.cfg.Agenda.FireTimers(ctx, all, timerLimit, timerHorizon)
	if err != nil {
		if ctx.Err() == nil {
			h.log.ErrorContext(ctx, "fire timers", slog.Any("error", err))
		}
		return timerHorizon
	}
	h.metrics.fired.Add(float64(len(rows)))
	h.Deliver(rows)
	return min(wait, timerHorizon)
}

// quiet reports whether no turn is being run, abandoned ones apart.
func (t *turns) quiet() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.running) == 0
}
