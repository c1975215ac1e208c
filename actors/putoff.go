package actors

import (
	"log/slog"
	"sync"

	"github.com/parleychat/parley"
)

// newerForm is why a turn is put off that would store something of a generation
// which somebody doesn't read; the others are parley's.
const newerForm parley.PutOff = "newer_form"

// putOffs says in the log whose turns are put off and why, once in a while: the turns
// themselves are tried again all the time.
type putOffs struct {
	mu   sync.Mutex
	told map[putOff]int64 // tick of the sweeper
}

// putOff is a reason, as far as an operator can do something about it.
type putOff struct {
	bot    string
	why    parley.PutOff
	stored int // version of what is stored; 0: it isn't the reason
}

const (
	tellPutOffs = 60  // ticks between two words about one
	maxPutOffs  = 256 // that are remembered; beyond, all may be told again
)

// news reports whether p is to be told now.
func (l *putOffs) news(p putOff, now int64) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if last, ok := l.told[p]; ok && now-last < tellPutOffs {
		return false
	}
	if l.told == nil || len(l.told) >= maxPutOffs {
		l.told = map[putOff]int64{}
	}
	l.told[p] = now
	return true
}

// mustWait is why a commit must not be written; empty: it may.
func mustWait(commit *parley.Commit, format int) parley.PutOff {
	if commit.PutOff == "" && commit.Format > format {
		return newerForm
	}
	return commit.PutOff
}

// putOff counts a turn that is put off, and says so.
func (h *Host) putOff(bot *parley.Bot, s *parley.Snapshot, c *parley.Circumstance, why parley.PutOff) {
	h.metrics.putOff.WithLabelValues(string(why)).Inc()
	p := putOff{bot: bot.Name, why: why}
	if why == parley.NewerState {
		p.stored = s.BotVersion
	}
	if !h.putOffs.news(p, h.tick.Load()) {
		return
	}
	h.log.Warn("turns are put off", slog.String("bot", p.bot), slog.String("why", string(why)),
		slog.Int("version", bot.Version), slog.Int("stored_version", p.stored), slog.Int("all_read_version", c.BotVersion))
}
