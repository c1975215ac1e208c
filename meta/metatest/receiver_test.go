package metatest_test

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"sort"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

const receiverSecret = "a secret of the tests"

// receiver is a webhook receiver as people write them. Its zero value is a good one;
// each field is a mistake.
type receiver struct {
	noVerify       bool // takes forged bodies
	noDedup        bool // replies to what is delivered again
	answersEchoes  bool
	answersSelf    bool // answers echoes, to their sender
	answersStatus  bool
	twice          bool // replies twice
	constant       bool // says the same to everybody, and nothing of the message
	drops          int  // every nth message, after it was acknowledged
	slow           int  // every nth POST is answered late
	fails          int  // every nth POST is answered with 500
	refusesAgain   bool // answers 409 to what it has seen
	firstOnly      bool // of a batch
	phonesOnly     bool // ignores WhatsApp users without a number
	bsuidInTo      bool
	lateFirst      bool // replies to every third message of a user after the next one
	tooLong        bool
	strangers      bool // sends to somebody who never wrote
	sendsOnce      bool // doesn't repeat a send that failed
	mu             sync.Mutex
	posts, handled int
	seen           map[string]bool
	held           map[string]reply
}

type said struct{ id, channel, from, user, text string }

type reply struct{ path, to, body string }

type hook struct {
	Entry []struct {
		ID        string `json:"id"`
		Messaging []struct {
			Sender, Recipient struct {
				ID string `json:"id"`
			}
			Message *struct {
				Mid, Text string
				Echo      bool `json:"is_echo"`
			}
			Postback       *struct{ Mid, Payload string }
			Delivery, Read json.RawMessage
		}
		Changes []struct {
			Value struct {
				Metadata struct {
					ID string `json:"phone_number_id"`
				}
				Messages []struct {
					ID, From string
					User     string `json:"from_user_id"`
					Text     struct{ Body string }
				}
				Statuses []struct {
					ID        string
					Status    string
					Recipient string `json:"recipient_id"`
					User      string `json:"recipient_user_id"`
				}
			}
		}
	}
}

// take is the answer to a POST and what the receiver sends then.
func (r *receiver) take(body []byte, signature string) (status int, late bool, replies []reply) {
	r.mu.Lock()
	defer r.mu.Unlock()
	mac := hmac.New(sha256.New, []byte(receiverSecret))
	_, _ = mac.Write(body)
	if !r.noVerify && signature != "sha256="+hex.EncodeToString(mac.Sum(nil)) {
		return 401, false, nil
	}
	r.posts++
	if r.fails > 0 && r.posts%r.fails == 0 {
		return 500, false, nil
	}
	late = r.slow > 0 && r.posts%r.slow == 0
	var h hook
	if json.Unmarshal(body, &h) != nil {
		return 400, false, nil
	}
	if r.seen == nil {
		r.seen, r.held = map[string]bool{}, map[string]reply{}
	}
	status = 200
	for _, e := range h.Entry {
		for _, m := range e.Messaging {
			switch {
			case m.Message != nil && m.Message.Echo:
				if r.answersSelf {
					replies = append(replies, r.say(e.ID, m.Sender.ID, "", m.Message.Text)...)
				}
				if r.answersEchoes {
					replies = append(replies, r.say(m.Sender.ID, m.Recipient.ID, "", m.Message.Text)...)
				}
			case m.Message != nil:
				replies = append(replies, r.message(&status, said{m.Message.Mid, e.ID, m.Sender.ID, "", m.Message.Text})...)
			case m.Postback != nil:
				replies = append(replies, r.message(&status, said{m.Postback.Mid, e.ID, m.Sender.ID, "", m.Postback.Payload})...)
			case r.answersStatus:
				replies = append(replies, r.say(e.ID, m.Sender.ID, "", "you have read it")...)
			}
		}
		for _, c := range e.Changes {
			for _, m := range c.Value.Messages {
				replies = append(replies, r.message(&status, said{m.ID, c.Value.Metadata.ID, m.From, m.User, m.Text.Body})...)
			}
			for _, s := range c.Value.Statuses {
				if r.answersStatus {
					replies = append(replies, r.say(c.Value.Metadata.ID, s.Recipient, s.User, "you have "+s.Status+" it")...)
				}
			}
		}
		if r.firstOnly {
			break
		}
	}
	return status, late, replies
}

func (r *receiver) message(status *int, m said) []reply {
	id, channel, from, user, text := m.id, m.channel, m.from, m.user, m.text
	if r.seen[id] && r.refusesAgain {
		*status = 409
	}
	if r.seen[id] && !r.noDedup {
		return nil
	}
	r.seen[id] = true
	r.handled++
	if r.drops > 0 && r.handled%r.drops == 0 || r.phonesOnly && from == "" && user != "" {
		return nil
	}
	replies := r.say(channel, from, user, text)
	if r.twice {
		replies = append(replies, r.say(channel, from, user, text+" (once more)")...)
	}
	key := channel + from + user
	if held, ok := r.held[key]; ok {
		delete(r.held, key)
		return append(replies, held)
	}
	if r.lateFirst && r.handled%3 == 0 {
		r.held[key] = replies[0]
		return nil
	}
	return replies
}

func (r *receiver) say(channel, to, user, text string) []reply {
	text = "You said: " + text
	if r.constant {
		text = "Thank you!"
	}
	if r.tooLong {
		text = strings.Repeat(text+" ", 1000)
	}
	if r.strangers {
		to = "999999"
	}
	quoted, _ := json.Marshal(text)
	path := "/v26.0/" + channel + "/messages"
	if !strings.HasPrefix(channel, "1065") { // the numbers of the simulator
		return []reply{{path, to, `{"recipient":{"id":"` + to + `"},"messaging_type":"RESPONSE","message":{"text":` + string(quoted) + `}}`}}
	}
	whom := `"to":"` + to + `"`
	switch {
	case r.bsuidInTo && user != "":
		whom = `"to":"` + user + `"`
	case to == "":
		whom = `"recipient":"` + user + `"`
	}
	return []reply{{path, to + user, `{"messaging_product":"whatsapp",` + whom + `,"type":"text","text":{"body":` + string(quoted) + `}}`}}
}

// again reports whether a send must be repeated.
func (r *receiver) again(a metatest.GraphAnswer) bool {
	if r.sendsOnce {
		return false
	}
	var e struct {
		Error struct {
			Code      int  `json:"code"`
			Transient bool `json:"is_transient"`
		} `json:"error"`
	}
	_ = json.Unmarshal(a.Body, &e)
	return a.Withhold || e.Error.Transient || e.Error.Code == 130429 || e.Error.Code == 613 || e.Error.Code == 131056
}

// stage plays a trial in virtual time.
type stage struct {
	trial *metatest.Trial
	now   time.Time
	later []later
	n     int
	lines map[string][]reply // that wait to be sent, by user
}

type later struct {
	at time.Time
	n  int
	do func()
}

func (s *stage) after(d time.Duration, do func()) {
	s.n++
	s.later = append(s.later, later{s.now.Add(d), s.n, do})
	sort.SliceStable(s.later, func(i, j int) bool { return s.later[i].at.Before(s.later[j].at) })
}

// send has the receiver send the first of what it has for a user, and again if it must.
func (s *stage) send(r *receiver, user string, attempt int) {
	const thought = 5 * time.Millisecond
	s.after(thought, func() {
		next := s.lines[user][0]
		a := s.trial.Graph(metatest.GraphRequest{Method: "POST", Path: next.path, Token: "any", Body: []byte(next.body)}, s.now)
		if r.again(a) && attempt < 100 {
			s.after(a.Delay+time.Second, func() { s.send(r, user, attempt+1) })
			return
		}
		s.after(a.Delay, func() {
			if s.lines[user] = s.lines[user][1:]; len(s.lines[user]) > 0 {
				s.send(r, user, 0)
			}
		})
	})
}

// examined is the verdict on a receiver, in virtual time.
func examined(t *testing.T, cfg metatest.TrialConfig, r *receiver) metatest.TrialReport {
	t.Helper()
	cfg.Secret = receiverSecret
	trial, err := metatest.NewTrial(cfg)
	if err != nil {
		t.Fatal(err)
	}
	s := &stage{trial: trial, now: time.Unix(1_800_000_000, 0), lines: map[string][]reply{}}
	limit := s.now.Add(trial.Config().Duration + 3*time.Minute)
	for s.now.Before(limit) {
		for _, p := range trial.Due(s.now) {
			s.post(r, p)
		}
		if trial.Settled(s.now) && len(s.later) == 0 {
			break
		}
		s.step()
	}
	return trial.Report(s.now)
}

func (s *stage) post(r *receiver, p metatest.TrialPost) {
	status, late, replies := r.take(p.Body, p.Signature)
	took := 2 * time.Millisecond
	if late {
		status, took = metatest.NoAnswer, s.trial.Config().Deadline
	}
	s.after(took, func() { s.trial.Posted(p.ID, status, s.now) })
	for _, one := range replies {
		user := one.path + one.to
		if s.lines[user] = append(s.lines[user], one); len(s.lines[user]) == 1 {
			s.send(r, user, 0)
		}
	}
}

// step goes to the next instant at which something happens.
func (s *stage) step() {
	const most = 100 * time.Millisecond
	next := s.now.Add(most)
	if at, ok := s.trial.NextDue(); ok && at.Before(next) {
		next = at
	}
	if len(s.later) > 0 && s.later[0].at.Before(next) {
		next = s.later[0].at
	}
	if next.After(s.now) {
		s.now = next
	} else {
		s.now = s.now.Add(time.Microsecond)
	}
	for len(s.later) > 0 && !s.later[0].at.After(s.now) {
		do := s.later[0].do
		s.later = s.later[1:]
		do()
	}
}
