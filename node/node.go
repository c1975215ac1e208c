package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"path/filepath"
	"sync/atomic"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/audit"
	"github.com/parleychat/parley/callout"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/console"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/ingress"
)

const (
	// drainLimit is the time in which a node told to stop has stopped. The parts
	// drain one after another, in the usual case within a few milliseconds. In the
	// worst, their times add up to less than the limit (ingress and admin take a
	// second more each to break off what is left): a slow sender of webhooks, an
	// endless turn and a Graph API that hangs may come together.
	drainLimit   = 10 * time.Second
	ingressDrain = 2 * time.Second
	actorsDrain  = 2 * time.Second
	egressDrain  = 3 * time.Second
	spoolDrain   = 300 * time.Millisecond // beyond what the others take
)

// Node is one running Parley.
type Node struct {
	cfg      Config
	log      *slog.Logger
	bots     []parley.Bot
	clock    func() time.Time // of the embedded store and of what is compared with it; nil is the system's
	up       func()           // called once, when it serves, if set
	served   *served
	registry *prometheus.Registry
	database string         // connection string; empty for the embedded store
	lock     folder         // the data folder, if no store holds it
	store    store          // nil until it is open
	spool    *ingress.Spool // only with a database
	spooling *stage         // runs the spool, from before channels are learned
	ingress  *ingress.Server
	host     *actors.Host
	egress   *egress.Manager
	services []callout.Service // with their secrets
	proofs   *proofs
	callout  *callout.Caller // beside egress
	name     string          // of this run, among the members
	members  *members        // nil without others
	eyes     *eyes
	stopping atomic.Pointer[context.CancelCauseFunc] // ends Run
	upkeep   *upkeep
	auditor  *audit.Auditor
	admin    *admin
	webhooks net.Listener
	adminLn  net.Listener
}

// stage is a part that runs until its context ends. Stages are stopped in the
// order of the line: nothing new comes in while what is there flows out.
type stage struct {
	name   string
	run    func(context.Context) error
	cancel context.CancelFunc
	err    error
	done   chan struct{}
}

// start runs the stage; if it fails, the whole node is to stop.
func (s *stage) start(ctx context.Context, failed context.CancelCauseFunc) {
	ctx, s.cancel = context.WithCancel(ctx)
	s.done = make(chan struct{})
	go func() {
		defer close(s.done)
		if err := s.run(ctx); err != nil {
			s.err = fmt.Errorf("%s: %w", s.name, err)
			failed(err)
		}
	}()
}

// end stops the stage, if it was started, and waits for it.
func (s *stage) end() error {
	if s == nil {
		return nil
	}
	s.cancel()
	<-s.done
	return s.err
}

// Open reads the secrets and takes what only one process can have: the data
// folder, with the embedded store in it, and the addresses. Nothing runs yet. dir
// is the folder that relative secret files are found in.
func Open(ctx context.Context, cfg Config, bots []parley.Bot, dir string, log *slog.Logger) (*Node, error) {
	n := newNode(cfg, bots, log)
	err := n.open(ctx, dir)
	return n, err
}

func newNode(cfg Config, bots []parley.Bot, log *slog.Logger) *Node {
	return &Node{cfg: cfg, log: log, bots: cfg.withHTTPBots(bots), registry: prometheus.NewRegistry()}
}

// open does what Open says.
func (n *Node) open(ctx context.Context, dir string) (err error) {
	n.eyes = newEyes(n)
	defer func() {
		if err != nil {
			err = errors.Join(err, n.close())
		}
	}()
	n.registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if n.served, err = resolveAll(n.cfg, n.bots, dir); err != nil {
		return err
	}
	if n.cfg.does(cluster.Egress) {
		if n.services, err = readServices(n.cfg.Services, dir); err != nil {
			return err
		}
		bots, err := readHTTPBots(n.cfg.HTTPBots, dir)
		if err != nil {
			return err
		}
		n.services = append(n.services, bots...)
		n.proofs = newProofs(&n.cfg, dir, n.services)
	}
	if n.cfg.kind() == storePostgres {
		if n.database, err = n.cfg.Database.URL.Resolve(dir); err != nil {
			return fmt.Errorf("database.url: %w", err)
		}
	}
	if err := n.claimStore(); err != nil {
		return err
	}
	n.name = n.memberName()
	if err := n.joinOthers(dir); err != nil {
		return err
	}
	if err := n.listen(ctx); err != nil {
		return err
	}
	n.upkeep = newUpkeep(n.log, n.registry)
	n.admin = &admin{upkeep: n.upkeep, gatherer: n.registry}
	if n.cfg.does(cluster.Console) {
		n.admin.api, err = n.newAPI(dir)
	}
	return err
}

// newAPI makes the admin API.
func (n *Node) newAPI(dir string) (http.Handler, error) {
	cfg := console.Config{Operator: operator{n}, Letters: letterOffice{n}, Conversations: archive{n}, Audit: auditRoom{n}, Logger: n.log.With(slog.String("part", "console")), Registerer: n.registry}
	if n.cfg.AdminToken != "" {
		token, err := n.cfg.AdminToken.Resolve(dir)
		if err != nil {
			return nil, fmt.Errorf("admin_token: %w", err)
		}
		cfg.Token = token
	}
	api, err := console.New(cfg)
	if err != nil {
		return nil, err
	}
	return api.Handler(), nil
}

// listen takes the addresses early: one that is in use is a mistake to be told
// before anything runs.
func (n *Node) listen(ctx context.Context) (err error) {
	var lc net.ListenConfig
	if n.cfg.does(cluster.Ingress) {
		if n.webhooks, err = lc.Listen(ctx, "tcp", n.cfg.Listen); err != nil {
			return fmt.Errorf("listen for webhooks: %w", err)
		}
	}
	if n.adminLn, err = lc.Listen(ctx, "tcp", n.cfg.Admin); err != nil {
		return fmt.Errorf("listen for operators: %w", err)
	}
	return nil
}

// now is the wall clock, for the name of this process.
func (n *Node) now() time.Time { return time.Now() } //nolint:forbidigo // see above

// time is the clock that due-ness is judged by.
func (n *Node) time() time.Time {
	if n.clock != nil {
		return n.clock()
	}
	return n.now()
}

func (n *Node) random() (b [16]byte) {
	_, _ = rand.Read(b[:]) // never fails: it ends the process instead
	return b
}

// beginRefusing is begin, with webhooks refused as long as it may take.
func (n *Node) beginRefusing(ctx context.Context, failed context.CancelCauseFunc) error {
	if n.store != nil || n.webhooks == nil {
		return n.begin(ctx, failed)
	}
	refusing := &stage{name: "ingress", run: func(ctx context.Context) error { return refuse(ctx, n.webhooks) }}
	refusing.start(context.WithoutCancel(ctx), failed)
	err := n.begin(ctx, failed)
	if refused := refusing.end(); refused != nil {
		return refused // which is why begin has ended
	}
	return err
}

// begin opens the database, puts the parts together and learns the channels. It
// takes as long as the database is not there.
func (n *Node) begin(ctx context.Context, failed context.CancelCauseFunc) error {
	if err := n.patiently(ctx, "open", n.openDatabase); err != nil {
		return err
	}
	if err := n.assemble(n.served, n.registry); err != nil {
		return err
	}
	if n.spool != nil {
		// What an earlier process has left in it goes first: as long as there is
		// something of the quarantine among it, no channel can be learned.
		n.spooling = &stage{name: "spool", run: n.drainSpool}
		n.spooling.start(context.WithoutCancel(ctx), failed)
	}
	return n.patiently(ctx, "learn channels", func(ctx context.Context) error { return n.learn(ctx, n.served) })
}

func (n *Node) assemble(s *served, registry *prometheus.Registry) (err error) {
	host := actors.Config{
		Store: n.store, Agenda: n.store, Bot: s.bot, Thread: func(ch parley.Channel) string { return s.threads[ch] }, Notes: filepath.Join(n.cfg.Data, "running"),
		// The egress is made after the host, and runs only once both are there.
		Committed: func(ch parley.Channel) {
			if n.egress != nil {
				n.egress.Wake(ch)
			}
		},
		DrainTimeout: actorsDrain, Loaders: n.loaders(),
		Logger: n.log.With(slog.String("part", "actors")), Registerer: registry,
	}
	if n.cfg.does(cluster.Egress) {
		host.Called = func() { // as above
			if n.callout != nil {
				n.callout.Wake()
			}
		}
	}
	n.auditor = n.newAuditor()
	if n.members != nil {
		n.members.adjust(&host)
	}
	if n.host, err = actors.New(host); err != nil {
		return err
	}
	if n.cfg.does(cluster.Egress) {
		if n.egress, err = n.newEgress(s, registry); err != nil {
			return err
		}
		if n.callout, err = n.newCallout(registry); err != nil {
			return err
		}
		if n.members != nil { // nothing is this node's before it has heard of the others
			n.egress.Serve(func(parley.Channel) bool { return false })
		}
	}
	if n.webhooks == nil {
		return nil
	}
	to := later{n}
	cfg := ingress.Config{
		Listener: n.webhooks, Apps: s.apps, Inbox: to, Quarantine: to, Deliverer: n.host,
		Limits: ingress.Limits{DrainTimeout: ingressDrain},
		Logger: n.log.With(slog.String("part", "ingress")), Registerer: registry,
	}
	if n.spool != nil {
		cfg.Inbox, cfg.Quarantine = n.spool, n.spool
	}
	if n.members != nil {
		cfg.Sharing = func() int { return n.members.sharing(cluster.Ingress) }
	}
	n.ingress, err = ingress.New(cfg)
	return err
}

// learn registers the channels, and lets what came for them before they were
// known go first.
func (n *Node) learn(ctx context.Context, s *served) error {
	registered, err := n.store.Registered(ctx)
	if err != nil {
		return err
	}
	// Those that are known cost no write: a node of many channels starts
	// quickly, and one whose disk is full starts at all.
	known := make(map[parley.Registration]bool, len(registered))
	for _, r := range registered {
		known[r] = true
	}
	for app, channels := range s.channels {
		for _, ch := range channels {
			r := parley.Registration{App: app, Channel: ch}
			if known[r] {
				continue
			}
			if _, err := n.store.Register(ctx, r); err != nil {
				return fmt.Errorf("register channel %s: %w", ch, err)
			}
			n.log.InfoContext(ctx, "channel learned", slog.String("app", string(app)), slog.String("channel", ch.String()))
		}
		if n.ingress == nil {
			continue
		}
		if err := n.ingress.Learn(ctx, app, channels); err != nil {
			return fmt.Errorf("learn the channels of app %s: %w", app, err)
		}
	}
	return nil
}

// Run serves until ctx ends, then drains and closes the store. It returns
// actors.ErrAbandoned if the process should be replaced by a new one. With a
// database it waits for it first, for as long as that takes; meanwhile it says
// that it isn't ready.
func (n *Node) Run(ctx context.Context) error {
	stop, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	n.stopping.Store(&cancel)
	watch := &stage{name: "admin", run: func(ctx context.Context) error { return n.admin.Run(ctx, n.adminLn) }}
	watch.start(context.WithoutCancel(ctx), cancel)
	if err := n.beginRefusing(stop, cancel); err != nil {
		if stop.Err() != nil && errors.Is(err, context.Canceled) {
			err = nil // told to stop, or the cause is that of watch
		}
		return errors.Join(err, n.spooling.end(), watch.end(), n.close())
	}
	stages := n.stages()
	for _, s := range stages {
		s.start(context.WithoutCancel(ctx), cancel)
	}
	n.admin.serves(n)
	if n.up != nil {
		n.up()
	}
	n.log.InfoContext(ctx, "serving", slog.String("webhooks", n.entrance()), slog.String("admin", n.adminLn.Addr().String()))
	<-stop.Done()
	n.admin.ready.Store(false)
	n.log.InfoContext(ctx, "draining")
	if cause := context.Cause(stop); ctx.Err() != nil || errors.Is(cause, errDrained) {
		n.giveUp(context.WithoutCancel(ctx))
	} else if n.members != nil {
		n.members.cluster.Drain() // something has failed: others should not wait for this to end
	}
	var errs []error
	// The spool goes on draining while turns and sends come to their end.
	for _, s := range append(stages, n.spooling, watch) {
		errs = append(errs, s.end())
	}
	return errors.Join(append(errs, n.close())...)
}

// entrance is the address for webhooks.
func (n *Node) entrance() string {
	if n.webhooks == nil {
		return "none"
	}
	return n.webhooks.Addr().String()
}

// stages are the parts in the order in which they are stopped. Good-bye is said
// last: as long as a member is seen, what it does is waited for.
func (n *Node) stages() (all []*stage) {
	if n.ingress != nil {
		all = append(all, &stage{name: "ingress", run: n.ingress.Run})
	}
	all = append(all, &stage{name: "actors", run: n.host.Run})
	if n.egress != nil {
		all = append(all, &stage{name: "egress", run: n.sendAndCall}, &stage{name: "tokens", run: func(ctx context.Context) error {
			return n.served.tokens.watch(ctx, reloadEvery, n.log, n.egress.Release)
		}})
	}
	all = append(all,
		&stage{name: "upkeep", run: func(ctx context.Context) error { return n.upkeep.run(ctx, n.store, n.cfg.HistoryFor) }},
		&stage{name: "audit", run: n.auditor.Run})
	if n.members != nil {
		all = append(all, &stage{name: "cluster", run: n.members.run})
	}
	return all
}

// close lets go of what Open took. Listeners that served are closed already.
func (n *Node) close() error {
	var errs []error
	for _, ln := range []net.Listener{n.webhooks, n.adminLn} {
		if ln == nil {
			continue
		}
		if err := ln.Close(); err != nil && !errors.Is(err, net.ErrClosed) {
			errs = append(errs, fmt.Errorf("close listener: %w", err))
		}
	}
	if n.spool != nil {
		errs = append(errs, n.spool.Close())
		n.spool = nil
	}
	if n.store != nil {
		errs = append(errs, n.store.Close())
		n.store = nil
	}
	errs = append(errs, n.lock.close())
	return errors.Join(errs...)
}
