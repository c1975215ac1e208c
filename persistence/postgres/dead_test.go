package postgres_test

import (
	"errors"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
	"github.com/parleychat/parley/persistence/postgres"
)

// buried makes a dead letter, of an event or of a message.
func buried(t *testing.T, s *postgres.Store, kind parley.DeadKind, n int) parley.ID {
	t.Helper()
	p := say(t, s, string(kind)+string(rune('a'+n)))
	turn := turnOf(t, s, p.Conversation)
	d := parley.DeadLetter{ID: turn.Outbox[0].ID, Conversation: p.Conversation, At: p.Received, Cause: "c", Seq: p.Seq, Data: p.Data}
	if kind == parley.DeadMessage {
		d.Seq = 0
		d.Data, _ = parley.EncodeEffect(turn.Outbox[0].Send) // strings always have a form
	}
	turn.Outbox, turn.Dead = nil, []parley.DeadLetter{d}
	if errs, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
		t.Fatalf("commit: %v %v", errs, err)
	}
	return d.ID
}

// TestRetryBrokenOff: at whatever exchange with the database a retry is broken off,
// the letter is there or what it has become, and not both. Whoever tries again has it
// done in the end, once.
func TestRetryBrokenOff(t *testing.T) {
	t.Parallel()
	server := own(t)
	proxy, s := proxied(t, server)
	beside := open(t, postgres.Config{URL: server.URL("postgres")})
	want := parley.Backlog{}
	backlog := func() parley.Backlog {
		t.Helper()
		b, err := beside.Backlog(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		b.Oldest = 0
		return b
	}
	for _, kind := range []parley.DeadKind{parley.DeadEvent, parley.DeadMessage} {
		for broken := 0; ; broken++ {
			if broken > 10 {
				t.Fatal("a retry has more than ten exchanges")
			}
			id, seen, before := buried(t, beside, kind, broken), 0, proxy.Lost()
			proxy.LoseAnswers(1, func(sent []faultproxy.Message) bool {
				if !executes(sent) {
					return false
				}
				seen++
				return seen > broken
			})
			_, err := s.RetryDeadLetter(t.Context(), id)
			proxy.LoseAnswers(0, nil)
			if lost := proxy.Lost() > before; lost != (err != nil) || err != nil && !errors.Is(err, parley.ErrUnavailable) {
				t.Fatalf("%s, broken off at %d: an answer was lost: %v, and the error is %v", kind, broken, lost, err)
			}
			if b := backlog(); b.Dead+b.Pending+b.Unsent != want.Pending+want.Unsent+1 {
				t.Fatalf("%s, broken off at %d: %+v after %+v", kind, broken, b, want)
			}
			if _, again := beside.RetryDeadLetter(t.Context(), id); again != nil && !errors.Is(again, parley.ErrNoLetter) {
				t.Fatalf("%s, broken off at %d, and again: %v", kind, broken, again)
			}
			if kind == parley.DeadEvent {
				want.Pending++
			} else {
				want.Unsent++
			}
			if b := backlog(); b != want {
				t.Fatalf("%s, broken off at %d, and again: %+v, want %+v", kind, broken, b, want)
			}
			if err == nil {
				break
			}
		}
	}
}
