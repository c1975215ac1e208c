package egress_test

import (
	"cmp"
	"context"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"io"
	"math"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/meta"
	"github.com/parleychat/parley/persistence/memory"
)

// stage is the way of a message there and back, of the parts that the product is
// made of: a webhook's body is decoded and appended, a bot takes its turn, a Sender
// hands the answer over through a Gate and a meta.Client, and what Meta reports of
// it comes back as a webhook. Time is virtual and all of it happens on the test's
// goroutine; only Meta is played, behind a real connection.
type stage struct {
	t       *testing.T
	now     time.Duration
	store   *memory.Store
	clerk   egress.Clerk
	gate    egress.Gate
	policy  egress.Policy
	senders []*performer
	born    int      // of senders
	away    []flight // answers on their way back
	queue   []queued
	latency time.Duration // of an answer
	folding time.Duration // that a fold takes
	bot     parley.Bot
	heard   []parley.Input // by the bot
	yields  bool           // the bot, to whoever else speaks
	turns   uint64
	ids     int // of what Meta reports
	tokens  map[parley.Channel]string

	mu       sync.Mutex // Meta answers on goroutines of its own
	metaTime time.Duration
	asked    []request
	answer   func(request) reply
}

// performer is a Sender and its channel.
type performer struct {
	*egress.Sender
	channel parley.Channel
}

// slowly folds receipts in the stage's store, which takes time.
type slowly struct{ *stage }

func (s slowly) Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error) {
	f, err := s.store.Fold(ctx, l, limit)
	if f.Receipts > 0 {
		s.now += s.folding
	}
	return f, err
}

func (s slowly) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	return s.store.Append(ctx, a)
}

// flight is an answer that arrives at a time.
type flight struct {
	to *performer
	at time.Duration
	a  egress.Answer
}

// queued is a message whose time to leave has not come.
type queued struct {
	of *performer
	h  egress.Handover
}

// request is a send as it reached Meta.
type request struct {
	at        time.Duration
	channel   string // Meta's id
	token     string
	to        string // the field to, or on Messenger the recipient's id
	recipient string // the field recipient of WhatsApp
	text      string // or the name of the template
	id        string // what is to be told back with what becomes of it
	taken     bool
}

// reply is what Meta answers. Status 0 takes the message and answers nothing: the
// connection is lost.
type reply struct {
	status int
	body   string
}

// refusal is an answer of the Graph API's.
func refusal(status, code int, more string) reply {
	return reply{status, fmt.Sprintf(`{"error":{"message":"(#%d) refused","type":"OAuthException","code":%d%s}}`, code, code, more)}
}

// take lets Meta take a message. Its id is made of ours.
func take(r request) reply {
	return reply{http.StatusOK, fmt.Sprintf(`{"message_id":%q,"messages":[{"id":%q}]}`, wamid(r), wamid(r))}
}

func wamid(r request) string { return "wamid." + r.id }

func newStage(t *testing.T) *stage {
	t.Helper()
	s := &stage{
		t: t, now: time.Hour, latency: 200 * time.Millisecond, answer: take,
		policy: egress.Policy{Random: middle}, tokens: map[parley.Channel]string{},
	}
	s.bot = parley.Bot{Name: "parrot", Behavior: parley.BehaviorFunc(s.turn)}
	s.store = memory.New(memory.Config{Now: s.wall})
	clock := func() time.Duration { return s.now }
	s.clerk = egress.Clerk{Outbox: s.store, Receipts: slowly{s}, Clock: clock}
	server := httptest.NewServer(http.HandlerFunc(s.serve))
	t.Cleanup(server.Close)
	client, err := meta.NewClient(meta.ClientConfig{BaseURL: server.URL})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(client.Close)
	account := func(ch parley.Channel) (meta.Account, bool) {
		return meta.Account{Token: s.tokens[ch]}, true
	}
	s.gate = egress.Gate{Provider: egress.Graph{Client: client, Account: account}, Clock: clock, Now: s.wall}
	return s
}

// wall is the time of day.
func (s *stage) wall() time.Time { return time.Unix(1_790_000_000, 0).Add(s.now) }

// turn is the bot's: it answers a message with each of its lines. "bulk" and "promo"
// begin lines that are a campaign's; a promo is a template for marketing. If it yields,
// it gives the word to whoever else speaks, until the contact does.
func (s *stage) turn(t *parley.Turn) error {
	s.heard = append(s.heard, t.Input())
	if _, ok := t.Input().(parley.Echo); ok && s.yields {
		t.HandOff(parley.SpeakerPerson, 0)
	}
	m, ok := t.Input().(parley.Message)
	if !ok {
		return nil
	}
	t.Resume()
	for line := range strings.Lines(m.Text) {
		line = strings.TrimSpace(line)
		send := parley.Send{Text: line, Bulk: strings.HasPrefix(line, "bulk")}
		if strings.HasPrefix(line, "promo") {
			send = parley.Send{Template: &parley.Template{Name: line, Language: "de", Category: parley.Marketing}}
		}
		t.Do(send)
	}
	return nil
}

// serve is Meta's end of a send.
func (s *stage) serve(w http.ResponseWriter, r *http.Request) {
	b, err := io.ReadAll(r.Body)
	var sent struct {
		To        string          `json:"to"`
		Recipient json.RawMessage `json:"recipient"`
		Text      struct {
			Body string `json:"body"`
		} `json:"text"`
		Template struct {
			Name string `json:"name"`
		} `json:"template"`
		Message struct {
			Text     string `json:"text"`
			Metadata string `json:"metadata"`
		} `json:"message"`
		Opaque string `json:"biz_opaque_callback_data"`
	}
	if err == nil {
		err = json.Unmarshal(b, &sent)
	}
	if err != nil {
		s.t.Errorf("a send that can't be read: %v", err)
	}
	q := request{
		channel: strings.Split(r.URL.Path, "/")[2], token: strings.TrimPrefix(r.Header.Get("Authorization"), "Bearer "),
		to: sent.To, text: sent.Text.Body + sent.Template.Name + sent.Message.Text, id: sent.Opaque + sent.Message.Metadata,
	}
	var user struct {
		ID string `json:"id"`
	}
	if json.Unmarshal(sent.Recipient, &user) == nil {
		q.to = user.ID
	} else {
		q.recipient = strings.Trim(string(sent.Recipient), `"`)
	}
	s.mu.Lock()
	q.at = s.metaTime
	a := s.answer(q)
	q.taken = a.status == 0 || a.status == http.StatusOK
	s.asked = append(s.asked, q)
	s.mu.Unlock()
	if a.status == 0 {
		panic(http.ErrAbortHandler) // which closes the connection
	}
	w.WriteHeader(a.status)
	_, _ = io.WriteString(w, a.body)
}

// answers says how Meta answers from now on.
func (s *stage) answers(how func(request) reply) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.answer = how
}

// handOver passes the messages whose time has come through the Gate, and returns when
// the next one's does.
func (s *stage) handOver() time.Duration {
	s.mu.Lock()
	s.metaTime = s.now
	s.mu.Unlock()
	slices.SortStableFunc(s.queue, func(a, b queued) int { return cmp.Compare(a.h.From, b.h.From) })
	for len(s.queue) > 0 {
		q := s.queue[0]
		if q.h.From > s.now {
			return q.h.From
		}
		s.queue = s.queue[1:]
		s.away = append(s.away, flight{q.of, s.now + s.latency, s.gate.Pass(s.t.Context(), q.h)})
	}
	return math.MaxInt64
}

// requests are what has reached Meta for somebody so far, or for all.
func (s *stage) requests(to string) (out []request) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, q := range s.asked {
		if to == "" || q.to == to {
			out = append(out, q)
		}
	}
	return out
}

// shown are the texts that somebody has got, in their order.
func (s *stage) shown(to string) (out []string) {
	for _, q := range s.requests(to) {
		if q.taken {
			out = append(out, q.text)
		}
	}
	return out
}

// sender is a channel's. If it has none, it gets one that knows nothing.
func (s *stage) sender(ch parley.Channel) *performer {
	for _, p := range s.senders {
		if p.channel == ch {
			return p
		}
	}
	s.born++
	p := &performer{egress.NewSender(ch, fmt.Sprint("sender ", s.born), s.policy), ch}
	s.senders = append(s.senders, p)
	return p
}

// lose ends a channel's sender, as a crash does: what it is told after is lost.
func (s *stage) lose(ch parley.Channel) {
	s.senders = slices.DeleteFunc(s.senders, func(p *performer) bool { return p.channel == ch })
	s.away = slices.DeleteFunc(s.away, func(f flight) bool { return f.to.channel == ch })
	s.queue = slices.DeleteFunc(s.queue, func(q queued) bool { return q.of.channel == ch })
}

// webhook takes in what Meta reports, and lets the bot take its turns.
func (s *stage) webhook(body string) {
	s.t.Helper()
	d, err := meta.Decode([]byte(body), meta.Options{OwnAppID: "1", Resolve: func(kind parley.ChannelKind, id string) (parley.Channel, bool) {
		brand := parley.Brand("acme")
		if id == rival.ID {
			brand = rival.Brand
		}
		return parley.Channel{Brand: brand, Kind: kind, ID: id}, true
	}})
	if err != nil || len(d.Quarantined) > 0 || d.Updates == 0 {
		s.t.Fatalf("%d updates, %v, %v: %s", d.Updates, err, d.Quarantined, body)
	}
	rows, err := s.store.Append(s.t.Context(), parley.Arrivals{Events: d.Events, Receipts: d.Receipts})
	if err != nil {
		s.t.Fatal(err)
	}
	s.act(rows)
	for _, r := range d.Receipts {
		s.sender(r.Channel).Wake(s.now)
	}
}

// act takes the turns of the conversations that have rows.
func (s *stage) act(rows []parley.Pending) {
	s.t.Helper()
	for i := range rows {
		s.takeTurn(rows[i].Conversation)
	}
}

// sweep takes the turns of conversations whose rows nobody was hinted at.
func (s *stage) sweep() {
	s.t.Helper()
	all, err := s.store.Overdue(s.t.Context(), func(uint16) bool { return true }, 0, 1000)
	if err != nil {
		s.t.Fatal(err)
	}
	for _, c := range all {
		s.takeTurn(c)
	}
}

func (s *stage) takeTurn(conversation parley.Conversation) {
	s.t.Helper()
	l, err := s.store.Load(s.t.Context(), conversation, parley.MaxPendingPerTurn)
	if err != nil {
		s.t.Fatal(err)
	}
	if len(l.Pending) == 0 {
		return
	}
	s.turns++
	var nonce [16]byte
	binary.BigEndian.PutUint64(nonce[:], s.turns)
	c := parley.Step(&s.bot, l.Snapshot, l.Pending, parley.Circumstance{Nonce: nonce})
	errs, err := s.store.Commit(s.t.Context(), []parley.Commit{c})
	if err != nil || errs[0] != nil || len(c.Dead) > 0 {
		s.t.Fatal(errs, err, c.Dead)
	}
	s.sender(conversation.Channel).Wake(s.now)
}

// pass lets time pass.
func (s *stage) pass(d time.Duration) {
	s.t.Helper()
	for end := s.now + d; ; {
		for _, f := range s.away {
			if f.at <= s.now {
				f.to.Answered(f.a, s.now)
			}
		}
		s.away = slices.DeleteFunc(s.away, func(f flight) bool { return f.at <= s.now })
		s.sweep()
		next := end
		for _, p := range slices.Clone(s.senders) {
			next = min(next, s.run(p))
		}
		next = min(next, s.handOver())
		for _, f := range s.away {
			next = min(next, f.at)
		}
		if s.now >= end {
			return
		}
		s.now = max(next, s.now)
	}
}

// run does what a sender has to do now, and returns until when it rests.
func (s *stage) run(p *performer) time.Duration {
	s.t.Helper()
	for range 1000 {
		a := p.Next(s.now)
		if a.Kind == egress.Rest {
			return a.Until
		}
		done := s.clerk.Do(s.t.Context(), p.Sender, a)
		if done.Err != nil && a.Kind != egress.TakeLease {
			s.t.Fatal(done.Err)
		}
		for _, h := range done.Handovers {
			s.queue = append(s.queue, queued{p, h})
		}
		s.act(done.Rows)
	}
	s.t.Fatal("a sender never rests")
	return 0
}

// change is a webhook of a WhatsApp number.
func (s *stage) change(ch parley.Channel, members string) {
	s.t.Helper()
	s.webhook(fmt.Sprintf(`{"object":"whatsapp_business_account","entry":[{"id":"1","changes":[{"field":"messages","value":`+
		`{"messaging_product":"whatsapp","metadata":{"phone_number_id":%q},%s}}]}]}`, ch.ID, members))
}

// hear lets somebody write to a number.
func (s *stage) hear(ch parley.Channel, from, text string) {
	s.t.Helper()
	s.ids++
	s.change(ch, fmt.Sprintf(`"contacts":[{"wa_id":%q}],"messages":[{"from":%q,"id":"wamid.in.%d","timestamp":"%d","type":"text","text":{"body":%q}}]`,
		from, from, s.ids, s.wall().Unix(), text))
}

// status is an element of statuses. more begins with a comma, or is empty.
func (s *stage) status(providerID, to string, is parley.Status, more string) string {
	return fmt.Sprintf(`{"id":%q,"status":%q,"timestamp":"%d","recipient_id":%q%s}`, providerID, is, s.wall().Unix(), to, more)
}

// report has Meta report statuses of a number in one webhook, and lets them be folded.
func (s *stage) report(ch parley.Channel, statuses ...string) {
	s.t.Helper()
	s.change(ch, `"statuses":[`+strings.Join(statuses, ",")+`]`)
	s.pass(2 * egress.FoldEvery)
}

// page has Meta report an element of messaging[] of a Page.
func (s *stage) page(element string) {
	s.t.Helper()
	s.ids++
	s.webhook(fmt.Sprintf(`{"object":"page","entry":[{"id":%q,"time":%d,"messaging":[%s]}]}`,
		page.ID, s.ids, strings.ReplaceAll(element, "NOW", strconv.FormatInt(s.wall().UnixMilli(), 10))))
}

// delivery is what is known of a message.
func (s *stage) delivery(ch parley.Channel, providerID string) parley.Delivery {
	s.t.Helper()
	d, _, err := s.store.Delivery(s.t.Context(), ch, providerID)
	if err != nil {
		s.t.Fatal(err)
	}
	return d
}

// failures are what the bot has heard of them.
func (s *stage) failures() (out []parley.SendFailed) {
	for _, in := range s.heard {
		if f, ok := in.(parley.SendFailed); ok {
			out = append(out, f)
		}
	}
	return out
}

// backlog is what has not come to an end.
func (s *stage) backlog() parley.Backlog {
	s.t.Helper()
	b, err := s.store.Backlog(s.t.Context())
	if err != nil {
		s.t.Fatal(err)
	}
	return b
}

// ended fails the test unless all came to an end, and none to a bad one.
func (s *stage) ended() {
	s.t.Helper()
	if b := s.backlog(); b != (parley.Backlog{}) {
		s.t.Errorf("not all came to a good end: %+v", b)
	}
}
