package main

import (
	"fmt"
	"io"
	"slices"
	"text/tabwriter"

	"github.com/parleychat/parley/bench/rounds"
)

const (
	// levelGrowth is how much more the median of a series' last third may be than
	// that of its middle third. What grows with time for ever makes it two thirds
	// more: the medians stand at a half and at five sixths of the run. What is level
	// makes it nothing, but for the teeth of a saw, as a queue's table grows until
	// autovacuum comes, which isn't on the minute. Medians, since a moment in which
	// the machine was busy with something else is no leak.
	levelGrowth = 0.2
	// levelSamples is the least from which thirds can be told.
	levelSamples = 9
)

// series is a quantity over time.
type series struct {
	name   string
	unit   string
	slack  float64 // that it may grow beside levelGrowth, for what is small
	values []float64
}

// thirds are the medians of the thirds of the series.
func (s series) thirds() (medians [3]float64) {
	for i := range medians {
		medians[i] = rounds.Median(s.values[i*len(s.values)/3 : (i+1)*len(s.values)/3])
	}
	return medians
}

// limit is what the median of the last third may be. The first third doesn't
// count: that is when everything fills.
func (s series) limit() float64 { return (1+levelGrowth)*s.thirds()[1] + s.slack }

func (s series) level() bool { return s.thirds()[2] <= s.limit() }

// writeLevels writes a table of them, and returns the names of those that aren't
// level.
func writeLevels(w io.Writer, all []series) (growing []string, err error) {
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "median of\tfirst third\tmiddle third\tlast third\tat most\tmost of all\t") // Flush tells
	for _, s := range all {
		verdict := "level"
		if !s.level() {
			verdict = "GROWS"
			growing = append(growing, s.name)
		}
		t := s.thirds()
		_, _ = fmt.Fprintf(table, "%s\t%.4g\t%.4g\t%.4g\t%.4g\t%.4g %s\t%s\n",
			s.name, t[0], t[1], t[2], s.limit(), slices.Max(s.values), s.unit, verdict)
	}
	return growing, table.Flush()
}
