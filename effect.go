package parley

import (
	"encoding/json"
	"fmt"
	"time"
)

// Effect is what a turn may want. The sum is closed: a switch over it lists
// every type of this file. Effects are values, never pointers. Nothing of them
// happens before the turn's commit is durable.
//
//sumtype:decl
type Effect interface {
	// EffectKind is the stored name of the effect.
	EffectKind() string
	isEffect()
}

// Send is a message to the contact.
type Send struct {
	Text         string       `json:"text"`
	QuickReplies []QuickReply `json:"quick_replies,omitempty"`
}

// QuickReply is an answer that is offered with a message. Messenger and
// Instagram show up to 13 of them, WhatsApp up to 3, as buttons.
type QuickReply struct {
	Title   string `json:"title"`
	Payload string `json:"payload"` // comes back as Message.Payload
}

// SetTimer sets the timer of that name anew: an earlier one of the same name
// never fires. It comes back as TimerFired.
type SetTimer struct {
	Name string        `json:"name"`
	In   time.Duration `json:"in"` // from the turn's time
}

// CancelTimer cancels the timer of that name; it will not fire, even if it is
// due already. Cancelling a timer that isn't set does nothing.
type CancelTimer struct {
	Name string `json:"name"`
}

// Become names the behaviour that receives the conversation's next inputs, one
// of Bot.Named; the empty name is Bot.Behavior.
type Become struct {
	Behavior string `json:"behavior"`
}

// End forgets the conversation's state, timers and behaviour: the next input
// begins anew. What is already in the outbox is still sent.
type End struct{}

// EffectKind names an effect in the store.
func (Send) EffectKind() string        { return "send" }
func (SetTimer) EffectKind() string    { return "set_timer" }
func (CancelTimer) EffectKind() string { return "cancel_timer" }
func (Become) EffectKind() string      { return "become" }
func (End) EffectKind() string         { return "end" }

func (Send) isEffect()        {}
func (SetTimer) isEffect()    {}
func (CancelTimer) isEffect() {}
func (Become) isEffect()      {}
func (End) isEffect()         {}

// EncodeEffect is the stored form of an effect in the history.
func EncodeEffect(e Effect) ([]byte, error) {
	b, err := json.Marshal(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.EffectKind(), err)
	}
	return fmt.Appendf(nil, `{"effect":%q,"value":%s}`, e.EffectKind(), b), nil
}
