package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
)

// ack is the entrance alone on a kind of store: what it costs to acknowledge
// durably. Each message is new, and what the store holds at the end must be what
// was acknowledged.
func (c config) ack(kind string) func(context.Context) ([]rounds.Figure, error) {
	return func(ctx context.Context) (figures []rounds.Figure, err error) {
		l, leave, err := c.lodge(ctx, kind)
		if err != nil {
			return nil, err
		}
		defer func() { err = errors.Join(err, leave()) }()
		child, err := self(ctx, entranceArgument, l.place())
		if err != nil {
			return nil, err
		}
		users := uint64(c.users)
		var marks []reading
		unit, err := bare.Measure(ctx, child, bare.MeasureConfig{
			Rate: c.rate, Duration: c.duration, Warmup: c.warmup, Path: path, Connections: c.connections,
			Body: func(k uint64) []byte { return bare.Messages(k%users, k, 1, messageBytes) },
			Mark: func(ctx context.Context) error {
				r, err := l.read(ctx)
				marks = append(marks, r)
				return err
			},
		})
		if err != nil {
			return nil, err
		}
		figures = c.requestFigures(unit)
		if l.base != nil {
			u := usage{own: unit.PerRequest}
			u.server, u.upkeep = spent(unit.Load.Offered, marks[0], marks[1])
			figures = append(u.figures("request"), figures[1:]...)
		}
		return figures, holds(ctx, l.place(), unit.Warmup.Accepted+unit.Load.Accepted)
	}
}

// holds looks at what a process that has ended left in its store.
func holds(ctx context.Context, place string, rows int) error {
	b, err := backlog(ctx, place)
	if err != nil {
		return err
	}
	if b.Pending != rows || b.Quarantined != 0 {
		return fmt.Errorf("%d messages acknowledged, but the inbox holds %d rows and the quarantine %d", rows, b.Pending, b.Quarantined)
	}
	return nil
}
