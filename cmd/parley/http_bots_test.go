package main_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
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
			e := runIn(t, nil, "", "demo", "--json", "--doubtful-wait", "2s", "--dir", t.TempDir(), "--duration", "5s", "--rate", "40",
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

// misbehaved is a bot that answers badly, as each message says.
func misbehaved(t *testing.T) *httptest.Server {
	t.Helper()
	var endless atomic.Int64
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
		if n := endless.Load(); n > 50<<20 {
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
	for i, bad := range []string{"nonsense", "fails", "never", "100 MB"} {
		user := fmt.Sprint("u", i)
		n.tell(t, user, user+"a", bad)
		n.tell(t, user, user+"b", "next")
	}
	n.tell(t, "u9", "9", "hello")
	g.heard(t, "u9", "heard hello")
	for i := range 4 {
		g.heard(t, fmt.Sprint("u", i), "heard next")
	}
	n.drained(t)
	if dead := n.metric(t, "parley_store_dead_letters"); dead != 4 {
		t.Errorf("%d dead letters, want 4", dead)
	}
	n.stop(t)
}
