package actors

import (
	"context"
	"log/slog"
	"time"
)

const (
	sweepLeast   = 1024            // conversations woken by one look, if they are not more
	sweepMost    = 16 * sweepLeast // and at most
	sweepParts   = 16              // of the shards, looked at in turn if there are even more
	hurry        = 8               // so many looks take the time of one, while there are more
	timerLimit   = 1024            // timers moved by one look
	timerHorizon = time.Second     // between two looks for due timers, and half as much again before the second
)

// sweep wakes the conversations whose rows were forgotten, and lets idle ones
// leave memory, until ctx ends.
func (h *Host) sweep(ctx context.Context) {
	rest := time.NewTimer(0) //nolint:forbidigo // the sweeper's one clock
	defer rest.Stop()
	s := sweeper{limit: sweepLeast}
	s.looked(h.wakeOverdue(ctx, 0, s)) // at start everything that waits is overdue
	for n := 0; ; n %= hurry {
		parts := hurry - n // of SweepEvery until the next look
		if s.more {
			parts = 1
		}
		rest.Reset(h.cfg.SweepEvery / hurry * time.Duration(parts))
		if parts == hurry {
			rest.Reset(h.untilLook(h.cfg.SweepEvery))
		}
		select {
		case <-ctx.Done():
			return
		case <-rest.C:
		}
		n += parts
		// In a hurry it wakes no more than can be loaded and kept.
		if n == hurry || s.more && h.busy.Load() < sweepLeast && h.crowd.rows.Load() < h.crowd.most {
			s.looked(h.wakeOverdue(ctx, h.cfg.SweepEvery, s))
		}
		if n == hurry {
			h.passivate(h.tick.Add(1))
			h.makeUp(ctx)
		}
	}
}

// sweeper decides how much a look covers. Looks return the oldest first, and
// some of these may be stuck for long, so that a look at ever the same number of
// conversations could hide the others for ever. While looks come back full, they
// follow each other faster and get larger; from a size on, they look at one part
// of the shards after another.
type sweeper struct {
	limit int
	part  uint16
	parts bool // look at a part of the shards only
	more  bool // the last look came back full
}

func (s *sweeper) looked(n int) {
	s.more = n >= s.limit
	s.part = (s.part + 1) % sweepParts
	switch {
	case s.more:
		s.parts = s.parts || s.limit == sweepMost
		s.limit = min(2*s.limit, sweepMost)
	case s.part == 0 || !s.parts: // a whole round
		s.limit, s.parts = max(s.limit/2, sweepLeast), false
	}
	s.more = s.more || s.parts
}

// owned is which shards it looks at, of those that are held.
func (s *sweeper) owned(held func(uint16) bool) func(uint16) bool {
	if !s.parts {
		return held
	}
	part := s.part
	return func(shard uint16) bool { return shard%sweepParts == part && held(shard) }
}

// wakeOverdue wakes conversations and returns how many.
func (h *Host) wakeOverdue(ctx context.Context, age time.Duration, s sweeper) int {
	if h.territory.in(held) == 0 {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
	defer cancel()
	ids, err := h.cfg.Agenda.Overdue(ctx, s.owned(h.territory.Holds), age, s.limit)
	if err != nil {
		if ctx.Err() == nil {
			h.log.ErrorContext(ctx, "look for overdue conversations", slog.Any("error", err))
		}
		return 0
	}
	h.metrics.woken.Add(float64(len(ids)))
	for _, id := range ids {
		h.system.Root.Send(h.shard(id.Shard()), &wake{id: id, passes: MaxPasses})
	}
	return len(ids)
}

// passivate asks the idle conversations to leave: those that have been idle for
// PassivateIn, or all that are if there are more than MaxLive.
func (h *Host) passivate(now int64) {
	if h.live.Load() == 0 {
		return
	}
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

// timers moves due timers to their inboxes and hints them, until ctx ends. It looks
// when the next one is due that it knows of: by the store's word, or since a turn here
// has set it; and now and then, for what others have set.
func (h *Host) timers(ctx context.Context) {
	next := time.NewTimer(0) //nolint:forbidigo // the agenda's one clock
	defer next.Stop()
	at := time.Now() //nolint:forbidigo // as above
	for {
		select {
		case <-ctx.Done():
			return
		case <-next.C:
			wait := h.fire(ctx)
			at = time.Now().Add(wait) //nolint:forbidigo // as above
			next.Reset(wait)
		case <-h.dueNews:
			if due := time.UnixMilli(h.due.Swap(0)); due.UnixMilli() > 0 && due.Before(at) {
				at = due
				next.Reset(time.Until(due)) //nolint:forbidigo // as above
			}
		}
	}
}

// LookForDue makes the agenda be looked at now: the store's clock has been put forward.
func (h *Host) LookForDue() { h.dueAt(1) }

// dueAt makes the agenda be looked at by a time, in ms since 1970.
func (h *Host) dueAt(ms int64) {
	for {
		due := h.due.Load()
		if due != 0 && due <= ms {
			return
		}
		if h.due.CompareAndSwap(due, ms) {
			break
		}
	}
	select {
	case h.dueNews <- struct{}{}:
	default:
	}
}

func (h *Host) fire(ctx context.Context) time.Duration {
	if h.territory.in(held) == 0 {
		return h.untilLook(timerHorizon)
	}
	horizon := h.untilLook(timerHorizon)
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
	defer cancel()
	rows, wait, err := h.cfg.Agenda.FireTimers(ctx, h.territory.Holds, timerLimit, horizon)
	if err != nil {
		if ctx.Err() == nil {
			h.log.ErrorContext(ctx, "fire timers", slog.Any("error", err))
		}
		return h.untilLook(timerHorizon)
	}
	h.metrics.fired.Add(float64(len(rows)))
	h.Deliver(rows)
	if wait < horizon.Truncate(time.Millisecond) { // stores count in ms
		return wait
	}
	return h.untilLook(timerHorizon)
}

// UntilLook is the time until the next of those looks that are taken every so often,
// whatever there is to see. It is at a multiple of that by the clock, so that a process
// with nothing to do wakes up once for all of its looks; and at least half of it away,
// so that a timer which is early doesn't make for two.
func UntilLook(now, every time.Duration) time.Duration {
	return (now + every + every/2).Truncate(every) - now
}

func (h *Host) untilLook(every time.Duration) time.Duration { return UntilLook(h.clock(), every) }

// quiet reports whether no turn is being run, abandoned ones apart.
func (t *turns) quiet() bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.running) == 0
}
