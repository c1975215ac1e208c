package node_test

import (
	"net/http"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/parleychat/parley/node"
)

// A channel whose token is dead is parked: it keeps what it has, its neighbours go on,
// GET /sending says why it waits, and once its token's file has changed all of it goes,
// in order.
func TestDeadTokenIsReplaced(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	l := startLine(t, func(l *line) {
		l.cfg.Apps[0].Channels[0].Token = node.Secret("file:" + write(t, dir, "token", "dead"))
		l.answer = func(p posted, usual string) (int, string) {
			if p.Token == "dead" {
				return http.StatusUnauthorized, `{"error":{"message":"Session has expired","type":"OAuthException","code":190,"error_subcode":463}}`
			}
			return http.StatusOK, usual
		}
	})
	l.writes(map[string]string{"page": "first"})
	l.await("the channel is parked", func() bool { return l.metric(`parley_egress_paused_channels{reason="blocked"}`) == 1 })
	l.writes(platforms("second"))
	l.await("the neighbours' messages are sent", func() bool { return l.metric(`parley_egress_sends_total{outcome="sent"}`) == 2 })
	l.await("they are at rest", func() bool {
		return l.metric("parley_egress_in_flight") == 0 && l.metric("parley_store_unsent") == 2 && strings.Count(l.sending(), `"in_flight":0`) == 3
	})
	golden(t, filepath.Join("..", "sending", "parked.json"), l.sending())
	tried := len(l.sends(3)) // by the dead token once, by the neighbours twice

	write(t, dir, "token", "alive")
	sent := l.sends(tried + 2)[tried:]
	for i, want := range []string{"first", "second"} {
		if p := sent[i]; p.Token != "alive" || p.Message.Text != want {
			t.Errorf("message %d is %q, sent with the token %q", i, p.Message.Text, p.Token)
		}
	}
	l.await("nothing is left", func() bool { return l.metric("parley_store_unsent") == 0 })
	if n := l.metric("parley_store_dead_letters"); n != 0 || strings.Contains(l.sending(), "paused") {
		t.Errorf("%v dead letters; %s", n, l.sending())
	}
}

// sending is what GET /sending shows, but for how long it is until the next try.
func (l *line) sending() string {
	l.t.Helper()
	return regexp.MustCompile(`("tries_in_seconds":)[0-9.]+`).ReplaceAllString(l.admin("/sending"), "${1}0")
}
