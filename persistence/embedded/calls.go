package embedded

import (
	"bytes"
	"container/heap"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"

	"github.com/parleychat/parley"
)

// calls is what is in memory of the calls that aren't answered yet: all but what
// they ask.
type calls struct {
	byID  map[parley.ID]*call
	lines map[string]*callLine // by service; none is empty
}

// call is a call that isn't answered yet. Who has claimed it is known in memory
// only: a claim ends with the process that made it.
type call struct {
	id           parley.ID
	conversation parley.Conversation
	service      string
	at           int64
	mark         callMark
	marked       bool         // the mark is stored
	claim        parley.Token // of the last claim; 0 if none counts any more
	due          int64        // the end of the claim, or that of the mark
	place        int          // in its line
}

// callMark is how the attempts of a call stand.
type callMark struct {
	due      int64
	attempts int // that have failed
	status   int // of the last of them
	cause    string
}

// callLine is the calls of one service, a heap by the times at which they are due.
type callLine []*call

func (l callLine) Len() int { return len(l) }
func (l callLine) Less(i, j int) bool {
	return l[i].due < l[j].due || l[i].due == l[j].due && bytes.Compare(l[i].id[:], l[j].id[:]) < 0
}

func (l callLine) Swap(i, j int) {
	l[i], l[j] = l[j], l[i]
	l[i].place, l[j].place = i, j
}

// Push and Pop are container/heap's.
func (l *callLine) Push(x any) {
	if c, ok := x.(*call); ok {
		c.place = len(*l)
		*l = append(*l, c)
	}
}

// Pop removes the last call.
func (l *callLine) Pop() any {
	n := len(*l) - 1
	c := (*l)[n]
	(*l)[n] = nil
	*l = (*l)[:n]
	return c
}

func newCalls() calls {
	return calls{byID: map[parley.ID]*call{}, lines: map[string]*callLine{}}
}

func (cs *calls) add(c *call) {
	l := cs.lines[c.service]
	if l == nil {
		l = &callLine{}
		cs.lines[c.service] = l
	}
	cs.byID[c.id] = c
	heap.Push(l, c)
}

func (cs *calls) remove(c *call) {
	l := cs.lines[c.service]
	heap.Remove(l, c.place)
	delete(cs.byID, c.id)
	if l.Len() == 0 {
		delete(cs.lines, c.service)
	}
}

// put gives a call another time at which it is due.
func (cs *calls) put(c *call, due int64) {
	c.due = due
	heap.Fix(cs.lines[c.service], c.place)
}

// oldest is the time of the turn that decided the oldest call.
func (cs *calls) oldest() int64 {
	oldest := int64(never)
	for _, c := range cs.byID {
		oldest = min(oldest, c.at)
	}
	return oldest
}

func callKey(b []byte, table byte, conv []byte, id parley.ID) []byte {
	return append(append(append(b, table), conv...), id[:]...)
}

func appendCall(b []byte, o *parley.OutgoingCall, due int64, content []byte) []byte {
	b = appendTime(append(b, rowFormat), o.At)
	return appendBytes(appendName(binary.AppendVarint(b, due), o.Call.Service), content)
}

// decodeCall reads all but what the call asks, which it leaves encoded.
func decodeCall(c *call, value []byte) (content []byte, err error) {
	r, err := readRow(tableCall, value)
	if err != nil {
		return nil, err
	}
	c.at, c.mark.due, c.service = r.varint(), r.varint(), r.string()
	content = r.raw()
	return content, r.end("call")
}

func appendCallMark(b []byte, m *callMark) []byte {
	b = binary.AppendVarint(append(b, rowFormat), m.due)
	b = binary.AppendVarint(binary.AppendUvarint(b, uint64(m.attempts)), int64(m.status))
	return appendName(b, m.cause)
}

func decodeCallMark(value []byte) (callMark, error) {
	r, err := readRow(tableCallMark, value)
	if err != nil {
		return callMark{}, err
	}
	m := callMark{due: r.varint(), attempts: int(r.uvarint()), status: int(r.varint()), cause: r.string()}
	return m, r.end("mark of a call")
}

// takeCalls writes the calls of a commit whose conversation's stored form t.conv is,
// and drops those that it cancels.
func (t *txn) takeCalls(c *parley.Commit, contents [][]byte) {
	for i := range c.Calls {
		o := &c.Calls[i]
		conversation := cloneConversation(c.Conversation)
		t.key = callKey(t.key[:0], tableCall, t.conv, o.ID)
		t.val = appendCall(t.val[:0], o, t.now, contents[i])
		t.set(t.key, t.val)
		t.calling.add(&call{
			id: o.ID, conversation: conversation, service: string([]byte(o.Call.Service)), at: toMS(o.At),
			mark: callMark{due: t.now}, due: t.now,
		})
	}
	for _, id := range c.CancelCalls {
		if gone := t.calling.byID[id]; gone != nil {
			t.dropCall(gone)
		}
	}
}

// dropCall removes a call that was answered or cancelled. It may be that of a
// conversation which was merged, under whose own name it stays.
func (t *txn) dropCall(c *call) {
	conv := appendConversation(nil, c.conversation)
	t.key = callKey(t.key[:0], tableCall, conv, c.id)
	t.delOnce(t.key)
	if c.marked {
		t.key = callKey(t.key[:0], tableCallMark, conv, c.id)
		t.del(t.key)
	}
	t.calling.remove(c)
}

func (t *txn) setCallMark(c *call) {
	c.marked = true
	t.key = callKey(t.key[:0], tableCallMark, appendConversation(nil, c.conversation), c.id)
	t.val = appendCallMark(t.val[:0], &c.mark)
	t.set(t.key, t.val)
}

// ClaimCalls gives calls to be made: see callout.Calls. A claim leaves a mark that
// says nothing new, so that it is durable before it is told, and with it the commit
// that decided the call.
func (s *Store) ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error) {
	var claimed []parley.ClaimedCall
	wait := horizon
	err := s.write(ctx, makesSpace, func(t *txn) (err error) {
		claimed, err = t.claimCalls(ctx, q.Holder, t.claimable(&q))
		for _, p := range q.Services {
			if l := t.calling.lines[p.Service]; l != nil && p.Limit > 0 {
				wait = min(wait, t.until((*l)[0].due))
			}
		}
		return err
	})
	if err != nil {
		return nil, 0, fmt.Errorf("claim calls: %w", err)
	}
	return claimed, wait, nil
}

// claimable takes the calls that a query may have out of the order of their lines:
// they are due again at the end of the lease. Should the claim fail they wait for
// that, and nothing else has happened.
func (t *txn) claimable(q *parley.CallQuery) []*call {
	var found []*call
	named := make(map[string]bool, len(q.Services))
	for _, p := range q.Services {
		named[p.Service] = true
		found = t.ofService(found, p, 0)
	}
	if q.Others.Limit <= 0 {
		return found
	}
	others := q.Others
	for service := range t.calling.lines {
		if others.Service = service; !named[service] {
			before := len(found)
			found = t.ofService(found, others, q.OthersAfter)
			others.Limit -= len(found) - before
		}
	}
	return found
}

func (t *txn) ofService(found []*call, p parley.CallPlaces, late time.Duration) []*call {
	l := t.calling.lines[p.Service]
	if l == nil {
		return found
	}
	end := t.now + (p.Lease + time.Millisecond - 1).Milliseconds()
	for n := 0; n < min(p.Limit, l.Len()); n++ { // of a lease of no time, each is claimed once
		c := (*l)[0]
		if c.due+late.Milliseconds() > t.now {
			break
		}
		t.calling.put(c, end)
		found = append(found, c)
	}
	return found
}

func (t *txn) claimCalls(ctx context.Context, holder string, found []*call) ([]parley.ClaimedCall, error) {
	random, err := t.random(4 * len(found))
	if err != nil {
		return nil, err
	}
	claimed := make([]parley.ClaimedCall, 0, len(found))
	for i, c := range found {
		got, err := t.readCall(c)
		switch {
		case errors.Is(err, parley.ErrFormat): // it must not hold up the others
			t.cfg.Logger.ErrorContext(ctx, "a call that can't be read waits for a program that can", slog.Any("id", c.id))
			continue
		case err != nil:
			return nil, err
		}
		c.claim = parley.NewClaim(holder, binary.BigEndian.Uint32(random[4*i:]))
		got.Claim, got.Age = c.claim, time.Duration(max(t.now-c.at, 0))*time.Millisecond
		got.Attempts, got.Status, got.Cause = c.mark.attempts, c.mark.status, c.mark.cause
		t.setCallMark(c)
		claimed = append(claimed, got)
	}
	return claimed, nil
}

func (t *txn) readCall(c *call) (parley.ClaimedCall, error) {
	got := parley.ClaimedCall{OutgoingCall: parley.OutgoingCall{ID: c.id, Conversation: c.conversation, At: fromMS(c.at)}}
	t.key = callKey(t.key[:0], tableCall, appendConversation(nil, c.conversation), c.id)
	value, err := t.get(t.key)
	if err != nil {
		return got, err
	}
	content, err := decodeCall(&call{}, value)
	if err != nil {
		return got, err
	}
	err = got.DecodeContent(content)
	return got, err
}

// callEnd is an outcome that counts, with what had to be made for it.
type callEnd struct {
	call    *call
	outcome *parley.CallOutcome
	row     parley.Pending // of an answer
}

// SettleCalls notes what came of claims: see callout.Calls.
func (s *Store) SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error) {
	var settled parley.SettledCalls
	err := s.write(ctx, makesSpace, func(t *txn) error {
		ends, err := t.callEnds(outcomes)
		if err != nil {
			return err
		}
		settled.Lost = len(outcomes) - len(ends)
		for i := range ends {
			e := &ends[i]
			if e.outcome.Answer == nil {
				t.postponeCall(e.call, e.outcome)
				continue
			}
			t.dropCall(e.call)
			t.enqueue(&e.row)
			settled.Rows = append(settled.Rows, e.row)
		}
		return nil
	})
	if err != nil {
		return parley.SettledCalls{}, fmt.Errorf("settle calls: %w", err)
	}
	return settled, nil
}

func (t *txn) callEnds(outcomes []parley.CallOutcome) ([]callEnd, error) {
	ends := make([]callEnd, 0, len(outcomes))
	for i := range outcomes {
		o := &outcomes[i]
		c := t.calling.byID[o.Of.ID]
		same := func(e callEnd) bool { return e.call == c }
		if c == nil || c.claim == 0 || c.claim != o.Of.Claim || slices.ContainsFunc(ends, same) {
			continue
		}
		e := callEnd{call: c, outcome: o}
		if o.Answer != nil {
			var err error
			if e.row, err = t.tells(c.conversation, *o.Answer, o.Of.Key()); err != nil {
				return nil, err
			}
		}
		ends = append(ends, e)
	}
	return ends, nil
}

// YieldCalls gives back what somebody has claimed: see callout.Calls. Nothing of it is
// stored: neither were the claims.
func (s *Store) YieldCalls(ctx context.Context, holder string) error {
	err := s.write(ctx, makesSpace, func(t *txn) error {
		for _, c := range t.calling.byID {
			if c.claim != 0 && c.claim.ClaimedBy(holder) {
				c.claim = 0
				t.calling.put(c, min(c.due, t.now))
			}
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("yield calls: %w", err)
	}
	return nil
}

func (t *txn) postponeCall(c *call, o *parley.CallOutcome) {
	c.claim, c.mark.due = 0, t.now+max((o.Wait+time.Millisecond-1).Milliseconds(), 0)
	if !o.Uncounted {
		c.mark.attempts++
		c.mark.status, c.mark.cause = o.Status, o.Cause
	}
	t.calling.put(c, c.mark.due)
	t.setCallMark(c)
}

func (s *Store) seeCall(key *reader, value []byte) error {
	c := &call{conversation: key.conversation(), id: key.id()}
	if _, err := decodeCall(c, value); err != nil {
		return err
	}
	c.due = c.mark.due
	s.clock.seen(c.due)
	s.calling.add(c)
	return nil
}

// seeCallMark tells how the attempts of a call stand. Whoever had claimed it when
// the store was last open is gone.
func (s *Store) seeCallMark(key *reader, value []byte) error {
	key.conversation()
	c := s.calling.byID[key.id()]
	if c == nil {
		return errors.New("a mark without its call")
	}
	m, err := decodeCallMark(value)
	if err != nil {
		return err
	}
	c.mark, c.marked = m, true
	s.calling.put(c, m.due)
	return nil
}
