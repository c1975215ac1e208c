package sim

import (
	"fmt"
	"strings"
)

// Kinds is a set of kinds of trouble.
type Kinds uint16

// The kinds that a run can go without, beyond those that have a number in Config.
const (
	LateAnswers Kinds = 1 << iota // answers come late, appends take hold late
	LostHints                     // hints get lost, come twice, or to a node that shouldn't have them
	Again                         // what was acknowledged comes again
	Forgeries                     // webhooks that nobody has signed
	Outages                       // the store is out of reach; a spool takes what comes
	DiskTrouble                   // of the spool's disk
	PowerLoss                     // a machine forgets what wasn't synced
	Clocks                        // are wrong, and stepped
	BrokenSends                   // connections to the Graph API break
	Upgrades                      // of the bot
	Rumours                       // that a node is gone which is there
	kindsEnd
)

// AllKinds are all of them.
const AllKinds = kindsEnd - 1

func kindNames() []string {
	return []string{"late-answers", "lost-hints", "again", "forgeries", "outages", "disk-trouble", "power-loss", "clocks", "broken-sends", "upgrades", "rumours"}
}

// String lists the kinds, with commas.
func (k Kinds) String() string {
	var names []string
	for i, name := range kindNames() {
		if k&(1<<i) != 0 {
			names = append(names, name)
		}
	}
	return strings.Join(names, ",")
}

// Set reads what String writes.
func (k *Kinds) Set(list string) error {
	*k = 0
	for name := range strings.SplitSeq(list, ",") {
		known := name == ""
		for i, n := range kindNames() {
			if n == name {
				*k |= 1 << i
				known = true
			}
		}
		if !known {
			return fmt.Errorf("kind %q: want some of %s", name, AllKinds)
		}
	}
	return nil
}

// with reports whether a kind of trouble is part of the run.
func (l *line) with(k Kinds) bool { return l.walk == nil && l.cfg.Without&k == 0 }
