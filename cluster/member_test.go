package cluster_test

import (
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

// FuzzHear: whatever comes makes a member that can be worked with, or an error.
func FuzzHear(f *testing.F) {
	for _, s := range []string{"", "{}", `{"a":"10.0.0.1:1","r":["actors"]}`, `{"a":""}`, `{"a":1}`, `{"a":"h:1","f":1e9}`} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := cluster.Hear("name", b)
		if err != nil {
			return
		}
		v := cluster.NewView([]cluster.Member{m, member(1)})
		if len(v.Members()) != 2 && m.Addr != member(1).Addr {
			t.Errorf("%d members", len(v.Members()))
		}
	})
}
