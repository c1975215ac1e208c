package parley

import (
	"strings"
	"time"
)

// How long after they last wrote the platforms let a business write to a person
// as it likes (WhatsApp, sending messages, 4 November 2025; Messenger, Send API,
// 5 May 2026).
const (
	// Window is that time. Beyond it there are approved templates.
	Window = 24 * time.Hour
	// EntryWindow is that time for whoever came by an ad (WhatsApp).
	EntryWindow = 72 * time.Hour
	// HumanAgentWindow is that time for what a person wrote (Send.HumanAgent).
	HumanAgentWindow = 7 * 24 * time.Hour
)

// Heard is what a conversation knows of when its contact could last be written
// to. It goes with each message, since time passes in the outbox.
//
// Times are the provider's where it told them: its window begins when the contact
// wrote, not when we heard of it. The zero Heard knows nothing, and forbids
// nothing.
type Heard struct {
	At    time.Time // the contact's last word
	Entry time.Time // the last one by which it came from an ad
	// Stopped is when the contact said that it wants no marketing; zero if it
	// does, or has said so since.
	Stopped time.Time
}

// Failure says why a message wasn't sent, where that means something to a bot.
// The values are stored; they never change.
type Failure string

// The failures.
const (
	// WindowClosed: the contact has not written for too long for this sort of
	// message. A template may be sent.
	WindowClosed Failure = "window_closed"
	// OptedOut: it was marketing, which the contact has stopped.
	OptedOut Failure = "opted_out"
	// OutcomeUnknown: it may have been sent; the answer was lost, and what is
	// configured is not to send it again.
	OutcomeUnknown Failure = "outcome_unknown"
	// TakenOver: somebody else was given the word before it was sent (HandOff).
	TakenOver Failure = "taken_over"
)

// Meta's codes for the failures, by whichever way they come.
const (
	codeWindowClosed = 131047
	codeOptedOut     = 131050
)

// failure is what f failed for, also by the provider's word for it.
func (f SendFailed) failure() Failure {
	switch {
	case f.Why != "":
		return f.Why
	case f.Code == codeWindowClosed:
		return WindowClosed
	case f.Code == codeOptedOut:
		return OptedOut
	}
	return ""
}

// Refuses says what keeps a message of a channel of that kind from being sent at
// a time; empty if nothing does. A private reply has its own window, which only
// the provider knows, and a signal does no harm.
func (h Heard) Refuses(kind ChannelKind, s *Send, at time.Time) Failure {
	switch {
	case s.Template != nil:
		if s.Template.Category == Marketing && !h.Stopped.IsZero() {
			return OptedOut
		}
		return ""
	case s.Private != nil, s.Signal != nil, h.At.IsZero():
		return ""
	case kind == WhatsApp:
		if at.Before(h.At.Add(Window)) || !h.Entry.IsZero() && at.Before(h.Entry.Add(EntryWindow)) {
			return ""
		}
		return WindowClosed
	case kind == Messenger, kind == Instagram:
		if at.Before(h.At.Add(Window)) || s.HumanAgent && at.Before(h.At.Add(HumanAgentWindow)) {
			return ""
		}
		return WindowClosed
	}
	return ""
}

// hear is h after an event that was received at a time. Events come late and in
// any order: a time is never set back.
//
// Of what is late and has no time, like a dead letter that was retried after days,
// nobody knows when it was said. It opens no window, and doesn't take back that
// they want no marketing; that they want none it tells whenever it was.
func (h Heard) hear(p *Pending, received time.Time) Heard {
	at := received
	if p.Time.Before(at) && p.Time.After(at.Add(-SeenFor)) { // nothing is delivered later: that is no time, but a broken clock
		at = ceil(p.Time.UTC())
	}
	known := !p.Late || !p.Time.IsZero()
	if known && speaks(p.Input) && at.After(h.At) {
		h.At = at
	}
	if m, ok := p.Input.(Message); known && ok && m.Referral != nil && at.After(h.Entry) {
		h.Entry = at
	}
	switch stopped, told := stops(p.Input); {
	case told && stopped && h.Stopped.IsZero():
		h.Stopped = at
	case told && !stopped && known:
		h.Stopped = time.Time{}
	}
	return h
}

// speaks reports whether by an input the contact turns to the business: that
// opens the window. Where the platforms' pages don't say, it does; they refuse
// what they see otherwise.
func speaks(in Input) bool {
	switch in := in.(type) {
	case Message, Postback, Referred, OptIn:
		return true
	case Reaction:
		return !in.Removed
	case PhoneCall:
		return in.Direction != "BUSINESS_INITIATED"
	default:
		return false
	}
}

// stops tells whether an input is about marketing, and whether it ends it.
func stops(in Input) (stopped, told bool) {
	const stop, resume, start = "stop", "resume", "start"
	var word string
	switch in := in.(type) {
	case Preference:
		word = in.Value
	case OptIn:
		word = in.Status
	case SendFailed:
		return true, in.failure() == OptedOut
	default:
		return false, false
	}
	switch strings.ToLower(word) {
	case stop:
		return true, true
	case resume, start:
		return false, true
	}
	return false, false
}

// join is what is known of a contact that was known twice.
func (h Heard) join(o Heard) Heard {
	return Heard{At: latest(h.At, o.At), Entry: latest(h.Entry, o.Entry), Stopped: latest(h.Stopped, o.Stopped)}
}
