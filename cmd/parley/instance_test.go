package main_test

import (
	"bufio"
	"bytes"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"io"
	"maps"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

const (
	appName   = "shop"
	appSecret = "5a7e1c0ffee5a7e1c0ffee5a7e1c0ffe"
	pageID    = "1101"
	pageToken = "EAAG-a-token-of-the-page"
	patience  = 60 * time.Second // for whatever a node must do sooner or later
)

// configuration is a node's, in the words of its file. Every form of JSON is
// one of YAML.
type configuration map[string]any

// channel is a channel in the configuration's words.
func channel(kind, id, bot string) map[string]any {
	c := map[string]any{"brand": "acme", "kind": kind, "id": id, "token": "file:token"}
	if bot != "" {
		c["bot"] = bot
	}
	return c
}

// configured is a configuration for the app and its channels.
func configured(graphURL string, channels ...map[string]any) configuration {
	return configuration{
		"listen": "127.0.0.1:0", "admin": "127.0.0.1:0", "data": "", "doubtful_wait": "2s", "reserve_bytes": 1 << 20,
		"graph": map[string]any{"url": graphURL},
		"apps": []any{map[string]any{
			"name": appName, "meta_app_id": "9001", "secrets": []string{"file:secret"}, "verify_tokens": []string{"file:verify"},
			"channels": channels,
		}},
	}
}

// with is c with one key changed.
func (c configuration) with(key string, value any) configuration {
	next := maps.Clone(c)
	next[key] = value
	return next
}

// house is the folder of a node: configuration, secrets, data.
type house struct {
	dir     string
	within  []string // the words of a command that runs its processes
	program string   // if it isn't this one
}

func newHouse(t *testing.T) house {
	t.Helper()
	h := house{dir: t.TempDir()}
	for name, secret := range map[string]string{"secret": appSecret, "verify": "verify-me", "token": pageToken} {
		h.write(t, name, secret)
	}
	return h
}

func lookPath(t *testing.T, program string) string {
	t.Helper()
	path, err := exec.LookPath(program)
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// copy copies files of another house.
func (h house) copy(t *testing.T, from house, names ...string) {
	t.Helper()
	for _, name := range names {
		b, err := os.ReadFile(filepath.Join(from.dir, name))
		if err != nil {
			t.Fatal(err)
		}
		h.write(t, name, string(b))
	}
}

func (h house) data() string { return filepath.Join(h.dir, "data") }

func (h house) write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(h.dir, name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func (h house) configure(t *testing.T, c configuration) string {
	t.Helper()
	if c["data"] == "" {
		c = c.with("data", h.data())
	}
	b, err := json.Marshal(c)
	if err != nil {
		t.Fatal(err)
	}
	return h.write(t, "parley.yaml", string(b))
}

// instance is a process that serves.
type instance struct {
	cmd   *exec.Cmd
	ended chan struct{} // closed when the process is gone and its log is whole

	mu       sync.Mutex
	log      bytes.Buffer
	served   int // how often it began to serve: more than once if it replaced itself
	webhooks string
	admin    string
}

// launch starts a process, which may die at any time.
func (h house) launch(t *testing.T, as string, c configuration) *instance {
	t.Helper()
	cmd := command(context.WithoutCancel(t.Context()), t, as, "serve", "--log-format", "json", "--config", h.configure(t, c))
	if len(h.within) > 0 {
		cmd.Args = append(slices.Clone(h.within), append([]string{cmd.Path}, cmd.Args[1:]...)...)
		cmd.Path = lookPath(t, h.within[0])
	}
	if h.program != "" {
		cmd.Path = h.program
	}
	errs, err := cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	n := &instance{cmd: cmd, ended: make(chan struct{})}
	go func() {
		defer close(n.ended)
		n.follow(errs)
		_ = cmd.Wait() // ProcessState tells
	}()
	t.Cleanup(func() {
		n.kill()
		if t.Failed() {
			t.Logf("log of process %d:\n%s", cmd.Process.Pid, n.logged())
		}
	})
	return n
}

// start starts a process and returns when it serves.
func (h house) start(t *testing.T, as string, c configuration) *instance {
	t.Helper()
	n := h.launch(t, as, c)
	n.serving(t, 1)
	return n
}

// serving waits until the process has begun to serve for so many times.
func (n *instance) serving(t *testing.T, times int) {
	t.Helper()
	await(t, "the node serves", func() bool {
		n.mu.Lock()
		defer n.mu.Unlock()
		select {
		case <-n.ended:
			t.Fatalf("the node ended with %d instead of serving:\n%s", n.cmd.ProcessState.ExitCode(), n.log.String())
		default:
		}
		return n.served >= times
	})
}

func (n *instance) follow(r io.Reader) {
	lines := bufio.NewReader(r)
	for {
		line, err := lines.ReadBytes('\n')
		n.note(line)
		if err != nil {
			return
		}
	}
}

func (n *instance) note(line []byte) {
	n.mu.Lock()
	defer n.mu.Unlock()
	if n.log.Len() < 1<<20 {
		n.log.Write(line)
	}
	var said struct{ Msg, Webhooks, Admin string }
	if json.Unmarshal(line, &said) == nil && said.Msg == "serving" {
		n.webhooks, n.admin = "http://"+said.Webhooks, "http://"+said.Admin
		n.served++
	}
}

func (n *instance) logged() string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.log.String()
}

func (n *instance) addresses() (webhooks, admin string) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.webhooks, n.admin
}

// kill is kill -9, and waits for the end.
func (n *instance) kill() {
	_ = n.cmd.Process.Kill() // it may be gone already
	<-n.ended
}

func (n *instance) terminate(t *testing.T) {
	t.Helper()
	if err := n.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
}

// left waits for the end of the process and returns its exit code.
func (n *instance) left(t *testing.T) int {
	t.Helper()
	select {
	case <-n.ended:
	case <-time.After(patience):
		t.Fatal("the node did not end")
	}
	return n.cmd.ProcessState.ExitCode()
}

// stop drains the node.
func (n *instance) stop(t *testing.T) {
	t.Helper()
	n.terminate(t)
	if code := n.left(t); code != 0 {
		t.Errorf("drained with exit code %d", code)
	}
}

func sign(body []byte) string {
	m := hmac.New(sha256.New, []byte(appSecret))
	_, _ = m.Write(body) // a hash never fails
	return "sha256=" + hex.EncodeToString(m.Sum(nil))
}

// answer is what a request was answered; no status: it was not.
type answer struct {
	status     int
	retryAfter string
}

func (n *instance) post(t *testing.T, body []byte) answer {
	t.Helper()
	to, _ := n.addresses()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodPost, to+"/webhooks/"+appName, bytes.NewReader(body))
	if err != nil {
		t.Error(err)
		return answer{}
	}
	req.Header.Set("X-Hub-Signature-256", sign(body))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return answer{}
	}
	_, _ = io.Copy(io.Discard, resp.Body) // only the status counts
	_ = resp.Body.Close()
	return answer{status: resp.StatusCode, retryAfter: resp.Header.Get("Retry-After")}
}

// tell posts a message of a user to the Page, which must be acknowledged.
func (n *instance) tell(t *testing.T, user, id, text string) {
	t.Helper()
	if a := n.post(t, message(user, id, text)); a.status != http.StatusOK {
		t.Fatalf("message %s: status %d", id, a.status)
	}
}

// message is a webhook with one message to the Page.
func message(user, id, text string) []byte {
	b, err := json.Marshal(map[string]any{"object": "page", "entry": []any{map[string]any{
		"id": pageID, "time": 1753000000000, "messaging": []any{map[string]any{
			"sender": map[string]any{"id": user}, "recipient": map[string]any{"id": pageID},
			"timestamp": 1753000000000, "message": map[string]any{"mid": "m_" + id, "text": text},
		}},
	}}})
	if err != nil {
		panic(err) // not possible for strings
	}
	return b
}

// look gets a page of the admin listener; no status: nobody answered.
func (n *instance) look(t *testing.T, path string) (status int, text string) {
	t.Helper()
	_, admin := n.addresses()
	req, err := http.NewRequestWithContext(t.Context(), http.MethodGet, admin+path, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return 0, ""
	}
	b, err := io.ReadAll(resp.Body)
	if err := resp.Body.Close(); err != nil {
		return 0, ""
	}
	if err != nil {
		return 0, ""
	}
	return resp.StatusCode, string(b)
}

// metric sums the series of a metric whose labels hold each of the given ones,
// written as in name="value".
func (n *instance) metric(t *testing.T, name string, labels ...string) int {
	t.Helper()
	_, text := n.look(t, "/metrics")
	return sum(t, text, name, labels...)
}

func sum(t *testing.T, text, name string, labels ...string) int {
	t.Helper()
	found, total := false, 0.0
	for line := range strings.Lines(text) {
		series, value, _ := strings.Cut(strings.TrimSpace(line), " ")
		if i := strings.LastIndex(line, "} "); i >= 0 { // a label's value may hold a space
			series, value = line[:i+1], strings.TrimSpace(line[i+2:])
		}
		metric, rest, _ := strings.Cut(series, "{")
		if metric != name || !holds(rest, labels) {
			continue
		}
		v, err := strconv.ParseFloat(value, 64)
		if err != nil {
			t.Fatalf("metric %s: %v", series, err)
		}
		found, total = true, total+v
	}
	if !found && text != "" {
		t.Fatalf("there is no metric %s %v", name, labels)
	}
	return int(total)
}

func holds(series string, labels []string) bool {
	for _, l := range labels {
		if !strings.Contains(series, l) {
			return false
		}
	}
	return true
}

// drained waits until nothing waits in the store.
func (n *instance) drained(t *testing.T) {
	t.Helper()
	await(t, "nothing is pending", func() bool { return n.quiet(t) })
}

func (n *instance) quiet(t *testing.T) bool {
	t.Helper()
	status, text := n.look(t, "/metrics")
	return status == http.StatusOK && sum(t, text, "parley_store_pending") == 0 &&
		sum(t, text, "parley_store_receipts") == 0 && sum(t, text, "parley_store_unsent") == 0
}

// await waits for a condition that must come true.
func await(t *testing.T, what string, ok func() bool) {
	t.Helper()
	awaitFor(t, patience, what, ok)
}

func awaitFor(t *testing.T, d time.Duration, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(d); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) || t.Context().Err() != nil {
			t.Fatalf("waited %s in vain until %s", d, what)
		}
	}
}
