package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	stopMax  = 20 * time.Second // for a fast shutdown, which writes a checkpoint
	quitMax  = 5 * time.Second  // for an immediate one
	stillMax = 5 * time.Second  // for processes to be gone or frozen after their signal
)

// errNotRunning is what can't be done with a server that doesn't run.
var errNotRunning = errors.New("the server is not running")

// process is what the system says about one.
type process struct {
	pid, parent int
	state       byte
	started     string        // tells a process from a later one of the same number; empty if the system doesn't say
	cpu, reaped time.Duration // its own with that of its ended children, and of these alone
}

// gone says whether a process is no more, or only waits for its parent to see it.
func (p process) gone() (bool, error) {
	const zombie = 'Z'
	now, ok, err := processOf(p.pid)
	return !ok || now.started != p.started || now.state == zombie, err
}

// frozen says whether a process has stopped, or is no more.
func (p process) frozen() (bool, error) {
	const stopped = 'T'
	now, ok, err := processOf(p.pid)
	if err == nil && ok && now.started == p.started && now.state == stopped {
		return true, nil
	}
	if err != nil {
		return false, err
	}
	return p.gone()
}

// PID is the number of the server's process, of which all its others are
// children; 0 if it doesn't run.
func (s *Server) PID() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.over() {
		return 0
	}
	return s.run.pid()
}

// CPU is the user and system time that the server's processes have taken since
// Start, those that have ended included, over all its lives. The system counts
// in hundredths of a second. Only Linux tells; elsewhere the error is
// errors.ErrUnsupported.
func (s *Server) CPU() (time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil || s.run.over() {
		return s.spent, nil
	}
	now, err := cpuOf(s.run.pid())
	return s.spent + now, err
}

// Kill ends all of the server's processes as a crash would, and returns when
// they are gone, so that StartAgain finds nobody in the data directory.
func (s *Server) Kill() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errNotRunning
	}
	return s.kill()
}

// kill freezes the server first: a frozen one has no more children.
func (s *Server) kill() error {
	r := s.run
	s.run = nil
	children, err := freeze(r)
	if errors.Is(err, os.ErrProcessDone) {
		s.spent += r.cpu()
		return nil
	}
	// Nobody will reap the children, so what they took can't be asked later. If
	// it can't be asked now either, there is what the first process took.
	now, _ := cpuOf(r.pid())
	_ = r.cmd.Process.Kill() // it may have died by itself
	<-r.ended
	s.spent += max(now, r.cpu())
	for _, child := range children {
		_ = syscall.Kill(child.pid, syscall.SIGKILL) // it may just have noticed that it is alone
	}
	if err := errors.Join(err, await(children, process.gone)); err != nil {
		return err
	}
	return s.releaseMemory()
}

// releaseMemory removes the shared memory that a killed server has left, which
// only its successor in the same folder would do otherwise, if there is one.
func (s *Server) releaseMemory() error {
	const keyField, idField, fields = 0, 1, 2
	lines := s.pidFile()
	if len(lines) <= memoryLine {
		return nil // died before it had any
	}
	words := strings.Fields(lines[memoryLine])
	if len(words) != fields || words[keyField] == "0" {
		return nil
	}
	id, err := strconv.Atoi(words[idField])
	if err != nil {
		return fmt.Errorf("release the server's memory: %w", err)
	}
	return removeMemory(id)
}

// Pause freezes all of the server's processes where they are. Connections stay
// open, and new ones are neither accepted nor refused. A frozen server can't die
// with its parent: who pauses one resumes it, or stops it, come what may.
func (s *Server) Pause() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errNotRunning
	}
	children, err := freeze(s.run)
	if err != nil {
		return fmt.Errorf("pause the server: %w", err)
	}
	for _, child := range children {
		_ = syscall.Kill(child.pid, syscall.SIGSTOP) // it may just have ended
	}
	return await(children, process.frozen)
}

// freeze stops the server's first process, and lists its children once it can't
// have more of them.
func freeze(r *run) ([]process, error) {
	if r.over() {
		return nil, os.ErrProcessDone
	}
	first, ok, err := processOf(r.pid())
	if err != nil || !ok {
		return nil, err
	}
	if err := r.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return nil, err
	}
	if err := await([]process{first}, process.frozen); err != nil {
		return nil, err
	}
	return childrenOf(first.pid)
}

// await waits for all processes to be as they were told. They do it by
// themselves, so nobody can want to give up earlier.
func await(all []process, done func(process) (bool, error)) error {
	for limit := stillMax; len(all) > 0; limit -= pollEvery {
		var errs []error
		all = slices.DeleteFunc(all, func(p process) bool {
			ok, err := done(p)
			errs = append(errs, err)
			return ok
		})
		if err := errors.Join(errs...); err != nil {
			return err
		}
		if len(all) > 0 && limit <= 0 {
			return fmt.Errorf("%d of the server's processes do not obey their signal", len(all))
		}
		if len(all) > 0 {
			time.Sleep(pollEvery) //nolint:forbidigo // watches real processes
		}
	}
	return nil
}

// Resume lets a paused server go on.
func (s *Server) Resume() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run == nil {
		return errNotRunning
	}
	return resume(s.run)
}

func resume(r *run) error {
	children, err := childrenOf(r.pid())
	for _, child := range children {
		_ = syscall.Kill(child.pid, syscall.SIGCONT) // it may have been killed meanwhile
	}
	if err := errors.Join(err, r.cmd.Process.Signal(syscall.SIGCONT)); err != nil {
		return fmt.Errorf("resume the server: %w", err)
	}
	return nil
}

// StartAgain starts the server anew on the same data, socket and port, and
// returns when it accepts connections: after Kill, after it has died, and after
// Stop if its folder was given.
func (s *Server) StartAgain(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.run != nil && !s.run.over() {
		return errors.New("start the server again: it is running")
	}
	if s.run != nil { // it died by itself
		s.spent += s.run.cpu()
		s.run = nil
	}
	if _, err := os.Stat(s.dir); err != nil {
		return fmt.Errorf("start the server again: %w", err)
	}
	if err := s.own(s.scratch); err != nil {
		return err
	}
	return s.launch(ctx)
}

// Stop shuts the server down, whatever its clients are doing, and removes what
// Start made. It waits for a bounded time, and not after ctx is over, until it
// kills; then it returns an error, but the server is gone anyhow.
func (s *Server) Stop(ctx context.Context) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	if s.run != nil {
		err = s.shutDown(ctx)
	}
	return errors.Join(err, s.clean())
}

func (s *Server) shutDown(ctx context.Context) error {
	r := s.run
	if r.over() {
		s.run = nil
		s.spent += r.cpu()
		return fmt.Errorf("the server had ended by itself: %w", cmpError(r.death, errors.New("exit code 0")))
	}
	_ = resume(r) // it may be paused, or just ending
	if err := r.end(ctx, syscall.SIGINT, stopMax); err == nil {
		s.run = nil
		s.spent += r.cpu()
		return nil
	}
	err := fmt.Errorf("the server did not shut down within %s", stopMax)
	if ctx.Err() != nil {
		err = fmt.Errorf("shut down the server: %w", ctx.Err())
	}
	// Without ctx: what is over is the patience, not the duty to end it.
	if r.end(context.WithoutCancel(ctx), syscall.SIGQUIT, quitMax) == nil {
		s.run = nil
		s.spent += r.cpu()
		return err
	}
	return errors.Join(err, s.kill())
}

// end sends a signal and waits for the end.
func (r *run) end(ctx context.Context, signal os.Signal, limit time.Duration) error {
	_ = r.cmd.Process.Signal(signal) // it may just have ended
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	select {
	case <-r.ended:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
