package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"path/filepath"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/postgres"
)

// storeCopy moves a node from one store to the other.
type storeCopy struct {
	Config   string `short:"c" default:"parley.yaml" type:"path" help:"The configuration file, for data and database.url. It isn't read if both are given here."`
	From     string `required:"" enum:"embedded" help:"The store that is copied: embedded."`
	To       string `required:"" enum:"postgres" help:"The store that it is copied into: postgres."`
	Data     string `type:"path" help:"The folder of the embedded store, instead of the file's."`
	Database string `placeholder:"PLACE" help:"Where the connection string is found, instead of the file's: env:NAME or file:PATH."`
}

// Help is shown by parley store copy --help.
func (storeCopy) Help() string {
	return `Everything goes along: conversations, what has not been handled or sent yet,
timers, the keys of events that took effect, history, deliveries, quarantine, dead
letters. Stop the node first; Meta keeps what comes in meanwhile and delivers it to
the next one. The folder isn't changed.

The database needs its schema ("parley migrate up") and must be empty otherwise. The
store is read once to see what there is, written, and then the database is read and
compared with it, item by item. Only if all is equal is the copy finished; until
then "parley serve" refuses the database.

If it is broken off, run it again: it goes on where it was. If the store has changed
since, it says so and doesn't. Exit code 0: the database holds what the store does,
or this copy was finished before. 1: it doesn't; standard error says why.

Afterwards put database.url into the configuration, and the folder out of the way:
a node that worked on it again would send everything a second time.`
}

// Run copies.
func (c storeCopy) Run(ctx context.Context, sys *system) error {
	data, url, err := c.places()
	if err != nil {
		return err
	}
	began := time.Now() //nolint:forbidigo // people want to know how long it took
	copied, err := copyStore(ctx, data, url, sys.errors)
	switch {
	case errors.Is(err, postgres.ErrDiffers):
		return errors.Join(printCopied(sys.out, &copied), fmt.Errorf("%w. Something has changed the database while it was copied into. Empty it (drop schema parley cascade), and copy again", err))
	case err != nil:
		return explainCopy(err, &copied)
	case !copied.Before.IsZero():
		_, _ = fmt.Fprintf(sys.out, "nothing to do: %s was copied into this database before, at %s\n", data, copied.Before.Format(time.RFC3339))
		return nil
	}
	took := time.Since(began).Round(100 * time.Millisecond) //nolint:forbidigo // as above
	_, _ = fmt.Fprintf(sys.out, "copied %s in %s; the database holds the same:\n\n", data, took)
	if err := printCopied(sys.out, &copied); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(sys.out, "\nNext: start nodes with database.url, and move %s out of the way.\n", data)
	return nil
}

// places says where the store is, and what is the connection string of the database.
func (c storeCopy) places() (data, url string, err error) {
	var cfg Config
	if c.Data == "" || c.Database == "" {
		if cfg, err = parseConfig(c.Config); err != nil {
			return "", "", err
		}
	}
	place, at := cfg.Database.URL, "database.url"
	if c.Database != "" {
		if place, err = placeOf(c.Database); err != nil {
			return "", "", fmt.Errorf("--database: %w", err)
		}
		at = "--database"
	}
	if place == "" {
		return "", "", fmt.Errorf("configuration %s: it has no database.url; set it, or give --database", c.Config)
	}
	if url, err = place.Resolve(filepath.Dir(c.Config)); err != nil {
		return "", "", fmt.Errorf("%s: %w", at, err)
	}
	return cmp.Or(c.Data, cfg.Data), url, nil
}

// copyStore copies the embedded store in a folder into a database, and says how
// far it is.
func copyStore(ctx context.Context, data, url string, progress io.Writer) (copied postgres.Copied, err error) {
	log := slog.New(slog.NewTextHandler(progress, nil))
	source, err := embedded.Open(embedded.Config{Dir: data, Existing: true, Logger: log})
	if err != nil {
		return copied, err
	}
	defer func() { err = errors.Join(err, source.Close()) }()
	p := copyProgress{w: progress}
	return postgres.CopyInto(ctx, postgres.Config{URL: url, Conns: 1, Logger: log}, source, p.show)
}

// copyProgress shows how far a copy is, once a second.
type copyProgress struct {
	w    io.Writer
	said time.Time
}

func (p *copyProgress) show(at postgres.CopyProgress) {
	now := time.Now() //nolint:forbidigo // the one clock of the progress
	done := at.Of > 0 && at.Items == at.Of
	if now.Sub(p.said) < time.Second && !done {
		return
	}
	p.said = now
	_, _ = fmt.Fprintf(p.w, "%-8s  %-14s %10d items", at.Stage, at.Kind, at.Items)
	if at.Of > 0 {
		_, _ = fmt.Fprintf(p.w, " of %d, %3.0f %%", at.Of, 100*float64(at.Items)/float64(at.Of))
	}
	_, _ = fmt.Fprintln(p.w)
}

// explainCopy adds what a person may do to an error of a copy.
func explainCopy(err error, copied *postgres.Copied) error {
	goesOn := errors.Is(err, parley.ErrUnavailable) || errors.Is(err, context.Canceled)
	if goesOn && copied.Source.Items() > 0 {
		return fmt.Errorf("%w\nThe copy is not finished. The same command goes on where it was", err)
	}
	return err
}

// printCopied shows what both sides hold.
func printCopied(w io.Writer, c *postgres.Copied) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', tabwriter.AlignRight)
	_, _ = fmt.Fprintln(t, "kind\tembedded\tpostgres\t\t")
	for i, name := range parley.HoldingKinds() {
		verdict := "equal"
		if c.Source[i] != c.Target[i] {
			verdict = "DIFFERS"
		}
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%s\t\n", name, c.Source[i].Items, c.Target[i].Items, verdict)
	}
	_, _ = fmt.Fprintf(t, "all\t%d\t%d\t\t\n", c.Source.Items(), c.Target.Items())
	if err := t.Flush(); err != nil {
		return fmt.Errorf("write to standard output: %w", err)
	}
	return nil
}
