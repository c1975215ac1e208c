package meta

import (
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"time"

	"github.com/valyala/fasthttp"
)

// errNotWritten is a request of which not one byte was written: it may be
// written elsewhere.
var errNotWritten = errors.New("connection was closed by the provider while it was not in use")

// dialer makes connections that look whether they are still open before they
// begin a request.
type dialer struct {
	dial  fasthttp.DialFuncWithTimeout
	limit time.Duration
	tls   *tls.Config // nil: none
}

// dialTCP tries IPv6 and IPv4 side by side. Names are asked for anew for each
// connection: there are few.
func dialTCP(addr string, timeout time.Duration) (net.Conn, error) {
	d := net.Dialer{Timeout: timeout}
	return d.Dial("tcp", addr)
}

// connect dials, and shakes hands if there is TLS.
func (d *dialer) connect(addr string, timeout time.Duration) (net.Conn, error) {
	if timeout <= 0 || timeout > d.limit {
		timeout = d.limit
	}
	c, err := d.dial(addr, timeout)
	if err != nil {
		return nil, fmt.Errorf("dial: %w", err)
	}
	if d.tls == nil {
		return &watchedConn{Conn: c, socket: c}, nil
	}
	secure := tls.Client(c, d.tls)
	err = c.SetDeadline(time.Now().Add(timeout)) //nolint:forbidigo // the clock of sockets
	if err == nil {
		err = secure.Handshake() //nolint:noctx // fasthttp dials without a context; the deadline bounds it
	}
	if err == nil {
		err = c.SetDeadline(time.Time{})
	}
	if err != nil {
		return nil, errors.Join(fmt.Errorf("TLS: %w", err), c.Close())
	}
	return &watchedConn{Conn: secure, socket: c}, nil
}

// watchedConn is a connection on which requests and answers alternate. When an
// answer was read and no request begun there is nothing to read; if there is,
// or the end, the provider has closed the connection, and a request written now
// would be lost without anybody knowing whether it was read.
type watchedConn struct {
	net.Conn          // what requests are written to
	socket   net.Conn // below it
	answered bool     // something was read, and nothing written since
	written  bool     // something of the current request
}

// Read is that of the connection.
func (c *watchedConn) Read(p []byte) (int, error) {
	n, err := c.Conn.Read(p)
	if n > 0 {
		c.answered, c.written = true, false
	}
	return n, err
}

// Write is that of the connection; errNotWritten if it would begin a request
// and wrote none of it.
func (c *watchedConn) Write(p []byte) (int, error) {
	if c.answered && readable(c.socket) {
		return 0, errNotWritten
	}
	n, err := c.Conn.Write(p)
	if err != nil && n == 0 && !c.written && !errors.Is(err, os.ErrDeadlineExceeded) {
		return 0, errNotWritten
	}
	c.answered, c.written = false, true
	return n, err
}

// readable reports whether a read would return at once: with data, with the end
// or with an error.
func readable(c net.Conn) bool {
	s, ok := c.(syscall.Conn)
	if !ok {
		return false
	}
	raw, err := s.SyscallConn()
	if err != nil {
		return true
	}
	found := false
	err = raw.Control(func(fd uintptr) { found = peek(fd) })
	return err != nil || found
}
