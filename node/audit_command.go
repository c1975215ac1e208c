package node

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/audit"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/postgres"
)

// auditCommand holds a store to what was acknowledged.
type auditCommand struct {
	adminPlace
	Since    time.Duration `help:"Only what was accepted in the last while, such as 1h, up to 48h: in whole stretches of 5 minutes, without receipts, which have no time. Without it all there ever was."`
	Data     string        `type:"path" env:"-" help:"Ask no node, but look into the folder of an embedded store that no node has open."`
	Database string        `placeholder:"PLACE" env:"-" help:"Ask no node, but look into a PostgreSQL database: where its connection string is found, env:NAME or file:PATH."`
	Reopen   bool          `env:"-" help:"Take what is there as it is from now on: once it is known why something is missing. What was missing is printed for the last time."`
}

// Help is shown by parley audit --help.
func (auditCommand) Help() string {
	return `Every update that was answered with 200 is counted in the transaction that stores it,
and so is what becomes of it. At every moment, of each brand and in whole:

  acknowledged = effected + duplicate + pending + spooled + quarantined + dead

where pending, quarantined and the dead letters are counted row by row. If it isn't so,
the events that were acknowledged and are nowhere are named: conversation and key, never
what was in them. --database and --data see no spool: that is on the disk of its node.

Exit code 0: it adds up. 1: it doesn't, or it can't be told: standard error says why.`
}

// Run prints the account.
func (c auditCommand) Run(ctx context.Context, sys *system) error {
	if c.Since < 0 || c.Since > parley.AuditFor {
		return fmt.Errorf("--since %v: want a time up to %v, such as 1h", c.Since, parley.AuditFor)
	}
	account, err := c.ask(ctx, sys.errors)
	if err != nil {
		return err
	}
	if c.JSON {
		raw, err := json.Marshal(account)
		if err == nil {
			err = printJSON(sys.out, raw)
		}
		if err != nil {
			return err
		}
	} else if err := printAccount(sys.out, &account); err != nil {
		return err
	}
	if !account.AddsUp && !c.Reopen {
		return exitError{code: exitFailed}
	}
	return nil
}

func (c auditCommand) ask(ctx context.Context, log io.Writer) (parley.Account, error) {
	switch {
	case c.Data != "" && c.Database != "":
		return parley.Account{}, errors.New("--data and --database name two stores: give one")
	case c.Data != "":
		return c.askFolder(ctx, log)
	case c.Database != "":
		return c.askDatabase(ctx, log)
	}
	client, err := c.client()
	if err != nil {
		return parley.Account{}, err
	}
	var account parley.Account
	method, path := http.MethodGet, "/api/audit?since_seconds="+strconv.Itoa(int(c.Since.Seconds()))
	if c.Reopen {
		method, path = http.MethodPost, "/api/audit/reopen"
	}
	_, err = client.call(ctx, method, path, nil, &account)
	return account, err
}

func (c auditCommand) askFolder(ctx context.Context, log io.Writer) (account parley.Account, err error) {
	s, err := embedded.Open(embedded.Config{Dir: c.Data, Existing: true, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		return account, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return c.look(ctx, s)
}

func (c auditCommand) askDatabase(ctx context.Context, log io.Writer) (account parley.Account, err error) {
	place, err := placeOf(c.Database)
	if err != nil {
		return account, fmt.Errorf("--database: %w", err)
	}
	url, err := place.Resolve("")
	if err != nil {
		return account, fmt.Errorf("--database: %w", err)
	}
	s, err := postgres.Open(ctx, postgres.Config{URL: url, Conns: 1, Logger: slog.New(slog.NewTextHandler(log, nil))})
	if err != nil {
		return account, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	return c.look(ctx, s)
}

func (c auditCommand) look(ctx context.Context, s audit.Store) (parley.Account, error) {
	a := audit.New(audit.Config{Store: s})
	if c.Reopen {
		return a.Reopen(ctx)
	}
	return a.Account(ctx, c.Since)
}

func printAccount(w io.Writer, a *parley.Account) error {
	t := newTable(w)
	_, _ = fmt.Fprintln(t, "brand\tacknowledged\teffected\tduplicate\tpending\tspooled\tquarantined\tdead\tmissing\texcess")
	line := func(name string, t2 *parley.AuditTerms) {
		_, _ = fmt.Fprintf(t, "%s\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\t%d\n", name, t2.Acknowledged, t2.Effected, t2.Duplicate, t2.Pending,
			t2.Spooled, t2.Quarantined, t2.Dead, t2.Missing, t2.Excess)
	}
	for i := range a.Brands {
		line(string(a.Brands[i].Brand), &a.Brands[i].AuditTerms)
	}
	line("in whole", &a.Whole)
	if a.Receipts != (parley.AuditTerms{}) {
		line("  receipts of it", &a.Receipts)
	}
	if err := t.Flush(); err != nil {
		return err
	}
	_, err := fmt.Fprintln(w, "\n"+fold(conclusion(a), ""))
	if len(a.Silent) > 0 {
		_, err = fmt.Fprintln(w, fold("Not told by "+strings.Join(a.Silent, ", ")+": what is in their spools.", ""))
	}
	for _, lost := range a.Lost {
		_, err = fmt.Fprintf(w, "  lost: %s  key %s, accepted in the 5 minutes from %s\n", lost.Conversation, lost.Key, lost.Accepted.Format(time.RFC3339))
	}
	return err
}

// conclusion says what the numbers mean.
func conclusion(a *parley.Account) string {
	of := "all there ever was"
	if a.Since != nil {
		of = "what was accepted since " + a.Since.Format(time.RFC3339)
	}
	at := " at " + a.At.Format(time.RFC3339) + ", of " + of
	switch {
	case a.Opened == nil:
		return "It can't be told" + at + ": " + a.Why + "."
	case a.AddsUp:
		return "It adds up" + at + ". All is counted since " + a.Opened.Format(time.RFC3339) + "."
	}
	text := "IT DOESN'T ADD UP" + at + "."
	if a.Whole.Letters != 0 {
		text += fmt.Sprintf(" Dead letters missing: %d.", a.Whole.Letters)
	}
	if a.Unnamed > 0 {
		text += fmt.Sprintf(" %d are missing that no event can be named for: %d receipts, and else events longer ago than %s, repeats, or nothing but a wrong count.",
			a.Unnamed, a.Receipts.Missing, parley.AuditFor)
	}
	return text
}
