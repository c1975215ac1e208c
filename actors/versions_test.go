package actors_test

import (
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
)

// votes is a bot that counts: in its first version events, in its second one by one.
func votes(version int) *parley.Bot {
	b := &parley.Bot{Name: "votes", Version: version}
	if version == 1 {
		b.Behavior = parley.Stateful(func(t *parley.Turn, s *counted) error { s.N++; t.Say("v1"); return nil })
		return b
	}
	type each struct{ Votes []int }
	b.Migrations = map[int]parley.Migration{1: parley.Migrate(func(c counted) (each, error) {
		return each{make([]int, c.N)}, nil
	})}
	b.Behavior = parley.Stateful(func(t *parley.Turn, s *each) error { s.Votes = append(s.Votes, 1); t.Say("v2"); return nil })
	return b
}

func stored(version, ordinal int) func(parley.Loaded) bool {
	return func(l parley.Loaded) bool {
		return l.Snapshot.BotVersion == version && l.Snapshot.Ordinal == uint64(ordinal) && len(l.Pending) == 0
	}
}

// While somebody doesn't read the second version the first goes on, where the bot
// has kept it; when they all do, what the first has left is migrated.
func TestPreviousVersionGoesOn(t *testing.T) {
	t.Parallel()
	var everybody atomic.Int64
	everybody.Store(1)
	bot := votes(2)
	bot.Previous = votes(1)
	r := newRig(t, func(c *actors.Config) {
		c.Bot = func(parley.Channel) *parley.Bot { return bot }
		c.BotVersion = func(name string) int {
			if name != "votes" {
				t.Errorf("asked for %q", name)
			}
			return int(everybody.Load())
		}
	})
	for i := range 2 {
		r.message(talk(1), "hi", true)
		r.until(talk(1), "an answer of the first version", stored(1, i+1))
	}
	everybody.Store(2)
	r.message(talk(1), "hi", true)
	if l := r.until(talk(1), "an answer of the second", stored(2, 3)); string(l.Snapshot.State) != `{"Votes":[0,0,1]}` {
		t.Errorf("left %s", l.Snapshot.State)
	}
}

// Without a previous version the conversation waits until they all read the new one,
// and nothing of it is stored before. It waits as an event does, not as a letter.
func TestNewVersionWaitsUntilAllReadIt(t *testing.T) {
	t.Parallel()
	var everybody, asked atomic.Int64
	everybody.Store(1)
	registry := prometheus.NewRegistry()
	r := newRig(t, func(c *actors.Config) {
		c.Registerer = registry
		c.Bot = func(parley.Channel) *parley.Bot { return votes(2) }
		c.BotVersion = func(string) int { asked.Add(1); return int(everybody.Load()) }
	})
	r.message(talk(1), "hi", true)
	r.message(talk(1), "hi again", true)
	waits(t, &asked)
	if l, err := r.store.Load(t.Context(), talk(1), 10); err != nil || l.Snapshot.Version.Number != 0 || len(l.Pending) != 2 {
		t.Fatalf("version %d with %d rows waiting, %v: want none and two", l.Snapshot.Version.Number, len(l.Pending), err)
	}
	if got := putOff(t, registry); got[string(parley.OlderReaders)] < 4 || got[string(parley.NewerState)]+got["newer_form"] > 0 {
		t.Errorf("turns put off: %v", got)
	}
	everybody.Store(2)
	r.until(talk(1), "both answers", stored(2, 2))
	if dead := r.dead(); len(dead) != 0 {
		t.Errorf("%d dead letters: the events were to wait", len(dead))
	}
}

// putOff is how many turns were put off, by the reason.
func putOff(t *testing.T, from prometheus.Gatherer) map[string]float64 {
	t.Helper()
	families, err := from.Gather()
	if err != nil {
		t.Fatal(err)
	}
	all := map[string]float64{}
	for _, f := range families {
		if f.GetName() != "parley_actors_turns_put_off_total" {
			continue
		}
		for _, m := range f.GetMetric() {
			all[m.GetLabel()[0].GetValue()] = m.GetCounter().GetValue()
		}
	}
	return all
}

// waits waits until turns have been tried a few times more.
func waits(t *testing.T, asked *atomic.Int64) {
	t.Helper()
	deadline := time.Now().Add(15 * time.Second)
	for before := asked.Load(); asked.Load() < before+4; time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatal("the turn isn't tried again")
		}
	}
}

// A program of an older version leaves alone what a newer one has stored, however
// often it is asked; others go on meanwhile. Once somebody who reads it has gone on
// with the conversation, the older program finds that, too.
func TestNewerVersionIsLeftAlone(t *testing.T) {
	t.Parallel()
	var asked atomic.Int64
	r := newRig(t, func(c *actors.Config) {
		c.Bot = func(parley.Channel) *parley.Bot { return votes(1) }
		c.BotVersion = func(string) int { asked.Add(1); return 1 }
	})
	r.stepBy(votes(2), talk(1))
	r.message(talk(1), "hi", true)
	r.message(talk(2), "hi", true)
	r.until(talk(2), "another conversation's answer", stored(1, 1))
	waits(t, &asked)
	l, err := r.store.Load(t.Context(), talk(1), 10)
	if err != nil || l.Snapshot.BotVersion != 2 || l.Snapshot.Version.Number != 1 || len(l.Pending) != 1 {
		t.Fatalf("version %d of the bot's %d, %d rows wait, %v", l.Snapshot.Version.Number, l.Snapshot.BotVersion, len(l.Pending), err)
	}
	if dead := r.dead(); len(dead) != 0 {
		t.Errorf("%d dead letters: the event was to wait", len(dead))
	}
}

// stepBy lets another program take a turn of a conversation, with a message of its own.
func (r *rig) stepBy(bot *parley.Bot, c parley.Conversation) {
	r.t.Helper()
	r.message(c, "elsewhere", false)
	l, err := r.store.Load(r.t.Context(), c, 10)
	if err != nil {
		r.t.Fatal(err)
	}
	commit := parley.Step(bot, l.Snapshot, l.Pending, parley.Circumstance{Nonce: [16]byte{99}})
	if errs, err := r.store.Commit(r.t.Context(), []parley.Commit{commit}); err != nil || errs[0] != nil {
		r.t.Fatal(errs, err)
	}
}
