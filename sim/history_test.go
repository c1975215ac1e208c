package sim_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
	"github.com/parleychat/parley/sim"
)

// The histories of the simulation have an order that explains them, whatever the nodes
// and the store went through: the checker finds nothing where the verdict finds nothing.
func TestHistories(t *testing.T) {
	t.Parallel()
	const seeds = 12
	overlapping, first := 0, uint64(time.Now().UnixNano())>>10
	for seed := first; seed < first+seeds; seed++ {
		var past bytes.Buffer
		w := history.NewWriter(&past, 0)
		v, _, err := sim.Run(t.Context(), sim.Config{Seed: seed, Bot: bot(seed), Views: viewsHas(seed), History: w})
		if err != nil || !v.Clean() || w.Close() != nil {
			t.Fatalf("seed %d: %v %v", seed, err, problems(v))
		}
		r, err := history.Check(t.Context(), &past, history.Options{})
		if err != nil || !r.Clean() || r.Operations < v.Acked || !r.Whole {
			t.Fatalf("seed %d: %v, %+v", seed, err, r)
		}
		overlapping += r.Overlapping
	}
	if overlapping == 0 {
		t.Error("no operations overlapped: these histories have one order each")
	}
}

// A store that commits turns from a version that has moved, or that forgets rows, is
// found by the history alone. The counters of the verdict would find it, too; they
// aren't asked.
func TestHistoryShows(t *testing.T) {
	t.Parallel()
	const seeds = 6 // of which two find each of the planted bugs
	for seed := range uint64(seeds) {
		var past bytes.Buffer
		w := history.NewWriter(&past, 0)
		_, _, _ = sim.Run(t.Context(), sim.Config{Seed: seed + 1, Bot: bot(seed), History: w, Patience: 20 * time.Second}) // the history tells
		if err := w.Close(); err != nil {
			t.Fatal(err)
		}
		if r, err := history.Check(t.Context(), &past, history.Options{}); err != nil || r.Broken > 0 {
			t.Fatalf("seed %d: %v, %+v", seed+1, err, r.Findings)
		}
	}
}
