package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
)

// messageBytes is the size of the webhook that all scenarios carry.
const messageBytes = 450

// baseScenario is the one that the others are held to, at the rate that all of
// them are offered.
const baseScenario = "unit"

// What is promised: ratios to the unit, a conversation's memory, and how long it
// takes to read one.
const (
	ackUnitsMax          = 3
	ackPostgresUnitsMax  = 6
	turnUnitsMax         = 10
	turnPostgresUnitsMax = 15
	idleKiBMax           = 1.5
	activationMSMax      = 3
)

// A server costs several times as much per request when it is idle between
// requests (it wakes up for each) than when it has always one to answer. So the
// figures at full speed stand beside those at the rate, and nobody takes one for
// the other; each is held to the bare server's of its kind.
const (
	fullScenario    = "unit, full speed"
	fullTimes       = 25 // the rate: more than it can answer
	fullDuration    = 600 * time.Millisecond
	fullConnections = 128 // many must wait for the same fsync
)

// scenario is one to measure, on a kind of store; empty for none.
type scenario struct {
	rounds.Scenario
	store string
}

// scenarios are measured in this order, in turn: those of the two stores side by
// side.
func scenarios(c config) []rounds.Scenario {
	full := c
	full.rate, full.duration, full.warmup, full.connections = fullTimes*c.rate, fullDuration, fullDuration/4, fullConnections
	all := []scenario{
		{rounds.Scenario{Name: baseScenario, Measure: c.unit}, ""},
		{rounds.Scenario{Name: fullScenario, Base: baseScenario, Measure: full.unit}, ""},
		{rounds.Scenario{Name: "ack", Base: baseScenario, AtMost: ackUnitsMax, Measure: c.ack(storeEmbedded)}, storeEmbedded},
		{rounds.Scenario{Name: "ack, postgres", Base: baseScenario, AtMost: ackPostgresUnitsMax, Measure: c.ack(storePostgres)}, storePostgres},
		{rounds.Scenario{Name: "ack, full speed", Base: fullScenario, Measure: full.ack(storeEmbedded)}, storeEmbedded},
		{rounds.Scenario{Name: "ack, full speed, postgres", Base: fullScenario, Measure: full.ack(storePostgres)}, storePostgres},
		{rounds.Scenario{Name: "turn", Base: baseScenario, AtMost: turnUnitsMax, Measure: c.turn(storeEmbedded)}, storeEmbedded},
		{rounds.Scenario{Name: "turn, postgres", Base: baseScenario, AtMost: turnPostgresUnitsMax, Measure: c.turn(storePostgres)}, storePostgres},
		{rounds.Scenario{Name: "turn with receipts", Base: baseScenario, Measure: c.turnWithReceipts(storeEmbedded)}, storeEmbedded},
		{rounds.Scenario{Name: "turn with receipts, postgres", Base: baseScenario, Measure: c.turnWithReceipts(storePostgres)}, storePostgres},
		{rounds.Scenario{Name: "turn over HTTP", Measure: c.httpTurn}, storeEmbedded},
		{rounds.Scenario{Name: "statuses", Base: baseScenario, Measure: c.statuses}, storeEmbedded},
		{rounds.Scenario{Name: "idle", AtMost: idleKiBMax, Measure: c.idle}, storeEmbedded},
		{rounds.Scenario{Name: "activation, postgres", AtMost: activationMSMax, Measure: c.activation}, storePostgres},
	}
	return c.pick(all)
}

// pick leaves those that are wanted.
func (c config) pick(all []scenario) (wanted []rounds.Scenario) {
	for _, s := range all {
		if s.store == "" || (strings.HasPrefix(s.Name, c.only) && (c.store == "" || c.store == s.store)) {
			wanted = append(wanted, s.Scenario)
		}
	}
	return wanted
}

// unit is the bare server in a process of its own.
func (c config) unit(ctx context.Context) ([]rounds.Figure, error) {
	child, err := self(ctx, bareArgument)
	if err != nil {
		return nil, err
	}
	unit, err := bare.Measure(ctx, child, bare.MeasureConfig{Rate: c.rate, Duration: c.duration, Warmup: c.warmup, Bytes: messageBytes, Connections: c.connections})
	if err != nil {
		return nil, err
	}
	return c.requestFigures(unit), nil
}

// requestFigures leaves out the latencies at full speed: they say nothing of a
// server that is offered more than it can answer.
func (c config) requestFigures(unit bare.Unit) []rounds.Figure {
	cpu := rounds.Figure{Name: "CPU", Unit: "µs/request", Value: micros(unit.PerRequest)}
	if c.connections == fullConnections {
		return []rounds.Figure{cpu}
	}
	return []rounds.Figure{
		cpu,
		{Name: "p50", Unit: "µs", Value: micros(unit.Load.P50)},
		{Name: "p99", Unit: "µs", Value: micros(unit.Load.P99)},
		{Name: "lag", Unit: "µs", Value: micros(unit.Load.LagMax)},
	}
}

// self is this program as a child.
func self(ctx context.Context, args ...string) (*exec.Cmd, error) {
	path, err := os.Executable()
	if err != nil {
		return nil, fmt.Errorf("find this program: %w", err)
	}
	child := exec.CommandContext(ctx, path, args...)
	child.Stderr = os.Stderr
	return child, nil
}

// tempFolder makes a folder for one measurement's store.
func (c config) tempFolder() (folder string, remove func(), err error) {
	folder, err = os.MkdirTemp(c.folder, "parley-bench-")
	if err != nil {
		return "", nil, fmt.Errorf("make a folder: %w", err)
	}
	return folder, func() { _ = os.RemoveAll(folder) }, nil // what stays is in a folder for what may go
}

// profileOf is the file for a profile; empty if none is wanted.
func (c config) profileOf(name string) string {
	if c.profiles == "" {
		return ""
	}
	return filepath.Join(c.profiles, name+".pprof")
}

func micros(d time.Duration) float64 { return float64(d) / float64(time.Microsecond) }
