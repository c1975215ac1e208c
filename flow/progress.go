package flow

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/parleychat/parley"
)

// progress is what the flow itself remembers of a conversation.
type progress struct {
	Form    filling           `json:"form,omitzero"`
	Offered string            `json:"offered,omitempty"` // see offered
	Number  bool              `json:"number,omitempty"`  // they were shown with numbers
	Held    []json.RawMessage `json:"held,omitempty"`    // inputs that wait, as parley.EncodeInput made them
	Since   int64             `json:"since,omitempty"`   // ms: when the first of them came
	Until   string            `json:"until,omitempty"`   // the call whose answer they wait for; none: for quiet
	Follows []Follow          `json:"follows,omitempty"`
}

func (p *progress) empty() bool {
	return p.Form.IsZero() && len(p.Held)+len(p.Follows) == 0 && p.Offered == "" && p.Until == ""
}

// The stored state of a conversation is that of S, or, if there is something that the
// flow remembers, an envelope around both. Which one it is its first bytes tell.
const (
	progressField  = "$flow"
	envelopePrefix = `{"` + progressField + `":`
)

type envelope[S any] struct {
	Flow  *progress `json:"$flow"`
	State *S        `json:"$state"`
}

func (t *Turn[S]) load() error {
	raw := t.RawState()
	if len(raw) == 0 {
		return nil
	}
	if !bytes.HasPrefix(raw, []byte(envelopePrefix)) {
		return t.Turn.State(t.State)
	}
	if state, ok := openEnvelope(raw, &t.progress); ok && json.Unmarshal(state, t.State) == nil {
		return nil
	}
	t.progress = progress{}
	return t.Turn.State(&envelope[S]{Flow: &t.progress, State: t.State})
}

var errEnvelope = errors.New("decode what the flow stored around the state: not its form")

// around makes a migration one of what is stored: of the state in its envelope, if it
// has one.
func around(m parley.Migration) parley.Migration {
	if m == nil {
		return nil
	}
	return func(stored []byte) ([]byte, error) {
		if !bytes.HasPrefix(stored, []byte(envelopePrefix)) {
			return m(stored)
		}
		var e struct {
			Flow  json.RawMessage `json:"$flow"`
			State json.RawMessage `json:"$state"`
		}
		if err := json.Unmarshal(stored, &e); err != nil || len(e.State) == 0 {
			return nil, errEnvelope
		}
		next, err := m(e.State)
		if err != nil {
			return nil, err
		}
		e.State = next
		b, err := json.Marshal(e)
		if err != nil {
			return nil, fmt.Errorf("encode the state in its envelope: %w", err)
		}
		return b, nil
	}
}

// store keeps what the turn made of the state. Nothing outlives End.
func (t *Turn[S]) store() error {
	if t.fault != nil {
		return t.fault
	}
	if t.ended {
		return nil
	}
	t.settle()
	if t.progress.empty() {
		return t.SetState(t.State)
	}
	if state, err := json.Marshal(t.State); err == nil {
		if stored, ok := sealEnvelope(&t.progress, state); ok {
			return t.SetRawState(stored)
		}
	}
	return t.SetState(&envelope[S]{Flow: &t.progress, State: t.State})
}
