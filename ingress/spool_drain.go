package ingress

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

const (
	// A call of the drain carries probeUpdates at first, more while the inbox is
	// fast, up to maxDrainUpdates, and fewer while it isn't. A batch is read from
	// the spool up to the bytes, and a record more.
	probeUpdates    = 256
	maxDrainUpdates = 4 * defaultMaxGroupEvents // more than what can arrive in the meantime
	drainBytes      = 8 << 20
	// The part of Timeout in which a call was fast enough for a larger one, and
	// the part after which the next is a smaller one.
	fastShare, slowShare = 8, 2

	// readPatience is how long a segment that the disk doesn't show is tried again
	// before the drain goes on without it.
	readPatience = time.Minute
	// sweepAgain is when it is tried again to remove drained files. They must not
	// be there, and be drained again, when their events' keys are forgotten.
	sweepAgain = time.Second
	// refusePatience is how long an update that is refused alone is tried again
	// if nothing else was taken by the inbox meanwhile: then it may well be the
	// inbox that is wrong.
	refusePatience = 30 * time.Second
	// pressedRounds is after how many batches the spool must have become shorter;
	// if it hasn't, appends wait for the drain.
	pressedRounds = 32
)

// untilNews is a pause that ends when there is something new to look at. Any
// other negative one does, too, and otherwise after as long as it is.
const untilNews = -time.Hour

// Run drains the spool until ctx is cancelled, and then returns nil. It can be
// called once. It does nothing while there is nothing to drain.
func (s *Spool) Run(ctx context.Context) error {
	if s.started.Swap(true) {
		return errors.New("spool: Run was called before")
	}
	d := &drain{spool: s, size: probeUpdates}
	defer s.breaker.release()
	for ctx.Err() == nil {
		if pause := d.step(ctx); pause != 0 {
			s.pause(ctx, pause)
		}
	}
	return nil
}

// pause waits, for news if d is negative.
func (s *Spool) pause(ctx context.Context, d time.Duration) {
	news := s.breaker.wake
	if d > 0 {
		news = nil // what comes in must not hurry the probes
	}
	timer := time.NewTimer(max(d, -d)) //nolint:forbidigo // the pace of the probes, not a time that anybody sees
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-news:
	case <-ctx.Done():
	}
}

// drain moves what is in the spool to the inbox, in order. It is used by one
// goroutine.
type drain struct {
	spool *Spool
	at    position        // behind what is in batch
	batch parley.Arrivals // read, and not yet durable in the inbox
	whole left            // what of the log the batch is, for the log's accounts
	stamp int64           // of the last record in batch

	size    int       // updates that the next call carries at most
	flowing bool      // the inbox took the last call
	blind   time.Time // since when the log can't be read; zero if it can

	// The search for an update that the inbox refuses.
	suspects int       // it is among so many first ones; 0: there is none
	lone     time.Time // when it was refused alone for the first time
	credit   bool      // the inbox took something since one was put aside

	// The end of the drain.
	heldSince time.Time // zero if appends aren't held
	freeUntil time.Time // when they may be held again
	rounds    int       // batches since the mark
	mark      int       // records that were left then
	pressed   bool      // more comes in than is drained: hold appends in each call
}

// step does the next thing, and returns how long to wait before the one after it.
func (d *drain) step(ctx context.Context) time.Duration {
	if d.left() == 0 {
		if pause := d.read(); pause != 0 {
			return pause
		}
		if d.left() == 0 {
			return d.finish()
		}
	}
	part, n := d.part()
	d.holdForTheLast(n)
	began := d.spool.cfg.Now()
	rows, err := d.spool.call(ctx, part)
	switch {
	case err == nil:
		d.taken(n, d.spool.cfg.Now().Sub(began))
		if d.spool.cfg.Deliverer != nil && len(rows) > 0 {
			d.spool.cfg.Deliverer.Deliver(rows)
		}
		return 0
	case ctx.Err() != nil: // Run ends
		return 0
	case unavailable(err), errors.Is(err, parley.ErrFull):
		d.lone = time.Time{} // it says nothing about an update
		return d.unanswered(err)
	}
	return d.refused(n, err)
}

func (d *drain) left() int { return censusOf(&d.batch).updates() }

// read takes the next batch from the log: whole records of one segment. It
// returns how long to wait if there is something that it can't read.
func (d *drain) read() time.Duration {
	bytes := 0
	var failed error
	at, err := d.spool.log.read(d.at, func(body []byte) (taken, more bool) {
		if failed = d.take(body); failed != nil {
			return false, false
		}
		bytes += len(body)
		return true, d.left() < d.size && bytes < drainBytes
	})
	d.at = at
	switch {
	case d.left() > 0: // what fails behind a batch fails again at the next reading
	case err != nil:
		return d.unreadable(err)
	case failed != nil:
		return d.stuck(failed)
	}
	d.blind = time.Time{}
	return 0
}

// take adds a record to the batch. One that can't be decoded is put aside: a
// newer program may have written it.
func (d *drain) take(body []byte) error {
	stamp, encoded := splitBody(body)
	a, err := decodeArrivals(encoded)
	if err != nil {
		if err := d.putAside(append(make([]byte, frameBytes), body...), err); err != nil {
			return err
		}
	}
	d.batch.Events = append(d.batch.Events, a.Events...)
	d.batch.Receipts = append(d.batch.Receipts, a.Receipts...)
	d.batch.Quarantined = append(d.batch.Quarantined, a.Quarantined...)
	d.whole.records++
	d.whole.updates += censusOf(&a).updates()
	d.whole.quarantined += len(a.Quarantined)
	d.stamp = stamp
	return nil
}

// unreadable waits for the disk, and at some time gives the segment up: what is
// behind it must not wait for ever.
func (d *drain) unreadable(err error) time.Duration {
	now := d.spool.cfg.Now()
	if d.blind.IsZero() {
		d.blind = now
	}
	if now.Sub(d.blind) < readPatience {
		return d.stuck(err)
	}
	d.blind, d.at = time.Time{}, d.spool.log.giveUp(d.at, err)
	return d.spool.cfg.Probe
}

// stuck waits for the disk.
func (d *drain) stuck(err error) time.Duration {
	d.letIn()
	d.flowing = false
	if left, ok := d.spool.warn.pass("disk"); ok {
		d.spool.cfg.Logger.Error("drain of the spool is stuck", "error", err, "left_out", left)
	}
	return d.spool.cfg.Probe
}

// finish ends the drain if there is nothing left and nobody is about to write.
func (d *drain) finish() time.Duration {
	s := d.spool
	if d.whole.records > 0 { // all of them had to be put aside
		d.account()
		return 0
	}
	if s.log.more(d.at) {
		return 0
	}
	retired := false
	retire := func() bool {
		retired = s.log.retire(d.at)
		return retired
	}
	if !s.breaker.shut(retire) {
		if d.letInIfLong(); d.heldSince.IsZero() {
			return untilNews
		}
		return -s.cfg.Probe
	}
	d.heldSince, d.flowing, d.pressed, d.rounds, d.mark = time.Time{}, false, false, 0, 0
	d.size = probeUpdates
	if retired {
		if left, ok := s.warn.pass("shut"); ok {
			s.cfg.Logger.Info("spool is empty; events go to the inbox", "left_out", left)
		}
	}
	if !s.sweep() {
		return -sweepAgain
	}
	return untilNews
}

// part is the first updates of the batch, as many as the next call may carry.
func (d *drain) part() (parley.Arrivals, int) {
	n := min(d.size, d.left())
	events := min(n, len(d.batch.Events))
	receipts := min(n-events, len(d.batch.Receipts))
	return parley.Arrivals{
		Events: d.batch.Events[:events], Receipts: d.batch.Receipts[:receipts],
		Quarantined: d.batch.Quarantined[:n-events-receipts],
	}, n
}

// drop takes n updates from the front of the batch.
func (d *drain) drop(n int) {
	events := min(n, len(d.batch.Events))
	receipts := min(n-events, len(d.batch.Receipts))
	d.batch.Events = d.batch.Events[events:]
	d.batch.Receipts = d.batch.Receipts[receipts:]
	d.batch.Quarantined = d.batch.Quarantined[n-events-receipts:]
	if d.left() == 0 {
		d.account()
	}
}

// account tells the log that the batch is done. Only here a part of the log is
// given up: all of it is durable elsewhere by now.
func (d *drain) account() {
	d.spool.log.drained(d.at, d.whole, d.stamp)
	d.batch, d.whole = parley.Arrivals{}, left{}
	d.spool.sweep()
}

// taken notes that n updates are durable in the inbox.
func (d *drain) taken(n int, took time.Duration) {
	s := d.spool
	s.metrics.drained.Add(float64(n))
	d.drop(n)
	d.flowing, d.credit, d.lone = true, true, time.Time{}
	d.suspects = max(d.suspects-n, 0)
	switch {
	case d.suspects > 0:
		d.size = (d.suspects + 1) / 2
	case took < s.cfg.Timeout/fastShare:
		d.size = min(2*d.size, maxDrainUpdates)
	case took > s.cfg.Timeout/slowShare:
		d.size = max(d.size/2, 1)
	}
	d.press()
}

// press sees whether the drain gets on.
func (d *drain) press() {
	if d.rounds++; d.rounds < pressedRounds {
		return
	}
	n, _, _ := d.spool.log.waiting()
	d.pressed = d.pressed || n.records >= d.mark && d.mark > 0
	d.rounds, d.mark = 0, n.records
}

// unanswered notes that the inbox still has no answer, or no room.
func (d *drain) unanswered(err error) time.Duration {
	d.letIn()
	d.flowing, d.credit, d.pressed, d.rounds, d.mark = false, false, false, 0, 0
	d.size = max(min(d.size/2, probeUpdates), 1)
	if left, ok := d.spool.warn.pass("probe"); ok {
		d.spool.cfg.Logger.Warn("spool can't be drained yet", "error", err, "left_out", left)
	}
	return d.spool.cfg.Probe
}

// refused deals with a call that the inbox refuses for what is in it: it is
// halved until one update is left to blame. Whether that one is wrong, or the
// inbox with all that it is asked, shows in whether it took something else.
func (d *drain) refused(n int, cause error) time.Duration {
	s := d.spool
	if n > 1 {
		d.suspects, d.size = n, (n+1)/2
		return 0
	}
	now := s.cfg.Now()
	if d.lone.IsZero() {
		d.lone = now
	}
	if !d.credit && now.Sub(d.lone) < refusePatience {
		return d.unanswered(cause)
	}
	if err := d.putFirstAside(cause); err != nil {
		return d.stuck(err)
	}
	d.suspects, d.lone, d.credit, d.size = 0, time.Time{}, false, probeUpdates
	d.drop(1)
	return 0
}

func (d *drain) putFirstAside(cause error) error {
	size := d.size
	d.size = 1
	first, _ := d.part()
	d.size = size
	record, err := newRecord(d.stamp, &first, false)
	if err != nil {
		return err
	}
	return d.putAside(record, cause)
}

// putAside keeps a record in a file that is not drained.
func (d *drain) putAside(record []byte, cause error) error {
	s := d.spool
	frameRecord(record)
	name, err := s.log.setAside(record)
	if err != nil {
		return fmt.Errorf("put a record aside: %w", err)
	}
	s.metrics.refused.Inc()
	s.cfg.Logger.Error("the inbox refuses what was acknowledged; it is put aside", "file", name, "cause", cause)
	return nil
}

// holdForTheLast makes appends wait during a call that may be the last of the
// drain, until it is, or for as long as they may. If more comes in than is
// drained, it makes them wait during each call, but those that have waited for
// one are let in before the next.
func (d *drain) holdForTheLast(n int) {
	s, now := d.spool, d.spool.cfg.Now()
	d.letInIfLong()
	last := n == d.left() && !s.log.more(d.at)
	if d.pressed && !last {
		d.letIn()
	}
	if !d.flowing || !last && !d.pressed || now.Before(d.freeUntil) || !d.heldSince.IsZero() {
		return
	}
	d.heldSince = now
	s.breaker.hold()
}

// letInIfLong ends a hold that has lasted as long as it may.
func (d *drain) letInIfLong() {
	if now := d.spool.cfg.Now(); !d.heldSince.IsZero() && now.Sub(d.heldSince) >= d.spool.cfg.Timeout {
		d.letIn()
		d.freeUntil = now.Add(d.spool.cfg.Timeout)
	}
}

func (d *drain) letIn() {
	d.heldSince = time.Time{}
	d.spool.breaker.release()
}
