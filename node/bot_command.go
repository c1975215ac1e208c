package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/postgres"
)

// botCommand is about the bots of this program.
type botCommand struct {
	Check botCheck `cmd:"" help:"Run the bots' migrations over all stored conversations, and write nothing."`
}

// botCheck holds the bots to what is stored.
type botCheck struct {
	Config   string `short:"c" default:"parley.yaml" type:"path" help:"The configuration file, for the place of the store, and its http_bots. It isn't read if the place is given here."`
	Data     string `type:"path" help:"The folder of an embedded store, instead of the file's."`
	Database string `placeholder:"PLACE" help:"Where the connection string of a database is found, instead of the file's: env:NAME or file:PATH."`
	Bot      string `help:"Only this bot."`
	Samples  int    `default:"5" help:"How many conversations to name of each failure."`
	JSON     bool   `name:"json" help:"Print JSON."`
}

// Help is shown by parley bot check --help.
func (botCheck) Help() string {
	return `Run it with the new program before you start that: it reads every stored conversation,
brings its state to the version of the bot in this program as the next turn would, and
tells how many of which version there are, what can't be migrated and why, which are newer
than this program, and which stand in a behaviour that the bot doesn't have any more.
Nothing is written. Conversations are named, what is in them isn't shown, unless the
bot's own errors repeat it.

Of a bot over HTTP it is checked what Parley keeps; the bot itself isn't asked.

A database is read while nodes work on it. An embedded store belongs to one process at a
time: stop the node, or check a backup ("parley store backup").

Exit code 0: everything can go on. 1: something can't, or the store can't be read.`
}

// Run checks.
func (c botCheck) Run(ctx context.Context, sys *system) (err error) {
	cfg, err := c.place()
	if err != nil {
		return err
	}
	bots := cfg.withHTTPBots(sys.bots)
	t := newBotTally(bots, c.Bot, c.Samples)
	if c.Bot != "" && len(t.bots) == 0 {
		return fmt.Errorf("--bot %s: it is not among those of this program: %s; of bots over HTTP only --config tells", c.Bot, botNames(bots))
	}
	for i := range bots {
		if err := bots[i].Validate(); err != nil {
			return err
		}
	}
	s, err := c.open(ctx, cfg, sys.errors)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	if err := t.readAll(ctx, s, progressTo(sys.errors)); err != nil {
		return err
	}
	r := t.report()
	if c.JSON {
		b, err := json.Marshal(r)
		if err != nil {
			return fmt.Errorf("encode report: %w", err)
		}
		if err := printJSON(sys.out, b); err != nil {
			return err
		}
	} else if err := r.print(sys.out); err != nil {
		return err
	}
	if r.Failing > 0 {
		return exitError{exitFailed}
	}
	return nil
}

// snapshots is what a store offers to be checked.
type snapshots interface {
	Snapshots(ctx context.Context, after parley.Conversation, limit int, each func(parley.Snapshot, error)) error
	Close() error
}

// place is where the store is; from a file, with the bots over HTTP that it has.
func (c botCheck) place() (Config, error) {
	cfg := Config{Data: c.Data}
	switch {
	case c.Data != "" && c.Database != "":
		return cfg, errors.New("--data and --database: want one of them")
	case c.Database != "":
		place, err := placeOf(c.Database)
		if err != nil {
			return cfg, fmt.Errorf("--database: %w", err)
		}
		cfg.Database.URL = place
	case c.Data == "":
		return parseConfig(c.Config)
	}
	return cfg, nil
}

// open opens the store that is meant.
func (c botCheck) open(ctx context.Context, cfg Config, progress io.Writer) (snapshots, error) { //nolint:ireturn // it is either store
	log := slog.New(slog.NewTextHandler(progress, &slog.HandlerOptions{Level: slog.LevelWarn}))
	if cfg.kind() == storePostgres {
		url, err := cfg.Database.URL.Resolve(filepath.Dir(c.Config))
		if err != nil {
			return nil, fmt.Errorf("the database's connection string: %w", err)
		}
		ctx, cancel := context.WithTimeout(ctx, openTimeout)
		defer cancel()
		return postgres.Open(ctx, postgres.Config{URL: url, Conns: 1, Logger: log})
	}
	s, err := embedded.Open(embedded.Config{Dir: cfg.Data, Existing: true, Logger: log})
	if errors.Is(err, parley.ErrLocked) {
		err = fmt.Errorf("%w; or check a backup of it (parley store backup)", err)
	}
	if err != nil {
		return nil, err
	}
	return s, nil
}

const (
	checkPage     = 500             // conversations read at a time
	checkSayEvery = 2 * time.Second // how far it is
)

// progressTo says how far a check is, now and then.
func progressTo(w io.Writer) func(conversations int) {
	said := time.Now() //nolint:forbidigo // people wait
	return func(n int) {
		if now := time.Now(); now.Sub(said) >= checkSayEvery { //nolint:forbidigo // as above
			said = now
			_, _ = fmt.Fprintf(w, "%d conversations checked\n", n)
		}
	}
}

// readAll checks all that is stored, page by page.
func (t *botTally) readAll(ctx context.Context, s snapshots, progress func(int)) error {
	var after parley.Conversation
	for {
		n := 0
		err := s.Snapshots(ctx, after, checkPage, func(s parley.Snapshot, err error) {
			n++
			after = s.Conversation
			t.take(&s, err)
		})
		if err != nil {
			return err
		}
		if n < checkPage {
			return nil
		}
		progress(t.conversations)
	}
}

// print writes the report for people.
func (r *botReport) print(w io.Writer) error {
	t := newTable(w)
	_, _ = fmt.Fprintf(t, "conversations\t%d\n", r.Conversations)
	_, _ = fmt.Fprintf(t, "without state\t%d\n", r.WithoutState)
	for _, o := range r.OtherBots {
		_, _ = fmt.Fprintf(t, "of another bot\t%d of %q, which this program doesn't have: whatever bot has the channel gets their state as it is. Of bots over HTTP only --config tells\n", o.Conversations, o.Name)
	}
	for _, b := range r.Bots {
		_, _ = fmt.Fprintf(t, "\nbot %s\tversion %d\n", b.Name, b.Version)
		for _, v := range b.Versions {
			_, _ = fmt.Fprintf(t, "  version %d\t%d%s\n", v.Version, v.Conversations, v.outcome(b))
		}
		for _, u := range b.Unknown {
			_, _ = fmt.Fprintf(t, "  behaviour %q\t%d: the bot doesn't have it (any more), they go to %s\n", u.Name, u.Conversations, b.takes())
		}
	}
	if err := t.Flush(); err != nil {
		return err
	}
	for _, f := range r.Failures {
		who := "stored conversations"
		if f.Bot != "" {
			who = "bot " + f.Bot
		}
		lines := append([]string{printable(f.Cause)}, f.Samples...)
		if _, err := fmt.Fprintf(w, "\nFAILS %d of %s\n  %s\n", f.Conversations, who, strings.Join(lines, "\n  ")); err != nil {
			return err
		}
	}
	_, err := fmt.Fprintf(w, "\n%s\n", r.verdict())
	return err
}

func (r *botReport) verdict() string {
	if r.Failing == 0 {
		return "All can go on."
	}
	return fmt.Sprintf("%d can't go on.", r.Failing)
}

// outcome is what becomes of those of a version.
func (v *versionTally) outcome(b *botVersions) string {
	switch {
	case v.Version == b.Version:
		return ", which is the bot's"
	case v.Version > b.Version:
		return ", newer than this program: it leaves them alone, and they wait"
	case v.Failing == 0:
		return ", all can be migrated"
	}
	ends := "what they say becomes dead letters"
	if b.Fallback {
		ends = "what they say goes to its Fallback"
	}
	return fmt.Sprintf(", %d of them can be migrated, %d can't: %s", v.Conversations-v.Failing, v.Failing, ends)
}

// takes is who gets what the bot has no behaviour for.
func (b *botVersions) takes() string {
	if b.Fallback {
		return "its Fallback"
	}
	return "its Behavior"
}
