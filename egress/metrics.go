package egress

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/parleychat/parley"
)

// metrics of the package; their names and help texts are documented by /metrics.
// Counters with labels are resolved once: a look-up costs as much as a claim.
type metrics struct {
	outcomes map[parley.OutcomeKind]prometheus.Counter
	answers  map[AnswerKind]prometheus.Counter
	paused   map[Reason]prometheus.Gauge
	failures map[ActionKind]prometheus.Counter
	held     map[Limit]prometheus.Counter
	returned map[parley.Failure]prometheus.Counter

	doubtful, forgotten, reported, recalled, folded, starved, slowed prometheus.Counter
	call, age                                                        prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, m *Manager) *metrics {
	f := promauto.With(r)
	opts := func(name, help string) prometheus.Opts {
		return prometheus.Opts{Namespace: "parley", Subsystem: "egress", Name: name, Help: help}
	}
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts(opts(name, help)))
	}
	seconds := func(name, help string) prometheus.Histogram {
		return f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "parley", Subsystem: "egress", Name: name, Help: help,
			Buckets: prometheus.ExponentialBuckets(0.002, 2, 16),
		})
	}
	f.NewGaugeFunc(prometheus.GaugeOpts(opts("in_flight", "Messages that are with the provider.")),
		func() float64 { return float64(m.places.taken()) })
	f.NewGaugeFunc(prometheus.GaugeOpts(opts("active_channels", "Channels that have something to send or to fold.")),
		func() float64 { return float64(m.active()) })
	out := &metrics{
		doubtful:  counter("doubtful_total", "Messages handed over although an earlier attempt may have been taken."),
		forgotten: counter("forgotten_total", "Attempts whose outcome was not noted because the lease was lost."),
		reported:  counter("reported_total", "Messages reported as sent to whoever has the lease now."),
		recalled:  counter("recalled_total", "Messages that the store held for attempted and their sender didn't: the store has gone back in time."),
		folded:    counter("receipts_folded_total", "Receipts folded into deliveries."),
		starved:   counter("starved_total", "Claims put off because the node had no place for another call."),
		slowed:    counter("slowed_total", "Times that the provider made a channel lower its pace."),
		call:      seconds("call_seconds", "How long the provider took for a message."),
		age:       seconds("age_seconds", "From the turn that decided a message to the provider's acceptance."),
	}
	out.resolve(f, opts)
	return out
}

func (m *metrics) resolve(f promauto.Factory, opts func(name, help string) prometheus.Opts) {
	outcomes := f.NewCounterVec(prometheus.CounterOpts(opts("sends_total", "Attempts by their durable outcome.")), []string{"outcome"})
	m.outcomes = map[parley.OutcomeKind]prometheus.Counter{
		parley.Sent:    outcomes.WithLabelValues("sent"),
		parley.Retry:   outcomes.WithLabelValues("retry"),
		parley.Refused: outcomes.WithLabelValues("refused"),
		parley.Doubt:   outcomes.WithLabelValues("doubt"),

		parley.Returned: outcomes.WithLabelValues("returned"),
	}
	returned := f.NewCounterVec(prometheus.CounterOpts(opts("returned_total", "Messages that were not sent and whose bots were told so, by reason.")), []string{"why"})
	m.returned = make(map[parley.Failure]prometheus.Counter)
	for _, why := range []parley.Failure{parley.WindowClosed, parley.OptedOut, parley.OutcomeUnknown, parley.TakenOver} {
		m.returned[why] = returned.WithLabelValues(string(why))
	}
	answers := f.NewCounterVec(prometheus.CounterOpts(opts("answers_total", "Answers of the provider by kind.")), []string{"answer"})
	m.answers = make(map[AnswerKind]prometheus.Counter)
	for k := Accepted; k <= Barred; k++ {
		m.answers[k] = answers.WithLabelValues(k.String())
	}
	paused := f.NewGaugeVec(prometheus.GaugeOpts(opts("paused_channels", "Channels that pause, by reason.")), []string{"reason"})
	m.paused = make(map[Reason]prometheus.Gauge)
	for _, why := range []Reason{Throttled, Dead, Silent} {
		m.paused[why] = paused.WithLabelValues(string(why))
	}
	held := f.NewCounterVec(prometheus.CounterOpts(opts("held_total", "Claimed messages put back for a limit of their own, by limit.")), []string{"limit"})
	m.held = make(map[Limit]prometheus.Counter)
	for _, l := range []Limit{PairLimit, MediaLimit, DeliveryLimit} {
		m.held[l] = held.WithLabelValues(string(l))
	}
	failures := f.NewCounterVec(prometheus.CounterOpts(opts("store_failures_total", "Failures of the store, by step; leases that another holds are none.")), []string{"step"})
	m.failures = make(map[ActionKind]prometheus.Counter)
	for _, k := range []ActionKind{TakeLease, Claim, Settle, Fold, Report} {
		m.failures[k] = failures.WithLabelValues(k.String())
	}
}

func (m *metrics) answered(a Answer) {
	if c := m.answers[a.Kind]; c != nil {
		c.Inc()
	}
	if a.Kind != Withheld && a.Kind != Barred {
		m.call.Observe(a.Took.Seconds())
	}
	if a.Kind == Accepted {
		m.age.Observe(a.Age.Seconds())
	}
}

func (m *metrics) settled(outcomes []parley.Outcome) {
	for i := range outcomes {
		m.outcomes[outcomes[i].Kind].Inc()
		if c := m.returned[outcomes[i].Why]; c != nil {
			c.Inc()
		}
	}
}
