package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/meta/metatest"
)

const (
	soakRate       = 500 // messages per second
	soakEvery      = 10 * time.Second
	soakDuplicates = 0.05
	soakSpare      = 5 * time.Minute // beside its length: to start, and to answer what is owed
	soakAnswer     = 5 * time.Second // for the node to say that it is alive

	// What is small may grow by so much without being a leak.
	soakTableSlack = 1 << 20
	soakRSSSlack   = 16 << 20
)

// checkSoak: each third must hold some samples, and some rounds of autovacuum.
func checkSoak(length time.Duration) error {
	if least := levelSamples * soakEvery; length < least {
		return fmt.Errorf("a soak of %s: want at least %s", length, least)
	}
	return nil
}

// soak runs a node on PostgreSQL for long, with all of Meta's ordinary troubles,
// and looks every few seconds at what should be empty most of the time. It is an
// error if any of that goes on growing, or if the node breaks a promise.
func soak(ctx context.Context, c config) error {
	before := rounds.ReadConditions(c.folder)
	samples, err := c.soakOn(ctx, os.Stdout, soakRate, soakEvery)
	if err != nil {
		return err
	}
	after := rounds.ReadConditions(c.folder)
	fmt.Printf("\nrevision %s, %s, %s, %d cores, %s\nload %s before, %s after; stores in %s (%s)\n",
		before.Revision, before.Go, before.System, before.Cores, before.CPU, before.Load, after.Load, before.Folder, before.Filesystem)
	for _, line := range c.server.conditions() {
		fmt.Println(line)
	}
	fmt.Printf("%s at %d messages per second, a sample every %s\n\n", c.soak, soakRate, soakEvery)
	growing, err := writeLevels(os.Stdout, levels(samples))
	if err == nil && len(growing) > 0 {
		err = fmt.Errorf("%s: not level after %s", strings.Join(growing, ", "), c.soak)
	}
	return err
}

// soakOn runs it at a rate, and returns what was seen of it every so often.
func (c config) soakOn(ctx context.Context, out io.Writer, rate float64, every time.Duration) (samples []sample, err error) {
	l, leave, err := c.lodge(ctx, storePostgres)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, leave()) }()
	simulation := metatest.Sized(rate, 0)
	simulation.Duration, simulation.Duplicates = c.soak, soakDuplicates
	simulator, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: simulation}) //nolint:contextcheck // its Run has the context
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, simulator.Close()) }()
	node, err := startNode(ctx, l, brand, simulator)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, node.stop()) }()
	simulator.SetTarget("http://" + node.webhooks)
	samples, err = (&soaking{stage: stage{l: l, nodes: fleet{node}, simulator: simulator}, out: out, length: c.soak, every: every}).run(ctx)
	if err != nil {
		return nil, err
	}
	_, err = stage{simulator: simulator}.verdict()
	return samples, err
}

// soaking is a soak under way.
type soaking struct {
	stage
	out     io.Writer
	length  time.Duration
	every   time.Duration
	samples []sample
	cpu     time.Duration // of node and server, at the last sample
	effects int
}

// run plays the simulation, and takes samples as long as messages come in.
func (s *soaking) run(ctx context.Context) ([]sample, error) {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	played := make(chan error, 1)
	go func() { played <- s.simulator.Run(ctx) }()
	ticks := time.NewTicker(s.every)
	defer ticks.Stop()
	began := time.Now()
	for {
		select {
		case err := <-played:
			return s.samples, err
		case now := <-ticks.C:
			if now.Sub(began) > s.length+s.every/2 {
				continue // only what is owed is waited for
			}
			if err := s.look(ctx, now.Sub(began)); err != nil {
				stop()
				return nil, errors.Join(err, <-played)
			}
		}
	}
}

// look takes a sample and prints it.
func (s *soaking) look(ctx context.Context, at time.Duration) error {
	x := sample{at: at, every: s.every}
	err := errors.Join(s.alive(ctx), s.l.base.with(ctx, s.l.base.name, x.readTables))
	if err != nil {
		return fmt.Errorf("after %s: %w", at.Round(time.Second), err)
	}
	node, err := s.nodes.cpu()
	if err != nil {
		return err
	}
	server, err := s.l.base.running.CPU()
	if err != nil {
		return err
	}
	effects := s.simulator.Progress().Effects
	x.turns, x.rss = effects-s.effects, residentBytes(s.nodes[0].cmd.Process.Pid)
	x.turn = micros(node+server-s.cpu) / float64(max(1, x.turns))
	s.cpu, s.effects = node+server, effects
	s.samples = append(s.samples, x)
	return x.write(s.out, len(s.samples) == 1)
}

// alive sees that the node answers: the simulator would post for ever.
func (s *soaking) alive(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, soakAnswer)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+s.nodes[0].admin+"/livez", http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("the node doesn't answer: %w\n%s", err, s.nodes[0].log())
	}
	return response.Body.Close()
}

// soaked are the tables that are watched: those that turns fill and empty.
func soaked() []string { return []string{"inbox", "outbox", "receipt", "timer"} }

// sample is what was there at a time.
type sample struct {
	at     time.Duration
	every  time.Duration
	turns  int     // since the last one
	turn   float64 // CPU of a turn since the last one, in µs; node and server
	tables []tableSize
	rest   int64 // bytes of the database that are not in these: conversations, history, deliveries
	rss    uint64
}

// tableSize is a table's size with its indexes, and its rows as PostgreSQL's
// statistics know them.
type tableSize struct{ bytes, live, dead int64 }

const soakSQL = `
select pg_total_relation_size(c.oid), s.n_live_tup, s.n_dead_tup, pg_database_size(current_database())
from unnest($1::text[]) with ordinality as t (name, i)
join pg_class c on c.oid = ('parley.' || t.name)::regclass
join pg_stat_user_tables s on s.relid = c.oid
order by t.i`

func (x *sample) readTables(ctx context.Context, c *pgx.Conn) error {
	rows, err := c.Query(ctx, soakSQL, soaked())
	if err != nil {
		return fmt.Errorf("sizes of tables: %w", err)
	}
	defer rows.Close()
	var all, watched int64
	for rows.Next() {
		var t tableSize
		if err := rows.Scan(&t.bytes, &t.live, &t.dead, &all); err != nil {
			return fmt.Errorf("sizes of tables: %w", err)
		}
		watched += t.bytes
		x.tables = append(x.tables, t)
	}
	x.rest = all - watched
	return rows.Err()
}

const mib = 1 << 20

// write prints the sample as a line, below a head if it is the first.
func (x *sample) write(w io.Writer, first bool) error {
	var text strings.Builder
	if first {
		fmt.Fprintf(&text, "%8s %8s %8s", "after", "turns/s", "µs/turn")
		for _, name := range soaked() {
			fmt.Fprintf(&text, " | %7s MiB %6s %6s", name, "live", "dead")
		}
		fmt.Fprintf(&text, " | %8s %8s\n", "rest MiB", "RSS MiB")
	}
	fmt.Fprintf(&text, "%8s %8.0f %8.0f", x.at.Round(time.Second), float64(x.turns)/x.every.Seconds(), x.turn)
	for _, t := range x.tables {
		fmt.Fprintf(&text, " | %11.2f %6d %6d", float64(t.bytes)/mib, t.live, t.dead)
	}
	fmt.Fprintf(&text, " | %8.0f %8.0f\n", float64(x.rest)/mib, float64(x.rss)/mib)
	_, err := io.WriteString(w, text.String())
	return err
}

// levels are the series that must level off.
func levels(samples []sample) []series {
	var all []series
	for i, name := range soaked() {
		s := series{name: name, unit: "MiB", slack: float64(soakTableSlack) / mib}
		for _, x := range samples {
			s.values = append(s.values, float64(x.tables[i].bytes)/mib)
		}
		all = append(all, s)
	}
	rss := series{name: "RSS of the node", unit: "MiB", slack: float64(soakRSSSlack) / mib}
	for _, x := range samples {
		rss.values = append(rss.values, float64(x.rss)/mib)
	}
	return append(all, rss)
}
