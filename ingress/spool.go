package ingress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// SpoolConfig is what a [Spool] is made of. Inbox and Dir are needed; the rest
// has defaults.
type SpoolConfig struct {
	// Inbox is what the spool stands in for: a database that may not answer. Its
	// Append may still read what it was given after the spool has given up on it.
	Inbox Inbox
	// Quarantine is the same database's, if the spool is to be the quarantine of
	// a Server, too: see [Spool.Quarantined].
	Quarantine Quarantine
	// Dir is the folder for what is spooled. It belongs to one process at a time,
	// and it should be on a disk that outlives the process.
	Dir string
	// Deliverer is told of the rows that come out of the spool; may be nil.
	Deliverer Deliverer

	// MaxBytes bounds all files of the folder. Default 1 GiB.
	MaxBytes int64
	// SegmentBytes is the size of one file, or a record more. Files are given up
	// as wholes, so it bounds what a crash has drained again. Default 16 MiB.
	SegmentBytes int64
	// ReserveBytes of the disk are kept free. Default 256 MiB.
	ReserveBytes uint64
	// Timeout is how long the inbox may take for an append before the spool takes
	// it. It should be a small part of Limits.AppendTimeout. Default 500 ms.
	Timeout time.Duration
	// Probe is the pause before the inbox is tried again. Default 100 ms.
	Probe time.Duration

	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: metrics are kept, not registered
	Now        func() time.Time      // default: the system's clock
	Disk       SpoolDisk             // default: the machine's file system
}

const (
	defaultSpoolBytes   = 1 << 30
	defaultSegmentBytes = 16 << 20
	defaultSpoolReserve = 256 << 20
	defaultSpoolTimeout = 500 * time.Millisecond
	defaultSpoolProbe   = 100 * time.Millisecond

	// maxInboxCalls is how many appends may be with the inbox at a time, those
	// included that nobody waits for any more.
	maxInboxCalls = 16
)

func (c SpoolConfig) withDefaults() SpoolConfig {
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the default of the injected clock
	}
	if c.Disk == nil {
		c.Disk = osDisk{}
	}
	c.MaxBytes = cmp.Or(c.MaxBytes, defaultSpoolBytes)
	c.SegmentBytes = cmp.Or(c.SegmentBytes, defaultSegmentBytes)
	c.ReserveBytes = cmp.Or(c.ReserveBytes, defaultSpoolReserve)
	c.Timeout = cmp.Or(c.Timeout, defaultSpoolTimeout)
	c.Probe = cmp.Or(c.Probe, defaultSpoolProbe)
	return c
}

func (c SpoolConfig) validate() error {
	switch {
	case c.Inbox == nil || c.Dir == "":
		return errors.New("one of Inbox and Dir is not set")
	case c.MaxBytes < 0 || c.SegmentBytes < 0 || c.Timeout < 0 || c.Probe < 0:
		return errors.New("a limit is less than 0")
	}
	return nil
}

// Spool is an Inbox around another one, a database, that takes over while the
// database doesn't answer: what arrives is written to files of this machine, and
// acknowledged once it is synced there. When the database answers again, the
// files are drained into it.
//
// It is a breaker. While it is closed, Append is the database's. The first
// append that is not answered within Timeout, or with parley.ErrUnavailable,
// opens it: that group and all that come go to the spool at once, until all of
// it has been drained, so that this node's events keep their order. Run tries
// the oldest batch of the spool every Probe, which is the only question that is
// asked of the database; once one is taken it goes on with larger ones. At the
// end appends wait for a moment, so that the last batch is the last.
//
// Events from the spool are marked late: meanwhile, other nodes may have taken
// younger ones of the same conversation. What the database answers about the
// data, or ErrFull, is returned as it is and opens nothing.
//
// A part of the spool is given up after it is durable in the database. Whatever
// happens before, it is drained again, and so is what was in doubt when an
// append was not answered. Events are recognized by their keys, receipts fold to
// the same; entries of the quarantine may then be there twice, and so would
// their events be, if they didn't have keys.
type Spool struct {
	cfg     SpoolConfig
	breaker breaker
	log     *spoolLog
	metrics *spoolMetrics
	warn    *throttle
	calls   chan struct{} // one for each append that is with the inbox
	started atomic.Bool
	closed  atomic.Bool
}

var (
	_ Inbox      = (*Spool)(nil)
	_ Quarantine = (*Spool)(nil)
)

// OpenSpool opens the spool in cfg.Dir, or makes a new one there. What is left in
// it goes first: until Run has drained it, all appends go through the spool. Its
// errors wrap parley.ErrLocked if another process has the folder, and
// parley.ErrFormat if a newer version of Parley left something in it. It starts
// nothing. The caller closes the spool.
func OpenSpool(cfg SpoolConfig) (*Spool, error) {
	cfg = cfg.withDefaults()
	if err := cfg.validate(); err != nil {
		return nil, fmt.Errorf("open spool: %w", err)
	}
	s := &Spool{cfg: cfg, warn: newThrottle(cfg.Now), calls: make(chan struct{}, maxInboxCalls)}
	s.breaker.wake = make(chan struct{}, 1)
	s.metrics = newSpoolMetrics(s)
	s.log = &spoolLog{
		writing: make(chan struct{}, 1),
		disk:    cfg.Disk, dir: cfg.Dir, logger: cfg.Logger, metrics: s.metrics, next: 1,
		limit: cfg.MaxBytes, segmentBytes: cfg.SegmentBytes,
		room: spoolRoom{
			free: func() (uint64, error) { return cfg.Disk.Free(cfg.Dir) }, now: s.now, reserve: cfg.ReserveBytes,
		},
	}
	if err := s.log.open(); err != nil {
		return nil, fmt.Errorf("open spool in %s: %w", cfg.Dir, err)
	}
	if err := s.metrics.register(cfg.Registerer); err != nil {
		return nil, fmt.Errorf("open spool: %w", errors.Join(err, s.log.close()))
	}
	s.breaker.open = !s.log.retire(position{})
	s.sweep() // of what has no records
	if !s.breaker.open {
		return s, nil
	}
	n, bytes, _ := s.log.waiting()
	cfg.Logger.Info("spool holds what was acknowledged before; it is drained first", "records", n.records, "bytes", bytes)
	return s, nil
}

// sweep removes the files that have been drained, and reports whether it could.
func (s *Spool) sweep() bool {
	err := s.log.sweep()
	if err != nil {
		if left, ok := s.warn.pass("sweep"); ok {
			s.cfg.Logger.Warn("drained files of the spool stay; removing them is tried again", "error", err, "left_out", left)
		}
	}
	return err == nil
}

func (s *Spool) now() int64 { return s.cfg.Now().UnixMilli() }

// Append is Inbox's. It returns no rows for what it has spooled. ErrFull: the
// spool has no room; ErrUnavailable: its disk fails; another error: the inbox refuses a.
func (s *Spool) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	if a.Empty() {
		return nil, nil
	}
	if s.closed.Load() {
		return nil, errSpoolClosed
	}
	through, err := s.breaker.enter(ctx)
	if err != nil {
		return nil, err
	}
	if through {
		rows, err := s.call(ctx, a)
		if !unavailable(err) {
			return rows, err
		}
		s.trip(err)
		if ctx.Err() != nil { // the caller has gone: nobody would say 200
			s.breaker.leave()
			return nil, err
		}
	}
	defer s.breaker.leave()
	return nil, s.spool(ctx, &a)
}

// trip opens the breaker; the caller is then one who writes.
func (s *Spool) trip(cause error) {
	if !s.breaker.trip() {
		return
	}
	if left, ok := s.warn.pass("trip"); ok {
		s.cfg.Logger.Warn("inbox doesn't answer; events go to the spool", "error", cause, "left_out", left)
	}
}

func (s *Spool) spool(ctx context.Context, a *parley.Arrivals) error {
	stamp := s.now()
	record, err := newRecord(stamp, a, true)
	if err != nil {
		return fmt.Errorf("spool: %w", err)
	}
	n := censusOf(a)
	if err := s.log.append(ctx, record, stamp, n); err != nil {
		return fmt.Errorf("spool: %w", diskFault(err))
	}
	s.metrics.spooled.Add(float64(n.updates()))
	s.metrics.late.Add(float64(n.events))
	return nil
}

// diskFault adds ErrUnavailable to what a disk says: it is no fault of what was to be
// written, which so isn't taken for a culprit when the disk takes other things.
func diskFault(err error) error {
	if errors.Is(err, parley.ErrFull) {
		return err
	}
	return fmt.Errorf("%w: %w", parley.ErrUnavailable, err)
}

// unavailable reports whether an error says that the inbox, not the data, is the
// reason, and that it is open whether the append took hold.
func unavailable(err error) bool {
	return errors.Is(err, parley.ErrUnavailable) || errors.Is(err, context.DeadlineExceeded)
}

type inboxAnswer struct {
	rows []parley.Pending
	err  error
}

// call appends to the inbox and waits for it no longer than Timeout, whatever it
// does with its context. If ctx itself is cancelled, that is the error.
func (s *Spool) call(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	ctx, cancel := context.WithTimeout(ctx, s.cfg.Timeout)
	defer cancel()
	select {
	case s.calls <- struct{}{}:
	case <-ctx.Done():
		return nil, fmt.Errorf("inbox is busy: %w", ctx.Err())
	}
	answered := make(chan inboxAnswer, 1)
	go func() {
		rows, err := s.cfg.Inbox.Append(ctx, a)
		<-s.calls
		answered <- inboxAnswer{rows, err}
	}()
	select {
	case r := <-answered:
		return r.rows, r.err
	case <-ctx.Done():
	}
	select {
	case r := <-answered: // it was just in time
		return r.rows, r.err
	default:
		return nil, fmt.Errorf("inbox doesn't answer: %w", ctx.Err())
	}
}

// Quarantined is Quarantine's. While entries of the quarantine are in the spool
// it answers ErrUnavailable, so that no channel is learnt before what was
// quarantined for it can be released.
func (s *Spool) Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	if s.cfg.Quarantine == nil {
		return nil, errors.New("spool has no quarantine")
	}
	if n, _, _ := s.log.waiting(); n.quarantined > 0 {
		return nil, fmt.Errorf("entries of the quarantine are in the spool: %w", parley.ErrUnavailable)
	}
	return s.cfg.Quarantine.Quarantined(ctx, app, ch, after, limit)
}

// Release is Quarantine's.
func (s *Spool) Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	if s.cfg.Quarantine == nil {
		return nil, errors.New("spool has no quarantine")
	}
	return s.cfg.Quarantine.Release(ctx, ids, a)
}

// Spooled is how a spool stands.
type Spooled struct {
	Open    bool          `json:"open"`    // events go to the spool
	Records int           `json:"records"` // groups of webhooks that wait in it
	Updates int           `json:"updates"` // in these groups
	Bytes   int64         `json:"bytes"`   // of all its files, those included that were set aside
	Oldest  time.Duration `json:"oldest"`  // age of the oldest record, or a bit more
}

// State tells how the spool stands.
func (s *Spool) State() Spooled {
	n, bytes, oldest := s.log.waiting()
	state := Spooled{Open: s.breaker.isOpen(), Records: n.records, Updates: n.updates, Bytes: bytes}
	if n.records > 0 {
		state.Oldest = max(s.cfg.Now().Sub(time.UnixMilli(oldest)), 0)
	}
	return state
}

// Close lets go of the folder; later appends are errors. It is called after Run
// has returned. What is in the spool stays there for the next who opens it.
func (s *Spool) Close() error {
	s.closed.Store(true)
	s.metrics.unregister(s.cfg.Registerer)
	if err := s.log.close(); err != nil {
		return fmt.Errorf("close spool: %w", err)
	}
	return nil
}
