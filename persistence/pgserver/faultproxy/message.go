package faultproxy

import (
	"bufio"
	"encoding/binary"
	"io"
	"net"
	"strings"
)

const (
	// Types of messages that the proxy looks at.
	query         = 'Q'
	functionCall  = 'F'
	execute       = 'E'
	syncPoint     = 'S'
	readyForQuery = 'Z'

	headerBytes = 5    // type and length
	lengthBytes = 4    // the length counts itself
	headMax     = 1024 // bytes of a message that are looked at; the rest only passes
	sentMax     = 4096 // messages of a round trip that are looked at
	startupMax  = 10_000

	// What a client may say before anything else, in place of a version.
	sslRequest    = 80877103
	gssEncRequest = 80877104
)

// Message is a message of a client, as section "Message Formats" of PostgreSQL's
// documentation describes it.
type Message struct {
	Type byte   // Q is a query; P, B, E, S are Parse, Bind, Execute, Sync
	Head []byte // the begin of what follows the length

	raw []byte
}

// ends says whether a message ends a round trip: the server will say that it is
// ready for the next.
func (m Message) ends() bool {
	return m.Type == query || m.Type == functionCall || m.Type == syncPoint
}

// Text is the first string in the message: the SQL of a Query, the name of the
// statement in a Parse, of the portal in an Execute.
func (m Message) Text() string {
	text, _, _ := strings.Cut(string(m.Head), "\x00")
	return text
}

// Commit picks the round trips that may commit something: a query COMMIT, or an
// Execute before a Sync, be it of COMMIT or of a statement on its own.
func Commit(sent []Message) bool {
	if len(sent) == 0 {
		return false
	}
	if last := sent[len(sent)-1]; last.Type == query {
		return isCommit(last.Text())
	}
	for _, m := range sent {
		if m.Type == execute {
			return true
		}
	}
	return false
}

// QueryCommit picks queries COMMIT only, which is how pgx ends a transaction.
func QueryCommit(sent []Message) bool {
	return len(sent) > 0 && sent[len(sent)-1].Type == query && isCommit(sent[len(sent)-1].Text())
}

func isCommit(sql string) bool { return strings.EqualFold(strings.Trim(sql, "; \t\r\n"), "commit") }

// readMessage reads the begin of a message, and says how much of it follows.
func readMessage(from *bufio.Reader) (m Message, rest int, err error) {
	var header [headerBytes]byte
	if _, err := io.ReadFull(from, header[:]); err != nil {
		return Message{}, 0, err
	}
	length := int(binary.BigEndian.Uint32(header[1:])) - lengthBytes
	if length < 0 {
		return Message{}, 0, errNotPostgres
	}
	head := min(length, headMax)
	raw := make([]byte, headerBytes+head)
	copy(raw, header[:])
	if _, err := io.ReadFull(from, raw[headerBytes:]); err != nil {
		return Message{}, 0, err
	}
	return Message{Type: header[0], Head: raw[headerBytes:], raw: raw}, length - head, nil
}

// startup forwards how a client begins. Encryption is refused in the server's
// name; the request to cancel something passes like a login, and no message
// follows it.
func startup(from *bufio.Reader, client net.Conn, to *bufio.Writer) error {
	for {
		var length [lengthBytes]byte
		if _, err := io.ReadFull(from, length[:]); err != nil {
			return err
		}
		size := int(binary.BigEndian.Uint32(length[:])) - lengthBytes
		if size < lengthBytes || size > startupMax {
			return errNotPostgres
		}
		body := make([]byte, size)
		if _, err := io.ReadFull(from, body); err != nil {
			return err
		}
		if code := binary.BigEndian.Uint32(body); code == sslRequest || code == gssEncRequest {
			if _, err := client.Write([]byte("N")); err != nil {
				return err
			}
			continue
		}
		_, _ = to.Write(length[:]) // Flush tells
		_, _ = to.Write(body)
		return to.Flush()
	}
}
