package actors

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/parleychat/parley"
)

// request is a load, or a look-up of older keys or of suspects if there are any.
type request struct {
	pid   *actor.PID
	id    parley.Conversation
	keys  []parley.EventKey
	try   []parley.Row // to be asked for suspects
	forgo []parley.Row // to be acquitted
}

// work is a commit on its way to the store.
type work struct {
	pid    *actor.PID
	commit parley.Commit
	stored time.Time    // the first of its rows
	acquit []parley.Row // that were run and didn't end the process
}

// ask hands a request to the loaders. When all are busy the actor waits here,
// which holds up nothing but itself.
func (h *Host) ask(r request) {
	h.busy.Add(1)
	select {
	case h.requests <- r:
	case <-h.done:
		h.busy.Add(-1)
	}
}

// submit hands a commit to the committer.
func (h *Host) submit(w work) {
	h.busy.Add(1)
	select {
	case h.works <- w:
	case <-h.done:
		h.busy.Add(-1)
	}
}

func (h *Host) load(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case r := <-h.requests:
			h.system.Root.Send(r.pid, h.read(ctx, r))
			h.busy.Add(-1)
		}
	}
}

func (h *Host) read(ctx context.Context, r request) any {
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
	defer cancel()
	if len(r.keys) > 0 {
		found, err := h.cfg.Store.Older(ctx, r.id, r.keys)
		return &older{keys: r.keys, found: found, err: err}
	}
	if len(r.try) > 0 {
		h.notes.try(r.try)
		rows, err := h.cfg.Suspects.Try(ctx, r.try)
		h.metrics.tried.Add(float64(len(r.try)))
		h.noted.add(r.try, rows)
		return &tried{rows: rows, err: err}
	}
	if len(r.forgo) > 0 {
		return &forgone{err: h.acquit(ctx, r.forgo)}
	}
	h.metrics.loads.Inc()
	l, err := h.cfg.Store.Load(ctx, r.id, parley.MaxPendingPerTurn)
	return &loaded{Loaded: l, err: err}
}

// commit takes whatever commits have arrived and gives them to the store as one
// group, until ctx ends. While one group becomes durable the next one gathers; it
// begins no sooner than on the beat after the one before.
func (h *Host) commit(ctx context.Context) {
	group := make([]work, 0, commitGroup)
	rest := time.NewTimer(0) //nolint:forbidigo // it paces, and nothing is decided by it
	defer rest.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case w := <-h.works:
			select {
			case <-rest.C:
			case <-ctx.Done():
				return
			}
			rest.Reset(untilBeat(h.pace()))
			group = h.gather(append(group[:0], w))
			h.commitGroup(ctx, group)
			clear(group)
		}
	}
}

// untilBeat is the time until the next multiple of pace by the clock. All of a node that
// gathers begins on such beats: so a process that sleeps most of the time wakes up once
// for all of it, and what it asks of the store shares the store's fsyncs.
func untilBeat(pace time.Duration) time.Duration {
	now := time.Now() //nolint:forbidigo // it paces, and nothing is decided by it
	return now.Truncate(pace).Add(pace).Sub(now)
}

// pace is the time between two beats, on each of which one group of commits begins.
func (h *Host) pace() time.Duration { return h.cfg.Gather * time.Duration(h.cfg.Sharing()) }

// parcelPace is the time between two beats, on each of which a parcel goes to a node.
func (h *Host) parcelPace() time.Duration { return parcelGathers * h.pace() }

func (h *Host) gather(group []work) []work {
	for len(group) < commitGroup {
		select {
		case w := <-h.works:
			group = append(group, w)
		default:
			return group
		}
	}
	return group
}

func (h *Host) commitGroup(ctx context.Context, group []work) {
	commits := make([]parley.Commit, len(group))
	for i := range group {
		commits[i] = group[i].commit
	}
	limited, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
	defer cancel()
	errs, err := h.commitAwake(limited, group, commits)
	if err != nil {
		h.log.ErrorContext(ctx, "commit turns", slog.Int("turns", len(group)), slog.Any("error", err))
	}
	h.metrics.groups.Observe(float64(len(group)))
	now := time.Now() //nolint:forbidigo // measures, and decides nothing
	told, called := map[parley.Channel]bool{}, map[parley.Channel]bool{}
	for i := range group {
		c := &group[i].commit
		own := err
		if own == nil {
			own = errs[i]
		}
		if own == nil {
			h.turns.settled(c.Saw)
			for t := range c.SetTimers {
				h.dueAt(c.SetTimers[t].Due.UnixMilli())
			}
			h.metrics.delay.Observe(max(0, now.Sub(group[i].stored).Seconds())) // two clocks may disagree
			if ch := c.Conversation.Channel; len(c.Outbox) > 0 && !told[ch] {
				told[ch] = true
				h.Notify(ch)
			}
			if ch := c.Conversation.Channel; len(c.Calls) > 0 && !called[ch] {
				called[ch] = true
				h.notifyCalls(ch)
			}
		}
		h.count(c, own)
		h.system.Root.Send(group[i].pid, &committed{next: c.Next, err: own})
		h.busy.Add(-1)
	}
}

var errSlept = errors.New("this process has not run for a while: its conversations may be another's by now")

// commitAwake commits, unless this process has slept since the turns began, as far
// as it can tell: then others may have gone on with their conversations.
func (h *Host) commitAwake(ctx context.Context, group []work, commits []parley.Commit) ([]error, error) {
	var acquit []parley.Row
	for i := range group {
		acquit = append(acquit, group[i].acquit...)
	}
	if len(acquit) > 0 {
		if err := h.acquit(ctx, acquit); err != nil {
			h.log.WarnContext(ctx, "acquit suspects", slog.Int("rows", len(acquit)), slog.Any("error", err))
		}
	}
	if h.slept(h.clock()) {
		return nil, errSlept
	}
	return h.cfg.Store.Commit(ctx, commits)
}

func (h *Host) count(c *parley.Commit, err error) {
	switch {
	case err == nil:
		h.metrics.turns.Inc()
		h.metrics.events.Add(float64(len(c.Saw)))
		h.metrics.dead.Add(float64(len(c.Dead)))
		for _, d := range c.Dead {
			h.log.Warn("dead letter", slog.String("conversation", c.Conversation.String()),
				slog.Uint64("seq", uint64(d.Seq)), slog.String("id", d.ID.String()))
		}
	case errors.Is(err, parley.ErrConflict):
		h.metrics.conflicts.Inc()
	default:
		h.metrics.failed.Inc()
	}
}
