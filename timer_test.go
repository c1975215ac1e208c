package parley_test

import (
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// fire is what the store makes of a due timer.
func fire(seq int, timer parley.Timer) parley.Pending {
	return pend(seq, "timer "+timer.ID.String(), parley.TimerFired{Name: timer.Name, Generation: timer.Generation, Due: timer.Due})
}

func TestTimers(t *testing.T) {
	t.Parallel()
	setA := step(said(1, "set a 1m")...)
	a := setA.SetTimers[0]
	then := func(s parley.Snapshot, rows ...parley.Pending) parley.Commit {
		return parley.Step(scripted(), s, rows, drawn(9))
	}
	t.Run("is set", func(t *testing.T) {
		t.Parallel()
		want := []parley.Timer{{ID: a.ID, Name: "a", Generation: 1, Due: after(time.Second + time.Minute)}}
		diff(t, "set", want, setA.SetTimers)
		diff(t, "live", want, setA.Next.Timers)
		if a.ID.IsZero() {
			t.Error("a timer needs an id")
		}
	})
	t.Run("fires once", func(t *testing.T) {
		t.Parallel()
		c := then(setA.Next, fire(2, a))
		diff(t, "outbox", []string{"ring a"}, texts(c))
		diff(t, "live", nil, c.Next.Timers)
		diff(t, "cancelled", nil, c.CancelTimers)
		c = then(c.Next, pend(3, "numbers came back", parley.TimerFired{Name: "a", Generation: 1}))
		diff(t, "fired again", nil, texts(c))
	})
	t.Run("set anew fires only as set last", func(t *testing.T) {
		t.Parallel()
		c := then(setA.Next, said(2, "set a 2m")...)
		diff(t, "cancelled", []parley.Timer{a}, c.CancelTimers)
		again := c.SetTimers[0]
		diff(t, "live", []parley.Timer{again}, c.Next.Timers)
		c = then(c.Next, fire(3, a))
		diff(t, "outbox of the stale entry", nil, texts(c))
		diff(t, "live after the stale entry", []parley.Timer{again}, c.Next.Timers)
		c = then(c.Next, fire(4, again))
		diff(t, "outbox", []string{"ring a"}, texts(c))
		diff(t, "state", []string{"set a 1m", "set a 2m", "ring a"}, lines(t, c.Next))
	})
	t.Run("needs no older keys", func(t *testing.T) {
		t.Parallel()
		full := step(said(1, make([]string, parley.InlineSeen)...)...).Next
		row := fire(100, a)
		row.Time = time.Time{}
		if full.NeedsOlder(row) {
			t.Error("its generation says all")
		}
		row.Input = parley.Message{}
		if !full.NeedsOlder(row) {
			t.Error("a message without a time may be a repeat")
		}
	})
}

func TestTimersCancelled(t *testing.T) {
	t.Parallel()
	setA := step(said(1, "set a 1m")...)
	a := setA.SetTimers[0]
	then := func(s parley.Snapshot, rows ...parley.Pending) parley.Commit {
		return parley.Step(scripted(), s, rows, drawn(9))
	}
	t.Run("cancelled after it came due", func(t *testing.T) {
		t.Parallel()
		c := then(setA.Next, said(2, "cancel a")[0], fire(3, a))
		diff(t, "outbox", nil, texts(c))
		diff(t, "cancelled", []parley.Timer{a}, c.CancelTimers)
		if c.Through != 3 {
			t.Error("the stale entry is consumed")
		}
	})
	t.Run("cancelled in the turn that set it", func(t *testing.T) {
		t.Parallel()
		c := step(said(1, "set a 1m;cancel a", "set b 1m", "cancel b", "cancel c")...)
		diff(t, "set", nil, c.SetTimers)
		diff(t, "cancelled", nil, c.CancelTimers)
		diff(t, "live", nil, c.Next.Timers)
	})
	t.Run("by being set twice in one commit: one entry", func(t *testing.T) {
		t.Parallel()
		c := step(said(1, "set a 1m;set a 3m", "set a 2m")...)
		if len(c.SetTimers) != 1 || c.SetTimers[0].Generation != 3 || !c.SetTimers[0].Due.Equal(after(2*time.Second+2*time.Minute)) {
			t.Errorf("set %+v", c.SetTimers)
		}
	})
	t.Run("cancelled by a turn that fails stays", func(t *testing.T) {
		t.Parallel()
		c := then(setA.Next, said(2, "cancel a;fail")[0], fire(3, a))
		diff(t, "outbox", []string{"ring a"}, texts(c))
	})
	t.Run("that fires into a failing turn is a dead letter", func(t *testing.T) {
		t.Parallel()
		bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(*parley.Turn) error { return errTold })}
		c := parley.Step(bot, setA.Next, []parley.Pending{fire(2, a)}, drawn(2))
		diff(t, "causes", []string{"error: told to"}, causes(c))
		diff(t, "live", nil, c.Next.Timers)
	})
}

func TestTimersAreNeverEarly(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		received, in, due time.Duration
	}{
		{0, 0, 0},
		{0, time.Second, time.Second},
		{0, 1, time.Millisecond},
		{0, time.Second + 1, time.Second + time.Millisecond},
		{0, time.Second - 1, time.Second},
		{1, time.Second, time.Second + time.Millisecond},
		{0, parley.MaxTimerAhead, parley.MaxTimerAhead},
	} {
		row := said(1, "x")[0]
		row.Received = after(c.received)
		bot := &parley.Bot{Behavior: parley.BehaviorFunc(func(t *parley.Turn) error {
			t.SetTimer("n", c.in)
			return nil
		})}
		set := parley.Step(bot, fresh(), []parley.Pending{row}, drawn(1)).SetTimers[0]
		if !set.Due.Equal(after(c.due)) {
			t.Errorf("set at %s for %s: due %s, want %s", c.received, c.in, set.Due.Sub(after(0)), c.due)
		}
	}
}

// A behaviour can ask which timers are set, in the turn that sets them and later.
func TestWaiting(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	sees := func(want bool, in parley.Input, effects ...parley.Effect) {
		t.Helper()
		d.turn(in, func(turn *parley.Turn) {
			_ = do(effects...)(turn)
			if got := turn.Waiting("a"); got != want {
				t.Errorf("after %T and %v: waiting %t", in, effects, got)
			}
		})
	}
	hi := parley.Message{Text: "hi"}
	sees(false, hi, parley.SetTimer{Name: "b"})
	sees(true, hi, parley.SetTimer{Name: "a"}, parley.SetTimer{Name: "b"})
	sees(true, hi)
	sees(false, hi, parley.CancelTimer{Name: "a"}, parley.CancelTimer{Name: "b"})
	sees(false, hi, parley.SetTimer{Name: "a"}, parley.End{})
	sees(true, hi, parley.SetTimer{Name: "a"})
	live := d.s.Timers[0]
	sees(false, parley.TimerFired{Name: live.Name, Generation: live.Generation})
}

func TestRawState(t *testing.T) {
	t.Parallel()
	d := newDialog(t)
	hi := parley.Message{Text: "hi"}
	d.turn(hi, func(turn *parley.Turn) {
		if raw := turn.RawState(); raw != nil {
			t.Errorf("of a new conversation: %q", raw)
		}
		_ = turn.SetState([]int{1})
	})
	d.turn(hi, func(turn *parley.Turn) {
		if raw := string(turn.RawState()); raw != "[1]" {
			t.Errorf("got %s", raw)
		}
		if err := turn.SetRawState([]byte("as it is")); err != nil {
			t.Error(err)
		}
	})
	d.turn(hi, func(turn *parley.Turn) {
		if raw := string(turn.RawState()); raw != "as it is" {
			t.Errorf("got %s", raw)
		}
	})
}
