package node_test

import (
	"os"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

// A token is replaced while the node runs, and a file that is being written is
// left alone.
func TestTokensAreReadAgain(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	ch := parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "1"}
	path := write(t, dir, "token", "old\n")
	tokens := node.NewTokens(dir, ch, "file:token", "old")
	expect := func(want string, changed int) {
		t.Helper()
		if got := tokens.Look(); len(got) != changed || changed > 0 && got[0] != ch {
			t.Errorf("changed %v", got)
		}
		if got := tokens.Of(ch); got != want {
			t.Errorf("token %q, want %q", got, want)
		}
	}
	expect("old", 0)
	write(t, dir, "token", "new\n")
	expect("new", 1)
	expect("new", 0)
	write(t, dir, "token", "")
	expect("new", 0)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	expect("new", 0)
}

func TestConfigOfSending(t *testing.T) {
	t.Parallel()
	bots := []parley.Bot{mute("bot")}
	for name, c := range map[string]struct {
		change func(*node.Config)
		err    string
	}{
		"Default":          {func(*node.Config) {}, ""},
		"Upgraded":         {func(c *node.Config) { c.Apps[0].Channels[0].Pace = 1000 }, ""},
		"NegativePace":     {func(c *node.Config) { c.Apps[0].Channels[0].Pace = -1 }, "pace"},
		"ThreadOfWhatsApp": {func(c *node.Config) { c.Apps[0].Channels[0].Kind, c.Apps[0].Channels[0].ThreadApp = "whatsapp", "2639" }, "thread_app"},
		"ThreadToAName": {func(c *node.Config) {
			c.Apps[0].Channels[0].Kind, c.Apps[0].Channels[0].ThreadApp = "messenger", "inbox"
		}, "thread_app"},
		"AbsurdPace":   {func(c *node.Config) { c.Apps[0].Channels[0].Pace = 1e9 }, "pace"},
		"GiveUp":       {func(c *node.Config) { c.DoubtfulPolicy = "give_up" }, ""},
		"NoSuchPolicy": {func(c *node.Config) { c.DoubtfulPolicy = "pray" }, "doubtful_policy"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			cfg := page(t, "http://127.0.0.1:1")
			c.change(&cfg)
			err := cfg.Validate(bots)
			if (err == nil) != (c.err == "") || err != nil && !strings.Contains(err.Error(), c.err) {
				t.Errorf("got %v, want %q", err, c.err)
			}
		})
	}
}
