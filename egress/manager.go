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
	desks map[parley.Channel]*desk // channels that have work
	fresh []*desk                  // of them, those whose goroutine isn't started
	ended bool                     // hints are no longer taken
	news  chan struct{}            // holds one: there are fresh desks
}

// New makes a Manager; nothing is started. An error says what cfg lacks.
func New(cfg Config) (*Manager, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	m := &Manager{
		cfg:    cfg,
		clerk:  Clerk{Outbox: cfg.Outbox, Receipts: cfg.Receipts, Clock: cfg.Clock},
		gate:   Gate{Provider: cfg.Provider, Clock: cfg.Clock, Now: cfg.Now},
		log:    cfg.Logger,
		places: newPlaces(cfg.NodeInFlight),
		desks:  make(map[parley.Channel]*desk),
		news:   make(chan struct{}, 1),
	}
	m.metrics = newMetrics(cfg.Registerer, m)
	return m, nil
}

// Wake is a hint that a channel may have something to send or to fold. It
// doesn't block, and any number of them are one.
func (m *Manager) Wake(ch parley.Channel) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.ended {
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
	return nil
}

// poll looks at every channel now and then: hints may be lost, and those of
// another process are.
func (m *Manager) poll(ctx context.Context) {
	if m.cfg.Channels == nil {
		return
	}
	ticks := time.NewTicker(m.cfg.Poll) //nolint:forbidigo // the one clock of this loop
	defer ticks.Stop()
	for ctx.Err() == nil {
		if err := m.look(ctx); err != nil {
			m.log.WarnContext(ctx, "poll", "error", err)
		}
		select {
		case <-ticks.C:
		case <-ctx.Done():
		}
	}
}

func (m *Manager) look(ctx context.Context) error {
	channels, err := m.cfg.Channels(ctx)
	if err != nil {
		return fmt.Errorf("list channels: %w", err)
	}
	for _, ch := range channels {
		m.Wake(ch)
	}
	return nil
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
