package postgres_test

import (
	"fmt"
	"math/rand/v2"
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

// Two conversations with names as long as may be are merged: an index has to take
// both names in one entry.
func TestMergeOfLongNames(t *testing.T) {
	t.Parallel()
	s := open(t, postgres.Config{URL: database(t)})
	room := postgres.KeyBytesMax - len(conversation(parley.BSUIDKey).String())
	noise := make([]byte, room)
	rng := rand.New(rand.NewPCG(1, 2))
	for i := range noise { // it can't be compressed
		noise[i] = byte(rng.Uint32())
	}
	one, two := parley.BSUIDKey+parley.Contact(noise), parley.PhoneKey+parley.Contact(noise[:room-1])
	appended(t, s, person("1", one))
	appended(t, s, person("2", two))
	survivor := appended(t, s, person("3", one, two))[0].Conversation
	if turn := turnOf(t, s, survivor); len(turn.Saw) != 3 {
		t.Errorf("the survivor's turn sees %d rows, want 3", len(turn.Saw))
	}
}
