package postgres_test

import (
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"testing"
	"time"

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

// Each merge takes a round of looking again; there may be many in one append.
func TestManyMergesInOneAppend(t *testing.T) {
	t.Parallel()
	s := open(t, postgres.Config{URL: database(t)})
	var apart, joined []parley.Event
	for i := range 20 {
		b, p := parley.Contact(fmt.Sprint("bsuid:", i)), parley.Contact(fmt.Sprint("phone:", i))
		apart = append(apart, person(fmt.Sprint("b", i), b), person(fmt.Sprint("p", i), p))
		joined = append(joined, person(fmt.Sprint("j", i), b, p))
	}
	appended(t, s, apart...)
	appended(t, s, joined...)
}

// A receipt for somebody with an impossible name folds, and doesn't hold up the
// others of its channel.
func TestReceiptOfAnOverlongName(t *testing.T) {
	t.Parallel()
	s := open(t, postgres.Config{URL: database(t)})
	e := hello("x")
	noise := make([]byte, 10_000) // it can't be compressed into what an index takes
	_, _ = rand.Read(noise)
	long := parley.UserKey + hex.EncodeToString(noise)
	_, err := s.Append(t.Context(), parley.Arrivals{Receipts: []parley.Receipt{{
		Channel: e.Channel, Status: parley.StatusRead, ProviderID: long, Contact: parley.Contact(long), Watermark: time.Now(),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	l, err := s.Lease(t.Context(), e.Channel, "s", time.Minute, parley.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	if n, _, err := s.Fold(t.Context(), l, 10); n != 1 || err != nil {
		t.Errorf("folded %d: %v", n, err)
	}
}

// An event of nobody is refused: kept, it would be everybody's, and couldn't be
// read back.
func TestEventOfNobody(t *testing.T) {
	t.Parallel()
	s := open(t, postgres.Config{URL: database(t)})
	for _, contact := range []parley.Contact{"", parley.UserKey} {
		e := hello("x")
		e.Contacts = []parley.Contact{contact}
		if _, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{e}}); err == nil {
			t.Errorf("an event of %q is taken", contact)
		}
	}
	if found, err := s.Overdue(t.Context(), func(uint16) bool { return true }, 0, 10); err != nil || len(found) != 0 {
		t.Errorf("overdue: %v, %v", found, err)
	}
}
