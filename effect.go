package parley

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// DecodeEffect reads what EncodeEffect wrote, from whoever: a name or a field that isn't
// known, or anything behind it, is an error. It doesn't say whether the effect is within
// the limits of a turn (Turn.Check).
func DecodeEffect(data []byte) (Effect, error) {
	var env struct {
		Effect string          `json:"effect"`
		Value  json.RawMessage `json:"value"`
	}
	if err := strict(data, &env); err != nil {
		return nil, fmt.Errorf("decode effect: %w", err)
	}
	if len(env.Value) == 0 {
		env.Value = json.RawMessage("{}")
	}
	decode := effectDecoder(env.Effect)
	if decode == nil {
		return nil, fmt.Errorf("effect %q: %w", cut(env.Effect, MaxNameBytes), ErrFormat)
	}
	e, err := decode(env.Value)
	if err != nil {
		return nil, fmt.Errorf("decode %s: %w", env.Effect, err)
	}
	return e, nil
}

// effectDecoder knows every effect; nil for one that isn't.
func effectDecoder(kind string) func([]byte) (Effect, error) {
	switch kind {
	case "send":
		return decodeStrictSend
	case "set_timer":
		return effectAs[SetTimer]
	case "cancel_timer":
		return effectAs[CancelTimer]
	case "call":
		return effectAs[Call]
	case "cancel_call":
		return effectAs[CancelCall]
	case "hand_off":
		return effectAs[HandOff]
	case "resume":
		return effectAs[Resume]
	case "set_attribute":
		return effectAs[SetAttribute]
	case "tag":
		return effectAs[Tag]
	case "untag":
		return effectAs[Untag]
	case "become":
		return effectAs[Become]
	case "end":
		return effectAs[End]
	}
	return nil
}

func effectAs[T Effect](data []byte) (Effect, error) {
	var e T
	err := strict(data, &e)
	return e, err
}

func decodeStrictSend(data []byte) (Effect, error) {
	var s storedSend
	if err := strict(data, &s); err != nil {
		return nil, err
	}
	return s.send()
}

// strict reads one JSON value with no fields but those of v, and nothing behind it.
func strict(data []byte, v any) error {
	d := json.NewDecoder(bytes.NewReader(data))
	d.DisallowUnknownFields()
	if err := d.Decode(v); err != nil {
		return err //nolint:wrapcheck // the caller says what it was
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return errors.New("there is something behind it")
	}
	return nil
}

func encodeValue(e Effect) ([]byte, error) {
	if s, ok := e.(Send); ok {
		return EncodeSend(s)
	}
	return json.Marshal(e) //nolint:wrapcheck // the caller says what it was
}
