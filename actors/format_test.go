package actors_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

// choosing answers with what the first generation of stored forms has no place for.
func choosing() *parley.Bot {
	return &parley.Bot{Name: "choosing", Behavior: parley.Stateful(func(t *parley.Turn, s *counted) error {
		s.N++
		if in, ok := t.Input().(parley.Message); ok && in.Text == "menu" {
			t.Do(parley.Send{Text: "Which?", Buttons: []parley.Button{{Title: "A"}}})
			return nil
		}
		t.Say("ok")
		return nil
	})}
}

// While a member of an older version is there, nothing is stored that it would
// misread: the turn waits, and what comes after it in its conversation; others go
// on. When the member is gone, or upgraded, all of it happens, in order.
func TestNewFormsWaitUntilAllReadThem(t *testing.T) {
	t.Parallel()
	var oldest, asked atomic.Int64
	oldest.Store(1)
	r := newRig(t, func(c *actors.Config) {
		c.Bot = func(parley.Channel) *parley.Bot { return choosing() }
		c.Format = func() int { asked.Add(1); return int(oldest.Load()) }
	})
	r.message(talk(1), "hi", true)
	r.until(talk(1), "a plain answer", state(1))
	r.message(talk(1), "menu", true)
	r.message(talk(1), "hi again", true)
	r.message(talk(2), "hi", true)
	r.until(talk(2), "another conversation's answer", state(1))
	deadline := time.Now().Add(15 * time.Second)
	for before := asked.Load(); asked.Load() < before+4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the turn isn't tried again")
		}
	}
	if l, err := r.store.Load(t.Context(), talk(1), 10); err != nil || l.Snapshot.Version.Number != 1 || len(l.Pending) != 2 {
		t.Fatalf("version %d with %d rows waiting, %v: want the first and two", l.Snapshot.Version.Number, len(l.Pending), err)
	}
	oldest.Store(parley.Format)
	if l := r.until(talk(1), "both answers", state(3)); l.Snapshot.Ordinal != 3 {
		t.Errorf("%d messages sent, want 3", l.Snapshot.Ordinal)
	}
	if dead := r.dead(); len(dead) != 0 {
		t.Errorf("%d dead letters: the event was to wait", len(dead))
	}
}
