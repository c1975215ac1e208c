package dev_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/node/dev"
)

// asNode turns the test's program into a node of a sort.
const asNode = "BE_NODE"

func TestMain(m *testing.M) {
	if sort := os.Getenv(asNode); sort != "" {
		beNode(sort)
	}
	os.Exit(m.Run())
}

// beNode is a process that does what a node does towards its parent.
func beNode(sort string) {
	switch sort {
	case "crash":
		fmt.Println("it is dark")
		os.Exit(7)
	case "talk":
		fmt.Println(strings.Repeat("x", 5000))
		for i := range 1000 {
			fmt.Println("line", i)
		}
	}
	to := json.NewEncoder(os.NewFile(3, "reports"))
	if sort != "silent" {
		_ = to.Encode(dev.Report{Bot: os.Args[1], Bots: []string{"a", "b"}, Webhooks: "127.0.0.1:1", Admin: os.Args[2]})
	}
	for lines := bufio.NewScanner(os.Stdin); lines.Scan(); {
		var o dev.Order
		if json.Unmarshal(lines.Bytes(), &o) == nil && sort != "deaf" {
			_ = to.Encode(dev.Report{OffsetMS: &o.OffsetMS})
		}
	}
	os.Exit(0)
}

// ran is a runner that runs.
type ran struct {
	*dev.Runner
	t    *testing.T
	news chan struct{}

	mu    sync.Mutex
	where []string // what it said of where webhooks go
}

// runNode runs a node of a sort until the test ends.
func runNode(t *testing.T, sort string, change func(*dev.RunnerConfig)) *ran {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	cfg := dev.RunnerConfig{
		Program: self, Env: append(os.Environ(), asNode+"="+sort), Restart: 10 * time.Millisecond, Drain: 5 * time.Second,
		Args: func(bot string, offset time.Duration) []string { return []string{bot, offset.String()} },
	}
	if change != nil {
		change(&cfg)
	}
	r := &ran{t: t, news: make(chan struct{}, 1)}
	r.Runner = dev.NewRunner(cfg, r.tell)
	ctx, stop := context.WithCancel(context.WithoutCancel(t.Context()))
	done := make(chan error, 1)
	go func() {
		done <- r.Run(ctx, func(at string) {
			r.mu.Lock()
			defer r.mu.Unlock()
			r.where = append(r.where, at)
		})
	}()
	t.Cleanup(func() {
		stop()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *ran) tell() {
	select {
	case r.news <- struct{}{}:
	default:
	}
}

func (r *ran) until(what string, seen func(dev.Status) bool) dev.Status {
	r.t.Helper()
	limit := time.NewTimer(20 * time.Second)
	defer limit.Stop()
	for {
		s := r.Status()
		if seen(s) {
			return s
		}
		select {
		case <-r.news:
		case <-limit.C:
			r.t.Fatalf("not seen: %s: %+v", what, s)
		}
	}
}

func up(s dev.Status) bool { return s.State == "up" }

func TestRunnerKills(t *testing.T) {
	t.Parallel()
	r := runNode(t, "good", func(c *dev.RunnerConfig) { c.Bot = "a" })
	first := r.until("up", up)
	r.Kill()
	second := r.until("up again", func(s dev.Status) bool { return up(s) && s.Starts == 2 })
	if first.PID == second.PID || second.Kills != 1 || second.Bot != "a" || second.Error != "" {
		t.Errorf("%+v, then %+v", first, second)
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if got := strings.Join(r.where, "|"); got != "127.0.0.1:1||127.0.0.1:1" {
		t.Errorf("webhooks went to %q", got)
	}
}

func TestRunnerIsSwitchedOff(t *testing.T) {
	t.Parallel()
	r := runNode(t, "good", nil)
	r.until("up", up)
	r.Switch(false)
	r.until("off", func(s dev.Status) bool { return s.State == "off" })
	r.Kill() // nothing to kill, nothing to start
	if err := r.Shift(t.Context(), time.Hour); err != nil {
		t.Error(err)
	}
	if s := r.Status(); s.State != "off" || s.Starts != 1 {
		t.Errorf("%+v", s)
	}
	r.Switch(true)
	r.until("up again", func(s dev.Status) bool { return up(s) && s.Starts == 2 })
	if r.Admin() != "1h0m0s" {
		t.Errorf("started with the offset %s, want an hour", r.Admin())
	}
}

func TestRunnerChooses(t *testing.T) {
	t.Parallel()
	r := runNode(t, "good", nil)
	r.until("up", up)
	r.Choose("b")
	if s := r.until("the other bot", func(s dev.Status) bool { return up(s) && s.Bot == "b" }); s.Kills > 0 || s.Starts != 2 {
		t.Errorf("%+v", s)
	}
}

func TestRunnerShifts(t *testing.T) {
	t.Parallel()
	r := runNode(t, "good", nil)
	r.until("up", up)
	for _, offset := range []time.Duration{time.Minute, time.Hour, 24 * time.Hour} {
		if err := r.Shift(t.Context(), offset); err != nil || r.Offset() != offset {
			t.Errorf("shift to %s: %v, is %s", offset, err, r.Offset())
		}
	}
	deaf := runNode(t, "deaf", nil)
	deaf.until("up", up)
	if err := deaf.Shift(t.Context(), time.Minute); err == nil {
		t.Error("a node that doesn't say that its clock was put forward")
	}
}

func TestRunnerSaysWhy(t *testing.T) {
	t.Parallel()
	crash := runNode(t, "crash", nil)
	s := crash.until("several starts", func(s dev.Status) bool { return s.State == "crashed" && s.Starts >= 3 && len(s.Log) >= 2 })
	if !strings.Contains(s.Error, "exit status 7") || s.Log[0] != "it is dark" {
		t.Errorf("%+v", s)
	}
	silent := runNode(t, "silent", func(c *dev.RunnerConfig) { c.Start = 100 * time.Millisecond })
	s = silent.until("given up", func(s dev.Status) bool { return s.State == "crashed" })
	if !strings.Contains(s.Error, "node.Main") {
		t.Errorf("%+v", s)
	}
	none := runNode(t, "good", func(c *dev.RunnerConfig) { c.Program = "no-such-program" })
	none.until("not started", func(s dev.Status) bool { return s.State == "crashed" && strings.Contains(s.Error, "no-such-program") })
}

func TestRunnerKeepsTheLastLines(t *testing.T) {
	t.Parallel()
	r := runNode(t, "talk", nil)
	s := r.until("the last line", func(s dev.Status) bool { return up(s) && slices.Contains(s.Log, "line 999") })
	if len(s.Log) != 200 || s.Log[0] != "line 800" {
		t.Errorf("%d lines, from %q", len(s.Log), s.Log[0])
	}
}

// source writes files of a module, and moves their time so that a change is seen
// whatever the file system's clock is.
func source(t *testing.T, dir string, files map[string]string) {
	t.Helper()
	for name, text := range files {
		path := filepath.Join(dir, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
}

// What is built, is built again when a file of the module that goes into it changes:
// of the package, of one that it imports, or one that it embeds.
func TestBuilder(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	source(t, dir, map[string]string{
		"go.mod":              "module example.com/bot\n\ngo 1.26\n",
		"bot/main.go":         "package main\n\nimport (\n\t_ \"embed\"\n\n\t\"example.com/bot/words\"\n)\n\n//go:embed texts/hello.txt\nvar hello string\n\nfunc main() { println(hello, words.Word) }\n",
		"bot/texts/hello.txt": "hello",
		"words/words.go":      "package words\n\nconst Word = \"one\"\n",
		"other/other.go":      "package other\n",
	})
	builds := make(chan dev.Build)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	b := &dev.Builder{Package: filepath.Join(dir, "bot"), Dir: t.TempDir(), Env: append(os.Environ(), "GOFLAGS=-mod=mod", "GOWORK=off"), Poll: 5 * time.Millisecond}
	go func() { done <- b.Run(ctx, func(b dev.Build) { builds <- b }) }()
	next := func(what, wrong string) dev.Build {
		t.Helper()
		select {
		case got := <-builds:
			if !strings.Contains(got.Error, wrong) || (wrong == "") != (got.Error == "") || (wrong == "") != (got.Program != "") {
				t.Fatalf("%s: %+v", what, got)
			}
			return got
		case <-time.After(60 * time.Second):
			t.Fatalf("%s: not built", what)
		}
		return dev.Build{}
	}
	first := next("at first", "")
	source(t, dir, map[string]string{"words/words.go": "package words\n\nconst Word = \"three\"\n"})
	if second := next("a package that is imported", ""); second.Program == first.Program {
		t.Error("a program that may be running is overwritten")
	}
	source(t, dir, map[string]string{"bot/texts/hello.txt": "good morning"})
	next("a file that is embedded", "")
	source(t, dir, map[string]string{"bot/more.go": "package main\n\nfunc main() {}\n"})
	next("a file more", "main redeclared")
	source(t, dir, map[string]string{"bot/more.go": "package main\n"})
	next("mended", "")
	source(t, dir, map[string]string{"bot/main.go": "package bot\n", "bot/more.go": "package bot\n\n"})
	next("no program", "its package must be main")
	source(t, dir, map[string]string{"other/other.go": "package other // of nobody\n"})
	select {
	case got := <-builds:
		t.Errorf("built for a file that is none of it: %+v", got)
	case <-time.After(100 * time.Millisecond):
	}
	stop()
	if err := <-done; err != nil {
		t.Error(err)
	}
}
