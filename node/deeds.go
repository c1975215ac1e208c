package node

import (
	"cmp"
	"context"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// What the demonstration does to nodes.
const (
	killing   = "kill"      // SIGKILL, and started again at once
	stopping  = "stop"      // SIGSTOP, and SIGCONT after a while
	draining  = "drain"     // SIGTERM, and started again when it has ended
	partition = "partition" // cut off from the other nodes, and mended after a while
	upgrading = "upgrade"   // SIGTERM, and started with the other version of the bot when it has ended
)

// How long a node is stopped or cut off: for less than the others need to notice,
// or for longer.
const stopLeast, stopMost = time.Second, 6 * time.Second

// deed is one of them.
type deed struct {
	kind   string
	node   int
	at     time.Duration // after the beginning
	lasts  time.Duration
	oneWay bool // of a partition: the node hears the others
}

func (d deed) describe(nodes int) string {
	who := "the node"
	if nodes > 1 {
		who = fmt.Sprintf("node %d", d.node+1)
	}
	switch d.kind {
	case stopping:
		return fmt.Sprintf("SIGSTOP of %s for %.1f s", who, d.lasts.Seconds())
	case draining:
		return who + " drains and starts again"
	case upgrading:
		return who + " drains and goes over to the other version of the bot"
	case partition:
		if d.oneWay {
			return fmt.Sprintf("%s isn't heard by the others for %.1f s", who, d.lasts.Seconds())
		}
		return fmt.Sprintf("%s is cut off from the others for %.1f s", who, d.lasts.Seconds())
	}
	return "kill -9 of " + who
}

// deeds are what is done in the run, one at a time: with several nodes evenly
// spread, so that each is got over before the next.
func (c *demoCommand) deeds() (all []deed) {
	rng := rand.New(rand.NewPCG(c.Seed, 99))
	upgrades := c.upgrades()
	for kind, n := range map[string]int{killing: c.Kill, stopping: c.Stop, draining: c.Drain, partition: c.Partition, upgrading: len(upgrades)} {
		for range n {
			all = append(all, deed{kind: kind})
		}
	}
	slices.SortFunc(all, func(a, b deed) int { return cmp.Compare(a.kind, b.kind) }) // maps have no order
	rng.Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	times := c.moments(rng, len(all))
	within := c.Duration
	if c.UpgradeBot { // what comes after an upgrade is to be seen, too
		within = within * 3 / 4 //nolint:mnd // the rest is after it
	}
	for i := range all {
		d := &all[i]
		d.node = rng.IntN(c.Nodes)
		d.at = times[i]
		if c.Nodes > 1 {
			d.at = time.Duration((float64(i) + 0.2 + 0.3*rng.Float64()) / float64(len(all)) * float64(within))
		}
		d.oneWay = rng.IntN(3) == 0 //nolint:mnd // a third of them
		d.lasts = stopLeast + time.Duration(rng.Float64()*float64(stopMost-stopLeast))
		if d.kind == upgrading {
			d.node, upgrades = upgrades[0], upgrades[1:]
		}
	}
	return all
}

// disturb does the deeds, until ctx ends.
func (c *demoCommand) disturb(ctx context.Context, f *fleet, sim *metatest.Simulator, w io.Writer) error {
	began := time.Now() //nolint:forbidigo // the demo watches real processes
	for _, d := range c.deeds() {
		if !nap(ctx, d.at-time.Since(began)) { //nolint:forbidigo // as above
			return nil
		}
		if err := f.strike(context.WithoutCancel(ctx), d, sim, w); err != nil {
			return err
		}
	}
	return nil
}

// recovery is how long the users of a node waited for their next reply after it had
// been killed or stopped. Those whose message was with the provider just then wait
// for what becomes of it (the policy's time for doubtful messages); there can't be
// more of them than the nodes have counted.
func (c *demoCommand) recovery(f *fleet, sim *metatest.Simulator) (waits []time.Duration) {
	for _, b := range f.blows {
		if b.kind != killing && b.kind != stopping {
			continue
		}
		waits = append(waits, sim.Waits(b.at, recoverWithin, func(p metatest.Person) bool { return f.owns(b.node, p) })...)
	}
	slices.Sort(waits)
	doubtful := f.total(func(c *child) int { return c.doubtful })
	for len(waits) > 0 && doubtful > 0 && waits[len(waits)-1] >= c.DoubtfulWait {
		waits, doubtful = waits[:len(waits)-1], doubtful-1
	}
	return waits
}

// recoverWithin is for how long after the blow messages count.
const recoverWithin = time.Second

func millisOf(sorted []time.Duration) (m metatest.Millis) {
	if len(sorted) == 0 {
		return m
	}
	at := func(q float64) float64 {
		return float64(sorted[min(int(q*float64(len(sorted))), len(sorted)-1)].Microseconds()) / 1000 //nolint:mnd // ms
	}
	m.P50, m.P99, m.Max = at(0.5), at(0.99), at(1) //nolint:mnd // what their names say
	return m
}
