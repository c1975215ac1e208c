package flow

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// Policy says when a behaviour, or the form that it fills in, meets what the contact
// writes. The zero Policy is at once. Commands are always met at once, and so is
// whatever isn't written or pressed by the contact. What is pressed ends the wait.
type Policy struct {
	quiet time.Duration
	last  bool
}

// Collect waits until the contact has been quiet for a while, and lets all that they
// wrote be met as one message: "hi", "I want", "a pizza". The wait is bounded, by
// MaxBurst, MaxHeld and MaxHeldBytes, and survives restarts. An edit changes what
// waits, and what the contact deletes is not met.
func Collect(quiet time.Duration) Policy { return Policy{quiet: quiet} }

// Debounce waits until the contact has been quiet for a while, and lets only the last
// of what they wrote be met.
func Debounce(quiet time.Duration) Policy { return Policy{quiet: quiet, last: true} }

func (p Policy) check(what string) error {
	if p.quiet < 0 || p.quiet > MaxQuiet || p.last && p.quiet == 0 {
		return fmt.Errorf("%s: quiet for %s: more than 0, at most %s (MaxQuiet)", what, p.quiet, MaxQuiet)
	}
	return nil
}

// HoldUntil lets what the contact writes wait until the call of that name is answered,
// which must be under way: it is met after the answer, as one message, or after MaxHold
// if there is none. Commands are met at once.
func (t *Turn[S]) HoldUntil(call string) {
	if !t.Calling(call) {
		t.fail("hold until the answer to %q: no such call is under way", call)
		return
	}
	t.progress.Until = call
	t.Turn.SetTimer(heldTimer, MaxHold)
}

// wait lets the input wait, if it is one that is to.
func (t *Turn[S]) wait() bool {
	if !t.input.contact {
		return false
	}
	switch p := &t.progress; {
	case p.Until != "" && t.Calling(p.Until):
		if !t.hold() {
			t.join()
			return false
		}
		return true
	case p.Until != "": // its answer's turn failed: what waits comes with the timer
		return false
	case t.behavior.Policy.quiet == 0:
		return false
	case t.input.payload != "" || t.full():
		t.join()
		return false
	case len(p.Held) == 0:
		p.Since = t.Now().UnixMilli()
	}
	quiet := t.behavior.Policy.quiet
	latest := time.UnixMilli(t.progress.Since).Add(MaxBurst * quiet)
	if !t.hold() {
		t.join()
		return false
	}
	t.Turn.SetTimer(heldTimer, max(0, min(quiet, latest.Sub(t.Now()))))
	return true
}

// full reports whether this input is the last that may wait.
func (t *Turn[S]) full() bool { return len(t.progress.Held) == MaxHeld-1 }

// hold keeps the input for later. False: there is no room for it.
func (t *Turn[S]) hold() bool {
	p := &t.progress
	b, err := parley.EncodeInput(t.Turn.Input())
	if err != nil || len(p.Held) == MaxHeld || p.heldBytes()+len(b) > MaxHeldBytes {
		return false
	}
	if t.behavior.Policy.last && p.Until == "" {
		p.Held = p.Held[:0]
	}
	p.Held = append(p.Held, b)
	return true
}

func (p *progress) heldBytes() int {
	size := 0
	for _, b := range p.Held {
		size += len(b)
	}
	return size
}

// join lets what waits be met now, together with the input.
func (t *Turn[S]) join() {
	if len(t.progress.Held) == 0 {
		return
	}
	last := t.behavior.Policy.last
	parts := append(t.take(), t.input.Input)
	t.CancelTimer(heldTimer)
	if last {
		parts = parts[len(parts)-1:]
	}
	t.parts = parts
	chosen := t.input.payload
	t.hear(joined(parts, chosen))
}

// take empties what waits.
func (t *Turn[S]) take() []parley.Input {
	parts := make([]parley.Input, 0, len(t.progress.Held)+1)
	for _, b := range t.progress.Held {
		in, err := parley.DecodeInput(b)
		if err != nil {
			t.fail("decode an input that waited: %w", err)
			continue
		}
		parts = append(parts, in)
	}
	t.drop()
	return parts
}

// drop forgets what waits, and for what.
func (t *Turn[S]) drop() { t.progress.Held, t.progress.Since, t.progress.Until = nil, 0, "" }

// release lets what waits be met, in the turn of the timer that ends the wait or after
// the answer that it waited for.
func (t *Turn[S]) release() error {
	parts := t.take()
	if len(parts) == 0 {
		return nil
	}
	t.parts = parts
	if len(parts) == 1 {
		t.hear(parts[0])
	} else {
		t.hear(joined(parts, ""))
	}
	return t.below()
}

// abandon drops what waits for a timer that is no more: its turn failed, and is a dead
// letter. Else it would fail every turn that follows.
func (t *Turn[S]) abandon() {
	if len(t.progress.Held) > 0 && !t.Waiting(heldTimer) {
		t.drop()
	}
}

// answered handles what came of a call, and then what waited for it.
func (t *Turn[S]) answered(in parley.Called) error {
	if in.Name != t.progress.Until {
		return t.meet()
	}
	t.progress.Until = ""
	if err := t.handle(); err != nil && !errors.Is(err, errPass) {
		return err
	}
	if t.progress.Until != "" || len(t.progress.Held) == 0 || t.ended {
		return nil // it waits for the next call, or for nothing
	}
	t.CancelTimer(heldTimer)
	if t.Speaker() != parley.SpeakerBot {
		t.drop()
		return nil
	}
	if t.became != nil {
		t.behavior = t.program.flow.named(*t.became)
	}
	return t.release()
}

// settle frees what waits for a call that was cancelled in this turn.
func (t *Turn[S]) settle() {
	p := &t.progress
	if p.Until == "" || t.Calling(p.Until) {
		return
	}
	p.Until = ""
	if len(p.Held) > 0 {
		t.Turn.SetTimer(heldTimer, 0)
	}
}

// joined is one message that says what several inputs did. What was pressed is the
// message's payload.
func joined(parts []parley.Input, payload string) parley.Message {
	var m parley.Message
	var said []string
	for _, part := range parts {
		h := hear(part)
		if h.text != "" {
			said = append(said, h.text)
		}
		if h.payload != "" {
			m.Payload = h.payload
		}
		if p, ok := part.(parley.Message); ok {
			m.ID, m.From, m.ReplyTo = p.ID, p.From, p.ReplyTo
			m.Attachments = append(m.Attachments, p.Attachments...)
			if p.Location != nil {
				m.Location = p.Location
			}
			if p.Referral != nil {
				m.Referral = p.Referral
			}
		}
	}
	if payload != "" {
		m.Payload = payload
	}
	m.Text = strings.Join(said, "\n")
	return m
}

// revise changes what waits: an edit its text, a deletion takes it away. False: it
// isn't there.
func (t *Turn[S]) revise(id string, text *string) bool {
	p := &t.progress
	for i, b := range p.Held {
		in, err := parley.DecodeInput(b)
		m, ok := in.(parley.Message)
		if err != nil || !ok || m.ID == "" || m.ID != id {
			continue
		}
		if text == nil {
			p.Held = append(p.Held[:i], p.Held[i+1:]...)
			return true
		}
		m.Text = *text
		if changed, err := parley.EncodeInput(m); err == nil && p.heldBytes()-len(b)+len(changed) <= MaxHeldBytes {
			p.Held[i] = changed
		}
		return true
	}
	return false
}
