package metatest

import (
	"cmp"
	"encoding/json"
	"fmt"
	"hash/fnv"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

// Meta's limits on the pace of sends (Messenger: rate-limiting page; WhatsApp:
// throughput and about-the-platform pages). They aren't compressed.
const (
	pagePace   = 300 // sends per second of a Page or Instagram account
	numberPace = 80  // messages per second of a WhatsApp number, in and out
	pairBurst  = 45  // messages to one WhatsApp user at once,
	pairEvery  = 6   // and one per so many seconds
)

// bucket is a token bucket; its zero value is full.
type bucket struct {
	used float64
	at   int64
}

// take takes a token, if there is one, of a bucket of a size that fills with rate
// tokens per second. Forced, it takes one that is not there, too: it counts what happens anyway.
func (b *bucket) take(at int64, size, rate float64, forced bool) bool {
	b.used = max(0, b.used-float64(at-b.at)/float64(time.Second)*rate)
	b.at = at
	if b.used+1 > size && !forced {
		return false
	}
	b.used = min(b.used+1, size)
	return true
}

// spoken is what a trial reads of a send beside what [World] does.
type spoken struct {
	send
	digest   uint64 // of the body, without what tags it
	names    string // the message that it replies to, if it says so
	template string
	human    bool // tag HUMAN_AGENT
}

// Forms of the Graph API's paths.
var (
	unversioned = regexp.MustCompile(`^/(v\d{1,3}\.\d{1,3}/)?([^/]{1,64})(/messages|/pass_thread_control|/take_thread_control)?$`)
)

// Graph takes one call of the Graph API and says how to answer it. The version may be
// missing in the path, and the channel's id be "me": then it is the one to which the
// addressee writes.
func (t *Trial) Graph(req GraphRequest, now time.Time) GraphAnswer {
	at := t.w.tick(now)
	t.touched = at
	path := unversioned.FindStringSubmatch(req.Path)
	if path == nil || req.Method != "POST" {
		return t.lookedUp(req, path)
	}
	s := t.understand(req, path[2], cmp.Or(path[3], "/messages"))
	a, code := t.answer(&s)
	t.court.called(t.callOf(&s), a, code)
	return a
}

// lookedUp answers what is no send: profiles of users, mostly.
func (t *Trial) lookedUp(req GraphRequest, path []string) GraphAnswer {
	t.court.count.OtherCalls++
	if req.Method == "GET" && path != nil && path[3] == "" {
		if _, ok := t.w.byKey[path[2]]; ok {
			body := appendField([]byte(`{"first_name":"Zo\u00eb"`), `,"id":`, path[2])
			return GraphAnswer{Status: 200, Body: append(body, '}')}
		}
	}
	return unknownObject().answer(uint64(t.w.step))
}

// understand reads a send.
func (t *Trial) understand(req GraphRequest, id, edge string) (s spoken) {
	var more struct {
		Recipient json.RawMessage `json:"recipient"`
		To        string          `json:"to"`
		Tag       string          `json:"tag"`
		Template  struct {
			Name string `json:"name"`
		} `json:"template"`
		Context struct {
			ID string `json:"message_id"`
		} `json:"context"`
		ReplyTo struct {
			Mid string `json:"mid"`
		} `json:"reply_to"`
	}
	_ = json.Unmarshal(req.Body, &more) // what can't be read is refused below
	if id == "me" {
		id = t.channelOf(more.Recipient, more.To)
	}
	if i, ok := t.w.byID[id]; ok && t.cfg.Token == "" && req.Token != "" {
		req.Token = t.w.channels[i].Token // any will do
		req.Proof = ""
	}
	req.Path = "/v0.0/" + id + edge
	s.send = t.w.read(req)
	s.digest, s.template, s.human = digest(req.Body), more.Template.Name, more.Tag == "HUMAN_AGENT"
	s.names = more.Context.ID + more.ReplyTo.Mid
	return s
}

// channelOf is the id of the channel to which an addressee writes.
func (t *Trial) channelOf(recipient json.RawMessage, to string) string {
	var r struct {
		ID string `json:"id"`
	}
	_ = json.Unmarshal(recipient, &r) // WhatsApp's is a string
	key := r.ID + strings.TrimPrefix(to, "+")
	if u, ok := t.w.byKey[key]; ok {
		return t.w.channels[t.w.people[u].channel].ID
	}
	return "me"
}

// digest tells sends apart that say different things.
func digest(body []byte) uint64 {
	var m map[string]any
	if json.Unmarshal(body, &m) == nil {
		delete(m, "biz_opaque_callback_data")
		if message, ok := m["message"].(map[string]any); ok {
			delete(message, "metadata")
		}
		if b, err := json.Marshal(m); err == nil {
			body = b
		}
	}
	h := fnv.New64a()
	_, _ = h.Write(body) // a hash never fails
	return h.Sum64()
}

// answer is the answer to a send, and the code of its error if it is one.
func (t *Trial) answer(s *spoken) (GraphAnswer, GraphCode) {
	if s.err != nil {
		return t.badSend(s)
	}
	c := &t.w.channels[s.channel]
	if s.notice {
		t.court.count.Notices++
		return GraphAnswer{Status: 200, Body: noticeAnswer(c.index, s.key)}, GraphCode{}
	}
	user, ok := t.w.byKey[s.key]
	switch {
	case t.isChannel(s.key):
		t.court.sin(sinEcho, fmt.Sprintf("a send to %s itself: in an echo the business is the sender", c.ID))
		return t.refuse(noSuchUser(c.index))
	case !ok || t.w.people[user].channel != s.channel:
		t.court.sin(sinStray, fmt.Sprintf("a send by %s to %q, who never wrote to it", c.ID, s.key))
		return t.refuse(noSuchUser(c.index))
	case int(user) == len(t.visitors):
		t.court.sin(sinForged, "a reply to a message whose signature was wrong")
		return t.refuse(noSuchUser(c.index))
	}
	if e := t.forbids(s, user); e != nil {
		return t.refuse(e)
	}
	return t.fate(s, user)
}

// isChannel reports whether an addressee is one of the business's own.
func (t *Trial) isChannel(key string) bool {
	_, ok := t.w.byID[key]
	return ok || slices.ContainsFunc(t.w.channels, func(c Channel) bool { return c.display != "" && c.display == key })
}

func (t *Trial) refuse(e *graphError) (GraphAnswer, GraphCode) {
	t.court.count.SendsRefused++
	return e.answer(uint64(t.w.step)), GraphCode{e.code, e.subcode}
}

// badSend refuses what Meta would never take; its addressee is owed nothing more, as
// one sin is enough.
func (t *Trial) badSend(s *spoken) (GraphAnswer, GraphCode) {
	t.court.sin(sinBadSend, fmt.Sprintf("%d: %s %s", s.err.code, s.err.message, s.err.details))
	if user, ok := t.w.byKey[s.key]; ok && int(user) < len(t.visitors) {
		t.excuse(user)
	}
	return t.refuse(s.err)
}

// excuse says that no reply is owed to what a user has written.
func (t *Trial) excuse(user int32) {
	v := &t.visitors[user]
	for _, m := range v.recent {
		m.excused = m.excused || m.replies == 0
	}
	t.release(user)
}

// release has a user go on who waits.
func (t *Trial) release(user int32) {
	v := &t.visitors[user]
	if v.waits == nil {
		return
	}
	v.waits = nil
	v.turn++
	t.turns.push(t.w.now+t.thinking(v), turn{user, v.turn})
}

// forbids is what Meta's rules have against a valid send.
func (t *Trial) forbids(s *spoken, user int32) *graphError {
	c, v := &t.w.channels[s.channel], &t.visitors[user]
	whatsapp := c.index == onWhatsApp
	switch limits := !t.cfg.Graph.NoLimits; {
	case v.fault.Code != 0 && v.fault != sentAllTheSame():
		t.excuse(user)
		return injected(v.fault, c.index)
	case s.template != "" && whatsapp && !slices.Contains(t.cfg.Graph.Templates, s.template):
		t.excuse(user)
		return injected(GraphCode{Code: 132001}, c.index)
	case limits && s.template == "" && t.outside(s, v):
		t.excuse(user)
		if whatsapp {
			return injected(GraphCode{Code: 131047}, c.index)
		}
		return injected(GraphCode{Code: 10, Subcode: 2018278}, c.index)
	case limits && whatsapp && !t.paces[s.channel].take(t.w.now, numberPace, numberPace, false),
		limits && !whatsapp && !t.paces[s.channel].take(t.w.now, pagePace, pagePace, false):
		t.court.count.Throttled++
		return throttledFault(c.index)
	case limits && whatsapp && !v.pair.take(t.w.now, pairBurst, 1.0/pairEvery, false):
		t.court.count.Throttled++
		return injected(GraphCode{Code: 131056}, c.index)
	}
	return nil
}

// outside reports whether the time in which a user may be written to is over.
func (t *Trial) outside(s *spoken, v *visitor) bool {
	window := t.metas(dayOfMeta)
	if s.human {
		window *= humanAgentDays
	}
	return v.count == 0 || t.w.now-v.lastIn > window
}

// sentAllTheSame is the error of Messenger that means that the message was sent.
func sentAllTheSame() GraphCode { return GraphCode{Code: 1, Subcode: 1357046} }

// fate draws what becomes of a send that nothing is to be said against.
func (t *Trial) fate(s *spoken, user int32) (GraphAnswer, GraphCode) {
	c, f := &t.w.channels[s.channel], &t.cfg.Graph
	x, faults := t.chance.Float64(), &t.court.count.Faults
	for i, share := range [...]float64{f.Transient, f.Throttled, f.Hang, f.Withheld, f.Slow, f.Undelivered} {
		if x -= share; x >= 0 {
			continue
		}
		switch i {
		case 0:
			faults.Transient++
			return t.refuse(transientFault())
		case 1:
			faults.Throttled++
			return t.refuse(throttledFault(c.index))
		case 2:
			t.court.count.Hung++
			return GraphAnswer{Delay: f.HangFor, Withhold: true}, GraphCode{}
		case 3:
			faults.Withheld++
			return t.accept(s, user, GraphAnswer{Withhold: true}, false), GraphCode{}
		case 4:
			faults.Slow++
			return t.accept(s, user, GraphAnswer{Delay: f.SlowFor}, false), GraphCode{}
		default:
			return t.accept(s, user, GraphAnswer{}, true), GraphCode{}
		}
	}
	a := t.accept(s, user, GraphAnswer{Delay: time.Duration(t.chance.Int64N(int64(f.Latency) + 1))}, false)
	if t.visitors[user].fault == sentAllTheSame() {
		return t.refuse(injected(sentAllTheSame(), c.index))
	}
	return a, GraphCode{}
}

// accept takes a send, whatever becomes of its answer: the user has it, unless it is
// lost on the way.
func (t *Trial) accept(s *spoken, user int32, a GraphAnswer, lost bool) GraphAnswer {
	c := &t.w.channels[s.channel]
	t.w.sent++
	t.court.count.Sends++
	mid := string(appendID(nil, c.index, mix(t.cfg.Seed, t.w.sent|1<<63), t.w.sent|1<<63))
	a.Status = 200
	if !a.Withhold {
		a.Body = t.w.acceptance(c.index, &s.send, user, mid)
	}
	doubtful := a.Withhold || a.Delay >= t.cfg.Graph.Patience || t.visitors[user].fault == sentAllTheSame()
	t.reply(s, user, doubtful)
	switch {
	case s.inTo && s.key == t.w.people[user].bsuid:
		t.court.sin(sinUndelivered, "accepted and never delivered: a business-scoped id in \"to\" instead of \"recipient\", to "+t.w.name(user))
	case lost:
		t.court.count.Undelivered++
		if c.index == onWhatsApp && !t.cfg.NoStatuses {
			t.inform(receipt{user: user, kind: undelivered, mid: mid, tag: s.tag}, int64(heardAfter))
		}
	default:
		t.report(s, user, mid)
	}
	return a
}

// heardAfter is how long after a send its receipts come at the earliest: a second
// reply that comes sooner has another cause.
const (
	heardAfter = 250 * time.Millisecond
	heardMost  = 1500 * time.Millisecond
)

// report has the receiver told what becomes of a send.
func (t *Trial) report(s *spoken, user int32, mid string) {
	index := t.w.channels[s.channel].index
	if !t.cfg.NoEchoes && index != onWhatsApp {
		t.inform(receipt{user: user, kind: echo, mid: mid, tag: s.tag, text: s.text}, t.after(0))
	}
	if t.cfg.NoStatuses {
		return
	}
	kinds := [platforms][]receiptKind{{delivered, read}, {read}, {sent, delivered, read}}[index]
	shuffled := t.chance.Float64() < t.cfg.StatusesShuffle
	wait := int64(0)
	for _, kind := range kinds {
		if t.chance.Float64() < t.cfg.StatusesMissing {
			continue
		}
		if wait = t.after(wait); shuffled {
			wait = t.after(0)
		}
		t.inform(receipt{user: user, kind: kind, mid: mid, tag: s.tag}, wait)
	}
}

// after is a delay that is longer than another, by less and less.
func (t *Trial) after(wait int64) int64 {
	wait = max(wait, int64(heardAfter))
	return wait + t.chance.Int64N(max(int64(heardMost)-wait, 1)) + 1
}

func (t *Trial) inform(r receipt, wait int64) {
	if t.outgoing.len() >= outgoingMax || t.visitors[r.user].unasked >= unaskedMax {
		t.court.count.ReceiptsDropped++
		return
	}
	r.at = t.w.now
	t.court.count.Receipts++
	t.outgoing.push(t.w.now+wait, parcel{receipt: &r})
}

// injected is an error by its code, as Meta words the commonest.
func injected(c GraphCode, index int) *graphError {
	e := &graphError{status: 400, code: c.Code, subcode: c.Subcode, kind: oauth}
	switch c.Code {
	case 2, 131000, 131016, 131057, 3:
		e.status = 500
	case 10, 200, 368, 131005, 131031:
		e.status = 403
	case 132001:
		e.status, e.details = 404, "Template name does not exist in the translation"
	case 190:
		return badToken(index)
	case 2018001:
		return noSuchUser(index)
	}
	what := map[int]string{
		1: "Received invalid JSON reply", 10: "This message is sent outside of allowed window.",
		551: "This person isn't available right now.", 131026: "Message undeliverable", 131047: "Re-engagement message",
		131056: "(Business Account, Consumer Account) pair rate limit hit", 132001: "Template does not exist",
		131049: "This message was not delivered to maintain healthy ecosystem engagement.", 131050: "User stopped marketing messages",
	}[c.Code]
	if what == "" {
		what = "An error that the simulator was told to answer"
	}
	e.message = "(#" + strconv.Itoa(c.Code) + ") " + what
	return e
}

// callOf describes a send for those who watch.
func (t *Trial) callOf(s *spoken) Call {
	c := Call{At: t.w.now, To: s.key, Text: clip(s.text), Notice: s.notice}
	if s.channel < int32(len(t.w.channels)) {
		c.Channel = t.w.channels[s.channel].ID
	}
	if s.text == "" && s.template != "" {
		c.Text = "template " + s.template
	}
	return c
}
