package egress_test

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

var number = parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "200"}

// spring is an outbox that never runs dry: each message is of another contact.
type spring struct {
	n             int
	replies, bulk bool   // what there is of; neither: replies
	slow          func() // lets a claim take its time; nil: none
}

func (s *spring) Lease(_ context.Context, ch parley.Channel, holder string, ttl time.Duration, _ parley.Lease) (parley.Lease, error) {
	return parley.Lease{Channel: ch, Holder: holder, Epoch: 1, TTL: ttl}, nil
}

func (s *spring) Recall(context.Context, parley.Lease, []parley.ID, time.Duration) (int, error) {
	return 0, nil
}

func (s *spring) Claim(_ context.Context, l parley.Lease, places parley.Places, _, _ time.Duration) ([]parley.Claimed, time.Duration, error) {
	if s.slow != nil {
		s.slow()
	}
	rows := make([]parley.Claimed, places.All)
	for i := range rows {
		rows[i].Send.Bulk = s.bulk && (i < places.Bulk || !s.replies)
		s.n++
		rows[i].ID = parley.ID{1, byte(s.n), byte(s.n >> 8), byte(s.n >> 16)}
		rows[i].Conversation = parley.Conversation{Channel: l.Channel, Contact: parley.Contact(fmt.Sprint("phone:", s.n))}
	}
	return rows, 0, nil
}

func (s *spring) Settle(context.Context, parley.Lease, []parley.Outcome) error { return nil }

func (s *spring) Yield(context.Context, string, []parley.Channel) error { return nil }

func (s *spring) Fold(context.Context, parley.Lease, int) (parley.Folded, error) {
	return parley.Folded{}, nil
}

func (*spring) Append(context.Context, parley.Arrivals) ([]parley.Pending, error) { return nil, nil }

// meter is a provider that takes so many in any second, and no more.
type meter struct {
	limit   int
	taken   []time.Duration
	refused []time.Duration
	used    int // percent, told with each answer
	from    int // those of taken that are older than a second
}

func (m *meter) answer(now time.Duration) egress.Answer {
	for m.from < len(m.taken) && m.taken[m.from] <= now-time.Second {
		m.from++
	}
	if len(m.taken)-m.from >= m.limit {
		m.refused = append(m.refused, now)
		return egress.Answer{Kind: egress.ThrottledChannel, Code: 130429, Wait: 2 * time.Second, Used: m.used}
	}
	m.taken = append(m.taken, now)
	return egress.Answer{Kind: egress.Accepted, ProviderID: "m", Used: m.used}
}

// within is how many were taken between two times.
func (m *meter) within(from, to time.Duration) (n int) {
	for _, t := range m.taken {
		if t >= from && t < to {
			n++
		}
	}
	return n
}

// road drives one Sender against a meter, in virtual time.
type road struct {
	t      *testing.T
	now    time.Duration
	sender *egress.Sender
	clerk  egress.Clerk
	meter  *meter
	spring *spring
	queue  []egress.Handover // what has still to leave, in its order
	away   []arrival         // answers under way
	bulk   int               // of what was handed over
	all    int
	still  time.Duration // until then nothing leaves
}

type arrival struct {
	at time.Duration
	a  egress.Answer
}

const callTakes = 200 * time.Millisecond

func newRoad(t *testing.T, perSecond float64, m *meter) *road {
	t.Helper()
	r := &road{t: t, now: time.Hour, meter: m}
	clock := func() time.Duration { return r.now }
	r.spring = &spring{}
	r.clerk = egress.Clerk{Outbox: r.spring, Receipts: r.spring, Clock: clock}
	r.lease(perSecond)
	return r
}

// lease lets another take over, who knows nothing.
func (r *road) lease(perSecond float64) {
	pace := egress.PaceOf(parley.WhatsApp)
	pace.PerSecond = perSecond
	r.away, r.queue = nil, nil
	r.sender = egress.NewSender(number, "me", egress.Policy{Random: middle, Pace: pace})
	r.sender.Wake(r.now)
}

// pass lets time pass.
func (r *road) pass(d time.Duration) {
	r.t.Helper()
	for end := r.now + d; r.now < end; {
		for len(r.queue) > 0 && max(r.queue[0].From, r.still) <= r.now {
			r.leave(r.queue[0])
			r.queue = r.queue[1:]
		}
		for len(r.away) > 0 && r.away[0].at <= r.now {
			r.sender.Answered(r.away[0].a, r.now)
			r.away = r.away[1:]
		}
		a := r.sender.Next(r.now)
		if a.Kind != egress.Rest {
			r.claimed(r.clerk.Do(r.t.Context(), r.sender, a).Handovers)
			continue
		}
		next := min(end, a.Until)
		if len(r.away) > 0 {
			next = min(next, r.away[0].at)
		}
		if len(r.queue) > 0 {
			next = min(next, max(r.queue[0].From, r.still))
		}
		r.now = max(r.now, next)
	}
}

func (r *road) claimed(messages []egress.Handover) {
	for _, h := range messages {
		r.all++
		if h.Send.Bulk {
			r.bulk++
		}
	}
	r.queue = append(r.queue, messages...)
	slices.SortStableFunc(r.queue, func(x, y egress.Handover) int { return cmp.Compare(x.From, y.From) })
}

// leave takes a message to the meter.
func (r *road) leave(h egress.Handover) {
	answer := r.meter.answer(r.now)
	answer.ID, answer.Epoch, answer.Left = h.ID, h.Epoch, r.now
	r.away = append(r.away, arrival{r.now + callTakes, answer})
}

// randN draws from [0, most).
func randN(rng *rand.Rand, most time.Duration) time.Duration {
	return time.Duration(rng.Int64N(int64(most)))
}

// The limit is reached and not passed, in any second.
func TestPace(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{egress.CoexistencePerSecond, egress.NumberPerSecond, egress.PagePerSecond, egress.UpgradedPerSecond} {
		t.Run(fmt.Sprint(limit), func(t *testing.T) {
			t.Parallel()
			m := &meter{limit: limit}
			r := newRoad(t, float64(limit), m)
			const d = 60 * time.Second
			r.pass(d)
			if len(m.refused) > 0 {
				t.Fatalf("%d refused, the first after %v", len(m.refused), m.refused[0]-time.Hour)
			}
			least := int(0.99 * d.Seconds() * float64(limit))
			if n := len(m.taken); n < least {
				t.Errorf("%d in a minute, want %d", n, least)
			}
		})
	}
}

// A store that is slow for moments and a process that stands still for moments cost
// the pace next to nothing, and what left late isn't in one second with what follows.
func TestPaceThroughStalls(t *testing.T) {
	t.Parallel()
	for _, limit := range []int{egress.NumberPerSecond, egress.UpgradedPerSecond} {
		for seed := range uint64(20) {
			rng := rand.New(rand.NewPCG(seed, 0))
			m := &meter{limit: limit}
			r := newRoad(t, float64(limit), m)
			r.spring.slow = func() {
				if rng.IntN(10) == 0 {
					r.now += randN(rng, egress.Ahead-egress.Gather)
				}
			}
			const d = 60 * time.Second
			for end := r.now + d; r.now < end; {
				r.pass(randN(rng, 4*time.Second))
				r.still = r.now + randN(rng, 30*time.Millisecond)
			}
			if len(m.refused) > 0 {
				t.Errorf("seed %d: %d of %d refused, the first after %v", seed, len(m.refused), limit, m.refused[0]-time.Hour)
			}
			if n, least := m.within(time.Hour, time.Hour+d), int(0.985*d.Seconds()*float64(limit)); n < least {
				t.Errorf("seed %d: %d in a minute, want %d", seed, n, least)
			}
		}
	}
}

// What is claimed together leaves one after the other, at the pace: so that it is in
// no second of the provider's with what belongs to another. Whoever comes alone waits
// for nothing.
func TestPaceWithinAClaim(t *testing.T) {
	t.Parallel()
	var now time.Duration
	spring := &spring{}
	clerk := egress.Clerk{Outbox: spring, Receipts: spring, Clock: func() time.Duration { return now }}
	s := egress.NewSender(number, "me", egress.Policy{Random: middle, Pace: egress.PaceOf(parley.WhatsApp)})
	s.Wake(now)
	var early []egress.Handover
	for len(early) < 2 {
		a := s.Next(now)
		if a.Kind == egress.Rest {
			now = a.Until
			continue
		}
		if early = clerk.Do(t.Context(), s, a).Handovers; len(early) == 1 && early[0].From != now {
			t.Errorf("who comes alone at %v leaves at %v", now, early[0].From)
		}
	}
	const step = 8 * time.Millisecond
	between := time.Second / egress.NumberPerSecond
	for i := 1; i < len(early); i++ { // after the first of a fresh lease there is a gap
		due := early[1].From + time.Duration(i-1)*between
		if from := early[i].From; from < due-step || from > due+step || from > now+egress.Ahead+2*step {
			t.Errorf("number %d of a claim at %v leaves at %v, want %v", i, now, from, due)
		}
	}
}

func TestPaceOfAFreshLease(t *testing.T) {
	t.Parallel()
	m := &meter{limit: egress.NumberPerSecond}
	r := newRoad(t, egress.NumberPerSecond, m)
	for range 10 {
		r.pass(3 * time.Second / 2)
		r.lease(egress.NumberPerSecond)
	}
	if len(m.refused) > 0 {
		t.Fatalf("%d refused: the next lease began with a burst", len(m.refused))
	}
}

// A limit that nobody told is found, kept to, and left again when it is gone.
func TestPaceAdapts(t *testing.T) {
	t.Parallel()
	m := &meter{limit: egress.NumberPerSecond / 2}
	r := newRoad(t, egress.NumberPerSecond, m)
	r.pass(5 * time.Minute)
	from := r.now
	refusals := len(m.refused)
	r.pass(5 * time.Minute)
	if n := m.within(from, r.now); n < 300*m.limit*6/10 {
		t.Errorf("%d of %d in five minutes", n, 300*m.limit)
	}
	if n := len(m.refused) - refusals; n > 300 {
		t.Errorf("%d refused in five minutes", n)
	}
	m.limit = egress.NumberPerSecond
	r.pass(2 * time.Minute)
	now, ceiling := r.sender.Rate()
	if now != ceiling || ceiling < 79 || ceiling > 80 {
		t.Errorf("rate %v of %v two minutes later", now, ceiling)
	}
	if r.sender.Slowed() == 0 {
		t.Error("never slowed")
	}
}

func TestPaceHeedsUsage(t *testing.T) {
	t.Parallel()
	m := &meter{limit: 1000}
	r := newRoad(t, 100, m)
	r.pass(time.Second)
	m.used = 85
	r.pass(5 * time.Second)
	if now, ceiling := r.sender.Rate(); now > ceiling*0.75 || now < ceiling*0.65 {
		t.Errorf("rate %v of %v at 85 %%: want it lowered once", now, ceiling)
	}
	r.pass(10 * time.Second)
	if now, ceiling := r.sender.Rate(); now > ceiling*0.6 {
		t.Errorf("rate %v of %v: want it lowered again", now, ceiling)
	}
	m.used = 70
	r.pass(time.Second)
	before, _ := r.sender.Rate()
	r.pass(20 * time.Second)
	if now, _ := r.sender.Rate(); now > before*1.05 {
		t.Errorf("rate %v after %v: raised at 70 %%", now, before)
	}
	m.used = 0
	r.pass(2 * time.Minute)
	if now, ceiling := r.sender.Rate(); now != ceiling {
		t.Errorf("rate %v of %v: not raised", now, ceiling)
	}
	m.used = 100
	r.pass(time.Second)
	if p, ok := r.sender.Paused(); !ok || p.Reason != egress.Throttled {
		t.Errorf("paused %v %+v at 100 %%", ok, p)
	}
}

// A user who gets too much waits, and nobody else does.
func TestPairLimit(t *testing.T) {
	t.Parallel()
	r := newRig(t, egress.Policy{MaxInFlight: 4, Pace: egress.PaceOf(parley.WhatsApp)})
	r.write(2*egress.PairBurst, "a")
	seen := map[string]int{}
	took := func(d time.Duration) {
		for end := r.now + d; r.now < end; {
			r.sleep(min(50*time.Millisecond, end-r.now))
			for len(r.calls) > 0 {
				seen[string(r.calls[0].Conversation.Contact)]++
				r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
			}
		}
	}
	began := r.now
	took(10 * time.Second)
	if n := seen["user:a"]; n < egress.PairBurst || n > egress.PairBurst+2 {
		t.Fatalf("%d messages to one user in %v, want its burst", n, r.now-began)
	}
	r.write(5, "b", "c", "d", "e", "f", "g")
	took(time.Second)
	for _, c := range []string{"b", "c", "d", "e", "f", "g"} {
		if n := seen["user:"+c]; n != 5 {
			t.Errorf("%d of 5 to %s: a throttled user holds the others", n, c)
		}
	}
	took(time.Minute)
	want := egress.PairBurst + int((r.now-began)/egress.PairEvery)
	if n := seen["user:a"]; n < want-1 || n > want+1 {
		t.Errorf("%d messages to one user in %v, want %d", n, r.now-began, want)
	}
	if n := r.sender.Held(egress.PairLimit); n < 10 || n > 30 {
		t.Errorf("put back %d times for %d messages", n, seen["user:a"])
	}
	for _, x := range r.store.rows {
		if x.attempts > 0 || x.doubtful {
			t.Fatalf("the limit counts as an attempt: %+v", x)
		}
	}
}

// What is remembered of contacts is bounded, and forgets those who matter least.
func TestPairsAreForgotten(t *testing.T) {
	t.Parallel()
	m := &meter{limit: 1 << 30}
	r := newRoad(t, 1<<18, m)
	r.pass(time.Second / 2)
	if n := len(m.taken); n < 1<<16 {
		t.Fatalf("only %d contacts", n)
	}
	if n := egress.Remembered(r.sender); n > 1<<16 {
		t.Errorf("%d contacts remembered", n)
	}
	r.pass(time.Second)
}

// Audio and video of a channel have a pace of their own; those that have to wait for
// it hold up neither texts nor images, nor are they put back again and again.
func TestMediaLimit(t *testing.T) {
	t.Parallel()
	const videos = 60
	of := func(kind parley.MediaKind, contact string) parley.Outgoing {
		o := outgoing(talk(page, contact), 1)
		o.Send = parley.Send{Media: &parley.Media{Kind: kind, ID: "4711"}}
		return o
	}
	r := newRig(t, egress.Policy{Pace: egress.PaceOf(parley.Messenger)})
	for i := range videos {
		kind := []parley.MediaKind{parley.Video, parley.Audio}[i%2]
		r.store.add(of(kind, fmt.Sprintf("v%02d", i)))
	}
	for i := range videos { // behind them all
		r.store.add(of(parley.Image, fmt.Sprintf("i%02d", i)), outgoing(talk(page, fmt.Sprintf("t%02d", i)), 1))
	}
	began := r.now
	took := map[byte][]time.Duration{} // when they left, by what the contact is called
	r.sender.Wake(r.now)
	for r.store.left() > 0 && r.now < began+time.Minute {
		r.sleep(10 * time.Millisecond)
		for len(r.calls) > 0 {
			sort := r.calls[0].Conversation.Contact[len(parley.UserKey)]
			took[sort] = append(took[sort], r.now-began)
			r.answer(egress.Answer{Kind: egress.Accepted, ProviderID: "m"})
		}
	}
	for _, sort := range []byte("it") {
		if n := len(took[sort]); n != videos || took[sort][n-1] > 2*time.Second {
			t.Errorf("%d of %d of %c, at %v: held up by what has a limit of its own", n, videos, sort, took[sort])
		}
	}
	left := took['v']
	if n := len(left); n != videos || left[n-1] > videos/egress.MediaPerSecond*time.Second*12/10 {
		t.Fatalf("%d of %d videos, the last after %v", n, videos, left[n-1])
	}
	for i := egress.MediaPerSecond; i < len(left); i++ {
		if d := left[i] - left[i-egress.MediaPerSecond]; d < time.Second-30*time.Millisecond {
			t.Errorf("%d videos within %v", egress.MediaPerSecond+1, d)
		}
	}
	if n := r.sender.Held(egress.MediaLimit); n < videos-egress.MediaPerSecond || n > 2*videos {
		t.Errorf("put back %d times for %d videos", n, videos)
	}
}
