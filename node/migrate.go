package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/parleychat/parley/persistence/postgres"
)

// migrateCommand brings the schema of a database up to this program's.
type migrateCommand struct {
	Up     migrateUp     `cmd:"" help:"Bring the schema up to this program's. Harmless if it is; any number may run at once."`
	Status migrateStatus `cmd:"" help:"Show the steps of the schema and when each was made."`
}

// Help is shown by parley migrate --help.
func (migrateCommand) Help() string {
	return `The schema grows by numbered steps, each in a transaction, and never goes back.
An update of Parley is: "parley migrate up" with the new program, then the nodes,
one after the other. The nodes of the version before go on working meanwhile, since
a release only adds what it needs and takes away what the one before it had stopped
using. "parley serve" refuses a schema that it can't work with and says what to do.

The role needs the right to create a schema in the database, or to own the schema
"parley" that somebody has made for it.`
}

// databasePlace says where a command finds the database.
type databasePlace struct {
	Config   string `short:"c" default:"parley.yaml" type:"path" help:"The configuration file, for its database.url."`
	Database string `placeholder:"PLACE" help:"Where the connection string is found, instead of the file's: env:NAME or file:PATH. The file isn't read then."`
}

// url reads the connection string.
func (p databasePlace) url() (string, error) {
	if p.Database != "" {
		place, err := placeOf(p.Database)
		if err != nil {
			return "", fmt.Errorf("--database: %w", err)
		}
		return place.Resolve("")
	}
	cfg, err := parseConfig(p.Config)
	if err != nil {
		return "", err
	}
	if cfg.kind() != storePostgres {
		return "", fmt.Errorf("configuration %s: the store is not postgres, so there is no schema; set database.url, or give --database", p.Config)
	}
	url, err := cfg.Database.URL.Resolve(filepath.Dir(p.Config))
	if err != nil {
		return "", fmt.Errorf("database.url: %w", err)
	}
	return url, nil
}

type migrateUp struct{ databasePlace }

// Run makes the steps that are missing.
func (c migrateUp) Run(ctx context.Context, sys *system) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	made, err := postgres.Migrate(ctx, url)
	for _, m := range made {
		_, _ = fmt.Fprintf(sys.out, "made step %d, %s\n", m.Version, stepName(m))
	}
	if err != nil {
		return explainMigration(err)
	}
	if len(made) == 0 {
		_, _ = fmt.Fprintln(sys.out, "nothing to do")
	}
	_, _ = fmt.Fprintf(sys.out, "the schema is what this program was made for: version %d\n", postgres.Schema)
	return nil
}

// explainMigration adds what a person may do to an error of a step.
func explainMigration(err error) error {
	if strings.Contains(err.Error(), lockNotAvailable) {
		return fmt.Errorf("%w\nA table was busy for longer than a step waits for its lock. Nothing of that step was done; try again", err)
	}
	return err
}

// lockNotAvailable is PostgreSQL's code for a lock that was not had in time.
const lockNotAvailable = "55P03"

type migrateStatus struct{ databasePlace }

// Run shows the steps. That some are pending is an answer, and no failure.
func (c migrateStatus) Run(ctx context.Context, sys *system) error {
	url, err := c.url()
	if err != nil {
		return err
	}
	all, err := postgres.Status(ctx, url)
	if err != nil {
		return err
	}
	return printSteps(sys.out, all)
}

func printSteps(w io.Writer, all []postgres.Migration) error {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(t, "version\tname\tapplied")
	pending := 0
	for _, m := range all {
		applied := "pending"
		if m.Applied.IsZero() {
			pending++
		} else {
			applied = m.Applied.UTC().Format(time.RFC3339)
		}
		_, _ = fmt.Fprintf(t, "%d\t%s\t%s\n", m.Version, stepName(m), applied)
	}
	if pending > 0 {
		_, _ = fmt.Fprintf(t, "\n%d pending; run: parley migrate up\n", pending)
	}
	if err := t.Flush(); err != nil {
		return errors.Join(errors.New("write to standard output"), err)
	}
	return nil
}

// stepName is the name of a step without its number and ending.
func stepName(m postgres.Migration) string {
	name := strings.TrimSuffix(filepath.Base(m.Name), ".sql")
	if _, after, ok := strings.Cut(name, "_"); ok {
		name = after
	}
	return strings.ReplaceAll(name, "_", " ")
}
