package flowtest

import (
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/parleychat/parley"
)

// FromHistory makes a transcript of what a store's history tells of a conversation,
// oldest record first: who said what, and the time between. What the bot said is left
// out: [Kit.Play] has it say it again, or what it would say now.
//
// Timers and refusals for a closed window come about by themselves when it is played.
// Meta's ids become m1, m2 …; those of the bot's messages, which a history doesn't have,
// stay as they are.
func FromHistory(name, user string, kind parley.ChannelKind, records [][]byte) (*Transcript, error) {
	h := past{user: user, ids: map[string]string{}}
	fmt.Fprintf(&h.text, "platform %s\n", kind)
	for _, data := range records {
		var r record
		if err := json.Unmarshal(data, &r); err != nil {
			return nil, fmt.Errorf("read a record of the history: %w", err)
		}
		for _, row := range r.Turn {
			if len(row.In) == 0 { // it came again
				continue
			}
			in, err := parley.DecodeInput(row.In)
			if err != nil {
				return nil, fmt.Errorf("read a record of the history: %w", err)
			}
			if err := h.add(in, r.At); err != nil {
				return nil, err
			}
		}
		h.last = r.At
	}
	if !h.now.IsZero() {
		h.pass(h.last)
	}
	return Parse(name, h.text.String())
}

// past is a history on its way to a transcript.
type past struct {
	user string
	text strings.Builder
	now  time.Time         // of the last line
	last time.Time         // of the last turn
	ids  map[string]string // Meta's, and those of the transcript
	own  int               // messages of the user's side
}

func (h *past) add(in parley.Input, at time.Time) error {
	var line string
	switch in := in.(type) {
	case parley.TimerFired, parley.SpeakerReturned:
		return nil
	case parley.SendFailed:
		if in.Why == parley.WindowClosed || in.Why == parley.OptedOut {
			return nil
		}
		line = missedLine(h.user, in)
	case parley.Called:
		line = calledLine(in)
	default:
		lines, err := InputLines(h.user, h.rename(in))
		if err != nil {
			return err
		}
		line = strings.Join(lines, "\n")
	}
	h.pass(at)
	h.text.WriteString(line + "\n")
	return nil
}

// pass lets time pass; the first time is when all begins.
func (h *past) pass(until time.Time) {
	switch {
	case h.now.IsZero():
		fmt.Fprintf(&h.text, "at %s\n", until.UTC().Format("2006-01-02 15:04:05.999"))
	case until.After(h.now):
		fmt.Fprintf(&h.text, "wait %s\n", shownDuration(min(until.Sub(h.now), MaxWait)))
	}
	h.now = until
}

// missedLine is what wasn't delivered: the last message, unless the history is one of
// this package, which knows better.
func missedLine(user string, in parley.SendFailed) string {
	parts := []string{user, "misses"}
	if n, ok := strings.CutPrefix(in.ProviderID, "b"); ok && strings.Trim(n, "0123456789") == "" {
		parts = append(parts, in.ProviderID)
	}
	parts = append(parts, strconv.Itoa(in.Code), optional(in.Reason))
	return strings.TrimRight(strings.Join(parts, " "), " ")
}

// calledLine is what a service answered.
func calledLine(in parley.Called) string {
	a := Answer{Status: in.Status, Body: in.Body}
	if in.Failure != "" && (in.Failure != parley.CallRefused || in.Status == 0) {
		return in.Service + " " + Answer{Failure: in.Failure, Reason: in.Reason}.String()
	}
	return in.Service + " answers " + a.String()
}

// rename gives messages the names that they have in a transcript.
func (h *past) rename(in parley.Input) parley.Input {
	switch in := in.(type) {
	case parley.Message:
		h.name(&in.ID)
		if r := in.ReplyTo; r != nil && in.Payload != "" && r.StoryID == "" { // what was chosen answers what offered it
			in.ReplyTo = nil
		} else if r != nil {
			renamed := *r
			renamed.MessageID = h.known(r.MessageID)
			in.ReplyTo = &renamed
		}
		return in
	case parley.Postback:
		h.name(&in.ID)
		return in
	case parley.Echo:
		h.name(&in.ID)
		return in
	case parley.Edited:
		in.ID = h.known(in.ID)
		return in
	case parley.Deleted:
		in.ID = h.known(in.ID)
		return in
	case parley.Reaction:
		in.MessageID = h.known(in.MessageID)
		return in
	default: // names no message
		return in
	}
}

// name notes the next message of the user's side, which gets its name when it is played.
func (h *past) name(id *string) {
	h.own++
	if *id != "" {
		h.ids[*id] = "m" + strconv.Itoa(h.own)
	}
	*id = ""
}

func (h *past) known(id string) string {
	if name, ok := h.ids[id]; ok {
		return name
	}
	return id
}
