package main

import (
	"context"
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/ingress"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/postgres"
)

// The stores, as -store names them.
const (
	storeEmbedded = "embedded"
	storePostgres = "postgres"
)

// lodging is where one measurement keeps what it stores.
type lodging struct {
	folder   string        // of the measurement; with the embedded store it is the store's
	base     *database     // nil with the embedded store
	doubtful time.Duration // of the nodes on it: their wait for messages that may have been sent; 0 for the default
	bot      string        // URL of the bot of the nodes on it; empty for the tally bot

	processors int // GOMAXPROCS of the nodes on it; 0 leaves it to them
}

// lodge makes one. What it returns removes it again.
func (c config) lodge(ctx context.Context, kind string) (l *lodging, leave func() error, err error) {
	folder, remove, err := c.tempFolder()
	if err != nil {
		return nil, nil, err
	}
	l = &lodging{folder: folder, bot: c.bot, processors: c.processors}
	if kind == storePostgres {
		if l.base, err = c.server.fresh(ctx); err != nil {
			remove()
			return nil, nil, err
		}
	}
	return l, func() error {
		remove()
		if l.base == nil {
			return nil
		}
		return l.base.drop(ctx)
	}, nil
}

// place is how another process is told where the store is.
func (l *lodging) place() string {
	if l.base != nil {
		return l.base.url
	}
	return l.folder
}

// read reads the CPU time of the processes that work for the store, none of them
// with the embedded one.
func (l *lodging) read(ctx context.Context) (reading, error) {
	if l.base == nil {
		return reading{}, nil
	}
	return l.base.read(ctx)
}

// store is what the processes of the bench need of either store.
type store interface {
	ingress.Inbox
	ingress.Quarantine
	actors.Store
	actors.Agenda
	Backlog(ctx context.Context) (parley.Backlog, error)
	Close() error
}

// openStore opens the store at a place.
func openStore(ctx context.Context, place string) (store, error) { //nolint:ireturn // it is one of two
	if strings.HasPrefix(place, "postgres://") {
		return postgres.Open(ctx, postgres.Config{URL: place})
	}
	return embedded.Open(embedded.Config{Dir: place})
}

// usage is the CPU time of something measured, by who used it.
type usage struct{ own, server, upkeep time.Duration }

// total is all of it: what is held to a promise.
func (u usage) total() time.Duration { return u.own + u.server + u.upkeep }

// figures tells what one request or turn cost: all of it first, then the parts.
func (u usage) figures(of string) []rounds.Figure {
	return []rounds.Figure{
		{Name: "CPU", Unit: "µs/" + of, Value: micros(u.total())},
		{Name: "CPU, Parley", Unit: "µs/" + of, Value: micros(u.own)},
		{Name: "CPU, PostgreSQL", Unit: "µs/" + of, Value: micros(u.server)},
		{Name: "CPU, its upkeep", Unit: "µs/" + of, Value: micros(u.upkeep)},
	}
}
