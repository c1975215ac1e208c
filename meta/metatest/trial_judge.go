package metatest

import (
	"fmt"
	"slices"
	"strings"
	"time"
)

// The sins of a receiver, in the order in which they are told.
const (
	sinHandshake = iota
	sinForged
	sinSlow
	sinNot200
	sinDuplicateRefused
	sinUnreachable
	sinUnsubscribed
	sinGivenUp
	sinDropped
	sinDoubled
	sinEcho
	sinStatus
	sinUnasked
	sinOrder
	sinWrongReply
	sinBadSend
	sinStray
	sinUndelivered
	sins
)

// words name a sin and say what it is.
type words struct{ name, means string }

func wordsOf(sin int) words {
	return [sins]words{
		sinHandshake:        {"handshake", "didn't answer Meta's verification of the address as it must"},
		sinForged:           {"forged", "took a POST for Meta's whose signature was wrong or missing"},
		sinSlow:             {"slow_ack", "answered a POST later than Meta waits, so that it comes again"},
		sinNot200:           {"not_200", "answered a POST with something else than 200, so that it comes again"},
		sinDuplicateRefused: {"duplicate_refused", "didn't acknowledge what it had been delivered before, so that it comes for ever"},
		sinUnreachable:      {"unreachable", "took no connection, or broke it before it had answered"},
		sinUnsubscribed:     {"unsubscribed", "failed for so long that Meta unsubscribed the app"},
		sinGivenUp:          {"given_up", "failed for so long that Meta dropped a POST"},
		sinDropped:          {"dropped", "acknowledged a message and never replied to it"},
		sinDoubled:          {"doubled", "replied to a message more than once"},
		sinEcho:             {"echo_answered", "replied to an echo of its own message: that has no end"},
		sinStatus:           {"status_answered", "replied to a delivered or read receipt"},
		sinUnasked:          {"unasked", "replied to a message that the script marks as /silent"},
		sinOrder:            {"out_of_order", "replied to a later message of a user before an earlier one that it had acknowledged first"},
		sinWrongReply:       {"wrong_reply", "replied without the words that the script expects"},
		sinBadSend:          {"bad_send", "sent what Meta refuses: shape, limits, token or path"},
		sinStray:            {"stray", "sent to somebody who never wrote to that channel"},
		sinUndelivered:      {"undelivered", "sent what Meta accepts and never delivers"},
	}[sin]
}

// Sin is one way in which a receiver went wrong.
type Sin struct {
	Name    string `json:"name"`
	Means   string `json:"means"`
	Count   int    `json:"count"`
	Example string `json:"example"` // the first case
}

// TrialCounts are the counters of a trial.
type TrialCounts struct {
	Messages         int         `json:"messages"`          // written by users
	Acked            int         `json:"acked"`             // of these, acknowledged
	Replied          int         `json:"replied"`           // of these, with a reply
	Late             int         `json:"late"`              // replies that came when the user waited no more
	Posts            int         `json:"posts"`             // with all attempts
	Retries          int         `json:"retries"`           // attempts after one that wasn't answered with 200
	Duplicates       int         `json:"duplicates"`        // messages delivered again on purpose
	Forgeries        int         `json:"forgeries"`         // POSTs with a wrong signature or none
	Receipts         int         `json:"receipts"`          // echoes and statuses
	ReceiptsDropped  int         `json:"receipts_dropped"`  // which there were too many of
	Sends            int         `json:"sends"`             // accepted
	SendsRefused     int         `json:"sends_refused"`     // with an error, whether the sender is to blame or not
	Throttled        int         `json:"throttled"`         // of these, for the pace of a channel or of a pair
	Notices          int         `json:"notices"`           // typing and read
	OtherCalls       int         `json:"other_calls"`       // of the Graph API, that are no sends
	RepeatsExplained int         `json:"repeats_explained"` // sends repeated after an answer that was lost or too late
	Undelivered      int         `json:"undelivered"`       // accepted and lost on purpose
	Hung             int         `json:"hung"`              // not answered on purpose, and not accepted
	Faults           FaultCounts `json:"faults"`            // made on purpose
}

// TrialReport is what a trial found.
type TrialReport struct {
	Clean bool  `json:"clean"` // no sin
	Sins  []Sin `json:"sins"`
	TrialCounts
	Waiting int     `json:"waiting"` // acknowledged messages to which a reply may still come
	AckMS   Millis  `json:"ack_ms"`  // from a POST to its 200
	Over250 float64 `json:"ack_over_250_ms"`
	Over1s  float64 `json:"ack_over_1_s"` // fractions of the 200s; Meta asks for a median of 250 ms, and for less than 0.01 above 1 s
	ReplyMS Millis  `json:"reply_ms"`     // from a message's first POST to its first reply
	Seconds float64 `json:"seconds"`
	Seed    uint64  `json:"seed"`
}

// PostSeen is a POST and its answer, for those who watch.
type PostSeen struct {
	At      int64   `json:"at"` // ns after the start
	ID      uint64  `json:"id"`
	Kind    string  `json:"kind"`
	Updates int     `json:"updates"`
	Attempt int     `json:"attempt"`
	Status  int     `json:"status"` // HTTP; 0 = no answer, -1 = no connection
	TookMS  float64 `json:"took_ms"`
}

// Call is a call of the Graph API, for those who watch.
type Call struct {
	At       int64   `json:"at"`
	Channel  string  `json:"channel"`
	To       string  `json:"to"`
	Text     string  `json:"text"` // its beginning
	Notice   bool    `json:"notice"`
	Status   int     `json:"status"` // 0 = no answer
	Code     int     `json:"code"`
	Subcode  int     `json:"subcode"`
	AnswerMS float64 `json:"answer_ms"`
}

// tally is what a court counts.
type tally struct {
	count TrialCounts
	sins  [sins]Sin
}

func (t *tally) sin(kind int, example string) {
	s := &t.sins[kind]
	if s.Count++; s.Count == 1 {
		w := wordsOf(kind)
		s.Name, s.Means, s.Example = w.name, w.means, example
	}
}

// court keeps what was seen.
type court struct {
	tally
	ack, reply      histogram
	over250, over1s int
	posts           []PostSeen // the last
	calls           []Call
}

// seenMost is how many POSTs and calls are kept for those who watch; clipMost how
// much of a text.
const (
	seenMost = 50
	clipMost = 80
)

func newCourt() court { return court{} }

func clip(s string) string {
	if r := []rune(s); len(r) > clipMost {
		return string(r[:clipMost]) + "…"
	}
	return s
}

// last keeps the last few.
func last[T any](all []T, one T) []T {
	if len(all) == seenMost {
		all = slices.Delete(all, 0, 1)
	}
	return append(all, one)
}

func (c *court) posted(m *mail, status int, took time.Duration) {
	updates := len(m.updates)
	if m.kind == postForged {
		updates = 1
		c.count.Forgeries++
	}
	c.posts = last(c.posts, PostSeen{
		At: m.handed, ID: m.ID, Kind: m.kind, Updates: updates, Attempt: m.Attempt, Status: status, TookMS: inMillis(int64(took)),
	})
	if status != 200 || m.kind == postForged {
		return
	}
	c.ack.record(took)
	if took > 250*time.Millisecond {
		c.over250++
	}
	if took > time.Second {
		c.over1s++
	}
}

func (c *court) called(call Call, a GraphAnswer, code GraphCode) {
	call.Status, call.Code, call.Subcode, call.AnswerMS = a.Status, code.Code, code.Subcode, inMillis(int64(a.Delay))
	if a.Withhold {
		call.Status = 0
	}
	c.calls = last(c.calls, call)
}

// reply takes note of a send that was accepted.
func (t *Trial) reply(s *spoken, user int32, doubtful bool) {
	v := &t.visitors[user]
	if t.loops(v, s.text) {
		v.unasked++
		t.court.sin(sinEcho, "a reply that holds the receiver's own earlier words, to "+t.w.name(user))
		return
	}
	if m := t.repeatOf(v, s.digest); m != nil {
		t.court.count.RepeatsExplained++
		m.doubt(s.digest, doubtful)
		return
	}
	m, named := t.addressee(user, s)
	if m == nil {
		t.court.sin(sinStray, "a message to "+t.w.name(user)+", who has written nothing yet")
		return
	}
	twice := slices.Contains(m.digests, s.digest)
	m.digests = append(m.digests, s.digest)
	m.met = m.met || strings.Contains(s.text, m.line.Expect)
	t.say(v, s.text)
	switch {
	case m.replies == 0:
		t.firstReply(m, named)
	case twice, t.cfg.Replies >= 0 && m.replies >= t.cfg.Replies:
		t.unaskedFor(m, twice)
	}
	m.replies++
	m.doubt(s.digest, doubtful)
}

// say remembers what was sent to a user.
func (t *Trial) say(v *visitor, text string) {
	const most = 8
	if len(v.said) == most {
		v.said = slices.Delete(v.said, 0, 1)
	}
	v.said = append(v.said, said{text: text})
}

// loops reports whether a text holds what the receiver sent itself and was then told
// of by an echo.
func (t *Trial) loops(v *visitor, text string) bool {
	return slices.ContainsFunc(v.said, func(s said) bool {
		return s.echoed && s.text != "" && len(text) > len(s.text) && strings.Contains(text, s.text) && v.quoted(s.text) != nil
	})
}

// quoted is the message whose numbered text is in a reply; of several the one with
// the longest text, as "message 1" is in "message 11".
func (v *visitor) quoted(text string) (found *utterance) {
	for _, m := range v.recent {
		if strings.Contains(m.line.Text, numberMark) && strings.Contains(text, m.text) && (found == nil || len(m.text) >= len(found.text)) {
			found = m
		}
	}
	return found
}

// repeatOf is the message to which the same was sent before and its answer was lost.
// If another message waits to which the same may be a reply, it is taken for that: the
// repeat comes, or came, too.
func (t *Trial) repeatOf(v *visitor, digest uint64) (found *utterance) {
	shared := false
	for _, m := range v.recent {
		switch {
		case slices.Contains(m.doubtful, digest):
			shared = shared || found != nil
			found = m
		case slices.Contains(m.digests, digest):
			shared = true
		}
	}
	if found == nil {
		return nil
	}
	if waits := t.oldest(v); waits != nil && (shared || waits.line.Text == found.line.Text && v.quoted(waits.text) == nil) {
		return nil
	}
	return found
}

// oldest is the message that has waited longest for a reply; last of all those for
// which the user waits no more. Nil if none does.
func (t *Trial) oldest(v *visitor) *utterance {
	for _, overdue := range []bool{false, true} {
		for _, m := range v.recent {
			if m.posts != 0 && m.replies == 0 && m.overdue == overdue && t.expects(m) {
				return m
			}
		}
	}
	return nil
}

// doubt notes whether the receiver knows that a reply was taken.
func (m *utterance) doubt(digest uint64, doubtful bool) {
	m.doubtful = slices.DeleteFunc(m.doubtful, func(d uint64) bool { return d == digest })
	if doubtful {
		m.doubtful = append(m.doubtful, digest)
	}
}

// addressee is the message that a send replies to, and whether it says so.
func (t *Trial) addressee(user int32, s *spoken) (found *utterance, named bool) {
	v := &t.visitors[user]
	if m := t.byMid[s.names]; m != nil && m.user == user {
		return m, true
	}
	if m := v.quoted(s.text); m != nil {
		return m, true
	}
	if m := t.oldest(v); m != nil {
		return m, false
	}
	for _, m := range slices.Backward(v.recent) {
		if m.posts != 0 {
			return m, false
		}
	}
	return nil, false
}

func (t *Trial) firstReply(m *utterance, named bool) {
	m.named = named
	t.court.count.Replied++
	t.court.reply.record(time.Duration(t.w.now - m.posted))
	if m.overdue {
		t.court.count.Late++
	}
	if m.line.Silent {
		t.court.sin(sinUnasked, t.nameMessage(m))
		t.visitors[m.user].unasked++
	}
	if named {
		t.judgeOrder(m)
	}
	if t.visitors[m.user].waits == m {
		t.release(m.user)
	}
}

// judgeOrder looks for a later message that was replied to already. Only replies that
// say what they reply to can be out of order.
func (t *Trial) judgeOrder(m *utterance) {
	for _, later := range t.visitors[m.user].recent {
		if later.number > m.number && later.named && m.acked != 0 && m.acked < later.posts {
			t.court.sin(sinOrder, fmt.Sprintf("%s after message %d", t.nameMessage(m), later.number))
			return
		}
	}
}

// unaskedFor names the cause of a send too many: what the receiver was told last about
// the user. It may be the wrong cause if the receiver is slow; it is a send too many all
// the same.
func (t *Trial) unaskedFor(m *utterance, same bool) {
	v := &t.visitors[m.user]
	v.unasked++
	what := "another reply"
	if same {
		what = "the same reply again"
	}
	what += " to " + t.nameMessage(m)
	switch v.heard {
	case causeEcho:
		t.court.sin(sinEcho, what+", after an echo")
	case causeStatus:
		t.court.sin(sinStatus, what+", after a receipt")
	case causeAgain:
		t.court.sin(sinDoubled, what+", after it was delivered again")
	default:
		t.court.sin(sinDoubled, what+", without a reason")
	}
}

// nameMessage names a message by user and number.
func (t *Trial) nameMessage(m *utterance) string {
	return fmt.Sprintf("message %d of %s", m.number, t.w.name(m.user))
}

// settle judges a message that is not going to change, if its time is over.
func (t *Trial) settle(found *tally, m *utterance, now bool) {
	switch over := now || t.w.now >= m.ackedAt+int64(t.cfg.ReplyWithin); {
	case m.replies > 0 && !m.met && !m.line.Silent:
		found.sin(sinWrongReply, t.nameMessage(m))
	case m.replies == 0 && m.acked != 0 && t.expects(m) && over:
		found.sin(sinDropped, t.nameMessage(m)+t.oddity(m.user))
	}
}

// oddity says what is odd about a user who is easily forgotten.
func (t *Trial) oddity(user int32) string {
	if p := &t.w.people[user]; p.id == "" {
		return ", who has no phone number, only a business-scoped id (user_id)"
	}
	return ""
}

// Handshook tells how the verification of the address went: empty if well.
func (t *Trial) Handshook(wrong string) {
	if wrong != "" {
		t.court.sin(sinHandshake, wrong)
	}
}

// Report is the verdict as of now.
func (t *Trial) Report(now time.Time) TrialReport {
	t.w.tick(now)
	all := t.court.tally
	r := TrialReport{Seconds: time.Duration(t.w.now).Seconds(), Seed: t.cfg.Seed, Sins: []Sin{}}
	for i := range t.visitors {
		for _, m := range t.visitors[i].recent {
			t.settle(&all, m, false)
			if t.owes(m) {
				r.Waiting++
			}
		}
	}
	r.TrialCounts = all.count
	r.Messages = t.written
	for i := range all.sins {
		if all.sins[i].Count > 0 {
			r.Sins = append(r.Sins, all.sins[i])
		}
	}
	r.Clean = len(r.Sins) == 0
	r.AckMS, r.ReplyMS = t.court.ack.millis(), t.court.reply.millis()
	if n := float64(t.court.ack.n); n > 0 {
		r.Over250, r.Over1s = float64(t.court.over250)/n, float64(t.court.over1s)/n
	}
	return r
}

// Seen are the last POSTs and calls, the latest last.
func (t *Trial) Seen() ([]PostSeen, []Call) {
	return slices.Clone(t.court.posts), slices.Clone(t.court.calls)
}
