package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/bench/bare"
	"github.com/parleychat/parley/meta/metatest"
)

const (
	readyMax = 20 * time.Second // for a node to become ready
	drainMax = 15 * time.Second // and to end
	ownMode  = 0o600
	logTail  = 2048 // bytes of a node's log that an error shows
	botPosts = 64   // posts to a bot over HTTP that are under way at once
)

// process is a whole node: Parley as it is run, with the tally bot.
type process struct {
	folder     string
	processors int    // GOMAXPROCS; 0 leaves it to Parley
	webhooks   string // host:port
	admin      string
	gossip     string // empty if it is alone
	messages   string
	cmd        *exec.Cmd
	ended      bool
}

// startNode starts a node for the simulator's channels and waits until it is ready.
// Its store is where l says, and its channels are those of a brand.
func startNode(ctx context.Context, l *lodging, brand parley.Brand, simulator *metatest.Simulator) (*process, error) {
	p := &process{folder: l.folder, processors: l.processors}
	if err := listenAt(ctx, "127.0.0.1", &p.webhooks, &p.admin); err != nil {
		return nil, err
	}
	if err := p.configure(l, brand, simulator); err != nil {
		return nil, err
	}
	if err := p.start(ctx); err != nil {
		return nil, err
	}
	return p, nil
}

// listenAt finds addresses of a host that are free. They are let go of only when all
// are found, so that they differ.
func listenAt(ctx context.Context, host string, addrs ...*string) error {
	var listen net.ListenConfig
	var held []net.Listener
	var errs []error
	for _, addr := range addrs {
		ln, err := listen.Listen(ctx, "tcp4", net.JoinHostPort(host, "0"))
		if err != nil {
			errs = append(errs, fmt.Errorf("find a free port: %w", err))
			break
		}
		held, *addr = append(held, ln), ln.Addr().String()
	}
	for _, ln := range held {
		errs = append(errs, ln.Close())
	}
	return errors.Join(errs...)
}

// start starts the node, which is configured, and waits until it is ready.
func (p *process) start(ctx context.Context) error {
	cmd, err := self(ctx, nodeArgument, "--config", filepath.Join(p.folder, "parley.yaml"))
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(p.folder, "node.log"), os.O_CREATE|os.O_WRONLY, ownMode)
	if err != nil {
		return fmt.Errorf("open the node's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	cmd.Stdout, cmd.Stderr = log, log
	if p.processors > 0 {
		cmd.Env = append(os.Environ(), fmt.Sprint("GOMAXPROCS=", p.processors))
	}
	cmd.Cancel, cmd.WaitDelay = func() error { return cmd.Process.Signal(syscall.SIGTERM) }, drainMax
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start the node: %w", err)
	}
	p.cmd = cmd
	if err := p.await(ctx); err != nil {
		return errors.Join(err, p.stop())
	}
	return nil
}

// configure writes the node's configuration, with sections of others', and its
// secrets.
func (p *process) configure(l *lodging, brand parley.Brand, simulator *metatest.Simulator, sections ...string) error {
	cfg := simulator.Config()
	files := map[string]string{"secret": cfg.Secret, "verify": cfg.VerifyToken, "bot": cfg.Secret}
	bot := "tally"
	var text strings.Builder
	fmt.Fprintf(&text, "listen: %q\nadmin: %q\ndata: %q\ngraph: {url: %q}\n", p.webhooks, p.admin, filepath.Join(p.folder, "data"), simulator.GraphURL())
	if l.base != nil {
		files["database"] = l.base.url
		text.WriteString("store: postgres\ndatabase: {url: \"file:database\"}\n")
	}
	if l.doubtful > 0 {
		fmt.Fprintf(&text, "doubtful_wait: %s\n", l.doubtful)
	}
	if l.bot != "" {
		bot = "over-http"
		fmt.Fprintf(&text, "http_bots:\n- {name: %q, url: %q, secret: \"file:bot\", allow_private: true, concurrency: %d}\n", bot, l.bot, botPosts)
	}
	fmt.Fprintf(&text, "apps:\n- name: %q\n  meta_app_id: %q\n  secrets: [\"file:secret\"]\n  verify_tokens: [\"file:verify\"]\n  channels:\n", cfg.App, cfg.AppID)
	for _, ch := range simulator.Channels() {
		token := "token-" + ch.ID
		files[token] = ch.Token
		fmt.Fprintf(&text, "  - {brand: %q, kind: %q, id: %q, token: %q, bot: %q}\n", brand, ch.Platform, ch.ID, "file:"+token, bot)
	}
	files["parley.yaml"] = text.String() + strings.Join(sections, "")
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(p.folder, name), []byte(content), ownMode); err != nil {
			return fmt.Errorf("configure the node: %w", err)
		}
	}
	return nil
}

// await polls until the node is ready.
func (p *process) await(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, readyMax)
	defer cancel()
	for {
		err := p.get(ctx, "/readyz", io.Discard)
		if err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("wait for the node: %w; %w\n%s", ctx.Err(), err, p.log())
		case <-time.After(10 * time.Millisecond):
		}
	}
}

// get reads from the admin listener.
func (p *process) get(ctx context.Context, path string, to io.Writer) (err error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+p.admin+path, http.NoBody)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return fmt.Errorf("ask the node: %w", err)
	}
	defer func() { err = errors.Join(err, response.Body.Close()) }()
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("ask the node: %s", response.Status)
	}
	_, err = io.Copy(to, response.Body)
	return err
}

// profile takes a CPU profile while the measurement lasts. What it returns
// yields once.
func (p *process) profile(ctx context.Context, name string, after, during time.Duration) <-chan error {
	done := make(chan error, 1)
	go func() {
		select {
		case <-ctx.Done():
			done <- ctx.Err()
		case <-time.After(after):
			done <- p.writeProfile(ctx, name, max(1, int(during.Seconds())))
		}
	}()
	return done
}

func (p *process) writeProfile(ctx context.Context, name string, seconds int) (err error) {
	file, err := os.Create(name)
	if err != nil {
		return fmt.Errorf("write profile: %w", err)
	}
	defer func() { err = errors.Join(err, file.Close()) }()
	return p.get(ctx, fmt.Sprintf("/debug/pprof/profile?seconds=%d", seconds), file)
}

func (p *process) cpu() (time.Duration, error) { return bare.ProcessCPU(p.cmd.Process.Pid) }

// stop lets the node drain.
func (p *process) stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGTERM) // it may have ended; then Wait tells
	killed := time.AfterFunc(drainMax, func() { _ = p.cmd.Process.Kill() })
	defer killed.Stop()
	return p.wait()
}

// wait waits for the node's end, which is an error if it isn't that of a drain.
func (p *process) wait() error {
	err := p.cmd.Wait()
	p.ended = true
	if err != nil {
		return fmt.Errorf("node: %w\n%s", err, p.log())
	}
	return nil
}

// kill ends the node as a power cut would, and says when. That it has ended in
// another way before is an error.
func (p *process) kill() (at time.Time, err error) {
	_ = p.cmd.Process.Kill() // it may have ended; then its state tells
	at = time.Now()
	err = p.wait()
	if status, ok := p.cmd.ProcessState.Sys().(syscall.WaitStatus); ok && status.Signaled() && status.Signal() == syscall.SIGKILL {
		return at, nil
	}
	if err == nil {
		err = fmt.Errorf("node: it has ended by itself\n%s", p.log())
	}
	return at, err
}

// log is the end of what the node wrote.
func (p *process) log() string {
	text, _ := os.ReadFile(filepath.Join(p.folder, "node.log")) // without it the error is shorter
	return string(text[max(0, len(text)-logTail):])
}
