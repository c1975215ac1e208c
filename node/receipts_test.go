package node_test

import (
	"bufio"
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/node"
)

const ownApp = "555"

// posted is a message as the Graph API got it.
type posted struct {
	Path      string
	Token     string
	Recipient struct{ ID string }
	Message   struct{ Text, Metadata string }
	Text      struct{ Body string }
	Callback  string `json:"biz_opaque_callback_data"`
	ID        string // that it was given
}

// line is a node with a channel of each platform, in front of a Graph API that the
// test sees through.
type line struct {
	t   *testing.T
	cfg node.Config

	mu    sync.Mutex
	sent  []posted
	heard []string // what the bot was told, beside the messages that it answers
	// answer may do something before a message is answered, and tell what with; "":
	// the answer is lost.
	answer func(p posted, usual string) (status int, body string)
}

// startLine runs the node.
func startLine(t *testing.T, change func(*line)) *line {
	t.Helper()
	l := &line{t: t, answer: func(_ posted, usual string) (int, string) { return http.StatusOK, usual }}
	graph := httptest.NewServer(http.HandlerFunc(l.graph))
	t.Cleanup(graph.Close)
	l.cfg = page(t, graph.URL)
	app := &l.cfg.Apps[0]
	app.MetaAppID = ownApp
	for _, kind := range []string{"instagram", "whatsapp"} {
		c := app.Channels[0]
		c.Kind = kind
		app.Channels = append(app.Channels, c)
	}
	if change != nil {
		change(l)
	}
	stop, ended := run(t, l.cfg, parley.BehaviorFunc(l.bot))
	t.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	})
	return l
}

// bot answers messages with their own words, and keeps what else it is told.
func (l *line) bot(t *parley.Turn) error {
	if m, ok := t.Input().(parley.Message); ok {
		t.Say(m.Text)
		return nil
	}
	what := t.Input().Kind() + " on " + string(t.Conversation().Channel.Kind)
	if e, ok := t.Input().(parley.Echo); ok {
		what = fmt.Sprintf("%s of %q app %q phone %v: %s", what, t.Conversation().Contact, e.App, e.Phone, e.Text)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.heard = append(l.heard, what)
	return nil
}

func (l *line) graph(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	p := posted{Path: r.URL.Path, Token: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer ")}
	if err != nil || json.Unmarshal(b, &p) != nil {
		w.WriteHeader(http.StatusBadRequest)
		return
	}
	l.mu.Lock()
	p.ID = fmt.Sprint("out.", len(l.sent))
	l.sent = append(l.sent, p)
	answer := l.answer
	l.mu.Unlock()
	usual := fmt.Sprintf(`{"recipient_id":%q,"message_id":%q}`, p.Recipient.ID, p.ID)
	if p.Text.Body != "" {
		usual = fmt.Sprintf(`{"messaging_product":"whatsapp","contacts":[],"messages":[{"id":%q}]}`, p.ID)
	}
	status, body := answer(p, usual)
	if body == "" {
		panic(http.ErrAbortHandler)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, body)
}

// post posts a webhook; it wants 200.
func (l *line) post(body string) {
	l.t.Helper()
	if err := l.tryPost(body); err != nil {
		l.t.Fatal(err)
	}
}

func (l *line) tryPost(body string) error {
	mac := hmac.New(sha256.New, []byte(appSecret))
	_, _ = mac.Write([]byte(body))
	req, err := http.NewRequestWithContext(context.WithoutCancel(l.t.Context()), http.MethodPost, "http://"+l.cfg.Listen+"/webhooks/app", strings.NewReader(body))
	if err != nil {
		return err
	}
	req.Header.Set("X-Hub-Signature-256", "sha256="+hex.EncodeToString(mac.Sum(nil)))
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer func() { _ = resp.Body.Close() }()
	if resp.StatusCode != http.StatusOK {
		return fmt.Errorf("status %d", resp.StatusCode)
	}
	return nil
}

// messaging is a webhook of Messenger (object page) or Instagram.
func messaging(object, from, to, message string) string {
	return fmt.Sprintf(`{"object":%q,"entry":[{"id":"1","time":1,"messaging":[{"sender":{"id":%q},"recipient":{"id":%q},"timestamp":%d,"message":%s}]}]}`,
		object, from, to, time.Now().UnixMilli(), message)
}

// echo is an echo of a message to user ann.
func echo(object, mid, text, more string) string {
	return messaging(object, "1", "ann", fmt.Sprintf(`{"mid":%q,"is_echo":true,"text":%q%s}`, mid, text, more))
}

// whatsApp is a webhook of WhatsApp.
func whatsApp(field, value string) string {
	return fmt.Sprintf(`{"object":"whatsapp_business_account","entry":[{"id":"9","changes":[{"field":%q,"value":{"messaging_product":"whatsapp","metadata":{"phone_number_id":"1"},%s}}]}]}`, field, value)
}

// writes has ann write on each platform.
func (l *line) writes(texts map[string]string) {
	l.t.Helper()
	for object, text := range texts {
		if object == "whatsapp" {
			l.post(whatsApp("messages", fmt.Sprintf(`"messages":[{"from":"16505551234","id":"wamid.in.%s","timestamp":"1700000000","type":"text","text":{"body":%q}}]`, text, text)))
			continue
		}
		l.post(messaging(object, "ann", "1", fmt.Sprintf(`{"mid":"in.%s.%s","text":%q}`, object, text, text)))
	}
}

// metric is a counter, or a gauge, of the node, over all its labels.
func (l *line) metric(name string) (sum float64) {
	l.t.Helper()
	lines := bufio.NewScanner(strings.NewReader(l.admin("/metrics")))
	for lines.Scan() {
		rest, ok := strings.CutPrefix(lines.Text(), name)
		if !ok || rest == "" || rest[0] != ' ' && rest[0] != '{' {
			continue
		}
		v, err := strconv.ParseFloat(rest[strings.LastIndexByte(rest, ' ')+1:], 64)
		if err != nil {
			l.t.Fatal(err)
		}
		sum += v
	}
	return sum
}

func (l *line) admin(path string) string {
	l.t.Helper()
	req, err := http.NewRequestWithContext(context.WithoutCancel(l.t.Context()), http.MethodGet, "http://"+l.cfg.Admin+path, http.NoBody)
	if err != nil {
		l.t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		l.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	b, err := io.ReadAll(resp.Body)
	if err != nil || resp.StatusCode != http.StatusOK {
		l.t.Fatalf("%s: status %d, %v", path, resp.StatusCode, err)
	}
	return string(b)
}

// sends waits until the Graph API has got n messages, and returns them.
func (l *line) sends(n int) []posted {
	l.t.Helper()
	var sent []posted
	l.await(fmt.Sprint(n, " messages sent"), func() bool {
		l.mu.Lock()
		defer l.mu.Unlock()
		sent = slices.Clone(l.sent)
		return len(sent) >= n
	})
	if len(sent) > n {
		l.t.Fatalf("%d messages sent, want %d", len(sent), n)
	}
	return sent
}

func (l *line) await(what string, done func() bool) {
	l.t.Helper()
	const most = 20 * time.Second
	for began := time.Now(); !done(); {
		if time.Since(began) > most {
			l.t.Fatalf("in vain for %s: %s\nheard %q", most, what, l.told())
		}
		select {
		case <-time.After(10 * time.Millisecond):
		case <-l.t.Context().Done():
		}
	}
}

func (l *line) told() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Sorted(slices.Values(l.heard))
}

// folds waits until n receipts are folded and none is left.
func (l *line) folds(n float64) {
	l.t.Helper()
	l.await(fmt.Sprint(n, " receipts folded"), func() bool {
		return l.metric("parley_egress_receipts_folded_total") >= n && l.metric("parley_store_receipts") == 0
	})
	if got := l.metric("parley_egress_receipts_folded_total"); got != n {
		l.t.Errorf("%v receipts folded, want %v", got, n)
	}
}

func platforms(text string) map[string]string {
	return map[string]string{"page": text, "instagram": text, "whatsapp": text}
}

// What the bot sent comes back as an echo, or a status: it costs no turn, and
// nobody is told. On Instagram it comes before the answer to the send did.
func TestOwnEchoesAreReceipts(t *testing.T) {
	t.Parallel()
	l := startLine(t, func(l *line) {
		l.answer = func(p posted, usual string) (int, string) {
			if p.Text.Body == "" && p.Message.Metadata == "" {
				if err := l.tryPost(echo("instagram", p.ID, p.Message.Text, "")); err != nil {
					t.Error(err)
				}
			}
			return http.StatusOK, usual
		}
	})
	l.writes(platforms("hello"))
	for _, p := range l.sends(3) {
		switch {
		case p.Callback != "":
			l.post(whatsApp("messages", fmt.Sprintf(`"statuses":[{"id":%q,"status":"sent","timestamp":"1700000001","recipient_id":"16505551234","biz_opaque_callback_data":%q}]`, p.ID, p.Callback)))
		case p.Message.Metadata != "":
			l.post(echo("page", p.ID, "hello", fmt.Sprintf(`,"app_id":%s,"metadata":%q`, ownApp, p.Message.Metadata)))
			l.post(echo("page", "out.by.another.program", "hello", `,"app_id":`+ownApp))
		default:
			l.post(echo("instagram", p.ID, "hello", "")) // once more
		}
	}
	l.folds(5)
	if got := l.told(); len(got) > 0 {
		t.Errorf("the bot heard of %q", got)
	}
	if turns, sent := l.metric("parley_actors_turns_total"), l.sends(3); turns != 3 {
		t.Errorf("%v turns for 3 messages; sent %+v", turns, sent)
	}
}

// What others say to the contact is told to the bot, once: a person in the inbox,
// another app, the business's phone app.
func TestEchoesOfOthersAreInputs(t *testing.T) {
	t.Parallel()
	l := startLine(t, nil)
	for range 2 { // Meta delivers again
		l.post(echo("page", "m.app", "from a program", `,"app_id":263902037430900`))
		l.post(echo("page", "m.inbox", "from the inbox", ""))
		l.post(echo("instagram", "i.app", "from a program", `,"app_id":"777"`))
		l.post(echo("instagram", "i.inbox", "from the inbox", ""))
		l.post(whatsApp("smb_message_echoes", `"message_echoes":[{"from":"1","to":"16505551234","id":"wamid.phone","timestamp":"1739321024","type":"text","text":{"body":"from the phone"}}]`))
	}
	want := []string{
		`echo on instagram of "user:ann" app "" phone false: from the inbox`,
		`echo on instagram of "user:ann" app "777" phone false: from a program`,
		`echo on messenger of "user:ann" app "" phone false: from the inbox`,
		`echo on messenger of "user:ann" app "263902037430900" phone false: from a program`,
		`echo on whatsapp of "phone:16505551234" app "" phone true: from the phone`,
	}
	l.await("all echoes", func() bool { return len(l.told()) >= len(want) })
	l.await("no event left", func() bool {
		return l.metric("parley_store_pending") == 0 && l.metric("parley_store_receipts") == 0 && l.metric("parley_actors_events_total") == 10
	})
	if diff := cmp.Diff(want, l.told()); diff != "" {
		t.Errorf("-want +got:\n%s", diff)
	}
	l.sends(0)
}

// An answer that is lost is made good by the echo: the message is not sent again,
// the one behind it goes, and the wait for it isn't served to its end.
func TestEchoSettlesADoubtfulSend(t *testing.T) {
	t.Parallel()
	for _, object := range []string{"page", "instagram"} {
		t.Run(object, func(t *testing.T) {
			t.Parallel()
			l := startLine(t, func(l *line) {
				l.answer = func(p posted, usual string) (int, string) {
					if p.Message.Text == "lost" {
						return 0, ""
					}
					return http.StatusOK, usual
				}
			})
			l.writes(map[string]string{object: "lost"})
			p := l.sends(1)[0]
			l.writes(map[string]string{object: "next"})
			l.await("the message is in doubt", func() bool { return l.metric(`parley_egress_sends_total{outcome="doubt"}`) > 0 })
			more := ""
			if object == "page" {
				more = fmt.Sprintf(`,"app_id":%s,"metadata":%q`, ownApp, p.Message.Metadata)
			}
			l.post(echo(object, p.ID, "lost", more))
			if next := l.sends(2)[1]; next.Message.Text != "next" {
				t.Errorf("sent %q", next.Message.Text)
			}
			if got := l.told(); len(got) > 0 || l.metric("parley_egress_doubtful_total") > 0 {
				t.Errorf("the bot heard of %q", got)
			}
		})
	}
}

// A number's statuses, three for each of 10,000 messages, are folded without a row in
// an inbox, a conversation in memory or a turn.
func TestStatusesCostNoTurn(t *testing.T) {
	t.Parallel()
	const posts, each, statuses = 30, 1000, 30_000
	l := startLine(t, nil)
	l.writes(map[string]string{"whatsapp": "hello"})
	p := l.sends(1)[0]
	l.await("its turn", func() bool { return l.metric("parley_store_pending") == 0 && l.metric("parley_store_unsent") == 0 })
	costs := func() (all []float64) {
		for _, name := range []string{"parley_store_events_appended_total", "parley_actors_turns_total", "parley_actors_events_total", "parley_actors_loads_total"} {
			all = append(all, l.metric(name))
		}
		return all
	}
	before := costs()
	if before[1] != 1 {
		t.Fatalf("%v turns of one message", before[1])
	}
	for i := range posts {
		var body strings.Builder
		for k := i * each; k < (i+1)*each; k++ {
			id := p.ID
			if k >= 3 {
				id = fmt.Sprint("wamid.", k/3)
			}
			status := [...]string{"read", "sent", "delivered"}[k%3]
			fmt.Fprintf(&body, `,{"id":%q,"status":%q,"timestamp":"1700000001","recipient_id":"49%09d"}`, id, status, k/3)
		}
		l.post(whatsApp("messages", `"statuses":[`+body.String()[1:]+`]`))
	}
	l.folds(statuses)
	if diff := cmp.Diff(before, costs()); diff != "" {
		t.Errorf("rows appended, turns, events, loads (-before +after):\n%s", diff)
	}
	l.sends(1)
}
