package egress_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// handed is one message as the provider saw it.
type handed struct {
	id       parley.ID
	at       time.Duration
	kind     egress.AnswerKind
	doubtful bool
	epoch    uint64
}

type call struct {
	owner *node
	h     egress.Handover
	a     *egress.Answer // nil until the provider was asked
}

type node struct {
	name   string
	sender *egress.Sender
	asked  *egress.Asked // what the store has answered, and the sender wasn't told; nil: nothing
}

// world drives Senders of one channel on one goroutine, with a store and a
// provider that fail, and a clock that jumps while the store works. What is
// promised is computed from what the provider saw, not from the Senders.
type world struct {
	t     *rapid.T
	now   time.Duration
	store *store
	clerk egress.Clerk
	gate  egress.Gate
	nodes []*node
	calls []*call
	log   []handed
	calm  bool // no faults any more
	next  map[string]int
	turn  *call // the one that is with the provider
	born  int
}

const (
	testTTL   = 10 * time.Second
	testDoubt = 30 * time.Second
)

func newWorld(t *rapid.T, nodes int) *world {
	w := &world{t: t, now: time.Hour, next: map[string]int{}}
	clock := func() time.Duration { return w.now }
	w.store = newStore(clock)
	w.store.fault = w.fault
	w.clerk = egress.Clerk{Outbox: w.store, Receipts: w.store, Clock: clock}
	w.gate = egress.Gate{Provider: provider(w.provide), Clock: clock, Now: func() time.Time { return time.Unix(1_700_000_000, 0).Add(w.now) }}
	for range nodes {
		w.nodes = append(w.nodes, w.newNode())
	}
	return w
}

func (w *world) newNode() *node {
	w.born++
	name := fmt.Sprintf("n%d", w.born)
	n := &node{name: name, sender: egress.NewSender(page, name, egress.Policy{
		LeaseTTL: testTTL, DoubtfulWait: testDoubt, MaxInFlight: 4, Random: middle,
	})}
	n.sender.Wake(w.now)
	return n
}

// fault lets time pass before and after each step of the store, and sometimes
// fails it on either side.
func (w *world) fault(step string, after bool) error {
	if w.calm {
		return nil
	}
	switch rapid.IntRange(0, 19).Draw(w.t, "fault in "+step) {
	case 0:
		return errStore
	case 1, 2:
		w.now += rapid.SampledFrom([]time.Duration{time.Second, testTTL / 4, testTTL/2 + 1, testTTL + 1}).Draw(w.t, "slow store")
	}
	return nil
}

func (w *world) provide(_ context.Context, m parley.Claimed) egress.Answer {
	kind := egress.Accepted
	if !w.calm {
		kind = rapid.SampledFrom([]egress.AnswerKind{
			egress.Accepted, egress.Accepted, egress.Accepted, egress.Accepted, egress.Retryable, egress.ThrottledUser,
			egress.ThrottledChannel, egress.Blocked, egress.Rejected, egress.Unknown,
		}).Draw(w.t, "answer")
	}
	seen := handed{id: m.ID, at: w.now, kind: kind, doubtful: m.Doubtful, epoch: w.turn.h.Epoch}
	w.check(seen, m)
	w.log = append(w.log, seen)
	return egress.Answer{Kind: kind, ProviderID: "mid", Cause: kind.String()}
}

// check holds a hand-over against the promises.
func (w *world) check(h handed, m parley.Claimed) {
	if g := w.store.leases[page]; g.lease.Epoch == h.epoch && h.at >= g.expires-testTTL/2 || g.lease.Epoch < h.epoch {
		w.t.Fatalf("%s handed over at %v, lease expires %v: past its half", h.id, h.at, g.expires)
	}
	i := slices.IndexFunc(w.store.rows, func(r *row) bool { return r.ID == m.ID })
	if i < 0 {
		w.t.Fatalf("%s handed over after it was settled", h.id)
	}
	if r := w.store.rows[i]; r.epoch < h.epoch {
		w.t.Fatalf("%s handed over without its mark: epoch %d, mark %d", h.id, h.epoch, r.epoch)
	}
	for _, r := range w.store.rows {
		if r.Conversation == m.Conversation && r.Ordinal < m.Ordinal {
			w.t.Fatalf("%d of %s handed over before %d was settled", m.Ordinal, m.Conversation, r.Ordinal)
		}
	}
	for _, e := range w.log {
		if e.id != h.id {
			continue
		}
		taken := e.kind == egress.Accepted || e.kind == egress.Unknown
		if taken && !h.doubtful {
			w.t.Fatalf("%s handed over again, not as doubtful, after %v", h.id, e.kind)
		}
		if taken && h.at-e.at < testDoubt-testTTL/2 {
			w.t.Fatalf("%s handed over again after %v", h.id, h.at-e.at)
		}
		if e.kind == egress.Rejected && !h.doubtful {
			w.t.Fatalf("%s handed over again after it was rejected", h.id)
		}
	}
}

// step lets a node do one thing. Much may happen between the question to the store and
// its answer.
func (w *world) step(n *node) (did bool) {
	if n.asked == nil {
		a := n.sender.Next(w.now)
		if a.Kind == egress.Rest || a.Kind == egress.Announce {
			w.clerk.Do(w.t.Context(), n.sender, a)
			return a.Kind != egress.Rest
		}
		asked := w.clerk.Ask(w.t.Context(), n.sender, a)
		n.asked = &asked
		return true
	}
	done := w.clerk.Tell(n.sender, *n.asked, w.now)
	n.asked = nil
	for _, h := range done.Handovers {
		w.calls = append(w.calls, &call{owner: n, h: h})
	}
	return true
}

// provideTo takes a call one step further: to the provider, then back.
func (w *world) advance(i int) {
	c := w.calls[i]
	if c.a == nil {
		w.turn = c
		a := w.gate.Pass(w.t.Context(), c.h)
		c.a = &a
		return
	}
	w.calls = slices.Delete(w.calls, i, i+1)
	c.owner.sender.Answered(*c.a, w.now)
}

// kill ends a node at any moment. What it had with the provider may still
// arrive, in real life, until its time is over; here it does not.
func (w *world) kill(i int) {
	dead := w.nodes[i]
	w.calls = slices.DeleteFunc(w.calls, func(c *call) bool { return c.owner == dead })
	w.nodes[i] = w.newNode()
}

func (w *world) write() {
	contact := rapid.SampledFrom([]string{"a", "b", "c"}).Draw(w.t, "contact")
	w.next[contact]++
	w.store.add(outgoing(talk(page, contact), w.next[contact]))
	for _, n := range w.nodes {
		n.sender.Wake(w.now)
	}
}

// settle lets the world calm down and expects every message to come to an end.
func (w *world) settle() {
	w.calm = true
	for range 5_000 {
		if w.store.left() == 0 && len(w.calls) == 0 {
			return
		}
		rested := true
		for _, n := range w.nodes {
			rested = !w.step(n) && rested
		}
		for len(w.calls) > 0 {
			w.advance(0)
			rested = false
		}
		if rested {
			w.now += 500 * time.Millisecond
		}
	}
	w.t.Fatalf("%d messages have come to no end; nodes %+v", w.store.left(), w.nodes)
}

// verdict compares the end of each message with what the provider saw of it.
func (w *world) verdict() {
	for contact, n := range w.next {
		for i := 1; i <= n; i++ {
			o := outgoing(talk(page, contact), i)
			dead, refused := w.store.dead[o.ID]
			_, sent := w.store.sent[o.ID]
			if sent == refused {
				w.t.Fatalf("%s %d: sent %v, refused %v", contact, i, sent, refused)
			}
			if refused && dead.Cause == "" {
				w.t.Fatalf("%s %d refused without a cause", contact, i)
			}
			if sent && !slices.ContainsFunc(w.log, func(h handed) bool { return h.id == o.ID && h.kind == egress.Accepted }) {
				w.t.Fatalf("%s %d counts as sent, but the provider never accepted it", contact, i)
			}
		}
	}
}

func TestSender(t *testing.T) {
	t.Parallel()
	for nodes := 1; nodes <= 2; nodes++ {
		t.Run(fmt.Sprintf("KeepsItsPromisesWith%dNodes", nodes), func(t *testing.T) {
			t.Parallel()
			rapid.Check(t, func(t *rapid.T) {
				w := newWorld(t, nodes)
				for range rapid.IntRange(20, 300).Draw(t, "steps") {
					w.act()
				}
				w.settle()
				w.verdict()
			})
		})
	}
}

func (w *world) act() {
	n := rapid.IntRange(0, len(w.nodes)-1).Draw(w.t, "node")
	switch k := rapid.IntRange(0, 99).Draw(w.t, "act"); {
	case k < 45:
		w.step(w.nodes[n])
	case k < 70 && len(w.calls) > 0:
		w.advance(rapid.IntRange(0, len(w.calls)-1).Draw(w.t, "call"))
	case k < 80:
		w.write()
	case k < 97:
		w.now += rapid.SampledFrom([]time.Duration{
			time.Millisecond, time.Second, testTTL / 4, testTTL / 2, testTTL, testDoubt, 2 * time.Minute,
		}).Draw(w.t, "time passes")
	case k < 99:
		w.nodes[n].sender.Wake(w.now)
	default:
		w.kill(n)
	}
}
