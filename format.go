package parley

import (
	"encoding/json"
	"fmt"
)

// Format is the newest generation of stored forms that this program reads. Members
// of a cluster tell each other theirs, and nobody stores anything of a generation
// that a member doesn't read: a turn which would is put off (Commit.Format). So the
// conversations of a cluster can be run by each of its members, also while these are
// upgraded one after the other, or taken back. Behind that stand the readers: each
// refuses what is newer than itself, with ErrFormat.
//
// It is raised when something is to be stored that older programs would misread or
// refuse. What they may leave out isn't such a thing: an optional field is enough.
const Format = formatContents

// The generations.
const (
	formatFirst    = 1
	formatContents = 2 // sends have more than a text and quick replies
)

// Format is the generation of stored forms in which c is written.
func (c *Commit) Format() int {
	newest := formatFirst
	for i := range c.Outbox {
		newest = max(newest, c.Outbox[i].Send.format())
	}
	return newest
}

// format is the generation that reads s as it is meant. Programs of the first know
// nothing but a text and quick replies: anything else they would leave out.
func (s *Send) format() int {
	plain := s.onlyText() && !s.Preview && s.Header == "" && s.Footer == "" && s.ReplyTo == "" && s.Private == nil && !s.HumanAgent && !s.Bulk
	if plain {
		return formatFirst
	}
	return formatContents
}

// storedSend is the stored form of a message's content.
type storedSend struct {
	Format int `json:"format,omitempty"` // none: the first
	content
}

// content is a Send that isn't an effect.
type content Send

// EncodeSend is the stored form of a message's content.
func EncodeSend(s Send) ([]byte, error) {
	stored := storedSend{content: content(s)}
	if f := s.format(); f > formatFirst {
		stored.Format = f
	}
	b, err := json.Marshal(stored)
	if err != nil {
		return nil, fmt.Errorf("encode send: %w", err)
	}
	return b, nil
}

// DecodeSend reads what EncodeSend wrote. Of a newer generation it is ErrFormat:
// what this program doesn't know of it would be left out.
func DecodeSend(b []byte) (Send, error) {
	var stored storedSend
	if err := json.Unmarshal(b, &stored); err != nil {
		return Send{}, fmt.Errorf("decode send: %w", err)
	}
	if stored.Format > Format {
		return Send{}, fmt.Errorf("send of format %d: %w", stored.Format, ErrFormat)
	}
	return Send(stored.content), nil
}
