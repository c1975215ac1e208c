package callout

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/parleychat/parley"
)

// unknownLabel stands for all services that aren't configured: their names are the
// bots', and there may be many.
const unknownLabel = "(unknown)"

// metrics of the package; their names and help texts are documented by /metrics.
type metrics struct {
	attempts, answers *prometheus.CounterVec
	call              *prometheus.HistogramVec
	age               prometheus.Histogram
	failures          map[string]prometheus.Counter
	lost              prometheus.Counter
}

// The steps in which the store may fail.
const (
	stepClaim  = "claim"
	stepSettle = "settle"
	stepYield  = "yield" // once, and not counted
)

func newMetrics(r prometheus.Registerer, c *Caller) *metrics {
	f := promauto.With(r)
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "parley", Subsystem: "callout", Name: name, Help: help}
	}
	seconds := func(name, help string) prometheus.HistogramOpts {
		return prometheus.HistogramOpts{
			Namespace: "parley", Subsystem: "callout", Name: name, Help: help, Buckets: prometheus.ExponentialBuckets(0.002, 2, 16),
		}
	}
	m := &metrics{
		attempts: f.NewCounterVec(prometheus.CounterOpts(opts("attempts_total", "Attempts of calls, by service and what came of them: answered, failed or broken_off.")), []string{"service", "result"}),
		answers:  f.NewCounterVec(prometheus.CounterOpts(opts("answers_total", "Answers that conversations got, by service and failure; ok is none.")), []string{"service", "failure"}),
		call:     f.NewHistogramVec(seconds("call_seconds", "How long the service took for an attempt."), []string{"service"}),
		age:      f.NewHistogram(seconds("age_seconds", "From the turn that decided a call to its answer in the inbox.")),
		lost:     f.NewCounter(prometheus.CounterOpts(opts("lost_total", "Outcomes that came to nothing: the claim was lost, or the call cancelled meanwhile."))),
		failures: map[string]prometheus.Counter{},
	}
	failures := f.NewCounterVec(prometheus.CounterOpts(opts("store_failures_total", "Failures of the store, by step.")), []string{"step"})
	for _, step := range []string{stepClaim, stepSettle} {
		m.failures[step] = failures.WithLabelValues(step)
	}
	m.answers.WithLabelValues(unknownLabel, string(parley.CallUnknown))
	for _, s := range c.services {
		m.begin(s)
		labels := prometheus.Labels{"service": s.Name}
		gauge := func(name, help string, read func() float64) {
			o := prometheus.GaugeOpts(opts(name, help))
			o.ConstLabels = labels
			f.NewGaugeFunc(o, read)
		}
		gauge("in_flight", "Calls that are claimed and not settled.", func() float64 { return float64(c.inFlight(s)) })
		gauge("breaker_open", "Whether the service is being left alone, since it doesn't answer well or has asked for it.", func() float64 { return c.open(s) })
	}
	return m
}

// begin shows a service's counters before they count, so that their growth is seen.
func (m *metrics) begin(s *service) {
	for _, result := range []string{resultAnswered, resultFailed, resultBrokenOff} {
		m.attempts.WithLabelValues(s.Name, result)
	}
	for _, failure := range []parley.CallFailure{noFailure, parley.CallRefused, parley.CallGaveUp, parley.CallTooLarge} {
		m.answers.WithLabelValues(s.Name, string(failure))
	}
	m.call.WithLabelValues(s.Name)
}

// What may come of an attempt.
const (
	resultAnswered  = "answered"
	resultFailed    = "failed"
	resultBrokenOff = "broken_off"
)

// noFailure is the label of good answers.
const noFailure = "ok"

func (m *metrics) attempted(s *service, r *reply, brokenOff bool, took time.Duration) {
	result := resultAnswered
	switch {
	case brokenOff:
		result = resultBrokenOff
	case r.failed():
		result = resultFailed
	}
	m.attempts.WithLabelValues(s.Name, result).Inc()
	m.call.WithLabelValues(s.Name).Observe(took.Seconds())
}

func (m *metrics) answered(s *service, in *parley.Called, age time.Duration) {
	name, failure := unknownLabel, noFailure
	if s != nil {
		name = s.Name
	}
	if in.Failure != "" {
		failure = string(in.Failure)
	}
	m.answers.WithLabelValues(name, failure).Inc()
	m.age.Observe(age.Seconds())
}
