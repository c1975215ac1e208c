package actors_test

import (
	"errors"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

var errAway = errors.New("store is away")

func row(seq parley.Seq) parley.Pending {
	return parley.Pending{Row: parley.Row{Seq: seq, Token: parley.Token(seq * 7)}, Key: parley.NewEventKey(string(rune(seq)))}
}

func seqs(rows []parley.Pending) []parley.Seq {
	out := make([]parley.Seq, len(rows))
	for i := range rows {
		out[i] = rows[i].Seq
	}
	return out
}

// want fails the test unless the machine asks for exactly these actions.
func want(t *testing.T, c *actors.Conversation, actions ...actors.Action) {
	t.Helper()
	for i, a := range actions {
		if got := c.Next(); got != a {
			t.Fatalf("action %d: got %d, want %d", i, got, a)
		}
	}
}

func TestConversation(t *testing.T) {
	t.Parallel()
	id := parley.Conversation{Channel: parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "1"}, Contact: "user:1"}
	next := func(n uint64) parley.Snapshot {
		return parley.Snapshot{Conversation: id, Version: parley.Version{Number: n, Token: parley.Token(n)}}
	}

	t.Run("LoadsBeforeItThinks", func(t *testing.T) {
		t.Parallel()
		c := actors.NewConversation(id)
		c.Hint([]parley.Pending{row(1)})
		want(t, &c, actors.Load, actors.Rest)
		c.Loaded(parley.Loaded{Snapshot: next(4), Pending: []parley.Pending{row(1), row(2)}}, nil)
		want(t, &c, actors.Think, actors.Rest)
		s, rows, _ := c.Turn()
		if s.Version.Number != 4 || !slices.Equal(seqs(rows), []parley.Seq{1, 2}) {
			t.Fatalf("turn has version %d and rows %v", s.Version.Number, seqs(rows))
		}
	})

	t.Run("HintsDuringACommitMakeTheNextTurn", func(t *testing.T) {
		t.Parallel()
		c := actors.NewConversation(id)
		want(t, &c, actors.Load)
		c.Loaded(parley.Loaded{Snapshot: next(1), Pending: []parley.Pending{row(1)}}, nil)
		want(t, &c, actors.Think)
		c.Hint([]parley.Pending{row(3)})
		c.Hint([]parley.Pending{row(2), row(3)})
		c.Committed(next(2), nil)
		want(t, &c, actors.Think)
		s, rows, _ := c.Turn()
		if s.Version.Number != 2 || !slices.Equal(seqs(rows), []parley.Seq{2, 3}) {
			t.Fatalf("turn has version %d and rows %v", s.Version.Number, seqs(rows))
		}
	})

	t.Run("AConflictLoadsAgain", func(t *testing.T) {
		t.Parallel()
		c := actors.NewConversation(id)
		want(t, &c, actors.Load)
		c.Loaded(parley.Loaded{Snapshot: next(1), Pending: []parley.Pending{row(2)}}, nil)
		want(t, &c, actors.Think)
		if c.Committed(parley.Snapshot{}, parley.ErrConflict) {
			t.Fatal("a conflict must not wait")
		}
		want(t, &c, actors.Load)
		c.Loaded(parley.Loaded{Snapshot: next(1), Pending: []parley.Pending{row(1), row(2)}}, nil)
		want(t, &c, actors.Think)
	})

	t.Run("AnUnknownOutcomePausesThenLoads", func(t *testing.T) {
		t.Parallel()
		c := actors.NewConversation(id)
		want(t, &c, actors.Load)
		c.Loaded(parley.Loaded{Snapshot: next(1), Pending: []parley.Pending{row(1)}}, nil)
		want(t, &c, actors.Think)
		if !c.Committed(parley.Snapshot{}, errAway) {
			t.Fatal("an unknown outcome must pause")
		}
		want(t, &c, actors.Rest)
		c.Resume()
		want(t, &c, actors.Load)
	})

	t.Run("FailingLoadsBackOff", func(t *testing.T) {
		t.Parallel()
		c := actors.NewConversation(id)
		last := c.Backoff()
		for range 20 {
			want(t, &c, actors.Load)
			if !c.Loaded(parley.Loaded{}, errAway) {
				t.Fatal("a failed load must pause")
			}
			if now := c.Backoff(); now < last || now.Seconds() > 2 {
				t.Fatalf("back-off went from %s to %s", last, now)
			} else {
				last = now
			}
			c.Resume()
		}
	})

	t.Run("MoreIsLoadedWhenTheQueueIsDone", func(t *testing.T) {
		t.Parallel()
		c := actors.NewConversation(id)
		want(t, &c, actors.Load)
		c.Loaded(parley.Loaded{Snapshot: next(1), Pending: []parley.Pending{row(1)}, More: true}, nil)
		c.Hint([]parley.Pending{row(9)}) // would leave a gap
		want(t, &c, actors.Think)
		if c.Idle() {
			t.Fatal("not idle: rows wait in the store")
		}
		c.Committed(next(2), nil)
		want(t, &c, actors.Load)
	})

	t.Run("AWakeOfAnIdleMachineLoads", func(t *testing.T) {
		t.Parallel()
		c := actors.NewConversation(id)
		want(t, &c, actors.Load)
		c.Loaded(parley.Loaded{Snapshot: next(1)}, nil)
		want(t, &c, actors.Rest)
		if !c.Idle() {
			t.Fatal("nothing is to be done")
		}
		c.Wake()
		want(t, &c, actors.Load)
	})
}

// The machine against a model of the store's inbox: whatever is hinted, lost or
// doubled, every row is committed once and in order.
func TestConversationNeverLosesARow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		var (
			c       = actors.NewConversation(parley.Conversation{})
			inbox   []parley.Pending
			done    []parley.Seq
			seq     parley.Seq
			version uint64
		)
		deal := func() {
			switch c.Next() {
			case actors.Rest:
			case actors.Load:
				if rapid.Bool().Draw(t, "load fails") {
					c.Loaded(parley.Loaded{}, errAway)
					return
				}
				n := min(len(inbox), parley.MaxPendingPerTurn)
				c.Loaded(parley.Loaded{
					Snapshot: parley.Snapshot{Version: parley.Version{Number: version}},
					Pending:  slices.Clone(inbox[:n]), More: n < len(inbox),
				}, nil)
			case actors.Think:
				s, rows, _ := c.Turn()
				n := 0
				for n < len(inbox) && inbox[n].Seq <= rows[len(rows)-1].Seq {
					n++
				}
				if s.Version.Number != version || !slices.Equal(seqs(inbox[:n]), seqs(rows)) {
					c.Committed(parley.Snapshot{}, parley.ErrConflict)
					return
				}
				fate := rapid.SampledFrom([]string{"ok", "ok", "before", "after"}).Draw(t, "commit")
				if fate == "before" {
					c.Committed(parley.Snapshot{}, errAway)
					return
				}
				done = append(done, seqs(inbox[:n])...)
				inbox = inbox[n:]
				version++
				if fate == "after" {
					c.Committed(parley.Snapshot{}, errAway)
					return
				}
				c.Committed(parley.Snapshot{Version: parley.Version{Number: version}}, nil)
			case actors.Pause:
				c.Resume()
			case actors.Ask:
				t.Fatal("no key is old here")
			}
		}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			switch rapid.SampledFrom([]string{"arrive", "deal", "deal", "wake", "resume", "again"}).Draw(t, "step") {
			case "arrive":
				seq++
				inbox = append(inbox, row(seq))
				if rapid.Bool().Draw(t, "hint arrives") {
					c.Hint([]parley.Pending{row(seq)})
				}
			case "deal":
				deal()
			case "wake":
				c.Wake()
			case "resume":
				c.Resume()
			case "again":
				if seq > 0 {
					c.Hint([]parley.Pending{row(parley.Seq(rapid.Uint64Range(1, uint64(seq)).Draw(t, "row")))})
				}
			}
		}
		for i := 0; len(inbox) > 0; i++ { // a sweeper goes on waking it
			if i > 10_000 {
				t.Fatalf("%d rows never took effect", len(inbox))
			}
			c.Wake()
			c.Resume()
			deal()
		}
		for i, s := range done {
			if s != parley.Seq(i+1) {
				t.Fatalf("took effect in the order %v", done)
			}
		}
	})
}
