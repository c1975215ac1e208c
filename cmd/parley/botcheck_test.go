package main_test

import (
	"path/filepath"
	"strings"
	"testing"
)

// A database is checked beside the node that works on it, by the node's own
// configuration.
func TestBotCheckOfADatabase(t *testing.T) {
	t.Parallel()
	url := cluster.Database(t)
	g, h := newGraph(t), newHouse(t)
	n := h.start(t, asItself, configured(g.URL, channel("messenger", pageID, "pizzeria")).on(t, h, url))
	n.tell(t, "u1", "a", "say 1")
	n.tell(t, "u2", "b", "say 1")
	g.heard(t, "u1", "said 1 #1")
	g.heard(t, "u2", "said 1 #1")
	e := run(t, "", "bot", "check", "--bot", "pizzeria", "-c", filepath.Join(h.dir, "parley.yaml"))
	e.want(t, 0)
	if words := strings.Join(strings.Fields(e.out), " "); !strings.Contains(words, "conversations 2") || !strings.Contains(words, "version 2 2, which is the bot's") {
		t.Errorf("it tells:\n%s", e.out)
	}
	n.stop(t)
}

// An embedded store that is in use isn't; a backup of it is.
func TestBotCheckOfABackup(t *testing.T) {
	t.Parallel()
	g, h := newGraph(t), newHouse(t)
	n := h.start(t, asItself, configured(g.URL, channel("messenger", pageID, "pizzeria")).with("admin", freeAddress(t)))
	n.tell(t, "u1", "a", "say 1")
	g.heard(t, "u1", "said 1 #1")
	n.drained(t)
	config := filepath.Join(h.dir, "parley.yaml")
	run(t, "", "bot", "check", "-c", config).want(t, 1, "in use", "store backup")
	to := filepath.Join(h.dir, "backup")
	run(t, "", "store", "backup", "-c", config, "--to", to).want(t, 0)
	e := run(t, "", "bot", "check", "--data", to)
	e.want(t, 0)
	if words := strings.Join(strings.Fields(e.out), " "); !strings.Contains(words, "version 2 1, which is the bot's") {
		t.Errorf("it tells:\n%s", e.out)
	}
	// What was checked can be restored as before.
	run(t, "", "store", "restore", "--data", filepath.Join(t.TempDir(), "data"), "--from", to).want(t, 0)
	n.stop(t)
}
