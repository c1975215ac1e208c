// Package cluster knows which processes work together, and which of them owns
// what. It is SWIM gossip (memberlist) and a table.
//
// What it says is an opinion. Two members may hold different ones for a while,
// and both may own a shard: whoever acts on it must be safe when it is wrong. The
// store's versions and leases are what decides; membership only says who should
// ask first.
//
// # Members
//
// A member is one run of a process: a process that comes back is another member,
// with another name, so what is known of the old one's death can't be held
// against it. What members tell each other of themselves is in [Member].
//
// # Views
//
// A [View] is an immutable value: who is there, and the owner of each shard by
// rendezvous hashing. When somebody comes or goes only the shards that are theirs
// change hands.
//
// # Healing
//
// Gossip forgets the dead after a while, so two halves of a cluster that were
// apart for longer would stay apart. Here everybody whom the configuration names,
// and everybody who was lost without saying good-bye, is tried again for ever.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/hashicorp/memberlist"
)

const (
	// Failures are noticed within some 1.5 s: a probe, its indirect repetition,
	// and the time that the suspect has to object. Being wrong costs a hand-over.
	probeInterval = 300 * time.Millisecond
	probeTimeout  = 150 * time.Millisecond
	suspicionMult = 3
	gossipEvery   = probeInterval // an idle process wakes up once for both; what is news also travels with every probe
	// A node tells news this often, times the digits of the number of nodes. With the
	// library's 4, one good-bye of 300 was told to some only, and the others noticed
	// the silence after 1.8 s; with 8, none of 2000 (TestLoss, with gossip every 400 ms).
	retransmits = 8

	streamTimeout   = 2 * time.Second // of a connection for the exchange of full states
	exchangeEvery   = 5 * time.Second
	updateTimeout   = time.Second     // for a change of this member to be told to somebody
	leaveTimeout    = 2 * time.Second // for the good-bye
	settle          = 20 * time.Millisecond
	joinAlone       = time.Second     // between two attempts to join, without others
	joinEvery       = 5 * time.Second // with others
	joinAtOnce      = 16              // addresses; each may take streamTimeout
	lostFor         = 24 * time.Hour  // for which somebody lost is sought
	lostMax         = 256             // of them; beyond, the one lost first is given up
	gossipToTheDead = time.Minute
)

// Cluster is this process's part in it.
type Cluster struct {
	cfg     Config
	log     *slog.Logger
	metrics *metrics
	roll    *roll
	keyring *memberlist.Keyring // nil without encryption
	running atomic.Bool
	news    chan struct{} // holds a word if there is something to tell of this member

	mu      sync.Mutex // over what follows
	view    *View
	watches map[chan *View]struct{}
}

// New checks a configuration. Nothing is sent before [Cluster.Run].
func New(cfg Config) (*Cluster, error) {
	cfg, err := cfg.resolve()
	if err != nil {
		return nil, err
	}
	c := &Cluster{
		cfg: cfg, log: cfg.Logger, news: make(chan struct{}, 1),
		view: NewView([]Member{cfg.Self}), watches: map[chan *View]struct{}{},
	}
	if c.metrics, err = newMetrics(cfg.Registerer, c); err != nil {
		return nil, err
	}
	c.roll = newRoll(cfg.Self, c.metrics, cfg.Logger)
	if len(cfg.Keys) > 0 {
		if c.keyring, err = memberlist.NewKeyring(cfg.Keys, cfg.Keys[0]); err != nil {
			return nil, fmt.Errorf("gossip keys: %w", err)
		}
	}
	return c, nil
}

// Run takes part until ctx ends, and then says good-bye. It returns an error if
// it can't listen.
func (c *Cluster) Run(ctx context.Context) error {
	if !c.running.CompareAndSwap(false, true) {
		return errors.New("cluster: Run runs already, or has")
	}
	cfg, err := c.gossip(ctx)
	if err != nil {
		return err
	}
	list, err := memberlist.Create(cfg)
	if err != nil {
		return fmt.Errorf("listen for gossip: %w", err)
	}
	var loops sync.WaitGroup
	loops.Go(func() { c.join(ctx, list) })
	loops.Go(func() { c.reconcile(ctx) })
	loops.Go(func() { c.announce(ctx, list) })
	<-ctx.Done()
	loops.Wait()
	// Nobody may be left to hear it, which isn't this process's trouble.
	if err := list.Leave(leaveTimeout); err != nil {
		c.log.InfoContext(ctx, "nobody heard the good-bye", slog.Any("error", err))
	}
	if err := list.Shutdown(); err != nil {
		return fmt.Errorf("end gossip: %w", err)
	}
	return nil
}

// gossip is the configuration of the library.
func (c *Cluster) gossip(ctx context.Context) (*memberlist.Config, error) {
	m := memberlist.DefaultLANConfig()
	m.Name = c.cfg.Self.Name
	m.ProbeInterval, m.ProbeTimeout, m.SuspicionMult = probeInterval, probeTimeout, suspicionMult
	m.GossipInterval, m.RetransmitMult = gossipEvery, retransmits
	m.TCPTimeout, m.PushPullInterval, m.GossipToTheDeadTime = streamTimeout, exchangeEvery, gossipToTheDead
	m.EnableCompression = false // it allocates a table of 64 KiB for each packet, and packets are small
	m.Keyring = c.keyring
	m.Delegate, m.Events, m.Conflict = c.roll, c.roll, c.roll
	m.Logger, m.LogOutput = nil, &logWriter{ctx: ctx, log: c.log}
	if c.cfg.Transport != nil {
		m.Transport = c.cfg.Transport
		return m, nil
	}
	var err error
	if m.BindAddr, m.BindPort, err = c.cfg.endpoint(ctx, c.cfg.Bind); err != nil {
		return nil, err
	}
	m.AdvertisePort = m.BindPort
	if c.cfg.Advertise != "" {
		m.AdvertiseAddr, m.AdvertisePort, err = c.cfg.endpoint(ctx, c.cfg.Advertise)
	}
	return m, err
}

// View is what this process believes at the moment. It always holds this member.
func (c *Cluster) View() *View {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.view
}

// Watch returns a channel that holds the newest view as often as there is one that
// hasn't been received; the first is there at once. Views in between are skipped.
// It ends, without being closed, with ctx.
func (c *Cluster) Watch(ctx context.Context) <-chan *View {
	watch := make(chan *View, 1)
	c.mu.Lock()
	defer c.mu.Unlock()
	watch <- c.view
	c.watches[watch] = struct{}{}
	context.AfterFunc(ctx, func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.watches, watch)
	})
	return watch
}

// Drain says that this member gives up what it owns: others become the owners, as
// soon as they hear of it. There is no way back but another process.
func (c *Cluster) Drain() { c.tell(func(m *Member) { m.Draining = true }) }

// Fit says whether this member can work. While it can't, others become the owners of
// what it owns, unless they can't either.
func (c *Cluster) Fit(fit bool) { c.tell(func(m *Member) { m.Unfit = !fit }) }

func (c *Cluster) tell(change func(*Member)) {
	if !c.roll.change(change) {
		return
	}
	select {
	case c.news <- struct{}{}:
	default:
	}
}

// announce tells the others of changes of this member.
func (c *Cluster) announce(ctx context.Context, list *memberlist.Memberlist) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.news:
			if err := list.UpdateNode(updateTimeout); err != nil { // they hear of it at the next exchange
				c.log.InfoContext(ctx, "a change of this member hasn't been told to anybody yet", slog.Any("error", err))
			}
		}
	}
}

// reconcile publishes a view whenever somebody has come, gone or changed.
func (c *Cluster) reconcile(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-c.roll.changed:
		}
		rest(ctx, settle) // what happens together makes one view
		c.publish(NewView(c.roll.members()))
	}
}

func (c *Cluster) publish(v *View) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if v.same(c.view) {
		return
	}
	moved := v.Moved(c.view, Actors)
	c.view = v
	c.metrics.views.Inc()
	c.log.Info("the members have changed", slog.Int("members", len(v.members)), slog.Int("moved_shards", moved))
	for watch := range c.watches {
		select {
		case <-watch: // nobody wants the older one any more
		default:
		}
		watch <- v // there is room, and nobody else sends
	}
}

// UseKeys replaces the keys of a cluster that encrypts: the first encrypts from now
// on, and all are accepted. To rotate without anybody being cut off, use old and
// new everywhere, then new and old, then new.
func (c *Cluster) UseKeys(keys [][]byte) error {
	if c.keyring == nil || len(keys) == 0 {
		return errors.New("gossip keys: they can't be taken into use, or out of it, while the cluster runs")
	}
	for _, k := range keys {
		if err := c.keyring.AddKey(k); err != nil {
			return fmt.Errorf("gossip keys: %w", err)
		}
	}
	if err := c.keyring.UseKey(keys[0]); err != nil {
		return fmt.Errorf("gossip keys: %w", err)
	}
	for _, old := range c.keyring.GetKeys() {
		if !contains(keys, old) {
			if err := c.keyring.RemoveKey(old); err != nil {
				return fmt.Errorf("gossip keys: %w", err)
			}
		}
	}
	return nil
}

// rest waits for a while, or until ctx ends.
func rest(ctx context.Context, d time.Duration) {
	timer := time.NewTimer(d) //nolint:forbidigo // gossip lives by the clock
	defer timer.Stop()
	select {
	case <-ctx.Done():
	case <-timer.C:
	}
}
