package sim

import (
	"context"
	"encoding/json"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/examples/tally"
)

const (
	callsEvery  = 200 * time.Millisecond
	callLease   = 2 * time.Second
	callTimeout = 1500 * time.Millisecond
)

// callOut is what callout does, in operations: claim, ask, settle, each of which may
// fail before it takes hold, after, or when somebody else has gone on.
func (n *node) callOut(ctx context.Context) {
	l := n.line
	q := parley.CallQuery{Services: []parley.CallPlaces{{Service: tally.Clock, Limit: 4, Lease: callLease}}}
	claimed, err := troubled(l, func() ([]parley.ClaimedCall, error) {
		claimed, _, err := n.store.ClaimCalls(ctx, q, callsEvery)
		return claimed, err
	})
	if err != nil {
		return
	}
	for i := range claimed {
		l.tally.Called++
		n.ask(ctx, &claimed[i])
	}
}

// ask is an attempt. The service knows calls by their ids, and answers one when its
// time has come since it heard of it first.
func (n *node) ask(ctx context.Context, c *parley.ClaimedCall) {
	l := n.line
	var wait tally.Wait
	if err := json.Unmarshal(c.Call.Body, &wait); err != nil {
		panic("a call has lost its body")
	}
	rings, err := access(n, serviceName, func() (time.Time, error) {
		if _, known := l.rings[c.ID]; !known {
			l.rings[c.ID] = l.now.Add(time.Duration(wait.MS) * time.Millisecond)
		}
		return l.rings[c.ID], nil
	})
	if err != nil {
		return
	}
	o := parley.CallOutcome{Of: c, Status: 503, Cause: "status 503", Wait: l.soon(callTimeout)}
	takes := l.soon(hop)
	if left := max(rings.Sub(l.now), 0); left > callTimeout {
		o.Status, o.Cause, takes = 0, "no answer in time", callTimeout
	} else if !l.chance(l.cfg.Trouble) {
		in := c.Answer(200, nil, c.Attempts+1)
		o.Answer, takes = &in, takes+left
	}
	l.later(n, takes, func() {
		l.sent(n, l.answer(), func() { n.settleCall(ctx, o) })
	})
}

func (n *node) settleCall(ctx context.Context, o parley.CallOutcome) {
	l := n.line
	settled, err := troubled(l, func() (parley.SettledCalls, error) {
		return n.store.SettleCalls(ctx, []parley.CallOutcome{o})
	})
	if err != nil {
		return // its claim ends
	}
	l.tally.CallsLost += settled.Lost
	l.tally.Answered += len(settled.Rows)
	if len(settled.Rows) > 0 {
		n.deliver(ctx, settled.Rows)
	}
}
