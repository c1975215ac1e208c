package parley

import (
	"bytes"
	"encoding/binary"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"time"
)

// MaxDeadPage is how many dead letters a store returns at once at most.
const MaxDeadPage = 500

// DeadQuery says which dead letters are meant, and which page of them. A letter is
// meant if it is so by every field that is set; the zero value means all.
type DeadQuery struct {
	ID           ID // that one only
	Brand        Brand
	Channel      Channel
	Conversation Conversation // the one that the letter names, whatever it was merged into since
	Kind         DeadKind
	Cause        string    // is part of the letter's cause, as it is written
	Until        time.Time // the letter's time isn't after it

	// Letters come by their time, the oldest first, or the newest with Newest. After
	// is the place of the last letter of the page before.
	Newest bool
	After  DeadPlace
	Limit  int // at most MaxDeadPage are returned
}

// DeadKind says what a dead letter was.
type DeadKind string

// What a dead letter was.
const (
	DeadEvent   DeadKind = "event"
	DeadMessage DeadKind = "message"
)

// DeadPlace is a place in the order of dead letters. The zero place is before the
// first.
type DeadPlace struct {
	At time.Time
	ID ID
}

// Compare orders places: by time, and by id where that is the same.
func (p DeadPlace) Compare(q DeadPlace) int {
	if c := p.At.Compare(q.At); c != 0 {
		return c
	}
	return bytes.Compare(p.ID[:], q.ID[:])
}

// Kind says what the letter was.
func (d *DeadLetter) Kind() DeadKind {
	if d.Seq == 0 {
		return DeadMessage
	}
	return DeadEvent
}

// Place is the letter's place in the order of dead letters.
func (d *DeadLetter) Place() DeadPlace { return DeadPlace{At: d.At, ID: d.ID} }

// What is the stored name of the event's or the message's kind: message, postback,
// timer_fired, or send; empty if it can't be read.
func (d *DeadLetter) What() string {
	var head struct {
		Kind   string `json:"kind"`
		Effect string `json:"effect"`
	}
	if json.Unmarshal(d.Data, &head) != nil {
		return ""
	}
	return head.Kind + head.Effect // one of them is empty
}

// Means reports whether the query means a letter, on whatever page.
func (q *DeadQuery) Means(d *DeadLetter) bool {
	return (q.ID.IsZero() || q.ID == d.ID) &&
		(q.Brand == "" || q.Brand == d.Conversation.Channel.Brand) &&
		(q.Channel == Channel{} || q.Channel == d.Conversation.Channel) &&
		(q.Conversation == Conversation{} || q.Conversation == d.Conversation) &&
		(q.Kind == "" || q.Kind == d.Kind()) &&
		strings.Contains(d.Cause, q.Cause) &&
		(q.Until.IsZero() || !d.At.After(q.Until))
}

// Order compares letters as the query wants them.
func (q *DeadQuery) Order(a, b *DeadLetter) int {
	if q.Newest {
		a, b = b, a
	}
	return a.Place().Compare(b.Place())
}

// Behind reports whether a letter comes behind the place at which the page begins.
func (q *DeadQuery) Behind(d *DeadLetter) bool {
	if (q.After == DeadPlace{}) {
		return true
	}
	c := d.Place().Compare(q.After)
	return c > 0 && !q.Newest || c < 0 && q.Newest
}

// Page is how many letters are wanted: Limit, within what a store returns.
func (q *DeadQuery) Page() int { return min(max(q.Limit, 0), MaxDeadPage) }

// Retried is what a dead letter has become.
type Retried struct {
	Letter DeadLetter
	Rows   []Pending // an event: its row, to be hinted to its conversation
}

// RetryMessage is the commit by which a dead message is to be sent after all. It
// consumes no rows. A store takes it in the transaction that removes the letter, or
// neither, so that there is always just one of the two. The conversation is the
// letter's, or what that was merged into: ErrConflict if s has been merged meanwhile.
// A letter that this program can't read whole is ErrFormat, one that others can't is
// ErrAhead: reads is the newest generation that every member reads, 0 means Format.
//
// The message comes behind all that the conversation has decided: it gets the next
// ordinal. Its own is past: what was decided after it has perhaps been sent, or is
// with the provider at this moment, where nothing can be put before it any more. So
// ordinals go on being handed over in their order, and of several letters the one
// that is retried first is sent first.
//
// The message keeps its id, by which the provider's receipts tell it, and begins
// anew in all else: no attempts, the age of a message that was decided now, and the
// window in which the contact may be written to now.
func RetryMessage(s Snapshot, d DeadLetter, at time.Time, nonce [16]byte, reads int) (Commit, error) {
	send, err := decodeDeadSend(d.Data)
	if err == nil {
		err = readBy(reads, send.Format())
	}
	if err != nil {
		return Commit{}, err
	}
	if s.MergedInto != "" {
		return Commit{}, ErrConflict
	}
	next := s
	next.Version = Version{Number: s.Version.Number + 1, Token: Token(binary.BigEndian.Uint64(nonce[:]))}
	next.Last = latest(ceil(at.UTC()), s.Last)
	next.Ordinal++
	c := Commit{Conversation: s.Conversation, Base: s.Version, Next: next}
	c.Outbox = []Outgoing{{ID: d.ID, Conversation: s.Conversation, Ordinal: next.Ordinal, At: next.Last, Send: send, Heard: s.Heard}}
	c.Format = send.Format() // what the snapshot takes it took before
	c.History = retryRecord(&next, &d)
	return c, nil
}

// decodeDeadSend reads a dead message. One that can't be read is a newer program's,
// like one of a newer generation: what goes into the outbox is written anew, so that
// what this program doesn't know would be lost, and a person read a part of it.
func decodeDeadSend(data []byte) (send Send, _ error) {
	var stored struct {
		Effect string          `json:"effect"`
		Value  json.RawMessage `json:"value"`
	}
	if err := json.Unmarshal(data, &stored); err != nil {
		return send, fmt.Errorf("decode dead message: %w: %w", ErrFormat, err)
	}
	if stored.Effect != send.EffectKind() {
		return send, fmt.Errorf("dead message of kind %q: %w", cut(stored.Effect, MaxNameBytes), ErrFormat)
	}
	send, err := DecodeSend(stored.Value)
	switch {
	case errors.Is(err, ErrFormat):
		return send, fmt.Errorf("dead message: %w", err)
	case err != nil:
		return send, fmt.Errorf("dead message: %w: %w", ErrFormat, err)
	}
	return send, nil
}

// again is an input that a conversation waits for, as it meets it when it has ceased
// to.
func again(in Input) (_ Input, ok bool) {
	switch in := in.(type) {
	case TimerFired:
		in.Retried = true
		return in, true
	case Called:
		in.Retried = true
		return in, true
	default:
		return nil, false
	}
}

// RetryEvent is the row by which a dead event is to take effect after all, without
// what the store adds when it appends it: a number behind all others, and the time.
// A store appends it in the transaction that removes the letter, or neither.
//
// The row is late, as its place among the events of its conversation is not its
// own, and has no time of the provider's, which the letter didn't keep. Its key is
// the letter's: the event's own is among those seen, and stays there, so that a
// repeat of Meta's goes on being recognized. Being another row than the one that
// failed, it has no attempts against it (see [Circumstance.Condemned]). A letter that
// this program can't read is ErrFormat, one that others can't is ErrAhead; reads is as
// for RetryMessage.
func RetryEvent(d DeadLetter, into Conversation, token Token, reads int) (Pending, error) {
	in, err := DecodeInput(d.Data)
	switch {
	case errors.Is(err, ErrFormat):
		return Pending{}, fmt.Errorf("dead event: %w", err)
	case err != nil: // and so it is wherever the row is read
		return Pending{}, fmt.Errorf("dead event: %w: %w", ErrFormat, err)
	}
	if err := readBy(reads, inputFormat(in)); err != nil {
		return Pending{}, fmt.Errorf("dead event: %w", err)
	}
	data := d.Data
	if waited, ok := again(in); ok {
		in = waited
		if data, err = EncodeInput(in); err != nil {
			return Pending{}, err
		}
	}
	return Pending{
		Row: Row{Token: token}, Conversation: into, Late: true,
		Key:   NewEventKey("retried", d.ID.String()),
		Input: in, Data: slices.Clone(data),
	}, nil
}
