package sim_test

import (
	"strings"
	"testing"

	"github.com/parleychat/parley/sim"
)

// cases are runs that failed once. They are played for ever.
var cases = map[string]struct {
	found string // what they found
	cfg   sim.Config
}{
	"disk-fault-is-the-events": {
		"a disk of a spool that failed for a moment was taken for the fault of a webhook, which was put into the quarantine, acknowledged, and never looked at again",
		sim.Config{Seed: 440},
	},
	"disk-fault-hides-the-channels": {
		"the same, with entries of the quarantine in the spool, before which no channel is learnt",
		sim.Config{Seed: 116},
	},
	"disk-fault-reorders": {
		"the same, with later events of the conversation taking effect",
		sim.Config{Seed: 480},
	},
	// The next two are of 100,000 seeds.
	"notes-lost-with-the-disk": {
		"a process whose disk failed as it began took with it what the one before had noted on its folder, and events that nobody had died of were condemned",
		sim.Config{Seed: 1753703589156312, Trouble: -1, Views: true},
	},
	"sent-after-the-lease": {
		"a node that had slept sent what it had claimed while another, which took it for gone, had got the lease; it couldn't note that, and the other sent it again",
		sim.Config{Seed: 1753703589156298, Views: true},
	},
	"sent-and-cut-off": {
		"a node that was cut off from the store while the other reached it could tell nobody what it had sent, and the other sent it again",
		sim.Config{Seed: 1071, Messages: 13, Users: 1, Crashes: -1, Sleeps: -1, Trouble: -1, Without: sim.AllKinds &^ sim.Outages &^ sim.DiskTrouble},
	},
	"sent-and-cut-off-among-views": {
		"the same, of three nodes that hear of each other",
		sim.Config{Seed: 127, Messages: 56, Users: 3, Crashes: -1, Sleeps: -1, Views: true, Without: sim.Again | sim.Forgeries | sim.PowerLoss | sim.Clocks | sim.BrokenSends | sim.Upgrades | sim.Rumours},
	},
	"noted-and-left-behind": {
		"a row that came late pushed one out of the head of a long queue while the store was asked to note the head: the note of that one was left behind",
		sim.Config{Seed: 8, Views: true},
	},
	"noted-and-run-later": {
		"rows that came late pushed some out of the head of a long queue that had been noted with it: these ran in a later turn, which nobody had asked for, and their notes were left behind",
		sim.Config{Seed: 203808, Views: true},
	},
}

func TestCases(t *testing.T) {
	t.Parallel()
	for name, c := range cases {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c.cfg.Bot = bot(c.cfg.Seed)
			v, _, err := sim.Run(t.Context(), c.cfg)
			if err != nil || !v.Clean() {
				t.Errorf("again: %s\n%v %v\nplay it: go test ./sim -run '^TestSeeds$' %s", c.found, err, problems(v), c.cfg.Flags())
			}
		})
	}
}

// What a run fails of is found without the rest.
func TestShrink(t *testing.T) {
	t.Parallel()
	tries := 0
	guilty := func(c sim.Config) bool { // of five messages to two, with a crash and a disk in trouble
		tries++
		return c.Messages >= 5 && c.Users >= 2 && c.Crashes >= 1 && c.Without&sim.DiskTrouble == 0
	}
	got := sim.Shrink(sim.Config{Seed: 8, Bot: bot(8), Views: true}, guilty, sim.ShrinkTries)
	if !guilty(got) || got.Messages != 5 || got.Users != 2 || got.Crashes != 1 || got.Sleeps > 0 || got.Trouble > 0 || got.Views || got.Without != sim.AllKinds&^sim.DiskTrouble {
		t.Errorf("got %s", got.Flags())
	}
	if tries > sim.ShrinkTries+1 {
		t.Errorf("it took %d tries", tries)
	}
	for _, flag := range []string{"-seed=8", "-messages=5", "-users=2", "-crashes=1", "-sleeps=-1", "-trouble=-1", "-views=false", "-without=late-answers,"} {
		if !strings.Contains(got.Flags(), flag) {
			t.Errorf("no %s in %s", flag, got.Flags())
		}
	}
}

// It looks no further than it may.
func TestShrinkIsBounded(t *testing.T) {
	t.Parallel()
	for _, most := range []int{0, 1, 17} {
		tries := 0
		sim.Shrink(sim.Config{Seed: 1, Bot: bot(1)}, func(sim.Config) bool { tries++; return false }, most)
		if tries > most {
			t.Errorf("%d tries, want at most %d", tries, most)
		}
	}
}
