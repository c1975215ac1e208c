package sim

import (
	"fmt"
	"strings"
)

// ShrinkTries is a bound on the runs of one [Shrink] that suits a terminal: a minute or
// so.
const ShrinkTries = 800

// shrinkSeeds is how many seeds a smaller run is tried with: with less going on, the
// same seed draws other things.
const shrinkSeeds = 8

// Shrink looks for a smaller run that fails, too: with fewer messages, users, crashes,
// sleeps and kinds of trouble. It plays at most so many runs by fails, which reports
// whether one fails, and returns the smallest that did, in full; cfg is taken to fail.
// What a run fails of may change on the way: each failure is one.
func Shrink(cfg Config, fails func(Config) bool, tries int) Config {
	cfg = cfg.withDefaults()
	for progress := true; progress; {
		progress = false
		for _, cut := range cuts() {
			for { // the same as long as it helps
				smaller, found := cutOnce(cfg, cut, fails, &tries)
				if !found {
					break
				}
				cfg, progress = smaller, true
			}
		}
	}
	return cfg
}

// cutOnce makes a run smaller in one way, if it fails then with one of some seeds.
func cutOnce(cfg Config, cut func(*Config), fails func(Config) bool, tries *int) (Config, bool) {
	c := cfg
	if cut(&c); c.size() == cfg.size() {
		return cfg, false
	}
	for range shrinkSeeds {
		if *tries <= 0 {
			return cfg, false
		}
		*tries--
		if fails(c) {
			return c, true
		}
		c.Seed += 2 // whoever chooses the bot by parity keeps it
	}
	return cfg, false
}

// cuts are the ways to make a run smaller, the boldest first.
func cuts() []func(*Config) {
	all := []func(*Config){
		func(c *Config) { c.Views = false },
		func(c *Config) { c.Messages = max(c.Messages/2, 1) },
		func(c *Config) { c.Users = max(c.Users/2, 1) },
		func(c *Config) { c.Crashes = -1 },
		func(c *Config) { c.Sleeps = -1 },
		func(c *Config) { c.Trouble = -1 },
	}
	for k := Kinds(1); k < kindsEnd; k <<= 1 {
		all = append(all, func(c *Config) { c.Without |= k })
	}
	return append(all,
		func(c *Config) { c.Crashes = none(max(c.Crashes-1, 0)) },
		func(c *Config) { c.Sleeps = none(max(c.Sleeps-1, 0)) },
		func(c *Config) { c.Users = max(c.Users-1, 1) },
		func(c *Config) { c.Messages = max(c.Messages-(c.Messages+3)/4, 1) },
		func(c *Config) { c.Messages = max(c.Messages-1, 1) },
	)
}

// none is a number of which none must not be zero, the default.
func none(n int) int {
	if n == 0 {
		return -1
	}
	return n
}

// size is what Shrink makes smaller.
type size struct {
	messages, users, crashes, sleeps int
	trouble                          float64
	without                          Kinds
	views                            bool
}

func (c Config) size() size {
	return size{c.Messages, c.Users, c.Crashes, c.Sleeps, c.Trouble, c.Without, c.Views}
}

// Flags are those of TestSeeds that play a run again.
func (c Config) Flags() string {
	c = c.withDefaults()
	flags := []string{"-seeds=1", fmt.Sprintf("-seed=%d", c.Seed)}
	add := func(name string, value any) { flags = append(flags, fmt.Sprintf("-%s=%v", name, value)) }
	add("messages", c.Messages)
	add("users", c.Users)
	add("crashes", c.Crashes)
	add("sleeps", c.Sleeps)
	add("trouble", c.Trouble)
	add("views", c.Views)
	if c.Without != 0 {
		add("without", c.Without)
	}
	if c.Vault != nil {
		add("vault", true)
	}
	return strings.Join(flags, " ")
}
