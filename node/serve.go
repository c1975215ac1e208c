package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

type serveCommand struct {
	Config       string        `short:"c" default:"parley.yaml" type:"path" help:"The configuration file (docs/operations.md; an example is in deployments/parley.yaml)."`
	Listen       string        `help:"Address for webhooks, instead of the file's."`
	Admin        string        `help:"Address of health, metrics and backlog, instead of the file's. Keep it private."`
	Data         string        `type:"path" help:"Directory of the embedded store and of what the node notes of itself, instead of the file's."`
	Store        string        `help:"embedded or postgres, instead of the file's."`
	Database     string        `placeholder:"PLACE" help:"Where the connection string of PostgreSQL is found, instead of the file's: env:NAME or file:PATH. Others see what stands on a command line, so it can't stand here itself. Means --store postgres."`
	DoubtfulWait time.Duration `help:"Wait before a message whose answer was lost is sent again, instead of the file's."`
	LogLevel     slog.Level    `default:"info" help:"debug, info, warn or error."`
	LogFormat    string        `default:"text" enum:"text,json" help:"text or json."`
	PreviousBots bool          `hidden:"" env:"-" help:"Run bots that keep a previous version in that, as the release before did."`
}

// Run serves until the process is told to stop.
func (c serveCommand) Run(ctx context.Context, sys *system) error {
	bots := sys.bots
	if c.PreviousBots {
		bots = previousOf(bots)
	}
	cfg, err := ReadConfig(c.Config, bots)
	if err != nil {
		return err
	}
	cfg, err = c.override(cfg)
	if err != nil {
		return err
	}
	if err := cfg.Validate(bots); err != nil {
		return fmt.Errorf("flags: %w", err)
	}
	node, err := Open(ctx, cfg, bots, filepath.Dir(c.Config), c.logger(sys.errors))
	if err != nil {
		return err
	}
	collectSeldom()
	if cfg.kind() == storePostgres { // the embedded store's fsyncs each keep a processor for a while
		defer adaptProcessors()()
	}
	err = node.Run(ctx)
	if errors.Is(err, actors.ErrAbandoned) && ctx.Err() == nil {
		return restart(err)
	}
	return err
}

// previousOf are the bots as they were in the release before, as far as they are kept.
func previousOf(bots []parley.Bot) []parley.Bot {
	before := slices.Clone(bots)
	for i := range before {
		if p := before[i].Previous; p != nil {
			before[i] = *p
		}
	}
	return before
}

func (c serveCommand) override(cfg Config) (Config, error) {
	if c.Listen != "" {
		cfg.Listen = c.Listen
	}
	if c.Admin != "" {
		cfg.Admin = c.Admin
	}
	if c.Data != "" {
		cfg.Data = c.Data
	}
	if c.DoubtfulWait != 0 {
		cfg.DoubtfulWait = c.DoubtfulWait
	}
	if c.Database != "" {
		place, err := placeOf(c.Database)
		if err != nil {
			return cfg, fmt.Errorf("--database: %w", err)
		}
		cfg.Database.URL, cfg.Store = place, storePostgres
	}
	cfg.Store = cmp.Or(c.Store, cfg.Store)
	return cfg, nil
}

// placeOf is the place of a secret that a flag names: unlike one of the file, it
// is relative to where the command was given.
func placeOf(flag string) (Secret, error) {
	if path, isFile := strings.CutPrefix(flag, "file:"); isFile {
		abs, err := filepath.Abs(path)
		return Secret("file:" + abs), err
	}
	return Secret(flag), Secret(flag).check()
}

func (c serveCommand) logger(w io.Writer) *slog.Logger {
	options := &slog.HandlerOptions{Level: c.LogLevel}
	if c.LogFormat == "json" {
		return slog.New(slog.NewJSONHandler(w, options))
	}
	return slog.New(slog.NewTextHandler(w, options))
}

// restart puts a new process in the place of this one, which turns without end
// have used up. Everything it owned has been drained and closed.
func restart(cause error) error {
	self, err := os.Executable()
	if err != nil {
		return errors.Join(cause, err)
	}
	return fmt.Errorf("%w; start again: %w", cause, syscall.Exec(self, os.Args, os.Environ()))
}
