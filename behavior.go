package parley

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"
)

// Behavior decides what a conversation does about one input. It must be a pure
// function of the turn: no clock, no random number, no I/O, no variable that
// outlives the call. It may be run again for the same input when a commit did
// not take hold, and only the run that is committed counts.
type Behavior interface {
	// Receive handles t.Input. An error (or a panic) discards what the turn
	// wanted for this input, and makes the input a dead letter.
	Receive(t *Turn) error
}

// BehaviorFunc is a function used as a Behavior.
type BehaviorFunc func(t *Turn) error

// Receive calls f.
func (f BehaviorFunc) Receive(t *Turn) error { return f(t) }

// Stateful makes a behaviour of a function over a typed state, which is kept as
// JSON. The state of a new conversation is the zero S.
func Stateful[S any](f func(t *Turn, s *S) error) Behavior {
	return BehaviorFunc(func(t *Turn) error {
		var s S
		if err := t.State(&s); err != nil {
			return err
		}
		if err := f(t, &s); err != nil {
			return err
		}
		if t.ended {
			return nil
		}
		return t.SetState(&s)
	})
}

// Bot is what serves a channel: a named set of behaviours. It is a plain value;
// there is no registry.
type Bot struct {
	Name     string
	Version  int      // of the form of its state; the first is 1, which 0 means, too
	Behavior Behavior // receives the first input of a conversation
	// Named are the behaviours that Become may name. A conversation whose
	// behaviour is not among them (any more) goes on with Fallback, or else with
	// Behavior.
	Named map[string]Behavior
	// Migrations make states of a version into those of the next, by the version
	// that they begin with. What is stored is migrated by the turn that meets it;
	// the turn's commit stores the new form, or if it fails leaves the old.
	Migrations map[int]Migration
	// Fallback receives the inputs of conversations that can't go on: whose state
	// can't be migrated, or not be decoded by the behaviour, or whose behaviour isn't
	// there any more; Turn.FallbackCause says which. Without it inputs that meet such a
	// state become dead letters, and the state stays as it is.
	Fallback Behavior
	// Previous is the bot as it was in an earlier release. It runs while somebody
	// doesn't read Version yet, so that nobody waits during an upgrade, and the
	// upgrade can be taken back. Without it conversations wait meanwhile.
	Previous *Bot
}

func (b *Bot) behavior(name string) Behavior {
	if named, ok := b.Named[name]; ok {
		return named
	}
	return b.Behavior
}

// Turn is one input being handled. All that a behaviour can reach is here; what
// it can't reach it can't break.
type Turn struct {
	conversation Conversation
	now          time.Time
	event        *Pending
	before       *Snapshot // as the turn found it
	state        []byte
	wrote        bool       // state was replaced in this turn
	migrated     bool       // state is of the bot's version and was stored in an older one
	fallback     *TurnError // why the Fallback has the input
	unreadable   bool       // state could not be decoded
	effects      []Effect
	buried       []burial
	ended        bool
	fault        *TurnError // the first limit passed
}

// Conversation is the one that the input belongs to.
func (t *Turn) Conversation() Conversation { return t.conversation }

// Now is the turn's time: when the store received the input, and never before
// the conversation's last turn.
func (t *Turn) Now() time.Time { return t.now }

// Input is what happened.
func (t *Turn) Input() Input { return t.event.Input }

// SentAt is the provider's time of the input, zero if it has none. It may be
// minutes old and run backwards.
func (t *Turn) SentAt() time.Time { return t.event.Time }

// Late reports whether the input was acknowledged from a spool while the store
// did not answer. Inputs of a conversation take effect in the order in which
// they were acknowledged; a late one may come after younger ones that came in
// through other nodes. Among those of its own node it is in its place.
//
// It also reports whether the input was a dead letter that an operator has retried:
// then it may come hours after the inputs that it stood between.
func (t *Turn) Late() bool { return t.event.Late }

// State decodes the conversation's state into v, and leaves v alone if there is
// none yet.
func (t *Turn) State(v any) error {
	if len(t.state) == 0 {
		return nil
	}
	if err := json.Unmarshal(t.state, v); err != nil {
		t.unreadable = true
		return &TurnError{Kind: TurnState, Cause: fmt.Sprintf("decode state into %T: %s", v, misread(err))}
	}
	return nil
}

// SetState replaces the conversation's state by v, as JSON of at most
// MaxStateBytes.
func (t *Turn) SetState(v any) error {
	b, err := json.Marshal(v)
	if err != nil {
		return &TurnError{Kind: TurnState, Cause: fmt.Sprintf("encode state of %T: %v", v, err)}
	}
	return t.SetRawState(b)
}

// SetRawState replaces the conversation's state as it is stored, for who writes it in
// another way than SetState: at most MaxStateBytes, which must not be changed after.
func (t *Turn) SetRawState(state []byte) error {
	if len(state) > MaxStateBytes {
		return t.over("state of %d bytes: at most %d (MaxStateBytes)", len(state), MaxStateBytes)
	}
	t.state, t.wrote = state, true
	return nil
}

// RawState is the state as it is stored, nil if there is none: for who reads it in
// another way than State does. It must not be changed.
func (t *Turn) RawState() []byte { return t.state }

// Waiting reports whether a timer of that name is set, after what the turn has done
// so far. One that the turn's input is has been taken.
func (t *Turn) Waiting(timer string) bool {
	for _, e := range slices.Backward(t.effects) {
		switch e := e.(type) {
		case SetTimer:
			if e.Name == timer {
				return true
			}
		case CancelTimer:
			if e.Name == timer {
				return false
			}
		case End:
			return false
		default: // says nothing of timers
		}
	}
	return t.before.timer(timer) >= 0
}

// Say sends a text, with quick replies if there are any.
func (t *Turn) Say(text string, replies ...QuickReply) { t.Do(Send{Text: text, QuickReplies: replies}) }

// SetTimer sets the timer of that name to fire in d from Now.
func (t *Turn) SetTimer(name string, d time.Duration) { t.Do(SetTimer{Name: name, In: d}) }

// CancelTimer cancels the timer of that name.
func (t *Turn) CancelTimer(name string) { t.Do(CancelTimer{Name: name}) }

// Become lets the named behaviour receive the next inputs.
func (t *Turn) Become(name string) { t.Do(Become{Behavior: name}) }

// End forgets the conversation's state, with what the turn makes of it after
// End: the next input begins anew. Timers set after End, and a behaviour named
// after it, hold.
func (t *Turn) End() { t.Do(End{}) }

// Refuses says what would keep a message from being sent at a time, for which it need
// not be valid: the contact has not written for too long by then, or wants no
// marketing. Empty if nothing is known that would.
func (t *Turn) Refuses(s Send, at time.Time) Failure {
	return t.before.Heard.Refuses(t.conversation.Channel.Kind, &s, at)
}

// Do wants an effect. An effect outside the limits fails the turn.
func (t *Turn) Do(e Effect) {
	if len(t.effects) == MaxEffects {
		_ = t.over("more than %d effects in a turn (MaxEffects)", MaxEffects)
		return
	}
	t.check(e)
	t.effects = append(t.effects, e)
}

// Check says what would keep these effects from being done in this turn, in the words of
// the limit. It does none of them: for effects that somebody else has decided.
func (t *Turn) Check(effects ...Effect) error {
	trial := *t
	trial.effects, trial.fault = slices.Clip(t.effects), nil
	for _, e := range effects {
		trial.Do(e)
	}
	if trial.fault == nil {
		probe := work{next: *t.before}
		trial.fault = probe.tooMuch(&trial)
	}
	if trial.fault != nil {
		return trial.fault
	}
	return nil
}

// Key is the key of the event: the same whenever it is delivered, and no other's.
func (t *Turn) Key() EventKey { return t.event.Key }

// burial is an input that is to become a dead letter.
type burial struct {
	data  []byte // as EncodeInput wrote it
	cause error
}

// told is the cause as the dead letter and the history have it.
func (b *burial) told() string {
	fault := TurnError{Kind: TurnReturned, Cause: b.cause.Error()}
	return cut(fault.Error(), MaxCauseBytes)
}

// Bury makes an input that the behaviour has kept for later a dead letter, as if its
// own turn failed now; what else the turn does holds. It takes the stored form, so that
// nothing is lost of an input that a newer program kept and this one can't read. Up to
// MaxEffects of them.
func (t *Turn) Bury(stored []byte, cause error) {
	if len(t.buried) == MaxEffects {
		_ = t.over("more than %d inputs buried in a turn (MaxEffects)", MaxEffects)
		return
	}
	t.buried = append(t.buried, burial{stored, cause})
}

func (t *Turn) check(e Effect) {
	switch e := e.(type) {
	case Send:
		if err := e.Validate(); err != nil {
			_ = t.over("%s", err)
		}
	case SetTimer:
		t.checkTimerName(e.Name)
		if e.In < 0 || e.In > MaxTimerAhead {
			_ = t.over("timer %s ahead: 0 to %s (MaxTimerAhead)", e.In, MaxTimerAhead)
		}
	case CancelTimer:
		t.checkTimerName(e.Name)
	case Call:
		t.checkCall(&e)
	case CancelCall:
		t.checkName("call name", e.Name, 1)
	case HandOff:
		t.checkHandOff(e)
	case SetAttribute:
		t.checkAttribute(e)
	case Tag:
		t.checkName("tag", e.Name, 1)
	case Untag:
		t.checkName("tag", e.Name, 1)
	case Resume:
	case Become:
		t.checkName("behaviour name", e.Behavior, 0)
	case End:
		t.ended, t.state = true, nil
	default: // a pointer to an effect, or nil: it would be dropped without a word
		_ = t.over("effect of type %T: not one of this package", e)
	}
}

func (t *Turn) checkTimerName(name string) {
	t.checkName("timer name", name, 1)
	if strings.HasPrefix(name, reservedNames) {
		_ = t.over("timer name that begins with %q: reserved", reservedNames)
	}
}

func (t *Turn) checkName(what, name string, least int) {
	if len(name) < least || len(name) > MaxNameBytes {
		_ = t.over("%s of %d bytes: %d to %d (MaxNameBytes)", what, len(name), least, MaxNameBytes)
	}
}

// over notes the first limit that the turn passed; the turn fails with it even
// if the behaviour goes on.
func (t *Turn) over(format string, args ...any) error {
	err := limitError(format, args...)
	if t.fault == nil {
		t.fault = err
	}
	return err
}

func limitError(format string, args ...any) *TurnError {
	return &TurnError{Kind: TurnLimit, Cause: fmt.Sprintf(format, args...)}
}
