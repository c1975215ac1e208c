package main

import (
	"context"
	"errors"
	"io"
	"time"

	"github.com/parleychat/parley/bench/rounds"
)

// Child is what the program does with its first argument.
func Child(args []string) { child(args[0], args[1:]) }

// Small measures every scenario of a store once, in little time.
func Small(ctx context.Context, folder, store string) (results []rounds.Result, err error) {
	c := small(folder)
	c.store, c.server = store, &server{folder: folder}
	defer func() { err = errors.Join(err, c.server.stop(ctx)) }()
	return rounds.Run(ctx, scenarios(c), 1, func(int, string, []rounds.Figure) {})
}

// SmallSends measures the scenarios of sending once, in little time.
func SmallSends(ctx context.Context, folder string) ([]rounds.Result, error) {
	c := small(folder)
	c.store, c.profiles, c.server = storeEmbedded, "", &server{folder: folder}
	return rounds.Run(ctx, c.sendScenarios(), 1, func(int, string, []rounds.Figure) {})
}

func small(folder string) config {
	return config{
		rounds: 1, rate: 300, duration: 500 * time.Millisecond, warmup: 100 * time.Millisecond,
		users: 60, conversations: 1000, messages: 2, folder: folder, profiles: folder,
	}
}

// SmallCompare holds a store of some hundred conversations to one of fewer. What
// it returns beside the results is what is noted of the larger one.
func SmallCompare(ctx context.Context, folder string) (results []rounds.Result, notes []string, err error) {
	c := small(folder)
	c.rounds, c.users, c.large, c.profiles, c.server = 2, 300, 1200, "", &server{folder: folder}
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.server.stop(ctx)) }()
	return compare(ctx, c)
}

// SmallChecked measures the check of a bot over some hundred conversations.
func SmallChecked(ctx context.Context, folder string) (results []rounds.Result, notes []string, err error) {
	c := small(folder)
	c.checked, c.profiles, c.server = 700, "", &server{folder: folder}
	if err := c.check(); err != nil {
		return nil, nil, err
	}
	defer func() { err = errors.Join(err, c.server.stop(ctx)) }()
	return checked{c}.measureAll(ctx)
}

// Settings are those of a configuration that can be wrong.
type Settings struct {
	Rate                 float64
	Users, Conversations int
	Store                string
	Large                int
	Soak                 time.Duration
	Cluster, Sends       bool
	Checked              int
}

// Check is the check of a configuration with such settings.
func Check(s Settings) error {
	c := small("")
	c.rate, c.users, c.conversations, c.store, c.large, c.soak, c.cluster, c.sends = s.Rate, s.Users, s.Conversations, s.Store, s.Large, s.Soak, s.Cluster, s.Sends
	c.checked = s.Checked
	return c.check()
}

// Holds is the check of what an entrance has left in its store.
func Holds(ctx context.Context, place string, rows int) error { return holds(ctx, place, rows) }

// WriteLevels judges one quantity with a slack of 1.
func WriteLevels(w io.Writer, name string, values []float64) (growing []string, err error) {
	return writeLevels(w, []series{{name: name, unit: "MiB", slack: 1, values: values}})
}

// Soak runs a node on PostgreSQL for a while and takes so many samples of it. It
// returns the names of what would be judged.
func Soak(ctx context.Context, folder string, out io.Writer, samples int) (judged []string, err error) {
	c := small(folder)
	c.server, c.profiles = &server{folder: folder}, ""
	c.soak = time.Duration(samples) * time.Second
	defer func() { err = errors.Join(err, c.server.stop(ctx)) }()
	taken, err := c.soakOn(ctx, out, 100, time.Second)
	for _, s := range levels(taken) {
		judged = append(judged, s.name)
	}
	if err == nil && len(taken) != samples {
		err = errors.New("other samples than wanted")
	}
	return judged, err
}

// SmallCluster measures the scenarios of a cluster once, in little time.
func SmallCluster(ctx context.Context, folder string) (results []rounds.Result, err error) {
	c := small(folder)
	c.cluster, c.profiles = true, ""
	c.server = &server{folder: folder, further: [][2]string{timestamps()}}
	defer func() { err = errors.Join(err, c.server.stop(ctx)) }()
	t := newTogether(c)
	t.rates, t.every, t.recoveryRate, t.drainRate, t.live, t.stored = []float64{100}, 1, 100, 100, 300, 100
	t.lull, t.idleFor, t.doubtful = time.Second, time.Second, 4*time.Second
	return rounds.Run(ctx, t.scenarios(), 1, func(int, string, []rounds.Figure) {})
}

// NewDelays are those in ms that a histogram has counted between two looks.
func NewDelays(from, to map[float64]float64) []float64 { return newDelays(from, to) }
