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
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/ingress"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/postgres"
)

// The stores that a node may be configured with.
const (
	storeEmbedded = "embedded"
	storePostgres = "postgres"
)

const (
	// openTimeout bounds one attempt to open the database, storeTimeout one call
	// of the store by the node itself.
	openTimeout  = 10 * time.Second
	storeTimeout = 10 * time.Second
	// retryEvery is how often a database that doesn't answer is asked again at
	// start, sayEvery how often the log says so.
	retryEvery = 500 * time.Millisecond
	sayEvery   = 10 * time.Second
)

// store is what the parts of a node need of either store.
type store interface {
	ingress.Inbox
	ingress.Quarantine
	actors.Store
	actors.Agenda
	actors.Suspects
	egress.Outbox
	egress.Receipts
	callout.Calls
	letters
	records
	registry
	keeper
	books
}

// records are what is kept of a conversation beside its snapshot.
type records interface {
	History(ctx context.Context, c parley.Conversation, after uint64, limit int) ([][]byte, error)
	Unsent(ctx context.Context, c parley.Conversation, limit int) ([]parley.Outgoing, error)
}

// letters is what an operator does with dead letters.
type letters interface {
	DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error)
	RetryDeadLetter(ctx context.Context, id parley.ID, reads int) (parley.Retried, error)
	DropDeadLetter(ctx context.Context, id parley.ID) (parley.DeadLetter, error)
}

// books are what has been counted, as the audit reads them.
type books interface {
	Ledger(ctx context.Context) (parley.Ledger, error)
	OpenBooks(ctx context.Context, as parley.Ledger) error
	CloseBooks(ctx context.Context) error
	Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error
	TidyBooks(ctx context.Context, settled []int64, before int64) error
}

// registry remembers which channels are served.
type registry interface {
	Register(ctx context.Context, r parley.Registration) (fresh bool, err error)
	Registered(ctx context.Context) ([]parley.Registration, error)
}

// keeper is what a store offers for its upkeep.
type keeper interface {
	Backlog(ctx context.Context) (parley.Backlog, error)
	Prune(ctx context.Context, historyFor time.Duration) error
	Close() error
}

// kind is the store that the configuration means: the one it names, or else the
// one that it says where to find.
func (c Config) kind() string {
	if c.Store == "" && c.Database.URL != "" {
		return storePostgres
	}
	return cmp.Or(c.Store, storeEmbedded)
}

// claimStore takes the data folder, so that two processes on one folder are told
// at once, and opens the store that is in it. The database is opened by Run,
// which has the patience to wait for it.
func (n *Node) claimStore() (err error) {
	if n.cfg.kind() == storePostgres {
		if n.lock, err = lockFolder(n.cfg.Data, n.freshID()); err != nil {
			return err
		}
		return n.openSpool()
	}
	s, err := embedded.Open(embedded.Config{
		Dir: n.cfg.Data, Now: n.clock, Logger: n.log, ReserveBytes: n.cfg.ReserveBytes, Registerer: n.registry,
	})
	if err == nil {
		n.store = s
	}
	return err
}

// openDatabase opens the database, unless that has been done.
func (n *Node) openDatabase(ctx context.Context) error {
	if n.store != nil {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, openTimeout)
	defer cancel()
	s, err := postgres.Open(ctx, postgres.Config{
		URL: n.database, Conns: n.cfg.Database.Connections, ConnectTimeout: n.cfg.Database.ConnectTimeout,
		Logger: n.log.With(slog.String("part", "store")), Registerer: n.registry,
	})
	if err == nil {
		n.store = s
	}
	return err
}

// loaders leaves half of the database's connections to commits and sends: loads
// that wait for a lock must not keep these from noting what was done. The
// embedded store has no connections.
func (n *Node) loaders() int {
	if n.cfg.kind() != storePostgres {
		return 0 // the default
	}
	return max(1, cmp.Or(n.cfg.Database.Connections, postgres.DefaultConns)/2)
}

// patiently does what needs the database, again and again while that isn't
// available: whoever starts everything at once shouldn't have to mind the order.
// What waiting doesn't help is returned, as is the end of ctx.
func (n *Node) patiently(ctx context.Context, step string, do func(context.Context) error) error {
	again := time.NewTicker(retryEvery) //nolint:forbidigo // the one clock of waiting for the database
	defer again.Stop()
	for said := (time.Time{}); ; {
		err := do(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if !errors.Is(err, parley.ErrUnavailable) {
			return err
		}
		if now := n.now(); now.Sub(said) >= sayEvery {
			said = now
			n.log.WarnContext(ctx, "waiting for the database", slog.String("step", step), slog.Any("error", err))
		}
		select {
		case <-ctx.Done():
		case <-again.C:
		}
	}
}

// folder is a data folder that belongs to this process.
type folder struct {
	file *os.File
	id   string // of the node to which it has belonged from the first
}

const (
	lockFile  = "NODE"
	idMax     = 64 // bytes
	ownerOnly = 0o700
)

// lockFolder makes the folder, if there is none, and locks it: what a node notes
// there of itself is of one process at a time. The lock goes with the process.
//
// The lock's file holds an id of the node, by which a process that follows one
// that was killed takes its leases without waiting for their end: having the lock,
// it knows that the other is gone. A new folder gets the id fresh.
func lockFolder(dir, fresh string) (folder, error) {
	if err := os.MkdirAll(dir, ownerOnly); err != nil {
		return folder{}, fmt.Errorf("data folder: %w", err)
	}
	f, err := os.OpenFile(filepath.Join(dir, lockFile), os.O_CREATE|os.O_RDWR, secretMode)
	if err != nil {
		return folder{}, fmt.Errorf("data folder: %w", err)
	}
	if err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB); err != nil {
		return folder{}, errors.Join(fmt.Errorf("data folder %s: %w: stop the process that uses it, or name another directory (%w)",
			dir, parley.ErrLocked, err), f.Close())
	}
	id, err := idIn(f, fresh)
	if err != nil {
		return folder{}, errors.Join(fmt.Errorf("data folder %s: %w", dir, err), f.Close())
	}
	return folder{file: f, id: id}, nil
}

// idIn reads a node's id, and writes it if there is none, or half of one that a
// crash has left: an id that is lost costs a wait, and nothing else.
func idIn(f *os.File, fresh string) (string, error) {
	buf := make([]byte, idMax)
	n, err := f.ReadAt(buf, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return "", fmt.Errorf("read the node's id: %w", err)
	}
	if id, whole := strings.CutSuffix(string(buf[:n]), "\n"); whole {
		return id, nil
	}
	if err := errors.Join(f.Truncate(0), writeAt(f, fresh+"\n"), f.Sync()); err != nil {
		return "", fmt.Errorf("write the node's id: %w", err)
	}
	return fresh, nil
}

func writeAt(f *os.File, text string) error {
	_, err := f.WriteAt([]byte(text), 0)
	return err
}

func (f folder) close() error {
	if f.file == nil {
		return nil
	}
	return f.file.Close()
}
