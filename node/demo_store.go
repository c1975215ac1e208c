package node

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/postgres"
)

// How long PostgreSQL is away after it was killed, unless --postgres-outage says.
const outageMin, outageMax = 500 * time.Millisecond, 2 * time.Second

const demoNodes = 9

// Validate is asked by kong: flags that don't go together are a mistake of the
// command line.
func (c *demoCommand) Validate() error {
	switch {
	case c.Nodes < 1 || c.Nodes > demoNodes:
		return fmt.Errorf("--nodes: between 1 and %d", demoNodes)
	case c.Nodes > 1 && c.Store != storePostgres:
		return errors.New("--nodes goes with --store postgres: nodes that work together share a database")
	case c.Nodes == 1 && c.Partition > 0:
		return errors.New("--partition goes with --nodes: there must be others to be cut off from")
	}
	if c.Move && c.Store != storeEmbedded {
		return errors.New("--move begins with --store embedded")
	}
	if c.UpgradeBot && c.Store != storePostgres {
		return errors.New("--upgrade-bot goes with --store postgres: the versions of what is stored are watched from outside")
	}
	if c.UndoUpgrade && (!c.UpgradeBot || c.Nodes == 1) {
		return errors.New("--undo-upgrade goes with --upgrade-bot and several --nodes")
	}
	return cmp.Or(c.validBot(), c.validCalls(), c.validDatabase())
}

// validDatabase looks at the flags of the database.
func (c *demoCommand) validDatabase() error {
	if c.Database != "" && c.Store != storePostgres && !c.Move {
		return errors.New("--database goes with --store postgres, or with --move")
	}
	if c.Database != "" {
		if _, err := placeOf(c.Database); err != nil {
			return fmt.Errorf("--database: %w", err)
		}
	}
	if (c.KillPostgres > 0 || c.PostgresOutage > 0) && (c.Store != storePostgres || c.Database != "") {
		return errors.New("--kill-postgres and --postgres-outage go with --store postgres without --database: only a server of the demonstration's own is killed")
	}
	return nil
}

// validBot looks at the flags of a bot over HTTP.
func (c *demoCommand) validBot() error {
	switch {
	case c.BotURL == "" && c.BotSecret != "":
		return errors.New("--bot-secret goes with --bot-url")
	case c.BotURL == "":
		return nil
	case c.BotSecret == "":
		return errors.New("--bot-url goes with --bot-secret, by which the bot knows who asks")
	case c.UpgradeBot:
		return errors.New("--bot-url doesn't go with --upgrade-bot: a bot over HTTP has no version that Parley could upgrade")
	case c.Partition > 0:
		return errors.New("--bot-url doesn't go with --partition: nodes in network namespaces of their own don't reach it")
	}
	bot, err := c.httpBot()
	if err != nil {
		return err
	}
	service := bot.service()
	if err := service.Validate(); err != nil {
		return fmt.Errorf("--bot-url: %w", err)
	}
	return nil
}

// httpBot is the bot over HTTP that plays.
func (c *demoCommand) httpBot() (HTTPBotConfig, error) {
	secret, err := placeOf(c.BotSecret)
	if err != nil {
		return HTTPBotConfig{}, fmt.Errorf("--bot-secret: %w", err)
	}
	return HTTPBotConfig{Name: botOverHTTP, URL: c.BotURL, Secret: secret, Concurrency: demoPosts, AllowPrivate: true}, nil
}

// demoStore is where the node of the demonstration keeps everything.
type demoStore struct {
	kind   string
	url    string           // of PostgreSQL
	server *pgserver.Server // if it is the demonstration's own
	idle   time.Duration    // CPU of the server before anything was played
	moved  uint64           // items that were copied from the embedded store
	moving time.Duration    // how long that took
}

// openStore finds or starts the database, and makes its schema.
func (c *demoCommand) openStore(ctx context.Context, dir string, sim *metatest.Simulator) (*demoStore, error) {
	s := &demoStore{kind: c.Store}
	if c.Store != storePostgres && !c.Move {
		return s, nil
	}
	if err := s.find(ctx, c.Database, dir); err != nil {
		return s, err
	}
	if err := os.WriteFile(filepath.Join(dir, "database"), []byte(s.url), secretMode); err != nil {
		return s, fmt.Errorf("write the database's place: %w", err)
	}
	if _, err := postgres.Migrate(ctx, s.url); err != nil {
		return s, err
	}
	if err := s.unused(ctx, sim); err != nil {
		return s, err
	}
	var err error
	if s.server != nil {
		s.idle, err = s.cpu()
	}
	return s, err
}

func (s *demoStore) find(ctx context.Context, place, dir string) error {
	if place != "" {
		secret, err := placeOf(place)
		if err == nil {
			s.url, err = secret.Resolve("")
		}
		if err != nil {
			return fmt.Errorf("--database: %w", err)
		}
		return nil
	}
	server, err := pgserver.Start(ctx, pgserver.Config{Durable: true, Log: filepath.Join(dir, "postgres.log")})
	if err != nil {
		return fmt.Errorf("start a PostgreSQL for the demonstration (--database names one that runs): %w", err)
	}
	s.server, s.url = server, server.URL("postgres")
	return nil
}

// unused sees that the database is nobody else's, and that this very simulation
// has not been played on it: its messages would be known already.
func (s *demoStore) unused(ctx context.Context, sim *metatest.Simulator) error {
	db, err := postgres.Open(ctx, postgres.Config{URL: s.url, Conns: 1})
	if err != nil {
		return err
	}
	all, err := db.Registered(ctx)
	if err := errors.Join(err, db.Close()); err != nil {
		return err
	}
	if s.kind == storeEmbedded && len(all) > 0 {
		return errors.New("the database has been used; a store is copied into an empty one")
	}
	for _, r := range all {
		if r.Channel.Brand != demoBrand {
			return fmt.Errorf("the database serves brand %q: the demonstration leaves its rows behind, so it wants a database of its own", r.Channel.Brand)
		}
		if slices.ContainsFunc(sim.Channels(), func(c metatest.Channel) bool { return c.ID == r.Channel.ID }) {
			return errors.New("this seed has been played on the database; its messages would be taken for repeated ones; give another --seed")
		}
	}
	return nil
}

// showLeft says what is left in the database after a run that broke a promise.
func (s *demoStore) showLeft(ctx context.Context, w io.Writer) {
	if s.kind != storePostgres {
		return
	}
	db, err := postgres.Open(ctx, postgres.Config{URL: s.url, Conns: 1})
	if err != nil {
		return // the verdict tells enough
	}
	if b, err := db.Backlog(ctx); err == nil {
		_, _ = fmt.Fprintf(w, "  left in the database: %+v\n", b)
	}
	_ = db.Close() // nothing was written
}

// configure names the store in a node's configuration.
func (s *demoStore) configure(cfg Config) Config {
	cfg.Store = s.kind
	if s.kind == storePostgres {
		cfg.Database.URL = "file:database"
	}
	return cfg
}

// cpu is the server's so far; where the system doesn't tell it is 0.
func (s *demoStore) cpu() (time.Duration, error) {
	spent, err := s.server.CPU()
	if errors.Is(err, errors.ErrUnsupported) {
		return 0, nil
	}
	return spent, err
}

// close stops the server, and returns what it took since it was idle.
func (s *demoStore) close(ctx context.Context) (time.Duration, error) {
	if s.server == nil {
		return 0, nil
	}
	spent, err := s.cpu()
	return spent - s.idle, errors.Join(err, s.server.Stop(context.WithoutCancel(ctx)))
}

// outages kills the server at random moments of the run, each time for a while,
// until ctx ends. It leaves it running.
func (c *demoCommand) outages(ctx context.Context, s *demoStore, sim *metatest.Simulator, w io.Writer) (kills int, err error) {
	rng := rand.New(rand.NewPCG(c.Seed, 98))
	began := time.Now() //nolint:forbidigo // the demo watches real processes
	for _, at := range c.moments(rng, c.KillPostgres) {
		if !nap(ctx, at-time.Since(began)) { //nolint:forbidigo // as above
			break
		}
		away := c.PostgresOutage
		if away == 0 {
			away = outageMin + time.Duration(rng.Float64()*float64(outageMax-outageMin))
		}
		_, _ = fmt.Fprintf(w, "  kill -9 of PostgreSQL, started again in %.1f s\n", away.Seconds())
		kills++
		killed := time.Now() //nolint:forbidigo // as above
		if err := s.outage(ctx, away, sim); err != nil {
			return kills, err
		}
		_, _ = fmt.Fprintf(w, "  PostgreSQL is back after %.1f s\n", time.Since(killed).Seconds()) //nolint:forbidigo // as above
	}
	return kills, nil
}

// outage is one of them.
func (s *demoStore) outage(ctx context.Context, away time.Duration, sim *metatest.Simulator) error {
	sim.StoreDown(time.Now()) //nolint:forbidigo // as above
	if err := s.server.Kill(); err != nil {
		return fmt.Errorf("kill PostgreSQL: %w", err)
	}
	nap(ctx, away)
	if err := s.server.StartAgain(context.WithoutCancel(ctx)); err != nil {
		return fmt.Errorf("start PostgreSQL again: %w", err)
	}
	sim.StoreUp(time.Now()) //nolint:forbidigo // as above
	return nil
}

// nap waits, and reports whether it was for the whole time.
func nap(ctx context.Context, d time.Duration) bool {
	timer := time.NewTimer(d) //nolint:forbidigo // as above
	defer timer.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-timer.C:
		return true
	}
}
