package egress

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// The defaults of a Manager.
const (
	// NodeInFlight is the number of messages that are with the provider at once,
	// over all channels of the node. Each costs a goroutine and a connection.
	NodeInFlight = 1024
	// Poll is how often every channel is looked at without a hint.
	Poll = 30 * time.Second
	// Linger is how long a channel without work keeps its goroutine: the next
	// message then finds the lease still good.
	Linger = LeaseTTL / 2
	// Drain is how long Run goes on after its context is done, for the answers to
	// what is under way.
	Drain = 8 * time.Second
	// StoreTimeout bounds each call of the store. A database that fell silent with
	// a connection open would hold its channel for ever; a new connection may find
	// the one that has taken its place.
	StoreTimeout = 5 * time.Second
)

// Config is what a Manager needs. Zero fields take the constant of their name.
type Config struct {
	Outbox   Outbox
	Receipts Receipts
	Provider Provider
	// Deliverer hears of inbox rows that folding made. Optional: the sweep finds
	// them.
	Deliverer Deliverer
	// Announce is Clerk's: it lets another node append receipts of what was sent and
	// can't be noted here. Optional.
	Announce func([]parley.Receipt) bool
	// Channels returns the channels that may have something to send or to fold;
	// all that are registered will do. It is asked when Run begins and every Poll.
	// Without it only hints are followed.
	Channels func(ctx context.Context) ([]parley.Channel, error)
	// Holder names this process among all that share the store. No two processes
	// ever have the same, not even one after the other.
	Holder string
	Policy Policy
	// Pace is how fast a channel may send. Optional: without it, as Policy says.
	Pace func(ch parley.Channel) Pace
	// AwaitDelivered is Policy's of a channel. Optional, as Pace.
	AwaitDelivered func(ch parley.Channel) time.Duration

	NodeInFlight int
	Poll         time.Duration
	Linger       time.Duration
	Drain        time.Duration
	StoreTimeout time.Duration

	// Clock is the time since some fixed moment, on a clock that never goes back
	// and runs while the computer sleeps. Default: SinceBoot.
	Clock func() time.Duration
	// Now is the wall clock, for the age of messages. Default: time.Now.
	Now        func() time.Time
	Logger     *slog.Logger          // default: none
	Registerer prometheus.Registerer // default: metrics are not registered
}

// policy is that of one channel.
func (c *Config) policy(ch parley.Channel) Policy {
	p := c.Policy
	if c.Pace != nil {
		p.Pace = c.Pace(ch)
	}
	if c.AwaitDelivered != nil {
		p.AwaitDelivered = c.AwaitDelivered(ch)
	}
	return p
}

func (c Config) resolve() (Config, error) {
	switch {
	case c.Outbox == nil, c.Receipts == nil, c.Provider == nil:
		return c, errors.New("egress: want an outbox, receipts and a provider")
	case c.Holder == "":
		return c, errors.New("egress: want a holder's name")
	case c.Policy.LeaseTTL < 0, c.Policy.DoubtfulWait < 0, c.Policy.MaxInFlight < 0, c.NodeInFlight < 0:
		return c, fmt.Errorf("egress: want no negative times and numbers: %+v", c.Policy)
	}
	inFlight := c.Policy.MaxInFlight
	c.Policy = c.Policy.withDefaults()
	c.Policy.MaxInFlight = inFlight // a channel's pace decides, see policy
	if c.Policy.Random == nil {
		c.Policy.Random = rand.Float64
	}
	c.NodeInFlight = cmp.Or(c.NodeInFlight, NodeInFlight)
	c.Poll = cmp.Or(c.Poll, Poll)
	c.Linger = cmp.Or(c.Linger, Linger)
	c.Drain = cmp.Or(c.Drain, Drain)
	c.StoreTimeout = cmp.Or(c.StoreTimeout, StoreTimeout)
	if c.Clock == nil {
		c.Clock = SinceBoot
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the node's wall clock, for the age of messages
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	return c, nil
}
