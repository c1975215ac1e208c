package node

import (
	"context"
	"errors"
	"log/slog"
	"time"

	"github.com/parleychat/parley/cluster"
)

const (
	// noticed is how long a node that drains goes on taking webhooks after it has
	// said that it isn't ready: so long may a load balancer take to notice.
	noticed   = 2 * time.Second
	drainLook = 20 * time.Millisecond
	drainSays = time.Second
)

// errDrained is why a node ends that was told to drain: there is nothing wrong.
var errDrained = errors.New("told to drain")

// drain makes the node give up all it owns, and end.
func (n *Node) drain() {
	if stop := n.stopping.Load(); stop != nil {
		(*stop)(errDrained)
	}
}

// giveUp hands everything over to the others while serving goes on, for as long as
// the configuration allows. A line a second says how far that is.
func (n *Node) giveUp(ctx context.Context) {
	if n.members == nil {
		return
	}
	if forShards, forChannels := n.heirs(); !forShards && !forChannels {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, n.cfg.DrainFor)
	defer cancel()
	n.members.cluster.Drain()
	look := time.NewTicker(drainLook) //nolint:forbidigo // the drain's one clock
	defer look.Stop()
	began := n.now()
	for said := began; ; {
		now := n.now()
		shards, channels := n.host.Held(), 0
		if n.egress != nil {
			channels = n.egress.Active()
		}
		// Others may have left since, or be about to: what has no heir stays here.
		forShards, forChannels := n.heirs()
		if (shards == 0 || !forShards) && (channels == 0 || !forChannels) && (n.ingress == nil || now.Sub(began) >= noticed) {
			n.log.InfoContext(ctx, "drained", slog.Duration("took", now.Sub(began)), slog.Int("shards_left", shards), slog.Int("channels_left", channels))
			return
		}
		if now.Sub(said) >= drainSays {
			said = now
			n.log.InfoContext(ctx, "draining", slog.Int("shards", shards), slog.Int("conversations", n.host.Live()), slog.Int("channels", channels))
		}
		select {
		case <-ctx.Done():
			n.log.WarnContext(ctx, "the drain took too long: what is left is taken over by the others", slog.Int("shards", shards), slog.Int("channels", channels))
			return
		case <-look.C:
		}
	}
}

// heirs reports whether there is somebody to hand shards, and channels, over to.
func (n *Node) heirs() (forShards, forChannels bool) {
	return heirs(n.members.cluster.View(), n.cfg.Cluster.address())
}

func heirs(v *cluster.View, self string) (forShards, forChannels bool) {
	for _, m := range v.Members() {
		if m.Addr != self && !m.Draining && !m.Unfit {
			forShards = forShards || m.Does(cluster.Actors)
			forChannels = forChannels || m.Does(cluster.Egress)
		}
	}
	return forShards, forChannels
}
