package node

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"sync/atomic"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node/dev"
)

// devNodeCommand is the node of parley dev, in a process of its own. Its clock can be
// put forward, which no other command's can: by its parent alone, over its standard
// input.
type devNodeCommand struct {
	Config string        `env:"-" required:"" type:"existingfile" help:"The configuration that parley dev has written."`
	Bot    string        `env:"-" help:"The bot that serves all channels; the program's first if empty."`
	Offset time.Duration `env:"-" help:"How far the clock is ahead of the system's at first."`
}

// reportsOn is the descriptor that dev.Report goes to.
const reportsOn = 3

// movableClock is the system's with an offset.
type movableClock struct{ offset atomic.Int64 }

func (c *movableClock) now() time.Time {
	return time.Now().Add(time.Duration(c.offset.Load())) //nolint:forbidigo // the one clock of a node in development
}

// Run serves until it is told to stop, or its parent is gone.
func (c devNodeCommand) Run(ctx context.Context, sys *system) error {
	cfg, err := parseConfig(c.Config)
	if err != nil {
		return err
	}
	bot, err := servingBot(c.Bot, cfg.withHTTPBots(sys.bots))
	if err != nil {
		return err
	}
	for i := range cfg.Apps {
		for k := range cfg.Apps[i].Channels {
			cfg.Apps[i].Channels[k].Bot = bot
		}
	}
	if err := cfg.Validate(sys.bots); err != nil {
		return err
	}
	return c.serve(ctx, sys, cfg, bot)
}

// servingBot is the name of the bot that is to serve: the one that is asked for, or the
// first.
func servingBot(name string, bots []parley.Bot) (string, error) {
	switch {
	case len(bots) == 0:
		return "", errors.New("this program has no bots: pass them to node.Main")
	case name == "":
		return bots[0].Name, nil
	case !slices.ContainsFunc(bots, func(b parley.Bot) bool { return b.Name == name }):
		return "", fmt.Errorf("bot %q is not among those of this program: %s", name, botNames(bots))
	}
	return name, nil
}

func (c devNodeCommand) serve(ctx context.Context, sys *system, cfg Config, bot string) error {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	clock := &movableClock{}
	clock.offset.Store(int64(c.Offset))
	log := slog.New(slog.NewTextHandler(sys.errors, &slog.HandlerOptions{Level: slog.LevelWarn}))
	n := newNode(cfg, sys.bots, log)
	n.clock = clock.now
	if err := n.open(ctx, filepath.Dir(c.Config)); err != nil {
		return err
	}
	to := json.NewEncoder(os.NewFile(reportsOn, "reports"))
	n.up = func() {
		if err := to.Encode(c.report(n, n.bots, bot)); err != nil {
			stop() // nobody started this as it should be
		}
		go func() {
			obeyOrders(sys.in, func(o dev.Order) {
				clock.offset.Store((time.Duration(o.OffsetMS) * time.Millisecond).Nanoseconds())
				n.lookForDue()
				_ = to.Encode(dev.Report{OffsetMS: &o.OffsetMS}) // a parent that doesn't hear it says so
			})
			stop()
		}()
	}
	return n.Run(ctx)
}

func (c devNodeCommand) report(n *Node, bots []parley.Bot, bot string) dev.Report {
	r := dev.Report{Bot: bot, Webhooks: n.webhooks.Addr().String(), Admin: n.adminLn.Addr().String()}
	for _, b := range bots {
		r.Bots = append(r.Bots, b.Name)
	}
	return r
}

// lookForDue has everything that waits for a time look at the clock now.
func (n *Node) lookForDue() {
	n.host.LookForDue()
	for _, ch := range n.served.sending() {
		n.egress.Wake(ch)
	}
}

// obeyOrders reads orders until there are no more.
func obeyOrders(from io.Reader, obey func(dev.Order)) {
	for lines := bufio.NewScanner(from); lines.Scan(); {
		var o dev.Order
		if json.Unmarshal(lines.Bytes(), &o) == nil {
			obey(o)
		}
	}
}
