package node

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// storeCommand moves what a node has stored.
type storeCommand struct {
	Backup  storeBackup  `cmd:"" help:"Copy the embedded store into a new folder, also while its node runs."`
	Restore storeRestore `cmd:"" help:"Make a data folder from a backup."`
	Copy    storeCopy    `cmd:"" help:"Move from the embedded store to PostgreSQL."`
}

// checkpointTimeout is how long a node has for a checkpoint, which is a flush and
// some links.
const checkpointTimeout = time.Minute

// storePlace says which store is meant.
type storePlace struct {
	Config string `short:"c" default:"parley.yaml" type:"path" help:"The configuration file, for the folder of the store."`
	Data   string `type:"path" help:"The folder of the store, instead of the file's. The file isn't read then."`
}

// read returns the configuration as far as it concerns the store.
func (p storePlace) read() (Config, error) {
	if p.Data != "" {
		return Config{Data: p.Data, Store: storeEmbedded}.withDefaults(), nil
	}
	cfg, err := parseConfig(p.Config)
	if err != nil {
		return cfg, err
	}
	return cfg, nil
}

// postgresOwn says how a database is backed up: by what its makers have made for
// it, since only that copies a whole state while it changes.
const postgresOwn = `The store is PostgreSQL, which has its own tools for this:

  pg_basebackup and an archive of the log (archive_command, or pgBackRest, Barman,
  WAL-G around them) restore to any moment, and lose nothing that was archived.
  pg_dump -n parley copies the state of one moment; pg_restore puts it into an
  empty database. What was acknowledged after that moment is lost.

What was in a node's spool is in its data folder, not in the database: let nodes
drain it before a database is given up. docs/operations.md says what a restore to an
earlier moment means for messages that were acknowledged, or sent, since.
`

// elsewhere ends a command that isn't for this store.
func elsewhere(cfg Config, w io.Writer) error {
	if cfg.kind() != storePostgres {
		return nil
	}
	_, _ = fmt.Fprint(w, postgresOwn)
	return exitError{code: exitUsage}
}

type storeBackup struct {
	storePlace
	Admin string `help:"Admin address of the node that has the store open, instead of the file's."`
	To    string `required:"" type:"path" placeholder:"DIR" help:"The folder to be made. It must be empty or not there."`
}

// Help is shown by parley store backup --help.
func (storeBackup) Help() string {
	return `If no node runs on the store, its files are copied. If one does, it is asked
over its admin address to make a checkpoint beside its files (links, which take no
time and no room), and that is copied. All that was acknowledged before the command
is in the backup, and a prefix of what came in meanwhile.

Run it on the node's machine and as its user. The folder is complete when the
command says so; one that was broken off is refused by "parley store restore".`
}

// Run makes the backup.
func (c storeBackup) Run(ctx context.Context, sys *system) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	if err := elsewhere(cfg, sys.errors); err != nil {
		return err
	}
	err = embedded.Copy(ctx, cfg.Data, c.To)
	if errors.Is(err, parley.ErrLocked) {
		err = copyRunning(ctx, cfg.Data, cmp.Or(c.Admin, cfg.Admin), c.To)
	}
	if err != nil {
		return err
	}
	_, _ = fmt.Fprintf(sys.out, "backed up %s to %s\n", cfg.Data, c.To)
	return nil
}

// copyRunning copies a checkpoint of the node that has the store open.
func copyRunning(ctx context.Context, data, admin, to string) error {
	made, err := askCheckpoint(ctx, admin)
	if err != nil {
		return fmt.Errorf("%w: its node was asked for a checkpoint at %s (set --admin if it listens elsewhere): %w", parley.ErrLocked, admin, err)
	}
	// Another node may answer there, with another store.
	own := filepath.Join(data, filepath.Base(made))
	if same, err := sameFolder(own, made); err != nil || !same {
		return errors.Join(fmt.Errorf("the node at %s has another store than %s; set --admin", admin, data), err)
	}
	return errors.Join(embedded.Copy(ctx, own, to), os.RemoveAll(own))
}

func sameFolder(a, b string) (bool, error) {
	one, err := os.Stat(a)
	if err != nil {
		return false, err
	}
	other, err := os.Stat(b)
	if err != nil {
		return false, err
	}
	return os.SameFile(one, other), nil
}

// checkpointed is a node's answer to being asked for a checkpoint.
type checkpointed struct {
	Path string `json:"path"`
}

func askCheckpoint(ctx context.Context, admin string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, checkpointTimeout)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+admin+"/checkpoint", http.NoBody)
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	const answerMax = 4096
	body, err := io.ReadAll(io.LimitReader(resp.Body, answerMax))
	if err := errors.Join(err, resp.Body.Close()); err != nil {
		return "", err
	}
	if resp.StatusCode != http.StatusOK {
		return "", errors.New(strings.TrimSpace(string(body)))
	}
	var a checkpointed
	if err := json.Unmarshal(body, &a); err != nil || a.Path == "" {
		return "", errors.New("it answers like something else than a node")
	}
	return a.Path, nil
}

type storeRestore struct {
	storePlace
	From string `required:"" type:"existingdir" placeholder:"DIR" help:"The backup."`
}

// Help is shown by parley store restore --help.
func (storeRestore) Help() string {
	return `The data folder must be empty or not there. The backup stays as it is.

The restored store is the one of the backup's moment. What was acknowledged after
it is lost, as Meta doesn't deliver it again; what was sent after it may be sent
once more, as the store doesn't know of it.`
}

// Run restores, and opens the store once to see that it can be.
func (c storeRestore) Run(ctx context.Context, sys *system) error {
	cfg, err := c.read()
	if err != nil {
		return err
	}
	if err := elsewhere(cfg, sys.errors); err != nil {
		return err
	}
	if err := embedded.Copy(ctx, c.From, cfg.Data); err != nil {
		return err
	}
	s, err := embedded.Open(embedded.Config{Dir: cfg.Data, ReserveBytes: cfg.ReserveBytes})
	if err != nil {
		return err
	}
	b, err := s.Backlog(ctx)
	if err := errors.Join(err, s.Close()); err != nil {
		return err
	}
	_, _ = fmt.Fprintf(sys.out, "restored %s from %s: %d events pending, %d messages unsent, %d timers, %d in quarantine, %d dead letters\n",
		cfg.Data, c.From, b.Pending, b.Unsent, b.Timers, b.Quarantined, b.Dead)
	return nil
}
