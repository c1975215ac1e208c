package flow

import (
	"bytes"
	"encoding/json"
	"fmt"
	"reflect"
)

// Reopen reads a stored envelope in both ways, and says if they differ. Quick reports
// whether the quick one read it at all.
func Reopen(stored []byte) (quick bool, err error) {
	var p progress
	state, ok := openEnvelope(stored, &p)
	if !ok || !json.Valid(state) {
		return false, nil
	}
	var e struct {
		Flow  progress        `json:"$flow"`
		State json.RawMessage `json:"$state"`
	}
	if err := json.Unmarshal(stored, &e); err != nil {
		return true, fmt.Errorf("read quickly, and not JSON: %w", err)
	}
	if !reflect.DeepEqual(p, e.Flow) {
		return true, fmt.Errorf("read quickly %+v, want %+v", p, e.Flow)
	}
	if string(bytes.TrimSpace(state)) != string(e.State) {
		return true, fmt.Errorf("state read quickly %s, want %s", state, e.State)
	}
	return true, nil
}

// Reseal writes an envelope in both ways, and says if they differ. Quick reports whether
// the quick one wrote it at all.
func Reseal(stored []byte) (quick bool, err error) {
	var e struct {
		Flow  progress        `json:"$flow"`
		State json.RawMessage `json:"$state"`
	}
	if json.Unmarshal(stored, &e) != nil {
		return false, nil //nolint:nilerr // nothing to write
	}
	want, err := json.Marshal(&e)
	if err != nil {
		return false, fmt.Errorf("write what was read: %w", err)
	}
	state, err := json.Marshal(e.State)
	if err != nil {
		return false, fmt.Errorf("write the state: %w", err)
	}
	got, quick := sealEnvelope(&e.Flow, state)
	if quick && !bytes.Equal(got, want) {
		return true, fmt.Errorf("written quickly %s, want %s", got, want)
	}
	return quick, nil
}
