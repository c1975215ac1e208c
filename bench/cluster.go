package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"strings"
	"time"

	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/persistence/postgres"
)

// What is promised of nodes that work together.
const (
	togetherRatioMax = 1.20 // CPU of a turn's nodes with three of them, held to one
	recoverySecMax   = 3    // p99, from a kill to the next reply
	drainSecMax      = 15   // until a node that drains runs no shard
	drainDelayMSMax  = 300  // p99.9, of turns meanwhile
	joinPercentMax   = 27   // of the shards: a quarter, and two in a hundred of all
	idlePercentMax   = 1    // of a core, of each node
)

const (
	clusterMax    = 10 * time.Minute // of one round, with all that is made for it
	clusterRounds = 10
	clusterRate   = 3000 // messages per second: about what two cores can do, with all that runs on them
	quieter       = 3    // by how much lower the load is also taken
	threeNodes    = 3
	playMax       = 10 * time.Minute // of a simulation that is ended when all has been seen
)

// together measures nodes that work together.
type together struct {
	config
	rates         []float64 // at which turns are measured, per second in all
	every         int       // seconds between two messages of a user
	recoveryRate  float64
	drainRate     float64
	live          int           // conversations on the node that drains
	stored        int           // conversations, while nobody writes
	lull          time.Duration // of writing, before and after what is done to a node
	idleFor       time.Duration
	doubtful      time.Duration // the nodes' wait; 0 for their default
	recoverWithin time.Duration // after a kill, in which what comes in counts
}

// newTogether is the usual measure.
func newTogether(c config) *together {
	return &together{
		config: c, rates: []float64{c.rate, math.Round(c.rate / quieter)}, every: 4, recoveryRate: 500, drainRate: 200, live: c.conversations,
		stored: 10_000, lull: 5 * time.Second, idleFor: 30 * time.Second, recoverWithin: time.Second,
	}
}

// scenarios are those of a cluster: all on PostgreSQL.
func (t *together) scenarios() (wanted []rounds.Scenario) {
	var all []rounds.Scenario
	for _, rate := range t.rates {
		name := fmt.Sprintf("turn at %g/s, ", rate)
		one := name + "1 node"
		all = append(all,
			rounds.Scenario{Name: one, Measure: t.turn(rate, 1)},
			rounds.Scenario{Name: fmt.Sprint(name, threeNodes, " nodes"), Base: one, AtMost: togetherRatioMax, Measure: t.turn(rate, threeNodes)},
			rounds.Scenario{Name: name + "1 node with its share", Base: one, Measure: t.turn(math.Round(rate/threeNodes), 1)})
	}
	all = append(all,
		rounds.Scenario{Name: "recovery", AtMost: recoverySecMax, Measure: t.recovery()},
		rounds.Scenario{Name: "drain", AtMost: drainSecMax, Measure: t.drain()},
		rounds.Scenario{Name: "join", AtMost: joinPercentMax, Measure: t.join},
		rounds.Scenario{Name: "idle cluster", AtMost: idlePercentMax, Measure: t.idle})
	for _, s := range all {
		if strings.HasPrefix(s.Name, t.only) {
			wanted = append(wanted, s)
		}
	}
	return wanted
}

// turn is what a turn costs with so many nodes, to which the webhooks go one after
// another, as from a load balancer that knows nothing.
//
// A node that has less to do pays more for each turn: it wakes up more often for it,
// and fewer turns share a transaction. So one node is also measured with what each of
// three has to do: what that costs more is the price of dividing the load, and what
// three nodes cost more than that is the price of working together.
func (t *together) turn(rate float64, nodes int) func(context.Context) ([]rounds.Figure, error) {
	return func(ctx context.Context) (figures []rounds.Figure, err error) {
		l, leave, err := t.lodge(ctx, storePostgres)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, leave()) }()
		c := t.config
		c.rate, c.users = rate, t.every*int(rate)
		figures, err = c.playOn(ctx, l, play{
			name: fmt.Sprintf("turn-%g-%d", rate, nodes), brand: brand, simulation: c.simulation(), first: c.firstTurns(), nodes: nodes,
		})
		if err != nil {
			return nil, err
		}
		// What is promised is of the nodes; the whole is told beside it.
		figures[0], figures[1] = figures[1], figures[0]
		figures[0].Name, figures[1].Name, figures[1].Held = "CPU of the nodes", "CPU with PostgreSQL", true
		return figures, nil
	}
}

// scene is three nodes on a database of their own, and a simulator that plays Meta.
func (t *together) scene(ctx context.Context, simulation metatest.Config, show func(context.Context, *stage) error) (err error) {
	l, leave, err := t.lodge(ctx, storePostgres)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, leave()) }()
	l.doubtful = t.doubtful
	simulator, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: simulation, Grace: sceneGrace}) //nolint:contextcheck // its Run has the context
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, simulator.Close()) }()
	s := &stage{l: l, simulator: simulator}
	defer func() { err = errors.Join(err, s.nodes.stop()) }()
	if s.nodes, err = startFleet(ctx, l, brand, simulator, threeNodes); err != nil {
		return err
	}
	simulator.SetTarget(s.nodes.urls()...)
	return show(ctx, s)
}

// sceneGrace is longer than the wait for messages that may have been sent.
const sceneGrace = time.Minute

// while has the users write while something is done, and sees that all of them got
// what they were owed.
func (s *stage) while(ctx context.Context, do func(context.Context) error) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	played := make(chan error, 1)
	go func() { played <- s.simulator.Run(ctx) }()
	if err := do(ctx); err != nil {
		stop()
		return errors.Join(err, <-played)
	}
	s.simulator.Finish()
	if err := <-played; err != nil {
		return err
	}
	_, err := s.verdict()
	return err
}

// join is how many of the shards change hands when a fourth node joins three.
func (t *together) join(ctx context.Context) (figures []rounds.Figure, err error) {
	err = t.scene(ctx, metatest.Config{Mix: metatest.Shares{Messenger: 1}}, func(ctx context.Context, s *stage) (err error) {
		before, err := s.nodes.metrics(ctx)
		if err != nil {
			return err
		}
		view, began := s.nodes.view(), time.Now()
		if s.nodes, err = s.nodes.grow(ctx, s.l, brand, s.simulator, 1); err != nil {
			return err
		}
		took := time.Since(began)
		after, err := s.nodes.metrics(ctx)
		percent := func(shards float64) float64 { return 100 * shards / cluster.Shards }
		figures = []rounds.Figure{
			{Name: "shards moved", Unit: "%", Value: percent(after[takenMetric] - before[takenMetric])},
			{Name: "by the views", Unit: "%", Value: percent(float64(s.nodes.view().Moved(view, cluster.Actors)))},
			{Name: "from the start until all is handed over", Unit: "s", Value: took.Seconds()},
		}
		return err
	})
	return figures, err
}

// idle is what nodes cost when nobody writes, with conversations in the database
// that nobody asks for.
func (t *together) idle(ctx context.Context) (figures []rounds.Figure, err error) {
	err = t.scene(ctx, metatest.Config{Mix: metatest.Shares{Messenger: 1}}, func(ctx context.Context, s *stage) (err error) {
		if err := s.l.base.populate(ctx, t.stored); err != nil {
			return fmt.Errorf("fill the store: %w", err)
		}
		if _, err := s.l.base.read(ctx); err != nil {
			return err
		}
		if err := wait(ctx, time.Now().Add(t.lull)); err != nil {
			return err
		}
		if file := t.profileOf("idle-cluster"); file != "" {
			profiled := s.nodes[0].profile(ctx, file, 0, t.idleFor)
			defer func() { err = errors.Join(err, <-profiled) }()
		}
		figures, err = s.rest(ctx, t.idleFor)
		return err
	})
	return figures, err
}

// rest is what the nodes and the server use in a while in which nothing is done.
func (s *stage) rest(ctx context.Context, d time.Duration) ([]rounds.Figure, error) {
	look := func() (all []time.Duration, err error) {
		for _, p := range s.nodes {
			used, err := p.cpu()
			if err != nil {
				return nil, err
			}
			all = append(all, used)
		}
		used, err := s.l.base.running.CPU()
		return append(all, used), err
	}
	began := time.Now()
	before, err := look()
	if err != nil {
		return nil, err
	}
	if err := wait(ctx, began.Add(d)); err != nil {
		return nil, err
	}
	after, err := look()
	if err != nil {
		return nil, err
	}
	took := time.Since(began)
	var most, sum, server float64
	for i := range after {
		server = 100 * float64(after[i]-before[i]) / float64(took)
		if i < len(s.nodes) {
			most, sum = max(most, server), sum+server
		}
	}
	return []rounds.Figure{
		{Name: "CPU of the busiest node", Unit: "% of a core", Value: most},
		{Name: "CPU of a node", Unit: "% of a core", Value: sum / float64(len(s.nodes))},
		{Name: "CPU of PostgreSQL", Unit: "% of a core", Value: server},
	}, nil
}

// populate stores conversations for which nothing waits.
func (d *database) populate(ctx context.Context, n int) error {
	stored, err := postgres.Open(ctx, postgres.Config{URL: d.url})
	if err != nil {
		return err
	}
	return errors.Join(away{store: stored, n: n, quiet: true}.populate(ctx), stored.Close())
}
