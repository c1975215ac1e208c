package postgres_test

import (
	"errors"
	"fmt"
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
			_, err := s.RetryDeadLetter(t.Context(), id, 0)
			proxy.LoseAnswers(0, nil)
			if lost := proxy.Lost() > before; lost != (err != nil) || err != nil && !errors.Is(err, parley.ErrUnavailable) {
				t.Fatalf("%s, broken off at %d: an answer was lost: %v, and the error is %v", kind, broken, lost, err)
			}
			if b := backlog(); b.Dead+b.Pending+b.Unsent != want.Pending+want.Unsent+1 {
				t.Fatalf("%s, broken off at %d: %+v after %+v", kind, broken, b, want)
			}
			if _, again := beside.RetryDeadLetter(t.Context(), id, 0); again != nil && !errors.Is(again, parley.ErrNoLetter) {
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

// TestPlansOfLetters: a page is a walk of its rows, from either end and from the
// middle, however many dead letters there are; and one letter is found by its id.
func TestPlansOfLetters(t *testing.T) {
	t.Parallel()
	c := session(t, database(t))
	run(t, c, `
insert into parley.dead (brand, id, conv, at, cause, seq, data)
    select ('b' || n % 3)::bytea, ('00000000-0000-0000-0000-' || lpad(n::text, 12, '0'))::uuid, 'b/messenger/p/user:1', n, '', 1, '{}' from generate_series(1, 30000) n`)
	const all, last, limit = `'', '', '', null, '', 9223372036854775807`, `'ffffffff-ffff-ffff-ffff-ffffffffffff'`, 50
	none, one := `'00000000-0000-0000-0000-000000000000'`, `'00000000-0000-0000-0000-000000017000'`
	for name, call := range map[string]struct {
		statement, arguments string
		least, most          float64
	}{
		"Oldest":          {"oldestDeadSQL", fmt.Sprintf("%s, 0, %s, %d", all, none, limit), limit, limit},
		"OldestFromAPage": {"oldestDeadSQL", fmt.Sprintf("%s, 17000, %s, %d", all, one, limit), limit, limit},
		"Newest":          {"newestDeadSQL", fmt.Sprintf("%s, 9223372036854775807, %s, %d", all, last, limit), limit, limit},
		"NewestFromAPage": {"newestDeadSQL", fmt.Sprintf("%s, 17000, %s, %d", all, one, limit), limit, limit},
		"One":             {"oneDeadSQL", one, 1, 10},
		"Take":            {"takeDeadSQL", one, 1, 10},
	} {
		if _, err := c.Prepare(t.Context(), name, postgres.Statements()[call.statement]); err != nil {
			t.Fatal(err)
		}
		plan := planOf(t, c, fmt.Sprintf("explain (analyze, format json) execute %q(%s)", name, call.arguments))
		if n := busiest(plan); n < call.least || n > call.most {
			t.Errorf("%s looks at %v rows, want %v to %v", name, n, call.least, call.most)
		}
	}
}
