package node

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/cluster/clustertest"
	"github.com/parleychat/parley/meta/metatest"
)

// fleet is the nodes under test: one, or some that work together.
type fleet struct {
	children []*child
	died     chan error              // the first death that nobody ordered
	net      *clustertest.Namespaces // of nodes that have one each; nil: all are on loopback
	whole    *cluster.View

	doing sync.Mutex // one thing at a time is done to nodes
	mu    sync.Mutex // over what follows
	blows []blow
}

// blow is something that was done to a node.
type blow struct {
	kind string
	node int
	at   time.Time
}

// setting is what nodes are tested in.
type setting struct {
	dir   string
	sim   *metatest.Simulator
	store *demoStore
	net   *clustertest.Namespaces
	bot   string // that all channels have
	// previous says that the nodes begin with the previous version of it.
	previous bool
	clock    *demoClock
}

// newFleet writes the configurations.
func newFleet(ctx context.Context, s setting, n int, cfg Config) (*fleet, error) {
	f := &fleet{died: make(chan error, 1), net: s.net}
	configs := make([]Config, n)
	for i := range configs {
		configs[i] = cfg
		if err := f.place(ctx, i, &configs[i], n); err != nil {
			return nil, err
		}
	}
	var members []cluster.Member
	for i := range configs {
		suffix := ""
		if n > 1 {
			suffix = "-" + strconv.Itoa(i+1)
			configs[i].Name = "node" + suffix
			configs[i].Cluster.Join = nil
			for j := range configs {
				configs[i].Cluster.Join = append(configs[i].Cluster.Join, configs[j].Cluster.Bind)
			}
			members = append(members, cluster.Member{Name: configs[i].Name, Addr: configs[i].Cluster.Messages, Roles: cluster.Roles()})
		}
		c, err := newChild(s, suffix, configs[i], f.died)
		if err != nil {
			return nil, err
		}
		if s.net != nil {
			c.within = s.net.Within(i)
		}
		f.children = append(f.children, c)
	}
	f.whole = cluster.NewView(members)
	return f, nil
}

// place gives a node its addresses.
func (f *fleet) place(ctx context.Context, i int, cfg *Config, n int) error {
	if f.net != nil {
		host := f.net.Address(i)
		cfg.Listen, cfg.Admin = net.JoinHostPort(host, "8080"), net.JoinHostPort(host, "9090")
		cfg.Cluster.Bind, cfg.Cluster.Messages = net.JoinHostPort(host, "7946"), net.JoinHostPort(host, "7947")
		return nil
	}
	for _, addr := range []*string{&cfg.Listen, &cfg.Admin, &cfg.Cluster.Bind, &cfg.Cluster.Messages} {
		free, err := freeAddress(ctx)
		if err != nil {
			return err
		}
		*addr = free
	}
	if n == 1 {
		cfg.Cluster = ClusterConfig{}
	}
	return nil
}

// meetWithin is how long nodes that start together may need to find each other.
const meetWithin = 30 * time.Second

// meet waits until all nodes see each other.
func (f *fleet) meet(ctx context.Context) error {
	if len(f.children) == 1 {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, meetWithin)
	defer cancel()
	for ctx.Err() == nil {
		f.count(ctx)
		if f.total(func(c *child) int { return c.members }) == len(f.children)*len(f.children) &&
			f.total(func(c *child) int { return c.shards }) == parley.Shards {
			return nil
		}
		nap(ctx, 100*time.Millisecond) //nolint:mnd // between two looks
	}
	f.abort()
	return errors.New("the nodes have not found each other")
}

// blown is how often something was done.
func (f *fleet) blown(kind string) (n int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, b := range f.blows {
		if b.kind == kind {
			n++
		}
	}
	return n
}

// freeze stops a process, and lets it go on.
func (f *fleet) freeze(ctx context.Context, c *child, d time.Duration, sim *metatest.Simulator) error {
	if err := c.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return fmt.Errorf("freeze a node: %w", err)
	}
	sim.Frozen(time.Now()) //nolint:forbidigo // the demo watches real processes
	nap(ctx, d)
	sim.Thawed(time.Now()) //nolint:forbidigo // as above
	if err := c.cmd.Process.Signal(syscall.SIGCONT); err != nil {
		return fmt.Errorf("thaw a node: %w", err)
	}
	return nil
}

// start starts all at once.
func (f *fleet) start(ctx context.Context) error {
	errs := make([]error, len(f.children))
	var all sync.WaitGroup
	for i, c := range f.children {
		all.Go(func() { errs[i] = c.start(ctx) })
	}
	all.Wait()
	if err := errors.Join(errs...); err != nil {
		f.abort()
		return err
	}
	return nil
}

// abort ends those that run.
func (f *fleet) abort() {
	for _, c := range f.children {
		if c.cmd != nil && c.cmd.Process != nil {
			c.kill()
		}
	}
}

// stop lets all drain, one after another.
func (f *fleet) stop(ctx context.Context) error {
	var errs []error
	for _, c := range f.children {
		errs = append(errs, c.stop(ctx))
	}
	return errors.Join(errs...)
}

func (f *fleet) urls() (urls []string) {
	for _, c := range f.children {
		urls = append(urls, c.url())
	}
	return urls
}

// count asks all for what they count.
func (f *fleet) count(ctx context.Context) {
	var all sync.WaitGroup
	for _, c := range f.children {
		all.Go(func() { c.count(ctx) })
	}
	all.Wait()
}

// total sums something over all nodes.
func (f *fleet) total(of func(*child) int) (n int) {
	for _, c := range f.children {
		c.mu.Lock()
		n += of(c)
		c.mu.Unlock()
	}
	return n
}

// move lets the one node move to PostgreSQL.
func (f *fleet) move(ctx context.Context, w io.Writer) error {
	f.doing.Lock()
	defer f.doing.Unlock()
	return f.children[0].move(ctx, w)
}

// strike does something to a node and undoes it.
func (f *fleet) strike(ctx context.Context, d deed, sim *metatest.Simulator, w io.Writer) error {
	f.doing.Lock()
	defer f.doing.Unlock()
	c := f.children[d.node]
	c.count(ctx)
	_, _ = fmt.Fprintf(w, "  %s\n", d.describe(len(f.children)))
	at := time.Now() //nolint:forbidigo // the demo watches real processes
	switch d.kind {
	case killing:
		at = c.kill()
		sim.Killed(at)
		f.note(d, at)
		return c.start(ctx)
	case stopping:
		f.note(d, at)
		return f.freeze(ctx, c, d.lasts, sim)
	case draining:
		f.note(d, at)
		if err := c.stop(ctx); err != nil {
			return err
		}
		return c.start(ctx)
	case upgrading:
		f.note(d, at)
		return c.upgrade(ctx)
	case partition:
		f.note(d, at)
		return f.cutOff(ctx, d, sim)
	}
	return nil
}

func (f *fleet) note(d deed, at time.Time) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.blows = append(f.blows, blow{kind: d.kind, node: d.node, at: at})
}

// cutOff cuts a node off from the others for a while.
func (f *fleet) cutOff(ctx context.Context, d deed, sim *metatest.Simulator) error {
	sim.Frozen(time.Now()) //nolint:forbidigo // what is under way may be repeated, as after a freeze
	err := f.net.Cut(ctx, d.node, d.oneWay)
	nap(ctx, d.lasts)
	err = errors.Join(err, f.net.Mend(context.WithoutCancel(ctx), d.node))
	sim.Thawed(time.Now()) //nolint:forbidigo // as above
	return err
}

// owns reports whether a conversation is a node's while all are there, as far as
// that can be told from outside: a WhatsApp user may be known by either of two
// keys.
func (f *fleet) owns(node int, p metatest.Person) bool {
	kind := parley.ChannelKind(p.Channel.Platform)
	if kind != parley.Messenger && kind != parley.Instagram {
		return false
	}
	id := parley.Conversation{
		Channel: parley.Channel{Brand: demoBrand, Kind: kind, ID: p.Channel.ID},
		Contact: parley.Contact(parley.UserKey + p.ID),
	}
	m, _ := f.whole.Owner(cluster.Actors, id.Shard())
	return m.Addr == f.children[node].cfg.Cluster.Messages
}
