package node_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/console"
	"github.com/parleychat/parley/node"
)

func bots(versions map[string]int) (all []parley.Bot) {
	for name, version := range versions {
		all = append(all, parley.Bot{Name: name, Version: version})
	}
	return all
}

func reads(t *testing.T, versions map[string]int) string {
	t.Helper()
	told, err := node.ReadingOf(bots(versions))
	if err != nil {
		t.Fatal(err)
	}
	return told
}

// What members tell each other is read by programs of other versions.
func TestReadingStays(t *testing.T) {
	t.Parallel()
	const want = "cywQl6wCl6dqZQI"
	got := reads(t, map[string]int{"order": 300, "pizza": 2, "first": 1, "unnumbered": 0})
	if got != want {
		t.Errorf("told %s, want %s", got, want)
	}
	for bot, version := range map[string]int{"order": 300, "pizza": 2, "first": 1, "unnumbered": 1, "unknown": 1} {
		if got := node.HeardVersion(want, bot); got != version {
			t.Errorf("bot %s: version %d was heard, want %d", bot, got, version)
		}
	}
}

// A program with more than can be told doesn't start, and says why.
func TestReadingLimits(t *testing.T) {
	t.Parallel()
	many := map[string]int{}
	for i := range node.MaxTold {
		many[fmt.Sprint("bot", i)] = 1<<14 - 1
	}
	m := cluster.Member{
		Name: "n", Addr: strings.Repeat("a", 100) + ":7947", Roles: cluster.Roles(), Format: 9,
		Version: "v1.2.1-0.20261126024537-682589dabcde+dirty", Reads: reads(t, many), Draining: true, Unfit: true,
	}
	if err := m.Validate(); err != nil {
		t.Errorf("%d bots have no room: %v", len(many), err)
	}
	many["one more"] = 2
	for what, all := range map[string][]parley.Bot{
		"have the same key": {{Name: "costarring", Version: 2}, {Name: "liquid", Version: 2}}, // a known pair of FNV-1a
		"at most 32":        bots(many),
		"at most 16383":     bots(map[string]int{"b": 1 << 14}),
	} {
		if _, err := node.ReadingOf(all); err == nil || !strings.Contains(err.Error(), what) {
			t.Errorf("%v, want an error with %q", err, what)
		}
	}
}

// FuzzHeardReading: whatever is told, each version is within bounds, and what can't be
// read is the first of everything.
func FuzzHeardReading(f *testing.F) {
	for _, s := range []string{"", "cywQl6wCl6dqZQI", "cywQ", "cywQlw", "cywQl/////8", "!"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, told string) {
		if v := node.HeardVersion(told, "pizza"); v < 1 || v >= 1<<14 {
			t.Errorf("version %d", v)
		}
	})
}

// The oldest of those who run conversations counts. Who has left counts for a while,
// unless it is back, as whatever.
func TestOldestOfAll(t *testing.T) {
	t.Parallel()
	one, two := reads(t, nil), reads(t, map[string]int{"pizza": 2})
	member := func(name, run, told string, roles ...cluster.Role) cluster.Member {
		return cluster.Member{Name: name + "~" + run, Addr: name + ":1", Roles: roles, Reads: told}
	}
	a1, a2 := member("a", "1", one, cluster.Actors), member("a", "2", two, cluster.Actors)
	b1, b2 := member("b", "1", one, cluster.Actors), member("b", "2", two, cluster.Actors)
	entrance, strange := member("c", "1", one, cluster.Ingress), member("d", "1", "?", cluster.Actors)
	type moment struct {
		after time.Duration
		here  []cluster.Member
		want  int
	}
	for name, moments := range map[string][]moment{
		"one after the other":  {{0, []cluster.Member{a1, b1}, 1}, {1, []cluster.Member{b1}, 1}, {1, []cluster.Member{a2, b1}, 1}, {1, []cluster.Member{a2}, 1}, {1, []cluster.Member{a2, b2}, 2}},
		"one does not return":  {{0, []cluster.Member{a2, b1}, 1}, {1, []cluster.Member{a2}, 1}, {node.LeftFor - 1, []cluster.Member{a2}, 1}, {1, []cluster.Member{a2}, 2}},
		"one was killed":       {{0, []cluster.Member{a2, b1}, 1}, {1, []cluster.Member{a2}, 1}, {time.Second, []cluster.Member{a2, b1}, 1}, {node.LeftFor, []cluster.Member{a2, b1}, 1}},
		"taken back":           {{0, []cluster.Member{a2, b2}, 2}, {1, []cluster.Member{a2, b1}, 1}, {1, []cluster.Member{b1}, 1}},
		"only an entrance":     {{0, []cluster.Member{a2, entrance}, 2}, {1, []cluster.Member{a2}, 2}},
		"one speaks strangely": {{0, []cluster.Member{a2, strange}, 1}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			view, now := cluster.NewView(nil), time.UnixMilli(1_800_000_000_000)
			version := node.NewBarrier(bots(map[string]int{"pizza": 2}), func() *cluster.View { return view }, func() time.Time { return now })
			for i, m := range moments {
				now = now.Add(m.after)
				if i == 0 || !sameMembers(m.here, moments[i-1].here) {
					view = cluster.NewView(m.here)
				}
				if got := version("pizza"); got != m.want {
					t.Errorf("moment %d: version %d, want %d", i, got, m.want)
				}
			}
			if got := version("silent"); got != 0 {
				t.Errorf("a bot that isn't the program's: %d", got)
			}
		})
	}
}

func sameMembers(a, b []cluster.Member) bool {
	if len(a) != len(b) {
		return false
	}
	for i := range a {
		if a[i].Name != b[i].Name {
			return false
		}
	}
	return true
}

// What operators are shown of a member: bots that are at their first version with
// everybody aren't worth a word, and a member that runs none has none.
func TestBotsOfAMember(t *testing.T) {
	t.Parallel()
	all := []parley.Bot{{Name: "pizza", Version: 2}, {Name: "tally", Version: 1}, {Name: "new", Version: 1}}
	old := cluster.Member{Name: "a", Addr: "a:1", Roles: cluster.Roles()}
	young := cluster.Member{Name: "b", Addr: "b:1", Roles: cluster.Roles(), Reads: reads(t, map[string]int{"pizza": 2})}
	entrance := cluster.Member{Name: "c", Addr: "c:1", Roles: []cluster.Role{cluster.Ingress}}
	members := []cluster.Member{old, young, entrance}
	for i, want := range [][]console.BotVersion{{{Name: "pizza", Version: 1}}, {{Name: "pizza", Version: 2}}, nil} {
		if d := cmp.Diff(want, node.BotsOf(all, members, &members[i])); d != "" {
			t.Errorf("member %s: %s", members[i].Name, d)
		}
	}
	if got := node.BotsOf(all, members[:1], &old); len(got) > 0 {
		t.Errorf("where all have the first version: %v", got)
	}
}
