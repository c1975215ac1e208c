package main_test

import (
	"context"
	"errors"
	"path/filepath"
	"strings"
	"testing"

	"github.com/parleychat/parley/persistence/embedded"
	"github.com/parleychat/parley/persistence/postgres"
)

// A node moves to PostgreSQL: its conversations go on there.
func TestMoveToPostgres(t *testing.T) {
	t.Parallel()
	g, h, url := newGraph(t), newHouse(t), cluster.Database(t)
	cfg := configured(g.URL, channel("messenger", pageID, "fateful"))
	n := h.start(t, asFateful, cfg)
	n.tell(t, "u1", "a", "say a")
	g.heard(t, "u1", "said a #1")
	config := filepath.Join(h.dir, "parley.yaml")
	h.write(t, "database", url)
	place := "file:" + filepath.Join(h.dir, "database")
	move := func() ended {
		return run(t, "", "store", "copy", "-c", config, "--from", "embedded", "--to", "postgres", "--database", place)
	}
	move().want(t, 1, "in use by another process", "stop")
	n.drained(t)
	n.stop(t)

	breakOff(t, h.data(), url)
	unfinished := newHouse(t)
	n = unfinished.launch(t, asFateful, cfg.with("data", unfinished.data()).on(t, unfinished, url))
	if code := n.left(t); code != 1 || !strings.Contains(n.logged(), "parley store copy") {
		t.Errorf("a node on a part of a store ended with %d:\n%s", code, n.logged())
	}

	copied := move()
	copied.want(t, 0)
	for _, words := range []string{"the database holds the same", "conversations", "history", "equal", "out of the way"} {
		if !strings.Contains(copied.out, words) {
			t.Errorf("it doesn't say %q:\n%s", words, copied.out)
		}
	}
	if strings.Contains(copied.out, "DIFFERS") || !strings.Contains(copied.errors, "100 %") {
		t.Errorf("it shows\n%s%s", copied.out, copied.errors)
	}
	again := move()
	again.want(t, 0)
	if !strings.Contains(again.out, "nothing to do") {
		t.Errorf("a second time it says\n%s", again.out)
	}

	moved := newHouse(t)
	n = moved.start(t, asFateful, cfg.with("data", moved.data()).on(t, moved, url))
	n.tell(t, "u1", "a", "say a") // delivered again
	n.tell(t, "u1", "b", "say b")
	g.heard(t, "u1", "said b #2")
	n.drained(t)
	n.stop(t)
	if texts := g.texts("u1"); len(texts) != 2 {
		t.Errorf("heard %q", texts)
	}
}

// breakOff begins a copy and ends it before it is finished.
func breakOff(t *testing.T, data, url string) {
	t.Helper()
	s, err := embedded.Open(embedded.Config{Dir: data, Existing: true})
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	_, err = postgres.CopyInto(ctx, postgres.Config{URL: url, Conns: 1}, s, func(p postgres.CopyProgress) {
		if p.Stage == postgres.CopyWriting {
			cancel()
		}
	})
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if !errors.Is(err, context.Canceled) {
		t.Fatalf("a copy that is broken off: %v", err)
	}
}

func TestCopyRefuses(t *testing.T) {
	t.Parallel()
	h := newHouse(t)
	config := h.configure(t, configured("http://127.0.0.1:1", channel("messenger", pageID, "")))
	h.write(t, "database", cluster.Database(t))
	h.write(t, "nowhere", "postgres://127.0.0.1:1/db?connect_timeout=1")
	place := "file:" + filepath.Join(h.dir, "database")
	data := filepath.Join(h.dir, "made")
	made, err := embedded.Open(embedded.Config{Dir: data})
	if err != nil {
		t.Fatal(err)
	}
	if err := made.Close(); err != nil {
		t.Fatal(err)
	}
	for name, row := range map[string]struct {
		args []string
		code int
		want string
	}{
		"NoStore":     {[]string{"--from", "embedded", "--to", "postgres", "--data", h.dir, "--database", place}, 1, "no store"},
		"NoDatabase":  {[]string{"--from", "embedded", "--to", "postgres", "-c", config}, 1, "database.url"},
		"Unreachable": {[]string{"--from", "embedded", "--to", "postgres", "--data", data, "--database", "file:" + filepath.Join(h.dir, "nowhere")}, 1, "unavailable"},
		"NotThisWay":  {[]string{"--from", "postgres", "--to", "embedded", "-c", config}, 2, "--from"},
		"Unsaid":      {[]string{"-c", config}, 2, "--from"},
		"Literal":     {[]string{"--from", "embedded", "--to", "postgres", "--data", data, "--database", "postgres://me:hunter2@h/db"}, 1, "env:NAME or file:PATH"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := run(t, "", append([]string{"store", "copy"}, row.args...)...)
			e.want(t, row.code, row.want)
			if strings.Contains(e.out+e.errors, "hunter2") {
				t.Error("it repeats a password")
			}
		})
	}
}
