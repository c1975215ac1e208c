package bare

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"strings"
	"time"
)

// childExit is how long the child may take to end once its input has.
const childExit = 15 * time.Second

// Process is a running child: a server that reads the secret from its input,
// writes its address to its output, and ends when its input does.
type Process struct {
	Addr  string // host:port where it serves
	child *exec.Cmd
	in    io.WriteCloser
	out   *bufio.Reader
}

// Start starts the child, hands it the secret and reads its address.
func Start(child *exec.Cmd, secret []byte) (*Process, error) {
	in, err := child.StdinPipe()
	if err != nil {
		return nil, fmt.Errorf("child's input: %w", err)
	}
	out, err := child.StdoutPipe()
	if err != nil {
		return nil, fmt.Errorf("child's output: %w", err)
	}
	child.WaitDelay = childExit
	if err := child.Start(); err != nil {
		return nil, fmt.Errorf("start child: %w", err)
	}
	p := &Process{child: child, in: in, out: bufio.NewReader(out)}
	p.Addr, err = p.Ask(string(secret))
	if err != nil {
		return nil, errors.Join(fmt.Errorf("child's address: %w", err), p.Stop())
	}
	return p, nil
}

// Ask writes a line to the child and returns the line that it answers with, for
// children that know how to.
func (p *Process) Ask(line string) (string, error) {
	if _, err := fmt.Fprintln(p.in, line); err != nil {
		return "", fmt.Errorf("ask child: %w", err)
	}
	answer, err := p.out.ReadString('\n')
	if err != nil {
		return "", fmt.Errorf("child's answer: %w", err)
	}
	return strings.TrimSpace(answer), nil
}

// CPU is the CPU time that the process has used.
func (p *Process) CPU() (time.Duration, error) { return ProcessCPU(p.child.Process.Pid) }

// Stop ends the child's input and waits for its end. It is called once.
func (p *Process) Stop() error {
	_ = p.in.Close() // a child that has ended has closed it already
	killed := time.AfterFunc(childExit, func() { _ = p.child.Process.Kill() })
	defer killed.Stop()
	if err := p.child.Wait(); err != nil {
		return fmt.Errorf("child: %w", err)
	}
	return nil
}
