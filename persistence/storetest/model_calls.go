package storetest

import (
	"slices"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
)

// call adds calls to a turn, and lets it cancel one.
func (m *model) call(rt *rapid.T, c *modelConv, turn *parley.Commit) {
	mine := func(x *modelCall) bool { return x.of.within(c) }
	if i := slices.IndexFunc(m.calls, mine); i >= 0 && rapid.Bool().Draw(rt, "cancel a call") {
		turn.CancelCalls = append(turn.CancelCalls, m.calls[i].out.ID)
		if lost := m.calls[i].claim; lost != nil {
			m.ended = append(m.ended, answered(lost))
		}
		m.calls = slices.Delete(m.calls, i, i+1)
	}
	for range rapid.IntRange(0, 2).Draw(rt, "calls") {
		turn.Calls = append(turn.Calls, parley.OutgoingCall{
			ID: m.d.id(), Conversation: c.name, At: m.d.clock.Now(), Call: parley.Call{Name: "n", Service: oneService},
		})
		m.calls = append(m.calls, &modelCall{of: c, out: turn.Calls[len(turn.Calls)-1], due: m.d.clock.Now()})
	}
}

func (m *model) claimCalls(rt *rapid.T) {
	limit := rapid.IntRange(0, 4).Draw(rt, "limit")
	claimed, wait := m.d.claimCalls(places(limit))
	now := m.d.clock.Now()
	for i := range claimed {
		m.claimed(rt, &claimed[i])
	}
	next, ready := now.Add(time.Hour), 0
	for _, c := range m.calls {
		if !c.due.After(now) {
			ready++
		}
		if c.due.Before(next) && limit > 0 { // of what isn't wanted nothing is told
			next = c.due
		}
	}
	if ready > 0 && len(claimed) != limit || wait != max(next.Sub(now), 0) {
		rt.Fatalf("claimed %d of limit %d and left %d; next in %s, told %s", len(claimed), limit, ready, next.Sub(now), wait)
	}
}

func (m *model) claimed(rt *rapid.T, got *parley.ClaimedCall) {
	now := m.d.clock.Now()
	at := slices.IndexFunc(m.calls, func(c *modelCall) bool { return c.out.ID == got.ID })
	if at < 0 {
		rt.Fatalf("claimed %+v, which isn't there", got)
	}
	c := m.calls[at]
	if c.due.After(now) || got.Attempts != c.attempts || c.claim != nil && c.claim.Claim == got.Claim || got.Conversation != c.of.name {
		rt.Fatalf("claimed %+v, model %+v", got, c)
	}
	if c.claim != nil {
		m.ended = append(m.ended, answered(c.claim))
	}
	c.claim, c.due = got, now.Add(callLease)
}

// settleCalls notes what came of a claim, whose lease may have ended.
func (m *model) settleCalls(rt *rapid.T) {
	at := slices.IndexFunc(m.calls, func(c *modelCall) bool { return c.claim != nil })
	if at < 0 {
		rt.Skip("nothing is claimed")
	}
	c := m.calls[at]
	o := answered(c.claim)
	again := rapid.Bool().Draw(rt, "again")
	if again {
		o = parley.CallOutcome{Of: c.claim, Wait: 7 * time.Second, Uncounted: rapid.Bool().Draw(rt, "uncounted")}
	}
	settled := m.d.settleCalls(o, o)
	c.claim = nil
	if settled.Lost != 1 || again != (len(settled.Rows) == 0) {
		rt.Fatalf("settled %+v", settled)
	}
	if again {
		c.due = m.d.clock.Now().Add(o.Wait)
		if !o.Uncounted {
			c.attempts++
		}
		return
	}
	m.calls = slices.Delete(m.calls, at, at+1)
	into := c.of.final()
	into.pending = append(into.pending, settled.Rows[0].Row)
}

func (m *model) settleEnded(rt *rapid.T) {
	if settled := m.d.settleCalls(m.ended...); settled.Lost != len(m.ended) || len(settled.Rows) > 0 {
		rt.Fatalf("settled %+v of %d claims that count no more", settled, len(m.ended))
	}
}
