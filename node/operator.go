package node

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/cluster"
	"github.com/parleychat/parley/console"
)

// operator is what the admin API shows and does.
type operator struct{ n *Node }

// view is the members that this node sees; on its own, itself.
func (n *Node) view() *cluster.View {
	if n.members != nil {
		return n.members.cluster.View()
	}
	return cluster.NewView([]cluster.Member{{
		Name: n.name, Addr: n.adminLn.Addr().String(), Roles: cluster.Roles(), Version: version(), Format: parley.Format,
	}})
}

// member is a member in the API's words.
func (n *Node) member(m cluster.Member) console.Member {
	roles := make([]string, len(m.Roles))
	for i, r := range m.Roles {
		roles[i] = string(r)
	}
	return console.Member{
		Name: m.Name, Address: m.Addr, Roles: roles, Version: m.Version, Format: m.Format,
		Draining: m.Draining, Self: n.members == nil || m.Addr == n.cfg.Cluster.address(), Bots: botsOf(n.bots, n.view().Members(), &m),
	}
}

// botsOf are the versions of bots that a member reads, if it runs them, except those
// that are at their first with everybody.
func botsOf(bots []parley.Bot, members []cluster.Member, m *cluster.Member) (all []console.BotVersion) {
	if !m.Does(cluster.Actors) {
		return nil
	}
	told := heardReading(m.Reads)
	for i := range bots {
		name := bots[i].Name
		later := func(m cluster.Member) bool { return heardReading(m.Reads).version(name) > 1 }
		if slices.ContainsFunc(members, later) {
			all = append(all, console.BotVersion{Name: name, Version: told.version(name)})
		}
	}
	return all
}

var errStarting = fmt.Errorf("the node is starting: %w", parley.ErrUnavailable)

// serves reports whether the parts are there.
func (n *Node) serves() bool { return n.admin.serving.Load() != nil }

// Members are those that this node sees.
func (o operator) Members(context.Context) (all []console.Member, _ error) {
	for _, m := range o.n.view().Members() {
		all = append(all, o.n.member(m))
	}
	return all, nil
}

// Status asks all members how they are.
func (o operator) Status(ctx context.Context) (console.Status, error) {
	if !o.n.serves() {
		return console.Status{}, errStarting
	}
	s := o.n.stand(ctx)
	if b, err := o.n.store.Backlog(ctx); err == nil {
		s.Backlog = console.BacklogOf(b)
	}
	return s, nil
}

// stand is the status without what the store tells.
func (n *Node) stand(ctx context.Context) console.Status {
	view := n.view()
	limited, cancel := context.WithTimeout(ctx, lookWithin)
	standings := n.host.Inquire(limited)
	cancel()
	s := console.Status{ViewsAgree: true}
	s.Shards.Total = parley.Shards
	if view.Vacant(cluster.Actors) {
		s.Shards.Unowned = parley.Shards
	}
	all := view.Members()
	s.Alone = n.members != nil && len(all) == 1 && len(n.cfg.Cluster.Join) > 0
	for _, m := range all {
		one := console.MemberStatus{Member: n.member(m), OwnedShards: len(view.Owned(cluster.Actors, m.Name))}
		address := m.Addr
		if n.members == nil {
			address = "" // the host's own
		}
		if st, ok := standings[address]; ok {
			one.Answering = true
			one.HeldShards, one.HandoversUnderWay = st.Held, st.Claiming+st.Releasing
			one.LiveConversations, one.HeldRows, one.ActiveChannels = st.Conversations, max(st.Rows, 0), st.Channels
			one.ClockOffsetMS = st.Offset.Milliseconds()
			one.ViewAgrees = one.Self || st.View == digest(view)
			s.ViewsAgree = s.ViewsAgree && one.ViewAgrees
		}
		if one.Self {
			s.Node = m.Name
		}
		s.Members = append(s.Members, one)
	}
	s.ViewsDifferMS = n.eyes.differ(s.ViewsAgree, n.now()).Milliseconds()
	return s
}

// Where says who serves a conversation.
func (o operator) Where(_ context.Context, c parley.Conversation) (console.Place, error) {
	view := o.n.view()
	p := console.Place{Conversation: c.String(), Shard: int(c.Shard()), ChannelShard: int(c.Channel.Shard())}
	if m, ok := view.Owner(cluster.Actors, c.Shard()); ok {
		owner := o.n.member(m)
		p.Owner = &owner
	}
	if m, ok := view.Owner(cluster.Egress, c.Channel.Shard()); ok {
		sender := o.n.member(m)
		p.Sender = &sender
	}
	return p, nil
}

// Drain makes a member give up what it owns, and leave.
func (o operator) Drain(_ context.Context, name string) error {
	all := o.n.view().Members()
	i := slices.IndexFunc(all, func(m cluster.Member) bool {
		if name == "" {
			return o.n.member(m).Self
		}
		return m.Name == name || strings.HasPrefix(m.Name, name+runMark)
	})
	switch {
	case i < 0:
		return console.ErrNoMember
	case o.n.member(all[i]).Self:
		o.n.drain()
	case !o.n.serves():
		return errStarting
	case !all[i].Draining:
		o.n.host.TellDrain(all[i].Addr)
	}
	return nil
}
