package actors_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

// full is a conversation that has moved keys out of its snapshot: a row without
// a time may be one of those.
func full(n uint64) parley.Snapshot {
	s := version(n)
	for i := range parley.InlineSeen {
		s.Seen = append(s.Seen, parley.SeenKey{Key: parley.NewEventKey("seen", string(rune(i))), At: time.UnixMilli(1_800_000_000_000)})
	}
	return s
}

// asked is the machine's question, and the answer that all of it took effect.
func asked(t *testing.T, c *actors.Conversation) ([]parley.EventKey, map[parley.EventKey]bool) {
	t.Helper()
	want(t, c, actors.Ask)
	keys := c.OlderKeys()
	found := map[parley.EventKey]bool{}
	for _, k := range keys {
		found[k] = true
	}
	return keys, found
}

// A row that is hinted while the keys of others are looked up must be looked up
// too: it may be a repeat that the snapshot has forgotten.
func TestRowsHintedDuringAQuestionAreAskedForToo(t *testing.T) {
	t.Parallel()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: full(1), Pending: []parley.Pending{row(1)}}, nil)
	keys, found := asked(t, &c)
	c.Hint([]parley.Pending{row(2)})
	c.Older(keys, found, nil)
	keys, found = asked(t, &c)
	if len(keys) != 1 || keys[0] != row(2).Key {
		t.Fatalf("asked for %d keys, want that of the second row", len(keys))
	}
	c.Older(keys, found, nil)
	want(t, &c, actors.Think)
	if _, rows, older := c.Turn(); len(rows) != 2 || !older[row(1).Key] || !older[row(2).Key] {
		t.Fatalf("the turn has %d rows and knows %v", len(rows), older)
	}
}

// The same while a turn is held back.
func TestRowsHintedDuringAPauseAreAskedForToo(t *testing.T) {
	t.Parallel()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: full(1), Pending: []parley.Pending{row(1)}}, nil)
	keys, found := asked(t, &c)
	c.Older(keys, found, nil)
	want(t, &c, actors.Think)
	c.Hold()
	c.Hint([]parley.Pending{row(2)})
	c.Resume()
	if _, found = asked(t, &c); !found[row(2).Key] {
		t.Fatal("the second row is not asked for")
	}
}

// A key that was looked up in vain is not looked up again before its turn.
func TestAKeyIsAskedForOnce(t *testing.T) {
	t.Parallel()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: full(1), Pending: []parley.Pending{row(1)}}, nil)
	keys, _ := asked(t, &c)
	c.Older(keys, nil, nil)
	want(t, &c, actors.Think)
	c.Committed(full(2), nil)
	c.Hint([]parley.Pending{row(3)})
	want(t, &c, actors.Ask)
}

// Conflicts and failures in a row make the machine wait longer and longer.
func TestBackoffGrows(t *testing.T) {
	t.Parallel()
	c := actors.NewConversation(someone())
	var waits []time.Duration
	for range 12 {
		want(t, &c, actors.Load)
		if !c.Loaded(parley.Loaded{}, errAway) {
			t.Fatal("a failed load must pause")
		}
		waits = append(waits, c.Backoff())
		c.Resume()
	}
	if first, last := waits[0], waits[len(waits)-1]; first > 100*time.Millisecond || last < time.Second {
		t.Fatalf("the waits are %v", waits)
	}
}
