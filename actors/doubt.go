package actors

import (
	"context"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

// doubt is what a machine has of rows that a process may have died of. Such rows
// are tried before they are run: noted in the store, where a second one that finds
// the note doesn't run them. A nil doubt is of nothing.
type doubt struct {
	before int64        // rows received by then, in ms since 1970, are doubted when they are loaded; 0: no more
	to     parley.Seq   // rows up to this one are doubted
	trying []parley.Row // the head of the queue when it was asked for them
	asked  bool         // the head of the queue has been tried
	looks  int          // how often in a row it was, and somebody else's note was found
	tried  []parley.Row // of the head: what must not be run
	noted  []parley.Row // by this machine, or so it must be feared, and not acquitted
}

const (
	// suspectFor is how long somebody else's note is looked for before it is taken for
	// a death. A process that is there acquits what it has noted: as soon as it was run,
	// or when it lets go of it. But it may be slow, stand still for most of a minute, or
	// not reach the store; then it is taken for silent, and others for dead. And one that
	// was killed is mostly started again, and acquits what it wasn't running then
	// (notes.innocent). Only the time counts in which the store answers, so that the
	// other one can reach it, too.
	suspectFor = time.Minute
	lookEvery  = time.Second
)

// of reports whether a turn that begins with a row is yet to be tried.
func (d *doubt) of(first parley.Seq) bool { return d != nil && !d.asked && first <= d.to }

// askedFor reports whether what is doubted of a head has been asked for.
func (d *doubt) askedFor(head []parley.Pending) bool {
	return !slices.ContainsFunc(head, func(p parley.Pending) bool {
		return p.Seq <= d.to && !slices.Contains(d.trying, p.Row)
	})
}

// forgetHead forgets what was asked about the head of the queue.
func (d *doubt) forgetHead() {
	if d != nil {
		d.asked, d.tried, d.looks = false, nil, 0
	}
}

// looking reports whether somebody else's note is being looked for again.
func (d *doubt) looking() bool { return d != nil && d.looks > 0 }

// loaded takes note of loaded rows. What lies beyond them is loaded later.
func (d *doubt) loaded(l *parley.Loaded) {
	if d == nil {
		return
	}
	d.forgetHead()
	for i := range l.Pending {
		if l.Pending[i].Received.UnixMilli() <= d.before {
			d.to = max(d.to, l.Pending[i].Seq)
		}
	}
	if !l.More {
		d.before = 0
	}
}

// Doubt tells that the process which ran this conversation before may have died of
// a row that was received by a time. Such rows are tried before they are run.
func (c *Conversation) Doubt(before time.Time) { c.doubts().before = before.UnixMilli() }

func (c *Conversation) doubts() *doubt {
	if c.doubt == nil {
		c.doubt = &doubt{}
	}
	return c.doubt
}

// Reconsider makes the machine want to Try the Turn that it asked for.
func (c *Conversation) Reconsider() {
	d := c.doubts()
	c.stage, d.to = idle, max(d.to, c.queue[c.inFlight-1].Seq)
	c.inFlight = 0
}

// Asked reports whether the head of the queue has been tried.
func (c *Conversation) Asked() bool { return c.doubt != nil && c.doubt.asked }

// Trying are the rows to be tried, when Next has said Try: those of the next turn.
func (c *Conversation) Trying() []parley.Row { return c.doubt.trying }

// try notes which rows are asked for. The queue may have another head when the answer
// comes: a row that arrives late goes before those that were stored after it.
func (c *Conversation) try() Action {
	c.stage, c.doubt.trying = trying, rowsOf(c.head())
	return Try
}

func rowsOf(pending []parley.Pending) []parley.Row {
	rows := make([]parley.Row, len(pending))
	for i := range pending {
		rows[i] = pending[i].Row
	}
	return rows
}

// Tried reports which of Trying were tried before and not acquitted: they are tried
// again, and only what was never acquitted is condemned. All are tried again if others
// are to be run first by now. What this machine itself
// has noted doesn't count: it's still there. After an error it may
// have noted all of them. Taking that for so lets an event that somebody else has
// died of run once more; the opposite would condemn what nobody has died of each
// time the store goes away at the wrong moment.
func (c *Conversation) Tried(rows []parley.Row, err error) (paused bool) {
	c.stage = idle
	d := c.doubts()
	tried := slices.DeleteFunc(slices.Clone(rows), func(r parley.Row) bool { return slices.Contains(d.noted, r) })
	for _, r := range d.trying {
		if !slices.Contains(tried, r) && !slices.Contains(d.noted, r) {
			d.noted = append(d.noted, r)
		}
	}
	if err != nil {
		return c.failed()
	}
	if d.looks++; len(tried) > 0 && d.looks < int(c.looks) {
		return c.failed()
	}
	d.asked, d.tried, d.looks = d.askedFor(c.head()), tried, 0
	d.trying = nil
	return false
}

// Noted are the rows that this machine has noted and not run: it must acquit them
// if it won't run them, and then call Forgo.
func (c *Conversation) Noted() []parley.Row {
	if c.doubt == nil {
		return nil
	}
	return c.doubt.noted
}

// Forgo forgets what was Noted.
func (c *Conversation) Forgo() {
	if c.doubt != nil {
		c.doubt.noted = nil
	}
}

// Condemned are the rows of the Turn that must not be run.
func (c *Conversation) Condemned() []parley.Row {
	if c.doubt == nil {
		return nil
	}
	return c.doubt.tried
}

// Acquitted are the rows of the Turn that was taken, if they had been tried: they
// were run, and the process is still there. That may have been with an earlier head,
// which rows that came late have pushed them out of.
func (c *Conversation) Acquitted() []parley.Row {
	if c.doubt == nil {
		return nil
	}
	rows := rowsOf(c.queue[:c.inFlight])
	if c.doubt.asked {
		return rows
	}
	return slices.DeleteFunc(rows, func(r parley.Row) bool { return !slices.Contains(c.doubt.noted, r) })
}

// acquitted forgets the doubts about rows that have taken effect, and with the last
// of them that there ever were any.
func (c *Conversation) acquitted(rows []parley.Pending) {
	d := c.doubt
	if d == nil {
		return
	}
	d.noted = slices.DeleteFunc(d.noted, func(r parley.Row) bool {
		return slices.ContainsFunc(rows, func(p parley.Pending) bool { return p.Row == r })
	})
	if len(d.noted) == 0 && d.before == 0 && (len(rows) == 0 || rows[len(rows)-1].Seq >= d.to) {
		c.doubt = nil
	}
}

// notedRows are the rows that this process has noted, or may have, and not acquitted;
// and those of earlier ones on its folder that weren't run.
type notedRows struct {
	file *notes

	mu   sync.Mutex
	rows map[parley.Row]struct{}
	owed map[parley.Row]struct{} // of them, those that are to be acquitted: that failed, or wasn't done
}

func newNotedRows(file *notes) *notedRows {
	n := &notedRows{file: file, rows: map[parley.Row]struct{}{}, owed: map[parley.Row]struct{}{}}
	for _, r := range file.innocent() {
		n.rows[r], n.owed[r] = struct{}{}, struct{}{}
	}
	return n
}

// add adds what was to be noted, except for what somebody else had noted before.
func (n *notedRows) add(rows, tried []parley.Row) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range tried {
		if _, mine := n.rows[r]; !mine {
			n.file.acquit([]parley.Row{r})
		}
	}
	for _, r := range rows {
		if !slices.Contains(tried, r) {
			n.rows[r] = struct{}{}
			delete(n.owed, r)
		}
	}
}

func (n *notedRows) remove(rows []parley.Row) {
	n.file.acquit(rows)
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range rows {
		delete(n.rows, r)
		delete(n.owed, r)
	}
}

// owe notes that rows are still to be acquitted.
func (n *notedRows) owe(rows []parley.Row) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, r := range rows {
		if _, ok := n.rows[r]; ok {
			n.owed[r] = struct{}{}
		}
	}
}

func (n *notedRows) owing() []parley.Row {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.owed))
}

func (n *notedRows) all() []parley.Row {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Collect(maps.Keys(n.rows))
}

// acquit acquits rows in the store.
func (h *Host) acquit(ctx context.Context, rows []parley.Row) error {
	err := h.cfg.Suspects.Acquit(ctx, rows)
	if err == nil {
		h.noted.remove(rows)
	} else {
		h.noted.owe(rows)
	}
	return err
}

// makeUp acquits what should have been acquitted before: or the next who tries it would
// take the note for a death.
func (h *Host) makeUp(ctx context.Context) {
	rows := h.noted.owing()
	if len(rows) == 0 || h.cfg.Suspects == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
	defer cancel()
	if err := h.acquit(ctx, rows); err != nil {
		h.log.WarnContext(ctx, "acquit suspects later", slog.Int("rows", len(rows)), slog.Any("error", err))
	}
}

// acquitAll acquits what is left at the end: this process ends in peace, so nothing of
// that is what it dies of.
func (h *Host) acquitAll(ctx context.Context) {
	rows := h.noted.all()
	if len(rows) == 0 || h.cfg.Suspects == nil {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, h.cfg.DrainTimeout)
	defer cancel()
	if err := h.acquit(ctx, rows); err != nil {
		h.log.WarnContext(ctx, "acquit suspects at the end", slog.Int("rows", len(rows)), slog.Any("error", err))
	}
}
