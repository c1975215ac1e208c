package ingress

import (
	"errors"
	"fmt"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// metrics are the figures of a server. Those of an app are resolved once, since
// a look-up by labels costs as much as an HMAC.
type metrics struct {
	requests    *prometheus.CounterVec
	events      *prometheus.CounterVec
	receipts    *prometheus.CounterVec
	quarantined *prometheus.CounterVec
	released    *prometheus.CounterVec
	ack         prometheus.Histogram
	groupSize   prometheus.Histogram
	appends     *prometheus.CounterVec

	collectors []prometheus.Collector
}

type appMetrics struct {
	answers     [answersCount]prometheus.Counter
	events      prometheus.Counter
	receipts    prometheus.Counter
	released    prometheus.Counter
	quarantined [causesCount]prometheus.Counter
}

const namespace, subsystem = "parley", "ingress"

func counters(name, help string, labels ...string) *prometheus.CounterVec {
	return prometheus.NewCounterVec(prometheus.CounterOpts{
		Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
	}, labels)
}

func histogram(name, help string, buckets []float64) prometheus.HistogramOpts {
	return prometheus.HistogramOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help, Buckets: buckets}
}

func newMetrics(gauges map[string]func() float64) *metrics {
	m := &metrics{
		requests:    counters("requests_total", "Requests by app and answer; the app is empty if the path names none.", "app", "answer"),
		events:      counters("events_total", "Events made durable.", "app"),
		receipts:    counters("receipts_total", "Receipts (statuses, echoes) made durable.", "app"),
		quarantined: counters("quarantined_total", "Updates quarantined, by sort of cause.", "app", "cause"),
		released:    counters("released_total", "Updates that left the quarantine for the inbox.", "app"),
		appends:     counters("appends_total", "Calls of the inbox by result.", "result"),
		ack: prometheus.NewHistogram(histogram("ack_seconds", "Time from a webhook's header to its 200.",
			[]float64{.0002, .0005, .001, .002, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5})),
		groupSize: prometheus.NewHistogram(histogram("group_requests", "Requests that share one append.",
			prometheus.ExponentialBuckets(1, 2, 13))),
	}
	m.collectors = []prometheus.Collector{
		m.requests, m.events, m.receipts, m.quarantined, m.released, m.appends, m.ack, m.groupSize,
	}
	for name, read := range gauges {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: gaugeHelp(name),
		}, read))
	}
	return m
}

func gaugeHelp(name string) string {
	switch name {
	case gaugeQueue:
		return "Requests that wait for an append."
	case gaugeHeld:
		return "Bytes of large bodies being received or made durable."
	case gaugeConns:
		return "Open connections."
	}
	return "1 while an append is overdue."
}

const (
	gaugeQueue   = "queue_requests"
	gaugeHeld    = "held_bytes"
	gaugeConns   = "connections"
	gaugeStalled = "stalled"
)

// register makes the metrics known to reg; if one is refused, none stays.
func (m *metrics) register(reg prometheus.Registerer) error { return registerAll(reg, m.collectors) }

func registerAll(reg prometheus.Registerer, collectors []prometheus.Collector) error {
	if reg == nil {
		return nil
	}
	var errs []error
	for i, c := range collectors {
		if err := reg.Register(c); err != nil {
			for _, done := range collectors[:i] {
				reg.Unregister(done)
			}
			errs = append(errs, fmt.Errorf("register metrics: %w", err))
			break
		}
	}
	return errors.Join(errs...)
}

func (m *metrics) forApp(name string) *appMetrics {
	a := &appMetrics{
		events:   m.events.WithLabelValues(name),
		receipts: m.receipts.WithLabelValues(name),
		released: m.released.WithLabelValues(name),
	}
	for i := range a.answers {
		a.answers[i] = m.requests.WithLabelValues(name, answer(i).form().label)
	}
	for i := range a.quarantined {
		a.quarantined[i] = m.quarantined.WithLabelValues(name, cause(i).label())
	}
	return a
}

// stored counts what became durable, once it is.
func (a *appMetrics) stored(in *parley.Arrivals, causes *[causesCount]int) {
	if n := len(in.Events); n > 0 {
		a.events.Add(float64(n))
	}
	if n := len(in.Receipts); n > 0 {
		a.receipts.Add(float64(n))
	}
	for i, n := range causes {
		if n > 0 {
			a.quarantined[i].Add(float64(n))
		}
	}
}

// cause is the sort of reason for which an update is quarantined. The reason
// itself is kept with the entry.
type cause uint8

const (
	causeChannel cause = iota // the app serves no such channel, as far as is known
	causeShape                // not the shape that its kind has
	causeBody                 // the body as a whole can't be decoded
	causePanic                // the decoder gave up in a way it must not
	causeRefused              // the store takes the rest, but not this
	causesCount               // not a cause
)

func (c cause) label() string {
	switch c {
	case causeChannel:
		return "unknown_channel"
	case causeShape:
		return "shape"
	case causePanic:
		return "panic"
	case causeRefused:
		return "refused"
	case causeBody, causesCount:
	}
	return "body"
}

// spoolMetrics are the figures of a spool.
type spoolMetrics struct {
	spooled, late, drained, refused, damaged prometheus.Counter

	collectors []prometheus.Collector
}

func newSpoolMetrics(s *Spool) *spoolMetrics {
	m := &spoolMetrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: namespace, Subsystem: subsystem, Name: name, Help: help})
		m.collectors = append(m.collectors, c)
		return c
	}
	gauge := func(name, help string, read func(Spooled) float64) {
		m.collectors = append(m.collectors, prometheus.NewGaugeFunc(prometheus.GaugeOpts{
			Namespace: namespace, Subsystem: subsystem, Name: name, Help: help,
		}, func() float64 { return read(s.State()) }))
	}
	m.spooled = counter("spool_spooled_total", "Updates (events, receipts, quarantined) made durable in the spool.")
	m.late = counter("spool_late_total", "Events among the updates made durable in the spool: they are late.")
	m.drained = counter("spool_drained_total", "Updates moved from the spool to the inbox.")
	m.refused = counter("spool_refused_total", "Updates, or undecodable records, of the spool put aside in files.")
	m.damaged = counter("spool_damaged_total", "Places of the spool that could not be read.")
	gauge("spool_open", "1 while webhooks go to the spool.", func(st Spooled) float64 { return indicator(st.Open) })
	gauge("spool_records", "Groups of webhooks that wait in the spool.", func(st Spooled) float64 { return float64(st.Records) })
	gauge("spool_bytes", "Size of all files of the spool.", func(st Spooled) float64 { return float64(st.Bytes) })
	gauge("spool_oldest_seconds", "Age of what has waited longest in the spool.", func(st Spooled) float64 { return st.Oldest.Seconds() })
	return m
}

func (m *spoolMetrics) register(reg prometheus.Registerer) error {
	return registerAll(reg, m.collectors)
}

func (m *spoolMetrics) unregister(reg prometheus.Registerer) {
	if reg == nil {
		return
	}
	for _, c := range m.collectors {
		reg.Unregister(c)
	}
}
