package pgserver_test

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parleychat/parley/persistence/pgserver"
)

// findVariable makes the test binary print what Find finds.
const findVariable = "PGSERVER_TEST_FIND"

// installation makes a folder that looks like PostgreSQL's programs.
func installation(t *testing.T, bin string) string {
	t.Helper()
	if err := os.MkdirAll(bin, 0o755); err != nil {
		t.Fatal(err)
	}
	for _, name := range []string{"initdb", "postgres"} {
		if err := os.WriteFile(filepath.Join(bin, name), []byte("#!/bin/sh\n"), 0o755); err != nil {
			t.Fatal(err)
		}
	}
	return bin
}

// find asks a process that has the environment.
func find(t *testing.T, env ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), os.Args[0])
	cmd.Env = append(append(os.Environ(), findVariable+"=1"), env...)
	output, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	return string(output)
}

func TestFindByEnvironment(t *testing.T) {
	t.Parallel()
	if got := find(t, "PG_BIN="+t.TempDir()); !strings.Contains(got, "PG_BIN") || !strings.HasPrefix(got, pgserver.ErrNotFound.Error()) {
		t.Errorf("PG_BIN names an empty folder: %q", got)
	}
	bin := installation(t, filepath.Join(t.TempDir(), "any"))
	if got := find(t, "PG_BIN="+bin); got != bin {
		t.Errorf("PG_BIN is %q: %q", bin, got)
	}
	// On PATH there is but a link.
	links := t.TempDir()
	if err := os.Symlink(filepath.Join(bin, "initdb"), filepath.Join(links, "initdb")); err != nil {
		t.Fatal(err)
	}
	if got := find(t, "PG_BIN=", "PATH="+links); got != bin {
		t.Errorf("linked from PATH: %q, want %q", got, bin)
	}
}

func TestFindNewest(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	pattern := filepath.Join(dir, "postgresql*", "bin")
	if got, ok := pgserver.Newest(pattern); ok {
		t.Errorf("found %q in an empty folder", got)
	}
	for _, name := range []string{"postgresql", "postgresql@9", "postgresql@9.6", "postgresql@15", "postgresql@16"} {
		installation(t, filepath.Join(dir, name, "bin"))
	}
	if err := os.Remove(filepath.Join(dir, "postgresql@16", "bin", "postgres")); err != nil { // a client's
		t.Fatal(err)
	}
	if got, _ := pgserver.Newest(pattern); got != filepath.Join(dir, "postgresql@15", "bin") {
		t.Errorf("the newest server is %q", got)
	}
}

// The links of the npm package are made once, and nowhere else.
func TestLinkLibraries(t *testing.T) {
	t.Parallel()
	native := filepath.Join(t.TempDir(), "native")
	lib := filepath.Join(native, "lib")
	if err := os.MkdirAll(lib, 0o755); err != nil {
		t.Fatal(err)
	}
	if err := pgserver.LinkLibraries(native); err != nil {
		t.Errorf("an installation that has no list: %v", err)
	}
	list := func(text string) {
		if err := os.WriteFile(filepath.Join(native, "pg-symlinks.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	list(`[{"source":"native/lib/libpq.so.5.18","target":"native/lib/libpq.so.5"}]`)
	for range 2 {
		if err := pgserver.LinkLibraries(native); err != nil {
			t.Fatal(err)
		}
	}
	if to, err := os.Readlink(filepath.Join(lib, "libpq.so.5")); err != nil || to != "libpq.so.5.18" {
		t.Errorf("the link is %q, %v", to, err)
	}
	for _, bad := range []string{
		`[{"source":"../etc/passwd","target":"../etc/mine"}]`,
		`[{"source":"native/lib/a","target":"native/a"}]`,
		`{`,
	} {
		list(bad)
		if err := pgserver.LinkLibraries(native); err == nil {
			t.Errorf("%s was done", bad)
		}
	}
}
