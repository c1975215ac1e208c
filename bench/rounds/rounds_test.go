package rounds_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"runtime"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley/bench/rounds"
)

// takes is a scenario that measures these values, one a round.
func takes(name, base string, atMost float64, values ...float64) rounds.Scenario {
	round := 0
	return rounds.Scenario{Name: name, Base: base, AtMost: atMost, Measure: func(context.Context) ([]rounds.Figure, error) {
		round++
		return []rounds.Figure{{Name: "CPU", Unit: "µs", Value: values[round-1]}, {Name: "round", Value: float64(round)}}, nil
	}}
}

func TestRun(t *testing.T) {
	t.Parallel()
	t.Run("takes turns and tells ratios by round", func(t *testing.T) {
		t.Parallel()
		var order []string
		got, err := rounds.Run(t.Context(), []rounds.Scenario{
			takes("unit", "", 0, 10, 20, 40),
			takes("ack", "unit", 3, 30, 50, 120),
			takes("turn", "unit", 2, 20, 50, 100),
			takes("memory", "", 1536, 1000, 1600, 1700),
		}, 3, func(round int, scenario string, _ []rounds.Figure) {
			order = append(order, fmt.Sprint(scenario, round))
		})
		if err != nil {
			t.Fatal(err)
		}
		want := strings.Fields("unit1 ack1 turn1 memory1 unit2 ack2 turn2 memory2 unit3 ack3 turn3 memory3")
		if diff := cmp.Diff(want, order); diff != "" {
			t.Errorf("order (-want +got):\n%s", diff)
		}
		round := rounds.Result{Figure: "round", Values: []float64{1, 2, 3}, Median: 2, Min: 1, Max: 3}
		of := func(scenario string, first rounds.Result) []rounds.Result {
			second := round
			first.Figure, first.Unit, first.Scenario, second.Scenario = "CPU", "µs", scenario, scenario
			return []rounds.Result{first, second}
		}
		all := of("unit", rounds.Result{Values: []float64{10, 20, 40}, Median: 20, Min: 10, Max: 40})
		all = append(all, of("ack", rounds.Result{Values: []float64{30, 50, 120}, Median: 50, Min: 30, Max: 120, Base: "unit", Ratio: 3, AtMost: 3})...)
		all = append(all, of("turn", rounds.Result{Values: []float64{20, 50, 100}, Median: 50, Min: 20, Max: 100, Base: "unit", Ratio: 2.5, AtMost: 2, Broken: true})...)
		all = append(all, of("memory", rounds.Result{Values: []float64{1000, 1600, 1700}, Median: 1600, Min: 1000, Max: 1700, AtMost: 1536, Broken: true})...)
		if diff := cmp.Diff(all, got); diff != "" {
			t.Errorf("results (-want +got):\n%s", diff)
		}
		if n := (rounds.Report{Results: got}).Broken(); n != 2 {
			t.Errorf("%d promises broken, want 2", n)
		}
	})
	t.Run("median of an even number", func(t *testing.T) {
		t.Parallel()
		got, err := rounds.Run(t.Context(), []rounds.Scenario{takes("unit", "", 0, 4, 1, 3, 100)}, 4, ignore)
		if err != nil || got[0].Median != 3.5 {
			t.Errorf("median %v, %v; want 3.5", got[0].Median, err)
		}
	})
	t.Run("no number keeps no promise", func(t *testing.T) {
		t.Parallel()
		got, err := rounds.Run(t.Context(), []rounds.Scenario{takes("unit", "", 1, math.NaN())}, 1, ignore)
		if err != nil || !got[0].Broken {
			t.Errorf("%+v, %v; want a broken promise", got, err)
		}
	})
}

// counts is a scenario of a first figure and two more, in each round.
func counts(name, base string, figures ...rounds.Figure) rounds.Scenario {
	return rounds.Scenario{Name: name, Base: base, Measure: func(context.Context) ([]rounds.Figure, error) { return figures, nil }}
}

func TestRunOfSeveralFigures(t *testing.T) {
	t.Parallel()
	round := 0
	tail := rounds.Scenario{Name: "tail", AtMost: 3, Measure: func(context.Context) ([]rounds.Figure, error) {
		round++
		of := [][]float64{{1, 2, 3}, {1, 1, 9}, {1, 1, 9}}[round-1]
		return []rounds.Figure{{Name: "p70", Value: rounds.Quantile(of, 0.7), Of: of, Quantile: 0.7}}, nil
	}}
	got, err := rounds.Run(t.Context(), []rounds.Scenario{
		counts("one", "", rounds.Figure{Name: "own", Value: 10}, rounds.Figure{Name: "whole", Value: 20}, rounds.Figure{Name: "x", Value: 1}),
		counts("three", "one", rounds.Figure{Name: "own", Value: 11}, rounds.Figure{Name: "whole", Value: 40, Held: true},
			rounds.Figure{Name: "y", Value: 5, Held: true}, rounds.Figure{Name: "z", Value: 5, AtMost: 4}),
		tail,
	}, 3, ignore)
	if err != nil {
		t.Fatal(err)
	}
	type brief struct {
		Name           string
		Ratio, Overall float64
		Broken         bool
	}
	var briefly []brief
	for _, r := range got[3:] {
		briefly = append(briefly, brief{r.Figure, r.Ratio, r.Overall, r.Broken})
	}
	want := []brief{{"own", 1.1, 0, false}, {"whole", 2, 0, false}, {"y", 0, 0, false}, {"z", 0, 0, true}, {"p70", 0, 3, false}}
	if diff := cmp.Diff(want, briefly); diff != "" {
		t.Errorf("(-want +got):\n%s", diff)
	}
	if last := got[len(got)-1]; last.Median != 9 || last.Max != 9 || last.Observations != 9 {
		t.Errorf("the tail: %+v", last)
	}
}

func TestQuantile(t *testing.T) {
	t.Parallel()
	values := make([]float64, 1000)
	for i := range values {
		values[i] = float64(i + 1)
	}
	for share, want := range map[float64]float64{0: 1, 0.5: 500, 0.999: 999, 0.9991: 1000, 1: 1000} {
		if got := rounds.Quantile(values, share); got != want {
			t.Errorf("the share %v: %v, want %v", share, got, want)
		}
	}
}

func ignore(int, string, []rounds.Figure) {}

func TestRunRefuses(t *testing.T) {
	t.Parallel()
	failing := errors.New("no server")
	round := 0
	for _, c := range []struct {
		name, want string
		rounds     int
		scenarios  []rounds.Scenario
	}{
		{"no rounds", "want 1 to", 0, []rounds.Scenario{takes("a", "", 0)}},
		{"no name", "name of its own", 1, []rounds.Scenario{takes("", "", 0)}},
		{"a name twice", "name of its own", 1, []rounds.Scenario{takes("a", "", 0), takes("a", "", 0)}},
		{"nothing to measure", "something to measure", 1, []rounds.Scenario{{Name: "a"}}},
		{"a base that comes later", `its base "b"`, 1, []rounds.Scenario{takes("a", "b", 0), takes("b", "", 0)}},
		{"a failure", "a, round 1: no server", 1, []rounds.Scenario{{Name: "a", Measure: func(context.Context) ([]rounds.Figure, error) { return nil, failing }}}},
		{"no figures", "a, round 1: no figures", 1, []rounds.Scenario{{Name: "a", Measure: func(context.Context) ([]rounds.Figure, error) { return nil, nil }}}},
		{"other figures", "a, round 2: other figures", 2, []rounds.Scenario{{Name: "a", Measure: func(context.Context) ([]rounds.Figure, error) {
			round++
			return []rounds.Figure{{Name: fmt.Sprint("figure ", round)}}, nil
		}}}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			if _, err := rounds.Run(t.Context(), c.scenarios, c.rounds, ignore); err == nil || !strings.Contains(err.Error(), c.want) {
				t.Errorf("error %v, want %q", err, c.want)
			}
		})
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	report := rounds.Report{
		Before: rounds.Conditions{Go: "go1.26", CPU: "Fast", Cores: 2, Load: "0.1 0.2 0.3", Folder: "store", Filesystem: "ext4"},
		After:  rounds.Conditions{Load: "4 3 2"},
		Rounds: 3,
		Results: []rounds.Result{
			{Scenario: "unit", Figure: "CPU", Unit: "µs", Values: []float64{10, 12, 14}, Median: 12, Min: 10, Max: 14},
			{Scenario: "ack", Figure: "CPU", Unit: "µs", Median: 48, Min: 40, Max: 60, Base: "unit", Ratio: 4, AtMost: 3, Broken: true},
			{Scenario: "recovery", Figure: "p99", Unit: "s", Median: 2, Min: 1, Max: 9, Observations: 321, Overall: 2.5, AtMost: 3},
		},
	}
	var text, object strings.Builder
	if err := errors.Join(report.Text(&text), report.JSON(&object)); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{"go1.26", "Fast", "2 cores", "load 0.1 0.2 0.3 before, 4 3 2 after", "store (ext4)", "12 µs", "10..14", "4.00 × unit", "≤ 3 BROKEN", "2.5 s of all 321"} {
		if !strings.Contains(text.String(), want) {
			t.Errorf("no %q in\n%s", want, text.String())
		}
	}
	var back rounds.Report
	if err := json.Unmarshal([]byte(object.String()), &back); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(report, back); diff != "" {
		t.Errorf("JSON (-want +got):\n%s", diff)
	}
}

func TestReadConditions(t *testing.T) {
	t.Parallel()
	folder := t.TempDir()
	got := rounds.ReadConditions(folder)
	if got.Go != runtime.Version() || got.Cores != runtime.NumCPU() || got.Folder != folder {
		t.Errorf("%+v", got)
	}
	if runtime.GOOS == "linux" && (got.Filesystem == "unknown" || strings.Count(got.Load, " ") != 2) {
		t.Errorf("file system %q, load %q: both can be read here", got.Filesystem, got.Load)
	}
}
