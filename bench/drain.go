package main

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math"
	"slices"
	"sort"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/persistence/postgres"
)

const (
	fillMax     = 5 * time.Minute // for conversations to be filled into a node
	drainLook   = 50 * time.Millisecond
	drainAfter  = 1500 * time.Millisecond // in which turns still count: what nobody hinted is found after a second
	usersPerOne = 3.5                     // users to be found for one that is the node's: three, and some to spare
)

// drain is how long a node needs to hand over what it runs, while users write, and
// how late turns are meanwhile. In each round another node drains.
func (t *together) drain() func(context.Context) ([]rounds.Figure, error) {
	round := -1
	return func(ctx context.Context) (figures []rounds.Figure, err error) {
		round++
		simulation := metatest.Config{
			Rate: t.drainRate, Users: int(usersPerOne * float64(t.live)), Duration: playMax, Mix: metatest.Shares{Messenger: 1},
		}
		simulation.TextBytes = textBytes(simulation)
		err = t.scene(ctx, simulation, func(ctx context.Context, s *stage) error {
			d := departure{stage: s, victim: round % threeNodes, read: make([]map[string]float64, threeNodes)}
			if err := d.fill(ctx, t.live); err != nil {
				return fmt.Errorf("fill the node: %w", err)
			}
			err := d.while(ctx, func(ctx context.Context) error { return d.observe(ctx, t.lull) })
			figures = d.figures()
			return err
		})
		return figures, err
	}
}

// departure is a node's that drains.
type departure struct {
	*stage
	victim       int
	read         []map[string]float64 // what each node counted when it was last asked
	calm, during []float64            // delays of turns, in ms, sorted
	live         float64              // conversations that it had in memory
	took         time.Duration        // until it ran no shard
}

func (d *departure) figures() []rounds.Figure {
	if len(d.calm) == 0 || len(d.during) == 0 {
		return nil // which is an error
	}
	delay := func(name string, of []float64, atMost float64) rounds.Figure {
		const share = 0.999
		return rounds.Figure{Name: name, Unit: "ms", Value: rounds.Quantile(of, share), Of: of, Quantile: share, AtMost: atMost}
	}
	onTime := sort.Search(len(d.during), func(i int) bool { return d.during[i] > drainDelayMSMax })
	return []rounds.Figure{
		{Name: "until it runs no shard", Unit: "s", Value: d.took.Seconds()},
		delay("turn delay meanwhile, p99.9", d.during, drainDelayMSMax),
		{Name: "turns delayed for longer", Unit: "turns", Value: float64(len(d.during) - onTime)},
		delay("turn delay before, p99.9", d.calm, 0),
		{Name: "handed over", Unit: "conversations", Value: d.live},
	}
}

// fill makes conversations live on the node, by a message to each that the bot
// doesn't answer. They are appended to the store behind the nodes' backs, which
// find them there.
func (d *departure) fill(ctx context.Context, n int) (err error) {
	store, err := postgres.Open(ctx, postgres.Config{URL: d.l.base.url, Conns: 1})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	var events []parley.Event
	view := d.nodes.view()
	for _, p := range d.simulator.People() {
		if c := conversationOf(p); len(events) < n && d.nodes.owns(view, d.victim, c) {
			events = append(events, parley.Event{
				Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.EventKey(random(16)), Time: time.Now(),
				Input: parley.Message{ID: fmt.Sprintf("m_%x", random(16)), Text: "Is anybody there?"},
			})
		}
	}
	if len(events) < n {
		return fmt.Errorf("%d users of the node were found, want %d", len(events), n)
	}
	for group := range slices.Chunk(events, populateGroup) {
		if _, err := store.Append(ctx, parley.Arrivals{Events: group}); err != nil {
			return err
		}
	}
	err = until(ctx, fillMax, time.Second, func(ctx context.Context) (bool, error) {
		b, err := store.Backlog(ctx)
		if err != nil || b.Pending > 0 {
			return false, err
		}
		m, err := d.nodes[d.victim].metrics(ctx)
		return m[liveMetric] == float64(n) && m[hintedMetric] == 0, err
	})
	if err != nil {
		return err
	}
	return d.l.base.tell(ctx, d.l.base.name, "vacuum (analyze)", "checkpoint")
}

// observe has the node drain after a while, and watches until it is over.
func (d *departure) observe(ctx context.Context, lull time.Duration) error {
	began, err := d.delays(ctx)
	if err != nil {
		return err
	}
	if err := wait(ctx, time.Now().Add(lull)); err != nil {
		return err
	}
	before, err := d.delays(ctx)
	if err != nil {
		return err
	}
	node := d.nodes[d.victim]
	d.live = d.read[d.victim][liveMetric]
	at := time.Now()
	if err := node.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		return fmt.Errorf("have the node drain: %w", err)
	}
	left := make(chan error, 1)
	go func() { left <- node.wait() }()
	limit := time.AfterFunc(fillMax, func() { _ = node.cmd.Process.Kill() }) // it may just have ended
	defer limit.Stop()
	d.watch(ctx)
	d.took = time.Since(at)
	if err := wait(ctx, time.Now().Add(drainAfter)); err != nil {
		return err
	}
	after, err := d.delays(ctx)
	err = errors.Join(err, <-left)
	d.calm, d.during = newDelays(began, before), newDelays(before, after)
	return err
}

// watch returns when the node runs no shard any more, or doesn't answer any more,
// because it has ended.
func (d *departure) watch(ctx context.Context) {
	for {
		m, err := d.nodes[d.victim].metrics(ctx)
		if err != nil {
			return
		}
		d.read[d.victim] = m
		if m[heldMetric]+m[releasingMetric] == 0 {
			return
		}
		time.Sleep(drainLook)
	}
}

// delays are how many turns in all were late by at most so many seconds. A node that
// doesn't answer any more counted what it did when it was last asked.
func (d *departure) delays(ctx context.Context) (map[float64]float64, error) {
	sum := map[float64]float64{}
	for i, p := range d.nodes {
		m, err := p.metrics(ctx)
		switch {
		case err == nil:
			d.read[i] = m
		case i != d.victim || d.took == 0:
			return nil, err
		}
		for name, n := range d.read[i] {
			bound, ok := strings.CutPrefix(name, delayMetric+`_bucket{le="`)
			if le, err := strconv.ParseFloat(strings.TrimSuffix(bound, `"}`), 64); ok && err == nil {
				sum[le] += n
			}
		}
	}
	return sum, nil
}

// newDelays are those, in ms, that were counted between two looks, each as long as
// the longest of those that are counted with it.
func newDelays(from, to map[float64]float64) (all []float64) {
	var below, last float64
	for _, le := range slices.Sorted(maps.Keys(to)) {
		n, long := to[le]-from[le], le
		if math.IsInf(le, 1) {
			long = 2 * last // there is no telling
		}
		all = append(all, slices.Repeat([]float64{1000 * long}, int(n-below))...)
		below, last = n, le
	}
	return all
}
