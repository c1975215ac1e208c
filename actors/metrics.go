package actors

import (
	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promauto"

	"github.com/parleychat/parley"
)

// metrics of the package; their names and help texts are documented by /metrics.
type metrics struct {
	turns, events, dead, conflicts, failed  prometheus.Counter
	loads, woken, fired, dropped, abandoned prometheus.Counter
	forwarded, passedOn, handedOver, slept  prometheus.Counter
	tried, unknown, unreadable              prometheus.Counter
	openFailures, announced                 prometheus.Counter
	putOff                                  *prometheus.CounterVec
	groups, delay                           prometheus.Histogram
}

func newMetrics(r prometheus.Registerer, h *Host) *metrics {
	f := promauto.With(r)
	counter := func(name, help string) prometheus.Counter {
		return f.NewCounter(prometheus.CounterOpts{Namespace: "parley", Subsystem: "actors", Name: name, Help: help})
	}
	gauge := func(name, help string, value func() float64) {
		f.NewGaugeFunc(prometheus.GaugeOpts{Namespace: "parley", Subsystem: "actors", Name: name, Help: help}, value)
	}
	gauge("live_conversations", "Conversations in memory.", func() float64 { return float64(h.live.Load()) })
	gauge("hinted_rows", "Inbox rows in memory, on their way to actors or with them.", func() float64 { return float64(h.crowd.rows.Load()) })
	gauge("endless_turns", "Abandoned turns that still run.", func() float64 { return float64(h.turns.lost.Load()) })
	gauge("held_shards", "Shards that this node runs.", func() float64 { return float64(h.territory.in(held)) })
	gauge("claiming_shards", "Shards that this node is about to run.", func() float64 { return float64(h.territory.in(claiming)) })
	gauge("releasing_shards", "Shards that this node lets go of.", func() float64 { return float64(h.territory.in(releasing)) })
	putOff := f.NewCounterVec(prometheus.CounterOpts{
		Namespace: "parley", Subsystem: "actors", Name: "turns_put_off_total",
		Help: "Turns put off, to be tried again after at most 2 s: not everybody reads what they would store, or they don't read what is.",
	}, []string{"why"})
	for _, why := range []parley.PutOff{newerForm, parley.NewerState, parley.OlderReaders} {
		putOff.WithLabelValues(string(why))
	}
	return &metrics{
		putOff:       putOff,
		turns:        counter("turns_total", "Turns committed."),
		events:       counter("events_total", "Inbox rows consumed by committed turns, repeated ones included."),
		dead:         counter("dead_letters_total", "Events that no behaviour could handle."),
		conflicts:    counter("conflicts_total", "Commits refused because the conversation or its inbox had moved."),
		failed:       counter("commit_failures_total", "Commits whose outcome the store did not tell, or that it could not write."),
		loads:        counter("loads_total", "Conversations loaded."),
		woken:        counter("woken_total", "Conversations woken by the sweeper because rows had waited."),
		fired:        counter("timers_fired_total", "Due timers moved to inboxes."),
		dropped:      counter("hints_dropped_total", "Rows not hinted because too many were on their way; the sweeper finds them."),
		forwarded:    counter("forwarded_total", "Times that the actor of a merged conversation passed on to its survivor's."),
		passedOn:     counter("passed_on_total", "Rows passed on by this node since it doesn't run their shard."),
		handedOver:   counter("shards_taken_total", "Shards that this node has begun to run."),
		slept:        counter("slept_total", "Times that this process found that it hadn't run for longer than the others wait."),
		tried:        counter("suspects_tried_total", "Rows run with the suspicion that a process has died of them."),
		unknown:      counter("unknown_total", "Parcels from other nodes with something in them that this program doesn't know."),
		unreadable:   counter("unreadable_total", "Parcels from other nodes of which something couldn't be read, or to them, written."),
		announced:    counter("sent_announced_total", "Messages of which another node was told that they are sent, as the store was out of reach; each several times."),
		openFailures: counter("takeover_failures_total", "Times that the store couldn't be asked for what waits in shards taken over."),
		abandoned:    counter("turns_abandoned_total", "Turns that did not come to an end."),
		groups: f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "parley", Subsystem: "actors", Name: "commit_group_turns",
			Help: "Turns that shared one transaction.", Buckets: prometheus.ExponentialBuckets(1, 2, 9),
		}),
		delay: f.NewHistogram(prometheus.HistogramOpts{
			Namespace: "parley", Subsystem: "actors", Name: "turn_delay_seconds",
			Help:    "From when the first of a turn's rows was stored, by the store's clock, until the turn was committed, by this node's.",
			Buckets: delayBuckets(),
		}),
	}
}

// newRefused is the one metric of a Remote.
func newRefused(r prometheus.Registerer) func(int) {
	n := promauto.With(r).NewCounter(prometheus.CounterOpts{
		Namespace: "parley", Subsystem: "actors", Name: "messages_refused_total",
		Help: "Messages of other nodes that this program doesn't know, or that nodes may not send.",
	})
	return func(more int) { n.Add(float64(more)) }
}

// delayBuckets have bounds where something is promised of delays: 300 ms while a node
// drains, 1 s for what the sweeper finds.
func delayBuckets() []float64 {
	return []float64{.001, .002, .005, .01, .02, .05, .1, .2, .3, .5, 1, 2, 5, 10, 30}
}
