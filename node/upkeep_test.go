package node_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley/node"
)

// Upkeep that fails is told in three places until it succeeds, and is tried again
// soon, but less and less often.
func TestUpkeepTells(t *testing.T) {
	t.Parallel()
	var log bytes.Buffer
	registry := prometheus.NewRegistry()
	u := node.NewUpkeep(slog.New(slog.NewTextHandler(&log, nil)), registry)
	failing := func() float64 {
		t.Helper()
		all, err := registry.Gather()
		if err != nil || len(all) != 1 || all[0].GetName() != "parley_node_upkeep_failing" {
			t.Fatalf("gathered %v, %v", all, err)
		}
		return all[0].GetMetric()[0].GetGauge().GetValue()
	}
	var waits []time.Duration
	for _, k := range []*node.Kept{
		{},
		{Pruned: errors.New("may not drop tables")},
		{Readied: errors.New("days run out")},
		{Pruned: errors.New("a"), Readied: errors.New("b")},
		{Pruned: errors.New("a")},
		{Pruned: errors.New("a")},
		{Pruned: errors.New("a")},
		{},
		{Pruned: errors.New("a")},
	} {
		wait, trouble := u.Once(t.Context(), k)
		waits = append(waits, wait)
		want := errors.Join(k.Pruned, k.Readied)
		if (want != nil) != (failing() == 1) || want == nil && trouble != "" || want != nil && trouble != want.Error() {
			t.Errorf("after %v: the gauge says %v, /readyz %q", want, failing(), trouble)
		}
		if want != nil && !strings.Contains(log.String(), "level=ERROR") {
			t.Errorf("after %v the log says %q", want, log.String())
		}
		log.Reset()
	}
	const s = time.Second
	want := []time.Duration{time.Hour, 5 * s, 10 * s, 20 * s, 40 * s, time.Minute, time.Minute, time.Hour, 5 * s}
	for i := range want {
		if waits[i] != want[i] {
			t.Errorf("waits are %v, want %v", waits, want)
			break
		}
	}
}

// A node that is told to stop amid its upkeep has no trouble to tell of.
func TestUpkeepEndsQuietly(t *testing.T) {
	t.Parallel()
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	var log bytes.Buffer
	u := node.NewUpkeep(slog.New(slog.NewTextHandler(&log, nil)), prometheus.NewRegistry())
	if _, trouble := u.Once(ctx, &node.Kept{Pruned: context.Canceled}); trouble != "" || log.Len() > 0 {
		t.Errorf("it tells of %q, and logs %q", trouble, log.String())
	}
}
