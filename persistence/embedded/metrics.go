package embedded

import "github.com/prometheus/client_golang/prometheus"

// metrics are the store's own; what waits is read from the indexes when they
// are asked for.
type metrics struct {
	appended, committed, conflicts, folded, merged, unmerged prometheus.Counter

	registerer prometheus.Registerer
	all        []prometheus.Collector
}

func newMetrics(to prometheus.Registerer, s *Store) metrics {
	m := metrics{registerer: to}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "parley", Subsystem: "store", Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	m.appended = counter("events_appended_total", "Events made durable in the inbox.")
	m.committed = counter("commits_total", "Commits of turns that were taken.")
	m.conflicts = counter("commit_conflicts_total", "Commits refused because the conversation or its inbox had moved.")
	m.folded = counter("receipts_folded_total", "Receipts folded into deliveries.")
	m.merged = counter("conversations_merged_total", "Conversations merged into an older one of the same contact.")
	m.unmerged = counter("contacts_unmerged_total", "Events whose contact keys mean several conversations that could not be merged: one has absorbed as many as it may, or was stored by a newer program.")
	gauge := func(name, help string, f func() int) {
		m.all = append(m.all, prometheus.NewGaugeFunc(
			prometheus.GaugeOpts{Namespace: "parley", Subsystem: "store", Name: name, Help: help},
			func() float64 {
				s.mu.Lock()
				defer s.mu.Unlock()
				return float64(f())
			}))
	}
	gauge("pending", "Inbox rows that have not taken effect.", func() int { return s.arrived.live })
	gauge("unsent", "Messages in the outbox.", func() int { return s.counts.unsent })
	gauge("calls", "Calls of services that are not answered.", func() int { return len(s.calling.byID) })
	gauge("oldest_call_seconds", "Time since the turn that decided the oldest call which is not answered.", func() int { return int(s.backlog().OldestCall.Seconds()) })
	gauge("timers", "Live timers.", func() int { return s.counts.timers })
	gauge("receipts", "Receipts not yet folded.", func() int { return s.counts.receipts })
	gauge("quarantined", "Updates in quarantine.", func() int { return s.counts.quarantined })
	gauge("dead_letters", "Dead letters.", func() int { return s.counts.dead })
	if to != nil {
		to.MustRegister(m.all...)
	}
	return m
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}
