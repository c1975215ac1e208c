package embedded

import (
	"encoding/binary"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// silenceAll silences all that a merged conversation has left: it decides nothing any
// more.
const silenceAll = 1 << 62

func silenceKey(b, conv []byte) []byte { return append(append(b, tableSilence), conv...) }

// silence notes what a commit silences: messages of its conversation, and all of those
// that go before them since they were merged into it. t.conv is what it was.
func (t *txn) silence(ch *channel, c *parley.Commit) {
	if c.Silence == 0 {
		return
	}
	t.silenceLine(ch, ch.lines[c.Conversation.Contact], c.Silence)
	for younger, steps := range ch.before {
		if slices.Contains(steps, c.Conversation.Contact) {
			t.silenceLine(ch, ch.lines[younger], silenceAll)
		}
	}
	t.conv = ch.conversation(t.conv[:0], c.Conversation.Contact)
}

func (t *txn) silenceLine(ch *channel, l *line, upTo uint64) {
	if l == nil || !l.anyUpTo(upTo) {
		return
	}
	l.silenced = max(l.silenced, upTo)
	t.conv = ch.conversation(t.conv[:0], l.contact)
	t.key = silenceKey(t.key[:0], t.conv)
	t.val = appendTime(binary.AppendUvarint(append(t.val[:0], rowFormat), l.silenced), fromMS(t.now))
	t.set(t.key, t.val)
}

// unsilence forgets a silence when the last message that it was about has left; t.conv
// is the stored form of the line's conversation.
func (t *txn) unsilence(l *line) {
	if l.silenced == 0 || l.anyUpTo(l.silenced) {
		return
	}
	l.silenced = 0
	t.key = silenceKey(t.key[:0], t.conv)
	t.del(t.key)
}

// anyUpTo reports whether a line has a message up to an ordinal.
func (l *line) anyUpTo(ordinal uint64) bool {
	return slices.ContainsFunc(l.queue, func(u unsent) bool { return u.ordinal <= ordinal })
}

func decodeSilence(value []byte) (upTo uint64, at time.Time, err error) {
	r, err := readRow(tableSilence, value)
	if err != nil {
		return 0, at, err
	}
	upTo, at = r.uvarint(), r.time()
	return upTo, at, r.end("silence")
}

func (s *Store) seeSilence(key *reader, value []byte) error {
	c := key.conversation()
	upTo, _, err := decodeSilence(value)
	if l := s.channel(c.Channel).lines[c.Contact]; l != nil {
		l.silenced = upTo
	}
	return err
}
