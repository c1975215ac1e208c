package modelcheck_test

import (
	"flag"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/sim/modelcheck"
)

// faults widens all models but that of sends: with one they have millions of states.
var faults = flag.Int("faults", 0, "machines that die, answers that are lost and commits that fail, in the models")

// counter counts to three; if it stops, only a fault brings it on from two.
func counter(stops bool) modelcheck.Model[int] {
	return modelcheck.Model[int]{
		Name: "counter",
		Steps: func(n int) (steps []modelcheck.Step[int]) {
			if n < 3 {
				steps = append(steps, modelcheck.Step[int]{Name: modelcheck.Named("up"), To: n + 1, Fault: stops && n == 2})
			}
			return append(steps, modelcheck.Step[int]{Name: modelcheck.Named("reset"), Fault: true, To: 0})
		},
		Broken:  func(n int) string { return map[bool]string{true: "four"}[n == 4] },
		Settled: func(n int) bool { return n == 3 },
	}
}

// The checker visits each state once, sees what can't settle, and names a shortest way.
func TestChecker(t *testing.T) {
	t.Parallel()
	r, err := modelcheck.Check(counter(false))
	if err != nil || r.Broken != "" || r.States != 4 || r.Transitions != 7 || r.Depth != 3 {
		t.Errorf("%+v, %v", r, err)
	}
	r, err = modelcheck.Check(counter(true))
	if err != nil || !strings.Contains(r.Broken, "never settles") || len(r.Trace) != 0 {
		t.Errorf("a state that doesn't settle: %+v, %v", r, err)
	}
}

// check goes through a model, and wants it clean, if that is its name, or else broken.
func check[S comparable](t *testing.T, m modelcheck.Model[S], name string) {
	t.Helper()
	began := time.Now()
	r, err := modelcheck.Check(m)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("%s, %s: %d states, %d transitions, depth %d, %v", m.Name, name, r.States, r.Transitions, r.Depth, time.Since(began).Round(time.Millisecond))
	switch clean := strings.HasPrefix(name, "model"); {
	case clean && r.Broken != "":
		t.Errorf("%s:\n%s", r.Broken, strings.Join(r.Trace, "\n"))
	case !clean && r.Broken == "":
		t.Error("the bug isn't found")
	case !clean:
		t.Logf("%s:\n%s", r.Broken, strings.Join(r.Trace, "\n"))
	}
}

func TestCommits(t *testing.T) {
	t.Parallel()
	for name, bugs := range map[string]modelcheck.CommitBugs{
		"model":               {},
		"conflict-is-success": {ConflictIsSuccess: true},
		"version-unchecked":   {VersionUnchecked: true},
		"rows-unchecked":      {RowsUnchecked: true},
		"seen-forgotten":      {SeenForgotten: true},
		"ack-before-append":   {AckBeforeAppend: true},
		"never-swept":         {NeverSwept: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, modelcheck.Commits(*faults, bugs), name)
		})
	}
}

func TestSends(t *testing.T) {
	t.Parallel()
	for name, bugs := range map[string]modelcheck.SendBugs{
		"model":            {},
		"claim-unmarked":   {ClaimUnmarked: true},
		"half-ignored":     {HalfIgnored: true},
		"unseen-resend":    {UnseenResend: true},
		"looked-too-early": {LookedTooEarly: true},
		"doubt-overtaken":  {DoubtOvertaken: true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			check(t, modelcheck.Sends(bugs), name)
		})
	}
}

// The worlds in which conversations are merged: each has a part of all there is, as one
// with everything would be too large.
var (
	repeats = modelcheck.MergeScope{Events: 4, Again: true}
	replies = modelcheck.MergeScope{Events: 4, Replies: true}
	timers  = modelcheck.MergeScope{Events: 3, Timers: true}
	stale   = modelcheck.MergeScope{Events: 4, Stale: true}
)

func TestMerges(t *testing.T) {
	t.Parallel()
	for name, world := range map[string]struct {
		scope modelcheck.MergeScope
		bugs  modelcheck.MergeBugs
	}{
		"model/repeats":    {scope: repeats},
		"model/replies":    {scope: replies},
		"model/timers":     {scope: timers},
		"model/stale":      {scope: stale},
		"seen-dropped":     {repeats, modelcheck.MergeBugs{SeenDropped: true}},
		"generations-kept": {timers, modelcheck.MergeBugs{GenerationsKept: true}},
		"timers-dropped":   {timers, modelcheck.MergeBugs{TimersDropped: true}},
		"rows-left":        {replies, modelcheck.MergeBugs{RowsLeft: true}},
		"rows-moved":       {replies, modelcheck.MergeBugs{RowsMoved: true}},
		"not-passed-on":    {replies, modelcheck.MergeBugs{NotPassedOn: true}},
		"sends-overtake":   {replies, modelcheck.MergeBugs{SendsOvertake: true}},
		"sends-dropped":    {replies, modelcheck.MergeBugs{SendsDropped: true}},
		"younger-unmoved":  {stale, modelcheck.MergeBugs{YoungerUnmoved: true}},
		"survivor-unmoved": {repeats, modelcheck.MergeBugs{SurvivorUnmoved: true}},
		"in-halves":        {timers, modelcheck.MergeBugs{InHalves: true}},
		"repeat-uncounted": {repeats, modelcheck.MergeBugs{RepeatUncounted: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if world.bugs == (modelcheck.MergeBugs{}) {
				world.scope.Faults = *faults
			}
			check(t, modelcheck.Merges(world.scope, world.bugs), name)
		})
	}
}

// The worlds in which a shard changes hands.
var (
	punctual = modelcheck.HandOverScope{Changes: 2, Events: 2, Punctual: true}
	moves    = modelcheck.HandOverScope{Changes: 2}
	turns    = modelcheck.HandOverScope{Changes: 1, Events: 2}
	losses   = modelcheck.HandOverScope{Changes: 1, Faults: 2}
	deaths   = modelcheck.HandOverScope{Events: 2, Faults: 2}
)

func TestHandOvers(t *testing.T) {
	t.Parallel()
	for name, world := range map[string]struct {
		scope modelcheck.HandOverScope
		bugs  modelcheck.HandOverBugs
	}{
		"model/punctual":      {scope: punctual},
		"model/moves":         {scope: moves},
		"model/turns":         {scope: turns},
		"model/losses":        {scope: losses},
		"model/deaths":        {scope: deaths},
		"first-answer-counts": {punctual, modelcheck.HandOverBugs{FirstAnswerCounts: true}},
		"given-up-unasked":    {punctual, modelcheck.HandOverBugs{GivenUpUnasked: true}},
		"left-too-early":      {punctual, modelcheck.HandOverBugs{LeftTooEarly: true}},
		"others-served":       {punctual, modelcheck.HandOverBugs{OthersServed: true}},
		"stray-forgotten":     {moves, modelcheck.HandOverBugs{StrayForgotten: true}},
		"sleeper-forgets":     {deaths, modelcheck.HandOverBugs{SleeperForgets: true}},
		"waits-for-ever":      {losses, modelcheck.HandOverBugs{WaitsForEver: true}},
		"never-swept":         {deaths, modelcheck.HandOverBugs{NeverSwept: true}},
		"version-unchecked":   {turns, modelcheck.HandOverBugs{VersionUnchecked: true}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if world.bugs == (modelcheck.HandOverBugs{}) && !world.scope.Punctual { // a fault is not
				world.scope.Faults += *faults
			}
			check(t, modelcheck.HandOvers(world.scope, world.bugs), name)
		})
	}
}
