package postgres_test

import (
	"fmt"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// A node that hasn't heard of a merge makes a new key known as meaning the
// conversation that is gone. The key means what that one means.
func TestKeyMadeKnownByWhatWasMerged(t *testing.T) {
	t.Parallel()
	url := database(t)
	one, two := open(t, postgres.Config{URL: url}), open(t, postgres.Config{URL: url})
	appended(t, one, person("1", "phone:1"))
	appended(t, one, person("2", "bsuid:x"))
	appended(t, one, person("3", "bsuid:x")) // it remembers the key
	appended(t, two, person("4", "bsuid:x", "phone:1"))
	appended(t, one, person("5", "bsuid:x", "phone:2")) // phone:2 is new
	for i, s := range []*postgres.Store{one, two, open(t, postgres.Config{URL: url})} {
		for j, keys := range [][]parley.Contact{{"phone:2"}, {"bsuid:x", "phone:2"}, {"phone:2", "phone:1"}} {
			appended(t, s, person(fmt.Sprint("6", i, j), keys...))
		}
	}
	if turn := turnOf(t, one, conversation("phone:1")); len(turn.Saw) != 14 {
		t.Fatalf("the survivor's turn sees %d rows, want 14", len(turn.Saw))
	}
}

// A fail-over may lose that keys are known, while a node still remembers them.
// The next event that names both merges what they mean.
func TestMergeOfKeysThatAFailOverLost(t *testing.T) {
	t.Parallel()
	url := database(t)
	s, c := open(t, postgres.Config{URL: url}), session(t, url)
	appended(t, s, person("1", "phone:1"))
	appended(t, s, person("2", "bsuid:x"))
	appended(t, s, person("3", "bsuid:x"), person("4", "phone:1")) // it remembers both
	run(t, c, `delete from parley.contact`)
	survivor := appended(t, s, person("5", "bsuid:x", "phone:1"))[0].Conversation
	if turn := turnOf(t, s, survivor); len(turn.Saw) != 5 {
		t.Errorf("the survivor's turn sees %d rows, want 5", len(turn.Saw))
	}
}
