package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

type demoCommand struct {
	Rate           float64       `default:"500" help:"Messages per second, by schedule, whatever the node does."`
	Users          int           `help:"Simulated users; sized from the rate if 0, so that no limit of Meta binds."`
	Duration       time.Duration `default:"15s" help:"How long the users write."`
	Duplicates     float64       `default:"0.1" help:"Fraction of posts that Meta delivers again (0 to 1)."`
	Faults         float64       `default:"0.01" help:"Fraction of sends that the simulated Graph API refuses for a time, and of those whose answer it withholds."`
	Kill           int           `help:"Kill the node with SIGKILL this many times, at random moments, and start it again."`
	Store          string        `default:"embedded" env:"-" enum:"embedded,postgres" help:"The node's store: embedded or postgres. Without --database a PostgreSQL server of the demonstration's own is started, with fsync on, and stopped at the end."`
	Move           bool          `env:"-" help:"Begin with the embedded store, and at half time drain the node, copy its store to PostgreSQL and go on there."`
	Database       string        `placeholder:"PLACE" env:"-" help:"Where the connection string of a database is found that the demonstration may have to itself: env:NAME or file:PATH."`
	KillPostgres   int           `help:"Kill the demonstration's own PostgreSQL with SIGKILL this many times, at random moments, and start it again."`
	PostgresOutage time.Duration `help:"How long it is away each time; random between 0.5 and 2 s if 0."`
	DoubtfulWait   time.Duration `default:"5s" help:"Wait before a message whose answer was lost is sent again."`
	Grace          time.Duration `default:"30s" help:"How long to wait at the end for what is owed."`
	Seed           uint64        `help:"Seed of the simulation; random if 0."`
	Unit           bool          `help:"Also measure the bare server of the benchmarks, to compare CPU."`
	JSON           bool          `name:"json" help:"Print one JSON object instead of the table."`
	Dir            string        `type:"path" help:"Folder for the temporary store, configuration and log; kept if the verdict isn't clean."`
}

// report is what the demo found. The verdict is the simulator's own.
type report struct {
	metatest.Verdict
	Clean         bool    `json:"clean"`
	Store         string  `json:"store"`
	Late          int     `json:"late"`                  // events that were acknowledged from the node's spool, by its own count
	PostgresKills int     `json:"postgres_kills"`        // kill -9 of PostgreSQL
	MovedItems    uint64  `json:"moved_items,omitempty"` // that were copied from the embedded store to PostgreSQL
	MovedSeconds  float64 `json:"moved_seconds,omitempty"`
	Seed          uint64  `json:"seed"`
	Seconds       float64 `json:"seconds"`
	CPUPer        float64 `json:"cpu_us_per_turn"`                    // CPU of the node's processes, starts included, per effect
	CPUDatabase   float64 `json:"cpu_us_per_turn_database,omitempty"` // CPU of the demonstration's own PostgreSQL, per effect
	CPUUnit       float64 `json:"cpu_us_unit,omitempty"`              // of the bare server, per request
	Rate          float64 `json:"rate"`
	Users         int     `json:"users"`
	Channels      int     `json:"channels"`
	Processes     int     `json:"processes"` // of the node, one after the other
}

// Run starts a node as a child process, plays Meta and its users against it
// over real sockets, and prints the verdict. Exit code 1: a promise was broken.
func (c *demoCommand) Run(ctx context.Context, sys *system) (err error) {
	if c.Seed == 0 {
		c.Seed = rand.Uint64()
	}
	dir, err := os.MkdirTemp(c.Dir, "parley-demo-")
	if err != nil {
		return fmt.Errorf("make a folder for the demo: %w", err)
	}
	keep := false
	defer func() {
		if !keep {
			err = errors.Join(err, os.RemoveAll(dir))
		}
	}()
	r, err := c.play(ctx, dir, sys.errors)
	if err != nil {
		return fmt.Errorf("%w\n%s", err, logTail(dir))
	}
	if c.Unit {
		if r.CPUUnit, err = measureUnit(ctx, c.Rate); err != nil {
			return err
		}
	}
	if err := c.print(sys.out, r); err != nil {
		return err
	}
	if !r.Clean {
		keep = true
		_, _ = fmt.Fprintf(sys.errors, "What the node has stored here, and the logs, are kept in %s\n", dir)
		return exitError{code: exitFailed}
	}
	return nil
}

func (c *demoCommand) world() metatest.Config {
	cfg := metatest.Sized(c.Rate, c.Users)
	cfg.Seed, cfg.Duration, cfg.Duplicates = c.Seed, c.Duration, c.Duplicates
	cfg.Faults.Transient, cfg.Faults.Throttled, cfg.Faults.Withheld = c.Faults, 0, c.Faults
	return cfg
}

func (c *demoCommand) play(ctx context.Context, dir string, progress io.Writer) (r report, err error) {
	sim, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: c.world(), Grace: c.Grace}) //nolint:contextcheck // its socket outlives no call of ours
	if err != nil {
		return report{}, err
	}
	store, err := c.openStore(ctx, dir, sim)
	defer func() {
		spent, closed := store.close(ctx)
		if r.Effects > 0 {
			r.CPUDatabase = float64(spent.Microseconds()) / float64(r.Effects)
		}
		err = errors.Join(err, closed)
	}()
	if err != nil {
		return report{}, errors.Join(err, sim.Close())
	}
	child, err := newChild(ctx, dir, sim, store, Config{DoubtfulWait: c.DoubtfulWait})
	if err != nil {
		return report{}, err
	}
	if err := child.start(ctx); err != nil {
		return report{}, err
	}
	sim.SetTarget(child.url())
	began := time.Now() //nolint:forbidigo // the demo watches real processes
	kills, err := c.perform(ctx, sim, store, child, progress)
	if err != nil {
		return report{}, err
	}
	v := sim.Verdict()
	r = report{
		Verdict: v, Clean: v.Clean(), Seed: c.Seed, Rate: c.Rate, Users: sim.Config().Users, Channels: len(sim.Channels()),
		Seconds: time.Since(began).Seconds(), Processes: child.processes, //nolint:forbidigo // as above
		Store: store.kind, Late: child.late, PostgresKills: kills, MovedItems: store.moved, MovedSeconds: store.moving.Seconds(),
	}
	if v.Effects > 0 {
		r.CPUPer = float64(child.cpu.Microseconds()) / float64(v.Effects)
	}
	return r, nil
}

// perform plays the simulation, kills what is to be killed meanwhile, and lets
// the node drain at the end.
func (c *demoCommand) perform(ctx context.Context, sim *metatest.Simulator, store *demoStore, child *child, progress io.Writer) (kills int, err error) {
	playing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	played := make(chan error, 1)
	go func() { played <- sim.Run(playing) }()
	killing := make(chan error, 1)
	go func() {
		var failed error
		kills, failed = c.outages(playing, store, sim, progress)
		if failed != nil {
			stop(failed)
		}
		killing <- failed
	}()
	err = c.watch(playing, sim, child, progress, played)
	stop(nil)
	outage := <-killing // before the node, which drains into the database
	return kills, errors.Join(err, outage, child.stop(ctx))
}

// watch shows the progress once a second and kills the node at its appointed
// times, until the simulation is over.
func (c *demoCommand) watch(ctx context.Context, sim *metatest.Simulator, child *child, w io.Writer, played <-chan error) error {
	tick := time.NewTicker(time.Second) //nolint:forbidigo // the demo's clock
	defer tick.Stop()
	kills := c.moments(rand.New(rand.NewPCG(c.Seed, 99)), c.Kill)
	next := time.NewTimer(untilKill(&kills, 0)) //nolint:forbidigo // as above
	defer next.Stop()
	half := time.NewTimer(c.untilMove()) //nolint:forbidigo // as above
	defer half.Stop()
	began := time.Now() //nolint:forbidigo // as above
	for {
		select {
		case err := <-played:
			return err
		case err := <-child.died:
			return fmt.Errorf("the node ended by itself: %w", err)
		case <-tick.C:
			child.count(ctx)
			showProgress(w, time.Since(began), sim.Progress()) //nolint:forbidigo // as above
		case <-half.C:
			if err := child.move(ctx, w); err != nil {
				return err
			}
		case <-next.C:
			_, _ = fmt.Fprintln(w, "  kill -9")
			child.count(ctx)
			sim.Killed(child.kill())
			if err := child.start(ctx); err != nil {
				return err
			}
			next.Reset(untilKill(&kills, time.Since(began))) //nolint:forbidigo // as above
		}
	}
}

// moments are random, within the duration, in order.
func (c *demoCommand) moments(rng *rand.Rand, n int) []time.Duration {
	times := make([]time.Duration, n)
	for i := range times {
		times[i] = time.Duration((0.05 + 0.9*rng.Float64()) * float64(c.Duration))
	}
	slices.Sort(times)
	return times
}

func untilKill(times *[]time.Duration, now time.Duration) time.Duration {
	if len(*times) == 0 {
		return never
	}
	d := (*times)[0] - now
	*times = (*times)[1:]
	return max(d, 0)
}

func showProgress(w io.Writer, at time.Duration, p metatest.Progress) {
	_, _ = fmt.Fprintf(w, "%4.0fs  offered %7d  acked %7d  effects %7d  sends %7d  rings %6d  ack p50 %6.1f ms  p99 %7.1f ms\n",
		at.Seconds(), p.Offered, p.Acked, p.Effects, p.Sends, p.Timers, p.AckP50MS, p.AckP99MS)
}

func (c *demoCommand) print(w io.Writer, r report) error {
	if c.JSON {
		enc := json.NewEncoder(w)
		return enc.Encode(r)
	}
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	line := func(name string, value any, note string) { _, _ = fmt.Fprintf(t, "%s\t%v\t%s\n", name, value, note) }
	_, _ = fmt.Fprintln(t)
	line("offered", r.Offered, fmt.Sprintf("messages of %d users on %d channels, %g per second by schedule", r.Users, r.Channels, r.Rate))
	line("acked", r.Acked, fmt.Sprintf("with 200, after %d posts of which %d were repeated by Meta", r.Posts, r.PostsRetried))
	line("effects", r.Effects, "acknowledged messages that took effect")
	line("duplicates", r.Duplicates, "updates delivered again on purpose")
	line("kills", r.Kills, "kill -9 of the node")
	line("store", r.Store, fmt.Sprintf("kill -9 of PostgreSQL: %d; acknowledged from the spool meanwhile: %d", r.PostgresKills, r.Late))
	if r.MovedItems > 0 {
		line("moved", r.MovedItems, fmt.Sprintf("items from the embedded store to PostgreSQL, in %.1f s, and found equal", r.MovedSeconds))
	}
	line("sends", r.Sends, fmt.Sprintf("replies, %d of them repeated, each after a lost answer", r.SendsRepeated))
	line("timers", r.TimersRung, fmt.Sprintf("of %d rang; late by %.0f ms (p50), %.0f ms (p99)", r.TimersSet, r.TimersLateMS.P50, r.TimersLateMS.P99))
	line("ack", fmt.Sprintf("%.1f ms", r.AckMS.P50), fmt.Sprintf("p50; p99 %.1f ms, max %.1f ms, from when each post was due", r.AckMS.P99, r.AckMS.Max))
	line("cpu per turn", fmt.Sprintf("%.0f µs", r.CPUPer), "of the node's processes alone, starts included")
	if r.CPUDatabase > 0 {
		line("of PostgreSQL", fmt.Sprintf("%.0f µs", r.CPUDatabase), "CPU per turn of all its processes")
	}
	if r.CPUUnit > 0 {
		line("in units", fmt.Sprintf("%.1f", r.CPUPer/r.CPUUnit), fmt.Sprintf("of the bare server's %.1f µs per request", r.CPUUnit))
	}
	line("lost", r.Lost, "acknowledged and never took effect")
	line("pending", r.Pending, "acknowledged and not yet taken effect at the end")
	line("doubled", r.EffectsDoubled, "took effect twice")
	line("reordered", r.Reordered, "took effect in another order than acknowledged")
	line("unanswered", r.Unanswered, "reply owed and never sent")
	line("unexplained", r.SendsRepeatedUnexplained, "replies sent twice without a lost answer")
	line("timers wrong", r.TimersEarly+r.TimersDoubled+r.TimersAfterCancel+r.TimersMissing, "early, twice, after cancel, or missing")
	verdict := "every promise kept"
	if !r.Clean {
		verdict = "BROKEN"
	}
	line("verdict", verdict, fmt.Sprintf("seed %d, %.0f s", r.Seed, r.Seconds))
	for _, b := range r.Broken {
		_, _ = fmt.Fprintln(t, "  "+b)
	}
	return t.Flush()
}

// logTail is the end of the logs, for when the demo itself fails.
func logTail(dir string) string {
	const tail = 4096
	var text strings.Builder
	for _, name := range []string{"node.log", "postgres.log"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			_, _ = fmt.Fprintf(&text, "the end of %s:\n%s", name, b[max(0, len(b)-tail):])
		}
	}
	return text.String()
}
