package metatest_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley/meta/metatest"
)

// surged plays a run with something that happens in it, which must be clean.
func surged(t *testing.T, cfg metatest.Config, plan func(*metatest.World, *bot)) metatest.Verdict {
	t.Helper()
	w := metatest.NewWorld(cfg)
	b := newBot(t, w, misbehaviour{})
	plan(w, b)
	b.drive(60 * time.Second)
	v := w.Verdict()
	if !v.Clean() {
		t.Errorf("%q", v.Problems())
	}
	return v
}

// In a storm each event comes 1 to 5 times, before and after it once.
func TestStorm(t *testing.T) {
	t.Parallel()
	calm := quiet()
	calm.Duplicates = 0
	v := surged(t, calm, func(w *metatest.World, b *bot) {
		b.at(start().Add(2*time.Second), func(time.Time) { w.Storm(5) })
		b.at(start().Add(4*time.Second), func(time.Time) { w.Storm(0) })
	})
	// Of the 200 messages of these two seconds a fifth comes once.
	if v.Redelivered < 130 || v.Redelivered > 190 || v.Effects != 600 {
		t.Errorf("%d of %d messages came more than once", v.Redelivered, v.Effects)
	}
}

// A bot that takes repeats for new events is found in a storm.
func TestStormFindsDoubles(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	cfg.Duplicates = 0
	w := metatest.NewWorld(cfg)
	b := newBot(t, w, misbehaviour{forgetSeen: true})
	w.Storm(5)
	b.drive(60 * time.Second)
	if v := w.Verdict(); v.EffectsDoubled == 0 {
		t.Errorf("nothing was doubled: %+v", v)
	}
}

// One user writes very much, beside what all write.
func TestViral(t *testing.T) {
	t.Parallel()
	v := surged(t, busy(5), func(w *metatest.World, b *bot) {
		b.at(start().Add(time.Second), func(now time.Time) { w.Viral(now, 7, 300, 3*time.Second) })
		b.at(start().Add(5*time.Second), func(time.Time) {
			if got := w.Progress().Offered; got < 1000+250 || got > 1000+300 {
				t.Errorf("%d messages after 5 s", got)
			}
		})
	})
	if v.Offered != 1500 || v.Effects != 1500 {
		t.Errorf("%d of %d messages took effect, want 1500", v.Effects, v.Offered)
	}
}

// Reminders of many users ring in one second.
func TestAlarm(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	cfg.Timers = 0
	rung := map[time.Duration]int{}
	v := surged(t, cfg, func(w *metatest.World, b *bot) {
		b.at(start().Add(time.Second), func(now time.Time) { w.Alarm(now, 30, 40, time.Second) })
		for _, at := range []time.Duration{2990 * time.Millisecond, 3500 * time.Millisecond, 4500 * time.Millisecond} {
			b.at(start().Add(at), func(time.Time) { rung[at] = w.Progress().Timers })
		}
	})
	if v.TimersSet != 40 || v.TimersRung != 40 || v.Offered != 640 {
		t.Errorf("%d timers set, %d rung, %d messages", v.TimersSet, v.TimersRung, v.Offered)
	}
	if early, half, all := rung[2990*time.Millisecond], rung[3500*time.Millisecond], rung[4500*time.Millisecond]; early != 0 || half < 8 || all != 40 {
		t.Errorf("%d rang before, %d in the first half of the second, %d in all", early, half, all)
	}
}

// The Graph API is out for a while: nothing is accepted meanwhile.
func TestSetFaults(t *testing.T) {
	t.Parallel()
	cfg := quiet()
	var before, after int
	v := surged(t, cfg, func(w *metatest.World, b *bot) {
		b.at(start().Add(2*time.Second), func(time.Time) {
			before = w.Progress().Sends
			w.SetFaults(metatest.Faults{Transient: 1})
		})
		b.at(start().Add(3*time.Second), func(time.Time) {
			after = w.Progress().Sends
			w.SetFaults(metatest.Faults{})
		})
	})
	if before == 0 || after != before || v.Faults.Transient == 0 {
		t.Errorf("%d sends before the outage, %d at its end, %d refused", before, after, v.Faults.Transient)
	}
}
