// Command bench measures what Parley costs, in units of the CPU time that a bare
// server needs for the same webhook in the same run (see bench/bare), and exits
// with 1 if a figure breaks what is promised. A scenario is added in scenarios;
// what each of them measures is told in docs/benchmarks.md.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/examples/pizzeria"
	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/node"
	"github.com/parleychat/parley/persistence/pgserver"
)

// runMax bounds the whole run; make bench promises ten minutes.
const runMax = 10 * time.Minute

const (
	roundsDefault = 3
	rateDefault   = 2000 // requests per second
	usersDefault  = 5000 // who write in turn
)

// The first argument makes this program one of the processes that it measures.
const (
	bareArgument     = "bare-server"
	entranceArgument = "entrance" // followed by the store's place
	actorsArgument   = "actors"   // as well
	sendingArgument  = "sending"  // an entrance, as well; followed by what it sends, too
	nodeArgument     = "serve"    // Parley itself, with its own flags
	botArgument      = "bot"      // likewise, with a bot of two versions
)

// config is what the scenarios have in common, so that they can be compared.
type config struct {
	rounds        int
	rate          float64       // offered, per second
	duration      time.Duration // of what is measured in a round
	warmup        time.Duration
	connections   int    // of the client; 0 for its default
	users         int    // who write in turn
	conversations int    // that are idle at once
	messages      int    // that each of them has had
	folder        string // for stores
	profiles      string // folder for profiles; empty for none
	only          string // beginning of the names of the scenarios to measure beside the unit
	store         string // the one whose scenarios to measure; empty for all
	json          bool
	large         int           // conversations of the larger store to compare; 0 for the scenarios
	soak          time.Duration // length of a soak; 0 for the scenarios
	cluster       bool          // the scenarios of nodes that work together
	sends         bool          // those of sending
	checked       int           // conversations to check a bot against; 0 for the scenarios
	server        *server
	processors    int    // GOMAXPROCS of the nodes; 0 leaves it to them
	bot           string // URL of the nodes' bot; empty for the tally bot
}

func main() {
	if len(os.Args) > 1 {
		child(os.Args[1], os.Args[2:])
	}
	var c config
	flag.IntVar(&c.rounds, "rounds", 0, fmt.Sprintf("how many times each scenario is measured; default %d, with -cluster or -sends %d", roundsDefault, clusterRounds))
	flag.Float64Var(&c.rate, "rate", 0, fmt.Sprintf("requests per second offered; default %g, with -cluster %g, and a third of it", float64(rateDefault), float64(clusterRate)))
	flag.DurationVar(&c.duration, "duration", 5*time.Second, "length of one measurement")
	flag.DurationVar(&c.warmup, "warmup", time.Second, "time before it that isn't measured")
	flag.IntVar(&c.users, "users", 0, fmt.Sprintf("users who write in turn; default %d, with -large %d", usersDefault, fewStored))
	flag.IntVar(&c.conversations, "conversations", 100_000, "idle conversations to hold in memory; with -cluster, in that of the node that drains")
	flag.IntVar(&c.messages, "messages", 2, "messages that each idle conversation has had")
	flag.StringVar(&c.folder, "folder", os.TempDir(), "where stores are made; its file system is part of the result")
	flag.StringVar(&c.profiles, "profiles", "", "folder for profiles: of the node's CPU, which the figures of the turn then include, and of the idle heap")
	flag.StringVar(&c.only, "only", "", "measure only the unit and the scenarios whose name begins like this")
	flag.StringVar(&c.store, "store", "", "measure only the scenarios of this store, embedded or postgres")
	flag.IntVar(&c.large, "large", 0, "instead of the scenarios, hold the turn among so many stored conversations to that among few")
	flag.DurationVar(&c.soak, "soak", 0, "instead of the scenarios, run so long and see that the store stops growing")
	flag.IntVar(&c.processors, "processors", 0, "GOMAXPROCS of the nodes, instead of what they choose by their load")
	flag.BoolVar(&c.cluster, "cluster", false, "instead of the scenarios, those of nodes that work together on PostgreSQL")
	flag.BoolVar(&c.sends, "sends", false, "instead of the scenarios, those of sending, on the embedded store")
	flag.IntVar(&c.checked, "checked", 0, "instead of the scenarios, run parley bot check over so many stored conversations")
	flag.BoolVar(&c.json, "json", false, "print the report as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(c.resolve().run(ctx))
}

// resolve fills in the defaults that depend on what is measured.
func (c config) resolve() config {
	if c.users == 0 {
		c.users = usersDefault
		if c.large > 0 {
			c.users = fewStored
		}
	}
	if c.rate == 0 {
		c.rate = rateDefault
		if c.cluster {
			c.rate = clusterRate
		}
	}
	if c.rounds == 0 {
		c.rounds = roundsDefault
		if c.cluster || c.sends {
			c.rounds = clusterRounds
		}
	}
	if c.sends && c.store == "" {
		c.store = storeEmbedded
	}
	return c
}

// child is one of the measured processes if its name is known; then it doesn't
// return.
func child(name string, args []string) {
	switch {
	case name == bareArgument:
		exit(bare.Child(os.Stdin, os.Stdout))
	case name == entranceArgument && len(args) == 1:
		exit(entrance{place: args[0]}.run(context.Background(), os.Stdin, os.Stdout))
	case name == actorsArgument && len(args) == 1:
		exit(entrance{place: args[0], actors: true}.run(context.Background(), os.Stdin, os.Stdout))
	case name == sendingArgument && len(args) == 2:
		exit(entrance{place: args[0], outbox: args[1]}.run(context.Background(), os.Stdin, os.Stdout))
	case name == nodeArgument:
		node.Main(tally.Bot())
	case name == botArgument:
		node.Main(pizzeria.Bot())
	}
}

// check finds what would fail only after minutes.
func (c config) check() error {
	switch {
	case c.rate <= 0 || c.duration <= 0 || c.warmup <= 0:
		return fmt.Errorf("rate %v, duration %s, warm-up %s: want more than 0", c.rate, c.duration, c.warmup)
	case c.users < 1 || c.messages < 1:
		return fmt.Errorf("%d users, %d messages: want at least 1", c.users, c.messages)
	case c.conversations < idleUnrest || c.conversations%idleUnrest != 0:
		return fmt.Errorf("%d conversations: want a multiple of %d", c.conversations, idleUnrest)
	case c.modes() > 1:
		return errors.New("-large, -soak, -cluster, -sends and -checked: want one of them")
	case c.checked < 0:
		return fmt.Errorf("-checked %d: want more than 0", c.checked)
	case c.sends && c.store != storeEmbedded:
		return fmt.Errorf("-sends, -store %s: sending is measured on the store %s", c.store, storeEmbedded)
	case c.cluster && c.store == storeEmbedded:
		return fmt.Errorf("-cluster, -store %s: only nodes on PostgreSQL work together", storeEmbedded)
	case c.large > 0:
		return c.checkLarge()
	case c.soak > 0:
		return checkSoak(c.soak)
	case c.store != "" && c.store != storeEmbedded && c.store != storePostgres:
		return fmt.Errorf("store %q: want %s or %s", c.store, storeEmbedded, storePostgres)
	}
	return nil
}

// modes is how many of the flags are given that ask for something else than the scenarios.
func (c config) modes() (n int) {
	for _, on := range []bool{c.large > 0, c.soak > 0, c.cluster, c.sends, c.checked > 0} {
		if on {
			n++
		}
	}
	return n
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

// run does what the flags ask for, with a server for it.
func (c config) run(ctx context.Context) (err error) {
	if err := c.check(); err != nil {
		return err
	}
	if _, err := pgserver.Find(); c.store != storeEmbedded && err != nil {
		return fmt.Errorf("%w; or measure without it: -store %s", err, storeEmbedded)
	}
	limit := runMax
	switch {
	case c.large > 0:
		limit = largeMax
	case c.soak > 0:
		limit = c.soak + soakSpare
	case c.cluster:
		limit = time.Duration(c.rounds) * clusterMax
	case c.sends:
		limit = time.Duration(c.rounds) * sendsMax
	case c.checked > 0:
		limit = checkedMax
	}
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	c.server = &server{folder: c.folder}
	if c.cluster {
		c.server.further = append(c.server.further, timestamps())
	}
	defer func() { err = errors.Join(err, c.server.stop(ctx)) }()
	if c.soak > 0 {
		return soak(ctx, c)
	}
	return c.measure(ctx)
}

// measure takes the rounds, of the scenarios, of those of a cluster, or of two sizes
// of a store.
func (c config) measure(ctx context.Context) (err error) {
	report := rounds.Report{Before: rounds.ReadConditions(c.folder), Rounds: c.rounds}
	switch {
	case c.large > 0:
		report.Results, report.Notes, err = compare(ctx, c)
	case c.cluster:
		report.Results, err = rounds.Run(ctx, newTogether(c).scenarios(), c.rounds, progress)
	case c.checked > 0:
		report.Results, report.Notes, err = checked{c}.measureAll(ctx)
	case c.sends:
		report.Results, err = rounds.Run(ctx, c.sendScenarios(), c.rounds, progress)
	default:
		report.Results, err = rounds.Run(ctx, scenarios(c), c.rounds, progress)
	}
	if err != nil {
		return err
	}
	report.After, report.Notes = rounds.ReadConditions(c.folder), append(c.server.conditions(), report.Notes...)
	write := report.Text
	if c.json {
		write = report.JSON
	}
	if err := write(os.Stdout); err != nil {
		return fmt.Errorf("print report: %w", err)
	}
	if n := report.Broken(); n > 0 {
		return fmt.Errorf("%d promises broken", n)
	}
	return nil
}

// progress goes to standard error, so that -json stays one object.
func progress(round int, scenario string, figures []rounds.Figure) {
	fmt.Fprintf(os.Stderr, "round %d  %-28s", round, scenario)
	for _, f := range figures {
		fmt.Fprintf(os.Stderr, "  %s %.4g %s", f.Name, f.Value, f.Unit)
	}
	fmt.Fprintln(os.Stderr)
}
