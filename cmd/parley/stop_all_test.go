package main_test

import (
	"testing"
	"time"
)

// Nodes that are told to stop all at once don't wait for each other: there is nobody
// to hand over to.
func TestAllStopAtOnce(t *testing.T) {
	t.Parallel()
	url := cluster.Database(t)
	g := newGraph(t)
	seed := freeAddress(t)
	var nodes [2]*instance
	for i := range nodes {
		h := newHouse(t)
		bind := seed
		if i > 0 {
			bind = freeAddress(t)
		}
		nodes[i] = h.launch(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, url).
			with("cluster", map[string]any{"bind": bind, "messages": freeAddress(t), "join": []string{seed}}))
	}
	for _, n := range nodes {
		n.serving(t, 1)
		await(t, "it has its share of the shards", func() bool {
			held := n.metric(t, "parley_actors_held_shards")
			return held > 0 && held < 4096
		})
	}
	began := time.Now()
	for _, n := range nodes {
		n.terminate(t)
	}
	for i, n := range nodes {
		if code := n.left(t); code != 0 {
			t.Errorf("node %d: exit code %d", i, code)
		}
	}
	if took := time.Since(began); took > drainWithin {
		t.Errorf("they took %s to stop", took)
	}
}
