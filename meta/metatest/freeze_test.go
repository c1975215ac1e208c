package metatest_test

import (
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/parleychat/parley/meta/metatest"
)

// met is a world in which one user's first message was answered at now.
func met(t *testing.T) (w *metatest.World, say func(text string, at, opened time.Time), now time.Time) {
	t.Helper()
	cfg := quiet()
	cfg.Timers, cfg.AnswerMax = 0, -1
	w = metatest.NewWorld(cfg)
	b := newBot(t, w, misbehaviour{})
	now = cfg.Start
	for len(b.convs) == 0 {
		for _, p := range w.Due(now) {
			w.Posted(p.ID, b.receive(p, now), now)
		}
		now = now.Add(time.Millisecond)
	}
	var c *conversation
	for _, c = range b.convs {
		break
	}
	return w, func(text string, at, opened time.Time) {
		req := b.request(c, text)
		req.Opened = opened
		w.Graph(req, at)
	}, now
}

// A freeze excuses what a kill would, and what the frozen node was about to
// write; not what it does later.
func TestFrozenExcusesWhatWasUnderWay(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	for name, row := range map[string]struct {
		frozen, thawed time.Duration // after the answer
		again          []time.Duration
		young          bool // over connections of after the freeze
		unexplained    int
	}{
		"UnderWay":       {frozen: 100 * ms, thawed: 3000 * ms, again: []time.Duration{6000 * ms}},
		"LongBefore":     {frozen: 900 * ms, thawed: 1500 * ms, again: []time.Duration{6000 * ms}, unexplained: 1},
		"AboutToBe":      {frozen: 900 * ms, thawed: 1500 * ms, again: []time.Duration{1600 * ms}},
		"WhileFrozen":    {frozen: 100 * ms, thawed: 3000 * ms, again: []time.Duration{200 * ms, 5000 * ms}},
		"OfAnother":      {frozen: 100 * ms, thawed: 3000 * ms, again: []time.Duration{1000 * ms, 5000 * ms}, young: true, unexplained: 1},
		"LongAfterTwice": {frozen: 100 * ms, thawed: 3000 * ms, again: []time.Duration{5000 * ms, 6000 * ms}, unexplained: 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w, say, now := met(t)
			opened := now.Add(-time.Millisecond)
			if row.young {
				opened = now.Add(row.frozen + 500*ms)
			}
			events := map[time.Duration]func(at time.Time){row.frozen: w.Frozen, row.thawed: w.Thawed}
			for _, at := range row.again {
				events[at] = func(at time.Time) { say("said 1 #1", at, opened) }
			}
			for at := time.Duration(0); at <= 6000*ms; at += 100 * ms {
				if do := events[at]; do != nil {
					do(now.Add(at))
				}
			}
			v := w.Verdict()
			if v.SendsRepeated != len(row.again) || v.SendsRepeatedUnexplained != row.unexplained {
				t.Errorf("%d repeated, %d unexplained; want %d, %d", v.SendsRepeated, v.SendsRepeatedUnexplained, len(row.again), row.unexplained)
			}
		})
	}
}

// A fault is seen in what was posted while it lasted, and after.
func TestRecovery(t *testing.T) {
	t.Parallel()
	const ms = time.Millisecond
	cfg := metatest.Config{Start: start(), Rate: 10, Duration: time.Minute, Users: 100, Mix: metatest.Shares{Messenger: 1}, AnswerMax: -1}
	w := metatest.NewWorld(cfg)
	b := newBot(t, w, misbehaviour{})
	from, until := cfg.Start.Add(250*ms), cfg.Start.Add(550*ms)
	late := map[int]time.Duration{2: 700 * ms, 3: 900 * ms, 5: 800 * ms, 6: 2300 * ms} // the others at once
	for i := range 8 {
		now := cfg.Start.Add(time.Duration(i) * 100 * ms)
		for _, p := range w.Due(now) {
			w.Posted(p.ID, 200, now.Add(20*ms))
			messages, _, err := readWebhook(p.Body)
			if err != nil {
				t.Fatal(err)
			}
			c := b.conversation(messages[0])
			answer := func(now time.Time) { w.Graph(b.request(c, "said 1 #1"), now) }
			if i == 4 {
				continue // never
			}
			b.at(now.Add(max(30*ms, late[i]-time.Duration(i)*100*ms)), answer)
		}
		next := now.Add(100 * ms)
		for len(b.agenda) > 0 && b.agenda[0].at.Before(next) {
			b.agenda[0].do(b.agenda[0].at)
			b.agenda = b.agenda[1:]
		}
	}
	w.Finish(cfg.Start.Add(750 * ms))
	for _, a := range b.agenda {
		a.do(a.at)
	}
	want := metatest.Recovery{
		Acked: 3, AckMS: metatest.Millis{P50: 20, P99: 20, Max: 20},
		Resumed: 170 * ms, // not 150: a World has no time before that of the post just told
		First:   180 * ms, CaughtUp: 350 * ms, Slowest: 1700 * ms, Waiting: 1,
	}
	if diff := cmp.Diff(want, w.Recovery(from, until)); diff != "" {
		t.Error(diff)
	}
	if v := w.Verdict(); v.Offered != 8 {
		t.Errorf("%d messages were written; want no more than 8", v.Offered)
	}
	if next, ok := w.NextDue(); ok {
		t.Errorf("more is due at %s", next)
	}
}
