package main_test

import (
	"encoding/json"
	"testing"
)

// The demonstration of an upgrade: three nodes with the first version of a bot are
// started one after the other with the second, under load, while Meta repeats and the
// Graph API fails. Nothing is lost, nothing is stuck, no state of the second version is
// stored before all nodes read it, and none is overwritten by the first, wherever a
// conversation stands. Taken back halfway, nothing of it remains. A node that is killed
// in between changes nothing.
func TestDemoUpgrade(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct { //nolint:paralleltest // each is six processes
		args     []string
		restarts int
		undone   bool
	}{
		"Done":         {[]string{"--upgrade-bot"}, 3, false},
		"UndoneKilled": {[]string{"--upgrade-bot", "--undo-upgrade", "--kill", "1"}, 4, true},
	} {
		t.Run(name, func(t *testing.T) {
			cluster.Database(t) // skips where there is no PostgreSQL
			e := run(t, "", append([]string{
				"demo", "--json", "--ack-median", besideOthers, "--store", "postgres", "--nodes", "3", "--duration", "18s", "--rate", "60", "--users", "120", "--doubtful-wait", "2s", "--dir", t.TempDir(),
			}, row.args...)...)
			e.want(t, 0)
			var r struct {
				Clean                    bool
				Acked, Offered           int
				Lost, Pending, Dead      int
				Unanswered, Reordered    int
				EffectsDoubled           int `json:"effects_doubled"`
				SendsRepeatedUnexplained int `json:"sends_repeated_unexplained"`
				Upgrade                  struct {
					Restarts, Previous, Current, Overwritten, Early, Looks int
					Steps                                                  map[string]int
				} `json:"bot_upgrade"`
			}
			if err := json.Unmarshal([]byte(e.out), &r); err != nil {
				t.Fatalf("the report: %v\n%s", err, e.out)
			}
			if bad := r.Lost + r.Pending + r.Unanswered + r.Reordered + r.EffectsDoubled + r.SendsRepeatedUnexplained; !r.Clean || bad > 0 || r.Acked < 1000 || r.Acked != r.Offered {
				t.Errorf("not all is well:\n%s", e.out)
			}
			u := r.Upgrade
			if u.Restarts != row.restarts || u.Overwritten > 0 || u.Early > 0 || u.Looks < 20 {
				t.Errorf("the upgrade: %+v", u)
			}
			if row.undone {
				if u.Current > 0 || u.Previous < 60 || len(u.Steps) > 0 {
					t.Errorf("the upgrade was taken back: %+v", u)
				}
				return
			}
			// On a slow machine few write after the last node has started.
			each := u.Steps[""] > 0 && u.Steps["size"] > 0 && u.Steps["confirm"] > 0
			if u.Current == 0 || u.Current >= 60 && !each {
				t.Errorf("conversations of each step were to go over: %+v", u)
			}
		})
	}
}

// What doesn't go together is refused.
func TestDemoUpgradeRefuses(t *testing.T) {
	t.Parallel()
	run(t, "", "demo", "--upgrade-bot").want(t, 2, "--store postgres")
	run(t, "", "demo", "--store", "postgres", "--nodes", "3", "--undo-upgrade").want(t, 2, "--upgrade-bot")
	run(t, "", "demo", "--store", "postgres", "--upgrade-bot", "--undo-upgrade").want(t, 2, "--nodes")
}
