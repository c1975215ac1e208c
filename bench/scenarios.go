package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"time"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
)

// messageBytes is the size of the webhook that all scenarios carry.
const messageBytes = 450

// baseScenario is the one that the others are held to, at the rate that all of
// them are offered.
const baseScenario = "unit"

// A bare server costs several times as much per request when it is idle between
// requests (it wakes up for each) than when it has always one to answer. The
// second figure stands beside the unit, so that nobody takes one for the other.
const (
	fullScenario = "unit, full speed"
	fullRate     = 50_000 // more than it can answer here
	fullDuration = time.Second
)

// scenarios are measured in this order, in turn.
func scenarios(c config) []rounds.Scenario {
	full := c
	full.rate, full.duration, full.warmup = fullRate, fullDuration, fullDuration/4
	return []rounds.Scenario{
		{Name: baseScenario, Measure: c.unit},
		{Name: fullScenario, Base: baseScenario, Measure: full.cpuOnly},
	}
}

// unit is the bare server in a process of its own.
func (c config) unit(ctx context.Context) ([]rounds.Figure, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("own name: %w", err)
	}
	child := exec.CommandContext(ctx, self, childArgument)
	child.Stderr = os.Stderr
	unit, err := bare.Measure(ctx, child, bare.MeasureConfig{Rate: c.rate, Duration: c.duration, Warmup: c.warmup, Bytes: messageBytes})
	if err != nil {
		return nil, err
	}
	return []rounds.Figure{
		{Name: "CPU", Unit: "µs/request", Value: micros(unit.PerRequest)},
		{Name: "p50", Unit: "µs", Value: micros(unit.Load.P50)},
		{Name: "p99", Unit: "µs", Value: micros(unit.Load.P99)},
		{Name: "lag", Unit: "µs", Value: micros(unit.Load.LagMax)},
	}, nil
}

// cpuOnly leaves out the latencies: they say nothing of a server that is offered
// more than it can answer.
func (c config) cpuOnly(ctx context.Context) ([]rounds.Figure, error) {
	figures, err := c.unit(ctx)
	return figures[:min(1, len(figures))], err
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
