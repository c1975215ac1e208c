package cluster_test

import (
	"fmt"
	"math"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
)

func member(i int) cluster.Member {
	return cluster.Member{
		Name: fmt.Sprintf("node-%03d", i), Addr: fmt.Sprintf("10.0.0.%d:7947", i), Format: 1,
		Roles: []cluster.Role{cluster.Actors, cluster.Egress},
	}
}

func several(n int) (all []cluster.Member) {
	for i := range n {
		all = append(all, member(i+1))
	}
	return all
}

// Everybody owns about as much as everybody else.
func TestOwnersAreEven(t *testing.T) {
	t.Parallel()
	for _, n := range []int{1, 2, 3, 5, 10, 40} {
		v := cluster.NewView(several(n))
		fair := float64(cluster.Shards) / float64(n)
		for _, m := range v.Members() {
			owned := float64(len(v.Owned(cluster.Actors, m.Name)))
			if off := math.Abs(owned - fair); off > 4.5*math.Sqrt(fair) {
				t.Errorf("of %d members %s owns %v shards, fair is %v", n, m.Name, owned, fair)
			}
		}
	}
}

// Who comes takes a part from everybody, who goes leaves one, and nothing else
// changes hands. A join moves at most 1/N + 2 % of the shards.
func TestOnlyWhatMustMoves(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		n := rapid.IntRange(1, 20).Draw(t, "members")
		all := several(n + 1)
		i := rapid.IntRange(0, n).Draw(t, "who comes")
		comes := all[i]
		before := cluster.NewView(slices.Delete(slices.Clone(all), i, i+1))
		after := cluster.NewView(all)
		for shard := range uint16(cluster.Shards) {
			was, _ := before.Owner(cluster.Actors, shard)
			is, ok := after.Owner(cluster.Actors, shard)
			if !ok || is.Name != was.Name && is.Name != comes.Name {
				t.Fatalf("shard %d went from %s to %s when %s came", shard, was.Name, is.Name, comes.Name)
			}
		}
		moved := after.Moved(before, cluster.Actors)
		if most := cluster.Shards/(n+1) + cluster.Shards/50; moved > most || moved != len(after.Owned(cluster.Actors, comes.Name)) {
			t.Fatalf("%d shards moved to the %dth member, want %d at most", moved, n+1, most)
		}
	})
}

// A view is the same for everybody, in whatever order they have heard of whom.
func TestViewHasNoOrder(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		all := several(rapid.IntRange(1, 12).Draw(t, "members"))
		one, other := cluster.NewView(all), cluster.NewView(rapid.Permutation(all).Draw(t, "order"))
		if moved := one.Moved(other, cluster.Egress); moved != 0 {
			t.Fatalf("%d shards have two owners", moved)
		}
	})
}

func TestDrainingOwnsNothing(t *testing.T) {
	t.Parallel()
	all := several(3)
	all[1].Draining = true
	v := cluster.NewView(all)
	if n := len(v.Owned(cluster.Actors, all[1].Name)); n != 0 {
		t.Errorf("who drains owns %d shards", n)
	}
	// What the others had stays theirs.
	before := cluster.NewView(several(3))
	if moved, owned := v.Moved(before, cluster.Actors), len(before.Owned(cluster.Actors, all[1].Name)); moved != owned {
		t.Errorf("%d shards moved, of %d that had to", moved, owned)
	}
	for i := range all {
		all[i].Draining = true
	}
	if _, ok := cluster.NewView(all).Owner(cluster.Actors, 7); !ok {
		t.Error("when all drain, nobody owns anything")
	}
}

func TestRoles(t *testing.T) {
	t.Parallel()
	all := several(2)
	all[0].Roles, all[1].Roles = []cluster.Role{cluster.Ingress}, []cluster.Role{cluster.Actors, "unheard of"}
	v := cluster.NewView(all)
	if m, ok := v.Owner(cluster.Actors, 1); !ok || m.Name != all[1].Name {
		t.Errorf("the owner is %v", m)
	}
	if m, ok := v.Owner(cluster.Egress, 1); ok {
		t.Errorf("%v sends, though nobody has the role", m)
	}
	if owned := v.Owned(cluster.Egress, all[0].Name); owned != nil {
		t.Errorf("owned: %v", owned)
	}
}

// A process that came back at its address takes the place of its earlier run, and
// what that had owned.
func TestReturnedMember(t *testing.T) {
	t.Parallel()
	all := several(3)
	back := all[1]
	back.Name = "node-002-later"
	v := cluster.NewView(append(slices.Clone(all), back))
	if n := len(v.Members()); n != 3 {
		t.Fatalf("%d members, want 3", n)
	}
	before := cluster.NewView(all)
	if !slices.Equal(v.Owned(cluster.Actors, back.Name), before.Owned(cluster.Actors, all[1].Name)) {
		t.Error("it owns something else than before")
	}
	if _, ok := v.Member(all[1].Name); ok {
		t.Error("its earlier run is there")
	}
	if m, ok := v.Member(back.Name); !ok || m.Addr != back.Addr {
		t.Errorf("found %v", m)
	}
}

func TestFormat(t *testing.T) {
	t.Parallel()
	all := several(3)
	all[0].Format, all[1].Format, all[2].Format = 3, 2, 4
	if f := cluster.NewView(all).Format(); f != 2 {
		t.Errorf("all read format %d, want 2", f)
	}
}

// What is divided here is what conversations are divided into.
func TestShards(t *testing.T) {
	t.Parallel()
	if cluster.Shards != parley.Shards {
		t.Errorf("%d shards here, %d there", cluster.Shards, parley.Shards)
	}
}

// The owners are for ever: a program that computed others would work beside those
// that are there.
func TestOwnersStay(t *testing.T) {
	t.Parallel()
	v := cluster.NewView(several(3))
	var got []string
	for _, shard := range []uint16{0, 1, 2, 3, 1000, 2047, 4095} {
		m, _ := v.Owner(cluster.Actors, shard)
		got = append(got, m.Name[len(m.Name)-1:])
	}
	if want := []string{"1", "2", "2", "1", "2", "1", "1"}; !slices.Equal(got, want) {
		t.Errorf("owners %q, want %q", got, want)
	}
}

// BenchmarkView is what a change of the members costs.
func BenchmarkView(b *testing.B) {
	for _, n := range []int{3, 10, 100} {
		b.Run(fmt.Sprint("members=", n), func(b *testing.B) {
			all := several(n)
			for b.Loop() {
				cluster.NewView(all)
			}
		})
	}
}
