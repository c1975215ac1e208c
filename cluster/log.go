package cluster

import (
	"context"
	"log/slog"
	"strings"
)

// logWriter takes the lines of the library's log. They are of interest to whoever
// looks for the cause of a trouble, and are no trouble themselves: an error of
// gossip is one message that didn't arrive.
type logWriter struct {
	ctx context.Context //nolint:containedctx // that of Run: a writer is given none
	log *slog.Logger
}

// Write takes one line.
func (w *logWriter) Write(b []byte) (int, error) {
	line := strings.TrimSpace(string(b))
	level := slog.LevelDebug
	if _, text, ok := strings.Cut(line, "["); ok {
		mark, rest, _ := strings.Cut(text, "] ")
		if mark == "ERR" || mark == "WARN" {
			level = slog.LevelInfo
		}
		line = strings.TrimPrefix(rest, "memberlist: ")
	}
	w.log.Log(w.ctx, level, "gossip", slog.String("says", line))
	return len(b), nil
}
