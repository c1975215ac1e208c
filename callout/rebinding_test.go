package callout_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"net/netip"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parleychat/parley/callout"
)

// nameServer answers each look-up with the next of its addresses, the last one again and
// again.
type nameServer struct {
	mu      sync.Mutex
	answers []netip.Addr
}

// resolver asks it. A connection that isn't of packets is taken for TCP.
func (n *nameServer) resolver(t *testing.T) *net.Resolver {
	t.Helper()
	return &net.Resolver{PreferGo: true, Dial: func(context.Context, string, string) (net.Conn, error) {
		ours, theirs := net.Pipe()
		t.Cleanup(func() { _ = theirs.Close() })
		go func() {
			defer func() { _ = theirs.Close() }()
			for n.answer(theirs) == nil { // until the resolver hangs up
			}
		}()
		return ours, nil
	}}
}

// answer reads a question and answers it: RFC 1035, 4.1 and 4.2.2.
func (n *nameServer) answer(c io.ReadWriter) error {
	var size [2]byte
	if _, err := io.ReadFull(c, size[:]); err != nil {
		return err
	}
	asked := make([]byte, binary.BigEndian.Uint16(size[:]))
	if _, err := io.ReadFull(c, asked); err != nil {
		return err
	}
	const header = 12
	end := header + bytes.IndexByte(asked[header:], 0) + 1
	question := asked[header : end+4]
	said := append(append([]byte{}, asked[:2]...), 0x81, 0x80, 0, 1, 0, 0, 0, 0, 0, 0)
	said = append(said, question...)
	if kind := binary.BigEndian.Uint16(asked[end:]); kind == 1 { // A
		said[7] = 1
		said = append(said, 0xc0, header, 0, 1, 0, 1, 0, 0, 0, 0, 0, 4)
		said = append(said, n.next().AsSlice()...)
	}
	_, err := c.Write(append(binary.BigEndian.AppendUint16(nil, uint16(len(said))), said...))
	return err
}

func (n *nameServer) next() netip.Addr {
	n.mu.Lock()
	defer n.mu.Unlock()
	a := n.answers[0]
	if len(n.answers) > 1 {
		n.answers = n.answers[1:]
	}
	return a
}

// TestRebinding: a name that leads to a public address when it is looked up first, and to
// this machine from then on, reaches this machine never. No connection is made: what has
// passed the check is stopped behind it.
func TestRebinding(t *testing.T) {
	t.Parallel()
	for name, answers := range map[string][]string{
		"Once": {"8.8.8.8", "127.0.0.1"}, "Later": {"8.8.8.8", "8.8.4.4", "8.8.8.8", "169.254.169.254"}, "Never": {"127.0.0.1"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			names := &nameServer{}
			for _, a := range answers {
				names.answers = append(names.answers, netip.MustParseAddr(a))
			}
			errStopped := errors.New("stopped")
			var passed []string
			dial := callout.DialPublic(&net.Dialer{
				Timeout: 10 * time.Second, Resolver: names.resolver(t),
				ControlContext: func(_ context.Context, _, address string, _ syscall.RawConn) error {
					passed = append(passed, address)
					return errStopped
				},
			})
			for i, a := range answers {
				_, err := dial(t.Context(), "tcp4", "bot.example:443")
				if last := i == len(answers)-1; err == nil || errors.Is(err, errStopped) == last {
					t.Errorf("dialled when the name leads to %s: %v", a, err)
				}
			}
			var want []string
			for _, a := range answers[:len(answers)-1] {
				want = append(want, a+":443")
			}
			same(t, "what passed", passed, want)
		})
	}
}
