package main_test

import (
	"bufio"
	"bytes"
	"compress/gzip"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

const botSecret = "the-secret-of-the-bot-over-http"

// overHTTP starts an example, and is its URL.
func overHTTP(t *testing.T, program string, args ...string) string {
	t.Helper()
	if _, err := exec.LookPath(program); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("%s isn't installed, so its example can't be run", program)
		}
		t.Skipf("SKIPPED, NOT TESTED: %s isn't installed", program)
	}
	cmd := exec.CommandContext(t.Context(), program, args...)
	cmd.Env = append(os.Environ(), "PORT=0", "PARLEY_BOT_SECRET="+botSecret)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // it was killed
	})
	line, err := bufio.NewReader(out).ReadString('\n')
	url, ok := strings.CutPrefix(strings.TrimSpace(line), "listening on ")
	if err != nil || !ok {
		t.Fatalf("%s says %q, %v", program, line, err)
	}
	return url
}

// Every promise holds for bots in other languages, also when the node is killed.
func TestDemoOfBotsOverHTTP(t *testing.T) {
	t.Parallel()
	for program, file := range map[string]string{
		"node": "../../examples/http/node/server.mjs", "python3": "../../examples/http/python/server.py",
	} {
		t.Run(program, func(t *testing.T) {
			t.Parallel()
			url := overHTTP(t, program, file)
			refusesForged(t, url)
			secret := newHouse(t).write(t, "bot", botSecret)
			e := runIn(t, nil, "", "demo", "--json", "--ack-median", besideOthers, "--doubtful-wait", "2s", "--dir", t.TempDir(), "--duration", "5s", "--rate", "40",
				"--kill", "3", "--bot-url", url, "--bot-secret", "file:"+secret)
			e.want(t, 0)
			var r demoReport
			if err := json.Unmarshal([]byte(e.out), &r); err != nil {
				t.Fatalf("the report: %v\n%s", err, e.out)
			}
			if *r.Kills != 3 || *r.Effects == 0 || *r.Effects != *r.Acked {
				t.Errorf("%d kills, %d effects of %d acknowledged", *r.Kills, *r.Effects, *r.Acked)
			}
			t.Logf("%d effects, %.0f µs of the node's CPU each", *r.Effects, *r.CPUPerTurn)
		})
	}
}

// A bot over HTTP is chatted with in parley dev: those of the README and in Python.
func TestDevOfBotsOverHTTP(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct{ program, file, first, second string }{
		"Python": {"python3", "../../examples/http/python/server.py", "said 1 #1", "said 2 #2"},
		"README": {"node", fromREADME(t), "That was number 1: say 1", "That was number 2: say 2"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			url := overHTTP(t, c.program, c.file)
			s := startDev(t, devChen, "--bot-url", url, "--bot-secret", "file:"+newHouse(t).write(t, "bot", botSecret))
			s.untilUp()
			s.say(devChen, "say 1")
			s.said(devChen, 1, c.first)
			s.say(devChen, "say 2")
			s.said(devChen, 2, c.second)
		})
	}
	run(t, "", "dev", "--bot-url", "http://127.0.0.1:1/", "--bot", "pizza").want(t, 1, "--bot-url", "--bot")
	run(t, "", "dev", "--bot-url", "http://127.0.0.1:1/", "--bot-secret", "letmein").want(t, 1, "--bot-secret", "env:")
}

// What doesn't go with a bot over HTTP is a mistake of the command line.
func TestDemoOfBotsOverHTTPFlags(t *testing.T) {
	t.Parallel()
	over := []string{"demo", "--bot-url", "http://127.0.0.1:1/", "--store", "postgres"}
	for want, args := range map[string][]string{
		"--bot-secret":        over,
		"--upgrade-bot":       append(slices.Clip(over), "--bot-secret", "env:X", "--upgrade-bot"),
		"--partition":         append(slices.Clip(over), "--bot-secret", "env:X", "--nodes", "3", "--partition", "1"),
		"env:NAME":            append(slices.Clip(over), "--bot-secret", "letmein"),
		"goes with --bot-url": {"demo", "--bot-secret", "env:X"},
		"want https://host":   {"demo", "--bot-url", "bot", "--bot-secret", "env:X"},
	} {
		run(t, "", args...).want(t, 2, want)
	}
}

// A bot over HTTP is one that parley bot check knows, from the configuration.
func TestBotCheckOfABotOverHTTP(t *testing.T) {
	t.Parallel()
	g, h := newGraph(t), newHouse(t)
	h.write(t, "bot", botSecret)
	bot := map[string]any{"name": "shop", "url": misbehaved(t).URL, "secret": "file:bot", "allow_private": true}
	n := h.start(t, asItself, configured(g.URL, channel("messenger", pageID, "shop")).with("http_bots", []any{bot}))
	n.tell(t, "u1", "a", "hello")
	g.heard(t, "u1", "heard hello")
	n.drained(t)
	n.stop(t)
	config := filepath.Join(h.dir, "parley.yaml")
	for _, args := range [][]string{nil, {"--bot", "shop"}} {
		e := run(t, "", append([]string{"bot", "check", "-c", config}, args...)...)
		e.want(t, 0)
		if words := strings.Join(strings.Fields(e.out), " "); !strings.Contains(words, "bot shop version 1 version 1 1, which is the bot's") {
			t.Errorf("it tells:\n%s", e.out)
		}
	}
	run(t, "", "bot", "check", "-c", config, "--bot", "shoe").want(t, 1, "shop", "--config")
}

// block is the README's first one of a language.
func block(t *testing.T, language string) string {
	t.Helper()
	text, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, from, ok := strings.Cut(string(text), "```"+language+"\n")
	code, _, closed := strings.Cut(from, "```")
	if !ok || !closed {
		t.Fatalf("the README has no %s", language)
	}
	return code
}

// fromREADME writes the README's bot in JavaScript to a file, with a port that it tells.
func fromREADME(t *testing.T) string {
	t.Helper()
	const listens = `.listen(8070, "127.0.0.1");`
	code := block(t, "js")
	if !strings.Contains(code, listens) {
		t.Fatalf("it doesn't listen as this test knows it:\n%s", code)
	}
	code = strings.Replace(code, listens, `.listen(0, "127.0.0.1", function () { console.log("listening on http://127.0.0.1:" + this.address().port) });`, 1)
	file := filepath.Join(t.TempDir(), "mybot.mjs")
	if err := os.WriteFile(file, []byte(code), 0o600); err != nil {
		t.Fatal(err)
	}
	return file
}

// The README's bot in Go is a program.
func TestREADMEBot(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	file := filepath.Join(dir, "main.go")
	if err := os.WriteFile(file, []byte(block(t, "go")), 0o600); err != nil {
		t.Fatal(err)
	}
	out, err := exec.CommandContext(t.Context(), "go", "build", "-o", filepath.Join(dir, "mybot"), file).CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
}

// refusesForged: who doesn't know the secret isn't answered.
func refusesForged(t *testing.T, url string) {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, url, strings.NewReader(`{}`))
	if err != nil {
		t.Fatal(err)
	}
	r.Header.Set("X-Parley-Timestamp", fmt.Sprint(time.Now().Unix()))
	r.Header.Set("X-Parley-Signature", "sha256="+strings.Repeat("0", 64))
	answer, err := http.DefaultClient.Do(r)
	if err != nil {
		t.Fatal(err)
	}
	_ = answer.Body.Close()
	if answer.StatusCode != http.StatusUnauthorized {
		t.Errorf("a forged request is answered with %d", answer.StatusCode)
	}
}

// peak is the most memory that the node's process has had, in bytes; where the system
// doesn't tell, what it has.
func (n *instance) peak(t *testing.T) int {
	t.Helper()
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", n.cmd.Process.Pid))
	if err != nil {
		return n.metric(t, "process_resident_memory_bytes")
	}
	_, after, _ := strings.Cut(string(status), "VmHWM:")
	var kib int
	if _, err := fmt.Sscan(after, &kib); err != nil {
		t.Fatalf("%v in %s", err, status)
	}
	return kib << 10
}

// zipped is 100 MB of nothing, compressed to 100 kB.
func zipped(t *testing.T) []byte {
	t.Helper()
	var b bytes.Buffer
	z := gzip.NewWriter(&b)
	for range 100 {
		if _, err := z.Write(make([]byte, 1<<20)); err != nil {
			t.Fatal(err)
		}
	}
	if err := z.Close(); err != nil {
		t.Fatal(err)
	}
	return b.Bytes()
}

// misbehaved is a bot that answers badly, as each message says.
func misbehaved(t *testing.T) *httptest.Server {
	t.Helper()
	var endless atomic.Int64
	bomb := zipped(t)
	s := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		var asked struct {
			Input struct{ Input struct{ Text string } }
		}
		if err := json.NewDecoder(r.Body).Decode(&asked); err != nil {
			w.WriteHeader(http.StatusBadRequest)
			return
		}
		switch text := asked.Input.Input.Text; text {
		case "nonsense":
			_, _ = io.WriteString(w, "<html>")
		case "fails":
			w.WriteHeader(http.StatusInternalServerError)
		case "never":
			<-r.Context().Done()
		case "trickles":
			for range 100 { // a byte now and then, until Parley hangs up
				if _, err := io.WriteString(w, " "); err != nil {
					return
				}
				_ = http.NewResponseController(w).Flush() // the next write tells
				select {
				case <-r.Context().Done():
					return
				case <-time.After(50 * time.Millisecond):
				}
			}
		case "bomb":
			w.Header().Set("Content-Encoding", "gzip")
			_, _ = w.Write(bomb)
		case "100 MB":
			for range 100 { // until Parley hangs up
				n, err := w.Write([]byte(strings.Repeat("x", 1<<20)))
				if endless.Add(int64(n)); err != nil {
					return
				}
			}
		default:
			_, _ = fmt.Fprintf(w, `{"effects":[{"effect":"send","value":{"text":"heard %s"}}]}`, text)
		}
	}))
	t.Cleanup(func() {
		s.CloseClientConnections()
		s.Close()
		if n := endless.Load(); n > 500<<20 {
			t.Errorf("%d bytes of an endless answer were taken", n)
		}
	})
	return s
}

// A bot that answers badly gets its event again, and then that is a dead letter; what
// came behind it goes on, and nobody else waits for it.
func TestBotOverHTTPThatMisbehaves(t *testing.T) {
	t.Parallel()
	g := newGraph(t)
	s := misbehaved(t)
	h := newHouse(t)
	h.write(t, "bot", botSecret)
	bot := map[string]any{
		"name": "shop", "url": s.URL, "secret": "file:bot", "allow_private": true, "timeout": "500ms", "attempts": 2, "breaker": map[string]any{"failures": 100},
	}
	cfg := configured(g.URL, channel("messenger", pageID, "shop")).with("http_bots", []any{bot})
	n := h.start(t, asFateful, cfg)
	before := n.peak(t)
	bads := []string{"nonsense", "fails", "never", "trickles", "bomb"}
	for range 10 {
		bads = append(bads, "100 MB")
	}
	for i, bad := range bads {
		user := fmt.Sprint("u", i)
		n.tell(t, user, user+"a", bad)
		n.tell(t, user, user+"b", "next")
	}
	n.tell(t, "other", "o", "hello")
	g.heard(t, "other", "heard hello")
	for i := range bads {
		g.heard(t, fmt.Sprint("u", i), "heard next")
	}
	n.drained(t)
	if dead := n.metric(t, "parley_store_dead_letters"); dead != len(bads) {
		t.Errorf("%d dead letters, want %d", dead, len(bads))
	}
	if grown := n.peak(t) - before; grown > 100<<20 {
		t.Errorf("the node took %d MB more while ten answers of 100 MB came", grown>>20)
	} else {
		t.Logf("the node took %d MB more at most, at %d MB", grown>>20, before>>20)
	}
	n.stop(t)
}
