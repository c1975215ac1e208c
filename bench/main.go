// Command bench measures what Parley costs, in units of the CPU time that a bare
// server needs for the same webhook in the same run (see bench/bare), and exits
// with 1 if a figure breaks what is promised. A scenario is added in scenarios.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/bench/rounds"
)

// runMax bounds the whole run; make bench promises ten minutes.
const runMax = 10 * time.Minute

// childArgument makes this program the bare server that it measures.
const childArgument = "bare-server"

// config is what the scenarios have in common, so that they can be compared.
type config struct {
	rounds   int
	rate     float64       // offered, per second
	duration time.Duration // of what is measured in a round
	warmup   time.Duration
	folder   string // for stores
	json     bool
}

func main() {
	if len(os.Args) == 2 && os.Args[1] == childArgument {
		exit(bare.Child(os.Stdin, os.Stdout))
	}
	var c config
	flag.IntVar(&c.rounds, "rounds", 5, "how many times each scenario is measured")
	flag.Float64Var(&c.rate, "rate", 2000, "requests per second offered")
	flag.DurationVar(&c.duration, "duration", 5*time.Second, "length of one measurement")
	flag.DurationVar(&c.warmup, "warmup", time.Second, "time before it that isn't measured")
	flag.StringVar(&c.folder, "folder", os.TempDir(), "where stores are made; its file system is part of the result")
	flag.BoolVar(&c.json, "json", false, "print the report as JSON")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	exit(run(ctx, c))
}

func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
	os.Exit(0)
}

func run(ctx context.Context, c config) error {
	ctx, cancel := context.WithTimeout(ctx, runMax)
	defer cancel()
	report := rounds.Report{Before: rounds.ReadConditions(c.folder), Rounds: c.rounds}
	var err error
	report.Results, err = rounds.Run(ctx, scenarios(c), c.rounds, progress)
	if err != nil {
		return err
	}
	report.After = rounds.ReadConditions(c.folder)
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
	fmt.Fprintf(os.Stderr, "round %d  %-16s", round, scenario)
	for _, f := range figures {
		fmt.Fprintf(os.Stderr, "  %s %.4g %s", f.Name, f.Value, f.Unit)
	}
	fmt.Fprintln(os.Stderr)
}
