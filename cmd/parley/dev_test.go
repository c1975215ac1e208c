package main_test

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parleychat/parley/examples/pizza"
	"github.com/parleychat/parley/flow/flowtest"
)

const (
	// devLimit is how long something may take that a person would wait for, on a
	// machine that has much else to do; buildLimit that for which all of Parley must be
	// compiled first.
	devLimit   = time.Minute
	buildLimit = 5 * time.Minute
)

// devStage is parley dev as its page sees it.
type devStage struct {
	t     *testing.T
	url   string
	cmd   *exec.Cmd
	limit time.Duration

	mu      sync.Mutex
	overall devOverall
	phones  map[string]devPhone
	inside  devInside
	news    chan struct{}
}

type devOverall struct {
	Node struct {
		State, Bot, Error string
		Bots, Log         []string
		Starts, Kills     int
		BuildError        string `json:"build_error"`
		Builds            int
	}
	Now      time.Time
	OffsetMS int64 `json:"offset_ms"`
	Phones   []string
	Waiting  int
}

type devPhone struct {
	ID, Name, Platform string
	Bubbles            []devBubble
}

type devBubble struct {
	ID, Status string
	Mine       bool
	Deliveries int
	Act        struct{ Text string }
	Sent       struct {
		Message struct{ Text string }
		Text    struct{ Body string }

		Interactive struct{ Body struct{ Text string } }
	}
}

// texts are what the business has said.
func (p devPhone) texts() (said []string) {
	for _, b := range p.Bubbles {
		if !b.Mine {
			said = append(said, b.Sent.Message.Text+b.Sent.Text.Body+b.Sent.Interactive.Body.Text)
		}
	}
	return said
}

type devInside struct {
	ID           string
	DeadLetters  []struct{ ID, Cause string } `json:"dead_letters"`
	Conversation struct {
		Version uint64
		State   json.RawMessage
		Timers  []struct{ Name string }
		Pending []json.RawMessage
		Outbox  []json.RawMessage
		History []json.RawMessage
	}
}

// startDev starts parley dev with flags, and opens its page.
func startDev(t *testing.T, watch string, args ...string) *devStage {
	t.Helper()
	s := &devStage{t: t, limit: devLimit, phones: map[string]devPhone{}, news: make(chan struct{}, 1)}
	s.cmd = command(context.WithoutCancel(t.Context()), t, asItself, append([]string{"dev", "--listen", "127.0.0.1:0"}, args...)...)
	said, err := s.cmd.StderrPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	lines := bufio.NewScanner(said)
	for s.url == "" && lines.Scan() {
		if at, ok := strings.CutPrefix(lines.Text(), "Chat"); ok {
			s.url = strings.TrimSpace(at)
		}
	}
	go func() { _, _ = io.Copy(io.Discard, said) }()
	s.listen(watch)
	return s
}

// stop lets it end as Ctrl-C does.
func (s *devStage) stop() {
	if s.cmd.ProcessState != nil {
		return
	}
	_ = s.cmd.Process.Signal(syscall.SIGTERM)
	if err := s.cmd.Wait(); err != nil {
		s.t.Errorf("parley dev: %v", err)
	}
}

// listen takes the news until the stream ends.
func (s *devStage) listen(watch string) {
	s.t.Helper()
	answer, err := http.Get(s.url + "/dev/events?watch=" + watch)
	if err != nil || answer.StatusCode != http.StatusOK {
		s.t.Fatalf("the stream of news: %v", err)
	}
	go func() {
		defer answer.Body.Close() //nolint:errcheck // read to its end
		event := ""
		lines := bufio.NewScanner(answer.Body)
		lines.Buffer(nil, 4<<20)
		for lines.Scan() {
			if name, ok := strings.CutPrefix(lines.Text(), "event: "); ok {
				event = name
			} else if data, ok := strings.CutPrefix(lines.Text(), "data: "); ok {
				s.take(event, []byte(data))
			}
		}
	}()
}

func (s *devStage) take(event string, data []byte) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var err error
	switch event {
	case "overall":
		s.overall = devOverall{}
		err = json.Unmarshal(data, &s.overall)
	case "phone":
		var p devPhone
		err = json.Unmarshal(data, &p)
		s.phones[p.ID] = p
	case "inside":
		s.inside = devInside{}
		err = json.Unmarshal(data, &s.inside)
	}
	if err != nil {
		s.t.Errorf("event %s: %v: %s", event, err, data)
	}
	select {
	case s.news <- struct{}{}:
	default:
	}
}

// until waits for something to be seen.
func (s *devStage) until(what string, seen func() bool) {
	s.t.Helper()
	limit := time.NewTimer(s.limit)
	defer limit.Stop()
	for {
		s.mu.Lock()
		ok := seen()
		s.mu.Unlock()
		if ok {
			return
		}
		select {
		case <-s.news:
		case <-limit.C:
			s.t.Fatalf("not seen: %s\n%s", what, s)
		}
	}
}

func (s *devStage) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return fmt.Sprintf("%+v\n%+v\n%s", s.overall, s.phones, s.inside.Conversation.History)
}

func (s *devStage) untilUp() {
	s.t.Helper()
	s.until("the node up", func() bool { return s.overall.Node.State == "up" })
}

// post gives an order, and returns the answer.
func (s *devStage) post(order, body string) (status int, answer string) {
	s.t.Helper()
	r, err := http.NewRequestWithContext(s.t.Context(), http.MethodPost, s.url+"/dev/"+order, strings.NewReader(body))
	if err != nil {
		s.t.Fatal(err)
	}
	r.Header.Set("Content-Type", "application/json")
	return s.send(r)
}

func (s *devStage) send(r *http.Request) (status int, answer string) {
	s.t.Helper()
	ctx, cancel := context.WithTimeout(r.Context(), devLimit)
	defer cancel()
	got, err := http.DefaultClient.Do(r.WithContext(ctx))
	if err != nil {
		s.t.Fatal(err)
	}
	b, err := io.ReadAll(got.Body)
	if cerr := got.Body.Close(); err != nil || cerr != nil {
		s.t.Fatal(err, cerr)
	}
	return got.StatusCode, string(b)
}

func (s *devStage) order(order, body string) {
	s.t.Helper()
	if status, answer := s.post(order, body); status > 299 {
		s.t.Fatalf("%s %s: %d %s", order, body, status, answer)
	}
}

func (s *devStage) say(id, text string) {
	s.t.Helper()
	s.order("act", fmt.Sprintf(`{"id":%q,"act":{"text":%q}}`, id, text))
}

// said waits until the business has said a number of messages, and wants the last to
// have words.
func (s *devStage) said(id string, n int, words string) {
	s.t.Helper()
	s.until(fmt.Sprintf("%d messages, the last with %q", n, words), func() bool {
		texts := s.phones[id].texts()
		return len(texts) >= n && strings.Contains(texts[n-1], words)
	})
}

// The users that are there from the beginning.
const (
	devAda  = "7000000000000001" // on Messenger
	devChen = "491500000003"     // on WhatsApp
)

// A conversation that is jumped in, delivered twice and killed: one reply for each
// message, and nothing lost.
func TestDevConversation(t *testing.T) {
	t.Parallel()
	s := startDev(t, devAda, "--bot", "pizza")
	s.untilUp()
	s.say(devAda, "hello")
	s.said(devAda, 1, "Which pizza")
	s.until("a timer", func() bool { return len(s.inside.Conversation.Timers) == 1 })
	s.order("jump", `{"seconds":1800}`)
	s.said(devAda, 2, "still hungry")
	s.until("the time on the phones", func() bool { return s.overall.OffsetMS == 1800_000 })

	s.order("troubles", `{"duplicates":true,"reorder":false,"lost_answers":false,"graph_down":false}`)
	s.order("node", `{"do":"kill"}`)
	s.say(devAda, "Salami")
	s.said(devAda, 4, "What size")
	s.say(devChen, "a small Funghi")
	s.said(devChen, 1, "Shall I order it")
	s.until("everything delivered twice", func() bool {
		i := slices.IndexFunc(s.phones[devAda].Bubbles, func(b devBubble) bool { return b.Act.Text == "Salami" })
		return s.phones[devAda].Bubbles[i].Deliveries >= 2 && s.overall.Node.Kills == 1 && s.overall.Node.Starts == 2
	})
	s.say(devAda, "large")
	s.said(devAda, 5, "Shall I order it")
	s.until("the state", func() bool {
		state := string(s.inside.Conversation.State)
		return strings.Contains(state, "Salami") && strings.Contains(state, "Large") && len(s.inside.Conversation.Pending)+len(s.inside.Conversation.Outbox) == 0
	})
	s.until("all acknowledged", func() bool { return s.overall.Waiting == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if texts := s.phones[devAda].texts(); len(texts) != 5 {
		t.Errorf("the business said %q", texts)
	}
}

// A message whose answer is lost is looked for, and not sent again.
func TestDevLostAnswers(t *testing.T) {
	t.Parallel()
	s := startDev(t, devChen)
	s.untilUp()
	s.order("troubles", `{"duplicates":false,"reorder":false,"lost_answers":true,"graph_down":false}`)
	s.say(devChen, "hello")
	s.said(devChen, 1, "Which pizza")
	s.until("it in the outbox", func() bool { return len(s.inside.Conversation.Outbox) == 1 })
	s.until("it out of the outbox", func() bool {
		return s.inside.Conversation.Version == 1 && len(s.inside.Conversation.Outbox) == 0
	})
	s.order("troubles", `{"duplicates":false,"reorder":false,"lost_answers":false,"graph_down":false}`)
	s.say(devChen, "Salami")
	s.said(devChen, 2, "What size")
	s.mu.Lock()
	defer s.mu.Unlock()
	if texts := s.phones[devChen].texts(); len(texts) != 2 {
		t.Errorf("the business said %q", texts)
	}
}

// What --dir names is gone on with: chats, states, the clock, and what was not
// delivered.
func TestDevGoesOn(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	s := startDev(t, devAda, "--dir", dir)
	s.untilUp()
	s.say(devAda, "hello")
	s.said(devAda, 1, "Which pizza")
	s.order("jump", `{"seconds":600}`)
	s.order("node", `{"do":"off"}`)
	s.until("the node off", func() bool { return s.overall.Node.State == "off" })
	s.say(devAda, "Funghi")
	s.stop()

	s = startDev(t, devAda, "--dir", dir)
	s.said(devAda, 2, "What size")
	s.until("what was", func() bool {
		return len(s.phones[devAda].Bubbles) == 4 && s.overall.OffsetMS == 600_000 && s.inside.Conversation.Version == 2
	})
	s.order("jump", `{"seconds":1795}`)
	s.order("jump", `{"seconds":10}`)
	s.said(devAda, 3, "still hungry")
}

// The page gives orders, and nobody else.
func TestDevIsForItsPage(t *testing.T) {
	t.Parallel()
	s := startDev(t, devAda)
	host := strings.TrimPrefix(s.url, "http://")
	for name, row := range map[string]struct {
		method, path, host string
		header             map[string]string
		body               string
		status             int
	}{
		"Page":          {"GET", "/", host, nil, "", 200},
		"Localhost":     {"GET", "/", "localhost:1", nil, "", 200},
		"Rebound":       {"GET", "/", "evil.example:8700", nil, "", 403},
		"ReboundEvents": {"GET", "/dev/events", "evil.example", nil, "", 403},
		"ReboundAPI":    {"GET", "/api/cluster/members", "evil.example", nil, "", 403},
		"Own":           {"POST", "/dev/look", host, map[string]string{"Origin": s.url}, `{"id":"` + devAda + `"}`, 204},
		"Foreign":       {"POST", "/dev/node", host, map[string]string{"Origin": "http://evil.example"}, `{"do":"kill"}`, 403},
		"ForeignNull":   {"POST", "/dev/node", host, map[string]string{"Origin": "null"}, `{"do":"kill"}`, 403},
		"ForeignPort":   {"POST", "/dev/node", host, map[string]string{"Origin": "http://127.0.0.1:1"}, `{"do":"kill"}`, 403},
		"ForeignImage":  {"GET", "/dev/media/a.png", host, map[string]string{"Sec-Fetch-Site": "cross-site"}, "", 403},
		"Form":          {"POST", "/dev/node", host, map[string]string{"Content-Type": "text/plain"}, `{"do":"kill"}`, 415},
		"NoJSON":        {"POST", "/dev/node", host, nil, `do=kill`, 400},
		"Unknown":       {"POST", "/dev/node", host, nil, `{"do":"kill","now":true}`, 400},
		"Large":         {"POST", "/dev/act", host, nil, `{"id":"` + strings.Repeat("1", 70_000) + `"}`, 400},
		"Nobody":        {"POST", "/dev/act", host, nil, `{"id":"1","act":{"text":"x"}}`, 404},
		"Nothing":       {"POST", "/dev/act", host, nil, `{"id":"` + devAda + `","act":{}}`, 422},
		"Back":          {"POST", "/dev/jump", host, nil, `{"seconds":-1}`, 422},
		"Far":           {"POST", "/dev/jump", host, nil, `{"seconds":1e300}`, 422},
		"Get":           {"GET", "/dev/node", host, nil, "", 404},
		"NotThere":      {"GET", "/dev/none", host, nil, "", 404},
		"Picture":       {"GET", "/dev/media/a.png", host, nil, "", 200},
		"Disk":          {"GET", "/dev/media/..%2f..%2fphones.json", host, nil, "", 404},
	} {
		r, err := http.NewRequestWithContext(t.Context(), row.method, s.url+row.path, strings.NewReader(row.body))
		if err != nil {
			t.Fatal(err)
		}
		r.Host = row.host
		r.Header.Set("Content-Type", "application/json")
		for k, v := range row.header {
			r.Header.Set(k, v)
		}
		if status, answer := s.send(r); status != row.status {
			t.Errorf("%s: status %d, want %d: %s", name, status, row.status, answer)
		}
	}
	s.untilUp()
	s.until("never killed", func() bool { return s.overall.Node.Kills == 0 })
	r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/api/cluster/members", nil)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := s.send(r); status != 200 || !strings.Contains(answer, `"members":[{`) {
		t.Errorf("the admin API: status %d: %s", status, answer)
	}
}

func TestDevRefuses(t *testing.T) {
	t.Parallel()
	run(t, "", "dev", "--listen", "0.0.0.0:0").want(t, 1, "--expose", "loopback")
	run(t, "", "dev", "--listen", "nowhere").want(t, 1, "listen")
	run(t, "", "dev", "--bot", "barista").want(t, 1, "barista", "greeter")
	run(t, "", "dev", "./no-such-folder").want(t, 2, "no-such-folder")
	help := run(t, "", "dev", "--help")
	help.want(t, 0)
	for _, words := range []string{"parley dev ./mybot", "node.Main", "--dir"} {
		if !strings.Contains(help.out, words) {
			t.Errorf("help lacks %q:\n%s", words, help.out)
		}
	}
}

// A node that serves real users can't be told another time: nothing of the command
// that runs it listens to that.
func TestServeTakesNoOrders(t *testing.T) {
	t.Parallel()
	run(t, "", "serve", "--offset", "1h").want(t, 2, "unknown flag --offset")
	run(t, "", "dev-node").want(t, 2, "--config")
}

const botSource = `// Command mybot is a test's.
package main

import (
	"errors"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

type memory struct{ Heard int }

func main() {
	node.Main(parley.Bot{Name: "mybot", Version: 1, Behavior: parley.Stateful(answer)})
}

func answer(t *parley.Turn, m *memory) error {
	if in, ok := t.Input().(parley.Message); ok {
		if in.Text == "boom" {
			return errors.New("a bug")
		}
		m.Heard++
		t.Say(greeting(m.Heard) + in.Text)
	}
	return nil
}
`

// greetingSource is the file of the bot that is edited.
func greetingSource(word string) string {
	return "package main\n\nimport \"strconv\"\n\nfunc greeting(n int) string { return " + word + " + strconv.Itoa(n) + \" \" }\n"
}

// writeBot makes a module of a developer's own, of which a bot is a part.
func writeBot(t *testing.T) (dir, greeting string) {
	t.Helper()
	_, here, _, _ := runtime.Caller(0)
	root := filepath.Join(filepath.Dir(here), "..", "..")
	dir = t.TempDir()
	mod, err := os.ReadFile(filepath.Join(root, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	mod = regexp.MustCompile(`(?m)^module .*$`).ReplaceAll(mod, []byte("module example.com/mybot\n\nrequire github.com/parleychat/parley v0.0.0\n\nreplace github.com/parleychat/parley => "+root))
	sum, err := os.ReadFile(filepath.Join(root, "go.sum"))
	if err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "go.mod"), string(mod))
	write(t, filepath.Join(dir, "go.sum"), string(sum))
	write(t, filepath.Join(dir, "main.go"), botSource)
	greeting = filepath.Join(dir, "greeting.go")
	write(t, greeting, greetingSource(`"first "`))
	return dir, greeting
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
}

// A developer's bot is built, and built again when its source is edited: the old
// conversation goes on with the new words. What doesn't build is shown, and the one
// before goes on.
func TestDevBuildsABot(t *testing.T) {
	t.Parallel()
	if testing.Short() {
		t.Skip("it builds")
	}
	dir, greeting := writeBot(t)
	s := startDev(t, devAda, dir)
	s.limit = buildLimit
	s.untilUp()
	s.say(devAda, "a")
	s.said(devAda, 1, "first 1 a")

	write(t, greeting, greetingSource(`"second " +`))
	s.until("the compiler's words", func() bool { return strings.Contains(s.overall.Node.BuildError, "greeting.go") })
	s.say(devAda, "b")
	s.said(devAda, 2, "first 2 b")

	write(t, greeting, greetingSource(`"second "`))
	s.until("the build", func() bool { return s.overall.Node.BuildError == "" && s.overall.Node.Builds >= 3 })
	s.until("the new program", func() bool { return s.overall.Node.State == "up" && s.overall.Node.Starts == 2 })
	s.say(devAda, "c")
	s.said(devAda, 3, "second 3 c")
	s.say(devAda, "boom")
	s.until("a dead letter", func() bool {
		return len(s.inside.DeadLetters) == 1 && strings.Contains(s.inside.DeadLetters[0].Cause, "a bug")
	})
	s.mu.Lock()
	letter := s.inside.DeadLetters[0].ID
	s.mu.Unlock()
	r, err := http.NewRequestWithContext(t.Context(), http.MethodDelete, s.url+"/api/deadletters/"+letter, http.NoBody)
	if err != nil {
		t.Fatal(err)
	}
	if status, answer := s.send(r); status != http.StatusNoContent {
		t.Errorf("drop a dead letter: %d %s", status, answer)
	}
	s.until("no dead letter", func() bool { return len(s.inside.DeadLetters) == 0 })
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.overall.Node.Bot != "mybot" || !slices.Equal(s.overall.Node.Bots, []string{"mybot"}) || s.overall.Node.Kills > 0 {
		t.Errorf("%+v", s.overall.Node)
	}
	var state struct{ Heard int }
	if err := json.NewDecoder(bytes.NewReader(s.inside.Conversation.State)).Decode(&state); err != nil || state.Heard < 2 {
		t.Errorf("state %s: %v", s.inside.Conversation.State, err)
	}
}

// A chat is saved as a transcript, which a test of the bot may play: what the user did,
// the time between, and what the bot says to it.
func TestDevTranscript(t *testing.T) {
	t.Parallel()
	s := startDev(t, devChen, "--bot", "pizza")
	s.untilUp()
	get := func(id string) (status int, text string) {
		t.Helper()
		r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, s.url+"/dev/transcript?id="+id, http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		return s.send(r)
	}
	if status, answer := get(devChen); status != http.StatusUnprocessableEntity || !strings.Contains(answer, "nothing has been said") {
		t.Errorf("of nothing: %d %s", status, answer)
	}
	if status, _ := get("1"); status != http.StatusNotFound {
		t.Errorf("of nobody: %d", status)
	}
	s.order("troubles", `{"duplicates":true,"reorder":false,"lost_answers":false,"graph_down":false}`)
	s.say(devChen, "hello")
	s.said(devChen, 1, "Which pizza")
	s.order("jump", `{"seconds":1800}`)
	s.said(devChen, 3, "Which pizza")
	s.order("act", `{"id":"`+devChen+`","act":{"text":"Funghi","payload":"Funghi","tap":"quick_reply"}}`)
	s.said(devChen, 4, "What size")
	s.until("everything delivered twice", func() bool { // in turns of their own, or in one with what came beside them
		return strings.Count(fmt.Sprintf("%s", s.inside.Conversation.History), `"not":"repeated"`) >= 2
	})
	status, text := get(devChen)
	lines := strings.Split(strings.TrimSpace(strings.ReplaceAll(text, "=Funghi", "")), "\n") // the payload is the title
	at := slices.IndexFunc(lines, func(l string) bool { return strings.HasPrefix(l, "at ") })
	waits := 0
	lines = slices.DeleteFunc(lines, func(l string) bool {
		if strings.HasPrefix(l, "wait ") {
			waits++
		}
		return strings.HasPrefix(l, "at ") || strings.HasPrefix(l, "wait ") || strings.HasPrefix(l, "(after ")
	})
	want := []string{
		"platform whatsapp",
		"chen: hello",
		"bot: Which pizza would you like? [Margherita] [Salami] [Funghi]",
		"bot: Are you still hungry? Your order is not finished.",
		"bot: Which pizza would you like? [Margherita] [Salami] [Funghi]",
		"chen: [Funghi]",
		"bot: One Funghi. What size? [Small] [Medium] [Large]",
	}
	if status != http.StatusOK || at != 1 || waits == 0 || !slices.Equal(lines, want) {
		t.Errorf("status %d, at line %d, %d waits:\n%s", status, at, waits, text)
	}
	path := filepath.Join(t.TempDir(), "chen.txt")
	write(t, path, text)
	flowtest.Run(t, pizza.Bot(), path)
}

// What a bot calls is called where a configuration says, and the answer comes back.
func TestDevCallsServices(t *testing.T) {
	t.Parallel()
	service := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path != "/v1/answers" || r.Header.Get("X-Key") != "open sesame" {
			http.Error(w, "not you", http.StatusForbidden)
			return
		}
		_, _ = io.WriteString(w, `{"text":"At nine."}`)
	}))
	t.Cleanup(service.Close)
	dir := t.TempDir()
	write(t, filepath.Join(dir, "key"), "open sesame")
	write(t, filepath.Join(dir, "services.yaml"), "services:\n  - name: model\n    url: "+service.URL+"/v1\n    headers:\n      X-Key: file:key\n")
	s := startDev(t, devAda, "--bot", "concierge", "--services", filepath.Join(dir, "services.yaml"))
	s.untilUp()
	s.say(devAda, "When do you open?")
	s.said(devAda, 1, "At nine.")
}
