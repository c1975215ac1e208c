package cluster

import (
	"context"
	"log/slog"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/hashicorp/memberlist"
)

// join tries whoever should be there and isn't, until ctx ends. The library's own
// Join tries once; and its members, once they hold each other for dead, never meet
// again by themselves.
func (c *Cluster) join(ctx context.Context, list *memberlist.Memberlist) {
	self := list.LocalNode().Address()
	slots := make(chan struct{}, joinAtOnce)
	for ctx.Err() == nil {
		var tries sync.WaitGroup
		for _, addr := range c.roll.absent(c.seeds(ctx), time.Now()) { //nolint:forbidigo // gossip lives by the clock
			if addr == self || ctx.Err() != nil {
				continue
			}
			slots <- struct{}{}
			tries.Go(func() {
				c.try(ctx, list, addr)
				<-slots
			})
		}
		tries.Wait()
		if c.roll.alone() {
			rest(ctx, joinAlone)
		} else {
			rest(ctx, joinEvery)
		}
	}
}

// try asks whoever is at an address to exchange what both know.
func (c *Cluster) try(ctx context.Context, list *memberlist.Memberlist, addr string) {
	_, err := list.Join([]string{addr})
	c.metrics.joined(err)
	if err != nil {
		c.log.DebugContext(ctx, "nobody to join there", slog.String("address", addr), slog.Any("error", err))
	}
}

// seeds are the addresses behind the names of the configuration.
func (c *Cluster) seeds(ctx context.Context) (addrs []string) {
	for _, name := range c.cfg.Join {
		host, port, err := split(name)
		if err != nil {
			continue // resolve has seen to it
		}
		ips, err := net.DefaultResolver.LookupHost(ctx, host)
		if err != nil {
			c.log.InfoContext(ctx, "a name to join can't be resolved", slog.String("host", host), slog.Any("error", err))
		}
		for _, ip := range ips {
			addrs = append(addrs, net.JoinHostPort(ip, strconv.Itoa(port)))
		}
	}
	return addrs
}
