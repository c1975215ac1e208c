package main_test

import (
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	main "github.com/parleychat/parley/bench"
	"github.com/parleychat/parley/persistence/embedded"
)

// TestMain makes the test binary each of the processes that are measured.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && !strings.HasPrefix(os.Args[1], "-") {
		main.Child(os.Args[1:])
	}
	os.Exit(m.Run())
}

// TestScenarios measures everything, in little: what can go wrong in a scenario
// is an error of its own, so what is left to see is that all figures are there.
func TestScenarios(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	results, err := main.Small(t.Context(), folder)
	if err != nil {
		t.Fatal(err)
	}
	var got []string
	for _, r := range results {
		if r.Median <= 0 && (r.Figure == "CPU" || r.Figure == "heap") {
			t.Errorf("%s: %s is %v", r.Scenario, r.Figure, r.Median)
		}
		if r.Figure == "CPU" || r.Figure == "heap" {
			got = append(got, r.Scenario)
		}
		if want := promised()[r.Scenario+" "+r.Figure]; r.AtMost != want {
			t.Errorf("%s: at most %v is promised of %s, want %v", r.Scenario, r.AtMost, r.Figure, want)
		}
	}
	want := []string{"unit", "unit, full speed", "ack", "ack, full speed", "turn", "turn with receipts", "idle"}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("scenarios (-want +got):\n%s", diff)
	}
	checkFolder(t, folder)
}

func promised() map[string]float64 {
	return map[string]float64{"ack CPU": 3, "turn CPU": 10, "idle heap": 1.5}
}

// checkFolder sees that the profiles are all that is left.
func checkFolder(t *testing.T, folder string) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(folder, "*"))
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
	if diff := cmp.Diff([]string{"idle.pprof", "turn-with-receipts.pprof", "turn.pprof"}, files); diff != "" {
		t.Errorf("files left (-want +got):\n%s", diff)
	}
}

// TestRefuses what can't be measured.
func TestRefuses(t *testing.T) {
	t.Parallel()
	if _, err := main.Small(t.Context(), filepath.Join(t.TempDir(), "missing")); err == nil {
		t.Error("a folder that isn't there: no error")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := main.Small(ctx, t.TempDir()); err == nil {
		t.Error("cancelled: no error")
	}
	for _, c := range []struct {
		rate                 float64
		users, conversations int
		good                 bool
	}{
		{300, 60, 1000, true}, {0, 60, 1000, false}, {300, 0, 1000, false}, {300, 60, 0, false}, {300, 60, 999, false},
	} {
		if err := main.Check(c.rate, c.users, c.conversations); (err == nil) != c.good {
			t.Errorf("%+v: error %v", c, err)
		}
	}
}

// TestHolds sees a row more or fewer than was acknowledged.
func TestHolds(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	store, err := embedded.Open(embedded.Config{Dir: folder})
	if err != nil {
		t.Fatal(err)
	}
	channel := parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "1"}
	event := parley.Event{
		Channel: channel, Contacts: []parley.Contact{"user:1"}, Key: parley.EventKey{1}, Input: parley.Message{Text: "hello"},
	}
	if _, err := store.Append(t.Context(), parley.Arrivals{Events: []parley.Event{event}}); err != nil {
		t.Fatal(err)
	}
	if err := store.Close(); err != nil {
		t.Fatal(err)
	}
	for rows, want := range map[int]bool{0: false, 1: true, 2: false} {
		if err := main.Holds(t.Context(), folder, rows); (err == nil) != want {
			t.Errorf("%d acknowledged of 1 stored: error %v", rows, err)
		}
	}
}
