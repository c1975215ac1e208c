// Package history records what was seen of conversations from outside, and finds
// out afterwards whether any order of events explains it: whether each conversation
// was linearizable.
//
// # The file
//
// A history is a file of JSON lines. The first is a [Header]; each further one is an
// [Event], in the order in which the observer saw them: an operation that was invoked
// or that returned, or something that befell all. The order of the lines is what
// counts; their times are for people, and for timers.
//
// # The model
//
// A conversation is one sequential object: the log of what it has met, and the timers
// that its bot has set. A user's message is an operation that appends to the log. It is
// invoked when Meta first posts it, and returns when that is acknowledged, or when its
// reply is seen, whichever is first. The reply tells which place in the log it got. So
// some order of the messages must agree with every reply, and put what was acknowledged
// before what was posted later. A message whose reply was never seen may have any place;
// one that wasn't acknowledged either may have none. The ring of a timer is an operation,
// too: it needs a timer that was set, and neither cancelled nor rung.
package history

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// Format is the version of the file.
const Format = 1

// Header is the first line.
type Header struct {
	Format int       `json:"history"`
	Seed   uint64    `json:"seed,omitempty"`
	Start  time.Time `json:"start"` // to which the times of events are added
}

// What an event tells.
const (
	Post   = "post"   // a message was posted for the first time
	Unpost = "unpost" // no: no POST of it can have arrived so far
	Ack    = "ack"    // the message was acknowledged for the first time
	Said   = "said"   // its reply was seen, with the number of messages that the bot has met
	Ring   = "ring"   // a timer's words were seen

	Healed  = "healed"  // the last fault is over; within how long each last message must be answered
	Spooled = "spooled" // what was acknowledged between two times binds one node only
	Lost    = "lost"    // the store has lost what it was told between two times
	End     = "end"     // the record is whole; one that lacks it was cut off
)

// What a message wants.
const (
	Say    = "say"
	Remind = "remind" // a timer, Arg milliseconds after it comes in
	Forget = "forget" // no timer of message Arg
)

// Event is a line.
type Event struct {
	At           int64  `json:"t"`             // ns after the start
	Kind         string `json:"e"`             // see above
	Conversation string `json:"c,omitempty"`   // whose; empty for what befell all
	Message      uint32 `json:"k,omitempty"`   // number of the message, from 1
	Wants        string `json:"do,omitempty"`  // of Post
	Arg          uint32 `json:"arg,omitempty"` // of Post
	Last         bool   `json:"last,omitempty"`
	N            uint32 `json:"n,omitempty"`      // of Said
	From         int64  `json:"from,omitempty"`   // of Spooled and Lost: ns after the start
	Until        int64  `json:"until,omitempty"`  // likewise
	Within       int64  `json:"within,omitempty"` // of Healed: ns
}

// BytesMax bounds a history: what comes later isn't recorded, and the record says so.
const BytesMax = 4 << 30

// Writer writes a history. It keeps nothing but a buffer in memory. It must not be
// used by two goroutines at once.
type Writer struct {
	out     *bufio.Writer
	lines   *json.Encoder
	left    int64
	begun   bool
	err     error
	dropped int
}

// NewWriter makes a writer of at most bytes; 0 stands for [BytesMax].
func NewWriter(w io.Writer, bytes int64) *Writer {
	if bytes <= 0 {
		bytes = BytesMax
	}
	h := &Writer{left: bytes}
	h.out = bufio.NewWriter(counting{w, &h.left})
	h.lines = json.NewEncoder(h.out)
	return h
}

// counting counts down the bytes that are left.
type counting struct {
	io.Writer

	left *int64
}

func (c counting) Write(b []byte) (int, error) {
	n, err := c.Writer.Write(b)
	*c.left -= int64(n)
	if err != nil {
		return n, fmt.Errorf("write the history: %w", err)
	}
	return n, nil
}

// Begin writes the header, once.
func (w *Writer) Begin(h Header) {
	if w.begun {
		return
	}
	w.begun = true
	h.Format = Format
	w.line(h)
}

// Add writes an event, if there is room and nothing has failed; see [Writer.Close].
func (w *Writer) Add(e Event) {
	if w.left <= 0 || w.err != nil {
		w.dropped++
		return
	}
	w.line(e)
}

func (w *Writer) line(v any) {
	if w.err == nil {
		w.err = w.lines.Encode(v)
	}
}

// Dropped is how many events found no room.
func (w *Writer) Dropped() int { return w.dropped }

// Close writes what is in the buffer, and the end of a record that is whole. It returns
// the first error that any write had. It doesn't close the file.
func (w *Writer) Close() error {
	if w.dropped == 0 {
		w.line(Event{Kind: End})
	}
	return errors.Join(w.err, w.out.Flush())
}

// lineMax bounds a line.
const lineMax = 1 << 16

// read hands every event to take, with the number of its line; and returns the header.
func read(r io.Reader, take func(line int64, e *Event, h *Header) error) (h Header, err error) {
	lines := bufio.NewScanner(r)
	lines.Buffer(make([]byte, 0, lineMax), lineMax)
	n := int64(0)
	for lines.Scan() {
		n++
		if n == 1 {
			if err := json.Unmarshal(lines.Bytes(), &h); err != nil || h.Format != Format {
				return h, fmt.Errorf("line 1: no header of a history of format %d", Format)
			}
			continue
		}
		var e Event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			return h, fmt.Errorf("line %d: not an event: %w", n, err)
		}
		if err := take(n, &e, &h); err != nil {
			return h, fmt.Errorf("line %d: %w", n, err)
		}
	}
	if err := lines.Err(); err != nil {
		return h, fmt.Errorf("line %d: %w", n+1, err)
	}
	if n == 0 {
		return h, errors.New("an empty file is no history")
	}
	return h, nil
}
