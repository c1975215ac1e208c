package node

import "github.com/prometheus/client_golang/prometheus"

// upkeepGauge is told by every upkeep how it ended.
type upkeepGauge struct{ prometheus.Gauge }

func newUpkeepGauge() upkeepGauge {
	return upkeepGauge{prometheus.NewGauge(prometheus.GaugeOpts{
		Namespace: "parley", Subsystem: "node", Name: "upkeep_failing",
		Help: "1 while the last upkeep of the store has failed: dropping what is old, making room for the days to come.",
	})}
}
