package metatest

import (
	"crypto/hmac"
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// GraphRequest is one call of the Graph API.
type GraphRequest struct {
	Method string
	Path   string // /v26.0/{page, account or number}/messages, or what moves its threads
	Token  string // of the Authorization header or the access_token parameter
	Proof  string // appsecret_proof, if any
	Body   []byte // not kept
	// Opened is when its connection was accepted, if known: what comes over a
	// connection that is older than a kill was sent by the dead process.
	Opened time.Time
}

// GraphAnswer is what to do about a [GraphRequest]: write Status and Body after
// Delay; or, if Withhold, close the connection after Delay without an answer.
type GraphAnswer struct {
	Status   int
	Body     []byte
	Delay    time.Duration
	Withhold bool
}

// Graph takes one send, as Meta's Graph API would: it checks the request's
// shape, token, limits and addressee, fails it if the faults of the
// configuration say so, and else accepts it, which is when the user gets it and
// the judge takes note.
func (w *World) Graph(req GraphRequest, now time.Time) GraphAnswer {
	s := w.read(req)
	return w.answer(&s, req.Opened, now)
}

func (w *World) answer(s *send, opened, now time.Time) GraphAnswer {
	w.tick(now)
	if s.err != nil {
		return w.refuse(s.err)
	}
	c := &w.channels[s.channel]
	if s.notice && s.edge == edgeMessages {
		w.live.Notices++
		return GraphAnswer{Status: 200, Body: noticeAnswer(c.index, s.key)}
	}
	user, ok := w.byKey[s.key]
	if !ok || w.people[user].channel != s.channel {
		w.live.strayed("a send to nobody of that channel")
		return w.refuse(noSuchUser(c.index))
	}
	if s.edge == edgeTake {
		delete(w.elsewhere, user)
		return w.moved()
	}
	if w.elsewhere[user] != "" {
		return w.refuse(elsewhere())
	}
	if s.edge == edgePass {
		w.elsewhere[user] = s.app
		return w.moved()
	}
	fault := w.fault()
	switch fault {
	case faultTransient:
		w.live.Faults.Transient++
		return transientFault().answer(uint64(w.step))
	case faultThrottled:
		w.live.Faults.Throttled++
		return throttledFault(c.index).answer(uint64(w.step))
	case faultNone, faultWithheld, faultSlow:
	}
	return w.accept(s, user, fault, w.fromTheDead(opened))
}

// moved is the answer to who gave a thread to another app, or took it back.
func (w *World) moved() GraphAnswer {
	w.live.Notices++
	return GraphAnswer{Status: 200, Body: []byte(`{"success":true}`)}
}

func (w *World) refuse(e *graphError) GraphAnswer {
	w.live.SendsRefused++
	return e.answer(uint64(w.step))
}

// fromTheDead reports whether a request came over a connection that is older
// than the last kill: its sender will never see the answer.
func (w *World) fromTheDead(opened time.Time) bool {
	const backlog = int64(50 * time.Millisecond) // a connection may wait to be accepted
	if opened.IsZero() || w.lastKill < 0 {
		return false
	}
	return w.since(opened) < w.lastKill+backlog
}

type fault uint8

const (
	faultNone fault = iota
	faultTransient
	faultThrottled
	faultWithheld
	faultSlow
)

// fault draws what goes wrong with a valid send.
func (w *World) fault() fault {
	f, x := w.cfg.Faults, w.graph.Float64()
	for i, share := range [...]float64{f.Transient, f.Throttled, f.Withheld, f.Slow} {
		if x -= share; x < 0 {
			return faultTransient + fault(i)
		}
	}
	return faultNone
}

// accept takes a send: it is on its way to the user, whatever becomes of the
// answer.
func (w *World) accept(s *send, user int32, f fault, dead bool) GraphAnswer {
	w.sent++
	w.live.Sends++
	c := &w.channels[s.channel]
	mid := string(appendID(nil, c.index, mix(w.cfg.Seed, w.sent|1<<63), w.sent|1<<63))
	a := GraphAnswer{Status: 200, Delay: w.delay(f), Withhold: f == faultWithheld}
	if a.Withhold {
		w.live.Faults.Withheld++
	} else {
		a.Body = w.acceptance(c.index, s, user, mid)
	}
	w.judge(user, s.text, answering{
		written:  w.now + int64(a.Delay),
		doubtful: a.Withhold || a.Delay >= w.cfg.Faults.Patience || dead,
	})
	if s.inTo && s.key == w.people[user].bsuid {
		// Meta says 200 to a business-scoped id in "to", and never delivers.
		w.live.undelivered(w, user)
		return a
	}
	w.report(user, mid, s)
	return a
}

// delay is how long the answer to an accepted send takes.
func (w *World) delay(f fault) time.Duration {
	if f == faultSlow {
		w.live.Faults.Slow++
		return w.cfg.Faults.SlowFor
	}
	if w.cfg.AnswerMax <= 0 {
		return 0
	}
	return time.Duration(w.graph.Int64N(int64(w.cfg.AnswerMax) + 1))
}

// acceptance is the body of a 200.
func (w *World) acceptance(index int, s *send, user int32, mid string) []byte {
	b := make([]byte, 0, 200)
	if index != onWhatsApp {
		b = appendField(b, `{"recipient_id":`, s.key)
		b = appendField(b, `,"message_id":`, mid)
		return append(b, '}')
	}
	p := &w.people[user]
	b = appendField(b, `{"messaging_product":"whatsapp","contacts":[{"input":`, s.key)
	if p.id != "" {
		b = appendField(b, `,"wa_id":`, p.id)
	}
	if p.bsuid != "" && !s.inTo {
		b = appendField(b, `,"user_id":`, p.bsuid)
	}
	b = appendField(b, `}],"messages":[{"id":`, mid)
	return append(b, `}]}`...)
}

// noticeAnswer is the body of a 200 to typing and read notices.
func noticeAnswer(index int, key string) []byte {
	if index == onWhatsApp {
		return []byte(`{"success":true}`)
	}
	return append(appendField(nil, `{"recipient_id":`, key), '}')
}

// rightProof reports whether proof is hex HMAC-SHA256(app secret, token).
func rightProof(secret, token, proof string) bool {
	mac := hmac.New(sha256.New, []byte(secret))
	_, _ = mac.Write([]byte(token)) // a hash never fails
	return hmac.Equal([]byte(proof), []byte(hex.EncodeToString(mac.Sum(nil))))
}
