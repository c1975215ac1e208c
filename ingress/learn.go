package ingress

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

const (
	// learnChunk is how many channels are published together.
	learnChunk = 256
	// replayBatch is how many quarantine entries are in memory at a time; each
	// may be as large as a body.
	replayBatch = 16
	// replayRounds is how many batches of a channel are replayed before the gate
	// is closed for the rest. It ends the race with a channel whose events come
	// in faster than they are replayed.
	replayRounds = 4096
	// learnGateTimeout is how long learning may hold the gate, and with it the
	// webhooks of channels still unknown.
	learnGateTimeout = 5 * time.Second
)

// Learn makes channels of an app known, so that their events reach the inbox
// and no longer the quarantine. What the quarantine holds of them is released
// first: of each channel, the quarantined updates take effect in their order
// and before its first live event. An entry that still can't become an event
// stays where it is.
//
// It may be called before and while Run runs, and again for a channel that is
// known, to try what is left of its quarantine. After an error some of the
// channels are unknown still; learning them again takes up where it ended. A
// crash in between does no harm: each release is atomic, and event keys make an
// event take effect once.
func (s *Server) Learn(ctx context.Context, name parley.App, channels []parley.Channel) error {
	a := s.apps[name]
	if a == nil {
		return fmt.Errorf("learn channels: no app %q", name)
	}
	for _, ch := range channels {
		if err := ch.Validate(); err != nil {
			return fmt.Errorf("learn channels: %w", err)
		}
	}
	a.learning.Lock()
	defer a.learning.Unlock()
	for chunk := range slices.Chunk(channels, learnChunk) {
		if err := s.learn(ctx, a, chunk); err != nil {
			return fmt.Errorf("learn channels: %w", err)
		}
	}
	return nil
}

// Forget makes a channel unknown again: its events go to the quarantine until
// it is learnt anew.
func (s *Server) Forget(name parley.App, ch parley.Channel) {
	if a := s.apps[name]; a != nil {
		a.directory.forget(ch)
	}
}

func (s *Server) learn(ctx context.Context, a *app, channels []parley.Channel) error {
	p := &replay{server: s, app: a, stuck: make(map[parley.ID]bool)}
	for _, ch := range channels {
		if err := p.run(ctx, ch, replayRounds); err != nil {
			return err
		}
	}
	ctx, cancel := context.WithTimeout(ctx, learnGateTimeout)
	defer cancel()
	a.directory.gate.Lock()
	defer a.directory.gate.Unlock()
	for _, ch := range channels {
		if err := p.run(ctx, ch, 0); err != nil {
			return err
		}
	}
	a.directory.publish(channels)
	return nil
}

// replay moves the entries of channels from the quarantine to the inbox.
type replay struct {
	server *Server
	app    *app
	stuck  map[parley.ID]bool // tried, and not events yet
}

// run replays a channel from its oldest entry on, for so many batches, all if
// rounds is 0.
func (p *replay) run(ctx context.Context, ch parley.Channel, rounds int) error {
	var after parley.ID
	for round := 1; ; round++ {
		entries, err := p.server.cfg.Quarantine.Quarantined(ctx, p.app.Name, ch, after, replayBatch)
		if err != nil {
			return fmt.Errorf("read quarantine of %s: %w", ch, err)
		}
		if err := p.batch(ctx, ch, entries); err != nil {
			return fmt.Errorf("release from quarantine of %s: %w", ch, err)
		}
		if len(entries) < replayBatch || round == rounds {
			return nil
		}
		after = entries[len(entries)-1].ID
	}
}

func (p *replay) batch(ctx context.Context, ch parley.Channel, entries []parley.Quarantined) error {
	var ids []parley.ID
	var all parley.Arrivals
	for i := range entries {
		q := &entries[i]
		if p.stuck[q.ID] {
			continue
		}
		got, ok := p.decode(ch, q.Body)
		if !ok {
			p.stuck[q.ID] = true
			continue
		}
		ids = append(ids, q.ID)
		all.Events = append(all.Events, got.Events...)
		all.Receipts = append(all.Receipts, got.Receipts...)
	}
	if len(ids) == 0 {
		return nil
	}
	rows, err := p.server.cfg.Quarantine.Release(ctx, ids, all)
	if err != nil {
		return p.refused(ctx, ch, entries, err)
	}
	p.app.metrics.released.Add(float64(len(ids)))
	p.app.metrics.stored(&all, &[causesCount]int{})
	p.server.cfg.Deliverer.Deliver(rows)
	return nil
}

// refused deals with entries that the store doesn't take. If it is the store that
// fails, so does learning, and is to be tried again. But one that refuses an entry
// alone, and answers otherwise, will refuse it for ever, and the channel must not
// stay unknown for that: the entry stays where it is.
func (p *replay) refused(ctx context.Context, ch parley.Channel, entries []parley.Quarantined, cause error) error {
	if errors.Is(cause, parley.ErrUnavailable) || errors.Is(cause, parley.ErrFull) || ctx.Err() != nil {
		return cause
	}
	if len(entries) > 1 { // one after the other, and so still in order
		for i := range entries {
			if err := p.batch(ctx, ch, entries[i:i+1]); err != nil {
				return err
			}
		}
		return nil
	}
	if errors.Is(cause, parley.ErrConflict) {
		return nil // another node, which learns the same channel, has just released it
	}
	id := entries[0].ID
	if _, err := p.server.cfg.Quarantine.Quarantined(ctx, p.app.Name, ch, id, 1); err != nil {
		return errors.Join(cause, err)
	}
	p.stuck[id] = true
	if left, ok := p.server.warn.pass("stuck"); ok {
		p.server.log.ErrorContext(ctx, "the store refuses what was quarantined; it stays there",
			"channel", ch.String(), "id", id.String(), "error", cause, "left_out", left)
	}
	return nil
}

// decode reads an entry as if ch were known. It is true if the whole entry has
// become events and receipts.
func (p *replay) decode(ch parley.Channel, body []byte) (parley.Arrivals, bool) {
	got, err := p.app.decode(body, func(kind parley.ChannelKind, id string) (parley.Channel, bool) {
		if kind == ch.Kind && id == ch.ID {
			return ch, true
		}
		return p.app.directory.lookup(kind, id)
	})
	if err != nil || len(got.Quarantined) > 0 || got.Empty() {
		return parley.Arrivals{}, false
	}
	for i := range got.Events {
		if unstorable(&got.Events[i]) {
			return parley.Arrivals{}, false
		}
	}
	return got, true
}
