package main_test

import (
	"cmp"
	"encoding/json"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// demoReport is what demo --json promises to print.
type demoReport struct {
	Offered, Acked, Effects, Lost, Reordered, Unanswered, Pending, Kills *int

	EffectsDoubled           *int                                          `json:"effects_doubled"`
	SendsRepeated            *int                                          `json:"sends_repeated"`
	SendsRepeatedUnexplained *int                                          `json:"sends_repeated_unexplained"`
	SendsRepeatedTold        *int                                          `json:"sends_repeated_told"`
	SendsRepeatedOn          struct{ Messenger, Instagram, WhatsApp *int } `json:"sends_repeated_on"`
	Faults                   struct{ Transient, Withheld, Slow int }

	Promises []struct {
		ID, Name        string
		Checked, Broken int
		Note            string
	}
	History *struct {
		Operations, Conversations, Broken, Undecided int
		Whole                                        bool
	}

	LagMS      *float64 `json:"lag_ms"`
	CPUPerTurn *float64 `json:"cpu_us_per_turn"`
	Store      *string
	Late       *int

	PostgresKills *int     `json:"postgres_kills"`
	MovedItems    *int     `json:"moved_items"`
	CPUDatabase   *float64 `json:"cpu_us_per_turn_database"`
	Calls         *struct {
		Made, Attempts, Refused, Withheld, Answered, Repeated int
	} `json:"calls"`
	Ack struct{ P50, P99, Max *float64 } `json:"ack_ms"`
}

// besideOthers is the median of a node's answers under -race, beside other tests and right
// after it was killed.
const besideOthers = "3s"

// The demonstration finds every promise kept, also when the node is killed. Where
// PostgreSQL is, too, the seed lays the faults apart: a node that starts while
// PostgreSQL is away waits for it, and spools nothing.
func TestDemo(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		args            []string
		kills, outages  int
		store, database string // at the end
	}{
		"Killed":      {args: []string{"--duration", "4s", "--rate", "150", "--kill", "2"}, kills: 2},
		"Duplicates":  {args: []string{"--duration", "3s", "--rate", "150", "--duplicates", "0.3"}},
		"Calls":       {args: []string{"--duration", "6s", "--rate", "150", "--kill", "2", "--calls"}, kills: 2},
		"FaultyGraph": {args: []string{"--duration", "4s", "--rate", "150", "--graph-faults", "heavy"}},
		"Postgres":    {args: []string{"--duration", "4s", "--rate", "150", "--kill", "1"}, kills: 1, store: "postgres"},
		"PostgresKilled": {
			args: []string{"--duration", "5s", "--rate", "150", "--seed", "1008", "--kill", "1", "--kill-postgres", "2", "--postgres-outage", "500ms"}, kills: 1, outages: 2, store: "postgres",
		},
		"Moved":           {args: []string{"--duration", "4s", "--rate", "150", "--kill", "1", "--move"}, kills: 1, store: "postgres"},
		"MovedToOnesOwn":  {args: []string{"--duration", "4s", "--rate", "150", "--move"}, store: "postgres", database: "its own"},
		"OnesOwnDatabase": {args: []string{"--duration", "3s", "--rate", "150"}, store: "postgres", database: "its own"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if row.store != "" {
				url := cluster.Database(t) // skips where there is no PostgreSQL
				if !slices.Contains(row.args, "--move") {
					row.args = append(row.args, "--store", row.store)
				}
				if row.database != "" {
					row.args = append(row.args, "--database", "file:"+newHouse(t).write(t, "database", url))
				}
			}
			// An operator's own settings are not for the node of the demonstration.
			env := []string{"PARLEY_LISTEN=203.0.113.1:1", "PARLEY_LOG_FORMAT=nonsense"}
			e := runIn(t, env, "", append([]string{"demo", "--json", "--ack-median", besideOthers, "--doubtful-wait", "2s", "--users", "100", "--dir", t.TempDir()}, row.args...)...)
			e.want(t, 0)
			var r demoReport
			if err := json.Unmarshal([]byte(e.out), &r); err != nil {
				t.Fatalf("the report: %v\n%s", err, e.out)
			}
			zero := map[string]*int{
				"lost": r.Lost, "effects_doubled": r.EffectsDoubled, "reordered": r.Reordered, "unanswered": r.Unanswered,
				"sends_repeated_unexplained": r.SendsRepeatedUnexplained, "pending": r.Pending,
			}
			for name, n := range zero {
				if n == nil || *n != 0 {
					t.Errorf("%s is not 0:\n%s", name, e.out)
				}
			}
			if r.Kills == nil || *r.Kills != row.kills || r.PostgresKills == nil || *r.PostgresKills != row.outages {
				t.Errorf("want %d kills, %d of PostgreSQL:\n%s", row.kills, row.outages, e.out)
			}
			if r.Store == nil || *r.Store != cmp.Or(row.store, "embedded") || r.Late == nil || row.outages > 0 && *r.Late == 0 || row.store == "" && *r.Late != 0 {
				t.Errorf("want store %q, and late events if PostgreSQL was killed:\n%s", row.store, e.out)
			}
			if own := row.store != "" && row.database == ""; own != (r.CPUDatabase != nil && *r.CPUDatabase > 0) {
				t.Errorf("want the CPU of PostgreSQL if it is the demonstration's own:\n%s", e.out)
			}
			if moves := slices.Contains(row.args, "--move"); moves != (r.MovedItems != nil && *r.MovedItems > 300) {
				t.Errorf("want its items counted if it moved:\n%s", e.out)
			}
			if r.Offered == nil || r.Acked == nil || r.Effects == nil || *r.Offered < 300 || *r.Acked != *r.Offered || *r.Effects != *r.Acked {
				t.Errorf("want some hundred messages, all acknowledged, all with effect:\n%s", e.out)
			}
			r.checkFaults(t, row.args)
			r.checkPromises(t, row.kills+row.outages > 0 || slices.Contains(row.args, "--move"))
			if r.SendsRepeated == nil || r.LagMS == nil || r.CPUPerTurn == nil || r.Ack.P50 == nil || r.Ack.P99 == nil || r.Ack.Max == nil {
				t.Errorf("a figure is missing:\n%s", e.out)
			}
		})
	}
}

// checkPromises holds what is said of each promise, and of the history.
func (r demoReport) checkPromises(t *testing.T, faults bool) {
	t.Helper()
	if h := r.History; h == nil || h.Operations < *r.Effects || h.Conversations == 0 || h.Broken+h.Undecided != 0 || !h.Whole {
		t.Errorf("want every conversation's history checked: %+v", h)
	}
	if len(r.Promises) != 10 {
		t.Fatalf("want ten promises: %+v", r.Promises)
	}
	for i, p := range r.Promises {
		untested := p.ID == "G4" || p.ID == "G8" || p.ID == "G10" || p.ID == "G9" && !faults
		busy := p.ID == "G7" && p.Checked == 0 // the machine, not the node
		if p.ID != fmt.Sprintf("G%d", i+1) || p.Name == "" || p.Note == "" || p.Broken != 0 || !busy && (p.Checked == 0) != untested {
			t.Errorf("what is said of a promise (faults: %v): %+v", faults, p)
		}
	}
}

// checkCalls holds what is said of calls, if some are made.
func (r demoReport) checkCalls(t *testing.T, made bool) {
	t.Helper()
	if c := r.Calls; made != (c != nil && c.Made > 5 && c.Refused+c.Withheld > 0 && c.Attempts > c.Made && c.Answered > 0) {
		t.Errorf("want calls, of which some were made again: %+v", c)
	}
}

// checkFaults holds what is said of the Graph API's faults, and of what was sent again.
func (r demoReport) checkFaults(t *testing.T, args []string) {
	t.Helper()
	r.checkCalls(t, slices.Contains(args, "--calls"))
	heavy := slices.Contains(args, "heavy")
	on := r.SendsRepeatedOn
	if r.SendsRepeated == nil || r.SendsRepeatedTold == nil || on.Messenger == nil || on.Instagram == nil || on.WhatsApp == nil ||
		*on.Messenger+*on.Instagram+*on.WhatsApp != *r.SendsRepeated {
		t.Errorf("want the repeated sends by platform: %+v", on)
	}
	if heavy && (*on.Messenger+*on.WhatsApp != 0 || *r.SendsRepeatedTold != 0) {
		t.Errorf("want nothing sent again of which echoes and statuses tell: %+v, %d although they had told", on, *r.SendsRepeatedTold)
	}
	if f := r.Faults; heavy && (f.Transient < 10 || f.Withheld < 10 || f.Slow < 5) {
		t.Errorf("want a Graph API that fails every fifth time: %+v", f)
	}
}

// A database that others use, or on which the same was played before, is refused;
// only a server of its own is killed.
func TestDemoRefuses(t *testing.T) {
	t.Parallel()
	url := cluster.Database(t)
	h, g := newHouse(t), newGraph(t)
	n := h.start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, url))
	n.stop(t)
	place := "file:" + filepath.Join(h.dir, "database")
	for name, row := range map[string]struct {
		args []string
		code int
		want string
	}{
		"OthersDatabase": {[]string{"--store", "postgres", "--database", place}, 1, `brand "acme"`},
		"KillOfOthers":   {[]string{"--store", "postgres", "--database", place, "--kill-postgres", "1"}, 2, "own"},
		"KillOfNone":     {[]string{"--kill-postgres", "1"}, 2, "--store postgres"},
		"NoStore":        {[]string{"--store", "paper"}, 2, "paper"},
		"ASecretItself":  {[]string{"--store", "postgres", "--database", "postgres://u:secretword@h/d"}, 2, "env:NAME or file:PATH"},
		"MoveFromThere":  {[]string{"--move", "--store", "postgres"}, 2, "--store embedded"},
		"MoveIntoUsed":   {[]string{"--move", "--database", place}, 1, "empty"},
		"OnlyADatabase":  {[]string{"--database", place}, 2, "--store postgres"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := run(t, "", append([]string{"demo", "--dir", t.TempDir()}, row.args...)...)
			e.want(t, row.code, row.want)
			if strings.Contains(e.out+e.errors, "secretword") {
				t.Error("the password is shown")
			}
		})
	}
	own := "file:" + h.write(t, "own", cluster.Database(t))
	again := []string{"demo", "--dir", t.TempDir(), "--store", "postgres", "--database", own, "--seed", "7", "--duration", "1s", "--rate", "20"}
	run(t, "", again...).want(t, 0)
	run(t, "", again...).want(t, 1, "seed")
}
