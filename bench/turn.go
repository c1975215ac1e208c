package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/meta/metatest"
)

// owedMax is how long the simulator waits for what it is owed.
const owedMax = 10 * time.Second

// brand is the one that the simulated channels belong to.
const brand parley.Brand = "bench"

// turn is the whole line on a kind of store: a message comes in, has its turn,
// and the simulator gets the reply. Every message must have had its effect and
// its answer.
func (c config) turn(kind string) func(context.Context) ([]rounds.Figure, error) {
	return c.turnOf(kind, "turn", c.simulation())
}

// turnWithReceipts is the same with what Meta reports of each reply: an echo, a
// delivery, and that it was read.
func (c config) turnWithReceipts(kind string) func(context.Context) ([]rounds.Figure, error) {
	simulation := c.simulation()
	simulation.Echoes, simulation.Statuses = true, true
	return c.turnOf(kind, "turn-with-receipts", simulation)
}

// simulation is what the simulator plays: Messenger, one message in a webhook
// of the usual size, nothing else. The users write in turn, for the first time
// before the measurement, so that what is measured is the turn of a conversation
// that is in memory.
func (c config) simulation() metatest.Config {
	simulation := metatest.Config{
		Rate: c.rate, Users: c.users, Duration: c.firstTurns() + c.duration, Mix: metatest.Shares{Messenger: 1},
	}
	simulation.TextBytes = textBytes(simulation)
	return simulation
}

// firstTurns is how long it takes until every user has written.
func (c config) firstTurns() time.Duration {
	return c.warmup + time.Duration(float64(c.users)/c.rate*float64(time.Second))
}

// textBytes is the length of text that makes a webhook of messageBytes.
func textBytes(simulation metatest.Config) int {
	const guess = 100
	simulation.TextBytes = guess
	world := metatest.NewWorld(simulation)
	posts := world.Due(time.Now())
	return guess + messageBytes - len(posts[0].Body)
}

func (c config) turnOf(kind, name string, simulation metatest.Config) func(context.Context) ([]rounds.Figure, error) {
	if kind != storeEmbedded {
		name += "-" + kind
	}
	return func(ctx context.Context) (figures []rounds.Figure, err error) {
		l, leave, err := c.lodge(ctx, kind)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, leave()) }()
		return c.playOn(ctx, l, play{name: name, brand: brand, simulation: simulation, first: c.firstTurns()})
	}
}

// play is a simulation against a node, and the part of it that is measured.
type play struct {
	name       string // of the profile
	brand      parley.Brand
	simulation metatest.Config
	first      time.Duration // of the simulation, before the measurement
	nodes      int           // more than one work together
}

// playOn runs the nodes on l for the play, and measures them.
func (c config) playOn(ctx context.Context, l *lodging, p play) (figures []rounds.Figure, err error) {
	simulator, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: p.simulation, Grace: owedMax}) //nolint:contextcheck // its Run has the context
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, simulator.Close()) }()
	nodes, err := startFleet(ctx, l, p.brand, simulator, max(1, p.nodes))
	defer func() { err = errors.Join(err, nodes.stop()) }()
	if err != nil {
		return nil, err
	}
	simulator.SetTarget(nodes.urls()...)
	profiled := c.profileAll(ctx, nodes, p)
	defer func() { err = errors.Join(err, profiled()) }()
	return stage{l: l, nodes: nodes, simulator: simulator}.play(ctx, p.first)
}

// profileAll takes a profile of each node in the measured part, if profiles are
// wanted. What it returns waits until they are there.
func (c config) profileAll(ctx context.Context, nodes fleet, p play) (wait func() error) {
	var profiles []<-chan error
	for i, node := range nodes {
		name := p.name
		if len(nodes) > 1 {
			name += fmt.Sprint("-node", i+1)
		}
		if file := c.profileOf(name); file != "" {
			profiles = append(profiles, node.profile(ctx, file, p.first, p.simulation.Duration-p.first))
		}
	}
	return func() (err error) {
		for _, done := range profiles {
			err = errors.Join(err, <-done)
		}
		return err
	}
}

// stage is who takes part in a play.
type stage struct {
	l         *lodging
	nodes     fleet
	simulator *metatest.Simulator
}

// moment is what had been used, and done, at one.
type moment struct {
	nodes   time.Duration
	server  reading
	effects int
}

// begin reads what the next part begins with, after the server's upkeep.
func (s stage) begin(ctx context.Context) (m moment, err error) {
	if m.server, err = s.l.read(ctx); err != nil {
		return m, err
	}
	m.effects = s.simulator.Progress().Effects
	m.nodes, err = s.nodes.cpu()
	return m, err
}

// end reads what a part has ended with, before the server's upkeep.
func (s stage) end(ctx context.Context) (m moment, err error) {
	m.effects = s.simulator.Progress().Effects
	if m.nodes, err = s.nodes.cpu(); err != nil {
		return m, err
	}
	m.server, err = s.l.read(ctx)
	return m, err
}

// play runs the simulation, and reads the CPU time before the first message, when
// the first part is over, and when all is answered.
func (s stage) play(ctx context.Context, first time.Duration) ([]rounds.Figure, error) {
	started, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	type result struct {
		moment
		err error
	}
	warm := make(chan result, 1)
	timer := time.AfterFunc(first, func() {
		m, err := s.begin(ctx)
		warm <- result{m, err}
	})
	defer timer.Stop()
	if err := s.simulator.Run(ctx); err != nil {
		return nil, err
	}
	ended, err := s.end(ctx)
	warmed := <-warm
	if err := errors.Join(warmed.err, err); err != nil {
		return nil, err
	}
	verdict, err := s.verdict()
	if err != nil {
		return nil, err
	}
	if ended.effects <= warmed.effects {
		return nil, errors.New("all was over before the measurement began: the store's upkeep took too long")
	}
	return append(s.costs(started, warmed.moment, ended),
		rounds.Figure{Name: "ack p50", Unit: "ms", Value: verdict.AckMS.P50},
		rounds.Figure{Name: "ack p99", Unit: "ms", Value: verdict.AckMS.P99},
		rounds.Figure{Name: "lag", Unit: "ms", Value: verdict.LagMaxMS},
	), nil
}

// problemsShown is how many cases an error names.
const problemsShown = 8

// verdict is the simulator's, if it is clean and every message has had its effect.
func (s stage) verdict() (metatest.Verdict, error) {
	verdict := s.simulator.Verdict()
	if !verdict.Clean() || verdict.Effects != verdict.Offered || verdict.Offered == 0 {
		problems := verdict.Problems()
		if more := len(problems) - problemsShown; more > 0 {
			problems = append(problems[:problemsShown:problemsShown], fmt.Sprintf("and %d more", more))
		}
		return verdict, fmt.Errorf("of %d messages offered %d took effect; is the machine too slow, or busy, for the -rate? %s",
			verdict.Offered, verdict.Effects, strings.Join(problems, "; "))
	}
	return verdict, nil
}

// costs tells what a turn cost in the measured part, and in the first.
func (s stage) costs(started, warmed, ended moment) []rounds.Figure {
	figures := between(warmed, ended).figures("turn")
	if s.l.base == nil {
		figures = figures[:1]
	}
	return append(figures, rounds.Figure{Name: "CPU, first turn", Unit: "µs/turn", Value: micros(between(started, warmed).total())})
}

// between is what a turn cost between two moments.
func between(from, to moment) (u usage) {
	n := max(1, to.effects-from.effects)
	u.own = (to.nodes - from.nodes) / time.Duration(n)
	u.server, u.upkeep = spent(n, from.server, to.server)
	return u
}
