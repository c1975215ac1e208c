package node

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/persistence/pgserver"
)

const (
	startLimit = 30 * time.Second // for the node to become ready
	stopLimit  = drainLimit + 5*time.Second
	demoBrand  = "demo"
	demoBot    = "tally" // the bot whose protocol the simulator knows
	secretMode = 0o600
	countLimit = 2 * time.Second // for the node to tell its metrics, while its database starts again
)

// child is the node under test: a process of this same program, started again
// after each kill on the same store and the same port.
type child struct {
	dir      string
	suffix   string // of its files, if there are several
	cfg      Config
	store    *demoStore
	webhooks string
	admin    string
	within   []string // the command that runs it in a network of its own, if it has one
	cmd      *exec.Cmd
	died     chan<- error // told of a death that nobody ordered
	ordered  atomic.Bool
	ended    chan struct{}
	death    error // how the last process ended

	mu           sync.Mutex // over what follows
	processes    int
	cpu          time.Duration // of the processes that have ended
	late         int           // events that were acknowledged from the spool, as last counted
	lateBase     int           // of them, by processes that have ended
	members      int           // that it sees
	shards       int           // that it runs
	doubtful     int
	doubtfulBase int
	previous     bool // it is to run the previous versions of the bots
}

// newChild writes the configuration: cfg, with what the child decides itself.
func newChild(s setting, suffix string, cfg Config, died chan<- error) (*child, error) {
	c := &child{dir: s.dir, suffix: suffix, store: s.store, died: died, webhooks: cfg.Listen, admin: cfg.Admin, previous: s.previous}
	cfg.Data = filepath.Join(s.dir, "data"+suffix)
	cfg.AdminToken, cfg.AuditEvery = "file:"+demoTokenFile, time.Second
	cfg.Graph, cfg.Apps = Graph{URL: s.sim.GraphURL()}, []AppConfig{c.app(s.sim, s.bot)}
	c.cfg = cfg
	if err := errors.Join(c.configure(), c.writeSecrets(s.sim)); err != nil {
		return nil, err
	}
	return c, nil
}

// configure writes the configuration, with the store as it is now.
func (c *child) configure() error {
	b, err := yaml.Marshal(c.store.configure(c.cfg))
	if err == nil {
		err = os.WriteFile(c.config(), b, secretMode)
	}
	if err != nil {
		return fmt.Errorf("write the node's configuration: %w", err)
	}
	return nil
}

func (c *child) config() string { return filepath.Join(c.dir, "parley"+c.suffix+".yaml") }

// freeAddress finds an address that nobody uses.
func freeAddress(ctx context.Context) (string, error) {
	port, err := pgserver.FreePort(ctx)
	return net.JoinHostPort("127.0.0.1", strconv.Itoa(port)), err
}

func (c *child) app(sim *metatest.Simulator, bot string) AppConfig {
	cfg := sim.Config()
	app := AppConfig{
		Name: cfg.App, MetaAppID: cfg.AppID,
		Secrets: []Secret{"file:secret"}, VerifyTokens: []Secret{"file:verify"},
	}
	for _, ch := range sim.Channels() {
		app.Channels = append(app.Channels, ChannelConfig{
			Brand: demoBrand, Kind: string(ch.Platform), ID: ch.ID, Token: Secret("file:token-" + ch.ID), Bot: bot,
		})
	}
	return app
}

func (c *child) writeSecrets(sim *metatest.Simulator) error {
	cfg := sim.Config()
	secrets := map[string]string{"secret": cfg.Secret, "verify": cfg.VerifyToken, demoTokenFile: demoToken}
	for _, ch := range sim.Channels() {
		secrets["token-"+ch.ID] = ch.Token
	}
	for name, value := range secrets {
		if err := os.WriteFile(filepath.Join(c.dir, name), []byte(value), secretMode); err != nil {
			return fmt.Errorf("write the node's secrets: %w", err)
		}
	}
	return nil
}

func (c *child) url() string { return "http://" + c.webhooks }

// start starts a process and returns when it is ready.
func (c *child) start(ctx context.Context) error {
	self, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	log, err := os.OpenFile(filepath.Join(c.dir, "node"+c.suffix+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, secretMode)
	if err != nil {
		return fmt.Errorf("open the node's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	// Not CommandContext: the end of ctx must drain the node, not kill it.
	args := append(slices.Clone(c.within), self, "serve", "--config", c.config())
	if c.previous {
		args = append(args, "--previous-bots")
	}
	c.cmd = exec.Command(args[0], args[1:]...) //nolint:gosec,noctx // our own program; see above
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// What the environment sets for a real node is not for this one.
	c.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, envPrefix+"_") })
	c.cmd.SysProcAttr = childAttributes()
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	c.mu.Lock()
	c.processes++
	c.lateBase, c.doubtfulBase = c.late, c.doubtful
	c.mu.Unlock()
	c.ended = make(chan struct{})
	c.ordered.Store(false)
	go c.wait(c.cmd, c.ended)
	return c.await(ctx)
}

func (c *child) wait(cmd *exec.Cmd, ended chan<- struct{}) {
	err := cmd.Wait()
	if err == nil {
		err = errors.New("exit code 0")
	}
	c.death = err
	ordered := c.ordered.Load() // before the next process may be started
	close(ended)
	if ordered {
		return
	}
	select {
	case c.died <- fmt.Errorf("node%s: %w", c.suffix, err):
	default: // one is enough
	}
}

// await polls the readiness until the node is ready, has died, or took too long.
func (c *child) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, startLimit)
	defer cancel()
	poll := time.NewTicker(10 * time.Millisecond) //nolint:forbidigo // watches a real process
	defer poll.Stop()
	for {
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the node to become ready: %w", ctx.Err())
		case <-c.ended:
			return fmt.Errorf("the node did not start: %w", c.death)
		case <-poll.C:
		}
		if c.ready(ctx) {
			return nil
		}
	}
}

func (c *child) ready(ctx context.Context) bool {
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/readyz", http.NoBody)
	if err != nil {
		return false
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return false
	}
	return resp.Body.Close() == nil && resp.StatusCode == http.StatusOK
}

// What is counted of a process's metrics.
const (
	lateMetric     = "parley_ingress_spool_late_total" // events that it has acknowledged from its spool
	membersMetric  = "parley_cluster_members"
	shardsMetric   = "parley_actors_held_shards"
	doubtfulMetric = "parley_egress_doubtful_total" // messages that it took over without knowing what became of them
	spooledMetric  = "parley_ingress_spool_spooled_total"
	drainedMetric  = "parley_ingress_spool_drained_total"
	waitingMetric  = "parley_ingress_spool_records"
)

// count asks the process for its metrics. One that doesn't answer is asked the next
// time.
func (c *child) count(ctx context.Context) {
	all := c.metrics(ctx)
	c.mu.Lock()
	defer c.mu.Unlock()
	for name, take := range map[string]func(int){
		lateMetric:     func(n int) { c.late = c.lateBase + n },
		membersMetric:  func(n int) { c.members = n },
		shardsMetric:   func(n int) { c.shards = n },
		doubtfulMetric: func(n int) { c.doubtful = c.doubtfulBase + n },
	} {
		if n, ok := all[name]; ok {
			take(int(n))
		}
	}
}

// metrics are those of the process that have no labels; none, if it doesn't answer.
func (c *child) metrics(ctx context.Context) map[string]float64 {
	ctx, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/metrics", http.NoBody)
	if err != nil {
		return nil
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return nil
	}
	all := map[string]float64{}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		name, value, _ := strings.Cut(lines.Text(), " ")
		if n, err := strconv.ParseFloat(value, 64); err == nil {
			all[name] = n
		}
	}
	_ = resp.Body.Close() // what was read counts
	return all
}

// kill ends the process as a power cut would, and says when.
func (c *child) kill() time.Time {
	c.ordered.Store(true)
	_ = c.cmd.Process.Kill() // it may have died by itself; then died tells
	at := time.Now()         //nolint:forbidigo // watches a real process
	c.finished()
	return at
}

// stop lets the process drain.
func (c *child) stop(ctx context.Context) error {
	c.count(context.WithoutCancel(ctx))
	c.ordered.Store(true)
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.AfterFunc(stopLimit+c.cfg.DrainFor, func() {
		_ = c.cmd.Process.Kill() // it may just have ended
	})
	c.finished()
	if !limit.Stop() {
		return fmt.Errorf("the node did not drain within %s", stopLimit+c.cfg.DrainFor)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != exitOK {
		return fmt.Errorf("the node ended with code %d instead of draining: %w", code, c.death)
	}
	return nil
}

// finished waits for the end of the process and counts its CPU.
func (c *child) finished() {
	<-c.ended
	c.mu.Lock()
	defer c.mu.Unlock()
	c.cpu += c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}
