package postgres

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// metrics are the store's own. The gauges are asked of the database when they are
// read, as estimates where counting would read a whole table.
type metrics struct {
	appended, committed, conflicts, folded, merged, unmerged prometheus.Counter

	registerer prometheus.Registerer
	all        []prometheus.Collector
}

func newMetrics(s *Store) *metrics {
	m := &metrics{}
	counter := func(name, help string) prometheus.Counter {
		c := prometheus.NewCounter(prometheus.CounterOpts{Namespace: "parley", Subsystem: "store", Name: name, Help: help})
		m.all = append(m.all, c)
		return c
	}
	m.appended = counter("events_appended_total", "Events made durable in the inbox.")
	m.committed = counter("commits_total", "Commits of turns that were taken.")
	m.conflicts = counter("commit_conflicts_total", "Commits refused because the conversation or its inbox had moved.")
	m.folded = counter("receipts_folded_total", "Receipts folded into deliveries.")
	m.merged = counter("conversations_merged_total", "Conversations merged into others because their contacts turned out to be one.")
	m.unmerged = counter("contacts_unmerged_total", "Events whose contact keys mean two conversations that are not merged: one has absorbed too many, is locked, or was stored by a newer program.")
	m.all = append(m.all, newVitals(s))
	return m
}

// committedAll counts a group.
func (m *metrics) committedAll(errs []error) {
	taken := 0
	for _, err := range errs {
		if err == nil {
			taken++
		}
	}
	m.committed.Add(float64(taken))
	m.conflicts.Add(float64(len(errs) - taken))
}

func (m *metrics) register(to prometheus.Registerer) error {
	if to == nil {
		return nil
	}
	m.registerer = to
	for _, c := range m.all {
		if err := to.Register(c); err != nil {
			m.unregister()
			return fmt.Errorf("register metrics: %w", err)
		}
	}
	return nil
}

func (m *metrics) unregister() {
	if m.registerer == nil {
		return
	}
	for _, c := range m.all {
		m.registerer.Unregister(c)
	}
}

// vitalsTimeout bounds what a scrape of metrics waits for the database.
const vitalsTimeout = 2 * time.Second

// vitalsSQL counts by the statistics of the tables. The oldest transaction of the
// whole server is here because it is what makes queue tables grow: nothing that
// was deleted after it began can be cleaned up.
const vitalsSQL = `
select
    (select greatest(` + clock + ` - b.received, 0) from parley.inbox b order by b.received limit 1),
    (select greatest(` + clock + ` - c.at, 0) from parley.call c order by c.id limit 1),
    coalesce((select max(age(backend_xmin)) from pg_stat_activity), 0),
    coalesce((select max(extract(epoch from clock_timestamp() - xact_start)) from pg_stat_activity where backend_xmin is not null), 0),
    coalesce((select sum(n_dead_tup) from pg_stat_user_tables where schemaname = 'parley'), 0),
    (select n_live_tup from pg_stat_user_tables where relid = 'parley.inbox'::regclass),
    (select n_live_tup from pg_stat_user_tables where relid = 'parley.outbox'::regclass),
    (select n_live_tup from pg_stat_user_tables where relid = 'parley.call'::regclass),
    (select n_live_tup from pg_stat_user_tables where relid = 'parley.timer'::regclass),
    (select n_live_tup from pg_stat_user_tables where relid = 'parley.receipt'::regclass),
    (select n_live_tup from pg_stat_user_tables where relid = 'parley.dead'::regclass),
    coalesce((select sum(n_live_tup) from pg_stat_user_tables where relid in (
        select inhrelid from pg_inherits where inhparent = 'parley.quarantine'::regclass)), 0)`

// vitals are gauges with one query behind all of them.
type vitals struct {
	store   *Store
	gauges  []*prometheus.Desc
	pools   *prometheus.Desc
	daysOut *prometheus.Desc
}

func newVitals(s *Store) *vitals {
	v := &vitals{store: s}
	name := func(of string) string { return prometheus.BuildFQName("parley", "store", of) }
	for _, g := range [][2]string{
		{"oldest_pending_seconds", "Age of the oldest event that has not taken effect."},
		{"oldest_call_seconds", "Time since the turn that decided the oldest call which is not answered."},
		{"oldest_xmin_transactions", "Age of the oldest transaction that holds back cleaning up, in transactions."},
		{"oldest_transaction_seconds", "How long the oldest such transaction has been open."},
		{"dead_rows", "Rows that are deleted and not yet cleaned up (estimate)."},
		{"pending", "Inbox rows that have not taken effect (estimate)."},
		{"unsent", "Messages in the outbox (estimate)."},
		{"calls", "Calls of services that are not answered (estimate)."},
		{"timers", "Live timers (estimate)."},
		{"receipts", "Receipts not yet folded (estimate)."},
		{"dead_letters", "Dead letters (estimate)."},
		{"quarantined", "Updates in quarantine (estimate)."},
	} {
		v.gauges = append(v.gauges, prometheus.NewDesc(name(g[0]), g[1], nil, nil))
	}
	v.pools = prometheus.NewDesc(name("connections"), "Connections to the database, by pool and state.", []string{"pool", "state"}, nil)
	v.daysOut = prometheus.NewDesc(name("days_ahead"), "For how many days from now tables by day are made.", nil, nil)
	return v
}

// Describe names the gauges.
func (v *vitals) Describe(to chan<- *prometheus.Desc) {
	for _, g := range v.gauges {
		to <- g
	}
	to <- v.pools
	to <- v.daysOut
}

// Collect asks the database. What it doesn't answer is missing, which is what a
// missing answer should look like.
func (v *vitals) Collect(to chan<- prometheus.Metric) {
	ctx, cancel := context.WithTimeout(context.Background(), vitalsTimeout) //nolint:forbidigo // a scrape brings no context
	defer cancel()
	if err := errors.Join(v.collectRows(ctx, to), v.collectDays(ctx, to)); err != nil {
		v.store.cfg.Logger.WarnContext(ctx, "read metrics of the database", "error", err)
	}
	for name, p := range map[string]interface {
		AcquiredConns() int32
		IdleConns() int32
	}{"entrance": v.store.entrance.Stat(), "work": v.store.work.Stat()} {
		to <- prometheus.MustNewConstMetric(v.pools, prometheus.GaugeValue, float64(p.AcquiredConns()), name, "busy")
		to <- prometheus.MustNewConstMetric(v.pools, prometheus.GaugeValue, float64(p.IdleConns()), name, "idle")
	}
}

func (v *vitals) collectRows(ctx context.Context, to chan<- prometheus.Metric) error {
	values := make([]*float64, len(v.gauges))
	targets := make([]any, len(values))
	for i := range values {
		targets[i] = &values[i]
	}
	b := v.store.begin()
	b.row(targets, vitalsSQL, v.store.now())
	if err := v.store.send(ctx, v.store.work, b); err != nil {
		return failure("read statistics", err)
	}
	scale := []float64{0.001, 0.001} // the first are in ms
	for i, value := range values {
		n := 0.0
		if value != nil {
			n = *value
		}
		if i < len(scale) {
			n *= scale[i]
		}
		to <- prometheus.MustNewConstMetric(v.gauges[i], prometheus.GaugeValue, n)
	}
	return nil
}

func (v *vitals) collectDays(ctx context.Context, to chan<- prometheus.Metric) error {
	ahead, err := v.store.daysAhead(ctx)
	if err == nil {
		to <- prometheus.MustNewConstMetric(v.daysOut, prometheus.GaugeValue, float64(ahead))
	}
	return err
}
