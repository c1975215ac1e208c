package console

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"
)

// metrics of the package; their names and help texts are documented by /metrics.
type metrics struct {
	refusals map[refusal]prometheus.Counter
}

func newMetrics(r prometheus.Registerer) *metrics {
	v := promauto.With(r).NewCounterVec(prometheus.CounterOpts{
		Namespace: "parley", Subsystem: "console", Name: "refused_total",
		Help: "Requests to the admin API without the right token, by cause: missing, wrong, or unset if the node has none.",
	}, []string{"cause"})
	m := &metrics{refusals: map[refusal]prometheus.Counter{}}
	for cause := range refusals() {
		m.refusals[cause] = v.WithLabelValues(string(cause))
	}
	return m
}

func (m *metrics) refused(cause refusal) { m.refusals[cause].Inc() }
