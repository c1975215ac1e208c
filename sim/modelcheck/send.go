package modelcheck

import "fmt"

// SendBugs are what the model of sending can be given to find.
type SendBugs struct {
	ClaimUnmarked  bool // a claim leaves no mark
	HalfIgnored    bool // a message leaves although half of the lease has passed
	UnseenResend   bool // a doubtful message is sent again without a look at the receipts
	LookedTooEarly bool // a look counts that began before the message was due
	DoubtOvertaken bool // the next message of a conversation is claimed while one is in doubt
}

const (
	senders     = 2
	messages    = 2 // of one conversation, in this order
	epochsMax   = 3
	crashesMost = 1
)

// outgoing is a message in the outbox.
type outgoing struct {
	gone     bool
	mark     uint8 // the epoch of its open claim; 0: none
	doubtful bool
	due      bool // the wait for doubtful ones is over
	looked   bool // the receipts were folded since
	known    bool // when it became due the store had been told that the provider has it
	told     bool // the provider has told the store that it has it
	sent     uint8
}

type senderStage uint8

const (
	resting senderStage = iota
	claimed
	begun    // past the gate: the request may be on its way
	answered // the provider has taken it
	unknown  // the answer was lost
)

// sender is an egress.Sender with its caller.
type sender struct {
	epoch    uint8 // 0: no lease
	half     bool  // of it has passed
	stage    senderStage
	of       uint8 // the epoch of the claim
	message  uint8
	doubtful bool
	known    bool // as of the message, when it was claimed
}

type sendState struct {
	message [messages]outgoing
	sender  [senders]sender
	epoch   uint8
	holder  uint8
	live    bool
	wild    uint8 // a message whose request outlives its process, from 1
	crashes uint8
	fault   string // a promise that a step has broken
}

// Sends is the protocol of the outbox: Lease, Claim, the Gate, Settle, Fold.
func Sends(bugs SendBugs) Model[sendState] {
	return Model[sendState]{
		Name: "sends", Steps: func(s sendState) []Step[sendState] { return sends{bugs, s, nil}.steps() },
		Broken: sendState.broken,
		Settled: func(s sendState) bool {
			return s.message[0].gone && s.message[1].gone
		},
	}
}

// broken is G5: none lost, in order, and none repeated that nobody had to doubt.
func (s sendState) broken() string {
	for i, m := range s.message {
		if m.gone && m.sent == 0 {
			return fmt.Sprintf("message %d is gone and was never sent", i+1)
		}
	}
	return s.fault
}

type sends struct {
	bugs SendBugs
	s    sendState
	out  []Step[sendState]
}

func (c *sends) add(fault bool, to sendState, format string, args ...any) {
	c.out = append(c.out, Step[sendState]{Name: Named(format, args...), Fault: fault, To: to})
}

func (c sends) steps() []Step[sendState] {
	for i := range c.s.sender {
		c.lease(i)
		c.claim(i)
		c.gate(i)
		c.call(i)
		c.settle(i)
		c.crash(i)
	}
	c.time()
	c.receipts()
	if c.s.wild != 0 {
		to := c.s
		to.wild = 0
		c.add(false, to, "the dead sender's request is lost")
		c.add(true, take(to, int(c.s.wild-1), true, false), "the dead sender's request arrives")
	}
	return c.out
}

// time passes. A lease is half over for its holder before it is over for the store: the
// holder counts from when it asked, on a clock that runs while the machine sleeps.
func (c *sends) time() {
	if h := c.s.sender[c.s.holder]; c.s.live && h.epoch == c.s.epoch && !h.half {
		to := c.s
		to.sender[c.s.holder].half = true
		c.add(false, to, "half of the lease of sender %d has passed", c.s.holder+1)
	}
	// The last epoch of the scope doesn't end: nobody could go on.
	if h := c.s.sender[c.s.holder]; c.s.live && c.s.epoch < epochsMax && (h.epoch != c.s.epoch || h.half) {
		to := c.s
		to.live = false
		c.add(false, to, "the lease is over")
	}
	for i, m := range c.s.message {
		if !m.gone && !m.due && (m.doubtful && m.mark == 0 || m.mark != 0 && m.mark != c.s.epoch) {
			to := c.s
			to.message[i].due, to.message[i].known = true, m.told
			c.add(false, to, "message %d is due, doubtful", i+1)
		}
	}
}

// lease is Outbox.Lease and Sender.Leased.
func (c *sends) lease(i int) {
	s := c.s.sender[i]
	if c.s.live && int(c.s.holder) != i || s.epoch == c.s.epoch && c.s.live && !s.half && s.epoch != 0 {
		return
	}
	if s.epoch == c.s.epoch && s.epoch != 0 && c.s.live { // renewed
		to := c.s
		to.sender[i].half = false
		c.add(false, to, "sender %d renews", i+1)
		return
	}
	if s.stage != resting && s.of == s.epoch && s.epoch != 0 || c.s.epoch == epochsMax {
		return // settles first what is open
	}
	to := c.s
	to.epoch, to.holder, to.live = c.s.epoch+1, uint8(i), true
	to.sender[i].epoch, to.sender[i].half = to.epoch, false
	c.add(false, to, "sender %d takes the lease, epoch %d", i+1, to.epoch)
}

// holds: the store compares the epoch.
func (c *sends) holds(epoch uint8) bool { return epoch == c.s.epoch }

// claim is Outbox.Claim and Sender.Claimed.
func (c *sends) claim(i int) {
	s := c.s.sender[i]
	if s.stage != resting || s.epoch == 0 || s.half || !c.holds(s.epoch) || !c.s.live {
		return
	}
	for k, m := range c.s.message {
		if m.gone {
			continue
		}
		old := m.mark != 0 && m.mark != s.epoch
		doubtful := m.doubtful || old
		if c.bugs.DoubtOvertaken && doubtful && !m.due {
			continue
		}
		if m.mark == s.epoch || doubtful && !m.due {
			return
		}
		if doubtful && !m.looked && !c.bugs.UnseenResend {
			return // put back, until the receipts were looked at
		}
		to := c.s
		to.message[k].doubtful = doubtful
		if !c.bugs.ClaimUnmarked {
			to.message[k].mark = s.epoch
		}
		to.sender[i].stage, to.sender[i].message, to.sender[i].doubtful, to.sender[i].of = claimed, uint8(k), doubtful, s.epoch
		to.sender[i].known = doubtful && m.known
		c.add(false, to, "sender %d claims message %d", i+1, k+1)
		return
	}
}

// gate is Gate.Pass.
func (c *sends) gate(i int) {
	s := c.s.sender[i]
	if s.stage != claimed {
		return
	}
	to := c.s
	if (s.half || s.epoch != s.of) && !c.bugs.HalfIgnored { // withheld: the message waits, uncounted
		to.sender[i].stage = resting
		if c.holds(s.of) {
			to.message[s.message].mark = 0
		} else if s.epoch == s.of {
			to.sender[i].epoch = 0
		}
		c.add(false, to, "the gate withholds message %d from sender %d", s.message+1, i+1)
		return
	}
	to.sender[i].stage = begun
	if !c.holds(s.of) {
		to.fault = fmt.Sprintf("sender %d begins to send message %d after another has taken the lease", i+1, s.message+1)
	}
	c.add(false, to, "message %d of sender %d passes the gate", s.message+1, i+1)
}

// take is the provider's.
func take(s sendState, k int, doubtful, known bool) sendState {
	m := &s.message[k]
	switch {
	case m.sent > 0 && !doubtful:
		s.fault = fmt.Sprintf("message %d is sent twice though nobody doubted it", k+1)
	case m.sent > 0 && known:
		s.fault = fmt.Sprintf("message %d is sent again though the store had been told of it", k+1)
	case k > 0 && s.message[k-1].sent == 0:
		s.fault = fmt.Sprintf("message %d is sent before message %d", k+1, k)
	}
	m.sent = min(m.sent+1, 2)
	return s
}

// call is Provider.Send.
func (c *sends) call(i int) {
	s := c.s.sender[i]
	if s.stage != begun {
		return
	}
	to := take(c.s, int(s.message), s.doubtful || s.of != c.s.epoch, s.known)
	to.sender[i].stage = answered
	c.add(false, to, "the provider takes message %d of sender %d", s.message+1, i+1)
	to.sender[i].stage = unknown
	c.add(true, to, "the provider takes message %d of sender %d, and the answer is lost", s.message+1, i+1)
	to = c.s
	to.sender[i].stage = unknown
	c.add(true, to, "the request of sender %d with message %d is lost", i+1, s.message+1)
}

// settle is Sender.Answered and Outbox.Settle.
func (c *sends) settle(i int) {
	s := c.s.sender[i]
	if s.stage != answered && s.stage != unknown {
		return
	}
	to := c.s
	to.sender[i].stage = resting
	m := &to.message[s.message]
	switch {
	case !c.holds(s.of): // fenced: the message is the store's, as doubtful
		if s.epoch == s.of {
			to.sender[i].epoch = 0
		}
		c.add(false, to, "sender %d is fenced", i+1)
		return
	case s.stage == answered:
		*m = outgoing{gone: true, sent: m.sent}
	case !m.gone:
		m.mark, m.doubtful, m.due, m.looked, m.known = 0, true, false, false, false
	}
	c.add(false, to, "sender %d settles message %d", i+1, s.message+1)
}

// receipts are what the provider tells, and Receipts.Fold.
func (c *sends) receipts() {
	for k, m := range c.s.message {
		if m.gone {
			continue
		}
		if m.sent > 0 && !m.told {
			to := c.s
			to.message[k].told = true
			c.add(true, to, "the provider tells that it has message %d", k+1)
		}
		if !m.due && !c.bugs.LookedTooEarly || m.looked || m.mark == c.s.epoch {
			continue
		}
		to := c.s
		to.message[k].looked = true
		if m.told {
			to.message[k] = outgoing{gone: true, sent: m.sent}
		}
		c.add(false, to, "the receipts are looked at for message %d", k+1)
	}
}

// crash ends a process: its request may arrive all the same.
func (c *sends) crash(i int) {
	s := c.s.sender[i]
	if c.s.crashes == crashesMost || c.s.epoch == epochsMax || s == (sender{}) {
		return
	}
	to := c.s
	to.crashes++
	to.sender[i] = sender{}
	if s.stage == begun {
		to.wild = s.message + 1
	}
	c.add(true, to, "sender %d dies", i+1)
}
