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

// someone is the conversation that the machines of these tests are for.
func someone() parley.Conversation {
	return parley.Conversation{Channel: parley.Channel{Brand: "b", Kind: parley.Messenger, ID: "1"}, Contact: "user:1"}
}

// version is the conversation as its nth commit left it.
func version(n uint64) parley.Snapshot {
	return parley.Snapshot{Conversation: someone(), Version: parley.Version{Number: n, Token: parley.Token(n)}}
}

func TestConversation(t *testing.T) {
	t.Parallel()
	for name, test := range map[string]func(*testing.T){
		"LoadsBeforeItThinks":               machineLoadsBeforeItThinks,
		"HintsDuringACommitMakeTheNextTurn": machineHintsDuringACommitMakeTheNextTurn,
		"AConflictLoadsAgain":               machineAConflictLoadsAgain,
		"AnUnknownOutcomePausesThenLoads":   machineAnUnknownOutcomePausesThenLoads,
		"FailingLoadsBackOff":               machineFailingLoadsBackOff,
		"ALoadMakesNoRoom":                  machineALoadMakesNoRoom,
		"MoreIsLoadedWhenTheQueueIsDone":    machineMoreIsLoadedWhenTheQueueIsDone,
		"AWakeOfAnIdleMachineLoads":         machineAWakeOfAnIdleMachineLoads,
		"AMergedOneForwardsOnce":            machineAMergedOneForwardsOnce,
		"AMergedOneForwardsHints":           machineAMergedOneForwardsHints,
		"AMergedOneIsLoadedAgainWhenWoken":  machineAMergedOneIsLoadedAgainWhenWoken,
		"AMergeAmidACommitForwards":         machineAMergeAmidACommitForwards,
		"ASeekOfAnIdleMachineLoads":         machineASeekOfAnIdleMachineLoads,
		"ASeekAmidWorkLoadsAfterwards":      machineASeekAmidWorkLoadsAfterwards,
		"ASeekAmidALoadLoadsAgain":          machineASeekAmidALoadLoadsAgain,
		"APutOffLooksNowAndThen":            machineAPutOffLooksNowAndThen,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

func machineLoadsBeforeItThinks(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	c.Hint([]parley.Pending{row(1)})
	want(t, &c, actors.Load, actors.Rest)
	c.Loaded(parley.Loaded{Snapshot: version(4), Pending: []parley.Pending{row(1), row(2)}}, nil)
	want(t, &c, actors.Think, actors.Rest)
	s, rows, _ := c.Turn()
	if s.Version.Number != 4 || !slices.Equal(seqs(rows), []parley.Seq{1, 2}) {
		t.Fatalf("turn has version %d and rows %v", s.Version.Number, seqs(rows))
	}
}

// A turn that may not be taken is asked for again and again; now and then the store
// is asked whether another has gone on.
func machineAPutOffLooksNowAndThen(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	c.Hint([]parley.Pending{row(1)})
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(4), Pending: []parley.Pending{row(1)}}, nil)
	for range 8 {
		want(t, &c, actors.Think)
		c.PutOff()
		want(t, &c, actors.Rest)
		c.Resume()
	}
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(5)}, nil)
	want(t, &c, actors.Rest)
	if !c.Idle() {
		t.Error("it waits for what another has handled")
	}
}

func machineHintsDuringACommitMakeTheNextTurn(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1), Pending: []parley.Pending{row(1)}}, nil)
	want(t, &c, actors.Think)
	c.Hint([]parley.Pending{row(3)})
	c.Hint([]parley.Pending{row(2), row(3)})
	c.Committed(version(2), nil)
	want(t, &c, actors.Think)
	s, rows, _ := c.Turn()
	if s.Version.Number != 2 || !slices.Equal(seqs(rows), []parley.Seq{2, 3}) {
		t.Fatalf("turn has version %d and rows %v", s.Version.Number, seqs(rows))
	}
}

func machineAConflictLoadsAgain(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1), Pending: []parley.Pending{row(2)}}, nil)
	want(t, &c, actors.Think)
	if c.Committed(parley.Snapshot{}, parley.ErrConflict) {
		t.Fatal("a conflict must not wait")
	}
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1), Pending: []parley.Pending{row(1), row(2)}}, nil)
	want(t, &c, actors.Think)
}

func machineAnUnknownOutcomePausesThenLoads(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1), Pending: []parley.Pending{row(1)}}, nil)
	want(t, &c, actors.Think)
	if !c.Committed(parley.Snapshot{}, errAway) {
		t.Fatal("an unknown outcome must pause")
	}
	want(t, &c, actors.Rest)
	c.Resume()
	want(t, &c, actors.Load)
}

func machineALoadMakesNoRoom(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	holds := func(n int) {
		t.Helper()
		if got := c.Held(); got != n {
			t.Fatalf("counts %d rows, want %d", got, n)
		}
	}
	c.Hint([]parley.Pending{row(1), row(2)})
	holds(2)
	want(t, &c, actors.Load)
	c.Hint([]parley.Pending{row(3)})
	holds(3)
	c.Loaded(parley.Loaded{}, errAway)
	c.Resume()
	want(t, &c, actors.Load)
	holds(3)
	c.Loaded(parley.Loaded{Snapshot: version(4), Pending: []parley.Pending{row(2), row(3)}}, nil)
	holds(2)
}

func machineFailingLoadsBackOff(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
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
}

func machineMoreIsLoadedWhenTheQueueIsDone(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1), Pending: []parley.Pending{row(1)}, More: true}, nil)
	c.Hint([]parley.Pending{row(9)}) // would leave a gap
	want(t, &c, actors.Think)
	if c.Idle() {
		t.Fatal("not idle: rows wait in the store")
	}
	c.Committed(version(2), nil)
	want(t, &c, actors.Load)
}

func machineAWakeOfAnIdleMachineLoads(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1)}, nil)
	want(t, &c, actors.Rest)
	if !c.Idle() {
		t.Fatal("nothing is to be done")
	}
	c.Wake()
	want(t, &c, actors.Load)
}

// gone is the conversation after it was merged into user:2's.
func gone() parley.Snapshot {
	s := version(9)
	s.MergedInto = "user:2"
	return s
}

func machineAMergedOneForwardsOnce(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Hint([]parley.Pending{row(5)})
	c.Loaded(parley.Loaded{Snapshot: gone()}, nil)
	want(t, &c, actors.Forward, actors.Rest)
	survivor := someone()
	survivor.Contact = "user:2"
	if got := c.MergedInto(); got != survivor {
		t.Fatalf("forwards to %v", got)
	}
	if !c.Idle() || c.Held() > 0 {
		t.Fatalf("idle %v, holds %d rows; it has nothing to do any more", c.Idle(), c.Held())
	}
}

func machineAMergedOneForwardsHints(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: gone()}, nil)
	want(t, &c, actors.Forward, actors.Rest)
	for range 3 {
		c.Hint([]parley.Pending{row(1), row(2)})
		want(t, &c, actors.Forward, actors.Rest)
		if c.Held() > 0 {
			t.Fatalf("holds %d rows that are another's", c.Held())
		}
	}
}

// A store that was restored may know nothing of a merge that was.
func machineAMergedOneIsLoadedAgainWhenWoken(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: gone()}, nil)
	want(t, &c, actors.Forward, actors.Rest)
	c.Wake()
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: gone()}, nil)
	want(t, &c, actors.Forward, actors.Rest)
	c.Wake()
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(8), Pending: []parley.Pending{row(1)}}, nil)
	want(t, &c, actors.Think)
}

func machineAMergeAmidACommitForwards(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(8), Pending: []parley.Pending{row(1)}}, nil)
	want(t, &c, actors.Think)
	c.Hint([]parley.Pending{row(2)})
	c.Committed(parley.Snapshot{}, parley.ErrConflict)
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: gone()}, nil)
	want(t, &c, actors.Forward, actors.Rest)
}

func machineASeekOfAnIdleMachineLoads(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1)}, nil)
	want(t, &c, actors.Rest)
	c.Seek()
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1)}, nil)
	want(t, &c, actors.Rest)
}

func machineASeekAmidWorkLoadsAfterwards(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1), Pending: []parley.Pending{row(1)}}, nil)
	want(t, &c, actors.Think)
	c.Seek()
	c.Committed(version(2), nil)
	if c.Idle() {
		t.Fatal("not idle: rows wait that it doesn't know")
	}
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(2), Pending: []parley.Pending{row(2)}}, nil)
	want(t, &c, actors.Think)
	c.Committed(version(3), nil)
	want(t, &c, actors.Rest)
}

// The load may have looked before the rows were there.
func machineASeekAmidALoadLoadsAgain(t *testing.T) {
	t.Helper()
	c := actors.NewConversation(someone())
	want(t, &c, actors.Load)
	c.Seek()
	c.Loaded(parley.Loaded{Snapshot: version(1)}, nil)
	want(t, &c, actors.Load)
	c.Loaded(parley.Loaded{Snapshot: version(1)}, nil)
	want(t, &c, actors.Rest)
}

// inboxModel is what a store does with one conversation, and a shell around the
// machine that carries out what it wants.
type inboxModel struct {
	machine actors.Conversation
	pending []parley.Pending
	done    []parley.Seq
	seq     parley.Seq
	version uint64
}

// deal does what the machine wants next.
func (m *inboxModel) deal(t *rapid.T) {
	switch m.machine.Next() {
	case actors.Rest:
	case actors.Load:
		if rapid.Bool().Draw(t, "load fails") {
			m.machine.Loaded(parley.Loaded{}, errAway)
			return
		}
		n := min(len(m.pending), parley.MaxPendingPerTurn)
		m.machine.Loaded(parley.Loaded{
			Snapshot: version(m.version), Pending: slices.Clone(m.pending[:n]), More: n < len(m.pending),
		}, nil)
	case actors.Think:
		m.machine.Committed(version(m.version+1), m.commit(t))
	case actors.Pause:
		m.machine.Resume()
	case actors.Ask:
		t.Fatal("no key is old here")
	}
}

// commit consumes what lies in the inbox up to the turn's last row, if that is
// what the turn saw.
func (m *inboxModel) commit(t *rapid.T) error {
	s, rows, _ := m.machine.Turn()
	n := 0
	for n < len(m.pending) && m.pending[n].Seq <= rows[len(rows)-1].Seq {
		n++
	}
	if s.Version.Number != m.version || !slices.Equal(seqs(m.pending[:n]), seqs(rows)) {
		return parley.ErrConflict
	}
	fate := rapid.SampledFrom([]string{"ok", "ok", "before", "after"}).Draw(t, "commit")
	if fate == "before" {
		return errAway
	}
	m.done = append(m.done, seqs(rows)...)
	m.pending = m.pending[n:]
	m.version++
	if fate == "after" {
		return errAway
	}
	return nil
}

// happen lets one thing happen around the machine.
func (m *inboxModel) happen(t *rapid.T) {
	switch rapid.SampledFrom([]string{"arrive", "deal", "deal", "wake", "resume", "again"}).Draw(t, "step") {
	case "arrive":
		m.seq++
		m.pending = append(m.pending, row(m.seq))
		if rapid.Bool().Draw(t, "hint arrives") {
			m.machine.Hint([]parley.Pending{row(m.seq)})
		}
	case "deal":
		m.deal(t)
	case "wake":
		m.machine.Wake()
	case "resume":
		m.machine.Resume()
	case "again":
		if m.seq > 0 {
			m.machine.Hint([]parley.Pending{row(parley.Seq(rapid.Uint64Range(1, uint64(m.seq)).Draw(t, "row")))})
		}
	}
}

// Whatever is hinted, lost or doubled, every row is committed once and in order.
func TestConversationNeverLosesARow(t *testing.T) {
	t.Parallel()
	rapid.Check(t, func(t *rapid.T) {
		m := inboxModel{machine: actors.NewConversation(someone())}
		for range rapid.IntRange(1, 60).Draw(t, "steps") {
			m.happen(t)
		}
		for i := 0; len(m.pending) > 0; i++ { // a sweeper goes on waking it
			if i > 10_000 {
				t.Fatalf("%d rows never took effect", len(m.pending))
			}
			m.machine.Wake()
			m.machine.Resume()
			m.deal(t)
		}
		for i, s := range m.done {
			if s != parley.Seq(i+1) {
				t.Fatalf("took effect in the order %v", m.done)
			}
		}
	})
}
