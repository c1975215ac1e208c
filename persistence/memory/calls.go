package memory

import (
	"bytes"
	"cmp"
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// call is a call that isn't answered yet.
type call struct {
	parley.PendingCall
	claim parley.Token // of the last claim; 0 if none counts any more
}

// takeCalls takes the calls of a commit in, and drops those that it cancels.
func (s *Store) takeCalls(c *parley.Commit) {
	s.calls = slices.DeleteFunc(s.calls, func(x *call) bool { return slices.Contains(c.CancelCalls, x.ID) })
	for _, out := range c.Calls {
		out.At, out.Conversation, out.Call.Body = millis(out.At), c.Conversation, bytes.Clone(out.Call.Body)
		s.calls = append(s.calls, &call{PendingCall: parley.PendingCall{OutgoingCall: out, Due: s.now()}})
	}
}

// ClaimCalls is callout.Calls'.
func (s *Store) ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error) {
	if err := s.begin(ctx); err != nil {
		return nil, 0, err
	}
	defer s.end()
	slices.SortStableFunc(s.calls, func(a, b *call) int { return cmp.Or(a.Due.Compare(b.Due), compareIDs(a.ID, b.ID)) })
	var claimed []parley.ClaimedCall
	wait := horizon
	left, wanted := map[string]*parley.CallPlaces{}, map[string]bool{}
	for _, p := range q.Services {
		left[p.Service], wanted[p.Service] = &p, p.Limit > 0
	}
	for _, c := range s.calls {
		places, named := left[c.Call.Service]
		late := time.Duration(0)
		if !named {
			places, late = &q.Others, q.OthersAfter
		}
		until := c.Due.Add(late).Sub(s.now())
		if until > 0 || places.Limit <= 0 {
			if named && wanted[c.Call.Service] {
				wait = min(wait, max(until, 0))
			}
			continue
		}
		got, err := s.claimCall(c, q.Holder, places.Lease)
		if err != nil {
			return nil, 0, fmt.Errorf("claim calls: %w", err)
		}
		places.Limit--
		claimed = append(claimed, got)
		if named {
			wait = min(wait, ceilMS(places.Lease))
		}
	}
	return claimed, wait, nil
}

func (s *Store) claimCall(c *call, holder string, lease time.Duration) (parley.ClaimedCall, error) {
	token, err := s.token()
	if err != nil {
		return parley.ClaimedCall{}, err
	}
	token = parley.NewClaim(holder, uint32(token))
	c.claim, c.Due = token, s.now().Add(ceilMS(lease))
	return parley.ClaimedCall{
		OutgoingCall: c.OutgoingCall, Claim: token, Age: max(s.now().Sub(c.At), 0),
		Attempts: c.Attempts, Status: c.Status, Cause: c.Cause,
	}, nil
}

func ceilMS(d time.Duration) time.Duration {
	return (d + time.Millisecond - 1).Truncate(time.Millisecond)
}

// SettleCalls is callout.Calls'.
func (s *Store) SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error) {
	if err := s.begin(ctx); err != nil {
		return parley.SettledCalls{}, err
	}
	defer s.end()
	var out parley.SettledCalls
	for i := range outcomes {
		o := &outcomes[i]
		at := slices.IndexFunc(s.calls, func(c *call) bool { return c.ID == o.Of.ID && c.claim == o.Of.Claim && c.claim != 0 })
		switch {
		case at < 0:
			out.Lost++
		case o.Answer == nil:
			s.postpone(s.calls[at], o)
		default:
			p, err := s.answer(s.calls[at], o.Answer)
			if err != nil {
				return parley.SettledCalls{}, fmt.Errorf("settle calls: %w", err)
			}
			s.calls = slices.Delete(s.calls, at, at+1)
			out.Rows = append(out.Rows, p)
		}
	}
	return out, nil
}

// YieldCalls is callout.Calls'.
func (s *Store) YieldCalls(ctx context.Context, holder string) error {
	if err := s.begin(ctx); err != nil {
		return err
	}
	defer s.end()
	for _, c := range s.calls {
		if c.claim != 0 && c.claim.ClaimedBy(holder) {
			c.claim, c.Due = 0, s.now()
		}
	}
	return nil
}

func (s *Store) postpone(c *call, o *parley.CallOutcome) {
	c.claim, c.Due = 0, s.now().Add(ceilMS(o.Wait))
	if !o.Uncounted {
		c.Attempts, c.Status, c.Cause = c.Attempts+1, o.Status, o.Cause
	}
}

// answer puts a call's answer into the inbox of its conversation, or of what that
// was merged into.
func (s *Store) answer(c *call, answer *parley.Called) (parley.Pending, error) {
	data, err := parley.EncodeInput(*answer)
	if err != nil {
		return parley.Pending{}, err
	}
	token, err := s.token()
	if err != nil {
		return parley.Pending{}, err
	}
	in := *answer
	in.Body = bytes.Clone(answer.Body)
	p := parley.Pending{Row: parley.Row{Token: token}, Conversation: s.final(c.Conversation), Key: c.Key(), Input: in, Data: data}
	s.enqueue(&p)
	return p, nil
}
