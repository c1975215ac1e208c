package dev

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"time"
)

// RunnerConfig says how the node is started.
type RunnerConfig struct {
	// Program is what is run; empty as long as it must be built first.
	Program string
	// Args are its arguments, for a bot ("" is its first) and an offset of the clock.
	Args func(bot string, offset time.Duration) []string
	// Play are those with which the program makes a transcript of the history that comes
	// on its standard input, a JSON list of records.
	Play func(bot, user, kind string) []string
	Env  []string
	Bot  string // the one to begin with
	Attr *syscall.SysProcAttr
	// Offset is how far the clock is ahead of the system's at first.
	Offset time.Duration
	// Restart is how long the node is away after it was killed. Default 1 s.
	Restart time.Duration
	// Start is how long it may take to start, Drain to stop. Default 30 s, 15 s.
	Start, Drain time.Duration
}

// Report is what the node tells of itself over its third descriptor, a line each: first
// all but the offset; then the offset, whenever it was told one.
type Report struct {
	Bot      string   `json:"bot,omitempty"`
	Bots     []string `json:"bots,omitempty"`
	Webhooks string   `json:"webhooks,omitempty"` // host:port
	Admin    string   `json:"admin,omitempty"`    // host:port
	OffsetMS *int64   `json:"offset_ms,omitempty"`
}

// Order is what the node is told on its standard input, a line each. The end of it
// means to stop.
type Order struct {
	OffsetMS int64 `json:"offset_ms"` // of the clock, from now on
}

// The states of the node's process.
const (
	stateBuilding = "building"
	stateStarting = "starting"
	stateUp       = "up"
	stateKilled   = "killed"
	stateCrashed  = "crashed"
	stateOff      = "off"
)

// Status is how it stands with the node's process.
type Status struct {
	State   string   `json:"state"`
	Bot     string   `json:"bot"`
	Bots    []string `json:"bots"`
	Error   string   `json:"error,omitempty"` // why it doesn't run
	Starts  int      `json:"starts"`
	Kills   int      `json:"kills"`
	PID     int      `json:"pid,omitempty"`
	Program string   `json:"program,omitempty"` // the package that is built; empty: none is
	// Of the last build.
	BuildError string   `json:"build_error,omitempty"`
	Builds     int      `json:"builds"`
	BuildTime  float64  `json:"build_seconds"`
	Log        []string `json:"log"`
}

const (
	logLines     = 200
	logLineBytes = 2000
	playWithin   = 30 * time.Second
	restartMost  = 8 * time.Second // between two starts of a node that always ends by itself
)

// Runner runs the node's process, starts it anew when it ends, and kills it when told.
// Its methods may be called from any goroutine.
type Runner struct {
	cfg    RunnerConfig
	tell   func()
	orders chan order
	shifts sync.Mutex // one at a time

	mu      sync.Mutex // guards what follows
	status  Status
	program string
	bot     string
	offset  time.Duration
	admin   string
	control io.Writer // nil while the node isn't up
	told    chan int64
}

// order is what is to be done to the process.
type order int

const (
	orderKill order = iota
	orderReplace
	orderOff
	orderOn
)

// NewRunner makes a runner, which starts nothing. tell is called when the status has
// changed, and must return at once.
func NewRunner(cfg RunnerConfig, tell func()) *Runner {
	set := func(d *time.Duration, def time.Duration) {
		if *d == 0 {
			*d = def
		}
	}
	set(&cfg.Restart, time.Second)
	set(&cfg.Start, 30*time.Second)
	set(&cfg.Drain, 15*time.Second)
	r := &Runner{cfg: cfg, tell: tell, orders: make(chan order, 8), program: cfg.Program, bot: cfg.Bot, offset: cfg.Offset, told: make(chan int64, 1)}
	r.status = Status{State: stateStarting, Bots: []string{}}
	if cfg.Program == "" {
		r.status.State = stateBuilding
	}
	return r
}

// Status tells how it stands.
func (r *Runner) Status() Status {
	r.mu.Lock()
	defer r.mu.Unlock()
	s := r.status
	s.Log = append([]string{}, s.Log...)
	return s
}

// Offset is how far the clock is ahead.
func (r *Runner) Offset() time.Duration {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.offset
}

// Admin is the address of the node's admin API; empty while there is none.
func (r *Runner) Admin() string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.admin
}

func (r *Runner) set(change func(s *Status)) {
	r.mu.Lock()
	change(&r.status)
	r.mu.Unlock()
	r.tell()
}

func (r *Runner) order(o order) {
	select {
	case r.orders <- o:
	default: // it has enough to do
	}
}

// Kill ends the process as a power cut would; it is started anew a moment later.
func (r *Runner) Kill() { r.order(orderKill) }

// Switch turns the node off, with SIGKILL too, until it is turned on.
func (r *Runner) Switch(on bool) {
	if on {
		r.order(orderOn)
	} else {
		r.order(orderOff)
	}
}

// Choose has another bot of the program serve from now on.
func (r *Runner) Choose(bot string) {
	r.mu.Lock()
	r.bot = bot
	r.mu.Unlock()
	r.order(orderReplace)
}

// Built takes note of a build. If there is a new program, it takes over.
func (r *Runner) Built(b Build) {
	r.set(func(s *Status) {
		s.Program, s.BuildError, s.Builds, s.BuildTime = b.Package, b.Error, b.Number, b.Took.Seconds()
		if b.Program != "" {
			r.program = b.Program
		}
	})
	if b.Program != "" {
		r.order(orderReplace)
	}
}

// Shift puts the node's clock to an offset, and returns when it has it. A node that isn't
// up gets it when it starts.
func (r *Runner) Shift(ctx context.Context, offset time.Duration) error {
	const within = 3 * time.Second
	r.shifts.Lock()
	defer r.shifts.Unlock()
	ctx, cancel := context.WithTimeout(ctx, within)
	defer cancel()
	r.mu.Lock()
	r.offset = offset
	to := r.control
	r.mu.Unlock()
	defer r.tell()
	if to == nil {
		return nil
	}
	if err := json.NewEncoder(to).Encode(Order{OffsetMS: offset.Milliseconds()}); err != nil {
		return nil // it has just ended; the next process starts with the offset
	}
	for {
		select {
		case ms := <-r.told:
			if ms == offset.Milliseconds() {
				return nil
			}
		case <-ctx.Done():
			return errors.New("the node does not say that it has put its clock forward")
		}
	}
}

// Play has the program make a transcript of a history.
func (r *Runner) Play(ctx context.Context, args []string, history []byte) ([]byte, error) {
	r.mu.Lock()
	program := r.program
	r.mu.Unlock()
	ctx, cancel := context.WithTimeout(ctx, playWithin)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...) //nolint:gosec // the developer's own program
	cmd.Env, cmd.SysProcAttr, cmd.Stdin = r.cfg.Env, r.cfg.Attr, bytes.NewReader(history)
	var said bytes.Buffer
	cmd.Stderr = &said
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("the bot could not play it again: %s", errorText(said.Bytes(), err))
	}
	return out, nil
}

// Run keeps the node running until ctx ends, then lets it drain. up is told where the
// node takes webhooks, and an empty address when it doesn't.
func (r *Runner) Run(ctx context.Context, up func(webhooks string)) error {
	wait := time.Duration(0)
	for r.ready(ctx, wait) {
		began := time.Now() //nolint:forbidigo // watches a real process
		p, err := r.start()
		if err == nil {
			err = r.attend(ctx, p, up)
		}
		switch lived := time.Since(began); { //nolint:forbidigo // as above
		case err == nil:
			wait = r.cfg.Restart
		case lived > restartMost:
			wait = r.cfg.Restart
		default:
			wait = min(max(2*wait, r.cfg.Restart), restartMost)
		}
		if errors.Is(err, errReplace) {
			wait, err = 0, nil
		}
		if err != nil {
			r.set(func(s *Status) { s.State, s.Error = stateCrashed, err.Error() })
		}
	}
	return nil
}

var errReplace = errors.New("another program takes over")

// ready waits until the node may be started; false if it never will.
func (r *Runner) ready(ctx context.Context, wait time.Duration) bool {
	timer := time.NewTimer(wait) //nolint:forbidigo // between two real processes
	defer timer.Stop()
	waited := wait == 0
	for {
		r.mu.Lock()
		may := r.program != "" && r.status.State != stateOff
		r.mu.Unlock()
		if may && waited {
			return ctx.Err() == nil
		}
		select {
		case <-ctx.Done():
			return false
		case <-timer.C:
			waited = true
		case o := <-r.orders:
			waited = waited || o == orderReplace || o == orderOn
			r.switched(o)
		}
	}
}

// switched takes note of an order to a node that doesn't run.
func (r *Runner) switched(o order) {
	r.set(func(s *Status) {
		switch {
		case o == orderOff:
			s.State = stateOff
		case o == orderOn && s.State == stateOff:
			s.State = stateStarting
		}
	})
}

// process is one run of the node.
type process struct {
	cmd     *exec.Cmd
	reports *bufio.Scanner
	pipe    *os.File // that the reports come from
	control io.WriteCloser
	ended   chan struct{}
	err     error // how it ended; valid once ended is closed
}

func (r *Runner) start() (*process, error) {
	r.mu.Lock()
	program, args := r.program, r.cfg.Args(r.bot, r.offset)
	r.mu.Unlock()
	reports, theirs, err := os.Pipe()
	if err != nil {
		return nil, fmt.Errorf("make a pipe: %w", err)
	}
	defer func() { _ = theirs.Close() }() // the child has its own
	cmd := exec.Command(program, args...) //nolint:gosec,noctx // the developer's own program; the end of a context must drain it, not kill it
	cmd.Env, cmd.SysProcAttr, cmd.ExtraFiles = r.cfg.Env, r.cfg.Attr, []*os.File{theirs}
	cmd.Stdout = &lineWriter{line: r.log}
	cmd.Stderr = cmd.Stdout
	p := &process{cmd: cmd, reports: bufio.NewScanner(reports), pipe: reports, ended: make(chan struct{})}
	if p.control, err = cmd.StdinPipe(); err != nil {
		return nil, errors.Join(fmt.Errorf("make a pipe: %w", err), reports.Close())
	}
	if err := cmd.Start(); err != nil {
		return nil, errors.Join(fmt.Errorf("start the node: %w", err), reports.Close())
	}
	r.set(func(s *Status) {
		s.State, s.PID = stateStarting, cmd.Process.Pid
		s.Starts++
	})
	go p.wait()
	return p, nil
}

func (p *process) wait() {
	p.err = p.cmd.Wait()
	if p.err == nil {
		p.err = errors.New("exit code 0")
	}
	close(p.ended)
}

// log keeps a line that the node printed.
func (r *Runner) log(line string) {
	r.set(func(s *Status) {
		s.Log = append(s.Log, line)
		if len(s.Log) > logLines {
			s.Log = append([]string{}, s.Log[len(s.Log)-logLines:]...)
		}
	})
}

// attend lets a process serve until it ends or is to end; nil if that was ordered.
func (r *Runner) attend(ctx context.Context, p *process, up func(string)) error {
	first := make(chan Report, 1)
	heard := make(chan struct{})
	go func() {
		defer close(heard)
		r.listen(p, first)
	}()
	defer func() {
		up("")
		r.mu.Lock()
		r.control, r.admin = nil, ""
		r.mu.Unlock()
		<-heard
		_ = p.pipe.Close() // all is read
	}()
	limit := time.NewTimer(r.cfg.Start) //nolint:forbidigo // watches a real process
	defer limit.Stop()
	for {
		select {
		case report := <-first:
			limit.Stop()
			r.isUp(report, p)
			up(report.Webhooks)
		case <-limit.C:
			r.end(p, syscall.SIGKILL)
			return fmt.Errorf("it did not say within %s that it is up: a bot's main function calls node.Main and does nothing before that takes long", r.cfg.Start)
		case <-p.ended:
			return fmt.Errorf("the node ended: %w", p.err)
		case <-ctx.Done():
			r.end(p, syscall.SIGTERM)
			return nil
		case o := <-r.orders:
			if done, err := r.obey(o, p, up); done {
				return err
			}
		}
	}
}

// obey does to a running process what was ordered, and reports whether that ended it.
func (r *Runner) obey(o order, p *process, up func(string)) (bool, error) {
	switch o {
	case orderKill, orderOff:
		r.end(p, syscall.SIGKILL)
		r.set(func(s *Status) {
			s.State, s.Error, s.PID = stateKilled, "", 0
			if s.Kills++; o == orderOff {
				s.State = stateOff
			}
		})
		return true, nil
	case orderReplace:
		up("") // what comes meanwhile comes again
		r.end(p, syscall.SIGTERM)
		return true, errReplace
	case orderOn:
	}
	return false, nil
}

func (r *Runner) isUp(report Report, p *process) {
	r.mu.Lock()
	r.control, r.admin = p.control, report.Admin
	r.mu.Unlock()
	r.set(func(s *Status) {
		s.State, s.Error, s.Bot, s.Bots = stateUp, "", report.Bot, report.Bots
	})
}

// end ends a process with a signal, and with SIGKILL if that doesn't do.
func (r *Runner) end(p *process, signal syscall.Signal) {
	_ = p.cmd.Process.Signal(signal) // it may have ended by itself
	limit := time.AfterFunc(r.cfg.Drain, func() { _ = p.cmd.Process.Kill() })
	<-p.ended
	limit.Stop()
}

// listen reads the reports of a process until there are no more.
func (r *Runner) listen(p *process, first chan<- Report) {
	up := false
	for p.reports.Scan() {
		var report Report
		if err := json.Unmarshal(p.reports.Bytes(), &report); err != nil {
			continue // of another version
		}
		switch {
		case report.OffsetMS != nil:
			r.toldOffset(*report.OffsetMS)
		case !up && report.Admin != "":
			up = true
			first <- report
		}
	}
}

func (r *Runner) toldOffset(ms int64) {
	for {
		select {
		case r.told <- ms:
			return
		default:
		}
		select {
		case <-r.told: // nobody waits for it any more
		default:
		}
	}
}

// lineWriter passes whole lines on.
type lineWriter struct {
	line func(string)
	rest []byte
}

// Write never fails.
func (w *lineWriter) Write(b []byte) (int, error) {
	w.rest = append(w.rest, b...)
	for {
		line, rest, found := cutLine(w.rest)
		if !found {
			return len(b), nil
		}
		w.line(line)
		w.rest = append(w.rest[:0], rest...)
	}
}

// cutLine cuts at the end of the first line, or where it becomes too long.
func cutLine(b []byte) (line string, rest []byte, found bool) {
	for i, c := range b {
		switch {
		case c == '\n':
			return string(b[:i]), b[i+1:], true
		case i == logLineBytes:
			return string(b[:i]), b[i:], true
		}
	}
	return "", b, false
}
