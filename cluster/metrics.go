package cluster

import (
	"fmt"

	"github.com/prometheus/client_golang/prometheus"
)

const (
	namespace = "parley"
	subsystem = "cluster"

	joinedOK, joinedFailed = "ok", "failed"
)

type metrics struct {
	joins                              *prometheus.CounterVec
	views, lost, conflicts, unreadable prometheus.Counter
}

func newMetrics(to prometheus.Registerer, c *Cluster) (*metrics, error) {
	m := &metrics{joins: prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: "joins_total", Help: "Attempts to reach who should be a member, by result.",
	}, []string{"result"})}
	for _, result := range []string{joinedOK, joinedFailed} {
		m.joins.WithLabelValues(result) // it is there before it is counted
	}
	all := []prometheus.Collector{m.joins}
	counter := func(name, help string) prometheus.Counter {
		n := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		all = append(all, n)
		return n
	}
	m.views = counter("views_total", "Changes of the members.")
	m.lost = counter("lost_total", "Members that went without saying good-bye, as far as this one could tell.")
	m.conflicts = counter("conflicts_total", "Sightings of another process with the name of a member.")
	m.unreadable = counter("unreadable_total", "Members left out since what they tell of themselves can't be read.")
	gauge := func(name, help string, value func() float64) {
		all = append(all, prometheus.NewGaugeFunc(prometheus.GaugeOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help}, value))
	}
	gauge("members", "Members that this one knows of, itself included.", func() float64 { return float64(len(c.View().members)) })
	gauge("owned_shards", "Shards of conversations that belong to this member.", func() float64 {
		return float64(len(c.View().Owned(Actors, c.cfg.Self.Name)))
	})
	if to == nil {
		return m, nil
	}
	for _, one := range all {
		if err := to.Register(one); err != nil {
			return nil, fmt.Errorf("register metrics: %w", err)
		}
	}
	return m, nil
}

func (m *metrics) joined(err error) {
	result := joinedOK
	if err != nil {
		result = joinedFailed
	}
	m.joins.WithLabelValues(result).Inc()
}
