package node

import (
	"context"
	"log/slog"
	"strings"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

// tokens are the access tokens of channels. Those that stand in files are read
// again while the node runs: a token that has expired can be replaced, and what
// waited for that is sent, without a restart. Those of the environment stay.
type tokens struct {
	dir     string // of relative paths
	mu      sync.Mutex
	current map[parley.Channel]string
	files   map[parley.Channel]Secret
}

func newTokens(dir string) *tokens {
	return &tokens{dir: dir, current: map[parley.Channel]string{}, files: map[parley.Channel]Secret{}}
}

func (t *tokens) add(ch parley.Channel, place Secret, token string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.current[ch] = token
	if strings.HasPrefix(string(place), "file:") {
		t.files[ch] = place
	}
}

// of is the token of a channel; empty if it has none.
func (t *tokens) of(ch parley.Channel) string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.current[ch]
}

// look reads the files again, and returns the channels whose token has changed. A
// file that can't be read is halfway written, perhaps: its channels keep the
// token that they have.
func (t *tokens) look() (changed []parley.Channel) {
	read := map[Secret]string{} // many channels may share a token
	for ch, place := range t.files {
		token, known := read[place]
		if !known {
			token, _ = place.Resolve(t.dir)
			read[place] = token
		}
		if token == "" || token == t.of(ch) {
			continue
		}
		t.mu.Lock()
		t.current[ch] = token
		t.mu.Unlock()
		changed = append(changed, ch)
	}
	return changed
}

// watch looks now and then until ctx ends, and tells of each channel that has a
// new token.
func (t *tokens) watch(ctx context.Context, every time.Duration, log *slog.Logger, tell func(parley.Channel)) error {
	if len(t.files) == 0 {
		<-ctx.Done()
		return nil
	}
	for wait(ctx, every); ctx.Err() == nil; wait(ctx, every) {
		for _, ch := range t.look() {
			log.InfoContext(ctx, "new token", slog.String("channel", ch.String()))
			tell(ch)
		}
	}
	return nil
}
