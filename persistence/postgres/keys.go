package postgres

import (
	"errors"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// keyBytesMax bounds the names that lead an index: PostgreSQL refuses entries of
// an index above a third of a page, 2.7 KB, and there is one that has two names.
const keyBytesMax = 1300

var (
	errTooLong = fmt.Errorf("the name of a conversation is longer than %d bytes (keyBytesMax)", keyBytesMax)
	errForm    = errors.New("an event has no stored form")
	errStored  = errors.New("a stored name can't be read")
)

// conversationKey is the stored name of a conversation.
func conversationKey(c parley.Conversation) []byte { return []byte(c.String()) }

func channelKey(c parley.Channel) []byte { return []byte(c.String()) }

// parseKey reads what conversationKey wrote.
func parseKey(b []byte) (parley.Conversation, error) {
	c, err := parley.ParseConversation(string(b))
	if err != nil {
		return c, errStored // without the name: it may be a person's number
	}
	return c, nil
}

// toMS is the stored form of a time: ms since 1970, 0 for none.
func toMS(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.UnixMilli()
}

func fromMS(ms int64) time.Time {
	if ms == 0 {
		return time.Time{}
	}
	return time.UnixMilli(ms).UTC()
}

const msPerDay = 24 * 60 * 60 * 1000

// day is the number of the day of a time in ms.
func day(ms int64) int32 { return int32(max(ms, 0) / msPerDay) }

// bytesOf is s as a value of a column; never nil, which would be null.
func bytesOf[S ~string](s S) []byte { return append([]byte{}, s...) }

// some is b as a value of a column.
func some(b []byte) []byte {
	if b == nil {
		return []byte{}
	}
	return b
}
