package pgserver

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"sync/atomic"
)

// Ports that FreePort gives. They lie below those that systems give to a connection or
// to a listener on port 0 (from 32768 on Linux, from 49152 elsewhere): a port of that
// range that is free now may be anybody's before the one it was found for listens.
const (
	firstPort = 20000
	portSpan  = 12000
	portsEach = 97 // how far apart processes with successive ids begin
)

//nolint:gochecknoglobals // a port is given once in a process, whoever asks
var portsGiven atomic.Uint32

// FreePort finds a TCP port of the loopback that nobody uses. In one process it gives
// none twice before it has given all.
func FreePort(ctx context.Context) (int, error) {
	var listen net.ListenConfig
	var err error
	for range portSpan {
		port := firstPort + (os.Getpid()*portsEach+int(portsGiven.Add(1)))%portSpan
		ln, failed := listen.Listen(ctx, "tcp4", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if failed == nil {
			return port, ln.Close()
		}
		err = failed
	}
	return 0, fmt.Errorf("find a free port: %w", err)
}
