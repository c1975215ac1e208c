package main_test

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/greeter"
	"github.com/parleychat/parley/examples/pizza"
	"github.com/parleychat/parley/examples/tally"
	"github.com/parleychat/parley/node"
)

func read(t *testing.T, path ...string) string {
	t.Helper()
	b, err := os.ReadFile(filepath.Join(path...))
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func operations(t *testing.T) string {
	t.Helper()
	return read(t, "..", "..", "docs", "operations.md")
}

// The example configuration is one that this program takes.
func TestExampleConfiguration(t *testing.T) {
	t.Parallel()
	bots := []parley.Bot{greeter.Bot(), pizza.Bot(), tally.Bot()}
	cfg, err := node.ReadConfig(filepath.Join("..", "..", "deployments", "parley.yaml"), bots)
	if err != nil {
		t.Fatal(err)
	}
	kinds := map[string]bool{}
	for _, ch := range cfg.Apps[0].Channels {
		kinds[ch.Kind] = true
	}
	if len(kinds) != 4 {
		t.Errorf("the example shows the kinds %v, want all four", kinds)
	}
}

// What is commented out in the example is taken too: its defaults are real.
func TestExampleDefaults(t *testing.T) {
	t.Parallel()
	const dir = "../../deployments/parley.yaml"
	bots := []parley.Bot{greeter.Bot(), pizza.Bot(), tally.Bot()}
	as, err := node.ReadConfig(dir, bots)
	if err != nil {
		t.Fatal(err)
	}
	text := regexp.MustCompile(`(?m)^# ((?:  )?[a-z_]+:.*)$`).ReplaceAllString(read(t, dir), "$1")
	path := newHouse(t).write(t, "parley.yaml", text)
	spelled, err := node.ReadConfig(path, bots)
	if err != nil {
		t.Fatal(err)
	}
	if spelled.ReserveBytes == 0 {
		t.Fatal("the defaults were not put in")
	}
	spelled.ReserveBytes = as.ReserveBytes // its default is the store's
	if !reflect.DeepEqual(as, spelled) {
		t.Errorf("a default that the example names is another:\n%+v\n%+v", as, spelled)
	}
}

// Each key of the configuration is in the reference and in the example.
func TestEveryKeyIsDocumented(t *testing.T) {
	t.Parallel()
	doc, example := operations(t), read(t, "..", "..", "deployments", "parley.yaml")+read(t, "..", "..", "deployments", "cluster.yaml")
	keys := keysOf(reflect.TypeFor[node.Config](), "")
	if len(keys) < 20 {
		t.Fatalf("only %d keys found: %q", len(keys), keys)
	}
	for _, key := range keys {
		if !strings.Contains(doc, "`"+key+"`") {
			t.Errorf("docs/operations.md lacks `%s`", key)
		}
		last := key[strings.LastIndex(key, ".")+1:]
		if !regexp.MustCompile(`(?m)(^|[\s{#-])` + last + `:`).MatchString(example) {
			t.Errorf("neither deployments/parley.yaml nor cluster.yaml shows %s", key)
		}
	}
}

// keysOf are the keys of a type as they are written in the reference.
func keysOf(typ reflect.Type, prefix string) []string {
	var keys []string
	for f := range typ.Fields() {
		name := f.Tag.Get("yaml")
		switch inner := f.Type; {
		case inner.Kind() == reflect.Slice && inner.Elem().Kind() == reflect.Struct:
			keys = append(keys, keysOf(inner.Elem(), name+"[].")...)
		case inner.Kind() == reflect.Pointer:
			keys = append(keys, keysOf(inner.Elem(), name+".")...)
		case inner.Kind() == reflect.Struct:
			keys = append(keys, keysOf(inner, prefix+name+".")...)
		default:
			keys = append(keys, prefix+name)
		}
	}
	return keys
}

// Each metric that the reference names is one of a node with one store or the
// other, and each of theirs is named.
func TestEveryMetricIsDocumented(t *testing.T) {
	t.Parallel()
	url := cluster.Database(t)
	named := names(operations(t), `\b(parley_[a-z]+_\w+)`)
	var shown []string
	for _, store := range []string{"embedded", "postgres", "postgres, in a cluster"} {
		own := metricsOf(t, store, url)
		if len(own) < 30 {
			t.Fatalf("%s: only %d metrics: %q", store, len(own), own)
		}
		for _, name := range own {
			if !slices.Contains(named, name) {
				t.Errorf("%s: docs/operations.md doesn't name %s", store, name)
			}
		}
		shown = append(shown, own...)
	}
	for _, name := range named {
		if !slices.Contains(shown, name) {
			t.Errorf("docs/operations.md names %s, which a node doesn't show", name)
		}
	}
}

// metricsOf are the names of the metrics of a node that has handled something.
func metricsOf(t *testing.T, store, url string) []string {
	t.Helper()
	g, h := newGraph(t), newHouse(t)
	store, clustered := strings.CutSuffix(store, ", in a cluster")
	h.write(t, "crm", "Bearer of-the-crm")
	services := newCRM(t, func(string, int) int { return 200 }).services(nil)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, url).with("store", store).with("services", services)
	if clustered {
		cfg = cfg.on(t, h, cluster.Database(t)) // where nobody has heard of these messages yet
		at := func() string { return freeAddress(t) }
		cfg = cfg.with("cluster", map[string]any{"bind": at(), "messages": at()})
	}
	n := h.start(t, asFateful, cfg)
	n.tell(t, "u1", "1", "say a")
	n.tell(t, "u1", "2", "panic")
	g.heard(t, "u1", "said a #1")
	await(t, "nothing waits", func() bool {
		b, ok := n.backlog(t)
		return ok && b.Pending == 0 && b.Unsent == 0
	})
	_, text := n.look(t, "/metrics")
	n.stop(t)
	return names(text, `(?m)^# TYPE (parley_\w+) `)
}

func names(text, pattern string) []string {
	var found []string
	for _, m := range regexp.MustCompile(pattern).FindAllStringSubmatch(text, -1) {
		if !slices.Contains(found, m[1]) {
			found = append(found, m[1])
		}
	}
	return found
}
