package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// clockTick is the unit of CPU time in /proc, the same on all of Linux's
// platforms that Go knows.
const clockTick = 10 * time.Millisecond

// dieWithParent has the server shut down at once when the thread that started
// it is gone. Not SIGKILL: that would leave its shared memory behind. And only
// then: what the terminal tells the parent, Ctrl-C say, isn't for the server.
func dieWithParent(attr *syscall.SysProcAttr) {
	attr.Pdeathsig = syscall.SIGQUIT
	attr.Setpgid = true
}

// removeMemory removes a shared memory segment that nobody is attached to.
func removeMemory(id int) error {
	var is unix.SysvShmDesc
	_, err := unix.SysvShmCtl(id, unix.IPC_STAT, &is)
	if err == nil && is.Nattch > 0 {
		return fmt.Errorf("release the server's memory: %d processes hold it", is.Nattch)
	}
	if err == nil {
		_, err = unix.SysvShmCtl(id, unix.IPC_RMID, nil)
	}
	if err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.EIDRM) { // gone already
		return fmt.Errorf("release the server's memory: %w", err)
	}
	return nil
}

// processOf reads what the kernel says about a process; it is false if there is
// none.
func processOf(pid int) (process, bool, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ESRCH) {
		return process{}, false, nil
	}
	if err != nil {
		return process{}, false, fmt.Errorf("ask about a process: %w", err)
	}
	p, err := parseStat(pid, text)
	return p, err == nil, err
}

// parseStat reads a line of /proc. The name in it is the process's choice, so
// the fields are counted from the last parenthesis: the first behind it is the
// third of proc(5).
func parseStat(pid int, text []byte) (process, error) {
	const state, parent, utime, cstime, started = 0, 1, 11, 14, 19
	fields := bytes.Fields(text[bytes.LastIndexByte(text, ')')+1:])
	if len(fields) <= started {
		return process{}, fmt.Errorf("ask about a process: %d fields", len(fields))
	}
	p := process{pid: pid, state: fields[state][0], started: string(fields[started])}
	var err error
	if p.parent, err = strconv.Atoi(string(fields[parent])); err != nil {
		return process{}, fmt.Errorf("ask about a process: %w", err)
	}
	for i, field := range fields[utime : cstime+1] {
		ticks, err := strconv.ParseInt(string(field), 10, 64)
		if err != nil {
			return process{}, fmt.Errorf("ask about a process: %w", err)
		}
		p.cpu += time.Duration(ticks) * clockTick
		if i >= 2 { // after its own user and system time those of its children
			p.reaped += time.Duration(ticks) * clockTick
		}
	}
	return p, nil
}

// childrenOf lists the children of a process.
func childrenOf(pid int) ([]process, error) {
	names, err := filepath.Glob("/proc/[0-9]*")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var children []process
	for _, name := range names {
		child, err := strconv.Atoi(filepath.Base(name))
		if err != nil {
			continue // not a process
		}
		p, ok, err := processOf(child)
		if err != nil {
			return nil, err
		}
		if ok && p.parent == pid {
			children = append(children, p)
		}
	}
	return children, nil
}

// cpuOf is the CPU time of a process, of its children, and of those that have
// ended. A child that ends meanwhile would be missed or counted twice; then it
// looks again.
func cpuOf(pid int) (time.Duration, error) {
	const attempts = 5
	var sum time.Duration
	for range attempts {
		before, ok, err := processOf(pid)
		if err != nil || !ok {
			return 0, err
		}
		children, err := childrenOf(pid)
		if err != nil {
			return 0, err
		}
		after, ok, err := processOf(pid)
		if err != nil || !ok {
			return 0, err
		}
		sum = after.cpu
		for _, child := range children {
			sum += child.cpu
		}
		if before.reaped == after.reaped {
			break
		}
	}
	return sum, nil
}
