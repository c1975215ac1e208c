package bare

import (
	"cmp"
	"context"
	"encoding/hex"
	"errors"
	"fmt"
	"os/exec"
	"time"
)

// messagesDistinct is how many different messages a measurement sends in turn:
// enough that no cache holds the answer, few enough to be signed beforehand.
const messagesDistinct = 256

// MeasureConfig says how to measure.
type MeasureConfig struct {
	Rate     float64       // requests per second; default 2000
	Duration time.Duration // of what is measured; default 5 s
	Warmup   time.Duration // before it: connections, heap, caches; default 1 s
	Bytes    int           // of a message; default 450
	Path     string        // default /

	Connections int // default that of LoadConfig

	// Mark, if set, is called when the warm-up is over and when the measured load
	// is: for whoever counts what other processes do for the child meanwhile.
	Mark func(ctx context.Context) error

	// Body returns the k-th body, from 0, warm-up included. It is called once for
	// each, before the load begins. By default a few messages come again and again.
	Body func(k uint64) []byte
}

func (c MeasureConfig) resolve() MeasureConfig {
	c.Rate = cmp.Or(c.Rate, 2000)
	c.Duration = cmp.Or(c.Duration, 5*time.Second)
	c.Warmup = cmp.Or(c.Warmup, time.Second)
	c.Bytes = cmp.Or(c.Bytes, 450)
	if c.Mark == nil {
		c.Mark = func(context.Context) error { return nil }
	}
	return c
}

// Unit is what one measurement found.
type Unit struct {
	PerRequest time.Duration // CPU time, user and system, of the server's process only
	Load       LoadResult
	Warmup     LoadResult
}

// Measure starts child, which must be a command whose process calls [Child] with
// its standard input and output or speaks as that does, loads it, and returns
// what a request cost. Any request that wasn't answered with 200 is an error: the
// figure would be of something else. The child has ended when Measure returns.
func Measure(ctx context.Context, child *exec.Cmd, cfg MeasureConfig) (unit Unit, err error) {
	cfg = cfg.resolve()
	secret := []byte(hex.EncodeToString([]byte("the secret of a benchmark")))
	process, err := Start(child, secret)
	if err != nil {
		return Unit{}, err
	}
	defer func() { err = errors.Join(err, process.Stop()) }()
	post := cfg.posts(secret)
	load := LoadConfig{Addr: process.Addr, Path: cfg.Path, Rate: cfg.Rate, Duration: cfg.Warmup, Connections: cfg.Connections, Post: post}
	if unit.Warmup, err = loadAll(ctx, load); err != nil {
		return Unit{}, fmt.Errorf("warm up: %w", err)
	}
	if err := cfg.Mark(ctx); err != nil {
		return Unit{}, err
	}
	before, err := process.CPU()
	if err != nil {
		return Unit{}, err
	}
	sent := uint64(unit.Warmup.Offered)
	load.Duration, load.Post = cfg.Duration, func(k uint64) Post { return post(sent + k) }
	if unit.Load, err = loadAll(ctx, load); err != nil {
		return Unit{}, fmt.Errorf("measure: %w", err)
	}
	after, err := process.CPU()
	unit.PerRequest = (after - before) / time.Duration(unit.Load.Offered)
	return unit, errors.Join(err, cfg.Mark(ctx))
}

// loadAll is a load of which everything must be accepted.
func loadAll(ctx context.Context, cfg LoadConfig) (LoadResult, error) {
	result, err := Load(ctx, cfg)
	if err != nil {
		return LoadResult{}, err
	}
	if result.Accepted != result.Offered || result.Offered == 0 || ctx.Err() != nil {
		return LoadResult{}, errors.Join(fmt.Errorf("%d of %d requests were accepted", result.Accepted, result.Offered), ctx.Err())
	}
	return result, nil
}

// posts prepares all that will be sent, so that the client signs nothing while
// it measures.
func (c MeasureConfig) posts(secret []byte) func(uint64) Post {
	n, body := uint64(c.Rate*(c.Duration+c.Warmup).Seconds()), c.Body
	if body == nil {
		n, body = messagesDistinct, func(k uint64) []byte { return Message(k, c.Bytes) }
	}
	prepared := make([]Post, n)
	for k := range prepared {
		b := body(uint64(k))
		prepared[k] = Post{Body: b, Signature: Sign(secret, b)}
	}
	return func(k uint64) Post { return prepared[k%n] }
}
