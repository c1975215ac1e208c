//go:build !linux

package pgserver

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"syscall"
	"time"
)

// dieWithParent has no way to say it here: a server outlives a parent that was
// killed. So it stays in the parent's group, to hear Ctrl-C as well.
func dieWithParent(*syscall.SysProcAttr) {}

// removeMemory leaves a killed server's memory, of some bytes, to its successor.
func removeMemory(int) error { return nil }

// processOf asks ps about a process; it is false if there is none.
func processOf(pid int) (process, bool, error) {
	all, err := processes()
	for _, p := range all {
		if p.pid == pid {
			return p, true, nil
		}
	}
	return process{}, false, err
}

// childrenOf lists the children of a process.
func childrenOf(pid int) ([]process, error) {
	all, err := processes()
	var children []process
	for _, p := range all {
		if p.parent == pid {
			children = append(children, p)
		}
	}
	return children, err
}

func processes() ([]process, error) {
	const pid, parent, state, columns = 0, 1, 2, 3
	output, err := exec.Command("ps", "-axo", "pid=,ppid=,stat=").Output() //nolint:noctx // ends by itself
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	var all []process
	for line := range bytes.Lines(output) {
		fields := bytes.Fields(line)
		if len(fields) != columns {
			continue
		}
		id, err := strconv.Atoi(string(fields[pid]))
		above, err2 := strconv.Atoi(string(fields[parent]))
		if err := errors.Join(err, err2); err != nil {
			return nil, fmt.Errorf("list processes: %w", err)
		}
		all = append(all, process{pid: id, parent: above, state: fields[state][0]})
	}
	return all, nil
}

// cpuOf can't be told here: what ended children took is nowhere to be read.
func cpuOf(int) (time.Duration, error) { return 0, errors.ErrUnsupported }
