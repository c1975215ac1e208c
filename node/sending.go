package node

import (
	"cmp"
	"context"
	"log/slog"
	"maps"
	"os"
	"slices"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/meta"
)

// newEgress puts the senders together: one client for each Graph host.
func (n *Node) newEgress(s *served, registry *prometheus.Registry) (*egress.Manager, error) {
	lease, timeout := sendTimes(n.cfg.DoubtfulWait)
	clients := clients{}
	for _, a := range s.accounts {
		if clients[a.url] != nil {
			continue
		}
		c, err := meta.NewClient(meta.ClientConfig{
			BaseURL: a.url, InstagramURL: a.url, Version: n.cfg.Graph.Version, Timeout: timeout,
		})
		if err != nil {
			return nil, err
		}
		clients[a.url] = c
	}
	return egress.New(egress.Config{
		Outbox: n.store, Receipts: reporting{n.store, inbox{n.store, n.host.Notify}, make(chan struct{}, 1)}, Announce: n.host.Announce, Deliverer: n.host,
		Provider:       router{accounts: s.accounts, tokens: s.tokens, clients: clients},
		Channels:       func(context.Context) ([]parley.Channel, error) { return s.sending(), nil },
		Pace:           s.pace,
		AwaitDelivered: func(ch parley.Channel) time.Duration { return s.awaits[ch] },
		Holder:         n.holder(),
		Now:            n.clock,
		Drain:          egressDrain,
		Policy: egress.Policy{
			DoubtfulWait: n.cfg.DoubtfulWait, LeaseTTL: lease, GiveUpDoubtful: n.cfg.DoubtfulPolicy == doubtfulGiveUp,
		},
		Logger: n.log.With(slog.String("part", "egress")), Registerer: registry,
	})
}

// appendReceipts stores receipts and wakes whoever sends for their channels.
func (n *Node) appendReceipts(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	return inbox{n.store, n.host.Notify}.Append(ctx, a)
}

// pace is how fast a channel may send.
func (s *served) pace(ch parley.Channel) egress.Pace {
	p := egress.PaceOf(ch.Kind)
	p.PerSecond = cmp.Or(s.paces[ch], p.PerSecond)
	return p
}

// holder is by what name the node holds leases. The host's is part of it, for
// people, and so that a machine copied with its folder is another node.
func (n *Node) holder() string {
	name := n.cfg.Name
	if host, err := os.Hostname(); err == nil {
		name = cmp.Or(name, host)
	}
	return cmp.Or(name, "node") + "-" + cmp.Or(n.lock.id, n.freshID())
}

func (n *Node) freshID() string { return parley.NewID(n.now(), n.random()).String() }

// sendTimes are the lease and the time of one call, such that a first attempt
// is over before a second of the same message begins.
func sendTimes(doubtful time.Duration) (lease, timeout time.Duration) {
	lease = min(egress.LeaseTTL, doubtful/2)
	return lease, min(meta.DefaultTimeout, (doubtful-lease/2)*9/10)
}

// sending are the channels that may have something to send or to fold: all of
// them, since receipts come for channels without a token too.
func (s *served) sending() []parley.Channel {
	seen := map[parley.Channel]bool{}
	for _, app := range s.apps {
		for _, ch := range s.channels[app.Name] {
			seen[ch] = true
		}
		if app.Fallback != (parley.Channel{}) {
			seen[app.Fallback] = true
		}
	}
	return slices.Collect(maps.Keys(seen))
}

// clients are the Graph API's hosts.
type clients map[string]*meta.Client

// router sends each message through the host of its channel.
type router struct {
	accounts map[parley.Channel]account
	tokens   *tokens
	clients  clients
}

// Send calls the Graph API once.
func (r router) Send(ctx context.Context, m parley.Claimed) egress.Answer {
	a := r.accounts[m.Conversation.Channel]
	g := egress.Graph{Client: r.clients[a.url], Account: func(ch parley.Channel) (meta.Account, bool) {
		token := r.tokens.of(ch)
		return meta.Account{Token: token, Secret: a.secret, Sending: meta.Sending{From: a.from}}, token != ""
	}}
	return g.Send(ctx, m)
}
