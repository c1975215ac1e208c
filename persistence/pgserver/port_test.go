package pgserver_test

import (
	"testing"

	"github.com/parleychat/parley/persistence/pgserver"
)

// Ports are given once, and never one that a system may give to a connection meanwhile.
func TestFreePort(t *testing.T) {
	t.Parallel()
	given := map[int]bool{}
	for range 200 {
		port, err := pgserver.FreePort(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if given[port] || port < 20000 || port >= 32000 {
			t.Fatalf("port %d given, before %v", port, given[port])
		}
		given[port] = true
	}
}
