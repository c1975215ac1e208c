package main_test

import (
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// A backup of a running node is restored into another folder, where the
// conversation goes on from the backup's moment.
func TestBackupAndRestore(t *testing.T) {
	t.Parallel()
	g, h := newGraph(t), newHouse(t)
	admin := freeAddress(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful")).with("admin", admin)
	n := h.start(t, asFateful, cfg)
	config := filepath.Join(h.dir, "parley.yaml")
	say := func(id, want string) {
		t.Helper()
		n.tell(t, "u1", id, "say "+id)
		g.heard(t, "u1", want)
		n.drained(t)
	}
	backup := func(name string) string {
		t.Helper()
		to := filepath.Join(h.dir, name)
		e := run(t, "", "store", "backup", "-c", config, "--to", to)
		e.want(t, 0)
		return to
	}
	say("a", "said a #1")
	running := backup("running")
	if _, err := os.Stat(filepath.Join(h.data(), "checkpoint")); !os.IsNotExist(err) {
		t.Errorf("the checkpoint was left: %v", err)
	}
	say("b", "said b #2")
	n.stop(t)
	stopped := backup("stopped")
	for from, want := range map[string]string{running: "said c #2", stopped: "said d #3"} {
		data := filepath.Join(t.TempDir(), "data")
		restored := run(t, "", "store", "restore", "--data", data, "--from", from)
		restored.want(t, 0)
		if !strings.Contains(restored.out, "0 events pending") {
			t.Errorf("it doesn't say what was restored: %s", restored.out)
		}
		n = h.start(t, asFateful, cfg.with("data", data))
		say(want[5:6], want)
		n.stop(t)
	}
}

func TestBackupRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	g := newGraph(t)
	n := h.start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")))
	_, admin := n.addresses()
	admin = strings.TrimPrefix(admin, "http://")
	other := newHouse(t)
	another := other.start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")))
	database := newHouse(t)
	onDatabase := database.configure(t, configured("http://127.0.0.1:1").on(t, database, "postgres://nowhere"))
	full := t.TempDir()
	if err := os.WriteFile(filepath.Join(full, "thesis.txt"), []byte("x"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		args []string
		code int
		want string
	}{
		"NobodyToAsk":       {[]string{"backup", "--data", h.data(), "--admin", "127.0.0.1:1", "--to", filepath.Join(t.TempDir(), "to")}, 1, "--admin"},
		"AnotherNode":       {[]string{"backup", "--data", other.data(), "--admin", admin, "--to", filepath.Join(t.TempDir(), "to")}, 1, "another store"},
		"IntoAFullFolder":   {[]string{"backup", "--data", h.data(), "--admin", admin, "--to", full}, 1, "thesis.txt"},
		"NoStore":           {[]string{"backup", "--data", t.TempDir(), "--to", filepath.Join(t.TempDir(), "to")}, 1, "isn't a store"},
		"NoTarget":          {[]string{"backup", "--data", h.data()}, 2, "--to"},
		"RestoreOverAStore": {[]string{"restore", "--data", h.data(), "--from", other.data()}, 1, "empty"},
		"RestoreOfNothing":  {[]string{"restore", "--data", filepath.Join(t.TempDir(), "to"), "--from", full}, 1, "isn't a store"},
		"BackupOfPostgres":  {[]string{"backup", "-c", onDatabase, "--to", filepath.Join(t.TempDir(), "to")}, 2, "pg_basebackup"},
		"RestoreOfPostgres": {[]string{"restore", "-c", onDatabase, "--from", full}, 2, "pg_basebackup"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			run(t, "", append([]string{"store"}, row.args...)...).want(t, row.code, row.want)
		})
	}
	t.Cleanup(func() { another.stop(t); n.stop(t) })
}

// A node with a database makes no checkpoints, and one that anybody asks makes
// them only where its store is.
func TestCheckpointOverAdmin(t *testing.T) {
	t.Parallel()
	url := cluster.Database(t)
	h, g := newHouse(t), newGraph(t)
	n := h.start(t, asFateful, configured(g.URL, channel("messenger", pageID, "fateful")).on(t, h, url))
	_, admin := n.addresses()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, admin+"/checkpoint", http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	if err := resp.Body.Close(); err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != http.StatusConflict {
		t.Errorf("status %d", resp.StatusCode)
	}
	n.stop(t)
}
