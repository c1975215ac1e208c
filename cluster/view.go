package cluster

import (
	"cmp"
	"slices"

	"github.com/cespare/xxhash/v2"
)

// Shards is how many parts conversations, and channels, are divided into. It is
// for ever.
const Shards = 4096

// View is who is there, and who owns what. It doesn't change.
type View struct {
	members []Member // by name
	tables  map[Role]*[Shards]uint16
}

// NewView makes a view of members, in any order. Of several at one address only
// the one with the greatest name is there: the others are earlier runs of it.
func NewView(members []Member) *View {
	v := &View{tables: map[Role]*[Shards]uint16{}}
	latest := map[string]int{}
	for _, m := range slices.SortedFunc(slices.Values(members), func(a, b Member) int { return cmp.Compare(a.Name, b.Name) }) {
		if i, ok := latest[m.Addr]; ok {
			v.members[i].Addr = "" // to be removed below
		}
		latest[m.Addr] = len(v.members)
		v.members = append(v.members, m)
	}
	v.members = slices.DeleteFunc(v.members, func(m Member) bool { return m.Addr == "" })
	for _, r := range []Role{Actors, Egress} {
		v.fill(r)
	}
	return v
}

// fill makes the table of a role: each shard belongs to the member with the highest
// score for it. Members that are unfit own only what nobody else could, and draining
// ones what not even those could.
func (v *View) fill(r Role) {
	var able, unfit, draining []uint16
	for i := range v.members {
		switch m := &v.members[i]; {
		case !m.Does(r):
		case m.Draining:
			draining = append(draining, uint16(i))
		case m.Unfit:
			unfit = append(unfit, uint16(i))
		default:
			able = append(able, uint16(i))
		}
	}
	if len(able) == 0 {
		able = unfit
	}
	if len(able) == 0 {
		able = draining
	}
	if len(able) == 0 {
		return
	}
	seeds := make([]uint64, len(able))
	for k, i := range able {
		seeds[k] = xxhash.Sum64String(v.members[i].Addr)
	}
	table := new([Shards]uint16)
	for shard := range table {
		var most uint64
		for k, i := range able {
			if s := score(seeds[k], shard); k == 0 || s > most {
				most, table[shard] = s, i
			}
		}
	}
	v.tables[r] = table
}

// score mixes a member's seed with a shard, so that members' orders for different
// shards have nothing to do with each other: the finalizer of splitmix64 (Steele,
// Lea and Flood, "Fast splittable pseudorandom number generators", 2014).
func score(seed uint64, shard int) uint64 {
	z := seed + uint64(shard+1)*0x9e3779b97f4a7c15
	z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9
	z = (z ^ (z >> 27)) * 0x94d049bb133111eb
	return z ^ (z >> 31)
}

// Members are all members, by name. They must not be changed.
func (v *View) Members() []Member { return slices.Clone(v.members) }

// Member is the one of that name.
func (v *View) Member(name string) (Member, bool) {
	i, ok := slices.BinarySearchFunc(v.members, name, func(m Member, name string) int { return cmp.Compare(m.Name, name) })
	if !ok {
		return Member{}, false
	}
	return v.members[i], true
}

// Owner is the member that a shard belongs to in a role, Actors or Egress; false
// if nobody has the role.
func (v *View) Owner(r Role, shard uint16) (Member, bool) {
	table := v.tables[r]
	if table == nil {
		return Member{}, false
	}
	return v.members[table[shard%Shards]], true
}

// Owned are the shards that belong to the member of that name in a role, in order.
func (v *View) Owned(r Role, name string) (shards []uint16) {
	table := v.tables[r]
	if table == nil {
		return nil
	}
	for shard, i := range table {
		if v.members[i].Name == name {
			shards = append(shards, uint16(shard))
		}
	}
	return shards
}

// Moved is how many shards of a role have another owner than in an earlier view.
func (v *View) Moved(before *View, r Role) (n int) {
	for shard := range uint16(Shards) {
		now, is := v.Owner(r, shard)
		then, was := before.Owner(r, shard)
		if is != was || now.Name != then.Name {
			n++
		}
	}
	return n
}

// Format is the newest format that every member reads.
func (v *View) Format() int {
	oldest := 0
	for i := range v.members {
		if f := v.members[i].Format; i == 0 || f < oldest {
			oldest = f
		}
	}
	return oldest
}

func (v *View) same(o *View) bool {
	return slices.EqualFunc(v.members, o.members, func(a, b Member) bool { return a.equal(&b) })
}

// Vacant reports whether nobody has a role, of those that own shards.
func (v *View) Vacant(r Role) bool { return v.tables[r] == nil }
