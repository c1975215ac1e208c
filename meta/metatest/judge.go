package metatest

import (
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley/meta/metatest/history"
)

// reply is what the bot said: "said K #N", or "ring K".
type reply struct {
	ring bool
	k, n uint32
}

// parseReply reads a reply; more text may follow it after a space.
func parseReply(text string) (reply, bool) {
	word, rest, _ := strings.Cut(text, " ")
	first, rest, _ := strings.Cut(rest, " ")
	k, ok := number(first)
	switch {
	case !ok:
		return reply{}, false
	case word == "ring":
		return reply{ring: true, k: k}, true
	case word != "said" || !strings.HasPrefix(rest, "#"):
		return reply{}, false
	}
	second, _, _ := strings.Cut(rest[1:], " ")
	n, ok := number(second)
	return reply{k: k, n: n}, ok
}

func number(s string) (uint32, bool) {
	n, err := strconv.ParseUint(s, 10, 32)
	return uint32(n), err == nil && n > 0
}

// answering is what is known of the answer to an accepted send.
type answering struct {
	written  int64 // when it is written
	doubtful bool  // the sender will not see it, or not in time
}

// extra is a reply that showed a second effect of a message: the same K with
// another N.
type extra struct {
	extraKey
	step uint32
}

type extraKey struct {
	message int32
	n       uint32
}

// judge takes note of a reply that was accepted.
func (w *World) judge(user int32, text string, a answering) {
	said, ok := parseReply(text)
	i := w.recordOf(user, said.k)
	switch {
	case !ok:
		w.live.strayed("a text that is no reply, to " + w.name(user))
	case i < 0 || w.records[i].postedStep == 0:
		w.live.strayed("a reply to a message that was not posted, to " + w.nameOf(user, said.k))
	case said.ring:
		w.note(i, history.Ring, 0)
		w.judgeRing(i, a)
	default:
		w.note(i, history.Said, said.n)
		w.judgeSaid(i, said.n, a)
	}
}

// judgeSaid takes note of "said K #N".
func (w *World) judgeSaid(i int32, n uint32, a answering) {
	r := &w.records[i]
	switch {
	case !r.answered():
		w.firstSaid(i, n)
	case r.n == n || w.known[extraKey{i, n}]:
		w.repeated(i, r.told)
		if !r.doubtful && !w.straggling() {
			w.live.SendsRepeatedUnexplained++
			w.live.problem("reply sent again without a reason: " + w.nameMessage(i))
		}
	default:
		w.known[extraKey{i, n}] = true
		w.extras = append(w.extras, extra{extraKey{i, n}, w.step})
		w.live.EffectsDoubled++
		w.live.problem("two effects of one message: " + w.nameMessage(i))
	}
	r.written, r.doubtful = a.written, a.doubtful
}

// lookWithin is how soon after a receipt was acknowledged a sender must know of it.
const lookWithin = 250 * time.Millisecond

// repeated counts a send of a reply, or a ring, that was accepted before. told is when
// a receipt of the first was acknowledged that names it; 0 = not at all.
func (w *World) repeated(i int32, told int64) {
	w.live.SendsRepeated++
	w.live.SendsRepeatedOn.add(w.channels[w.people[w.userOf(i)].channel].index)
	if told != 0 && w.now-told > int64(lookWithin) && !w.straggling() {
		w.live.SendsRepeatedTold++
	}
}

// tell takes note that a receipt was acknowledged by which a sender can know its
// message although it has no answer: WhatsApp's statuses have its tag, of Messenger's
// receipts the echo, of Instagram's none.
func (w *World) tell(r *receipt, at int64) {
	said, ok := parseReply(r.text)
	i := w.recordOf(r.user, said.k)
	index := w.channels[w.people[r.user].channel].index
	if !ok || i < 0 || r.tag == "" || index == onInstagram || index == onMessenger && r.kind != echo {
		return
	}
	m := &w.records[i]
	switch {
	case !said.ring && m.told == 0:
		m.told = at
	case said.ring && m.command == remind && w.timers[m.timer].told == 0:
		w.timers[m.timer].told = at
	}
}

func (w *World) firstSaid(i int32, n uint32) {
	r, p := &w.records[i], &w.people[w.userOf(i)]
	r.n, r.said, r.saidStep = n, w.now, w.step
	w.answered++
	if r.heard {
		w.repeated(i, 0) // of what the store has lost
	}
	if n < p.lastN {
		w.live.SendsOutOfOrder++
		w.live.problem("reply sent after that of a later effect: " + w.nameMessage(i))
	}
	p.lastN = max(p.lastN, n)
	switch r.command {
	case say:
	case remind:
		w.reminderSaid(i)
	case forget:
		if j := w.recordOf(w.userOf(i), r.arg); j >= 0 {
			w.cancel(&w.timers[w.records[j].timer])
		}
	}
}

// reminderSaid takes note that a reminder took effect: its ring is owed.
func (w *World) reminderSaid(i int32) {
	t := &w.timers[w.records[i].timer]
	if t.hasRung() {
		w.live.SendsOutOfOrder++
		w.live.problem("ring sent before the reply that set it: " + w.nameMessage(i))
		return
	}
	t.open = true
	w.open++
	w.cancel(t)
}

// cancel closes a timer if the reply to forget shows that it took effect after
// the reminder, and the timer has not rung.
func (w *World) cancel(t *timer) {
	if t.forgotten < 0 || t.hasRung() {
		return
	}
	r, f := &w.records[t.message], &w.records[t.forgotten]
	if r.answered() && f.answered() && f.n > r.n {
		t.cancelled = true
		w.shut(t)
	}
}

func (w *World) shut(t *timer) {
	if t.open {
		t.open = false
		w.open--
	}
}

// judgeRing takes note of "ring K".
func (w *World) judgeRing(i int32, a answering) {
	r := &w.records[i]
	if r.command != remind {
		w.live.strayed("a ring without a reminder: " + w.nameMessage(i))
		return
	}
	t := &w.timers[r.timer]
	if t.hasRung() {
		w.repeated(i, t.told)
		if !t.doubtful && !w.straggling() {
			w.live.TimersDoubled++
			w.live.problem("reminder rang twice: " + w.nameMessage(i))
		}
	} else {
		w.firstRing(i, t)
	}
	t.written, t.doubtful = a.written, a.doubtful
}

func (w *World) firstRing(i int32, t *timer) {
	t.rung, t.rungStep = w.now, w.step
	w.live.TimersRung++
	if t.heard {
		w.repeated(i, 0) // as above
	}
	w.shut(t)
	if t.cancelled {
		w.live.TimersAfterCancel++
		w.live.problem("reminder rang after it was cancelled: " + w.nameMessage(i))
	}
	if w.now < w.earliest(&w.records[i]) {
		w.live.TimersEarly++
		w.live.problem("reminder rang early: " + w.nameMessage(i))
	}
}

// earliest is when a reminder may ring at the earliest: its delay after the
// first post that may have arrived. A node stamps what comes in with whole
// milliseconds, so the post counts from the beginning of its own.
func (w *World) earliest(r *record) int64 {
	const ms = int64(time.Millisecond)
	start := w.start.UnixNano()
	return (start+r.posted)/ms*ms - start + int64(r.arg)*ms
}

// name is how problems name a user; nameOf and nameMessage add the message.
func (w *World) name(user int32) string {
	p := &w.people[user]
	c := &w.channels[p.channel]
	return string(c.Platform) + "/" + c.ID + "/" + p.contact()
}

func (w *World) nameOf(user int32, k uint32) string {
	return w.name(user) + " K=" + strconv.FormatUint(uint64(k), 10)
}

func (w *World) nameMessage(i int32) string { return w.nameOf(w.userOf(i), w.numberOf(i)) }
