package parley_test

import (
	"io/fs"
	"os"
	"path"
	"strings"
	"testing"
)

// This file holds the two tables of the layout: who may import whom, and where
// each outside library is at home. Whatever isn't in them fails TestLayout, so
// that a new package, an import against the grain or a new library is a line
// that somebody reviews. The rules themselves are in layout_rules_test.go.

const module = "github.com/parleychat/parley"

// packages says which packages there may be, by their folder, and which of
// ours each may import: a star around the root. A pattern is as in path.Match;
// "all" stands for any package of ours.
var packages = map[string][]string{
	".":      {}, // the vocabulary: nothing of ours, nothing of others
	"meta":   {"."},
	"flow":   {"."},
	"actors": {".", "actors/wire"},

	"actors/wire": {}, // what nodes tell each other, generated

	"persistence/embedded": {"."},
	"persistence/memory":   {"."},
	"persistence/postgres": {"."},

	// A PostgreSQL to run against, and what breaks between it and the store.
	"persistence/pgserver":            {},
	"persistence/pgserver/faultproxy": {},

	"ingress":  {".", "meta"},
	"egress":   {".", "meta"},
	"cluster":  {},
	"callout":  {"."},
	"campaign": {"."},
	"audit":    {"."}, // any store is held to its word by the same hand

	"callout/httpbot": {"."}, // a bot is its calls; who makes them it doesn't know
	"console":         {"."},

	"node":       {"all"},
	"node/dev":   {".", "meta/metatest"}, // the page of parley dev, its phones, its node's process
	"sim":        {".", "actors", "actors/wire", "cluster", "egress", "ingress", "meta", "meta/metatest", "meta/metatest/history", "persistence/memory", "flow", "callout", "campaign", "examples/*"},
	"cmd/parley": {"node", "examples/*"},

	"sim/modelcheck": {}, // models of the protocols, and what goes through them
	"examples":       {}, // holds tests only: the transcripts of all of them
	"examples/*":     {".", "flow"},

	"examples/pizzeria": {".", "examples/tally"}, // tally's commands, so that it is judged as tally is

	// Packages that hold tests: the exam of the stores, the databases that they
	// run in, the simulated Meta, the player of transcripts.
	"persistence/storetest":       {"."},
	"persistence/pgserver/pgtest": {"persistence/pgserver"},
	"meta/metatest":               {"meta", "meta/metatest/history"},
	"meta/metatest/history":       {}, // what was seen, and whether any order explains it: knows of nothing else
	"cluster/clustertest":         {},
	"flow/flowtest":               {".", "flow"},

	"tools/protogen": {}, // a module of its own

	// What is measured is the whole line; the bare server is what it is measured with.
	"bench":      {"all"},
	"bench/*":    {},
	"bench/bare": {},
}

// testImports are what the tests of any package may import beyond its own row:
// the fakes, the exams, and the root whose words they are spoken in.
var testImports = []string{".", "actors/wire", "persistence/memory", "persistence/pgserver", "persistence/pgserver/*", "persistence/storetest", "meta/metatest", "meta/metatest/history", "flow/flowtest", "cluster/clustertest"}

// testRows are what the tests of single packages may import beyond that.
var testRows = map[string][]string{
	".":             {"examples/*"},
	"meta/metatest": {"."},
	"examples":      {"examples/*"},
	"examples/*":    {"meta", "callout"}, // what sends their messages, and makes their calls
	"flow":          {"meta"},            // what menus are made of is held against what encodes it
	"cmd/parley":    {"all"},
	"sim":           {"all"},

	"persistence/postgres": {"persistence/embedded", "audit"}, // the source of a copy; who names what is lost
}

// library is the home of an outside library, or of a family of them.
type library struct {
	homes     []string // folders, as in packages; "all" for everywhere but the root
	testHomes []string // where tests, and the packages that hold them, may use it beyond that
	tests     bool     // for tests and the packages that hold them only
}

// libraries are keyed by the import path up to which they match.
var libraries = map[string]library{
	"github.com/go-json-experiment/json": {homes: []string{"meta"}},
	"github.com/valyala/fasthttp":        {homes: []string{"ingress", "meta", "meta/metatest", "bench/*"}},
	"github.com/asynkron/protoactor-go":  {homes: []string{"actors"}},
	"google.golang.org/protobuf":         {homes: []string{"actors", "actors/wire", "sim", "tools/protogen"}}, // sim: hints go as bytes there, too
	"github.com/bufbuild/protocompile":   {homes: []string{"tools/protogen"}},
	"google.golang.org/grpc":             {homes: []string{"actors"}}, // protoactor's remote speaks it
	"github.com/hashicorp/memberlist":    {homes: []string{"cluster", "cluster/clustertest"}},
	"github.com/cespare/xxhash/v2":       {homes: []string{"cluster"}},
	"github.com/cockroachdb/pebble/v2":   {homes: []string{"persistence/embedded"}, testHomes: []string{"sim"}}, // a disk that crashes
	"github.com/jackc/pgx/v5":            {homes: []string{"persistence/postgres", "bench"}, testHomes: []string{"persistence/pgserver", "persistence/pgserver/*", "cmd/parley"}},
	"github.com/pressly/goose/v3":        {homes: []string{"persistence/postgres"}},
	"github.com/klauspost/compress":      {homes: []string{"persistence/postgres"}}, // s2, for states; pebble links it anyway
	"golang.org/x/time":                  {homes: []string{"egress"}},
	"github.com/adhocore/gronx":          {homes: []string{"campaign"}},
	"github.com/danielgtaylor/huma/v2":   {homes: []string{"console"}},
	"github.com/tink-crypto/tink-go/v2":  {homes: []string{"console"}},
	"github.com/alecthomas/kong":         {homes: []string{"node"}},
	"github.com/goccy/go-yaml":           {homes: []string{"node"}},

	// What the operating system says: a mapped file, a directory's lock, room on
	// the disk, another process's CPU time, the memory that it left.
	"golang.org/x/sys": {homes: []string{"actors", "egress", "ingress", "persistence/embedded", "persistence/pgserver", "persistence/postgres", "node", "bench/*"}},

	// Each package has its own metrics.
	"github.com/prometheus/client_golang": {homes: []string{"all"}},
	"go.opentelemetry.io/otel":            {homes: []string{"all"}},

	"github.com/HdrHistogram/hdrhistogram-go": {homes: []string{"meta/metatest", "node"}},

	"github.com/google/go-cmp":           {homes: []string{"all"}, tests: true},
	"pgregory.net/rapid":                 {homes: []string{"all"}, tests: true},
	"go.uber.org/goleak":                 {homes: []string{"all"}, tests: true},
	"github.com/anishathalye/porcupine":  {homes: []string{"meta/metatest/history"}, testHomes: []string{"all"}}, // histories are checked by a command, too
	"github.com/prometheus/client_model": {homes: []string{"all"}, tests: true},                                  // to read back what a package counts
}

// textMax bounds the files that are looked at: a larger one is data.
const textMax = 1 << 20

func TestLayout(t *testing.T) {
	t.Parallel()
	files, err := readTree(os.DirFS("."))
	if err != nil {
		t.Fatalf("read the tree: %v", err)
	}
	seen := false
	for _, f := range files {
		seen = seen || f.path == "layout_test.go"
	}
	if !seen {
		t.Fatal("the tree holds no layout_test.go: this test doesn't see the repository")
	}
	for _, problem := range layoutProblems(files) {
		t.Error(problem)
	}
}

// readTree reads the files of the repository that people write: not git's own,
// not what was built, not what a node left, nothing large.
func readTree(root fs.FS) ([]file, error) {
	var files []file
	err := fs.WalkDir(root, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			return skipFolder(name)
		}
		if !d.Type().IsRegular() || name == ".git" || strings.HasSuffix(name, ".test") || strings.HasSuffix(name, ".out") {
			return nil
		}
		info, err := d.Info()
		if err != nil || info.Size() > textMax {
			return err
		}
		text, err := fs.ReadFile(root, name)
		files = append(files, file{path: name, text: string(text)})
		return err
	})
	return files, err
}

func skipFolder(name string) error {
	switch {
	case name == ".git", name == "bin", name == "data", path.Base(name) == "node_modules":
		return fs.SkipDir
	}
	return nil
}
