package cluster_test

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley/cluster"
)

// What members tell each other is read by programs of other versions.
func TestToldStays(t *testing.T) {
	t.Parallel()
	m := cluster.Member{
		Name: "a-1", Addr: "[fd00::1]:7947", Roles: []cluster.Role{cluster.Actors, cluster.Egress},
		Version: "v1.2.3", Format: 7, Draining: true, Reads: "AQID",
	}
	const want = `{"a":"[fd00::1]:7947","r":["actors","egress"],"v":"v1.2.3","f":7,"d":true,"b":"AQID"}`
	got, err := cluster.Tell(m)
	if err != nil || string(got) != want {
		t.Errorf("told %s, %v; want %s", got, err, want)
	}
	for text, want := range map[string]cluster.Member{
		want:                            m,
		`{"a":"10.0.0.1:1"}`:            {Name: "a-1", Addr: "10.0.0.1:1"},
		`{"a":"h:1","r":["x"],"new":1}`: {Name: "a-1", Addr: "h:1", Roles: []cluster.Role{"x"}},
	} {
		heard, err := cluster.Hear("a-1", []byte(text))
		if err != nil {
			t.Errorf("%s: %v", text, err)
		}
		if diff := cmp.Diff(want, heard); diff != "" {
			t.Errorf("%s (-want +got):\n%s", text, diff)
		}
	}
}

// FuzzHear: what comes makes a member that can be worked with, or an error that repeats
// nothing of it. A member that is heard is told as the same, as long as it fits into
// gossip; and nobody who tells nonsense takes the place of others.
func FuzzHear(f *testing.F) {
	for _, s := range []string{
		"", "{}", `{"a":"10.0.0.1:1","r":["actors"]}`, `{"a":""}`, `{"a":1}`, `{"a":"h:1","f":1e9}`, `{"a":"h:1","f":-1,"d":true,"u":true,"b":"cywQ"}`,
		`{"a":"h:1","r":[null,"actors","actors"]}`, `{"a":"[::1]:1","v":"\ud800"}`, `{"a":"h:1","A":"h:2"}`, `{"a":":"}`,
	} {
		f.Add("name", []byte(s))
	}
	f.Fuzz(func(t *testing.T, name string, b []byte) {
		m, err := cluster.Hear(name, b)
		if err != nil {
			if len(b) > 8 && strings.Contains(err.Error(), string(b)) {
				t.Errorf("an error that repeats what came: %v", err)
			}
			return
		}
		if told, err := cluster.Tell(m); err == nil {
			again, err := cluster.Hear(name, told)
			if diff := cmp.Diff(m, again); err != nil || diff != "" {
				t.Errorf("told again: %v\n%s", err, diff)
			}
		}
		others := []cluster.Member{member(1), member(2)}
		v := cluster.NewView(append(others, m))
		for _, o := range others {
			if o.Addr != m.Addr && !slices.ContainsFunc(v.Members(), func(have cluster.Member) bool { return have.Name == o.Name }) {
				t.Errorf("%+v drove %s out", m, o.Name)
			}
		}
	})
}
