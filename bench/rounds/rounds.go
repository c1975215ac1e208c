// Package rounds measures several things on a machine that is never quiet. The
// scenarios take turns, round after round, so that a noisy minute falls on all of
// them; each figure is told as the median of the rounds with the least and the
// most, and as a ratio to the base scenario's figure of the same round, which is
// what stays when the machine gets faster, slower or busier.
//
// The package knows nothing of what is measured and imports nothing of ours.
package rounds

import (
	"context"
	"errors"
	"fmt"
	"math"
	"slices"
)

const (
	roundsMax    = 100
	scenariosMax = 50
)

// Figure is one number that a scenario measured in one round.
type Figure struct {
	Name  string  // "CPU"
	Unit  string  // "µs/request"
	Value float64 // must be the smaller the better

	// Held says that a figure which isn't the first is held to the base's figure of
	// the same name too, though nothing may be promised of the ratio.
	Held bool

	// AtMost is promised of a figure which isn't the first, as Scenario.AtMost is of
	// that one. 0 promises nothing.
	AtMost float64

	// Of are the observations, in order, of which Value is the quantile Quantile. A
	// few rounds' quantiles of few observations each say little of the rare ones: so
	// what is promised of such a figure, which has no base, is the quantile of all
	// rounds' observations together.
	Of       []float64
	Quantile float64
}

// Scenario is one thing to measure.
type Scenario struct {
	Name string

	// Base names the scenario to which this one's first figure is held, "" for
	// none. It must come earlier.
	Base string

	// AtMost is the promise: the median ratio of the first figure to the base's,
	// or without a base the median itself, is at most that. 0 promises nothing.
	AtMost float64

	// Measure takes one round. It returns the same figures in each, the one that
	// matters first.
	Measure func(ctx context.Context) ([]Figure, error)
}

// Result is what a figure was in all rounds.
type Result struct {
	Scenario string    `json:"scenario"`
	Figure   string    `json:"figure"`
	Unit     string    `json:"unit"`
	Values   []float64 `json:"values"` // by round
	Median   float64   `json:"median"`
	Min      float64   `json:"min"`
	Max      float64   `json:"max"`

	// Overall is the quantile of the observations of all rounds, if there are any.
	Observations int     `json:"observations,omitempty"`
	Overall      float64 `json:"overall,omitempty"`

	Base   string  `json:"base,omitempty"`
	Ratio  float64 `json:"ratio,omitempty"`   // median of the rounds' ratios to the base
	AtMost float64 `json:"at_most,omitempty"` // what is promised of Ratio, or without a base of Overall, if there is one, or of Median
	Broken bool    `json:"broken,omitempty"`  // the promise
}

// Run measures the scenarios, one after the other, the given number of times.
// After each it calls note. The first error ends it: a figure of something that
// failed is no figure.
func Run(ctx context.Context, scenarios []Scenario, rounds int, note func(round int, scenario string, figures []Figure)) ([]Result, error) {
	if err := check(scenarios, rounds); err != nil {
		return nil, err
	}
	taken := make([][][]Figure, len(scenarios)) // by scenario, then by round
	for round := range rounds {
		for i, s := range scenarios {
			figures, err := s.Measure(ctx)
			if err == nil {
				err = alike(taken[i], figures)
			}
			if err != nil {
				return nil, fmt.Errorf("%s, round %d: %w", s.Name, round+1, err)
			}
			taken[i] = append(taken[i], figures)
			note(round+1, s.Name, figures)
		}
	}
	return results(scenarios, taken), nil
}

func check(scenarios []Scenario, rounds int) error {
	if rounds < 1 || rounds > roundsMax || len(scenarios) > scenariosMax {
		return fmt.Errorf("%d rounds of %d scenarios: want 1 to %d of at most %d", rounds, len(scenarios), roundsMax, scenariosMax)
	}
	seen := map[string]bool{}
	for _, s := range scenarios {
		switch {
		case s.Name == "" || seen[s.Name] || s.Measure == nil:
			return fmt.Errorf("scenario %q: want a name of its own and something to measure", s.Name)
		case s.Base != "" && !seen[s.Base]:
			return fmt.Errorf("scenario %q: its base %q comes later or not at all", s.Name, s.Base)
		}
		seen[s.Name] = true
	}
	return nil
}

// alike holds a round's figures to those of the first.
func alike(earlier [][]Figure, figures []Figure) error {
	if len(figures) == 0 {
		return errors.New("no figures")
	}
	if len(earlier) > 0 && !slices.EqualFunc(earlier[0], figures, func(a, b Figure) bool { return a.Name == b.Name && a.Unit == b.Unit }) {
		return errors.New("other figures than in the first round")
	}
	return nil
}

func results(scenarios []Scenario, taken [][][]Figure) []Result {
	var all []Result
	for i, s := range scenarios {
		base := slices.IndexFunc(scenarios, func(b Scenario) bool { return b.Name == s.Base })
		for f, figure := range taken[i][0] {
			r := Result{Scenario: s.Name, Figure: figure.Name, Unit: figure.Unit, Values: series(taken[i], f), AtMost: figure.AtMost}
			r.Median, r.Min, r.Max = Median(r.Values), slices.Min(r.Values), slices.Max(r.Values)
			r.pool(taken[i], f)
			if f == 0 {
				r.AtMost = s.AtMost
			}
			if base >= 0 && (f == 0 || figure.Held) {
				r.hold(s.Base, taken[base], f)
			}
			r.judge()
			all = append(all, r)
		}
	}
	return all
}

// pool takes the quantile of a figure's observations, if it has any.
func (r *Result) pool(rounds [][]Figure, figure int) {
	var together []float64
	for i := range rounds {
		together = append(together, rounds[i][figure].Of...)
	}
	if len(together) == 0 {
		return
	}
	slices.Sort(together)
	r.Observations, r.Overall = len(together), Quantile(together, rounds[0][figure].Quantile)
}

// hold holds a figure to the same of the base, whose name may be another if it is
// the first.
func (r *Result) hold(name string, base [][]Figure, figure int) {
	if figure > 0 && (figure >= len(base[0]) || base[0][figure].Name != r.Figure) {
		return
	}
	ratios := series(base, figure)
	for round, of := range ratios {
		ratios[round] = r.Values[round] / of
	}
	r.Base, r.Ratio = name, Median(ratios)
}

// judge holds what counts to the promise.
func (r *Result) judge() {
	held := r.Median
	switch {
	case r.Base != "":
		held = r.Ratio
	case r.Observations > 0:
		held = r.Overall
	}
	r.Broken = r.AtMost > 0 && !(held <= r.AtMost) // not a number breaks it too
}

func series(rounds [][]Figure, figure int) []float64 {
	values := make([]float64, len(rounds))
	for i := range rounds {
		values[i] = rounds[i][figure].Value
	}
	return values
}

// Median is the middle of values, or the mean of the two in the middle.
func Median(values []float64) float64 {
	sorted := slices.Sorted(slices.Values(values))
	half := len(sorted) / 2
	if len(sorted)%2 == 1 {
		return sorted[half]
	}
	return (sorted[half-1] + sorted[half]) / 2
}

// Quantile is the least of sorted values that so large a share of them doesn't
// exceed.
func Quantile(sorted []float64, share float64) float64 {
	return sorted[max(0, min(len(sorted), int(math.Ceil(share*float64(len(sorted)))))-1)]
}
