package postgres_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
)

// A message that can't be read, or only by a newer program, doesn't hold up the
// others of its channel, and those behind it in its conversation wait.
func TestClaimBesideAMessageThatCantBeRead(t *testing.T) {
	t.Parallel()
	for name, data := range map[string]string{"Broken": `{`, "Newer": `{"format":1000,"text":"x"}`} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			claimBeside(t, data)
		})
	}
}

func claimBeside(t *testing.T, data string) {
	t.Helper()
	url := database(t)
	s, c := open(t, postgres.Config{URL: url}), session(t, url)
	for _, name := range []string{"a", "a", "b"} {
		turn := turnOf(t, s, say(t, s, name).Conversation)
		if errs, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
			t.Fatal(errs, err)
		}
	}
	run(t, c, `update parley.outbox set data = '`+data+`' where id = (select min(id::text)::uuid from parley.outbox)`)
	var id [16]byte
	if err := c.QueryRow(t.Context(), `select id from parley.outbox where data = '`+data+`'`).Scan(&id); err != nil {
		t.Fatal(err)
	}
	l, err := s.Lease(t.Context(), hello("").Channel, "s", time.Minute, parley.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	for range 2 { // and again, when what nobody knows of has been recalled
		rows, _, err := s.Claim(t.Context(), l, parley.Places{All: 10}, 0, time.Minute)
		if err != nil || len(rows) > 1 || len(rows) == 1 && rows[0].Conversation.Contact != "user:b" {
			t.Fatalf("claimed %v: %v", rows, err)
		}
		if _, err := s.Recall(t.Context(), l, nil, 0); err != nil {
			t.Fatal(err)
		}
	}
	receipt := parley.Receipt{Channel: l.Channel, Status: parley.StatusSent, ProviderID: "m", Row: id}
	if _, err := s.Append(t.Context(), parley.Arrivals{Receipts: []parley.Receipt{receipt}}); err != nil {
		t.Fatal(err)
	}
	if f, err := s.Fold(t.Context(), l, 10); f.Receipts != 1 || err != nil {
		t.Errorf("folded %d: %v", f.Receipts, err)
	}
}
