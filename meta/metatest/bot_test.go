package metatest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"
	"sort"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// incoming is a user's message as the bot read it from a webhook.
type incoming struct {
	channel, user string // user: id or, without one, BSUID
	bsuid         bool   // user is a BSUID
	mid           string
	command       string
}

type webhookBody struct {
	Object string `json:"object"`
	Entry  []struct {
		ID        string `json:"id"`
		Messaging []struct {
			Sender  struct{ ID string } `json:"sender"`
			Message *struct {
				Mid        string `json:"mid"`
				Text       string `json:"text"`
				IsEcho     bool   `json:"is_echo"`
				Metadata   string `json:"metadata"`
				QuickReply struct {
					Payload string `json:"payload"`
				} `json:"quick_reply"`
			} `json:"message"`
			Postback *struct {
				Mid     string `json:"mid"`
				Payload string `json:"payload"`
			} `json:"postback"`
		} `json:"messaging"`
		Changes []struct {
			Value struct {
				Metadata struct {
					ID string `json:"phone_number_id"`
				} `json:"metadata"`
				Messages []struct {
					ID          string                `json:"id"`
					From        string                `json:"from"`
					FromUserID  string                `json:"from_user_id"`
					Text        struct{ Body string } `json:"text"`
					Interactive struct {
						ButtonReply struct{ ID string } `json:"button_reply"`
					} `json:"interactive"`
				} `json:"messages"`
				Statuses []struct{ ID, Status string } `json:"statuses"`
			} `json:"value"`
		} `json:"changes"`
	} `json:"entry"`
}

// readWebhook is the bot's own reading of a webhook: messages, and the number of
// receipts.
func readWebhook(body []byte) (messages []incoming, receipts int, err error) {
	var hook webhookBody
	if err := json.Unmarshal(body, &hook); err != nil {
		return nil, 0, fmt.Errorf("webhook: %w", err)
	}
	for _, e := range hook.Entry {
		for _, m := range e.Messaging {
			in := incoming{channel: e.ID, user: m.Sender.ID}
			switch {
			case m.Postback != nil:
				in.mid, in.command = m.Postback.Mid, m.Postback.Payload
			case m.Message != nil && !m.Message.IsEcho:
				in.mid, in.command = m.Message.Mid, m.Message.QuickReply.Payload
				if in.command == "" {
					in.command = m.Message.Text
				}
			default:
				receipts++
				continue
			}
			messages = append(messages, in)
		}
		for _, c := range e.Changes {
			receipts += len(c.Value.Statuses)
			for _, m := range c.Value.Messages {
				in := incoming{channel: c.Value.Metadata.ID, user: m.From, mid: m.ID, command: m.Text.Body}
				if in.user == "" {
					in.user, in.bsuid = m.FromUserID, true
				}
				if in.command == "" {
					in.command = m.Interactive.ButtonReply.ID
				}
				messages = append(messages, in)
			}
		}
	}
	return messages, receipts, nil
}

func signature(secret string, body []byte) string {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write(body)
	return "sha256=" + hex.EncodeToString(mac.Sum(nil))
}

// sendBody is a text to a user of the platform.
func sendBody(p metatest.Platform, in incoming, text, tag string) []byte {
	body := map[string]any{}
	switch p {
	case metatest.WhatsApp:
		body["messaging_product"], body["type"] = "whatsapp", "text"
		body["text"], body["biz_opaque_callback_data"] = map[string]any{"body": text}, tag
		if in.bsuid {
			body["recipient"] = in.user
		} else {
			body["to"] = "+" + in.user
		}
	default:
		body["recipient"] = map[string]any{"id": in.user}
		body["messaging_type"] = "RESPONSE"
		body["message"] = map[string]any{"text": text, "metadata": tag}
	}
	b, err := json.Marshal(body)
	if err != nil {
		panic(err)
	}
	return b
}

// numbers are the numbers of a command: its K and its argument.
func numbers(command string) (word string, k, arg int) {
	f := append(strings.Fields(command), "")
	k, _ = strconv.Atoi(f[1])
	if len(f) > 3 {
		arg, _ = strconv.Atoi(f[2])
	}
	return f[0], k, arg
}

// misbehaviour is a planted bug. Each is asked for each message of the bot and
// says whether to misbehave.
type misbehaviour struct {
	drop        func(u, k int) bool // acknowledge and forget it
	double      func(u, k int) bool // count it twice
	forgetSeen  bool                // take duplicates for new messages
	swap        func(u, k int) bool // handle it after the next one
	hush        func(u, k int) bool // count it, and never answer
	sendTwice   func(u, k int) bool
	swapSend    func(u, k int) bool // send its reply after the next one's
	giveUp      func(u, k int) bool // drop a reply that Meta asked to send again
	refuse      func(u, k int) bool // never acknowledge it
	early       bool                // ring at half time
	ringTwice   bool
	deaf        bool // to forget
	noRing      bool
	ringFirst   bool // ring before the reply
	bsuidInTo   bool
	chatty      bool // greet
	oneCounter  bool // all users of a channel share a counter
	wrongToken  bool
	wrongTarget bool // answer the user that wrote before
}

// conversation is the bot's state of one user.
type conversation struct {
	first   incoming
	user    int
	count   *int
	seen    map[string]bool
	timers  map[int]bool
	held    *incoming // by swap
	heldOut string    // by swapSend
	outbox  []string
	sending bool
}

// bot is a correct implementation of the protocol in memory and virtual time,
// but for what was planted.
type bot struct {
	t        *testing.T
	w        *metatest.World
	plant    misbehaviour
	channels map[string]metatest.Channel
	convs    map[string]*conversation
	counters map[string]*int
	last     incoming
	agenda   []appointment
	receipts int
	log      func(string)
}

type appointment struct {
	at time.Time
	do func(now time.Time)
}

func newBot(t *testing.T, w *metatest.World, plant misbehaviour) *bot {
	t.Helper()
	b := &bot{
		t: t, w: w, plant: plant, channels: map[string]metatest.Channel{},
		convs: map[string]*conversation{}, counters: map[string]*int{}, log: func(string) {},
	}
	for _, c := range w.Channels() {
		b.channels[c.ID] = c
	}
	return b
}

// at makes an appointment; those of one instant are kept in the order made.
func (b *bot) at(when time.Time, do func(now time.Time)) {
	i := sort.Search(len(b.agenda), func(i int) bool { return b.agenda[i].at.After(when) })
	b.agenda = slices.Insert(b.agenda, i, appointment{when, do})
}

// drive plays the world against the bot in virtual time until everything is
// settled or the grace is over.
func (b *bot) drive(grace time.Duration) {
	const (
		ackTakes = 2 * time.Millisecond
		turnsMax = 1_000_000
	)
	now := b.w.Config().Start
	end := now.Add(b.w.Config().Duration + grace)
	for range turnsMax {
		for _, p := range b.w.Due(now) {
			b.log(p.Signature)
			status := b.receive(p, now)
			b.at(now.Add(ackTakes), func(now time.Time) { b.w.Posted(p.ID, status, now) })
		}
		if b.w.Settled(now) && len(b.agenda) == 0 {
			return
		}
		next, ok := b.w.NextDue()
		// With a limit in flight the next post may be due and have to wait.
		if len(b.agenda) > 0 && (!ok || b.agenda[0].at.Before(next) || !next.After(now)) {
			next, ok = b.agenda[0].at, true
		}
		if !ok || next.After(end) {
			b.w.Settled(end)
			return
		}
		now = next
		for len(b.agenda) > 0 && !b.agenda[0].at.After(now) {
			do := b.agenda[0].do
			b.agenda = b.agenda[1:]
			do(now)
		}
	}
	b.t.Fatal("the run does not come to an end")
}

func (b *bot) receive(p metatest.Post, now time.Time) int {
	if want := signature(b.w.Config().Secret, p.Body); p.Signature != want {
		b.t.Errorf("signature of post %d: %s, want %s", p.ID, p.Signature, want)
	}
	messages, receipts, err := readWebhook(p.Body)
	if err != nil {
		b.t.Errorf("post %d: %v\n%s", p.ID, err, p.Body)
	}
	b.receipts += receipts
	for _, in := range messages {
		_, k, _ := numbers(in.command)
		if b.plant.refuse != nil && b.plant.refuse(b.conversation(in).user, k) {
			return 503
		}
	}
	for _, in := range messages {
		b.take(in, now)
	}
	return 200
}

func (b *bot) conversation(in incoming) *conversation {
	key := in.channel + "/" + in.user
	c := b.convs[key]
	if c == nil {
		c = &conversation{first: in, user: len(b.convs), seen: map[string]bool{}, timers: map[int]bool{}, count: new(int)}
		if b.plant.oneCounter {
			if b.counters[in.channel] == nil {
				b.counters[in.channel] = new(int)
			}
			c.count = b.counters[in.channel]
		}
		b.convs[key] = c
	}
	return c
}

func (b *bot) take(in incoming, now time.Time) {
	c := b.conversation(in)
	_, k, _ := numbers(in.command)
	if c.seen[in.mid] && !b.plant.forgetSeen {
		return
	}
	fresh := !c.seen[in.mid]
	c.seen[in.mid] = true
	switch {
	case is(b.plant.drop, c.user, k):
		return
	case fresh && c.held == nil && is(b.plant.swap, c.user, k):
		c.held = &in
		return
	}
	b.handle(c, in, now)
	if c.held != nil {
		held := *c.held
		c.held = nil
		b.handle(c, held, now)
	}
	b.last = in
}

func is(f func(u, k int) bool, u, k int) bool { return f != nil && f(u, k) }

func (b *bot) handle(c *conversation, in incoming, now time.Time) {
	word, k, arg := numbers(in.command)
	*c.count++
	if is(b.plant.double, c.user, k) {
		*c.count++
	}
	said := fmt.Sprintf("said %d #%d", k, *c.count)
	switch word {
	case "remind":
		b.remind(c, k, time.Duration(arg)*time.Millisecond, now)
	case "forget":
		if !b.plant.deaf {
			delete(c.timers, arg)
		}
	}
	switch {
	case is(b.plant.hush, c.user, k):
		return
	case c.heldOut == "" && is(b.plant.swapSend, c.user, k):
		c.heldOut = said
		return
	}
	b.send(c, said, now)
	if is(b.plant.sendTwice, c.user, k) {
		b.send(c, said, now)
	}
	if c.heldOut != "" {
		b.send(c, c.heldOut, now)
		c.heldOut = ""
	}
	if b.plant.chatty {
		b.send(c, "hello", now)
	}
}

func (b *bot) remind(c *conversation, k int, wait time.Duration, now time.Time) {
	if b.plant.ringFirst {
		wait = 0
	}
	if b.plant.early {
		wait /= 2
	}
	if b.plant.noRing {
		return
	}
	c.timers[k] = true
	ring := func(now time.Time) {
		if !c.timers[k] {
			return
		}
		delete(c.timers, k)
		b.send(c, fmt.Sprintf("ring %d", k), now)
		if b.plant.ringTwice {
			b.send(c, fmt.Sprintf("ring %d", k), now)
		}
	}
	if wait == 0 {
		ring(now)
		return
	}
	b.at(now.Add(wait), ring)
}

// send queues a text: one at a time in each conversation.
func (b *bot) send(c *conversation, text string, now time.Time) {
	c.outbox = append(c.outbox, text)
	if !c.sending {
		c.sending = true
		b.attempt(c, now)
	}
}

func (b *bot) attempt(c *conversation, now time.Time) {
	const again = 40 * time.Millisecond
	if len(c.outbox) == 0 {
		c.sending = false
		return
	}
	a := b.w.Graph(b.request(c, c.outbox[0]), now)
	b.log(string(a.Body))
	patience := b.w.Config().Faults.Patience
	done := func(now time.Time) { c.outbox = c.outbox[1:]; b.attempt(c, now) }
	retry := func(now time.Time) { b.at(now.Add(again), func(now time.Time) { b.attempt(c, now) }) }
	switch {
	case a.Delay >= patience:
		b.at(now.Add(patience), retry)
	case a.Withhold:
		b.at(now.Add(a.Delay), retry)
	case a.Status == 200 || is(b.plant.giveUp, c.user, kOf(c.outbox[0])):
		b.at(now.Add(a.Delay), done)
	case strings.Contains(string(a.Body), `"is_transient":true`),
		strings.Contains(string(a.Body), `"code":613`), strings.Contains(string(a.Body), `"code":130429`):
		b.at(now.Add(a.Delay), retry)
	default:
		b.at(now.Add(a.Delay), done)
	}
}

// kOf is the K of a reply.
func kOf(text string) int {
	_, k, _ := numbers(text)
	return k
}

func (b *bot) request(c *conversation, text string) metatest.GraphRequest {
	to := c.first
	if b.plant.bsuidInTo {
		to.bsuid = false
	}
	if b.plant.wrongTarget && b.last.user != "" {
		to = b.last
	}
	channel := b.channels[c.first.channel]
	token := channel.Token
	if b.plant.wrongToken {
		token = "EAAwrong"
	}
	return metatest.GraphRequest{
		Method: "POST", Path: "/v26.0/" + channel.ID + "/messages", Token: token,
		Body: sendBody(channel.Platform, to, text, "tag "+text),
	}
}
