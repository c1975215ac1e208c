package postgres_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// person writes as a WhatsApp user who is known by these keys.
func person(id string, keys ...parley.Contact) parley.Event {
	e := hello(id)
	e.Channel = parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "447000"}
	e.Contacts = keys
	return e
}

func conversation(key parley.Contact) parley.Conversation {
	return parley.Conversation{Channel: person("", key).Channel, Contact: key}
}

func appended(t *testing.T, s *postgres.Store, events ...parley.Event) []parley.Pending {
	t.Helper()
	rows, err := s.Append(t.Context(), parley.Arrivals{Events: events})
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

// TestMergeByAnotherNode: a node goes on appending under what it remembers of a
// contact, after another has merged the contact's conversations. Nothing of that
// is lost or out of order.
func TestMergeByAnotherNode(t *testing.T) {
	t.Parallel()
	url := database(t)
	one, two := open(t, postgres.Config{URL: url}), open(t, postgres.Config{URL: url})
	appended(t, one, person("1", "phone:1"))
	appended(t, one, person("2", "bsuid:x")) // and remembers both
	appended(t, one, person("3", "bsuid:x"))
	appended(t, two, person("4", "bsuid:x", "phone:1"))
	if late := appended(t, one, person("5", "bsuid:x"))[0]; late.Conversation.Contact != "bsuid:x" {
		t.Fatalf("the first node knows of the merge (%s): this test shows nothing", late.Conversation.Contact)
	}
	appended(t, two, person("6", "bsuid:x"))
	turn := turnOf(t, one, conversation("phone:1"))
	var said []string
	for _, o := range turn.Outbox {
		said = append(said, o.Send.Text)
	}
	if len(said) != 6 || len(turn.Saw) != 6 {
		t.Fatalf("the survivor's turn sees %d rows, want 6", len(turn.Saw))
	}
	for i := 1; i < len(turn.Saw); i++ {
		if turn.Saw[i].Seq < turn.Saw[i-1].Seq {
			t.Fatal("rows are out of order")
		}
	}
	if errs, err := one.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	if b, err := one.Backlog(t.Context()); err != nil || b.Pending != 0 {
		t.Fatalf("%d rows are left: %v", b.Pending, err)
	}
}

// TestMergeByManyNodes: several nodes meet the contacts at the same time, while
// turns are committed on all sides.
func TestMergeByManyNodes(t *testing.T) {
	t.Parallel()
	url := database(t)
	const nodes, people, rounds = 3, 6, 8
	var wg sync.WaitGroup
	for n := range nodes {
		s := open(t, postgres.Config{URL: url})
		wg.Go(func() {
			for i := range rounds * people {
				who := i % people
				phone, bsuid := parley.Contact(fmt.Sprint("phone:", who)), parley.Contact(fmt.Sprint("bsuid:", who))
				keys := [][]parley.Contact{{phone}, {bsuid}, {bsuid, phone}}[(i/people+n)%3]
				rows, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{person(fmt.Sprint(n, "-", i), keys...)}})
				if err != nil {
					t.Errorf("node %d: %v", n, err)
					return
				}
				loaded, err := s.Load(t.Context(), rows[0].Conversation, 10)
				if err != nil {
					t.Errorf("node %d: %v", n, err)
					return
				}
				if len(loaded.Pending) == 0 {
					continue // merged, or another node's turn was first
				}
				commit := parley.Step(echo(), loaded.Snapshot, loaded.Pending, parley.Circumstance{Nonce: [16]byte{byte(n), byte(i), byte(i >> 8), 1}})
				errs, err := s.Commit(t.Context(), []parley.Commit{commit})
				if err != nil || errs[0] != nil && !errors.Is(errs[0], parley.ErrConflict) {
					t.Errorf("node %d: %v %v", n, errs, err)
				}
			}
		})
	}
	wg.Wait()
	checkMerged(t, open(t, postgres.Config{URL: url}), people, nodes*rounds)
}

// checkMerged takes the last turns, and counts that each event took effect once.
func checkMerged(t *testing.T, s *postgres.Store, people, each int) {
	t.Helper()
	for who := range people {
		bsuid, phone := parley.Contact(fmt.Sprint("bsuid:", who)), parley.Contact(fmt.Sprint("phone:", who))
		survivor := appended(t, s, person(fmt.Sprint("last-", who), bsuid, phone))[0].Conversation
		for {
			turn := turnOf(t, s, survivor)
			errs, err := s.Commit(t.Context(), []parley.Commit{turn})
			if err != nil || errs[0] != nil {
				t.Fatal(errs, err)
			}
			loaded, err := s.Load(t.Context(), survivor, 1)
			if err != nil {
				t.Fatal(err)
			}
			if len(loaded.Pending) == 0 {
				break
			}
		}
	}
	b, err := s.Backlog(t.Context())
	if want := people * (each + 1); err != nil || b.Pending != 0 || b.Unsent != want {
		t.Fatalf("%d rows are left, %d replies, want %d: %v", b.Pending, b.Unsent, want, err)
	}
}

// TestMergeLeavesWhatIsNewerAlone: a conversation that a newer program has
// written is not merged, and the event that asked for it isn't refused.
func TestMergeLeavesWhatIsNewerAlone(t *testing.T) {
	t.Parallel()
	url := database(t)
	s, c := open(t, postgres.Config{URL: url}), session(t, url)
	row := appended(t, s, person("1", "phone:1"))[0]
	if errs, err := s.Commit(t.Context(), []parley.Commit{turnOf(t, s, row.Conversation)}); err != nil || errs[0] != nil {
		t.Fatal(errs, err)
	}
	appended(t, s, person("2", "bsuid:x"))
	run(t, c, `update parley.conversation set format = 99, snapshot = set_byte(snapshot, 1, 99)`)
	if got := appended(t, s, person("3", "bsuid:x", "phone:1"))[0].Conversation.Contact; got != "bsuid:x" {
		t.Errorf("the event belongs to %s", got)
	}
	if _, err := s.Load(t.Context(), row.Conversation, 1); !errors.Is(err, parley.ErrFormat) {
		t.Errorf("load of what is newer: %v", err)
	}
}

// TestMergeOfWhatIsLocked: a stranger holds the row of one of the conversations
// for as long as it likes. The event that asks for the merge doesn't wait for it,
// since others wait behind that event; the next one that does merges them.
func TestMergeOfWhatIsLocked(t *testing.T) {
	t.Parallel()
	url := database(t)
	s, c := open(t, postgres.Config{URL: url}), session(t, url)
	for i, key := range []parley.Contact{"phone:1", "bsuid:x"} {
		row := appended(t, s, person(fmt.Sprint(i), key))[0]
		if errs, err := s.Commit(t.Context(), []parley.Commit{turnOf(t, s, row.Conversation)}); err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
	}
	run(t, c, "begin")
	run(t, c, `select 1 from parley.conversation for update`)
	rows, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{person("3", "bsuid:x", "phone:1"), hello("another")}})
	if err != nil || rows[0].Conversation.Contact != "bsuid:x" {
		t.Fatalf("the event belongs to %v: %v", rows, err)
	}
	run(t, c, "rollback")
	if got := appended(t, s, person("4", "bsuid:x", "phone:1"))[0].Conversation.Contact; got != "phone:1" {
		t.Errorf("the next event belongs to %s", got)
	}
	if turn := turnOf(t, s, conversation("phone:1")); len(turn.Saw) != 2 {
		t.Errorf("the survivor's turn sees %d rows, want 2", len(turn.Saw))
	}
}
