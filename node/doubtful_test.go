package node_test

import (
	"strings"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// A wait too short for a lease and a call would let a second attempt begin
// before the first is over.
func TestDoubtfulWaitHasAMinimum(t *testing.T) {
	t.Parallel()
	bots := []parley.Bot{{Name: "bot", Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return nil })}}
	cfg := page(t, "http://127.0.0.1:1")
	for wait, ok := range map[time.Duration]bool{-time.Second: false, time.Millisecond: false, time.Second: true} {
		cfg.DoubtfulWait = wait
		err := cfg.Validate(bots)
		if ok && err != nil || !ok && (err == nil || !strings.Contains(err.Error(), "doubtful_wait")) {
			t.Errorf("%s: %v", wait, err)
		}
	}
}
