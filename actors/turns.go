package actors

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley"
)

// ErrAbandoned is what Host.Run returns when so many turns never came to an end
// that the process should be replaced: an endless loop can't be stopped in Go,
// and each goes on using a processor.
var ErrAbandoned = errors.New("too many turns never came to an end")

// turns runs behaviours: a bounded number at once, each under the eye of a
// watchdog, each noted where it survives the process.
//
// A turn that outlives its deadline is abandoned: its goroutine works on its
// own copy and its result is thrown away should it ever come; the row it was
// running is condemned, and another actor goes on with the conversation. The
// deadline is counted in ticks of the watchdog, not by the clock: a process that
// was stopped for a minute finds its turns as old as they were.
type turns struct {
	notes     *notes
	free      chan *running // runningSlots of them at most, the rest is at work
	random    func() [16]byte
	abandoned func(parley.Conversation, parley.Row)
	deadline  int64 // in ticks
	ticks     atomic.Int64
	lost      atomic.Int64  // abandoned turns that have not come to an end since
	alone     chan struct{} // holds a token while a turn with a suspect runs: two never run together

	mu        sync.Mutex
	running   map[*running]struct{}
	closed    bool             // no turn begins any more
	circuits  map[string]int64 // bot -> tick at which it closes again
	condemned map[parley.Row]string
}

// running is a turn under way, or free to become one.
type running struct {
	slot    int
	mu      sync.Mutex
	id      parley.Conversation
	bot     string
	row     parley.Row
	started int64 // tick
	alone   bool  // holds the token of turns.alone
	gone    bool  // abandoned: the result is not wanted any more
}

const (
	watchEvery   = 500 * time.Millisecond
	circuitTicks = 2 // an abandoned turn keeps its bot from other turns for a second
	maxAbandoned = 8 // turns at once without end, until the process is to be replaced
)

func newTurns(n *notes, cfg Config) *turns {
	t := &turns{
		notes: n, free: make(chan *running, runningSlots), random: cfg.Random, alone: make(chan struct{}, 1),
		deadline: int64((cfg.TurnDeadline + watchEvery - 1) / watchEvery), // never less: a turn may begin right before a tick
		running:  map[*running]struct{}{}, circuits: map[string]int64{}, condemned: map[parley.Row]string{},
	}
	for i := range runningSlots {
		t.free <- &running{slot: i}
	}
	return t
}

// step takes one turn. False: it was abandoned or not begun, and nothing of it
// may be used.
func (t *turns) step(bot *parley.Bot, s parley.Snapshot, rows []parley.Pending, c parley.Circumstance, tried []parley.Row) (commit parley.Commit, ok bool) {
	condemned, suspect := t.judge(rows)
	for _, row := range tried {
		if condemned == nil {
			condemned = map[parley.Row]string{}
		}
		condemned[row] = cmp.Or(condemned[row], "the process died each time it ran")
	}
	if suspect {
		t.alone <- struct{}{}
	}
	r := t.begin(s.Conversation, bot.Name, suspect)
	if r == nil {
		return parley.Commit{}, false
	}
	defer func() {
		if !ok {
			t.fell(r)
		}
		ok = t.end(r) && ok
	}()
	c.Nonce, c.Condemned = t.random(), condemned
	c.Begin = func(row parley.Row) { t.note(r, row) }
	return parley.Step(bot, s, rows, c), true
}

// suspects reports whether a turn that the machine asked for must be tried among
// all nodes first: an earlier process on this folder may have died of its rows.
func (h *Host) suspects(c *Conversation) bool {
	if h.cfg.Suspects == nil || c.Asked() || !h.turns.notes.any() {
		return false
	}
	for _, row := range rowsOf(c.head()) {
		if h.turns.notes.attempts(row) > 0 {
			return true
		}
	}
	return false
}

// judge says which rows must not be run, and whether one may be what an earlier
// process died of.
func (t *turns) judge(rows []parley.Pending) (condemned map[parley.Row]string, suspect bool) {
	t.mu.Lock()
	if len(t.condemned) > 0 {
		condemned = maps.Clone(t.condemned)
	}
	t.mu.Unlock()
	if !t.notes.any() {
		return condemned, false
	}
	for i := range rows {
		switch n := t.notes.attempts(rows[i].Row); {
		case n >= maxAttempts:
			if condemned == nil {
				condemned = map[parley.Row]string{}
			}
			if condemned[rows[i].Row] == "" {
				condemned[rows[i].Row] = "it did not come to an end, or the process died each time it ran"
			}
		case n > 0:
			suspect = true
		}
	}
	return condemned, suspect
}

// begin takes a place for a turn; nil if no turn is to begin any more.
func (t *turns) begin(id parley.Conversation, bot string, alone bool) *running {
	r := <-t.free
	r.mu.Lock()
	r.id, r.bot, r.row, r.started, r.alone = id, bot, parley.Row{}, t.ticks.Load(), alone
	r.mu.Unlock()
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.closed {
		t.release(r)
		return nil
	}
	t.running[r] = struct{}{}
	return r
}

func (t *turns) release(r *running) {
	if r.alone {
		<-t.alone
	}
	t.free <- r
}

// close lets no turn begin any more, and closes the notes unless a turn is still
// under way that may write into them.
func (t *turns) close() error {
	t.mu.Lock()
	t.closed = true
	quiet := len(t.running) == 0
	t.mu.Unlock()
	if !quiet {
		return nil
	}
	return t.notes.close()
}

func (t *turns) note(r *running, row parley.Row) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		return // its slot belongs to another by now
	}
	r.row = row
	r.started = t.ticks.Load()
	t.notes.running(r.slot, row)
}

// end clears the note of r. It holds t.mu all the while: the notes stay open as
// long as a turn is among the running.
func (t *turns) end(r *running) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.gone {
		t.lost.Add(-1)
		return false
	}
	delete(t.running, r)
	t.notes.running(r.slot, parley.Row{})
	t.release(r)
	return true
}

// fell condemns the row at which Step itself panicked: it would again.
func (t *turns) fell(r *running) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if r.row != (parley.Row{}) {
		t.condemned[r.row] = "panic outside of the bot's code"
	}
}

// watch abandons the turns that are over their deadline, until ctx ends.
func (t *turns) watch(ctx context.Context, until func(every time.Duration) time.Duration) error {
	tick := time.NewTimer(until(watchEvery)) //nolint:forbidigo // the watchdog's one clock; see turns
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-tick.C:
			tick.Reset(until(watchEvery))
			t.look(t.ticks.Add(1))
		}
		if t.lost.Load() >= maxAbandoned {
			return fmt.Errorf("%d: %w", maxAbandoned, ErrAbandoned)
		}
	}
}

func (t *turns) look(now int64) {
	t.mu.Lock()
	var over []*running
	for r := range t.running {
		r.mu.Lock()
		if now-r.started > t.deadline && !r.gone {
			over = append(over, r)
			t.abandon(r, now)
		}
		r.mu.Unlock()
	}
	t.mu.Unlock()
	for _, r := range over {
		t.abandoned(r.id, r.row)
	}
}

// abandon gives up on r, with both locks held. A fresh entry takes over its
// slot, so that as many turns as before can run.
func (t *turns) abandon(r *running, now int64) {
	r.gone = true
	t.lost.Add(1)
	delete(t.running, r)
	t.notes.running(r.slot, parley.Row{})
	t.circuits[r.bot] = now + circuitTicks
	if r.row != (parley.Row{}) {
		t.notes.condemn(r.row)
		t.condemned[r.row] = fmt.Sprintf("it did not come to an end within %s", time.Duration(t.deadline)*watchEvery)
	}
	if r.alone {
		<-t.alone
	}
	t.free <- &running{slot: r.slot}
}

// open reports whether the bot's circuit is open: one of its turns was just
// abandoned, and others wait a moment rather than take every processor.
func (t *turns) open(bot string) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	until, ok := t.circuits[bot]
	if ok && t.ticks.Load() >= until {
		delete(t.circuits, bot)
		return false
	}
	return ok
}

// settled forgets what was held against rows that have taken effect.
func (t *turns) settled(rows []parley.Row) {
	t.notes.settled(rows)
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.condemned) == 0 {
		return
	}
	for _, row := range rows {
		delete(t.condemned, row)
	}
}
