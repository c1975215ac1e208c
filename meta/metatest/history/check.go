package history

import (
	"cmp"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/anishathalye/porcupine"
)

// The promises that a history can show to be broken.
const (
	G1 = "G1" // nothing acknowledged is lost
	G2 = "G2" // an effect once
	G3 = "G3" // in order
	G4 = "G4" // one writer
	G5 = "G5" // replies, once and in order
	G6 = "G6" // timers
	G9 = "G9" // it heals
)

// Limits of a check.
const (
	// OperationsMax are those of one search. A longer conversation is cut where nothing
	// was under way and every reply is known; if there is no such place, it is undecided.
	OperationsMax = 10_000
	// FindingsMax bounds the findings that are spelled out.
	FindingsMax = 100
	// partBytes is how much of a file is held in memory at once, about: a larger one is
	// read several times.
	partBytes = 256 << 20
	cutAfter  = 1000 // operations of a long conversation, at least, in one search
)

// Options of a check.
type Options struct {
	Within time.Duration // for one search; 10 s by default. Then its conversation is undecided
	Total  time.Duration // for all; 5 minutes by default
}

// Finding is a conversation that no order of events explains, or that broke a promise
// in a way that needs no search.
type Finding struct {
	Promise      string `json:"promise"`
	Conversation string `json:"conversation"`
	What         string `json:"what"`
}

// Report is what a check found.
type Report struct {
	Events        int64          `json:"events"`
	Conversations int            `json:"conversations"`
	Operations    int            `json:"operations"`       // messages and rings
	Overlapping   int            `json:"overlapping"`      // conversations of which operations overlapped
	Unknown       int            `json:"unknown_outcomes"` // messages whose reply was never seen
	Broken        int            `json:"broken"`           // conversations with a finding
	Undecided     int            `json:"undecided"`        // conversations for which a search found no end
	Whole         bool           `json:"whole"`            // the record wasn't cut off
	LastAsked     int            `json:"last_asked"`       // conversations that wrote a last message after all was healed
	ByPromise     map[string]int `json:"by_promise"`       // conversations with a finding, by promise
	Findings      []Finding      `json:"findings,omitempty"`
	UndecidedOnes []string       `json:"undecided_conversations,omitempty"`
	Seconds       float64        `json:"seconds"`
}

// Clean reports whether every conversation was decided, and none is broken.
func (r *Report) Clean() bool { return r.Broken == 0 && r.Undecided == 0 }

// CheckFile checks the history in a file. Its memory is bounded, however long the file is.
func CheckFile(ctx context.Context, path string, o Options) (Report, error) {
	info, err := os.Stat(path)
	if err != nil {
		return Report{}, fmt.Errorf("history: %w", err)
	}
	c := newChecker(o)
	parts := uint64(info.Size()/partBytes) + 1
	for part := range parts {
		if err := c.file(ctx, path, part, parts); err != nil {
			return c.report, fmt.Errorf("history %s: %w", path, err)
		}
	}
	return c.done(), nil
}

// Check checks the history that a reader has, in memory as a whole.
func Check(ctx context.Context, r io.Reader, o Options) (Report, error) {
	c := newChecker(o)
	if err := c.part(ctx, r, 0, 1); err != nil {
		return c.report, fmt.Errorf("history: %w", err)
	}
	return c.done(), nil
}

type checker struct {
	o      Options
	began  time.Time
	report Report
}

func newChecker(o Options) *checker {
	o.Within = cmp.Or(o.Within, 10*time.Second)                                           //nolint:mnd // as Options says
	o.Total = cmp.Or(o.Total, 5*time.Minute)                                              //nolint:mnd // as Options says
	return &checker{o: o, began: time.Now(), report: Report{ByPromise: map[string]int{}}} //nolint:forbidigo // a search is bounded by the wall clock
}

func (c *checker) done() Report {
	c.report.Seconds = time.Since(c.began).Seconds() //nolint:forbidigo // as above
	return c.report
}

func (c *checker) file(ctx context.Context, path string, part, parts uint64) error {
	f, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("open: %w", err)
	}
	defer func() { _ = f.Close() }() // it was only read
	return c.part(ctx, f, part, parts)
}

func (c *checker) part(ctx context.Context, r io.Reader, part, parts uint64) error {
	all := collection{part: part, parts: parts, conversations: map[string]*conversation{}}
	if _, err := read(r, all.take); err != nil {
		return err
	}
	c.report.Events, c.report.Whole = all.lines, all.whole
	for _, v := range all.order {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("stopped: %w", err)
		}
		c.judge(v, all.within)
	}
	return nil
}

// judge searches for an order that explains a conversation.
func (c *checker) judge(v *conversation, within time.Duration) {
	r := &c.report
	ops := v.operations()
	if len(ops) == 0 && len(v.findings) == 0 {
		return
	}
	r.Conversations++
	r.Operations += len(ops)
	if overlapping(ops) {
		r.Overlapping++
	}
	v.countUnknown(r)
	v.silence(r, within)
	switch c.search(ops) {
	case porcupine.Illegal:
		v.explain()
	case porcupine.Unknown:
		r.Undecided++
		if len(r.UndecidedOnes) < FindingsMax {
			r.UndecidedOnes = append(r.UndecidedOnes, v.name)
		}
	case porcupine.Ok:
	}
	r.add(v.findings)
}

func (v *conversation) countUnknown(r *Report) {
	for _, m := range v.messages {
		if m.post > 0 && m.said == 0 {
			r.Unknown++
		}
	}
}

// silence finds a last message that wasn't answered in time after all was healed.
func (v *conversation) silence(r *Report, within time.Duration) {
	for _, m := range v.messages {
		if !m.last || m.post == 0 || within == 0 {
			continue
		}
		r.LastAsked++
		if m.said == 0 || time.Duration(m.replied-m.posted) > within {
			v.find(G9, "message %d, the last, had no answer within %s although everything was healed", m.k, within)
		}
	}
}

func (r *Report) add(findings []Finding) {
	if len(findings) == 0 {
		return
	}
	r.Broken++
	seen := map[string]bool{}
	for _, f := range findings {
		if !seen[f.Promise] {
			r.ByPromise[f.Promise]++
		}
		seen[f.Promise] = true
		if len(r.Findings) < FindingsMax {
			r.Findings = append(r.Findings, f)
		}
	}
}

// step is the input of an operation; its output is the number that its reply shows, 0
// if none was seen.
type step struct {
	ring   bool
	k, arg uint32
	wants  string
	after  uint32 // of a ring
}

// state is a conversation's: how many messages it has met, and which timers are live.
type state struct {
	n    uint32
	live string // numbers of messages, in order, 4 bytes each
}

func (s state) find(k uint32) (at int, live bool) {
	for at = 0; at < len(s.live); at += 4 {
		if have := binary.BigEndian.Uint32([]byte(s.live[at : at+4])); have >= k {
			return at, have == k
		}
	}
	return at, false
}

func (s state) with(k uint32) state {
	at, live := s.find(k)
	if !live {
		s.live = s.live[:at] + string(binary.BigEndian.AppendUint32(nil, k)) + s.live[at:]
	}
	return s
}

func (s state) without(k uint32) state {
	if at, live := s.find(k); live {
		s.live = s.live[:at] + s.live[at+4:]
	}
	return s
}

// meet is the sequential object: what a conversation is after an operation, and whether
// it can be that the operation showed n.
func (s state) meet(in step, n uint32) (bool, state) {
	if in.ring {
		_, live := s.find(in.k)
		return live && s.n >= in.after, s.without(in.k)
	}
	s.n++
	switch in.wants {
	case Remind:
		s = s.with(in.k)
	case Forget:
		s = s.without(in.arg)
	}
	return n == 0 || n == s.n, s
}

func modelFrom(first state) porcupine.Model {
	return porcupine.Model{
		Init: func() any { return first },
		Step: func(s, in, out any) (bool, any) {
			ok, next := s.(state).meet(in.(step), out.(uint32)) //nolint:forcetypeassert,errcheck // operations made them
			return ok, next
		},
		Equal: func(a, b any) bool { return a == b },
	}
}

// operations are a conversation's, by their calls.
func (v *conversation) operations() (ops []porcupine.Operation) {
	for _, m := range v.messages {
		if m.post == 0 {
			continue
		}
		ops = append(ops, porcupine.Operation{
			Input: step{k: m.k, arg: m.arg, wants: m.wants}, Output: m.n, Call: m.post, Return: m.bound(),
		})
	}
	for _, r := range v.rings {
		if m := v.byNumber[r.k]; m.post > 0 {
			ops = append(ops, porcupine.Operation{Input: step{ring: true, k: r.k, after: r.after}, Output: uint32(0), Call: m.post, Return: r.seen})
		}
	}
	slices.SortStableFunc(ops, func(a, b porcupine.Operation) int { return cmp.Compare(a.Call, b.Call) })
	return ops
}

func overlapping(ops []porcupine.Operation) bool {
	until := int64(0)
	for _, o := range ops {
		if o.Input.(step).ring { //nolint:forcetypeassert,errcheck // operations made it
			continue
		}
		if o.Call < until {
			return true
		}
		until = max(until, o.Return)
	}
	return false
}

// search looks for an order, part after part if the conversation is long.
func (c *checker) search(ops []porcupine.Operation) porcupine.CheckResult {
	first := state{}
	for len(ops) > 0 {
		end := len(ops)
		if end > OperationsMax {
			if end = cut(ops); end > OperationsMax {
				return porcupine.Unknown
			}
		}
		left := min(c.o.Within, c.o.Total-time.Since(c.began)) //nolint:forbidigo // as above
		if left <= 0 {
			return porcupine.Unknown
		}
		if result := porcupine.CheckOperationsTimeout(modelFrom(first), ops[:end], left); result != porcupine.Ok {
			return result
		}
		first = after(first, ops[:end])
		ops = ops[end:]
	}
	return porcupine.Ok
}

// cut is where operations can be cut in two: nothing is under way, and all replies are
// known, so that there is one state only.
func cut(ops []porcupine.Operation) int {
	until := int64(0)
	for i, o := range ops {
		if i >= cutAfter && o.Call > until {
			return i
		}
		in, n := o.Input.(step), o.Output.(uint32) //nolint:forcetypeassert,errcheck // operations made them
		until = max(until, o.Return)
		if !in.ring && n == 0 {
			break
		}
	}
	return len(ops)
}

// after is the state after operations that an order explains, all of whose replies are known.
func after(s state, ops []porcupine.Operation) state {
	messages := make([]porcupine.Operation, 0, len(ops))
	rings := map[uint32]bool{}
	for _, o := range ops {
		if in := o.Input.(step); in.ring { //nolint:forcetypeassert,errcheck // operations made them
			rings[in.k] = true
			continue
		}
		messages = append(messages, o)
	}
	slices.SortFunc(messages, func(a, b porcupine.Operation) int {
		return cmp.Compare(a.Output.(uint32), b.Output.(uint32)) //nolint:forcetypeassert,errcheck // as above
	})
	for _, o := range messages {
		_, s = s.meet(o.Input.(step), o.Output.(uint32)) //nolint:forcetypeassert,errcheck // as above
	}
	for k := range rings {
		s = s.without(k)
	}
	return s
}

// Summary is the report in a line.
func (r *Report) Summary() string {
	var b strings.Builder
	_, _ = fmt.Fprintf(&b, "%d conversations, %d operations, of %d conversations some overlapped; broken %d, undecided %d",
		r.Conversations, r.Operations, r.Overlapping, r.Broken, r.Undecided)
	if !r.Whole {
		b.WriteString("; the record was cut off, what came later wasn't checked")
	}
	return b.String()
}
