package embedded

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// patience is how long a patient write waits for somebody else's fsync, in
	// multiples of Config.SyncEvery: by default longer than the entrance and the turns
	// gather for (5 ms), so that under load there is one within it.
	patience = 3
	// frequentWrites is how many eager writes, in as many patiences, make it likely that
	// another comes within one. A lone message makes two: what comes alone waits for
	// nobody.
	frequentWrites = 4
)

// written is a group that Pebble has, and of which somebody waits until it is durable.
type written struct {
	batch   *pebble.Batch // nil: there is nothing to wait for
	patient bool
	// shared makes durable all that lies in the log before some eager write. A patient
	// group waits for it; an eager one, if it isn't nil, does it.
	shared *fsync
}

// fsync is one that several wait for.
type fsync struct {
	done chan struct{}
	err  error // how it ended, once it is done
}

// sharing is what eager and patient writes know of each other. The store's mutex
// guards it.
//
// An fsync of the log makes durable whatever was written to it before. So a patient
// write asks for none: the next eager one takes it along, and what comes after that
// one waits for the next but one.
type sharing struct {
	next  *fsync // of the patient writes since the last eager one; nil: there are none
	eager [frequentWrites]time.Time
	n     int
}

// frequent reports whether eager writes come so often that it is worth waiting for one.
func (s *sharing) frequent(now time.Time, patience time.Duration) bool {
	return now.Sub(s.eager[s.n%frequentWrites]) < frequentWrites*patience
}

// noteEager notes a write that doesn't wait for others.
func (s *sharing) noteEager(now time.Time) {
	s.eager[s.n%frequentWrites] = now
	s.n++
}

// join adds to a group, which is in the log, the fsync that it waits for or is to do.
func (s *sharing) join(b *pebble.Batch, patient bool) written {
	if patient && s.next == nil {
		s.next = &fsync{done: make(chan struct{})}
	}
	w := written{batch: b, patient: patient, shared: s.next}
	if !patient {
		s.next = nil
	}
	return w
}

func (s *Store) patience() time.Duration { return patience * s.cfg.SyncEvery }

// mayShare decides whether a write of a kind is patient, and notes it if it never is.
func (s *Store) mayShare(kind writeKind) bool {
	now := time.Now() //nolint:forbidigo // of the disk, not of the store's clock
	if kind == canWait {
		return s.sharing.frequent(now, s.patience())
	}
	s.sharing.noteEager(now)
	return false
}

// durable waits until a group is on the disk, and lets go of it.
func (s *Store) durable(w written) error {
	wait := s.sync
	if w.patient {
		wait = s.syncWithOthers
	}
	if err := wait(w); err != nil {
		return err
	}
	if err := w.batch.Close(); err != nil {
		return s.fail(fmt.Errorf("close batch: %w", err))
	}
	return nil
}

// sync waits for the fsync that a group has asked for, and tells whoever else waits,
// even if Config.Fatal doesn't return.
func (s *Store) sync(w written) (err error) {
	if w.shared != nil {
		defer func() {
			w.shared.err = err
			close(w.shared.done)
		}()
	}
	if err = w.batch.SyncWait(); err != nil {
		err = s.fail(fmt.Errorf("sync the log: %w", err))
	}
	return err
}

// syncWithOthers waits for the fsync of the next eager write. If none comes in time,
// the first who has lost patience asks for one.
func (s *Store) syncWithOthers(w written) error {
	lost := time.NewTimer(s.patience()) //nolint:forbidigo // of the disk, not of the store's clock
	defer lost.Stop()
	select {
	case <-w.shared.done:
		return w.shared.err
	case <-lost.C:
	}
	own, err := s.askFor(w.shared)
	if err != nil {
		return err
	}
	if own.batch != nil {
		return s.durable(own)
	}
	<-w.shared.done
	return w.shared.err
}

// askFor asks for the fsync that patient writes wait for, unless somebody has.
func (s *Store) askFor(shared *fsync) (w written, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.doomed.Load(); p != nil {
		return w, *p // Pebble may be stuck for good. That the store is being closed is no reason
	}
	if s.sharing.next != shared {
		return w, nil
	}
	b := s.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		return w, s.failLocked(fmt.Errorf("build batch: %w", err))
	}
	return s.hand(b, false)
}
