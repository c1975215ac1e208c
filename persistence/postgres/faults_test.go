package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/pgserver/faultproxy"
	"github.com/parleychat/parley/persistence/postgres"
)

// own starts a server for one test, with the schema in it.
func own(t *testing.T) *pgserver.Server {
	t.Helper()
	if _, err := pgserver.Find(); err != nil {
		t.Skip(err) // database says it loudly, or fails
	}
	server, err := pgserver.Start(t.Context(), pgserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if _, err := postgres.Migrate(t.Context(), server.URL("postgres")); err != nil {
		t.Fatal(err)
	}
	return server
}

// proxied is a store behind a proxy that breaks what is between it and its server.
func proxied(t *testing.T, server *pgserver.Server) (*faultproxy.Proxy, *postgres.Store) {
	t.Helper()
	proxy, err := faultproxy.New(t.Context(), server.Socket())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := proxy.Close(); err != nil {
			t.Error(err)
		}
	})
	url, err := proxy.URL(server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	return proxy, open(t, postgres.Config{URL: url})
}

func hello(name string) parley.Event {
	return parley.Event{
		Channel:  parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page"},
		Contacts: []parley.Contact{parley.Contact("user:" + name)},
		Key:      parley.NewEventKey(name), Input: parley.Message{ID: name, Text: "hello"},
	}
}

// say appends one message.
func say(t *testing.T, s *postgres.Store, name string) parley.Pending {
	t.Helper()
	rows, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{hello(name)}})
	if err != nil {
		t.Fatal(err)
	}
	return rows[0]
}

// echo is a bot that repeats what it hears.
func echo() *parley.Bot {
	return &parley.Bot{Name: "echo", Version: 1, Behavior: parley.BehaviorFunc(func(turn *parley.Turn) error {
		if m, ok := turn.Input().(parley.Message); ok {
			turn.Say(m.Text)
		}
		return nil
	})}
}

// turnOf is a commit as an actor makes it.
func turnOf(t *testing.T, s *postgres.Store, c parley.Conversation) parley.Commit {
	t.Helper()
	loaded, err := s.Load(t.Context(), c, parley.MaxPendingPerTurn)
	if err != nil {
		t.Fatal(err)
	}
	var nonce [16]byte
	copy(nonce[:], fmt.Sprintf("%016d", time.Now().UnixNano()%1e16))
	return parley.Step(echo(), loaded.Snapshot, loaded.Pending, parley.Circumstance{Nonce: nonce})
}

// TestLostAnswer: the server commits and the client never hears of it. The
// outcome is open, and looking finds it done, once.
func TestLostAnswer(t *testing.T) {
	t.Parallel()
	proxy, s := proxied(t, own(t))
	p := say(t, s, "a")
	turn := turnOf(t, s, p.Conversation)
	proxy.LoseAnswers(1, executes)
	if _, err := s.Commit(t.Context(), []parley.Commit{turn}); !errors.Is(err, parley.ErrUnavailable) {
		t.Fatalf("commit without an answer: %v", err)
	}
	if proxy.Lost() != 1 {
		t.Fatalf("%d answers were lost", proxy.Lost())
	}
	loaded, err := s.Load(t.Context(), p.Conversation, 10)
	if err != nil || loaded.Snapshot.Version != turn.Next.Version || len(loaded.Pending) != 0 {
		t.Fatalf("after it: version %v, want %v, %d rows: %v", loaded.Snapshot.Version, turn.Next.Version, len(loaded.Pending), err)
	}
	errs, err := s.Commit(t.Context(), []parley.Commit{turn})
	if err != nil || !errors.Is(errs[0], parley.ErrConflict) {
		t.Fatalf("commit again: %v %v", errs, err)
	}
	if b, err := s.Backlog(t.Context()); err != nil || b.Unsent != 1 {
		t.Fatalf("%d messages: %v", b.Unsent, err)
	}
}

// executes picks the round trips that do something, and not those that prepare it.
func executes(sent []faultproxy.Message) bool {
	return slices.ContainsFunc(sent, func(m faultproxy.Message) bool { return m.Type == 'E' })
}

// TestLostAnswerOfAppend: what is appended again is there twice, with the same
// key, and takes effect once.
func TestLostAnswerOfAppend(t *testing.T) {
	t.Parallel()
	proxy, s := proxied(t, own(t))
	say(t, s, "warm") // statements are prepared
	proxy.LoseAnswers(1, executes)
	a := parley.Arrivals{Events: []parley.Event{hello("a")}}
	if _, err := s.Append(t.Context(), a); !errors.Is(err, parley.ErrUnavailable) {
		t.Fatalf("append without an answer: %v", err)
	}
	rows, err := s.Append(t.Context(), a)
	if err != nil {
		t.Fatal(err)
	}
	turn := turnOf(t, s, rows[0].Conversation)
	if len(turn.Saw) != 2 || len(turn.Outbox) != 1 {
		t.Fatalf("%d rows, %d replies; want 2 and 1", len(turn.Saw), len(turn.Outbox))
	}
}

// TestHangingDatabase: a call ends with its context, and the next one works as
// soon as the database does.
func TestHangingDatabase(t *testing.T) {
	t.Parallel()
	proxy, s := proxied(t, own(t))
	say(t, s, "a")
	proxy.Hang()
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := s.Append(ctx, parley.Arrivals{Events: []parley.Event{hello("b")}}); !errors.Is(err, parley.ErrUnavailable) {
		t.Fatalf("append to a hanging database: %v", err)
	}
	proxy.Pass()
	say(t, s, "c")
}

// administrator is a connection beside the store's.
func administrator(t *testing.T, server *pgserver.Server) *pgx.Conn {
	t.Helper()
	c, err := pgx.Connect(t.Context(), server.URL("postgres"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close(context.WithoutCancel(t.Context())) }) // the server may have ended
	return c
}

func run(t *testing.T, c *pgx.Conn, sql string) {
	t.Helper()
	if _, err := c.Exec(t.Context(), sql); err != nil {
		t.Fatal(err)
	}
}

// await polls until a query of the administrator's says true.
func await(t *testing.T, c *pgx.Conn, what, sql string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for {
		var yes bool
		if err := c.QueryRow(ctx, sql).Scan(&yes); err != nil {
			t.Fatalf("%s: %v", what, err)
		}
		if yes {
			return
		}
		time.Sleep(10 * time.Millisecond)
	}
}

const waitingForStandby = `select count(*) > 0 from pg_stat_activity where wait_event = 'SyncRep' and application_name = 'parley'`

// unreplicated has the server wait for a standby that isn't there, and returns what
// became of the first append that waited, when its wait was cancelled. Those before
// it came while the setting was on its way.
func unreplicated(t *testing.T, s *postgres.Store, c *pgx.Conn) error {
	t.Helper()
	run(t, c, "alter system set synchronous_commit = on")
	run(t, c, "alter system set synchronous_standby_names = 'ghost'")
	run(t, c, "select pg_reload_conf()")
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	appended := make(chan error)
	go func() {
		for i := 0; ctx.Err() == nil; i++ {
			_, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{hello(fmt.Sprint("w", i))}})
			appended <- err
		}
	}()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); {
		select {
		case err := <-appended:
			if err != nil {
				return err
			}
		case <-time.After(20 * time.Millisecond):
			var waits bool
			if err := c.QueryRow(t.Context(), waitingForStandby).Scan(&waits); err != nil {
				t.Fatal(err)
			}
			if !waits {
				continue
			}
			stop() // this one is the last
			run(t, c, "select pg_cancel_backend(pid) from pg_stat_activity where wait_event = 'SyncRep'")
			return <-appended
		}
	}
	t.Fatal("no append waits for the standby")
	return nil
}

// TestWarningIsNoCommit: a wait for a synchronous standby that is cancelled
// reports success, with a warning. That must not become an acknowledgement.
func TestWarningIsNoCommit(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := open(t, postgres.Config{URL: server.URL("postgres")})
	say(t, s, "a")
	c := administrator(t, server)
	if err := unreplicated(t, s, c); !errors.Is(err, parley.ErrUnavailable) {
		t.Fatalf("append that is not replicated: %v", err)
	}
	run(t, c, "alter system reset synchronous_standby_names")
	run(t, c, "select pg_reload_conf()")
	say(t, s, "c")
}

// TestTimeoutNeverCancels: the server goes on with what a client gave up.
func TestTimeoutNeverCancels(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := open(t, postgres.Config{URL: server.URL("postgres")})
	p := say(t, s, "a")
	turn := turnOf(t, s, p.Conversation)
	c := administrator(t, server)
	if err := unreplicated(t, s, c); err == nil {
		t.Fatal("an append that is not replicated is acknowledged")
	}
	ctx, cancel := context.WithTimeout(t.Context(), 400*time.Millisecond)
	defer cancel()
	if _, err := s.Commit(ctx, []parley.Commit{turn}); !errors.Is(err, parley.ErrUnavailable) {
		t.Fatalf("commit that waits for a standby: %v", err)
	}
	for range 20 { // while pgx closes the connection
		await(t, c, "the server still waits", waitingForStandby)
		time.Sleep(10 * time.Millisecond)
	}
	run(t, c, "alter system reset synchronous_standby_names")
	run(t, c, "select pg_reload_conf()")
	await(t, c, "the commit is there", "select count(*) = 1 from parley.outbox")
}

// TestBusyConversationIsAConflict: somebody holds the lock of a conversation. The
// others of the group don't wait for it.
func TestBusyConversationIsAConflict(t *testing.T) {
	t.Parallel()
	url := database(t)
	s := open(t, postgres.Config{URL: url})
	var turns []parley.Commit
	for _, name := range []string{"a", "b", "c"} {
		turn := turnOf(t, s, say(t, s, name).Conversation)
		if _, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil {
			t.Fatal(err)
		}
		turns = append(turns, turnOf(t, s, say(t, s, name).Conversation))
	}
	stranger, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = stranger.Close(context.WithoutCancel(t.Context())) }()
	run(t, stranger, "begin")
	run(t, stranger, "select 1 from parley.conversation where conv = 'acme/messenger/page/user:b' for update")
	errs, err := s.Commit(t.Context(), turns)
	if err != nil || errs[0] != nil || errs[2] != nil || !errors.Is(errs[1], parley.ErrConflict) {
		t.Fatalf("group with a busy conversation: %v %v", errs, err)
	}
	run(t, stranger, "rollback")
	if errs, err := s.Commit(t.Context(), turns[1:2]); err != nil || errs[0] != nil {
		t.Fatalf("after the lock is gone: %v %v", errs, err)
	}
}

// TestOneBadRowDoesNotFailTheGroup: the database refuses one value of a group.
func TestOneBadRowDoesNotFailTheGroup(t *testing.T) {
	t.Parallel()
	s := open(t, postgres.Config{URL: database(t)})
	var turns []parley.Commit
	for i := range 9 {
		turns = append(turns, turnOf(t, s, say(t, s, fmt.Sprint(i)).Conversation))
	}
	turns[4].Outbox = append(turns[4].Outbox, turns[4].Outbox[0]) // one id twice
	errs, err := s.Commit(t.Context(), turns)
	if err != nil {
		t.Fatal(err)
	}
	for i, err := range errs {
		if (err != nil) != (i == 4) || errors.Is(err, parley.ErrConflict) || errors.Is(err, parley.ErrUnavailable) {
			t.Errorf("commit %d: %v", i, err)
		}
	}
	if b, err := s.Backlog(t.Context()); err != nil || b.Pending != 1 || b.Unsent != 8 {
		t.Errorf("backlog %+v: %v", b, err)
	}
}

// TestOverlongNames: what no index takes is refused as data, and not as a
// failure of the database.
func TestOverlongNames(t *testing.T) {
	t.Parallel()
	s := open(t, postgres.Config{URL: database(t)})
	long := string(make([]byte, 5000))
	e := hello("x")
	e.Contacts[0] += parley.Contact(long)
	if _, err := s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{e}}); err == nil || errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("event of an overlong contact: %v", err)
	}
	_, err := s.Append(t.Context(), parley.Arrivals{
		Receipts:    []parley.Receipt{{Channel: e.Channel, Status: parley.StatusRead, ProviderID: long, Contact: parley.Contact("user:" + long), Watermark: time.Now()}},
		Quarantined: []parley.Quarantined{{App: "app", Kind: parley.Messenger, ChannelID: long, Body: []byte("{}")}},
	})
	if err != nil {
		t.Errorf("overlong ids: %v", err)
	}
	l, err := s.Lease(t.Context(), e.Channel, "s", time.Minute, parley.Lease{})
	if err != nil {
		t.Fatal(err)
	}
	if f, err := s.Fold(t.Context(), l, 10); f.Receipts != 1 || err != nil {
		t.Errorf("folded %d: %v", f.Receipts, err)
	}
}

// TestRowBesideItsDay: a row that is about to be written when the table of its day
// is attached fails the check of the table that it was meant for. That is no
// fault of the row.
func TestRowBesideItsDay(t *testing.T) {
	t.Parallel()
	url := database(t)
	s := open(t, postgres.Config{URL: url})
	turn := turnOf(t, s, say(t, s, "a").Conversation)
	c, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close(context.WithoutCancel(t.Context())) }()
	run(t, c, "alter table parley.history add constraint beside check (version < 0) not valid")
	if _, err := s.Commit(t.Context(), []parley.Commit{turn}); !errors.Is(err, parley.ErrUnavailable) {
		t.Errorf("commit: %v", err)
	}
	run(t, c, "alter table parley.history drop constraint beside")
	if errs, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
		t.Errorf("commit afterwards: %v %v", errs, err)
	}
}

// TestTerminatedSessions: sessions are ended from outside while work goes on.
func TestTerminatedSessions(t *testing.T) {
	t.Parallel()
	server := own(t)
	s := open(t, postgres.Config{URL: server.URL("postgres")})
	c := administrator(t, server)
	for i := range 20 {
		run(t, c, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'parley'")
		var err error
		for range 20 { // the sessions that a pool still believes in are few
			if _, err = s.Append(t.Context(), parley.Arrivals{Events: []parley.Event{hello(fmt.Sprint(i))}}); err == nil {
				break
			}
			if !errors.Is(err, parley.ErrUnavailable) {
				t.Fatal(err)
			}
		}
		if err != nil {
			t.Fatalf("append after all sessions have ended: %v", err)
		}
	}
}

// asynchronous is a standby of a server.
func asynchronous(t *testing.T, primary *pgserver.Server) *pgserver.Server {
	t.Helper()
	standby, err := primary.Standby(t.Context(), pgserver.Config{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := standby.Stop(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	return standby
}

// cutOff makes a standby deaf, once it has all that there is.
func cutOff(t *testing.T, primary, standby *pgserver.Server) {
	t.Helper()
	await(t, administrator(t, primary), "the standby has it", "select coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) from pg_stat_replication")
	deaf := administrator(t, standby)
	run(t, deaf, "alter system set primary_conninfo = ''")
	run(t, deaf, "select pg_reload_conf()")
	await(t, deaf, "the standby is cut off", "select count(*) = 0 from pg_stat_wal_receiver")
}

// failOver kills a server and promotes its standby, which has the store from now on.
func failOver(t *testing.T, primary, standby *pgserver.Server) *postgres.Store {
	t.Helper()
	if err := primary.Kill(); err != nil {
		t.Fatal(err)
	}
	if err := standby.Promote(t.Context()); err != nil {
		t.Fatal(err)
	}
	return open(t, postgres.Config{URL: standby.URL("postgres")})
}

// TestFailOverWithoutASettlement: the survivor holds a message for claimed that
// its sender has settled. The lease is the same as before, so nobody would claim
// it again, if it weren't recalled.
func TestFailOverWithoutASettlement(t *testing.T) {
	t.Parallel()
	primary := own(t)
	s := open(t, postgres.Config{URL: primary.URL("postgres")})
	standby := asynchronous(t, primary)
	turn := turnOf(t, s, say(t, s, "a").Conversation)
	if errs, err := s.Commit(t.Context(), []parley.Commit{turn}); err != nil || errs[0] != nil {
		t.Fatalf("commit: %v %v", errs, err)
	}
	lease := func(have parley.Lease) parley.Lease {
		t.Helper()
		l, err := s.Lease(t.Context(), turn.Conversation.Channel, "sender", time.Minute, have)
		if err != nil {
			t.Fatal(err)
		}
		return l
	}
	claims := func(l parley.Lease, want int) []parley.Claimed {
		t.Helper()
		claimed, _, err := s.Claim(t.Context(), l, parley.Places{All: 10}, time.Millisecond, time.Minute)
		if err != nil || len(claimed) != want {
			t.Fatalf("%d messages were claimed, want %d: %v", len(claimed), want, err)
		}
		return claimed
	}
	l := lease(parley.Lease{})
	id := claims(l, 1)[0].ID
	cutOff(t, primary, standby)
	if err := s.Settle(t.Context(), l, []parley.Outcome{{ID: id, Kind: parley.Sent, ProviderID: "m"}}); err != nil {
		t.Fatal(err)
	}
	s = failOver(t, primary, standby)
	if again := lease(l); again != l {
		t.Fatalf("lease %+v, want %+v", again, l)
	}
	claims(l, 0)
	if n, err := s.Recall(t.Context(), l, nil, time.Millisecond); err != nil || n != 1 {
		t.Fatalf("%d messages were recalled, want 1: %v", n, err)
	}
	time.Sleep(2 * time.Millisecond)
	if c := claims(l, 1)[0]; c.ID != id || !c.Doubtful {
		t.Errorf("claimed %+v; want the same, as doubtful", c)
	}
}

// TestFailOverWithoutTheLastCommits: an asynchronous standby is promoted that
// hasn't heard of the last commits. Its numbers come again; what was made of the
// lost rows must not be taken for what is made of those that have their numbers
// now.
func TestFailOverWithoutTheLastCommits(t *testing.T) {
	t.Parallel()
	primary := own(t)
	s := open(t, postgres.Config{URL: primary.URL("postgres")})
	standby := asynchronous(t, primary)
	a := say(t, s, "a")
	first := turnOf(t, s, a.Conversation)
	await(t, administrator(t, primary), "the standby has it", "select coalesce(bool_and(replay_lsn = pg_current_wal_lsn()), false) from pg_stat_replication")
	deaf := administrator(t, standby)
	run(t, deaf, "alter system set primary_conninfo = ''")
	run(t, deaf, "select pg_reload_conf()")
	await(t, deaf, "the standby is cut off", "select count(*) = 0 from pg_stat_wal_receiver")
	for range 100 { // the standby knows of numbers somewhat ahead
		say(t, s, "filler")
	}
	lost := say(t, s, "b")
	ofLost := turnOf(t, s, lost.Conversation)
	if errs, err := s.Commit(t.Context(), []parley.Commit{first}); err != nil || errs[0] != nil {
		t.Fatalf("commit that will be lost: %v %v", errs, err)
	}
	second := turnOf(t, s, say(t, s, "a").Conversation) // from the version that will be lost
	s = failOver(t, primary, standby)
	for say(t, s, "filler").Seq < lost.Seq-1 {
	}
	if again := say(t, s, "b"); again.Seq != lost.Seq {
		t.Fatalf("row %d, want one with the number of the lost one, %d", again.Seq, lost.Seq)
	}
	errs, err := s.Commit(t.Context(), []parley.Commit{ofLost, second})
	if err != nil || !errors.Is(errs[0], parley.ErrConflict) || !errors.Is(errs[1], parley.ErrConflict) {
		t.Fatalf("turns of lost rows and versions: %v %v", errs, err)
	}
	for _, c := range []parley.Conversation{a.Conversation, lost.Conversation} {
		if errs, err := s.Commit(t.Context(), []parley.Commit{turnOf(t, s, c)}); err != nil || errs[0] != nil {
			t.Fatalf("a turn of what there is: %v %v", errs, err)
		}
	}
}
