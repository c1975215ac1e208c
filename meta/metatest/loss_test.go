package metatest_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// row is a message in the database of a replica's bot, with the moments at which
// things were made durable; zero is never.
type row struct {
	in                                  incoming
	arrived, handled, sent, dueAt, rung time.Time
	n                                   int
	due, forgets                        bool
}

// replica is a bot whose database goes back in time: it keeps a row for each
// message, handles it a while after it has come, and sends the reply later still.
type replica struct {
	*bot
	rows map[string][]*row // by conversation, in the order of arrival
	keys []string
	// What a broken one does with what has survived.
	loseOne, doubleOne, repeatOne, ringless bool
}

const (
	handledAfter = 30 * time.Millisecond
	sentAfter    = 20 * time.Millisecond
)

// receive takes the messages of a post in, as rows.
func (r *replica) receive(p metatest.Post, now time.Time) {
	messages, _, err := readWebhook(p.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	for _, in := range messages {
		key := in.channel + "/" + in.user
		if slices.ContainsFunc(r.rows[key], func(x *row) bool { return x.in.mid == in.mid }) {
			continue
		}
		if r.rows[key] == nil {
			r.keys = append(r.keys, key)
		}
		x := &row{in: in, arrived: now}
		r.rows[key] = append(r.rows[key], x)
		r.at(now.Add(handledAfter), func(now time.Time) { r.handle(key, x, now) })
	}
}

// present reports whether the database knows of a row still, and of nothing that
// has happened to it.
func (r *replica) present(key string, x *row) bool { return slices.Contains(r.rows[key], x) }

func (r *replica) handle(key string, x *row, now time.Time) {
	if !r.present(key, x) || !x.handled.IsZero() {
		return
	}
	x.handled, x.n = now, 1
	for _, other := range r.rows[key] {
		if other != x && !other.handled.IsZero() {
			x.n++
		}
	}
	word, _, arg := numbers(x.in.command)
	switch word {
	case "remind":
		x.due, x.dueAt = true, x.arrived.Add(time.Duration(arg)*time.Millisecond)
		r.at(maxTime(x.dueAt, now.Add(2*sentAfter)), func(now time.Time) { r.ring(key, x, now) })
	case "forget":
		x.forgets = true
	}
	r.at(now.Add(sentAfter), func(now time.Time) { r.say(key, x, now) })
}

func (r *replica) say(key string, x *row, now time.Time) {
	if !r.present(key, x) || x.handled.IsZero() || !x.sent.IsZero() {
		return
	}
	x.sent = now
	_, k, _ := numbers(x.in.command)
	r.tell(x, fmt.Sprintf("said %d #%d", k, x.n), now)
}

func (r *replica) tell(x *row, text string, now time.Time) {
	r.w.Graph(r.request(r.conversation(x.in), text), now)
}

// cancelled reports whether a handled message forgets the reminder.
func (r *replica) cancelled(key string, x *row) bool {
	_, k, _ := numbers(x.in.command)
	return slices.ContainsFunc(r.rows[key], func(f *row) bool {
		_, _, j := numbers(f.in.command)
		return f.forgets && j == k && f.n > x.n
	})
}

func (r *replica) ring(key string, x *row, now time.Time) {
	if !r.present(key, x) || x.handled.IsZero() || !x.rung.IsZero() || now.Before(x.dueAt) || r.cancelled(key, x) || r.ringless {
		return
	}
	x.rung = now
	_, k, _ := numbers(x.in.command)
	r.tell(x, fmt.Sprintf("ring %d", k), now)
}

// goBack makes the database what it was at an instant, and goes on from there.
func (r *replica) goBack(from, now time.Time) {
	for _, key := range r.keys {
		r.rows[key] = slices.DeleteFunc(r.rows[key], func(x *row) bool {
			lose := r.loseOne && x.handled.After(from) && x.arrived.Before(from)
			r.loseOne = r.loseOne && !lose
			return lose || !x.arrived.Before(from)
		})
		for i, x := range r.rows[key] {
			later := now.Add(time.Duration(i+1) * time.Millisecond)
			if !x.rung.Before(from) {
				x.rung = time.Time{}
			}
			if !x.sent.Before(from) {
				x.sent = time.Time{}
			}
			if !x.handled.Before(from) {
				x.handled, x.sent, x.due, x.forgets = time.Time{}, time.Time{}, false, false
				r.at(later, func(now time.Time) { r.handle(key, x, now) })
				continue
			}
			r.at(later, func(now time.Time) { r.say(key, x, now) })
			if x.due && x.rung.IsZero() {
				r.at(maxTime(later.Add(time.Millisecond), x.dueAt), func(now time.Time) { r.ring(key, x, now) })
			}
			r.misbehave(key, x, from, later)
		}
	}
}

// misbehave does once what must not be done to what has survived.
func (r *replica) misbehave(key string, x *row, from, later time.Time) {
	if x.sent.IsZero() || x.sent.After(from.Add(-time.Second)) {
		return
	}
	if r.repeatOne {
		r.repeatOne = false
		_, k, _ := numbers(x.in.command)
		r.at(later, func(now time.Time) { r.tell(x, fmt.Sprintf("said %d #%d", k, x.n), now) })
	}
	if r.doubleOne {
		r.doubleOne = false
		again := &row{in: x.in, arrived: x.arrived}
		r.rows[key] = append(r.rows[key], again)
		r.at(later, func(now time.Time) { r.handle(key, again, now) })
	}
}

func maxTime(a, b time.Time) time.Time {
	if a.After(b) {
		return a
	}
	return b
}

// failOver plays a run in which the store loses the last 300 ms of its life.
func failOver(t *testing.T, seed uint64, plant func(*replica)) metatest.Verdict {
	t.Helper()
	const (
		lost = 300 * time.Millisecond
		away = 1500 * time.Millisecond
	)
	cfg := metatest.Sized(200, 60)
	cfg.Seed, cfg.Start, cfg.Duration = seed, start(), 6*time.Second
	cfg.Timers, cfg.Duplicates = 0.3, 0.2
	w := metatest.NewWorld(cfg)
	r := &replica{bot: newBot(t, w, misbehaviour{}), rows: map[string][]*row{}}
	plant(r)
	until := cfg.Start.Add(2 * time.Second)
	from, back := until.Add(-lost), until.Add(away)
	for now := cfg.Start; now.Before(cfg.Start.Add(20 * time.Second)); now = now.Add(time.Millisecond) {
		for _, p := range w.Due(now) {
			if now.After(until) && !now.After(back) {
				w.Posted(p.ID, 503, now)
				continue
			}
			r.receive(p, now)
			w.Posted(p.ID, 200, now)
		}
		switch {
		case now.Equal(until):
			r.agenda = nil // the store is gone
		case now.Equal(back):
			w.StoreLost(from, until)
			r.goBack(from, now)
		}
		for len(r.agenda) > 0 && !r.agenda[0].at.After(now) {
			do := r.agenda[0].do
			r.agenda = r.agenda[1:]
			do(now)
		}
	}
	return w.Verdict()
}

// What a store has lost itself may be missing, and what it may have lost may
// happen again. Nothing else may.
func TestStoreLostIsExcusedAndNothingElse(t *testing.T) {
	t.Parallel()
	for seed := range uint64(5) {
		v := failOver(t, seed, func(*replica) {})
		if !v.Clean() {
			t.Fatalf("seed %d: %q", seed, v.Problems())
		}
		if v.LostByStore == 0 || v.SendsRepeated == 0 {
			t.Errorf("seed %d: %d lost by the store, %d sends repeated: the run tried too little", seed, v.LostByStore, v.SendsRepeated)
		}
	}
	for name, row := range map[string]struct {
		plant func(*replica)
		want  string
	}{
		"SurvivorLost":    {func(r *replica) { r.loseOne = true }, "lost"},
		"SurvivorDoubled": {func(r *replica) { r.doubleOne = true }, "effects_doubled"},
		"OldRepeated":     {func(r *replica) { r.repeatOne = true }, "sends_repeated_unexplained"},
		"NeverRings":      {func(r *replica) { r.ringless = true }, "timers_missing"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			if found := breaches(t, failOver(t, 1, row.plant)); found[row.want] == 0 {
				t.Errorf("breaches %v; want %s", found, row.want)
			}
		})
	}
}
