package sim

import (
	"context"
	"fmt"

	"github.com/parleychat/parley"
)

// A bot that keeps a previous version is upgraded in the course of the run: nodes begin
// with that one, and each goes over to the new one, some of them back and over again.
// What a node believes that the other reads is sometimes wrong.

// planUpgrades draws when which node goes over to the other version of the bot.
func (l *line) planUpgrades(ctx context.Context) {
	if l.cfg.Bot.Previous == nil || !l.with(Upgrades) {
		return
	}
	for i := range l.nodes {
		l.previous[i] = true
		times := 1
		if l.chance(0.4) {
			times = 3 // over, back, and over again
		}
		for range times {
			l.later(nil, l.soon(l.world.Config().Duration), func() {
				l.tally.Upgrades++
				l.previous[i] = !l.previous[i]
				l.crash(ctx, i)
			})
		}
	}
}

// bot is the one that an incarnation of a node has.
func (l *line) bot(i int) *parley.Bot {
	if l.previous[i] {
		return l.cfg.Bot.Previous
	}
	return &l.cfg.Bot
}

// everybody is the newest version of the bot that both nodes read, as one of them
// believes.
func (l *line) everybody(n *node) int {
	if l.cfg.Bot.Previous == nil {
		return 0
	}
	oldest := n.bot.Version
	if l.chance(0.2) {
		return oldest // it sees nobody else, or what the other was a moment ago
	}
	for _, other := range l.nodes {
		if other != nil {
			oldest = min(oldest, other.bot.Version)
		}
	}
	return oldest
}

// checkVersion notes a state that is replaced by one of an older version.
func (l *line) checkVersion(ctx context.Context, c *parley.Commit) error {
	if l.cfg.Bot.Previous == nil || len(c.Next.State) == 0 {
		return nil
	}
	before, err := l.store.Load(ctx, c.Conversation, 0)
	if err != nil {
		return err
	}
	s := before.Snapshot
	switch {
	case s.Version != c.Base || len(s.State) == 0: // it will be a conflict
	case c.Next.BotVersion < s.BotVersion:
		l.broken = fmt.Errorf("a state of version %d was replaced by one of version %d", s.BotVersion, c.Next.BotVersion)
	case c.Next.BotVersion > s.BotVersion:
		l.tally.Migrated++
	}
	return nil
}
