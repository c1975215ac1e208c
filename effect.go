package parley

import (
	"encoding/json"
	"fmt"
	"time"
)

// Effect is what a turn may want. The sum is closed: a switch over it lists
// every type with an EffectKind. Effects are values, never pointers. Nothing of them
// happens before the turn's commit is durable.
//
//sumtype:decl
type Effect interface {
	// EffectKind is the stored name of the effect.
	EffectKind() string
	isEffect()
}

// Send is a message to the contact, or a signal about the thread. It has one
// content: a text, or one of the fields below that say so.
//
// Not every platform can show everything: docs/sending.md has the table. What a
// platform can't show is refused for good before it is sent, and named.
//
// What is stored of older versions reads as it did: a field that isn't there is
// empty.
type Send struct {
	// Text is the content, or the words above buttons, a list, a flow and a
	// request for a location.
	Text string `json:"text,omitempty"`
	// Preview shows a preview of the first link in the text, where the platform
	// doesn't do so by itself (WhatsApp).
	Preview bool `json:"preview,omitempty"`
	// QuickReplies go with a text, with media or with cards.
	QuickReplies []QuickReply `json:"quick_replies,omitempty"`
	// Header and Footer are lines above and below the words of quick replies,
	// buttons, a list and a flow (WhatsApp).
	Header string `json:"header,omitempty"`
	Footer string `json:"footer,omitempty"`

	// Contents; one of them at most. The first four have their words in Text.
	Buttons     []Button  `json:"buttons,omitempty"`
	List        *List     `json:"list,omitempty"`
	Flow        *Flow     `json:"flow,omitempty"`
	AskLocation bool      `json:"ask_location,omitempty"` // a button by which the contact shares a place (WhatsApp)
	Media       *Media    `json:"media,omitempty"`
	Cards       []Card    `json:"cards,omitempty"`    // side by side (Messenger, Instagram)
	Location    *Location `json:"location,omitempty"` // (WhatsApp)
	Template    *Template `json:"template,omitempty"`
	Reaction    *Reaction `json:"reaction,omitempty"` // to a message of the contact
	Signal      *Signal   `json:"signal,omitempty"`

	// ReplyTo is Meta's id of the message that this one quotes.
	ReplyTo string `json:"reply_to,omitempty"`
	// Private makes the message a private reply to a comment or post. It goes to
	// whoever wrote that, whichever conversation it is said in.
	Private *PrivateReply `json:"private,omitempty"`
	// HumanAgent says that a person wrote this: Messenger and Instagram then take
	// it for seven days instead of one. On WhatsApp it makes no difference.
	HumanAgent bool `json:"human_agent,omitempty"`
	// Bulk says that this answers nothing, as part of a campaign: it waits for
	// what does.
	Bulk bool `json:"bulk,omitempty"`
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

// End forgets the conversation's state, timers, calls and behaviour: the next input
// begins anew. What is already in the outbox is still sent. Who has the word, and what
// is known of the contact (SetAttribute, Tag), stays.
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
	b, err := encodeValue(e)
	if err != nil {
		return nil, fmt.Errorf("encode %s: %w", e.EffectKind(), err)
	}
	return fmt.Appendf(nil, `{"effect":%q,"value":%s}`, e.EffectKind(), b), nil
}

func encodeValue(e Effect) ([]byte, error) {
	if s, ok := e.(Send); ok {
		return EncodeSend(s)
	}
	return json.Marshal(e) //nolint:wrapcheck // the caller says what it was
}
