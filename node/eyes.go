package node

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/parleychat/parley/console"
)

const (
	lookEvery  = 5 * time.Second // at all members
	lookWithin = time.Second     // which they have to answer
	// worryAfter is how long something may be odd before it is logged: members come
	// and go, and all need a moment to hear of it.
	worryAfter = 15 * time.Second
)

// eyes look at how the members stand, and say what somebody should look at.
type eyes struct {
	n *Node

	mu       sync.Mutex
	differed time.Time            // since when views have differed; zero while they agree
	odd      map[string]time.Time // kinds of warnings, since when
	said     map[string]bool
}

func newEyes(n *Node) *eyes {
	return &eyes{n: n, odd: map[string]time.Time{}, said: map[string]bool{}}
}

// differ takes note of whether views agree, and returns for how long they haven't.
func (e *eyes) differ(agree bool, now time.Time) time.Duration {
	e.mu.Lock()
	defer e.mu.Unlock()
	switch {
	case agree:
		e.differed = time.Time{}
		return 0
	case e.differed.IsZero():
		e.differed = now
	}
	return now.Sub(e.differed)
}

// run looks now and then, until ctx ends.
func (e *eyes) run(ctx context.Context) {
	for wait(ctx, lookEvery); ctx.Err() == nil; wait(ctx, lookEvery) {
		if !e.n.serves() {
			continue
		}
		s := e.n.stand(ctx)
		s.Backlog = &console.Backlog{} // to count it takes too much to do it all the time
		e.worry(ctx, console.Warnings(&s), e.n.now())
	}
}

// worry logs what has been odd for long, once, and once more when it isn't any more.
func (e *eyes) worry(ctx context.Context, warnings []console.Warning, now time.Time) {
	e.mu.Lock()
	defer e.mu.Unlock()
	current := map[string]bool{}
	for _, w := range warnings {
		current[w.Kind] = true
		if _, known := e.odd[w.Kind]; !known {
			e.odd[w.Kind] = now
		}
		if now.Sub(e.odd[w.Kind]) >= worryAfter && !e.said[w.Kind] {
			e.said[w.Kind] = true
			e.n.log.WarnContext(ctx, "something is odd in the cluster", slog.String("what", w.Text), slog.String("remedy", w.Remedy))
		}
	}
	for kind := range e.odd {
		if current[kind] {
			continue
		}
		if e.said[kind] {
			e.n.log.InfoContext(ctx, "no longer odd in the cluster", slog.String("kind", kind))
		}
		delete(e.odd, kind)
		delete(e.said, kind)
	}
}
