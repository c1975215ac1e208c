package history

import (
	"fmt"
	"hash/fnv"
	"math"
	"time"
)

// never is the line at which an operation returns that doesn't.
const never = int64(math.MaxInt64)

// lossGrace is how long after the store was gone an acknowledgement may be read that
// was given before.
const lossGrace = 250 * time.Millisecond

// message is what was seen of a user's message; lines are 0 for what wasn't.
type message struct {
	k, arg    uint32
	n         uint32 // of the first reply
	wants     string
	post, ack int64 // lines
	said      int64
	posted    int64 // ns
	acked     int64
	replied   int64
	last      bool
	spooled   bool // the acknowledgement binds one node only
	second    uint32
}

// bound is the line before which the message has its place in the log.
func (m *message) bound() int64 {
	bound := never
	if m.ack > 0 && !m.spooled {
		bound = m.ack
	}
	if m.said > 0 {
		bound = min(bound, m.said)
	}
	return bound
}

// ring is what was seen of a timer's.
type ring struct {
	k     uint32
	seen  int64  // line
	at    int64  // ns
	after uint32 // the number of messages that replies had shown by then
}

// conversation is what was seen of one.
type conversation struct {
	name     string
	messages []*message // by the line of the first post
	byNumber map[uint32]*message
	rings    []ring
	highest  uint32 // N that a reply has shown
	findings []Finding
}

// collection is the conversations of one part of a history.
type collection struct {
	part, parts   uint64
	conversations map[string]*conversation
	order         []*conversation
	lines         int64
	whole         bool
	within        time.Duration // for the last messages; 0 = no fault was healed
}

func (c *collection) take(line int64, e *Event, h *Header) error {
	c.lines++
	switch e.Kind {
	case End:
		c.whole = true
	case Healed:
		c.within = time.Duration(e.Within)
	case Spooled:
		c.each(func(v *conversation) { v.spool(e.From, e.Until) })
	case Lost:
		c.each(func(v *conversation) { v.lose(e.From, e.Until) })
	case Post, Unpost, Ack, Said, Ring:
		if e.Conversation == "" || e.Message == 0 {
			return fmt.Errorf("%q needs a conversation and the number of a message", e.Kind)
		}
		if c.has(e.Conversation) {
			return c.of(e.Conversation).take(line, e, h)
		}
	default:
		return fmt.Errorf("an event of unknown kind %q", e.Kind)
	}
	return nil
}

// has reports whether a conversation is in this part.
func (c *collection) has(name string) bool {
	if c.parts <= 1 {
		return true
	}
	sum := fnv.New64a()
	_, _ = sum.Write([]byte(name)) // a hash never fails
	return sum.Sum64()%c.parts == c.part
}

func (c *collection) each(do func(*conversation)) {
	for _, v := range c.order {
		do(v)
	}
}

func (c *collection) of(name string) *conversation {
	v := c.conversations[name]
	if v == nil {
		v = &conversation{name: name, byNumber: map[uint32]*message{}}
		c.conversations[name] = v
		c.order = append(c.order, v)
	}
	return v
}

func (v *conversation) take(line int64, e *Event, h *Header) error {
	m := v.byNumber[e.Message]
	if e.Kind == Post {
		return v.posted(m, line, e)
	}
	if m == nil || m.post == 0 && e.Kind != Unpost {
		if e.Kind == Said || e.Kind == Ring {
			v.find(G5, "a reply to message %d, which wasn't posted", e.Message)
			return nil
		}
		return fmt.Errorf("%q of message %d, which wasn't posted", e.Kind, e.Message)
	}
	switch e.Kind {
	case Unpost:
		m.post, m.posted = 0, 0
	case Ack:
		if m.ack == 0 {
			m.ack, m.acked = line, e.At
		}
	case Said:
		v.said(m, line, e)
	case Ring:
		v.rang(m, line, e, h)
	}
	return nil
}

func (v *conversation) posted(m *message, line int64, e *Event) error {
	switch {
	case m != nil && m.post != 0:
		return fmt.Errorf("message %d was posted for the first time twice", e.Message)
	case e.Wants != Say && e.Wants != Remind && e.Wants != Forget:
		return fmt.Errorf("a message that wants %q", e.Wants)
	case m == nil:
		m = &message{k: e.Message}
		v.byNumber[e.Message] = m
		v.messages = append(v.messages, m)
	}
	m.wants, m.arg, m.last = e.Wants, e.Arg, e.Last
	m.post, m.posted = line, e.At
	return nil
}

// said takes note of a reply; one that was seen before may have been sent again.
func (v *conversation) said(m *message, line int64, e *Event) {
	switch {
	case e.N == 0:
		v.find(G5, "a reply to message %d without a number", m.k)
	case m.said == 0:
		if e.N < v.highest {
			v.find(G5, "message %d was answered #%d after another was answered #%d: out of order", m.k, e.N, v.highest)
		}
		m.n, m.said, m.replied = e.N, line, e.At
		v.highest = max(v.highest, e.N)
	case m.n != e.N && m.second != e.N:
		m.second = e.N
		v.find(G2, "message %d took effect twice: it was answered #%d and #%d", m.k, m.n, e.N)
	}
}

// rang takes note of a ring; whether it may have been sent again the record doesn't say.
func (v *conversation) rang(m *message, line int64, e *Event, h *Header) {
	if m.wants != Remind {
		v.find(G6, "message %d set no timer, and it rang", m.k)
		return
	}
	for _, r := range v.rings {
		if r.k == m.k {
			return
		}
	}
	// A node stamps what comes in with whole milliseconds.
	due := h.Start.Add(time.Duration(m.posted)).Truncate(time.Millisecond).Add(time.Duration(m.arg) * time.Millisecond)
	if h.Start.Add(time.Duration(e.At)).Before(due) {
		v.find(G6, "the timer of message %d rang early", m.k)
	}
	v.rings = append(v.rings, ring{k: m.k, seen: line, at: e.At, after: v.highest})
}

func (v *conversation) spool(from, until int64) {
	for _, m := range v.messages {
		if m.ack > 0 && m.acked >= from && m.acked < until {
			m.spooled = true
		}
	}
}

// lose forgets what the store has forgotten: replies and rings may come once more, and
// what was acknowledged in between may be gone.
func (v *conversation) lose(from, until int64) {
	v.highest = 0
	for _, m := range v.messages {
		if m.ack > 0 && m.acked >= from && m.acked < until+int64(lossGrace) {
			m.ack, m.acked = 0, 0
		}
		if m.said > 0 && m.replied >= from {
			m.n, m.said, m.replied = 0, 0, 0
		}
		v.highest = max(v.highest, m.n)
	}
	kept := v.rings[:0]
	for _, r := range v.rings {
		if r.at < from {
			kept = append(kept, r)
		}
	}
	v.rings = kept
}

func (v *conversation) find(promise, format string, args ...any) {
	v.findings = append(v.findings, Finding{Promise: promise, Conversation: v.name, What: fmt.Sprintf(format, args...)})
}
