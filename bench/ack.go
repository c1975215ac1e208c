package main

import (
	"context"
	"errors"
	"fmt"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/persistence/embedded"
)

// ack is the entrance alone: what it costs to acknowledge durably. Each message
// is new, and what the store holds at the end must be what was acknowledged.
func (c config) ack(ctx context.Context) (figures []rounds.Figure, err error) {
	folder, remove, err := c.tempFolder()
	if err != nil {
		return nil, err
	}
	defer remove()
	child, err := self(ctx, entranceArgument, folder)
	if err != nil {
		return nil, err
	}
	users := uint64(c.users)
	unit, err := bare.Measure(ctx, child, bare.MeasureConfig{
		Rate: c.rate, Duration: c.duration, Warmup: c.warmup, Path: path, Connections: c.connections,
		Body: func(k uint64) []byte { return bare.Messages(k%users, k, 1, messageBytes) },
	})
	if err != nil {
		return nil, err
	}
	return c.requestFigures(unit), holds(ctx, folder, unit.Warmup.Accepted+unit.Load.Accepted)
}

// holds looks at what a process that has ended left in its store.
func holds(ctx context.Context, folder string, rows int) (err error) {
	store, err := embedded.Open(embedded.Config{Dir: folder})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	b, err := store.Backlog(ctx)
	if err != nil {
		return fmt.Errorf("backlog: %w", err)
	}
	if b.Pending != rows || b.Quarantined != 0 {
		return fmt.Errorf("%d messages acknowledged, but the inbox holds %d rows and the quarantine %d", rows, b.Pending, b.Quarantined)
	}
	return nil
}
