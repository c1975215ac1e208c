package actors_test

import (
	"testing"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/persistence/memory"
)

// impatient reads what it is given at once, as somebody may do who asks for /metrics
// while a node starts.
type impatient struct{ *prometheus.Registry }

func (r impatient) MustRegister(all ...prometheus.Collector) {
	r.Registry.MustRegister(all...)
	if _, err := r.Gather(); err != nil {
		panic(err)
	}
}

func TestMetricsFromTheStart(t *testing.T) {
	t.Parallel()
	store := memory.New(memory.Config{})
	_, err := actors.New(actors.Config{
		Store: store, Agenda: store, Bot: func(parley.Channel) *parley.Bot { return counting() },
		Registerer: impatient{prometheus.NewRegistry()},
	})
	if err != nil {
		t.Fatal(err)
	}
}
