package pgserver_test

import (
	"bufio"
	"context"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"syscall"
	"testing"

	"github.com/parleychat/parley/persistence/pgserver"
)

// orphanVariable makes the test binary a process that starts a server in the
// folder that it names, and waits to be killed.
const orphanVariable = "PGSERVER_TEST_ORPHAN"

func beOrphaned() int {
	s, err := pgserver.Start(context.Background(), pgserver.Config{Dir: os.Getenv(orphanVariable)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(s.PID(), s.Socket())
	_, _ = bufio.NewReader(os.Stdin).ReadByte() // until the end of the test, if it forgets
	_ = s.Stop(context.Background())
	return 0
}

// The server does not outlive a parent that was killed.
func TestServerDiesWithItsParent(t *testing.T) {
	t.Parallel()
	if runtime.GOOS != "linux" {
		t.Skip("only Linux tells a child")
	}
	found(t)
	parent := exec.CommandContext(t.Context(), os.Args[0])
	parent.Env = append(os.Environ(), orphanVariable+"="+openDir(t))
	parent.Stderr = os.Stderr
	stdin, err := parent.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stdin.Close() }()
	stdout, err := parent.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := parent.Start(); err != nil {
		t.Fatal(err)
	}
	var pid int
	var socket string
	if _, err := fmt.Fscan(stdout, &pid, &socket); err != nil {
		t.Fatal(err)
	}
	if !runs(pid) {
		t.Fatal("the server doesn't run")
	}
	if group, err := syscall.Getpgid(pid); err != nil || group != pid {
		t.Errorf("the server hears what the terminal says: its group is %d, %v", group, err)
	}
	if err := parent.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = parent.Wait()
	until(t, "the server's end", func() bool { return !runs(pid) })
	if err := os.RemoveAll(strings.TrimSuffix(socket, "/.s.PGSQL.5432")); err != nil {
		t.Error(err)
	}
}

// runs says whether there is a process that isn't merely waiting to be reaped.
func runs(pid int) bool {
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	return err == nil && syscall.Kill(pid, 0) == nil && !strings.Contains(string(stat), ") Z ")
}
