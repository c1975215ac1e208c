package cluster

import "slices"

// Placement is a view in the terms of the actors of one of its members: where who runs
// conversations is known by the address. It doesn't change.
type Placement struct {
	view, without *View // without: the same without that member
}

// PlacementOf is the placement of the member at an address, by a view.
func PlacementOf(v *View, self string) Placement {
	others := slices.DeleteFunc(v.Members(), func(m Member) bool { return m.Addr == self })
	return Placement{v, NewView(others)}
}

// Heir is who would run a shard's conversations without this member.
func (p Placement) Heir(shard uint16) string {
	m, _ := p.without.Owner(Actors, shard)
	return m.Addr
}

// Owner is who runs a shard's conversations.
func (p Placement) Owner(shard uint16) string {
	m, _ := p.view.Owner(Actors, shard)
	return m.Addr
}

// Sender is who sends for the channels of a shard.
func (p Placement) Sender(shard uint16) string {
	m, _ := p.view.Owner(Egress, shard)
	return m.Addr
}

// Holders are all who may run shards.
func (p Placement) Holders() (all []string) {
	for i := range p.view.members {
		if m := &p.view.members[i]; m.Does(Actors) {
			all = append(all, m.Addr)
		}
	}
	return all
}

// Nodes are all: the name of the member at each address.
func (p Placement) Nodes() map[string]string {
	all := map[string]string{}
	for i := range p.view.members {
		all[p.view.members[i].Addr] = p.view.members[i].Name
	}
	return all
}
