package main

import (
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/persistence/postgres"
)

const (
	// What a conversation has that has been out of memory for a while: a state
	// that doesn't shrink by compressing, and as many keys as are kept inline, so
	// that its row is too long for a page and lies in a second table.
	awayStateBytes = 2 << 10
	awayTimes      = 4 // conversations, as a multiple of the users

	activationRounds  = 10
	activationTime    = time.Second // of one round
	activationProbe   = 4000        // loads by which full speed is found
	activationClients = 16          // more than there are connections
	populateGroup     = 500
)

// activation is how long it takes to load a conversation that isn't in the node's
// memory, with its state and the row that waits for it, while the database is
// asked for such at half of the rate that it can give. What counts is the median
// of ten short rounds' medians.
func (c config) activation(ctx context.Context) (figures []rounds.Figure, err error) {
	base, err := c.server.fresh(ctx)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, base.drop(ctx)) }()
	stored, err := postgres.Open(ctx, postgres.Config{URL: base.url})
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, stored.Close()) }()
	away := away{store: stored, n: awayTimes * c.users}
	if err := away.populate(ctx); err != nil {
		return nil, fmt.Errorf("fill the store: %w", err)
	}
	if _, err := base.read(ctx); err != nil {
		return nil, err
	}
	full, err := offer(ctx, activationProbe, 0, away.load)
	if err != nil {
		return nil, err
	}
	rate := float64(activationProbe) / full.elapsed.Seconds()
	var p50s, p99s []float64
	for range activationRounds {
		o, err := offer(ctx, max(1, int(rate/2*activationTime.Seconds())), rate/2, away.load)
		if err != nil {
			return nil, err
		}
		p50s, p99s = append(p50s, o.quantile(0.50)), append(p99s, o.quantile(0.99))
	}
	return []rounds.Figure{
		{Name: "p50", Unit: "ms", Value: rounds.Median(p50s)},
		{Name: "p99", Unit: "ms", Value: rounds.Median(p99s)},
		{Name: "at full speed", Unit: "ms/load", Value: 1000 / rate},
	}, nil
}

// away are conversations that are stored and nowhere else.
type away struct {
	store *postgres.Store
	n     int
	quiet bool // nothing waits for them
}

func (a away) conversation(i int) parley.Conversation {
	return parley.Conversation{Channel: channel(), Contact: parley.Contact(fmt.Sprint(parley.UserKey, 7_000_000_000_000_000+i))}
}

// populate commits a turn of each, and appends a message to each unless they are
// quiet.
func (a away) populate(ctx context.Context) error {
	for from := 0; from < a.n; from += populateGroup {
		var commits []parley.Commit
		var arrivals parley.Arrivals
		for i := from; i < min(from+populateGroup, a.n); i++ {
			commit := a.commit(i)
			commits = append(commits, commit)
			arrivals.Events = append(arrivals.Events, parley.Event{
				Channel: channel(), Contacts: []parley.Contact{commit.Conversation.Contact}, Key: parley.EventKey(random(16)),
				Time: time.Now(), Input: parley.Message{ID: fmt.Sprintf("m_%032x", i), Text: "is it there yet?"},
			})
		}
		errs, err := a.store.Commit(ctx, commits)
		if err := errors.Join(append(errs, err)...); err != nil {
			return err
		}
		if a.quiet {
			continue
		}
		if _, err := a.store.Append(ctx, arrivals); err != nil {
			return err
		}
	}
	return nil
}

func (a away) commit(i int) parley.Commit {
	next := parley.Snapshot{
		Conversation: a.conversation(i), Version: parley.Version{Number: 1, Token: parley.Token(binary.BigEndian.Uint64(random(8)))},
		Bot: "bench", State: []byte(base64.StdEncoding.EncodeToString(random(awayStateBytes)))[:awayStateBytes], Last: time.Now(),
	}
	for range parley.InlineSeen {
		next.Seen = append(next.Seen, parley.SeenKey{Key: parley.EventKey(random(16)), At: next.Last})
	}
	return parley.Commit{Conversation: next.Conversation, Next: next}
}

func random(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.Read(b) // never fails: it ends the process instead
	return b
}

// load reads one of them, far from the one before, and sees that all is there.
func (a away) load(ctx context.Context, k uint64) error {
	const stride = 7919 // a prime, so that all have their turn
	l, err := a.store.Load(ctx, a.conversation(int(k*stride%uint64(a.n))), 1)
	if err == nil && (len(l.Snapshot.State) != awayStateBytes || len(l.Snapshot.Seen) != parley.InlineSeen || len(l.Pending) != 1) {
		err = errors.New("a conversation was loaded without its state, its keys or its row")
	}
	return err
}

// offered is how it went.
type offered struct {
	latencies []time.Duration // from the time at which each was due, sorted
	elapsed   time.Duration
}

// quantile is in ms.
func (o offered) quantile(q float64) float64 {
	return micros(o.latencies[min(len(o.latencies)-1, int(q*float64(len(o.latencies))))]) / 1000
}

// offer does something n times at a rate, whether or not what came before is done
// yet, as far as the clients go; at rate 0 as fast as they can.
func offer(ctx context.Context, n int, rate float64, do func(context.Context, uint64) error) (offered, error) {
	var next atomic.Uint64
	var group sync.WaitGroup
	latencies, errs := make([]time.Duration, n), make([]error, activationClients)
	start := time.Now()
	for i := range errs {
		group.Go(func() {
			for errs[i] == nil {
				k := next.Add(1) - 1
				if k >= uint64(n) {
					return
				}
				due := time.Now()
				if rate > 0 {
					due = start.Add(time.Duration(float64(k) / rate * float64(time.Second)))
				}
				if errs[i] = wait(ctx, due); errs[i] == nil {
					errs[i] = do(ctx, k)
				}
				latencies[k] = time.Since(due)
			}
		})
	}
	group.Wait()
	o := offered{latencies: latencies, elapsed: time.Since(start)}
	slices.Sort(o.latencies)
	return o, errors.Join(errs...)
}

// wait waits until something is due.
func wait(ctx context.Context, due time.Time) error {
	left := time.Until(due)
	if left <= 0 {
		return ctx.Err()
	}
	timer := time.NewTimer(left)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
