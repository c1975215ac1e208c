package parley

import (
	"bytes"
	"encoding/json"
	"strconv"
	"time"
)

// history builds the record that a commit leaves: JSON, one object a turn.
//
//	{"version":7,"at":"…","bot":"pizza","turn":[{"seq":1,"in":{…},"out":[…]},{"seq":2,"not":"repeated"}]}
//
// A row that was acknowledged from a spool, or was a dead letter that an operator has
// retried, has "late":true behind its number. A message that was withheld from being
// sent is the effect "withheld". Inputs that the behaviour had kept and has given up
// (Turn.Bury) follow as "buried":[{"in":{…},"not":"error: no answer"}].
type history struct{ rows []byte }

// The reasons for which a row is consumed without a turn.
const (
	repeated = "repeated" // its event took effect before
	stale    = "stale"    // a timer that was cancelled or set anew
)

// add notes a row. The reason, if any, says why it was not handled: repeated,
// stale, or the fault of its turn.
func (h *history) add(p *Pending, reason string) { h.turn(p, reason, &Turn{}, 0) }

// turn notes a row with what its turn did; of the effects, the messages withheld are a
// bit each.
func (h *history) turn(p *Pending, reason string, t *Turn, withheld uint32) {
	b := h.rows
	if len(b) > 0 {
		b = append(b, ',')
	}
	b = append(b, `{"seq":`...)
	b = strconv.AppendUint(b, uint64(p.Seq), 10)
	if p.Late {
		b = append(b, `,"late":true`...)
	}
	if reason != repeated { // what came in is in the record of its first delivery
		b = append(append(b, `,"in":`...), p.Data...)
	}
	if reason != "" {
		b = append(append(b, `,"not":`...), quoted(reason)...)
	}
	for i, e := range t.effects {
		b = append(b, separator(i, `,"out":[`)...)
		enc, err := encodeTold(e, withheld&(1<<i) != 0)
		if err != nil { // not possible for the effects there are; said rather than lost
			enc = quoted(err.Error())
		}
		b = append(b, enc...)
	}
	if len(t.effects) > 0 {
		b = append(b, ']')
	}
	h.rows = append(appendBuried(b, t.buried), '}')
}

// appendBuried notes what was buried: as it was stored, or as a text if that isn't JSON.
func appendBuried(b []byte, buried []burial) []byte {
	for i, g := range buried {
		b = append(b, separator(i, `,"buried":[`)...)
		b = append(b, `{"in":`...)
		if json.Valid(g.data) {
			b = append(b, g.data...)
		} else {
			b = append(b, quoted(string(g.data))...)
		}
		b = append(append(b, `,"not":`...), quoted(g.told())...)
		b = append(b, '}')
	}
	if len(buried) > 0 {
		b = append(b, ']')
	}
	return b
}

// encodeTold is the stored form of an effect in the history; that of a message which
// wasn't sent, since somebody else had the word, says so.
func encodeTold(e Effect, withheld bool) ([]byte, error) {
	b, err := EncodeEffect(e)
	if withheld {
		b = bytes.Replace(b, []byte(`{"effect":"send"`), []byte(`{"effect":"withheld"`), 1)
	}
	return b, err
}

// quoted is s as JSON; a string always has such a form.
func quoted(s string) []byte {
	b, _ := json.Marshal(s)
	return b
}

func separator(i int, first string) string {
	if i == 0 {
		return first
	}
	return ","
}

func (h *history) end(next Snapshot, bot string) []byte {
	b := recordHead(make([]byte, 0, len(h.rows)+96), next.Version, next.Last, bot)
	b = append(append(b, `,"turn":[`...), h.rows...)
	return append(b, `]}`...)
}

// recordHead appends the beginning of every record.
func recordHead(b []byte, v Version, at time.Time, bot string) []byte {
	b = append(b, `{"version":`...)
	b = strconv.AppendUint(b, v.Number, 10)
	b = append(b, `,"at":"`...)
	b = at.AppendFormat(b, time.RFC3339Nano)
	b = append(b, `","bot":`...)
	return append(b, quoted(bot)...)
}

// retryRecord is what the retry of a dead message leaves in the history: its id,
// and what goes out once more.
//
//	{"version":7,"at":"…","bot":"pizza","retried":"0198…","out":[{…}]}
func retryRecord(next *Snapshot, d *DeadLetter) []byte {
	b := append(recordHead(nil, next.Version, next.Last, next.Bot), `,"retried":"`...)
	b = append(append(b, d.ID.String()...), `","out":[`...)
	return append(append(b, d.Data...), `]}`...)
}

// mergeRecord is what a merge leaves in the history of the survivor:
//
//	{"version":7,"at":"…","bot":"pizza","merged":"phone:491700000"}
//
// and in that of the younger, with "merged_into".
func mergeRecord(next *Snapshot, at time.Time, bot, what string, other Contact) []byte {
	b := append(recordHead(nil, next.Version, at, bot), `,"`...)
	b = append(append(b, what...), `":`...)
	return append(append(b, quoted(string(other))...), '}')
}
