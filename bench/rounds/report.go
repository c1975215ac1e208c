package rounds

import (
	"encoding/json"
	"fmt"
	"io"
	"strings"
	"text/tabwriter"
)

// Report is what is printed of a run.
type Report struct {
	Before  Conditions `json:"before"`
	After   Conditions `json:"after"` // the load has changed meanwhile, if nothing else
	Rounds  int        `json:"rounds"`
	Notes   []string   `json:"notes,omitempty"` // further conditions, each a line
	Results []Result   `json:"results"`
}

// Broken counts the promises that the figures break.
func (r Report) Broken() int {
	n := 0
	for _, result := range r.Results {
		if result.Broken {
			n++
		}
	}
	return n
}

// JSON writes the report as one object.
func (r Report) JSON(w io.Writer) error {
	encoder := json.NewEncoder(w)
	encoder.SetIndent("", "  ")
	return encoder.Encode(r)
}

// Text writes the report as a table under its conditions.
func (r Report) Text(w io.Writer) error {
	var text strings.Builder
	c := r.Before
	fmt.Fprintf(&text, "revision %s, %s, %s, %d cores, %s\n", c.Revision, c.Go, c.System, c.Cores, c.CPU)
	fmt.Fprintf(&text, "load %s before, %s after; stores in %s (%s)\n", c.Load, r.After.Load, c.Folder, c.Filesystem)
	for _, note := range r.Notes {
		text.WriteString(note + "\n")
	}
	fmt.Fprintf(&text, "%d rounds, the scenarios in turn; ratios by round\n\n", r.Rounds)
	text.WriteString("scenario\tfigure\tmedian\tmin..max\tratio, or of all rounds\tpromised\n")
	for _, result := range r.Results {
		text.WriteString(result.row() + "\n")
	}
	table := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	if _, err := io.WriteString(table, text.String()); err != nil {
		return fmt.Errorf("write table: %w", err)
	}
	return table.Flush()
}

func (r Result) row() string {
	ratio, promised := "", ""
	if r.Base != "" {
		ratio = fmt.Sprintf("%.2f × %s", r.Ratio, r.Base)
	}
	if r.Observations > 0 {
		ratio = fmt.Sprintf("%.4g %s of all %d", r.Overall, r.Unit, r.Observations)
	}
	if r.AtMost > 0 {
		promised = fmt.Sprintf("≤ %g", r.AtMost)
	}
	if r.Broken {
		promised += " BROKEN"
	}
	return fmt.Sprintf("%s\t%s\t%.4g %s\t%.4g..%.4g\t%s\t%s", r.Scenario, r.Figure, r.Median, r.Unit, r.Min, r.Max, ratio, promised)
}
