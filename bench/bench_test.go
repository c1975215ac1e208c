package main_test

import (
	"context"
	"errors"
	"flag"
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	main "github.com/parleychat/parley/bench"
	"github.com/parleychat/parley/bench/rounds"
	"github.com/parleychat/parley/ingress"
	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/pgserver/pgtest"
	"github.com/parleychat/parley/persistence/postgres"
)

var cluster = pgtest.Cluster{Migrate: func(ctx context.Context, url string) error {
	_, err := postgres.Migrate(ctx, url)
	return err
}}

// TestMain makes the test binary each of the processes that are measured.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main.Child(os.Args[1:])
	}
	os.Exit(cluster.Around(m).Run())
}

// folder is one that PostgreSQL, which doesn't run as root, can reach.
func folder(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	if err := os.Chmod(filepath.Dir(dir), 0o711); err != nil {
		t.Fatal(err)
	}
	return dir
}

// needsPostgres skips, loudly, where there is none.
func needsPostgres(t *testing.T) {
	t.Helper()
	if _, err := pgserver.Find(); errors.Is(err, pgserver.ErrNotFound) && os.Getenv("CI") != "true" {
		t.Skipf("SKIPPED, NOT TESTED: %v", err)
	}
}

// TestScenarios measures everything, in little: what can go wrong in a scenario
// is an error of its own, so what is left to see is that all figures are there.
func TestScenarios(t *testing.T) {
	t.Parallel()
	for store, want := range map[string][]string{
		"embedded": {"ack", "ack, full speed", "turn", "turn with receipts", "turn over HTTP", "statuses", "idle"},
		"postgres": {"ack, postgres", "ack, full speed, postgres", "turn, postgres", "turn with receipts, postgres", "activation, postgres"},
	} {
		t.Run(store, func(t *testing.T) {
			t.Parallel()
			if store == "postgres" {
				needsPostgres(t)
			}
			where := folder(t)
			results, err := main.Small(t.Context(), where, store)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(append([]string{"unit", "unit, full speed"}, want...), checkFigures(t, results)); diff != "" {
				t.Errorf("scenarios (-want +got):\n%s", diff)
			}
			checkFolder(t, where, store)
		})
	}
}

// checkFigures returns the scenarios that have the figure that matters.
func checkFigures(t *testing.T, results []rounds.Result) (found []string) {
	t.Helper()
	for _, r := range results {
		first := len(found) == 0 || found[len(found)-1] != r.Scenario
		if first {
			found = append(found, r.Scenario)
		}
		if first && r.Median <= 0 {
			t.Errorf("%s: %s is %v", r.Scenario, r.Figure, r.Median)
		}
		if want := promised()[r.Scenario+" "+r.Figure]; r.AtMost != want {
			t.Errorf("%s: at most %v is promised of %s, want %v", r.Scenario, r.AtMost, r.Figure, want)
		}
	}
	return found
}

func promised() map[string]float64 {
	return map[string]float64{
		"ack CPU": 3, "ack, postgres CPU": 6, "turn CPU": 10, "turn over HTTP beyond": 6, "turn, postgres CPU": 15, "idle heap": 1.5, "activation, postgres p50": 3,
		"bot check time": 60, "bot check, postgres time": 60,
		"send, 1 number CPU": 3, "send, 1 number off the pace": 1, "send, 50 numbers CPU": 3, "send, 50 numbers off the pace": 1,
		"send, 50 numbers, 1 parked CPU": 1.1, "send, 50 numbers, 1 parked off the pace": 1, "ack beside sends p99": 1.1,
	}
}

// TestSends measures sending, in little. That nothing came, or something twice, is an
// error of its own.
//
//nolint:paralleltest // it fills stores, for which the other measurements would wait
func TestSends(t *testing.T) {
	results, err := main.SmallSends(t.Context(), folder(t))
	if err != nil {
		t.Fatal(err)
	}
	want := []string{"unit", "send, 1 number", "send, 50 numbers", "send, 50 numbers, 1 parked", "ack, nothing sent", "ack beside sends"}
	if diff := cmp.Diff(want, checkFigures(t, results)); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}
}

// TestChecked measures the check of a bot, in little. That not all was checked is an
// error of its own.
//
//nolint:paralleltest // it fills stores, for which the other measurements would wait
func TestChecked(t *testing.T) {
	needsPostgres(t)
	results, notes, err := main.SmallChecked(t.Context(), folder(t))
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff([]string{"bot check", "bot check, postgres"}, checkFigures(t, results)); diff != "" || len(notes) != 2 {
		t.Errorf("notes %q, scenarios (-want +got):\n%s", notes, diff)
	}
}

// checkFolder sees that the profiles are all that is left.
func checkFolder(t *testing.T, where, store string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(where, "*"))
	if err != nil {
		t.Fatal(err)
	}
	for i, file := range files {
		if info, err := os.Stat(file); err != nil || info.Size() == 0 {
			t.Errorf("%s is empty or unreadable: %v", file, err)
		}
		files[i] = filepath.Base(file)
	}
	slices.Sort(files)
	want := []string{"idle.pprof", "turn-over-http.pprof", "turn-with-receipts.pprof", "turn.pprof"}
	if store == "postgres" {
		want = []string{"turn-postgres.pprof", "turn-with-receipts-postgres.pprof"}
	}
	if diff := cmp.Diff(want, files); diff != "" {
		t.Errorf("files left (-want +got):\n%s", diff)
	}
}

// TestLarge compares two stores, in little. That the turns were those of stored
// conversations is an error of its own.
func TestLarge(t *testing.T) {
	t.Parallel()
	needsPostgres(t)
	where := folder(t)
	results, notes, err := main.SmallCompare(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	var got []rounds.Result
	for _, r := range results {
		if r.Figure == "CPU" {
			got = append(got, rounds.Result{Scenario: r.Scenario, Base: r.Base, AtMost: r.AtMost})
		}
	}
	want := []rounds.Result{{Scenario: "turn, 300 stored"}, {Scenario: "turn, 1200 stored", Base: "turn, 300 stored", AtMost: 1.15}}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if len(notes) != 1 || !strings.HasPrefix(notes[0], "1201 conversations stored: ") { // with the one that was copied
		t.Errorf("noted %q", notes)
	}
	if left, err := os.ReadDir(where); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

var clustered = flag.Bool("nodes", false, "measure three nodes, in little; wants the machine for itself")

// TestCluster measures three nodes, in little. That no message was lost, doubled or
// reordered by the kill and the drain is an error of its own; the figures are there
// to be seen, and those that don't depend on the machine are held to what they must
// be.
func TestCluster(t *testing.T) {
	t.Parallel()
	if !*clustered {
		t.Skip("make chaos-short, which make check does, measures three nodes")
	}
	needsPostgres(t)
	where := folder(t)
	results, err := main.SmallCluster(t.Context(), where)
	if err != nil {
		t.Fatal(err)
	}
	promised, values := map[string]float64{}, map[string]float64{}
	for _, r := range results {
		name := r.Scenario + ": " + r.Figure
		if values[name] = r.Median; r.AtMost > 0 {
			promised[name] = r.AtMost
		}
	}
	want := map[string]float64{
		"turn at 100/s, 3 nodes: CPU of the nodes": 1.2, "recovery: until the next reply, p99": 3, "drain: until it runs no shard": 15,
		"drain: turn delay meanwhile, p99.9": 300, "join: shards moved": 27, "idle cluster: CPU of the busiest node": 1,
	}
	if diff := cmp.Diff(want, promised); diff != "" {
		t.Errorf("promised (-want +got):\n%s", diff)
	}
	if moved, by := values["join: shards moved"], values["join: by the views"]; moved != by || moved < 10 {
		t.Errorf("%v %% of the shards moved, %v %% by the views", moved, by)
	}
	if n := values["drain: handed over"]; n < 300 {
		t.Errorf("%v conversations were handed over, want 300 and whoever wrote", n)
	}
	for _, name := range []string{"recovery: until the next turn, p99", "turn at 100/s, 1 node: CPU of the nodes", "idle cluster: CPU of PostgreSQL"} {
		if v, ok := values[name]; !ok || v < 0 {
			t.Errorf("%s is %v, %t", name, v, ok)
		}
	}
	if left, err := os.ReadDir(where); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestNewDelays tells what a histogram has counted meanwhile.
func TestNewDelays(t *testing.T) {
	t.Parallel()
	inf := math.Inf(1)
	from := map[float64]float64{0.1: 5, 0.3: 7, 10: 7, inf: 8}
	to := map[float64]float64{0.1: 6, 0.3: 10, 10: 10, inf: 13}
	if diff := cmp.Diff([]float64{100, 300, 300, 20_000, 20_000}, main.NewDelays(from, to)); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
}

// TestSoak takes some samples of a node on PostgreSQL.
func TestSoak(t *testing.T) {
	t.Parallel()
	needsPostgres(t)
	where := folder(t)
	var out strings.Builder
	judged, err := main.Soak(t.Context(), where, &out, 3)
	if err != nil {
		t.Fatalf("%v\n%s", err, out.String())
	}
	if diff := cmp.Diff([]string{"inbox", "outbox", "receipt", "timer", "RSS of the node"}, judged); diff != "" {
		t.Errorf("judged (-want +got):\n%s", diff)
	}
	lines := strings.Split(strings.TrimSpace(out.String()), "\n")
	for _, line := range lines {
		if len(lines) != 4 || strings.Count(line, "|") != 5 {
			t.Fatalf("want a head and three lines of six parts:\n%s", out.String())
		}
	}
	if left, err := os.ReadDir(where); err != nil || len(left) > 0 {
		t.Errorf("left %v, %v", left, err)
	}
}

// TestLevels tells what grows from what doesn't.
func TestLevels(t *testing.T) {
	t.Parallel()
	const n = 30
	for name, c := range map[string]struct {
		value func(i int) float64
		level bool
	}{
		"Constant":           {func(int) float64 { return 40 }, true},
		"FillsAtFirst":       {func(i int) float64 { return min(40, 8*float64(i)) }, true},
		"Saw":                {func(i int) float64 { return 30 + 5*float64(i%6) }, true},
		"AMomentOfTrouble":   {func(i int) float64 { return 40 + 100*float64(i/26*(28/max(i, 1))) }, true},
		"SmallWithinSlack":   {func(i int) float64 { return 0.1 + float64(i)/n }, true},
		"Line":               {func(i int) float64 { return 1 + 4*float64(i) }, false},
		"LineWithASaw":       {func(i int) float64 { return 10 + 4*float64(i) + 5*float64(i%6) }, false},
		"LineOnWhatWasThere": {func(i int) float64 { return 100 + 4*float64(i) }, false},
		"LateAndForGood":     {func(i int) float64 { return 40 + 60*float64(i/22) }, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			values := make([]float64, n)
			for i := range values {
				values[i] = c.value(i)
			}
			var out strings.Builder
			growing, err := main.WriteLevels(&out, "outbox", values)
			if err != nil {
				t.Fatal(err)
			}
			word := map[bool]string{true: "level", false: "GROWS"}[c.level]
			if (len(growing) == 0) != c.level || !strings.Contains(out.String(), word) {
				t.Errorf("growing: %q; want %s\n%s", growing, word, out.String())
			}
		})
	}
}

// TestRefuses what can't be measured.
func TestRefuses(t *testing.T) {
	t.Parallel()
	if _, err := main.Small(t.Context(), filepath.Join(t.TempDir(), "missing"), "embedded"); err == nil {
		t.Error("a folder that isn't there: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	for _, store := range []string{"embedded", "postgres"} {
		if _, err := main.Small(ctx, t.TempDir(), store); err == nil {
			t.Errorf("%s, cancelled: no error", store)
		}
	}
	good := main.Settings{Rate: 300, Users: 60, Conversations: 1000}
	for name, c := range map[string]struct {
		change func(*main.Settings)
		good   bool
	}{
		"nothing":                    {func(*main.Settings) {}, true},
		"no rate":                    {func(s *main.Settings) { s.Rate = 0 }, false},
		"no users":                   {func(s *main.Settings) { s.Users = 0 }, false},
		"no conversations":           {func(s *main.Settings) { s.Conversations = 0 }, false},
		"a broken batch":             {func(s *main.Settings) { s.Conversations = 999 }, false},
		"one store":                  {func(s *main.Settings) { s.Store = "postgres" }, true},
		"a store that there isn't":   {func(s *main.Settings) { s.Store = "oracle" }, false},
		"large":                      {func(s *main.Settings) { s.Large = 600 }, true},
		"large that is small":        {func(s *main.Settings) { s.Large = 30 }, false},
		"large, over in the warm-up": {func(s *main.Settings) { s.Large, s.Rate = 600, 600 }, false},
		"a soak":                     {func(s *main.Settings) { s.Soak = 90 * time.Second }, true},
		"a soak of less than thirds": {func(s *main.Settings) { s.Soak = 80 * time.Second }, false},
		"a soak and a large one":     {func(s *main.Settings) { s.Soak, s.Large = time.Hour, 600 }, false},
		"a cluster":                  {func(s *main.Settings) { s.Cluster = true }, true},
		"a cluster and a soak":       {func(s *main.Settings) { s.Cluster, s.Soak = true, time.Hour }, false},
		"sends":                      {func(s *main.Settings) { s.Sends, s.Store = true, "embedded" }, true},
		"sends on PostgreSQL":        {func(s *main.Settings) { s.Sends, s.Store = true, "postgres" }, false},
		"sends of a cluster":         {func(s *main.Settings) { s.Sends, s.Cluster, s.Store = true, true, "embedded" }, false},
		"a check":                    {func(s *main.Settings) { s.Checked = 1000 }, true},
		"a check of fewer than none": {func(s *main.Settings) { s.Checked = -1 }, false},
		"a check and a soak":         {func(s *main.Settings) { s.Checked, s.Soak = 1000, time.Hour }, false},
		"a cluster that is embedded": {func(s *main.Settings) { s.Cluster, s.Store = true, "embedded" }, false},
	} {
		s := good
		c.change(&s)
		if err := main.Check(s); (err == nil) != c.good {
			t.Errorf("%s: error %v", name, err)
		}
	}
}

// TestHolds sees a row more or fewer than was acknowledged.
func TestHolds(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(*testing.T) (string, ingress.Inbox, func() error){
		"embedded": func(t *testing.T) (string, ingress.Inbox, func() error) {
			t.Helper()
			place := t.TempDir()
			store, err := embedded.Open(embedded.Config{Dir: place})
			if err != nil {
				t.Fatal(err)
			}
			return place, store, store.Close
		},
		"postgres": func(t *testing.T) (string, ingress.Inbox, func() error) {
			t.Helper()
			place := cluster.Database(t)
			store, err := postgres.Open(t.Context(), postgres.Config{URL: place})
			if err != nil {
				t.Fatal(err)
			}
			return place, store, store.Close
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			place, inbox, done := open(t)
			event := parley.Event{
				Channel:  parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "1"},
				Contacts: []parley.Contact{"user:1"}, Key: parley.EventKey{1}, Input: parley.Message{Text: "hello"},
			}
			if _, err := inbox.Append(t.Context(), parley.Arrivals{Events: []parley.Event{event}}); err != nil {
				t.Fatal(err)
			}
			if err := done(); err != nil {
				t.Fatal(err)
			}
			for rows, want := range map[int]bool{0: false, 1: true, 2: false} {
				if err := main.Holds(t.Context(), place, rows); (err == nil) != want {
					t.Errorf("%d acknowledged of 1 stored: error %v", rows, err)
				}
			}
		})
	}
}
