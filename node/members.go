package node

import (
	"bytes"
	"context"
	"encoding/base64"
	"errors"
	"fmt"
	"hash/fnv"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/egress"
)

const (
	keyBytes  = 32
	yieldFor  = egress.LeaseTTL // for which the leases of somebody lost are tried to be freed: then they are free
	yieldWait = 200 * time.Millisecond
	// mostSharing bounds by how much groups gather longer: to 20 ms by default.
	mostSharing = 4
)

// members is the node's part in the cluster; without others, nothing.
type members struct {
	n       *Node
	cluster *cluster.Cluster
	barrier *barrier
	link    *actors.Remote
	keys    [][]byte
	refresh func() ([][]byte, error) // reads the keys of gossip again
	sent    *announced
	serving sync.Mutex // so that no older view is served after a newer one
}

// runMark divides the name by which a node holds leases, which it keeps, from what
// tells its runs apart.
const runMark = "~"

// memberName is unique to this run of the node, and grows from run to run.
func (n *Node) memberName() string {
	return n.holder() + runMark + strconv.FormatInt(n.now().UnixMilli(), 36)
}

// holderOf is by what name a member holds leases.
func holderOf(member string) string {
	holder, _, _ := strings.Cut(member, runMark)
	return holder
}

// joinOthers puts together what is needed to work with other nodes.
func (n *Node) joinOthers(dir string) (err error) {
	if !n.cfg.clustered() {
		return nil
	}
	m := &members{n: n, sent: newAnnounced(n.appendReceipts, n.log)}
	m.refresh = func() ([][]byte, error) { return gossipKeys(n.cfg.Cluster.Keys, dir) }
	if m.keys, err = m.refresh(); err != nil {
		return err
	}
	remote := actors.RemoteConfig{
		Listen: n.cfg.Cluster.Messages, Advertise: n.cfg.Cluster.address(),
		Logger: n.log.With(slog.String("part", "actors")), Registerer: n.registry,
	}
	if n.cfg.Cluster.TLS != (TLSConfig{}) {
		c, err := openCredentials(n.cfg.Cluster.TLS, dir, n.log, n.now)
		if err != nil {
			return err
		}
		remote.TLS = c.config()
	}
	if m.link, err = actors.NewRemote(remote); err != nil {
		return err
	}
	roles := n.cfg.Roles
	if len(roles) == 0 {
		roles = cluster.Roles()
	}
	reads, err := readingOf(n.bots)
	if err != nil {
		return err
	}
	m.cluster, err = cluster.New(cluster.Config{
		Self: cluster.Member{
			Name: n.name, Addr: n.cfg.Cluster.address(), Roles: roles, Version: version(), Format: parley.Format, Reads: reads.String(),
		},
		Bind: n.cfg.Cluster.Bind, Advertise: n.cfg.Cluster.Advertise, Join: n.cfg.Cluster.Join, Keys: m.keys,
		Logger: n.log.With(slog.String("part", "cluster")), Registerer: n.registry,
	})
	m.barrier = &barrier{bots: n.bots, view: m.cluster.View, now: n.now}
	n.members = m
	return err
}

// adjust makes a host work with the others.
func (m *members) adjust(cfg *actors.Config) {
	cfg.Link, cfg.Address, cfg.Suspects = m.link, m.n.cfg.Cluster.address(), m.n.store
	cfg.Drain, cfg.Clock = m.n.drain, egress.SinceBoot
	cfg.Sharing = func() int { return m.sharing(cluster.Actors) }
	cfg.Format = func() int { return m.cluster.View().Format() }
	cfg.BotVersion = m.barrier.version
	cfg.Stands = func(s *actors.Standing) {
		view := m.cluster.View()
		s.View = digest(view)
		for _, one := range view.Members() {
			if one.Addr == s.Address {
				s.Name = one.Name
			}
		}
		if m.n.egress != nil {
			s.Channels = m.n.egress.Active()
		}
		s.Spooled = m.n.spooled()
	}
	if m.n.cfg.does(cluster.Egress) {
		cfg.Announced = func(sent []parley.Receipt) { m.sent.add(sent, m.n.now()) }
	}
}

// sharing is how many times as long a node waits for what its commits and appends share:
// as many times as nodes have the role, so that the store has as many to make as for one,
// and half as many again, since a node that has less to do sleeps between any two, and
// pays for waking up. It is bounded, as nobody is to notice the wait.
func (m *members) sharing(role cluster.Role) (n int) {
	for _, one := range m.cluster.View().Members() {
		if one.Does(role) {
			n++
		}
	}
	return min(max(n+n/2, 1), mostSharing) // one alone: 1 + 1/2 is 1
}

// gossipKeys reads the keys.
func gossipKeys(secrets []Secret, dir string) (keys [][]byte, err error) {
	for i, s := range secrets {
		text, err := s.Resolve(dir)
		if err != nil {
			return nil, fmt.Errorf("cluster.keys[%d]: %w", i, err)
		}
		key, err := base64.StdEncoding.DecodeString(text)
		if err != nil || len(key) != keyBytes {
			return nil, fmt.Errorf("cluster.keys[%d]: want %d bytes in base64, as openssl rand -base64 %d prints them", i, keyBytes, keyBytes)
		}
		keys = append(keys, key)
	}
	return keys, nil
}

// run takes part until ctx ends, and then says good-bye.
func (m *members) run(ctx context.Context) error {
	select {
	case <-m.link.Up():
	case <-ctx.Done():
		return nil
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	var loops sync.WaitGroup
	defer loops.Wait()
	loops.Go(func() { m.follow(ctx) })
	loops.Go(func() { m.rotate(ctx) })
	loops.Go(func() { m.feel(ctx) })
	loops.Go(func() { m.n.eyes.run(ctx) })
	loops.Go(func() { m.sent.run(ctx) })
	return m.cluster.Run(ctx)
}

// follow tells the parts who owns what, until ctx ends.
func (m *members) follow(ctx context.Context) {
	var losses sync.WaitGroup
	defer losses.Wait()
	before := cluster.NewView(nil)
	views := m.cluster.Watch(ctx)
	alone := time.NewTimer(aloneFor) //nolint:forbidigo // once, at the beginning
	defer alone.Stop()
	patient := len(m.n.cfg.Cluster.Join) > 0
	for {
		var v *cluster.View
		select {
		case <-ctx.Done():
			return
		case <-alone.C:
			patient, v = false, m.cluster.View()
		case v = <-views:
		}
		// Whoever has just started sees nobody else. It must not take that for the truth
		// and take over what the others are at work on.
		if !patient || len(v.Members()) > 1 {
			patient = false
			m.n.host.Place(cluster.PlacementOf(v, m.n.cfg.Cluster.address()))
			m.serveChannels()
			for _, holder := range gone(before, v) {
				losses.Go(func() { m.free(ctx, holder) })
			}
			before = v
		}
		m.barrier.version("") // sees also those who come and go while no turn asks
	}
}

// aloneFor is how long a node that has just started waits for an answer of those
// whom it is to join, before it does everything alone.
const aloneFor = 3 * time.Second

// feel looks whether the store is reached, and tells the others if it isn't: then
// they do what was this node's, until it is, and has been for a while.
func (m *members) feel(ctx context.Context) {
	reached, fit, good := m.n.now(), true, 0
	rest := feelEvery
	for wait(ctx, rest); ctx.Err() == nil; wait(ctx, rest) {
		limited, cancel := context.WithTimeout(ctx, feelEvery)
		err := m.reach(limited)
		cancel()
		now := m.n.now()
		if good++; err != nil {
			good, rest = 0, feelEvery
		} else {
			reached, rest = now, actors.UntilLook(egress.SinceBoot(), feelEvery)
		}
		switch {
		case now.Sub(reached) >= feelFor:
			fit = false
		case good >= feelGood:
			fit = true
		}
		m.cluster.Fit(fit)
	}
}

const (
	feelEvery = time.Second
	feelFor   = 2500 * time.Millisecond // without an answer, a node is unfit
	feelGood  = 3                       // answers in a row, and it is fit again
)

// reach asks the store for nothing in particular, over the connections of the
// entrance: those of the work behind may all be taken, which is no reason to give
// the work to others.
func (m *members) reach(ctx context.Context) error {
	if s, ok := m.n.store.(interface{ Reach(context.Context) error }); ok {
		return s.Reach(ctx)
	}
	return nil
}

// gone are the names, in leases, of who was there before and isn't any more, or can't
// work any more while others can. When nobody can, everything stays where it is.
func gone(before, now *cluster.View) (holders []string) {
	able, _ := now.Owner(cluster.Egress, 0)
	here := map[string]bool{}
	for _, m := range now.Members() {
		here[holderOf(m.Name)] = !m.Unfit || able.Unfit
	}
	for _, m := range before.Members() {
		if h := holderOf(m.Name); !m.Unfit && !here[h] {
			holders = append(holders, h)
		}
	}
	return holders
}

// free gives back the leases of somebody who was lost, and what calls it had claimed,
// so that nobody waits until they expire. Should it live, its epochs protect what it
// sends, and its calls are made twice and answered once.
func (m *members) free(ctx context.Context, holder string) {
	ctx, cancel := context.WithTimeout(ctx, yieldFor)
	defer cancel()
	for ctx.Err() == nil && lost(m.cluster.View(), holder) {
		limited, done := context.WithTimeout(ctx, storeTimeout)
		err := errors.Join(m.n.store.Yield(limited, holder, nil), m.n.store.YieldCalls(limited, holder))
		done()
		if err == nil {
			m.serveChannels() // look at once
			if m.n.callout != nil {
				m.n.callout.Wake()
			}
			return
		}
		m.n.log.WarnContext(ctx, "free the leases of a member that was lost", slog.Any("error", err))
		wait(ctx, yieldWait)
	}
}

// lost reports whether a holder still is: one that came back meanwhile, or can work
// again, holds leases by the same name, and needs them.
func lost(v *cluster.View, holder string) bool {
	able, _ := v.Owner(cluster.Egress, 0)
	return !slices.ContainsFunc(v.Members(), func(m cluster.Member) bool {
		return holderOf(m.Name) == holder && (!m.Unfit || able.Unfit)
	})
}

// rotate takes new gossip keys into use when their files change.
func (m *members) rotate(ctx context.Context) {
	if len(m.keys) == 0 {
		return
	}
	for wait(ctx, reloadEvery); ctx.Err() == nil; wait(ctx, reloadEvery) {
		keys, err := m.refresh()
		if err == nil && sameKeys(keys, m.keys) {
			continue
		}
		if err == nil {
			err = m.cluster.UseKeys(keys)
		}
		if err != nil {
			m.n.log.WarnContext(ctx, "new gossip keys can't be taken into use", slog.Any("error", err))
			continue
		}
		m.keys = keys
		m.n.log.InfoContext(ctx, "new gossip keys are in use", slog.Int("accepted", len(keys)))
	}
}

func sameKeys(a, b [][]byte) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if !bytes.Equal(a[i], b[i]) {
			return false
		}
	}
	return true
}

func wait(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d) //nolint:forbidigo // between two looks
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// serveChannels tells the senders which channels are this node's, by the newest view.
func (m *members) serveChannels() {
	if m.n.egress == nil {
		return
	}
	m.serving.Lock()
	defer m.serving.Unlock()
	v, self := m.cluster.View(), m.n.cfg.Cluster.address()
	m.n.egress.Serve(func(ch parley.Channel) bool {
		m, ok := v.Owner(cluster.Egress, ch.Shard())
		return ok && m.Addr == self
	})
}

// digest is the same for views of the same members.
func digest(v *cluster.View) uint64 {
	h := fnv.New64a()
	for _, m := range v.Members() {
		_, _ = fmt.Fprintf(h, "%s %s %v %t %t\n", m.Name, m.Addr, m.Roles, m.Draining, m.Unfit)
	}
	return h.Sum64()
}
