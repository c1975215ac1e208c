package postgres_test

import (
	"encoding/hex"
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/audit"
	"github.com/parleychat/parley/persistence/postgres"
)

// TestAuditInSQL: SQL says what the root package says.
func TestAuditInSQL(t *testing.T) {
	t.Parallel()
	if want := strconv.FormatInt(parley.AuditBucket.Milliseconds(), 10); postgres.BucketSize != want {
		t.Errorf("a bucket has %s ms, want %s", postgres.BucketSize, want)
	}
	sql := postgres.NotOwn
	for _, kind := range parley.OwnKinds() {
		head := `{"kind":"` + kind + `"`
		if want := fmt.Sprintf("substr(b.data, 1, %d) <> '%s'::bytea", len(head), head); !strings.Contains(sql, want) {
			t.Errorf("kind %s is not among those of Parley's own making: want %s", kind, want)
		}
	}
	if n := strings.Count(sql, "substr"); n != len(parley.OwnKinds()) {
		t.Errorf("%d kinds, want %d", n, len(parley.OwnKinds()))
	}
}

// TestLostRowIsNamed: a row of the inbox that is deleted behind everybody's back.
func TestLostRowIsNamed(t *testing.T) {
	t.Parallel()
	url := database(t)
	s := open(t, postgres.Config{URL: url})
	var rows []parley.Pending
	for i := range 20 {
		rows = append(rows, say(t, s, fmt.Sprint(i%4)))
	}
	a := audit.New(audit.Config{Store: s})
	if err := a.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	lost := rows[7]
	if _, err := session(t, url).Exec(t.Context(), "delete from parley.inbox where token = $1", int64(lost.Token)); err != nil {
		t.Fatal(err)
	}
	got, err := a.Account(t.Context(), 0)
	if err != nil {
		t.Fatal(err)
	}
	if got.AddsUp || len(got.Lost) != 1 || got.Unnamed != 0 || got.Lost[0].Conversation != lost.Conversation.String() || got.Lost[0].Key != hex.EncodeToString(lost.Key[:]) {
		t.Errorf("lost %+v, want row %d of %s", got, lost.Seq, lost.Conversation)
	}
}

// TestBooksOfAnUpgrade: what an older program left is taken as it is, and what it
// writes beside the newer one does no harm once it is gone.
func TestBooksOfAnUpgrade(t *testing.T) {
	t.Parallel()
	url := database(t)
	s := open(t, postgres.Config{URL: url})
	c := session(t, url)
	say(t, s, "a")
	for _, sql := range []string{"delete from parley.posting", "delete from parley.accepted", "update parley.books set opened = 0"} {
		if _, err := c.Exec(t.Context(), sql); err != nil { // as the step of the schema finds it
			t.Fatal(err)
		}
	}
	absent := []string{"old"}
	a := audit.New(audit.Config{Store: s, Absent: func() []string { return absent }})
	for range 2 {
		if err := a.Look(t.Context()); err != nil {
			t.Fatal(err)
		}
		if got, err := a.Account(t.Context(), 0); err != nil || got.Opened != nil {
			t.Fatalf("while the older one is there: %+v: %v", got, err)
		}
		// The older one appends: without a count.
		const appends = `insert into parley.inbox (shard, conv, token, received, at, key, late, data)
			select shard, conv, token + 1, received, at, key, late, data from parley.inbox limit 1`
		if _, err := c.Exec(t.Context(), appends); err != nil {
			t.Fatal(err)
		}
	}
	absent = nil
	if err := a.Look(t.Context()); err != nil {
		t.Fatal(err)
	}
	got, err := a.Account(t.Context(), 0)
	if err != nil || got.Opened == nil || !got.AddsUp || got.Whole.Pending != 3 {
		t.Errorf("when it is gone: %+v: %v", got, err)
	}
}
