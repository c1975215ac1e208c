package egress_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/persistence/memory"
)

// line is a store with a bot before the outbox: what comes in is answered twice.
type line struct {
	*floor
	memory *memory.Store
	bot    parley.Bot
	turns  uint64
}

func newLine(f *floor) *line {
	return &line{
		floor:  f,
		memory: memory.New(memory.Config{Now: time.Now}),
		bot: parley.Bot{Name: "echo", Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
			t.Say("one")
			t.Say("two")
			return nil
		})},
	}
}

// hear takes one message of a contact through append, turn and commit, and
// returns the answers as they were committed.
func (l *line) hear(contact string, n int) []parley.Outgoing {
	l.t.Helper()
	ctx, c := l.t.Context(), talk(page, contact)
	_, err := l.memory.Append(ctx, parley.Arrivals{Events: []parley.Event{{
		Channel: page, Contacts: []parley.Contact{c.Contact},
		Key: parley.NewEventKey(contact, fmt.Sprint(n)), Time: time.Now(), Input: parley.Message{Text: "hello"},
	}}})
	if err != nil {
		l.t.Fatal(err)
	}
	loaded, err := l.memory.Load(ctx, c, parley.MaxPendingPerTurn)
	if err != nil {
		l.t.Fatal(err)
	}
	l.turns++
	var nonce [16]byte
	binary.BigEndian.PutUint64(nonce[:], l.turns)
	commit := parley.Step(&l.bot, loaded.Snapshot, loaded.Pending, parley.Circumstance{Nonce: nonce})
	errs, err := l.memory.Commit(ctx, []parley.Commit{commit})
	if err != nil || errs[0] != nil {
		l.t.Fatal(errs, err)
	}
	return commit.Outbox
}

func (l *line) backlog() parley.Backlog {
	l.t.Helper()
	b, err := l.memory.Backlog(l.t.Context())
	if err != nil {
		l.t.Fatal(err)
	}
	return b
}

// TestManagerOnAStore takes messages from a turn's commit to a delivery, with
// the store that the simulation uses: answers in order, receipts folded, a
// failure reported after the send back in the inbox.
func TestManagerOnAStore(t *testing.T) {
	t.Parallel()
	in(t, func(f *floor) {
		l := newLine(f)
		tries := 0
		f.answer = func(m parley.Claimed) egress.Answer {
			if tries++; tries%5 == 0 {
				return egress.Answer{Kind: egress.Retryable, Cause: "busy"}
			}
			return accepted(m)
		}
		m := f.manager("one", func(c *egress.Config) { c.Outbox, c.Receipts = l.memory, l.memory })
		stop := f.start(m)
		answers := map[string][]parley.Outgoing{}
		for n := range 4 {
			for _, contact := range contacts(6) {
				answers[contact] = append(answers[contact], l.hear(contact, n)...)
				m.Wake(page)
			}
		}
		for range 600 {
			if l.backlog().Unsent == 0 {
				break
			}
			time.Sleep(100 * time.Millisecond)
		}
		f.mu.Lock()
		log := slices.Clone(f.log)
		f.mu.Unlock()
		for contact, want := range answers {
			var got []parley.ID
			for _, h := range log {
				if i := slices.IndexFunc(want, func(o parley.Outgoing) bool { return o.ID == h.id }); i >= 0 && h.kind == egress.Accepted {
					got = append(got, h.id)
				}
			}
			for i := range want {
				if len(got) != len(want) || got[i] != want[i].ID {
					f.t.Fatalf("%s got %v", contact, got)
				}
			}
		}
		f.receipts(l, m, answers["a"][0], answers["b"][0])
		stop()
	})
}

// receipts has the provider report one message delivered and one failed.
func (f *floor) receipts(l *line, m *egress.Manager, good, bad parley.Outgoing) {
	f.t.Helper()
	id := func(o parley.Outgoing) string { return accepted(parley.Claimed{Outgoing: o}).ProviderID }
	_, err := l.memory.Append(f.t.Context(), parley.Arrivals{Receipts: []parley.Receipt{
		{Channel: page, Status: parley.StatusDelivered, ProviderID: id(good), Contact: good.Conversation.Contact},
		{Channel: page, Status: parley.StatusFailed, ProviderID: id(bad), Contact: bad.Conversation.Contact, Code: 131026, Reason: "undeliverable"},
	}})
	if err != nil {
		f.t.Fatal(err)
	}
	m.Wake(page)
	time.Sleep(2 * egress.FoldEvery)
	d, ok, err := l.memory.Delivery(f.t.Context(), page, id(good))
	if err != nil || !ok || d.Status != parley.StatusDelivered || d.ID != good.ID {
		f.t.Fatalf("delivery %+v %v %v", d, ok, err)
	}
	f.mu.Lock()
	rows := f.rows
	f.mu.Unlock()
	if b := l.backlog(); b.Receipts != 0 || b.Pending != 1 || rows != 1 {
		f.t.Fatalf("%+v, %d rows delivered: want the failure in the inbox", b, rows)
	}
}
