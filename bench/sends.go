package main

import (
	"context"
	"errors"
	"fmt"
	"math"
	"time"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
)

// What is promised of sending.
const (
	sendUnitsMax    = 3    // CPU of a message
	offPaceMax      = 1    // percent, from what the provider takes of a number, or is asked for
	besideAckMax    = 1.10 // p99 of acknowledging, beside sending
	besideParkedMax = 1.10 // CPU of a message, beside those of a number that is parked: nothing that could be told from noise
)

const (
	sendsMax     = 15 * time.Minute // of one round
	fastNumber   = 1000             // messages in a second of one that Meta has upgraded
	manyNumbers  = 50
	manyPace     = 101  // of each of them, which is far from what Meta takes: the node is the limit
	manyAsked    = 5000 // of all of them: what their paces leave of themselves is more
	parkedRows   = 10_000
	sendsWarmup  = time.Second // of the pace: what was sent before a start nobody knows
	sendsSpare   = 3 * time.Second
	firstMessage = 2 * time.Minute // until it comes: the outbox is filled first
)

// sendScenarios are those of -sends, on the embedded store.
func (c config) sendScenarios() []rounds.Scenario {
	one := sends{config: c, numbers: 1, pace: fastNumber, asked: fastNumber}
	many := sends{config: c, numbers: manyNumbers, pace: manyPace, asked: manyAsked}
	parked := many
	parked.parked = parkedRows
	const alone, several = "ack, nothing sent", "send, 50 numbers"
	return c.pick([]scenario{
		{rounds.Scenario{Name: baseScenario, Measure: c.unit}, ""},
		{rounds.Scenario{Name: "send, 1 number", Base: baseScenario, AtMost: sendUnitsMax, Measure: one.measure}, storeEmbedded},
		{rounds.Scenario{Name: several, Base: baseScenario, AtMost: sendUnitsMax, Measure: many.measure}, storeEmbedded},
		{rounds.Scenario{Name: several + ", 1 parked", Base: several, AtMost: besideParkedMax, Measure: parked.measure}, storeEmbedded},
		{rounds.Scenario{Name: alone, Measure: sends{config: c}.beside}, storeEmbedded},
		{rounds.Scenario{Name: "ack beside sends", Base: alone, AtMost: besideAckMax, Measure: one.beside}, storeEmbedded},
	})
}

// sends is a process that sends at the pace of its numbers.
type sends struct {
	config
	numbers int
	pace    int // of each, in a second
	asked   int // of all, in a second
	parked  int // messages of one more that can't be sent
}

// start starts the process, and the Graph API that it sends to. What it returns ends
// both.
func (s sends) start(ctx context.Context, start func(place, outbox string) error) (g *graph, leave func() error, err error) {
	folder, remove, err := s.tempFolder()
	if err != nil {
		return nil, nil, err
	}
	if g, err = newGraph(ctx, fastNumber); err != nil {
		remove()
		return nil, nil, err
	}
	each := s.pace * int(math.Ceil((s.duration + sendsWarmup + sendsSpare).Seconds()))
	o := outbox{Graph: g.url(), Numbers: s.numbers, Each: each, Pace: float64(s.pace), Parked: s.parked}
	leave = func() error { remove(); return g.close() }
	if err := start(folder, o.argument()); err != nil {
		return nil, nil, errors.Join(err, leave())
	}
	return g, leave, nil
}

// measure takes the CPU of a message between two moments, of which the first is a
// second after the first message.
func (s sends) measure(ctx context.Context) (figures []rounds.Figure, err error) {
	var process *bare.Process
	g, leave, err := s.start(ctx, func(place, outbox string) error {
		child, err := self(ctx, sendingArgument, place, outbox)
		if err != nil {
			return err
		}
		process, err = bare.Start(child, []byte(idleSecret))
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, process.Stop(), leave()) }()
	if err := s.begun(ctx, g); err != nil {
		return nil, err
	}
	from, err := s.look(ctx, g, process, sendsWarmup)
	if err != nil {
		return nil, err
	}
	to, err := s.look(ctx, g, process, s.duration)
	if err != nil {
		return nil, err
	}
	return s.figures(from, to)
}

// begun waits for the first message.
func (s sends) begun(ctx context.Context, g *graph) error {
	ctx, cancel := context.WithTimeout(ctx, firstMessage)
	defer cancel()
	for g.counted().accepted == 0 {
		if err := sleep(ctx, time.Millisecond); err != nil {
			return fmt.Errorf("no message came: %w", err)
		}
	}
	return nil
}

// look is what had been sent, and used, after a time.
func (s sends) look(ctx context.Context, g *graph, process *bare.Process, after time.Duration) (m sentMoment, err error) {
	if err := sleep(ctx, after); err != nil {
		return m, err
	}
	m.graphCount, m.at = g.counted(), time.Now()
	m.cpu, err = process.CPU()
	return m, err
}

type sentMoment struct {
	graphCount
	at  time.Time
	cpu time.Duration
}

// sleep waits for d, unless ctx ends before.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-time.After(d):
		return nil
	}
}

func (s sends) figures(from, to sentMoment) ([]rounds.Figure, error) {
	n := to.accepted - from.accepted
	if n == 0 || to.doubled > 0 {
		return nil, fmt.Errorf("%d messages came, %d of all that did had come before", n, to.doubled)
	}
	rate := float64(n) / to.at.Sub(from.at).Seconds()
	pace := float64(s.asked)
	return []rounds.Figure{
		{Name: "CPU", Unit: "µs/request", Value: micros((to.cpu - from.cpu) / time.Duration(n))},
		{Name: "off the pace", Unit: "%", Value: 100 * math.Abs(pace-rate) / pace, AtMost: offPaceMax},
		{Name: "rate", Unit: "messages/s", Value: rate},
		{Name: "refused (130429)", Unit: "messages", Value: float64(to.refused - from.refused)},
	}, nil
}

// beside measures an entrance that also sends: how long its answers take.
func (s sends) beside(ctx context.Context) (figures []rounds.Figure, err error) {
	var unit bare.Unit
	users := uint64(s.users)
	g, leave, err := s.start(ctx, func(place, outbox string) error {
		child, err := self(ctx, sendingArgument, place, outbox)
		if err != nil {
			return err
		}
		unit, err = bare.Measure(ctx, child, bare.MeasureConfig{
			Rate: s.rate, Duration: s.duration, Warmup: s.warmup, Path: path,
			Body: func(k uint64) []byte { return bare.Messages(k%users, k, 1, messageBytes) },
		})
		return err
	})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	sent := g.counted()
	if want := s.numbers * s.pace * int(s.duration.Seconds()); sent.accepted < want/2 || sent.doubled > 0 {
		return nil, fmt.Errorf("%d messages were sent beside, %d of them twice: want some %d", sent.accepted, sent.doubled, want)
	}
	return []rounds.Figure{
		{Name: "p99", Unit: "µs", Value: micros(unit.Load.P99)},
		{Name: "p50", Unit: "µs", Value: micros(unit.Load.P50)},
		{Name: "sent", Unit: "messages", Value: float64(sent.accepted)},
		{Name: "refused (130429)", Unit: "messages", Value: float64(sent.refused)},
	}, nil
}
