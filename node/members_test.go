package node_test

import (
	"slices"
	"testing"

	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/node"
)

// crew are members a, b and c, some of which can't reach the store.
func crew(unfit ...string) (all []cluster.Member) {
	for _, name := range []string{"a", "b", "c"} {
		all = append(all, cluster.Member{
			Name: name + "~1", Addr: name + ":1", Roles: cluster.Roles(), Unfit: slices.Contains(unfit, name),
		})
	}
	return all
}

// The leases of whoever lives are left alone, unless others do its work from now on.
func TestWhoseLeasesAreFreed(t *testing.T) {
	t.Parallel()
	returned := crew()
	returned[2].Name = "c~2"
	for name, test := range map[string]struct {
		before, now []cluster.Member
		want        []string
	}{
		"nothing happens":                      {crew(), crew(), nil},
		"one dies":                             {crew(), crew()[:2], []string{"c"}},
		"one loses the store":                  {crew(), crew("b"), []string{"b"}},
		"all lose it, and own what they owned": {crew(), crew("a", "b", "c"), nil},
		"the last loses it":                    {crew("a", "b"), crew("a", "b", "c"), nil},
		"one finds it again":                   {crew("a", "b", "c"), crew("b", "c"), nil},
		"one comes back at once":               {crew(), returned, nil},
	} {
		if got := node.Gone(test.before, test.now); !slices.Equal(got, test.want) {
			t.Errorf("%s: the leases of %v are freed, want %v", name, got, test.want)
		}
	}
	// It takes until the store answers. By then somebody may have come back.
	for name, test := range map[string]struct {
		now  []cluster.Member
		want bool
	}{"gone": {crew()[:2], true}, "unfit": {crew("c"), true}, "all are": {crew("a", "b", "c"), false}, "back": {returned, false}} {
		if got := node.Lost(test.now, "c"); got != test.want {
			t.Errorf("%s: lost is %t", name, got)
		}
	}
}

// A drain waits for what somebody else could take, and for nothing else.
func TestHeirs(t *testing.T) {
	t.Parallel()
	draining := crew()
	draining[1].Draining, draining[2].Draining = true, true
	sender := crew()[:2]
	sender[1].Roles = []cluster.Role{cluster.Egress}
	for name, test := range map[string]struct {
		now                    []cluster.Member
		forShards, forChannels bool
	}{
		"others":           {crew(), true, true},
		"alone":            {crew()[:1], false, false},
		"all drain":        {draining, false, false},
		"others are unfit": {crew("b", "c"), false, false},
		"another sends":    {sender, false, true},
	} {
		forShards, forChannels := node.Heirs(test.now, "a:1")
		if forShards != test.forShards || forChannels != test.forChannels {
			t.Errorf("%s: %t, %t", name, forShards, forChannels)
		}
	}
}
