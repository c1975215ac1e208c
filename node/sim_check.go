package node

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// simCheckCommand checks a history that was recorded.
type simCheckCommand struct {
	File   string        `arg:"" type:"existingfile" help:"The history, as demo --history writes it."`
	Within time.Duration `env:"-" default:"10s" help:"Time for one conversation; then it is undecided."`
	Total  time.Duration `env:"-" default:"5m" help:"Time for all of them."`
	JSON   bool          `name:"json" help:"Print the report as one JSON object."`
}

// Help is shown by --help above the flags.
func (simCheckCommand) Help() string {
	return `A history is what was seen of conversations from outside: when Meta posted a message,
when that was acknowledged, which reply came. A conversation is taken for one object
that meets one event at a time. If no order of its events agrees with every reply, and
with what was acknowledged before what, then something was lost, doubled, overtaken, or
two turns began from one state; the report names it.

  parley demo --store postgres --nodes 3 --kill 5 --history past.jsonl
  parley sim check past.jsonl
  grep '"messenger/PAGE/USER"' past.jsonl     what was seen of one conversation

The exit code is 0 if an order was found for every conversation, else 1: also if the
search ran out of time. docs/proof.md has the format.`
}

// Run checks and prints.
func (c *simCheckCommand) Run(ctx context.Context, sys *system) error {
	r, err := history.CheckFile(ctx, c.File, history.Options{Within: c.Within, Total: c.Total})
	if err != nil {
		return err
	}
	if err := c.print(sys, &r); err != nil {
		return err
	}
	if !r.Clean() {
		return exitError{code: exitFailed}
	}
	return nil
}

func (c *simCheckCommand) print(sys *system, r *history.Report) error {
	if c.JSON {
		return json.NewEncoder(sys.out).Encode(r)
	}
	_, _ = fmt.Fprintf(sys.out, "%s; %.1f s\n", r.Summary(), r.Seconds)
	for _, f := range r.Findings {
		_, _ = fmt.Fprintf(sys.out, "BROKEN %s  %s: %s\n", f.Promise, f.Conversation, f.What)
	}
	for _, name := range r.UndecidedOnes {
		_, _ = fmt.Fprintf(sys.out, "UNDECIDED  %s\n", name)
	}
	return nil
}
