package pgserver

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	startMax  = 2 * time.Minute // to accept connections: it may have to replay a lot of log first
	pollEvery = 5 * time.Millisecond
	logTail   = 2048 // bytes of the log that an error shows
)

// run is one life of the server's process.
type run struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
	death error         // how; to be read after ended
}

func (r *run) pid() int { return r.cmd.Process.Pid }

func (r *run) over() bool {
	select {
	case <-r.ended:
		return true
	default:
		return false
	}
}

// cpu is what an ended process and its children took.
func (r *run) cpu() time.Duration {
	return r.cmd.ProcessState.UserTime() + r.cmd.ProcessState.SystemTime()
}

// launch starts the process and returns when it accepts connections.
func (s *Server) launch(ctx context.Context) error {
	log, err := os.OpenFile(s.log, os.O_CREATE|os.O_APPEND|os.O_WRONLY, ownerOnlyFile)
	if err != nil {
		return fmt.Errorf("open the server's log: %w", err)
	}
	defer func() { _ = log.Close() }() // the child has its own descriptor
	// Not CommandContext: who gave up waiting for something doesn't mean the server.
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), "-D", s.dir) //nolint:noctx // see above
	cmd.Dir, cmd.Env = s.dir, append(environment(), s.env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = s.account.attributes()
	dieWithParent(cmd.SysProcAttr)
	r, err := startProcess(cmd)
	if err != nil {
		return fmt.Errorf("start postgres: %w", err)
	}
	s.run = r
	if err := s.await(ctx, r); err != nil {
		return errors.Join(fmt.Errorf("start postgres: %w\n%s", err, s.tail()), s.kill())
	}
	return nil
}

// startProcess starts the process from a thread that lives as long as it does:
// the kernel takes the end of that thread for the end of the parent.
func startProcess(cmd *exec.Cmd) (*run, error) {
	r := &run{cmd: cmd, ended: make(chan struct{})}
	started := make(chan error, 1)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		defer close(r.ended)
		err := cmd.Start()
		started <- err
		if err == nil {
			r.death = cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		return nil, err
	}
	return r, nil
}

// environment is that of this process without what would point the programs at
// another server or make them speak another language.
func environment() []string {
	env := slices.DeleteFunc(os.Environ(), func(v string) bool {
		return strings.HasPrefix(v, "PG") || strings.HasPrefix(v, "LC_") || strings.HasPrefix(v, "LANG")
	})
	return append(env, "LC_ALL=C")
}

// await polls what the server says of itself until it is ready, has died, or
// took too long.
func (s *Server) await(ctx context.Context, r *run) error {
	return poll(ctx, startMax, func() (bool, error) {
		if r.over() {
			return false, fmt.Errorf("it ended: %w", cmpError(r.death, errors.New("exit code 0")))
		}
		return s.ready(r.pid()), nil
	})
}

// The lines of the file that a server keeps for its tools.
const (
	pidLine    = 0
	memoryLine = 6 // key and number of its shared memory
	stateLine  = 7
)

// pidFile reads that file; it is empty if there is none.
func (s *Server) pidFile() []string {
	text, err := os.ReadFile(filepath.Join(s.dir, "postmaster.pid"))
	if err != nil {
		return nil
	}
	return strings.Split(string(text), "\n")
}

// ready says what the server says of itself. A standby is ready when it can be
// read from.
func (s *Server) ready(pid int) bool {
	lines := s.pidFile()
	return len(lines) > stateLine && lines[pidLine] == strconv.Itoa(pid) && strings.TrimSpace(lines[stateLine]) == "ready"
}

// poll asks until the answer is yes, there is an error, or the time is over.
func poll(ctx context.Context, limit time.Duration, ask func() (bool, error)) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	again := time.NewTicker(pollEvery) //nolint:forbidigo // watches a real process
	defer again.Stop()
	for {
		if done, err := ask(); done || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-again.C:
		}
	}
}

func cmpError(err, otherwise error) error {
	if err != nil {
		return err
	}
	return otherwise
}

// tail is the end of the server's log.
func (s *Server) tail() string {
	text, _ := os.ReadFile(s.log) // without it the error is shorter
	return string(text[max(0, len(text)-logTail):])
}

// tool runs one of PostgreSQL's programs as the server's account.
func (s *Server) tool(ctx context.Context, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, filepath.Join(s.bin, name), args...)
	cmd.Dir, cmd.Env = s.dir, environment()
	cmd.SysProcAttr = s.account.attributes()
	if output, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w\n%s", name, err, output[max(0, len(output)-logTail):])
	}
	return nil
}
