package embedded

import (
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"
)

const (
	// patience is how long a patient write waits for somebody else's fsync, in
	// multiples of Config.SyncEvery: longer than the entrance and the turns gather for
	// (5 ms), so that under load there is one within it.
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
	// shared is closed when all that lies in the log before some eager write is durable.
	// A patient group waits for it; an eager one closes it, if it isn't nil, when its own
	// fsync has returned.
	shared chan struct{}
}

// sharing is what eager and patient writes know of each other. The store's mutex
// guards it.
//
// An fsync of the log makes durable whatever was written to it before. So a patient
// write asks for none: the next eager one takes it along, and what comes after that
// one waits for the next but one.
type sharing struct {
	next  chan struct{} // of the patient writes since the last eager one; nil: there are none
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

// join adds to a group, which is in the log, what it has to wait for or to close.
func (s *sharing) join(b *pebble.Batch, patient bool) written {
	if patient && s.next == nil {
		s.next = make(chan struct{})
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
	var err error
	if w.patient {
		err = s.durableWithOthers(w.shared)
	} else if err = w.batch.SyncWait(); err != nil {
		err = s.fail(fmt.Errorf("sync the log: %w", err))
	}
	if !w.patient && w.shared != nil {
		close(w.shared) // after fail: they look for that
	}
	if err != nil {
		return err
	}
	if err := w.batch.Close(); err != nil {
		return s.fail(fmt.Errorf("close batch: %w", err))
	}
	return nil
}

// durableWithOthers waits for the fsync of the next eager write. If none comes in time,
// the first who has lost patience asks for one.
func (s *Store) durableWithOthers(shared chan struct{}) error {
	lost := time.NewTimer(s.patience()) //nolint:forbidigo // of the disk, not of the store's clock
	defer lost.Stop()
	select {
	case <-shared:
	case <-lost.C:
		if w, err := s.askFor(shared); err != nil || w.batch != nil && s.durable(w) != nil {
			break // the store is broken
		}
		<-shared
	}
	if p := s.doomed.Load(); p != nil {
		return *p
	}
	return nil
}

// askFor asks for the fsync that patient writes wait for, unless somebody has.
func (s *Store) askFor(shared chan struct{}) (w written, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.sharing.next != shared {
		return w, nil
	}
	b := s.db.NewBatch()
	if err := b.LogData(nil, nil); err != nil {
		return w, s.failLocked(fmt.Errorf("build batch: %w", err))
	}
	return s.hand(b, false)
}
