package cluster_test

import (
	"context"
	"net"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/parleychat/parley/cluster"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// freeAddress is one of the host that nobody listens on, or the end of the test.
func freeAddress(t *testing.T, host string) string {
	t.Helper()
	ln, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Skipf("no address: %v", err)
	}
	defer func() { _ = ln.Close() }()
	return ln.Addr().String()
}

// run runs a member until stop is called, which waits for its end.
func run(t *testing.T, cfg cluster.Config) (c *cluster.Cluster, stop func()) {
	t.Helper()
	c, err := cluster.New(cfg)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- c.Run(ctx) }()
	return c, func() {
		cancel()
		if err := <-ended; err != nil {
			t.Error(err)
		}
	}
}

func await(t *testing.T, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); !ok(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("waited in vain")
		}
	}
}
