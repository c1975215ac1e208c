package parley

import (
	"encoding/json"
	"fmt"
)

// Format is the newest generation of stored forms that this program reads. Members
// of a cluster tell each other theirs, and nobody stores anything of a generation
// that a member doesn't read: a turn which would is put off (Circumstance.Format). So the
// conversations of a cluster can be run by each of its members, also while these are
// upgraded one after the other, or taken back. Behind that stand the readers: each
// refuses what is newer than itself, with ErrFormat.
//
// It is raised when something is to be stored that older programs would misread or
// refuse. What they may leave out isn't such a thing: an optional field is enough.
const Format = formatThread

// The generations.
const (
	formatFirst    = 1
	formatContents = 2 // sends have more than a text and quick replies, snapshots say when the contact was Heard
	formatDialog   = 3 // calls, hand-offs, attributes and tags

	// FormatBooks is that of programs which count what they acknowledge, and what becomes
	// of it: see Ledger. Nothing else takes it.
	FormatBooks = 4

	formatThread = 5 // signals about who has the thread: before, they were read as Typing
)

// format is the generation that the turn's outcome takes. When a contact was heard
// is left out while somebody doesn't read it: it comes again with their next
// message. That they want no marketing doesn't.
func (w *work) format(before *Snapshot) int {
	newest := formatFirst
	if !before.dialog() && w.next.dialog() {
		newest = formatDialog
	}
	if before.Heard == (Heard{}) { // else the stored one is of this generation already
		if w.c.Format == formatFirst {
			w.next.Heard = Heard{Stopped: w.next.Heard.Stopped}
		}
		if w.next.Heard != (Heard{}) {
			newest = max(newest, formatContents)
		}
	}
	for i := range w.out.Outbox {
		newest = max(newest, w.out.Outbox[i].Send.Format())
	}
	return newest
}

// Format is the generation that reads s as it is meant; see the constant. Programs
// of the first know nothing but a text and quick replies: anything else they would
// leave out.
func (s *Send) Format() int {
	plain := s.onlyText() && !s.Preview && s.Header == "" && s.Footer == "" && s.ReplyTo == "" && s.Private == nil && !s.HumanAgent && !s.Bulk
	switch {
	case plain:
		return formatFirst
	case s.Signal != nil && s.Signal.OfThread():
		return formatThread
	}
	return formatContents
}

// inputFormat is the generation that reads in.
func inputFormat(in Input) int {
	switch in.(type) {
	case Called, SpeakerReturned:
		return formatDialog
	default:
		return formatFirst
	}
}

// readBy is ErrAhead if something of a generation can't be read by all who are
// concerned: they read generations up to reads; 0: Format.
func readBy(reads, generation int) error {
	if reads == 0 {
		reads = Format
	}
	if generation > reads {
		return fmt.Errorf("it takes format %d, members read up to %d: %w", generation, reads, ErrAhead)
	}
	return nil
}

// storedSend is the stored form of a Send.
type storedSend struct {
	Format int `json:"format,omitempty"` // none: the first
	sendFields
}

// sendFields are those of a Send, and nothing else of it.
type sendFields Send

func stored(s *Send) storedSend {
	f := s.Format()
	if f == formatFirst {
		f = 0
	}
	return storedSend{f, sendFields(*s)}
}

// send is what is stored. Of a newer generation it is ErrFormat: what this program
// doesn't know of it would be left out.
func (s *storedSend) send() (Send, error) {
	if s.Format > Format {
		return Send{}, fmt.Errorf("send of format %d: %w", s.Format, ErrFormat)
	}
	return Send(s.sendFields), nil
}

// EncodeSend is the stored form of what a message says.
func EncodeSend(s Send) ([]byte, error) {
	b, err := json.Marshal(stored(&s))
	if err != nil {
		return nil, fmt.Errorf("encode send: %w", err)
	}
	return b, nil
}

// DecodeSend reads what EncodeSend wrote; what is of a newer generation is
// ErrFormat.
func DecodeSend(b []byte) (Send, error) {
	var s storedSend
	if err := json.Unmarshal(b, &s); err != nil {
		return Send{}, fmt.Errorf("decode send: %w", err)
	}
	return s.send()
}
