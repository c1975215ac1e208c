package main

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/meta/metatest"
)

// owedMax is how long the simulator waits for what it is owed.
const owedMax = 10 * time.Second

// turn is the whole line: a message comes in, has its turn, and the simulator
// gets the reply. Every message must have had its effect and its answer.
func (c config) turn(ctx context.Context) ([]rounds.Figure, error) {
	return c.turnOf(ctx, "turn", c.simulation())
}

// turnWithReceipts is the same with what Meta reports of each reply: an echo, a
// delivery, and that it was read.
func (c config) turnWithReceipts(ctx context.Context) ([]rounds.Figure, error) {
	simulation := c.simulation()
	simulation.Echoes, simulation.Statuses = true, true
	return c.turnOf(ctx, "turn-with-receipts", simulation)
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

func (c config) turnOf(ctx context.Context, name string, simulation metatest.Config) (figures []rounds.Figure, err error) {
	folder, remove, err := c.tempFolder()
	if err != nil {
		return nil, err
	}
	defer remove()
	simulator, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: simulation, Grace: owedMax}) //nolint:contextcheck // its Run has the context
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, simulator.Close()) }()
	parley, err := startNode(ctx, folder, simulator)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, parley.stop()) }()
	simulator.SetTarget("http://" + parley.webhooks)
	if file := c.profileOf(name); file != "" {
		profiled := parley.profile(ctx, file, c.firstTurns(), c.duration)
		defer func() { err = errors.Join(err, <-profiled) }()
	}
	return c.play(ctx, simulator, parley)
}

// play runs the simulation, and reads the node's CPU time before the first
// message, when every user has written, and when all is answered.
func (c config) play(ctx context.Context, simulator *metatest.Simulator, parley *process) ([]rounds.Figure, error) {
	type reading struct {
		cpu     time.Duration
		effects int
		err     error
	}
	read := func() (r reading) {
		r.effects = simulator.Progress().Effects
		r.cpu, r.err = parley.cpu()
		return r
	}
	started := read()
	warm := make(chan reading, 1)
	timer := time.AfterFunc(c.firstTurns(), func() { warm <- read() })
	defer timer.Stop()
	if err := simulator.Run(ctx); err != nil {
		return nil, err
	}
	ended, warmed := read(), <-warm
	if err := errors.Join(started.err, warmed.err, ended.err); err != nil {
		return nil, err
	}
	verdict := simulator.Verdict()
	if !verdict.Clean() || verdict.Effects != verdict.Offered || verdict.Offered == 0 {
		return nil, fmt.Errorf("of %d messages offered %d took effect: %s", verdict.Offered, verdict.Effects, strings.Join(verdict.Problems(), "; "))
	}
	each := func(from, to reading) float64 { return micros(to.cpu-from.cpu) / float64(to.effects-from.effects) }
	return []rounds.Figure{
		{Name: "CPU", Unit: "µs/turn", Value: each(warmed, ended)},
		{Name: "CPU, first turn", Unit: "µs/turn", Value: each(started, warmed)},
		{Name: "ack p50", Unit: "ms", Value: verdict.AckMS.P50},
		{Name: "ack p99", Unit: "ms", Value: verdict.AckMS.P99},
		{Name: "lag", Unit: "ms", Value: verdict.LagMaxMS},
	}, nil
}
