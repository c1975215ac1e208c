package faultproxy

import (
	"bufio"
	"errors"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"time"
)

// link is one connection through the proxy.
type link struct {
	client net.Conn
	done   chan struct{} // closed when it was cut
	once   sync.Once

	mu     sync.Mutex
	server net.Conn // nil until the server was reached

	asked      atomic.Int64  // round trips that the client has begun; logging in is one
	mute       atomic.Bool   // from here on the client hears nothing
	ready      chan struct{} // told after each answer that is complete
	answered   atomic.Int64
	answersEnd chan struct{} // closed when the server says no more
}

func newLink(client net.Conn) *link {
	l := &link{client: client, done: make(chan struct{}), ready: make(chan struct{}, 1), answersEnd: make(chan struct{})}
	l.asked.Store(1)
	return l
}

// cut breaks both ends, the client's without a farewell.
func (l *link) cut() {
	l.once.Do(func() {
		close(l.done)
		if tcp, ok := l.client.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // else it is a mannerly end
		}
		_ = l.client.Close()
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.server != nil {
			_ = l.server.Close()
		}
	})
}

// join adds the server's end, unless the connection was cut meanwhile.
func (l *link) join(server net.Conn) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.server = server
	select {
	case <-l.done:
		_ = server.Close()
		return false
	default:
		return true
	}
}

// requests forwards what the client says, message by message.
func (p *Proxy) requests(l *link) {
	from, to := bufio.NewReader(l.client), bufio.NewWriter(l.server)
	if err := startup(from, l.client, to); err != nil {
		return
	}
	var sent []Message
	for {
		m, rest, err := readMessage(from)
		if err != nil || !p.gate(l) {
			return
		}
		if len(sent) < sentMax || m.ends() {
			sent = append(sent, m)
		}
		lose := false
		if m.ends() {
			if !p.drag(l) {
				return
			}
			lose = p.loses(sent)
			sent = sent[:0]
			l.asked.Add(1)
		}
		// Before the server hears of it: so the client can't hear its answer.
		l.mute.Store(lose)
		if err := forward(m, rest, from, to); err != nil {
			return
		}
		if lose {
			l.awaitAnswer()
			p.countLost()
			return
		}
	}
}

// awaitAnswer waits until the server has answered all that it was asked. What it
// did is done then, though the client's connection is cut.
func (l *link) awaitAnswer() {
	limit := time.NewTimer(loseMax) //nolint:forbidigo // watches a real server
	defer limit.Stop()
	for l.answered.Load() < l.asked.Load() {
		select {
		case <-l.ready:
		case <-l.answersEnd:
			return
		case <-l.done:
			return
		case <-limit.C:
			return
		}
	}
}

// answers forwards what the server says.
func (p *Proxy) answers(l *link) {
	from, to := bufio.NewReader(l.server), bufio.NewWriter(l.client)
	for {
		m, rest, err := readMessage(from)
		if err != nil || !p.gate(l) {
			return
		}
		if l.mute.Load() {
			_, err = from.Discard(rest)
		} else {
			err = forward(m, rest, from, to)
		}
		if err != nil {
			return
		}
		if m.Type != readyForQuery {
			continue
		}
		l.answered.Add(1)
		select {
		case l.ready <- struct{}{}:
		default: // it was told already, and will look again
		}
	}
}

// forward writes a message of which rest bytes are still to be read, and holds
// it back only if another has begun to arrive.
func forward(m Message, rest int, from *bufio.Reader, to *bufio.Writer) error {
	_, err := to.Write(m.raw)
	if err == nil {
		_, err = io.CopyN(to, from, int64(rest))
	}
	if err == nil && (from.Buffered() == 0 || m.ends()) {
		err = to.Flush()
	}
	return err
}

var errNotPostgres = errors.New("not a message of PostgreSQL's protocol")
