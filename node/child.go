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
	"syscall"
	"time"

	"github.com/goccy/go-yaml"

	"github.com/parleychat/parley/meta/metatest"
)

const (
	startLimit = 30 * time.Second // for the node to become ready
	stopLimit  = drainLimit + 5*time.Second
	demoBrand  = "demo"
	demoBot    = "tally" // the bot whose protocol the simulator knows
	secretMode = 0o600
	countLimit = 500 * time.Millisecond // for the node to tell its metrics
)

// child is the node under test: a process of this same program, started again
// after each kill on the same store and the same port.
type child struct {
	dir       string
	cfg       Config
	store     *demoStore
	webhooks  string
	admin     string
	cmd       *exec.Cmd
	died      chan error // of a death that nobody ordered
	ended     chan struct{}
	death     error // how the last process ended
	processes int
	cpu       time.Duration // of the processes that have ended
	late      int           // events that were acknowledged from the spool, as last counted
	lateBase  int           // of them, by processes that have ended
}

// newChild writes the configuration: cfg, with what the child decides itself.
func newChild(ctx context.Context, dir string, sim *metatest.Simulator, store *demoStore, cfg Config) (*child, error) {
	c := &child{dir: dir, store: store, died: make(chan error, 1)}
	for _, addr := range []*string{&c.webhooks, &c.admin} {
		free, err := freeAddress(ctx)
		if err != nil {
			return nil, err
		}
		*addr = free
	}
	cfg.Listen, cfg.Admin, cfg.Data = c.webhooks, c.admin, filepath.Join(dir, "data")
	cfg.Graph, cfg.Apps = Graph{URL: sim.GraphURL()}, []AppConfig{c.app(sim)}
	c.cfg = cfg
	if err := errors.Join(c.configure(), c.writeSecrets(sim)); err != nil {
		return nil, err
	}
	return c, nil
}

// configure writes the configuration, with the store as it is now.
func (c *child) configure() error {
	b, err := yaml.Marshal(c.store.configure(c.cfg))
	if err == nil {
		err = os.WriteFile(filepath.Join(c.dir, "parley.yaml"), b, secretMode)
	}
	if err != nil {
		return fmt.Errorf("write the node's configuration: %w", err)
	}
	return nil
}

// freeAddress finds a port that nobody uses.
func freeAddress(ctx context.Context) (string, error) {
	var lc net.ListenConfig
	ln, err := lc.Listen(ctx, "tcp", "127.0.0.1:0")
	if err != nil {
		return "", fmt.Errorf("find a free port: %w", err)
	}
	return ln.Addr().String(), ln.Close()
}

func (c *child) app(sim *metatest.Simulator) AppConfig {
	cfg := sim.Config()
	app := AppConfig{
		Name: cfg.App, MetaAppID: cfg.AppID,
		Secrets: []Secret{"file:secret"}, VerifyTokens: []Secret{"file:verify"},
	}
	for _, ch := range sim.Channels() {
		app.Channels = append(app.Channels, ChannelConfig{
			Brand: demoBrand, Kind: string(ch.Platform), ID: ch.ID, Token: Secret("file:token-" + ch.ID), Bot: demoBot,
		})
	}
	return app
}

func (c *child) writeSecrets(sim *metatest.Simulator) error {
	cfg := sim.Config()
	secrets := map[string]string{"secret": cfg.Secret, "verify": cfg.VerifyToken}
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
	log, err := os.OpenFile(filepath.Join(c.dir, "node.log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, secretMode)
	if err != nil {
		return fmt.Errorf("open the node's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	// Not CommandContext: the end of ctx must drain the node, not kill it.
	c.cmd = exec.Command(self, "serve", "--config", filepath.Join(c.dir, "parley.yaml")) //nolint:noctx // see above
	c.cmd.Stdout, c.cmd.Stderr = log, log
	// What the environment sets for a real node is not for this one.
	c.cmd.Env = slices.DeleteFunc(os.Environ(), func(v string) bool { return strings.HasPrefix(v, envPrefix+"_") })
	c.cmd.SysProcAttr = childAttributes()
	if err := c.cmd.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	c.processes++
	c.lateBase = c.late
	c.ended = make(chan struct{})
	go c.wait(c.cmd, c.ended)
	return c.await(ctx)
}

func (c *child) wait(cmd *exec.Cmd, ended chan<- struct{}) {
	err := cmd.Wait()
	if err == nil {
		err = errors.New("exit code 0")
	}
	select {
	case c.died <- err:
	default:
	}
	close(ended)
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
		case err := <-c.died:
			return fmt.Errorf("the node did not start: %w", err)
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

// lateMetric counts the events that a node has acknowledged from its spool.
const lateMetric = "parley_ingress_spool_late_total"

// count asks the process how many events it has acknowledged from its spool. One
// that doesn't answer is asked the next time.
func (c *child) count(ctx context.Context) {
	ctx, cancel := context.WithTimeout(ctx, countLimit)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+c.admin+"/metrics", http.NoBody)
	if err != nil {
		return
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	lines := bufio.NewScanner(resp.Body)
	for lines.Scan() {
		value, ok := strings.CutPrefix(lines.Text(), lateMetric+" ")
		if n, err := strconv.ParseFloat(value, 64); ok && err == nil {
			c.late = c.lateBase + int(n)
		}
	}
	_ = resp.Body.Close() // what was read counts
}

// kill ends the process as a power cut would, and says when.
func (c *child) kill() time.Time {
	_ = c.cmd.Process.Kill() // it may have died by itself; then died tells
	at := time.Now()         //nolint:forbidigo // watches a real process
	c.finished()
	return at
}

// stop lets the process drain.
func (c *child) stop(ctx context.Context) error {
	c.count(context.WithoutCancel(ctx))
	_ = c.cmd.Process.Signal(syscall.SIGTERM)
	limit := time.AfterFunc(stopLimit, func() {
		_ = c.cmd.Process.Kill() // it may just have ended
	})
	c.finished()
	if !limit.Stop() {
		return fmt.Errorf("the node did not drain within %s", stopLimit)
	}
	if code := c.cmd.ProcessState.ExitCode(); code != exitOK {
		return fmt.Errorf("the node ended with code %d instead of draining: %w", code, c.death)
	}
	return nil
}

// finished waits for the end of the process and counts its CPU.
func (c *child) finished() {
	<-c.ended
	select {
	case c.death = <-c.died:
	default: // somebody has heard of it already
	}
	c.cpu += c.cmd.ProcessState.UserTime() + c.cmd.ProcessState.SystemTime()
}
