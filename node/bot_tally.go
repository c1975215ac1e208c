package node

import (
	"cmp"
	"slices"

	"github.com/parleychat/parley"
)

// botReport is the outcome of a check.
type botReport struct {
	Conversations int            `json:"conversations"`
	WithoutState  int            `json:"without_state"`
	Failing       int            `json:"failing"`
	Bots          []*botVersions `json:"bots"`
	OtherBots     []count        `json:"other_bots"`
	Failures      []*checkFailed `json:"failures"`
}

type botVersions struct {
	Name     string          `json:"name"`
	Version  int             `json:"version"`
	Fallback bool            `json:"fallback"`
	Versions []*versionTally `json:"versions"`
	Unknown  []count         `json:"unknown_behaviors"`
}

type versionTally struct {
	Version       int `json:"version"`
	Conversations int `json:"conversations"`
	Failing       int `json:"failing"`
}

type count struct {
	Name          string `json:"name"`
	Conversations int    `json:"conversations"`
}

type checkFailed struct {
	Bot           string   `json:"bot,omitempty"`
	Cause         string   `json:"cause"`
	Conversations int      `json:"conversations"`
	Samples       []string `json:"samples"`
}

// botTally checks conversations, one after the other, and counts.
type botTally struct {
	all           map[string]bool
	bots          map[string]*checkedBot
	samples       int
	conversations int
	without       int
	failing       int
	others        names
	failures      map[[2]string]*checkFailed // by bot and cause
}

type checkedBot struct {
	bot      parley.Bot
	versions map[int]*versionTally
	unknown  names
}

// names counts by name; beyond maxNames the others are counted together.
type names map[string]int

// Of what stored data may bring in any number, only so many are told apart.
const (
	maxNames    = 100
	maxFailures = 50
	theOthers   = "others"
)

func (n names) add(name string) {
	if _, ok := n[name]; !ok && len(n) >= maxNames {
		name = theOthers
	}
	n[name]++
}

func (n names) counts() []count {
	all := make([]count, 0, len(n))
	for name, c := range n {
		all = append(all, count{name, c})
	}
	slices.SortFunc(all, func(a, b count) int {
		return cmp.Or(cmp.Compare(b.Conversations, a.Conversations), cmp.Compare(a.Name, b.Name))
	})
	return all
}

func newBotTally(bots []parley.Bot, only string, samples int) *botTally {
	t := &botTally{all: map[string]bool{}, bots: map[string]*checkedBot{}, samples: max(samples, 0), others: names{}, failures: map[[2]string]*checkFailed{}}
	for _, b := range bots {
		t.all[b.Name] = true
		if only == "" || b.Name == only {
			t.bots[b.Name] = &checkedBot{bot: b, versions: map[int]*versionTally{}, unknown: names{}}
		}
	}
	return t
}

// take checks one conversation; err is why it couldn't be read.
func (t *botTally) take(s *parley.Snapshot, err error) {
	if s.MergedInto != "" {
		return // nothing is left there
	}
	t.conversations++
	b := t.bots[s.Bot]
	switch {
	case err != nil:
		t.fail("", s, err.Error())
	case len(s.State) == 0 && s.Behavior == "":
		t.without++
	case !t.all[s.Bot]:
		t.others.add(s.Bot)
	case b != nil:
		t.check(b, s)
	}
}

func (t *botTally) check(b *checkedBot, s *parley.Snapshot) {
	v := max(s.BotVersion, 1)
	if b.versions[v] == nil {
		b.versions[v] = &versionTally{Version: v}
	}
	b.versions[v].Conversations++
	if _, err := b.bot.Upgrade(s); err != nil {
		b.versions[v].Failing++
		t.fail(b.bot.Name, s, err.Error())
		return
	}
	if !b.bot.Knows(s.Behavior) {
		b.unknown.add(s.Behavior)
	}
}

func (t *botTally) fail(bot string, s *parley.Snapshot, cause string) {
	t.failing++
	key := [2]string{bot, cause}
	if t.failures[key] == nil && len(t.failures) >= maxFailures {
		key = [2]string{"", "other causes"}
	}
	f := t.failures[key]
	if f == nil {
		f = &checkFailed{Bot: key[0], Cause: key[1], Samples: []string{}}
		t.failures[key] = f
	}
	f.Conversations++
	if len(f.Samples) < t.samples {
		f.Samples = append(f.Samples, s.Conversation.String())
	}
}

// report is what was found, in an order that depends on nothing else.
func (t *botTally) report() *botReport {
	r := &botReport{
		Conversations: t.conversations, WithoutState: t.without, Failing: t.failing,
		Bots: []*botVersions{}, OtherBots: t.others.counts(), Failures: []*checkFailed{},
	}
	for _, b := range t.bots {
		one := &botVersions{
			Name: b.bot.Name, Version: max(b.bot.Version, 1), Fallback: b.bot.Fallback != nil, Versions: []*versionTally{}, Unknown: b.unknown.counts(),
		}
		for _, v := range b.versions {
			one.Versions = append(one.Versions, v)
		}
		slices.SortFunc(one.Versions, func(a, b *versionTally) int { return cmp.Compare(a.Version, b.Version) })
		r.Bots = append(r.Bots, one)
	}
	slices.SortFunc(r.Bots, func(a, b *botVersions) int { return cmp.Compare(a.Name, b.Name) })
	for _, f := range t.failures {
		r.Failures = append(r.Failures, f)
	}
	slices.SortFunc(r.Failures, func(a, b *checkFailed) int {
		return cmp.Or(cmp.Compare(b.Conversations, a.Conversations), cmp.Compare(a.Bot, b.Bot), cmp.Compare(a.Cause, b.Cause))
	})
	return r
}
