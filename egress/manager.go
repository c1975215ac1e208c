package egress

import (
	"context"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

// Manager sends for the channels of a node. Wake may be called at any time and
// from anywhere; Run is called once.
type Manager struct {
	cfg     Config
	clerk   Clerk
	gate    Gate
	log     *slog.Logger
	metrics *metrics
	places  *places

	mu    sync.Mutex
	mine  func(parley.Channel) bool // channels that this node sends for; nil: all
	moved bool                      // mine has changed since the last look
	desks map[parley.Channel]*desk  // channels that have work
	// limits is what channels without work have left of their limits, and will
	// have all of again: see limits.fresh.
	limits map[parley.Channel]*limits
	fresh  []*desk       // of them, those whose goroutine isn't started
	ended  bool          // hints are no longer taken
	news   chan struct{} // holds one: there are fresh desks
	turns  chan struct{} // holds one: mine has changed
}

// New makes a Manager; nothing is started. An error says what cfg lacks.
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg:    cfg,
		clerk:  Clerk{Outbox: cfg.Outbox, Receipts: cfg.Receipts, Announce: cfg.Announce, Clock: cfg.Clock},
		gate:   Gate{Provider: cfg.Provider, Clock: cfg.Clock, Now: cfg.Now},
		log:    cfg.Logger,
		places: newPlaces(cfg.NodeInFlight),
		desks:  make(map[parley.Channel]*desk),
		limits: make(map[parley.Channel]*limits),
		news:   make(chan struct{}, 1),
		turns:  make(chan struct{}, 1),
	}
	m.metrics = newMetrics(cfg.Registerer, m)
	return m, nil
}

// Wake is a hint that a channel may have something to send or to fold. It
// doesn't block, and any number of them are one.
func (m *Manager) Wake(ch parley.Channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended || m.mine != nil && !m.mine(ch) {
		return
	}
	d := m.desks[ch]
	if d == nil {
		d = newDesk(m, ch)
		m.desks[ch] = d
		m.fresh = append(m.fresh, d)
		m.signal()
	}
	d.wake()
}

// Serve tells which channels this node sends for from now on; before it is called
// those are all. The others are handed back: what is with the provider comes to
// its end, and then the lease is yielded. mine must not block; it may be called by
// several at once.
func (m *Manager) Serve(mine func(parley.Channel) bool) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.mine = mine
	for ch, d := range m.desks {
		if !mine(ch) {
			d.stop()
		}
	}
	m.turn()
}

// turn makes poll look at all channels, and give back the leases of those that
// aren't this node's.
func (m *Manager) turn() {
	m.moved = true
	select {
	case m.turns <- struct{}{}:
	default:
	}
}

// Release tells that the brand has acted, so that a channel which waits for that
// (Dead) is tried now: it has a new token. For other channels it does nothing.
func (m *Manager) Release(ch parley.Channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if d := m.desks[ch]; d != nil {
		d.release()
	}
}

// Status tells of the channels that have something to do on this node, and of
// those that pause, in no order.
func (m *Manager) Status() []Status {
	m.mu.Lock()
	defer m.mu.Unlock()
	all := make([]Status, 0, len(m.desks))
	for _, d := range m.desks {
		d.mu.Lock()
		s := d.status
		d.mu.Unlock()
		s.Channel = d.channel
		all = append(all, s)
	}
	return all
}

// Active is the number of channels that this node is sending for at the moment.
func (m *Manager) Active() int { return m.active() }

// Run sends until ctx is done. It then claims nothing any more, waits up to
// Drain for what is with the provider, notes how that ended, and returns nil.
// Attempts that have no outcome by then are doubtful for whoever comes next.
// Calls that don't end when their context does may outlive Run.
func (m *Manager) Run(ctx context.Context) error {
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	defer cancel()
	calls := newCallers(m)
	defer calls.close()
	var desks, polls sync.WaitGroup
	polls.Go(func() { m.poll(ctx) })
	for ctx.Err() == nil {
		for _, d := range m.takeFresh() {
			desks.Go(func() { d.run(work, calls) })
		}
		select {
		case <-m.news:
		case <-ctx.Done():
		}
	}
	overdue := time.AfterFunc(m.cfg.Drain, cancel)
	defer overdue.Stop()
	m.end()
	polls.Wait()
	desks.Wait()
	m.yield(work, nil)
	return nil
}

// poll looks at every channel now and then: hints may be lost, and those of
// another process are.
func (m *Manager) poll(ctx context.Context) {
	if m.cfg.Channels == nil {
		return
	}
	next := time.NewTimer(0) //nolint:forbidigo // the one clock of this loop
	defer next.Stop()
	soon := 0 // looks that follow each other soon
	for {
		select {
		case <-next.C:
		case <-m.turns:
			soon = looksAfterMove
		case <-ctx.Done():
			return
		}
		if err := m.look(ctx); err != nil {
			m.log.WarnContext(ctx, "poll", "error", err)
		}
		next.Reset(m.cfg.Poll)
		if soon > 0 || m.owes() {
			// Others may still send their hints to who was here before.
			soon = max(0, soon-1)
			next.Reset(min(m.cfg.Poll, lookAgain))
		}
	}
}

const (
	looksAfterMove = 3
	lookAgain      = time.Second
)

// look wakes the channels that this node sends for, and yields the others if it
// has been told of another division since the last look.
func (m *Manager) look(ctx context.Context) error {
	m.mu.Lock()
	mine, moved := m.mine, m.moved
	m.moved = false
	m.mu.Unlock()
	channels, err := m.cfg.Channels(ctx)
	if err != nil {
		return fmt.Errorf("list channels: %w", err)
	}
	var others []parley.Channel
	for _, ch := range channels {
		if mine == nil || mine(ch) {
			m.Wake(ch)
		} else if !m.serves(ch) {
			others = append(others, ch)
		}
	}
	if moved && len(others) > 0 && !m.yield(ctx, others) {
		m.mu.Lock()
		m.moved = true // they are given back at the next look
		m.mu.Unlock()
	}
	return nil
}

// owes reports whether there may be leases here that another node waits for.
func (m *Manager) owes() bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.moved
}

// serves reports whether something is under way for a channel.
func (m *Manager) serves(ch parley.Channel) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.desks[ch] != nil
}

// yield gives leases back, all of them if channels is nil, and reports whether that
// succeeded. What isn't given back expires.
func (m *Manager) yield(ctx context.Context, channels []parley.Channel) bool {
	ctx, cancel := context.WithTimeout(ctx, m.cfg.StoreTimeout)
	defer cancel()
	err := m.cfg.Outbox.Yield(ctx, m.cfg.Holder, channels)
	if err != nil {
		m.log.WarnContext(ctx, "give leases back", "error", err)
	}
	return err == nil
}

// handBack takes a desk that has come to its end off the list.
func (m *Manager) handBack(ctx context.Context, d *desk) {
	m.mu.Lock()
	if m.ended {
		m.mu.Unlock()
		return // all leases are given back together
	}
	delete(m.desks, d.channel)
	m.mu.Unlock()
	if !m.yield(ctx, []parley.Channel{d.channel}) {
		m.mu.Lock()
		m.turn()
		m.mu.Unlock()
	}
	m.Wake(d.channel) // it may be this node's again
}

func (m *Manager) signal() {
	select {
	case m.news <- struct{}{}:
	default:
	}
}

func (m *Manager) takeFresh() []*desk {
	m.mu.Lock()
	defer m.mu.Unlock()
	fresh := m.fresh
	m.fresh = nil
	return fresh
}

// retire takes an idle desk off the list, unless a hint came in.
func (m *Manager) retire(d *desk) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.woken || d.stopped {
		return false
	}
	delete(m.desks, d.channel)
	if l := d.sender.limits; !l.fresh(m.cfg.Clock()) {
		m.limits[d.channel] = l
	}
	return true
}

func (m *Manager) end() {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.ended = true
	for _, d := range m.desks {
		d.stop()
	}
}

func (m *Manager) active() int {
	m.mu.Lock()
	defer m.mu.Unlock()
	return len(m.desks)
}
