package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/meta/metatest/history"
)

type demoCommand struct {
	Rate           float64       `default:"500" help:"Messages per second, by schedule, whatever the node does."`
	Users          int           `help:"Simulated users; sized from the rate if 0, so that no limit of Meta binds."`
	Duration       time.Duration `default:"15s" help:"How long the users write."`
	Duplicates     float64       `default:"0.1" help:"Fraction of posts that Meta delivers again (0 to 1)."`
	Faults         float64       `default:"0.01" help:"Fraction of sends that the simulated Graph API refuses for a time, and of those whose answer it withholds."`
	GraphFaults    string        `default:"" enum:",none,light,heavy" placeholder:"LEVEL" help:"Instead of --faults: none, light (2 % of sends go wrong) or heavy (20 %: 8 refused for a time, 8 accepted with the answer lost, 4 answered after 3 s)."`
	Nodes          int           `default:"1" help:"Nodes that work together, with --store postgres."`
	Kill           int           `help:"Kill a node with SIGKILL this many times, at random moments, and start it again."`
	Stop           int           `help:"Freeze a node (SIGSTOP) this many times, for 1 to 6 s each."`
	Drain          int           `help:"Drain a node this many times, and start it again."`
	Partition      int           `help:"Cut a node off from the others this many times, for 1 to 6 s each; both sides reach PostgreSQL. Needs root: each node gets a network namespace."`
	Store          string        `default:"embedded" env:"-" enum:"embedded,postgres" help:"The node's store: embedded or postgres. Without --database a PostgreSQL server of the demonstration's own is started, with fsync on, and stopped at the end."`
	Move           bool          `env:"-" help:"Begin with the embedded store, and at half time drain the node, copy its store to PostgreSQL and go on there."`
	UpgradeBot     bool          `env:"-" help:"Begin with the previous version of a bot that has two, and start one node after the other with the new one, under load; with --store postgres."`
	UndoUpgrade    bool          `env:"-" help:"Of --upgrade-bot: take it back after more than half of the nodes."`
	Database       string        `placeholder:"PLACE" env:"-" help:"Where the connection string of a database is found that the demonstration may have to itself: env:NAME or file:PATH."`
	KillPostgres   int           `help:"Kill the demonstration's own PostgreSQL with SIGKILL this many times, at random moments, and start it again."`
	PostgresOutage time.Duration `help:"How long it is away each time; random between 0.5 and 2 s if 0."`
	DoubtfulWait   time.Duration `default:"5s" help:"Wait before a message whose answer was lost is sent again."`
	AckMedian      time.Duration `default:"250ms" help:"Median of the answers to posts that keeps the promise of a fast entrance; more, for a machine that has other things to do."`
	Grace          time.Duration `default:"30s" help:"How long to wait at the end for what is owed."`
	BotURL         string        `env:"-" placeholder:"URL" help:"Let a bot over HTTP serve that speaks the tally's protocol, such as examples/http; may be on this machine."`
	BotSecret      string        `placeholder:"PLACE" env:"-" help:"Where its secret is found: env:NAME or file:PATH."`
	Calls          bool          `help:"Let every second reminder be a call of a service, which the demonstration plays: it answers when the time has come, refuses one attempt in 20 and withholds the answer of another."`
	Seed           uint64        `help:"Seed of the simulation; random if 0."`
	History        string        `env:"-" type:"path" placeholder:"FILE" help:"Keep the history of all conversations, as JSON lines (parley sim check --help). It is checked in any case."`
	Unit           bool          `help:"Also measure the bare server of the benchmarks, to compare CPU."`
	JSON           bool          `name:"json" help:"Print one JSON object instead of the table."`
	Dir            string        `type:"path" help:"Folder for the temporary store, configuration and log; kept if the verdict isn't clean."`
}

// report is what the demo found. The verdict is the simulator's own.
type report struct {
	metatest.Verdict
	Clean         bool           `json:"clean"`
	judgement                    // of the promises, and of the history
	Store         string         `json:"store"`
	Late          int            `json:"late"`                  // events that were acknowledged from the node's spool, by its own count
	PostgresKills int            `json:"postgres_kills"`        // kill -9 of PostgreSQL
	MovedItems    uint64         `json:"moved_items,omitempty"` // that were copied from the embedded store to PostgreSQL
	MovedSeconds  float64        `json:"moved_seconds,omitempty"`
	Seed          uint64         `json:"seed"`
	Seconds       float64        `json:"seconds"`
	CPUPer        float64        `json:"cpu_us_per_turn"`                    // CPU of the node's processes, starts included, per effect
	CPUDatabase   float64        `json:"cpu_us_per_turn_database,omitempty"` // CPU of the demonstration's own PostgreSQL, per effect
	CPUUnit       float64        `json:"cpu_us_unit,omitempty"`              // of the bare server, per request
	Rate          float64        `json:"rate"`
	Users         int            `json:"users"`
	Channels      int            `json:"channels"`
	Nodes         int            `json:"nodes"`
	Processes     int            `json:"processes"` // of the nodes, one after the other
	Stops         int            `json:"stops"`
	Drains        int            `json:"drains"`
	Partitions    int            `json:"partitions"`
	Upgrade       *upgradeReport `json:"bot_upgrade,omitempty"`
	Audit         *auditReport   `json:"audit"`
	Calls         *callsReport   `json:"calls,omitempty"`
	Doubtful      int            `json:"doubtful"` // messages handed over without knowing what had become of them, by the nodes' count

	// RecoveryMS is from a kill or a stop to the next reply of the users that the
	// node served; TurnDelayMS from the acknowledgement of a message to its reply.
	RecoveryMS  metatest.Millis `json:"recovery_ms"`
	Recovered   int             `json:"recovered"` // users counted in it
	TurnDelayMS metatest.Millis `json:"turn_delay_ms"`
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

func (c *demoCommand) world() (metatest.Config, error) {
	cfg := metatest.Sized(c.Rate, c.Users)
	cfg.Seed, cfg.Duration, cfg.Duplicates = c.Seed, c.Duration, c.Duplicates
	cfg.Faults = metatest.Faults{Transient: c.Faults, Withheld: c.Faults}
	if c.GraphFaults != "" {
		var err error
		if cfg.Faults, err = metatest.FaultsOf(c.GraphFaults); err != nil {
			return cfg, err
		}
	}
	// What the node takes for unanswered may come again.
	_, cfg.Faults.Patience = sendTimes(c.DoubtfulWait)
	return cfg, nil
}

func (c *demoCommand) play(ctx context.Context, dir string, progress io.Writer) (r report, err error) {
	var nets *clustertest.Namespaces
	listen := ""
	if c.Partition > 0 {
		if nets, err = clustertest.NewNamespaces(ctx, c.Nodes); err != nil {
			return report{}, fmt.Errorf("--partition gives each node a network of its own: %w", err)
		}
		defer func() { err = errors.Join(err, nets.Close(context.WithoutCancel(ctx))) }()
		listen = net.JoinHostPort(nets.Here(), "0")
	}
	world, err := c.world()
	if err != nil {
		return report{}, err
	}
	past, err := c.beginHistory(dir, &world)
	if err != nil {
		return report{}, err
	}
	defer past.Abandon()
	sim, err := metatest.NewSimulator(metatest.SimulatorConfig{Config: world, Grace: c.Grace, Listen: listen}) //nolint:contextcheck // its socket outlives no call of ours
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
	clock, err := c.startClock(ctx)
	if err != nil {
		return report{}, errors.Join(err, sim.Close())
	}
	defer func() { err = errors.Join(err, clock.close()) }()
	s := setting{dir: dir, sim: sim, store: store, net: nets, bot: c.bot(), previous: c.UpgradeBot, clock: clock}
	return c.playOn(ctx, s, past, progress)
}

// playOn starts the nodes and plays, and reports.
func (c *demoCommand) playOn(ctx context.Context, s setting, past *history.File, progress io.Writer) (report, error) {
	f, err := c.launch(ctx, s)
	if err != nil {
		return report{}, err
	}
	s.sim.SetTarget(f.urls()...)
	began, auditing := time.Now(), &auditWatch{fleet: f} //nolint:forbidigo // the demo watches real processes
	watched := c.watchVersions(ctx, s.store, f)
	kills, err := c.perform(ctx, performance{sim: s.sim, store: s.store, fleet: f, audit: auditing}, progress)
	upgrade, unwatched := watched()
	if err := errors.Join(err, unwatched); err != nil {
		return report{}, err
	}
	r := c.report(f, s.sim, s.store)
	r.Calls = s.clock.counts()
	r.judgeUpgrade(upgrade, c.UndoUpgrade)
	r.judgeAudit(auditing.report)
	if err := r.judge(ctx, past, kills, c.AckMedian); err != nil {
		return report{}, err
	}
	if !r.Clean {
		s.store.showLeft(ctx, progress)
	}
	r.Seconds, r.PostgresKills = time.Since(began).Seconds(), kills //nolint:forbidigo // as above
	return r, nil
}

// launch starts the nodes.
func (c *demoCommand) launch(ctx context.Context, s setting) (*fleet, error) {
	cfg := Config{DoubtfulWait: c.DoubtfulWait, Services: s.clock.services()}
	if c.BotURL != "" {
		bot, err := c.httpBot()
		if err != nil {
			return nil, err
		}
		cfg.HTTPBots = []HTTPBotConfig{bot}
	}
	if c.Nodes > 1 {
		if err := clustertest.WriteCredentials(s.dir, time.Now()); err != nil { //nolint:forbidigo // of today
			return nil, err
		}
		cfg.Cluster.Keys = []Secret{"file:" + clustertest.GossipKeyFile}
		cfg.Cluster.TLS = TLSConfig{Certificate: clustertest.CertificateFile, Key: clustertest.KeyFile, Authority: clustertest.AuthorityFile}
		cfg.DrainFor = drainLimit
	}
	f, err := newFleet(ctx, s, c.Nodes, cfg)
	if err != nil {
		return nil, err
	}
	if err := f.start(ctx); err != nil {
		return nil, err
	}
	if err := f.meet(ctx); err != nil {
		return nil, err
	}
	return f, nil
}

func (c *demoCommand) report(f *fleet, sim *metatest.Simulator, store *demoStore) report {
	v := sim.Verdict()
	waits := c.recovery(f, sim)
	r := report{
		Verdict: v, Clean: v.Clean(), Seed: c.Seed, Rate: c.Rate, Users: sim.Config().Users, Channels: len(sim.Channels()),
		Store: store.kind, MovedItems: store.moved, MovedSeconds: store.moving.Seconds(),
		Nodes: c.Nodes, Processes: f.total(func(c *child) int { return c.processes }),
		Late:     f.total(func(c *child) int { return c.late }),
		Doubtful: f.total(func(c *child) int { return c.doubtful }),
		Stops:    f.blown(stopping), Drains: f.blown(draining), Partitions: f.blown(partition),
		RecoveryMS: millisOf(waits), Recovered: len(waits), TurnDelayMS: sim.Delays(),
	}
	if v.Effects > 0 {
		r.CPUPer = float64(f.total(func(c *child) int { return int(c.cpu.Microseconds()) })) / float64(v.Effects)
	}
	return r
}

// performance is who takes part in a demonstration.
type performance struct {
	sim   *metatest.Simulator
	store *demoStore
	fleet *fleet
	audit *auditWatch
}

// perform plays the simulation, does meanwhile what is to be done to the nodes and
// the database, and lets the nodes drain at the end.
func (c *demoCommand) perform(ctx context.Context, p performance, progress io.Writer) (kills int, err error) {
	sim, store, f := p.sim, p.store, p.fleet
	playing, stop := context.WithCancelCause(ctx)
	defer stop(nil)
	played := make(chan error, 1)
	go func() { played <- sim.Run(playing) }()
	disturbing, calm := context.WithCancel(playing)
	defer calm()
	var disturbers sync.WaitGroup
	errs := make([]error, 2) //nolint:mnd // of the two
	disturbers.Go(func() {
		if kills, errs[0] = c.outages(disturbing, store, sim, progress); errs[0] != nil {
			stop(errs[0])
		}
	})
	disturbers.Go(func() {
		if errs[1] = c.disturb(disturbing, f, sim, progress); errs[1] != nil {
			stop(errs[1])
		}
	})
	c.partLater(playing, &disturbers, f, sim)
	var auditing sync.WaitGroup // not among those whose end the users wait for
	auditing.Go(func() { p.audit.run(disturbing) })
	auditing.Go(func() { f.watchSpools(disturbing, sim) })
	err = c.watch(playing, sim, f, progress, played)
	calm()
	disturbers.Wait() // before the nodes, which drain into the database
	auditing.Wait()
	if err == nil {
		err = p.audit.end(ctx)
	}
	stop(nil)
	return kills, errors.Join(err, errors.Join(errs...), f.stop(ctx))
}

// watch shows the progress once a second, until the simulation is over.
func (c *demoCommand) watch(ctx context.Context, sim *metatest.Simulator, f *fleet, w io.Writer, played <-chan error) error {
	tick := time.NewTicker(time.Second) //nolint:forbidigo // the demo's clock
	defer tick.Stop()
	half := time.NewTimer(c.untilMove()) //nolint:forbidigo // as above
	defer half.Stop()
	began := time.Now() //nolint:forbidigo // as above
	for {
		select {
		case err := <-played:
			return err
		case err := <-f.died:
			return fmt.Errorf("a node ended by itself: %w", err)
		case <-tick.C:
			f.count(ctx)
			showProgress(w, time.Since(began), sim.Progress()) //nolint:forbidigo // as above
		case <-half.C:
			if err := f.move(ctx, w); err != nil {
				return err
			}
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
	line("kills", r.Kills, "kill -9 of a node")
	if r.Nodes > 1 {
		line("nodes", r.Nodes, fmt.Sprintf("in %d processes; %d times one was frozen, %d drained, %d cut off", r.Processes, r.Stops, r.Drains, r.Partitions))
		line("doubtful", r.Doubtful, "messages sent by another node that couldn't know what had become of them")
	}
	if r.Recovered > 0 {
		line("recovery", fmt.Sprintf("%.0f ms", r.RecoveryMS.P99), fmt.Sprintf("p99; p50 %.0f ms, max %.0f ms, until %d users of a node that was killed or frozen had their next reply", r.RecoveryMS.P50, r.RecoveryMS.Max, r.Recovered))
	}
	line("turn delay", fmt.Sprintf("%.1f ms", r.TurnDelayMS.P50), fmt.Sprintf("p50; p99 %.1f ms, max %.1f ms, from a message's acknowledgement to its reply", r.TurnDelayMS.P99, r.TurnDelayMS.Max))
	line("store", r.Store, fmt.Sprintf("kill -9 of PostgreSQL: %d; acknowledged from the spool meanwhile: %d", r.PostgresKills, r.Late))
	if r.MovedItems > 0 {
		line("moved", r.MovedItems, fmt.Sprintf("items from the embedded store to PostgreSQL, in %.1f s, and found equal", r.MovedSeconds))
	}
	r.showMore(line)
	line("sends", r.Sends, fmt.Sprintf("replies; Meta refused %d for the time being, lost the answers of %d and was slow with %d", r.Faults.Transient+r.Faults.Throttled, r.Faults.Withheld, r.Faults.Slow))
	line("repeated", r.SendsRepeated, fmt.Sprintf("replies sent again, each after a lost answer: Messenger %d, Instagram %d, WhatsApp %d; %d although an echo or a status had told", r.SendsRepeatedOn.Messenger, r.SendsRepeatedOn.Instagram, r.SendsRepeatedOn.WhatsApp, r.SendsRepeatedTold))
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
	r.show(line)
	line("verdict", r.word(), fmt.Sprintf("seed %d, %.0f s", r.Seed, r.Seconds))
	for _, b := range r.Broken {
		_, _ = fmt.Fprintln(t, "  "+b)
	}
	return t.Flush()
}

// logTail is the end of the logs, for when the demo itself fails.
func logTail(dir string) string {
	const tail = 4096
	var text strings.Builder
	for _, name := range []string{"node.log", "node-1.log", "node-2.log", "node-3.log", "postgres.log"} {
		if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
			_, _ = fmt.Fprintf(&text, "the end of %s:\n%s", name, b[max(0, len(b)-tail):])
		}
	}
	return text.String()
}
