package dev

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"hash/fnv"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// Builder builds a bot's program, again whenever its source changes.
type Builder struct {
	Package string // its folder
	Dir     string // where the programs are put; absolute
	Env     []string
	// Poll is how often the source is looked at. Default 300 ms.
	Poll time.Duration
}

// Build is what came of building.
type Build struct {
	Package string
	Number  int
	Program string // empty if it failed
	Error   string // what the compiler says
	Took    time.Duration
}

const (
	pollEvery     = 300 * time.Millisecond
	buildErrorMax = 16 << 10 // bytes of the compiler's words
	filesMax      = 5000     // that are watched
)

// Run builds, and builds again after each change, until ctx ends.
func (b *Builder) Run(ctx context.Context, built func(Build)) error {
	poll := b.Poll
	if poll == 0 {
		poll = pollEvery
	}
	tick := time.NewTicker(poll) //nolint:forbidigo // how often a person's files are looked at
	defer tick.Stop()
	for n := 1; ; n++ {
		folders := b.folders(ctx)
		before := b.look(folders)
		result := b.once(ctx, n)
		if ctx.Err() != nil {
			return nil
		}
		built(result)
		for b.look(folders) == before {
			select {
			case <-ctx.Done():
				return nil
			case <-tick.C:
			}
		}
	}
}

// once builds.
func (b *Builder) once(ctx context.Context, n int) Build {
	began := time.Now() //nolint:forbidigo // people want to know how long it took
	const programs = 2  // the one that runs, and the next
	program := filepath.Join(b.Dir, fmt.Sprintf("bot-%d", n%programs))
	_ = os.Remove(program) // one that runs keeps its file
	cmd := b.command(ctx, "build", "-o", program, ".")
	var said bytes.Buffer
	cmd.Stdout, cmd.Stderr = &said, &said
	err := cmd.Run()
	result := Build{Package: b.Package, Number: n, Took: time.Since(began)} //nolint:forbidigo // as above
	switch info, gone := os.Stat(program); {
	case err != nil:
		result.Error = errorText(said.Bytes(), err)
	case gone != nil || !info.Mode().IsRegular() || info.Mode()&0o111 == 0:
		result.Error = b.Package + " is not a program: its package must be main, with a main function that calls node.Main"
	default:
		result.Program = program
	}
	return result
}

func errorText(said []byte, err error) string {
	text := strings.TrimSpace(string(said[:min(len(said), buildErrorMax)]))
	if text == "" {
		return err.Error()
	}
	return text
}

func (b *Builder) command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, "go", args...) //nolint:gosec // the developer's own package
	cmd.Dir = b.Package                            // the module is the package's, wherever this was started
	if len(b.Env) > 0 {
		cmd.Env = b.Env
	}
	return cmd
}

// folders are those of the package and of what it imports of its own module, with the
// files that say what else there is.
func (b *Builder) folders(ctx context.Context) []string {
	out, _ := b.command(ctx, "list", "-e", "-deps", "-json=Dir,Module,Standard,EmbedFiles", ".").Output() // with -e, what it can say
	type listed struct {
		Dir        string
		Standard   bool
		EmbedFiles []string
		Module     *struct {
			Main  bool
			GoMod string
		}
	}
	var found []string
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p listed
		if err := d.Decode(&p); err != nil {
			if !errors.Is(err, io.EOF) {
				found = append(found, b.Package)
			}
			break
		}
		if p.Standard || p.Module == nil || !p.Module.Main {
			continue
		}
		found = append(found, p.Dir, p.Module.GoMod)
		for _, f := range p.EmbedFiles {
			found = append(found, filepath.Join(p.Dir, f))
		}
	}
	if len(found) == 0 { // no package yet, or no module: the folder that was named
		found = append(found, b.Package)
	}
	slices.Sort(found)
	return slices.Compact(found)
}

// look is a digest of the names, sizes and times of what is in the folders.
func (b *Builder) look(folders []string) uint64 {
	h, n := fnv.New64a(), 0
	for _, folder := range folders {
		entries, err := os.ReadDir(folder)
		if err != nil { // a file, or gone
			note(h, folder)
			continue
		}
		for _, e := range entries {
			if n++; n > filesMax {
				break
			}
			if !e.IsDir() && !strings.HasPrefix(e.Name(), ".") {
				note(h, filepath.Join(folder, e.Name()))
			}
		}
	}
	return h.Sum64()
}

func note(h io.Writer, path string) {
	info, err := os.Stat(path)
	if err != nil {
		_, _ = fmt.Fprintln(h, path, "gone") // a hash never fails
		return
	}
	_, _ = fmt.Fprintln(h, path, info.Size(), info.ModTime().UnixNano())
}
