package metatest_test

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
	"github.com/parleychat/parley/meta/metatest/history"
)

// recorded plays a run with a history, and a farewell at its end, and checks both.
func recorded(t *testing.T, cfg metatest.Config, plant misbehaviour) (metatest.Verdict, history.Report) {
	t.Helper()
	var past bytes.Buffer
	writer := history.NewWriter(&past, 0)
	cfg.History, cfg.Farewell = writer, true
	w := metatest.NewWorld(cfg)
	b := newBot(t, w, plant)
	b.at(start().Add(cfg.Duration), func(now time.Time) { w.Farewell(now, 5*time.Second) })
	b.drive(60 * time.Second)
	if err := writer.Close(); err != nil {
		t.Fatal(err)
	}
	r, err := history.Check(t.Context(), &past, history.Options{})
	if err != nil {
		t.Fatal(err)
	}
	return w.Verdict(), r
}

// After the last fault everybody writes once more, and everybody's history is explained.
func TestFarewell(t *testing.T) {
	t.Parallel()
	cfg := busy(3)
	cfg.Faults = metatest.Faults{Transient: 0.03, Throttled: 0.03, Withheld: 0.03}
	v, r := recorded(t, cfg, misbehaviour{})
	if !v.Clean() || v.LastAsked != 60 || v.Offered != 1260 || v.Effects != v.Offered {
		t.Errorf("%d last messages, %d of %d took effect: %q", v.LastAsked, v.Effects, v.Offered, v.Problems())
	}
	if !r.Clean() || !r.Whole || r.Conversations != 60 || r.LastAsked != 60 || r.Operations != v.Offered+v.TimersRung {
		t.Errorf("the history: %+v", r)
	}
}

// Who gets no answer to the last message is named, by the verdict and by the history.
func TestSilence(t *testing.T) {
	t.Parallel()
	v, r := recorded(t, quiet(), misbehaviour{hush: func(u, k int) bool { return u == 5 && k == 16 }})
	if v.Silent != 1 || v.LastAsked != 40 || r.ByPromise["G9"] != 1 || r.Broken != 1 {
		t.Fatalf("%d of %d silent, in the history %+v", v.Silent, v.LastAsked, r)
	}
	named := func(text string) bool {
		return strings.Contains(text, strings.TrimSuffix(r.Findings[0].Conversation, " "))
	}
	problem := strings.Join(v.Broken, "\n")
	if !named(problem) {
		t.Errorf("the conversation %s isn't named: %s", r.Findings[0].Conversation, problem)
	}
}

// The history shows each breach of a state by itself, and names the promise.
func TestHistoryOfABadBot(t *testing.T) {
	t.Parallel()
	one := func(u, k int) bool { return u == 3 && k == 7 }
	for name, row := range map[string]struct {
		plant   misbehaviour
		change  func(*metatest.Config)
		promise string
	}{
		"Lost":       {misbehaviour{drop: one}, withoutTimers, "G1"},
		"Doubled":    {misbehaviour{double: one}, withoutTimers, "G2"},
		"Repeated":   {misbehaviour{forgetSeen: true}, withDuplicates, "G2"},
		"Swapped":    {misbehaviour{swap: one}, withoutTimers, "G3"},
		"OneState":   {misbehaviour{oneCounter: true}, withoutTimers, "G2"},
		"SwapedSend": {misbehaviour{swapSend: one}, withoutTimers, "G5"},
		"Early":      {misbehaviour{early: true}, func(*metatest.Config) {}, "G6"},
		"Deaf":       {misbehaviour{deaf: true}, func(*metatest.Config) {}, "G6"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := quiet()
			row.change(&cfg)
			v, r := recorded(t, cfg, row.plant)
			if r.ByPromise[row.promise] == 0 {
				t.Errorf("want %s broken: %+v", row.promise, r)
			}
			for _, p := range metatest.Promises(&v, &r, metatest.Circumstances{Nodes: 1, Faults: 1}) {
				if p.ID == row.promise && p.Broken == 0 {
					t.Errorf("the table has nothing of it: %+v", p)
				}
			}
		})
	}
}

// Ten promises are named, and which of them a run can't test.
func TestPromises(t *testing.T) {
	t.Parallel()
	v, r := recorded(t, busy(4), misbehaviour{})
	for name, row := range map[string]struct {
		at       metatest.Circumstances
		untested string
	}{
		"OneNodeNoFault":     {metatest.Circumstances{Nodes: 1}, "G4 G8 G9 G10"},
		"OneNodeKilled":      {metatest.Circumstances{Nodes: 1, Faults: 2}, "G4 G8 G10"},
		"SeveralUndisturbed": {metatest.Circumstances{Nodes: 3}, "G4 G8 G9 G10"},
		"SeveralKilled":      {metatest.Circumstances{Nodes: 3, Faults: 2, Changes: 2}, "G8 G10"},
		"Upgraded":           {metatest.Circumstances{Nodes: 3, Faults: 3, Changes: 3, Stored: 9}, "G8"},
	} {
		var untested []string
		for _, p := range metatest.Promises(&v, &r, row.at) {
			if p.Broken != 0 || p.Note == "" {
				t.Errorf("%s: %+v", name, p)
			}
			if p.Checked == 0 {
				untested = append(untested, p.ID)
			}
		}
		if got := strings.Join(untested, " "); got != row.untested {
			t.Errorf("%s: %s weren't tested, want %s", name, got, row.untested)
		}
	}
}

// The entrance is slow beyond what Meta asks for, or what the run says this machine may
// take; a simulator that is late itself can't tell.
func TestFastEntrance(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		median, lag     float64 // ms
		most            time.Duration
		checked, broken int
	}{
		"Fast":        {median: 250, checked: 7},
		"Slow":        {median: 251, checked: 7, broken: 1},
		"MayBeSlow":   {median: 251, most: time.Second, checked: 7},
		"TooSlow":     {median: 1001, most: time.Second, checked: 7, broken: 1},
		"BusyMachine": {median: 251, lag: 101},
	} {
		v := metatest.Verdict{Posts: 9, PostsRetried: 2, LagMS: row.lag}
		v.AnswerMS.P50 = row.median
		for _, p := range metatest.Promises(&v, nil, metatest.Circumstances{MedianMost: row.most}) {
			if p.ID == "G7" && (p.Checked != row.checked || p.Broken != row.broken) {
				t.Errorf("%s: %+v", name, p)
			}
		}
	}
}
