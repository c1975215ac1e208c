package cluster

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"strconv"

	"github.com/hashicorp/memberlist"
	"github.com/prometheus/client_golang/prometheus"
)

// DefaultBind is where gossip listens unless configured otherwise, UDP and TCP.
const DefaultBind = "0.0.0.0:7946"

// Config is what a [Cluster] is made of.
type Config struct {
	// Self is this member. Required: name and address.
	Self Member
	// Bind is where gossip listens, host:port. Default: DefaultBind.
	Bind string
	// Advertise is where others reach it, if that isn't Bind; host:port. If Bind
	// is all addresses, the default is a private one of the machine.
	Advertise string
	// Join are members to begin with, host:port. A name is resolved at each
	// attempt, to all its addresses; this member may be among them.
	Join []string
	// Keys encrypt gossip: the first of them what is sent; all are accepted. 16, 24
	// or 32 bytes each (AES-128, 192 or 256 in GCM). Without keys whoever reaches
	// the port is a member.
	Keys [][]byte

	// Transport replaces the network, in tests.
	Transport memberlist.NodeAwareTransport

	Logger     *slog.Logger          // default: discards
	Registerer prometheus.Registerer // default: metrics are kept, not registered
}

func (c Config) resolve() (Config, error) {
	c.Bind = cmp.Or(c.Bind, DefaultBind)
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if err := c.Self.Validate(); err != nil {
		return c, fmt.Errorf("cluster: %w", err)
	}
	named := map[string]string{"bind": c.Bind}
	if c.Advertise != "" {
		named["advertise"] = c.Advertise
	}
	for i, addr := range c.Join {
		named[fmt.Sprint("join ", i+1)] = addr
	}
	for what, addr := range named {
		if _, _, err := split(addr); err != nil {
			return c, fmt.Errorf("cluster: %s: %w", what, err)
		}
	}
	return c, nil
}

// split divides host:port.
func split(addr string) (host string, port int, err error) {
	host, text, err := net.SplitHostPort(addr)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want host:port", addr)
	}
	n, err := strconv.ParseUint(text, 10, 16)
	if err != nil {
		return "", 0, fmt.Errorf("address %q: want a port between 0 and 65535", addr)
	}
	return host, int(n), nil
}

// endpoint is an address with its name resolved.
func (c *Config) endpoint(ctx context.Context, addr string) (ip string, port int, err error) {
	host, port, err := split(addr)
	if err != nil {
		return "", 0, err
	}
	if host == "" {
		return "0.0.0.0", port, nil
	}
	ips, err := net.DefaultResolver.LookupHost(ctx, host)
	if err == nil && len(ips) == 0 {
		err = errors.New("no such host")
	}
	if err != nil {
		return "", 0, fmt.Errorf("address %q: %w", addr, err)
	}
	return ips[0], port, nil
}

func contains(keys [][]byte, key []byte) bool {
	for _, k := range keys {
		if bytes.Equal(k, key) {
			return true
		}
	}
	return false
}
