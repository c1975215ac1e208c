package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/meta/metatest"
)

const (
	meetMax     = 30 * time.Second       // for nodes to find each other, and to divide the shards
	meetLook    = 100 * time.Millisecond // between two looks whether they have
	folderMode  = 0o700
	clusterForm = `name: %q
cluster:
  bind: %q
  messages: %q
  join: [%s]
  keys: ["file:%s"]
  tls: {certificate: %q, key: %q, authority: %q}
`
)

// What is read of a node's metrics.
const (
	membersMetric   = "parley_cluster_members"
	heldMetric      = "parley_actors_held_shards"
	releasingMetric = "parley_actors_releasing_shards"
	takenMetric     = "parley_actors_shards_taken_total"
	liveMetric      = "parley_actors_live_conversations"
	hintedMetric    = "parley_actors_hinted_rows"
	doubtfulMetric  = "parley_egress_doubtful_total"
	delayMetric     = "parley_actors_turn_delay_seconds"
)

// fleet is nodes that work together, as they would on machines of their own: with
// encrypted gossip and TLS. One alone is as it would be alone.
type fleet []*process

// startFleet starts n nodes for the simulator's channels and waits until they are
// ready and have divided the shards among them. Also with an error it returns what
// is to be stopped.
func startFleet(ctx context.Context, l *lodging, brand parley.Brand, simulator *metatest.Simulator, n int) (fleet, error) {
	if n == 1 {
		node, err := startNode(ctx, l, brand, simulator)
		if err != nil {
			return nil, err
		}
		return fleet{node}, nil
	}
	if err := clustertest.WriteCredentials(l.folder, time.Now()); err != nil {
		return nil, err
	}
	return fleet{}.grow(ctx, l, brand, simulator, n)
}

// grow starts further nodes, all at the same time: whoever starts first and alone
// waits for a while before it acts.
func (f fleet) grow(ctx context.Context, l *lodging, brand parley.Brand, simulator *metatest.Simulator, by int) (fleet, error) {
	var started []*process
	for range by {
		n := len(f) + 1
		p := &process{folder: filepath.Join(l.folder, fmt.Sprint("node", n)), processors: l.processors}
		// Each has a loopback address of its own: what others connect from is 127.0.0.1,
		// and can't take a port meanwhile that a node has chosen and not yet opened.
		host := fmt.Sprint("127.0.0.", n+1)
		if err := errors.Join(os.Mkdir(p.folder, folderMode), listenAt(ctx, host, &p.webhooks, &p.admin, &p.gossip, &p.messages)); err != nil {
			return f, err
		}
		f, started = append(f, p), append(started, p)
	}
	for _, p := range started {
		if err := p.configure(l, brand, simulator, f.section(p)); err != nil {
			return f, err
		}
	}
	errs := make([]error, len(started))
	var all sync.WaitGroup
	for i, p := range started {
		all.Go(func() { errs[i] = p.start(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		return f, err
	}
	return f, f.meet(ctx)
}

// section is what the configuration of a node says of the others.
func (f fleet) section(p *process) string {
	var join []string
	for _, other := range f {
		join = append(join, strconv.Quote(other.gossip))
	}
	above := func(name string) string { return "../" + name }
	return fmt.Sprintf(clusterForm, filepath.Base(p.folder), p.gossip, p.messages, strings.Join(join, ", "),
		above(clustertest.GossipKeyFile), above(clustertest.CertificateFile), above(clustertest.KeyFile), above(clustertest.AuthorityFile))
}

// meet waits until all see all, and every shard is run by one of them.
func (f fleet) meet(ctx context.Context) error {
	err := until(ctx, meetMax, meetLook, func(ctx context.Context) (bool, error) {
		m, err := f.metrics(ctx)
		return m[membersMetric] == float64(len(f)*len(f)) && m[heldMetric] == parley.Shards, err
	})
	if err != nil {
		return fmt.Errorf("wait for the nodes to find each other: %w", err)
	}
	return nil
}

// until looks again and again whether something is so, for at most so long.
func until(ctx context.Context, most, every time.Duration, so func(context.Context) (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, most)
	defer cancel()
	for {
		if ok, err := so(ctx); ok || err != nil {
			return err
		}
		if err := wait(ctx, time.Now().Add(every)); err != nil {
			return err
		}
	}
}

// view is how the members divide the shards when all are there.
func (f fleet) view() *cluster.View {
	var members []cluster.Member
	for _, p := range f {
		members = append(members, cluster.Member{Name: filepath.Base(p.folder), Addr: p.messages, Roles: cluster.Roles()})
	}
	return cluster.NewView(members)
}

// owns reports whether a conversation is a node's by the view.
func (f fleet) owns(v *cluster.View, node int, c parley.Conversation) bool {
	m, _ := v.Owner(cluster.Actors, c.Shard())
	return m.Addr == f[node].messages
}

func (f fleet) urls() (urls []string) {
	for _, p := range f {
		urls = append(urls, "http://"+p.webhooks)
	}
	return urls
}

// cpu is what all of them have used so far.
func (f fleet) cpu() (sum time.Duration, err error) {
	for _, p := range f {
		used, err := p.cpu()
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// metrics are the sums of what the nodes count that have not ended.
func (f fleet) metrics(ctx context.Context) (map[string]float64, error) {
	sum := map[string]float64{}
	for _, p := range f {
		if p.ended {
			continue
		}
		own, err := p.metrics(ctx)
		if err != nil {
			return nil, err
		}
		for name, value := range own {
			sum[name] += value
		}
	}
	return sum, nil
}

// metrics are what a node counts, by their names with labels.
func (p *process) metrics(ctx context.Context) (map[string]float64, error) {
	var text bytes.Buffer
	if err := p.get(ctx, "/metrics", &text); err != nil {
		return nil, err
	}
	all := map[string]float64{}
	for line := range strings.Lines(text.String()) {
		i := strings.LastIndexByte(line, ' ')
		if value, err := strconv.ParseFloat(strings.TrimSpace(line[i+1:]), 64); i > 0 && line[0] != '#' && err == nil {
			all[line[:i]] = value
		}
	}
	return all, nil
}

// stop ends them. One that is alone drains. Several would hand over to each other,
// one after another, what nobody needs any more; so they are killed, which an end
// that came before and by itself doesn't look like.
func (f fleet) stop() error {
	if len(f) == 1 && f[0].gossip == "" {
		return f[0].stop()
	}
	var errs []error
	for _, p := range f {
		if p.cmd != nil && !p.ended {
			_, err := p.kill()
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}
