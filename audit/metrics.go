package audit

import (
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

type metrics struct {
	terms    *prometheus.GaugeVec
	missing  prometheus.Gauge
	excess   prometheus.Gauge
	open     prometheus.Gauge
	at       prometheus.Gauge
	failures prometheus.Counter
}

func newMetrics(to prometheus.Registerer) *metrics {
	gauge := func(name, help string) prometheus.Gauge {
		return prometheus.NewGauge(prometheus.GaugeOpts{Namespace: "parley", Subsystem: "audit", Name: name, Help: help})
	}
	m := &metrics{
		terms: prometheus.NewGaugeVec(prometheus.GaugeOpts{
			Namespace: "parley", Subsystem: "audit", Name: "updates",
			Help: "Updates by what has become of them: acknowledged = effected + duplicate + pending + spooled + quarantined + dead.",
		}, []string{"term"}),
		missing: gauge("missing", "Updates that were acknowledged and are nowhere, and dead letters that are gone. Anything but 0 is an alarm."),
		excess:  gauge("excess", "Updates that are there and were not acknowledged. Anything but 0 is an alarm."),
		open:    gauge("open", "1 while all is counted; 0: a member runs a program that doesn't count, and nothing has to add up."),
		at:      gauge("last_seconds", "When the store was looked at last, by its clock, in seconds since 1970."),
		failures: prometheus.NewCounter(prometheus.CounterOpts{
			Namespace: "parley", Subsystem: "audit", Name: "failures_total", Help: "Looks at the store that failed.",
		}),
	}
	if to != nil {
		to.MustRegister(m.terms, m.missing, m.excess, m.open, m.at, m.failures)
	}
	return m
}

func (m *metrics) show(a *parley.Account) {
	t := &a.Whole
	for term, n := range map[string]int64{
		"acknowledged": t.Acknowledged, "effected": t.Effected, "duplicate": t.Duplicate, "pending": t.Pending,
		"spooled": t.Spooled, "quarantined": t.Quarantined, "dead": t.Dead,
	} {
		m.terms.WithLabelValues(term).Set(float64(n))
	}
	m.at.Set(float64(a.At.UnixMilli()) / 1000)
	if a.Opened == nil {
		m.open.Set(0)
		m.missing.Set(0)
		m.excess.Set(0)
		return
	}
	m.open.Set(1)
	m.missing.Set(float64(t.Missing + t.Letters))
	m.excess.Set(float64(t.Excess))
}
