package httpbot

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// Version is the protocol's. It is raised when a bot that knows an older one would
// misread a request; fields are added without.
const Version = 1

// ownEffects are those that a turn may need beside the bot's: the next call, the watch.
const ownEffects = 2

// Request is what a bot is posted.
type Request struct {
	Version int `json:"version"`
	// EventID is the event's: it is the same each time that the event is posted.
	EventID      string       `json:"event_id"`
	Conversation Conversation `json:"conversation"`
	Now          time.Time    `json:"now"`            // of the event, by the store's clock
	Late         bool         `json:"late,omitempty"` // as of parley.Turn.Late
	// Input is {"kind": …, "input": {…}}.
	Input      json.RawMessage   `json:"input"`
	State      json.RawMessage   `json:"state"` // null: there is none
	Attributes map[string]string `json:"attributes"`
	Tags       []string          `json:"tags"`
	Speaker    string            `json:"speaker"` // empty: the bot; person, app
}

// Conversation says whose event it is.
type Conversation struct {
	Brand   string `json:"brand"`
	Channel string `json:"channel"` // the id of the Page, the account, the number
	Kind    string `json:"kind"`    // messenger, instagram, whatsapp, whatsapp_account
	Contact string `json:"contact"`
}

// Answer is what a bot answers.
type Answer struct {
	// State replaces the conversation's: null forgets it, and without it the state
	// stays.
	State *json.RawMessage `json:"state,omitempty"`
	// Effects are done in this order: {"effect": "send", "value": {…}}, as
	// parley.EncodeEffect writes them.
	Effects []json.RawMessage `json:"effects"`
}

// ask is the call that posts an input.
func (b *bot) ask(t *parley.Turn, s *state, k *kept) (parley.Call, error) {
	c := t.Conversation()
	r := Request{
		Version: Version, EventID: k.Key, Now: k.At, Late: k.Late, Input: k.Input, State: s.State, Attributes: map[string]string{},
		Conversation: Conversation{Brand: string(c.Channel.Brand), Channel: c.Channel.ID, Kind: string(c.Channel.Kind), Contact: string(c.Contact)},
		Tags:         append([]string{}, t.Tags()...), Speaker: string(t.Speaker()),
	}
	for _, a := range t.Attributes() {
		r.Attributes[a.Name] = a.Value
	}
	body, err := json.Marshal(r)
	if err != nil {
		return parley.Call{}, fmt.Errorf("encode the request: %w", err)
	}
	return parley.Call{Name: k.call(), Service: b.service, Body: body}, nil
}

// answered does what the bot has answered: all of it, or if anything is wrong nothing.
func (b *bot) answered(t *parley.Turn, s *state, c parley.Called) error {
	if !c.OK() {
		return fmt.Errorf("the bot has no good answer (%s): %s", c.Failure, c.Reason)
	}
	next, effects, err := Decode(c.Body)
	if err != nil {
		return fmt.Errorf("the bot's answer: %w", err)
	}
	// There must be room for the call that asks about the next input, too.
	if err := t.Check(append(slices.Clip(effects), parley.Call{Name: callPrefix, Service: b.service})...); err != nil {
		return fmt.Errorf("the bot's answer: %w", err)
	}
	if next != nil {
		s.State = *next
	}
	for _, e := range effects {
		t.Do(e)
		s.forget(e)
	}
	return nil
}

// Decode reads a bot's answer strictly: a field or an effect that isn't known is an
// error. The state is nil if it stays, and empty if it is to be forgotten. Whether the
// effects are within the limits isn't looked at.
func Decode(body []byte) (next *json.RawMessage, effects []parley.Effect, err error) {
	var fields struct {
		State   json.RawMessage   `json:"state"`
		Effects []json.RawMessage `json:"effects"`
	}
	d := json.NewDecoder(bytes.NewReader(body))
	d.DisallowUnknownFields()
	if err := d.Decode(&fields); err != nil {
		return nil, nil, fmt.Errorf("decode: %w", cut(err))
	}
	if _, err := d.Token(); !errors.Is(err, io.EOF) {
		return nil, nil, errors.New("decode: there is something behind the object")
	}
	if fields.State != nil {
		next, err = stateOf(fields.State)
		if err != nil {
			return nil, nil, err
		}
	}
	if len(fields.Effects) > parley.MaxEffects-ownEffects {
		return nil, nil, fmt.Errorf("%d effects: at most %d (MaxEffects, and two of Parley's own)", len(fields.Effects), parley.MaxEffects-ownEffects)
	}
	for i, raw := range fields.Effects {
		e, err := parley.DecodeEffect(raw)
		if err == nil {
			err = allowed(e)
		}
		if err != nil {
			return nil, nil, fmt.Errorf("effects[%d]: %w", i, cut(err))
		}
		effects = append(effects, e)
	}
	return next, effects, nil
}

// stateOf is the state as it is stored, where <, > and & take six bytes: by that it is
// measured, or the turn that stores it would fail.
func stateOf(answered json.RawMessage) (*json.RawMessage, error) {
	if string(answered) == "null" {
		return new(json.RawMessage), nil
	}
	b, err := json.Marshal(answered)
	if err != nil {
		return nil, fmt.Errorf("state: %w", cut(err))
	}
	if len(b) > MaxBotStateBytes {
		return nil, fmt.Errorf("state of %d bytes as it is stored: at most %d (MaxBotStateBytes)", len(b), MaxBotStateBytes)
	}
	return (*json.RawMessage)(&b), nil
}

// allowed refuses what isn't the bot's: its conversation is one behaviour, whose calls
// and waiting inputs must not be forgotten.
func allowed(e parley.Effect) error {
	name := ""
	switch e := e.(type) {
	case parley.Become, parley.End:
		return fmt.Errorf("%s is not for bots over HTTP: answer another state", e.EffectKind())
	case parley.Call:
		name = e.Name
	case parley.CancelCall:
		name = e.Name
	case parley.SetTimer:
		name = e.Name
	case parley.CancelTimer:
		name = e.Name
	default: // has no name of its own
	}
	if strings.HasPrefix(name, callPrefix) {
		return fmt.Errorf("a name that begins with %q: reserved", callPrefix)
	}
	return nil
}

// cut keeps what an error of the decoder says within reason: it may repeat a name that
// the bot has written.
func cut(err error) error {
	const most = 200
	if s := err.Error(); len(s) > most {
		return errors.New(strings.ToValidUTF8(s[:most], "") + " …")
	}
	return err
}

// forget takes from the inputs that wait what the effect has cancelled: a timer that
// rang, or a call that was answered, while the bot was asked.
func (s *state) forget(e parley.Effect) {
	var timer, call string
	switch e := e.(type) {
	case parley.SetTimer:
		timer = e.Name
	case parley.CancelTimer:
		timer = e.Name
	case parley.Call:
		call = e.Name
	case parley.CancelCall:
		call = e.Name
	default:
		return
	}
	left := s.Held[:0]
	for _, k := range s.Held {
		in, err := parley.DecodeInput(k.Input)
		fired, isTimer := in.(parley.TimerFired)
		called, isCall := in.(parley.Called)
		if err == nil && (isTimer && fired.Name == timer || isCall && called.Name == call) {
			continue
		}
		left = append(left, k)
	}
	s.Held = left
}
