package actors_test

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/actors/wire"
	"github.com/parleychat/parley/persistence/memory"
)

// fabric is a network in memory.
type fabric struct {
	mu    sync.Mutex
	links map[string]*thread
	loses func(from, to string, p *wire.Parcel) bool
	sent  atomic.Int64 // parcels
}

// thread is one node's link. Parcels are written and read as on a real one.
type thread struct {
	fabric *fabric
	self   string
	in     chan []byte
}

func (f *fabric) link(self string) *thread {
	f.mu.Lock()
	defer f.mu.Unlock()
	l := &thread{fabric: f, self: self, in: make(chan []byte, 4096)}
	f.links[self] = l
	return l
}

func (f *fabric) lose(loses func(from, to string, p *wire.Parcel) bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.loses = loses
}

func (l *thread) Send(to string, p *wire.Parcel) {
	l.fabric.mu.Lock()
	peer, loses := l.fabric.links[to], l.fabric.loses
	l.fabric.mu.Unlock()
	b, err := proto.Marshal(p)
	if err != nil || peer == nil || loses != nil && loses(l.self, to, p) {
		return
	}
	l.fabric.sent.Add(1)
	select {
	case peer.in <- b:
	default: // lost
	}
}

func (l *thread) Forget(string) {}

func (l *thread) Run(ctx context.Context, receive func(*wire.Parcel)) error {
	for {
		select {
		case <-ctx.Done():
			return nil
		case b := <-l.in:
			p := &wire.Parcel{}
			if err := proto.Unmarshal(b, p); err != nil {
				return err
			}
			receive(p)
		}
	}
}

// plan is a placement: the shards of each residue have an owner.
type plan struct {
	owners []string // shard%len is whose it is
	nodes  []string
}

func (p plan) Owner(shard uint16) string  { return p.owners[int(shard)%len(p.owners)] }
func (plan) Heir(uint16) string           { return "" }
func (p plan) Sender(shard uint16) string { return p.Owner(shard) }
func (p plan) Holders() []string          { return p.nodes }
func (p plan) Nodes() map[string]string {
	all := map[string]string{}
	for _, n := range p.nodes {
		all[n] = n
	}
	return all
}

// town is some hosts on one store in memory. Their sweepers are slow: what is quick
// was hinted, or found when a shard was taken over.
type town struct {
	testing.TB

	fabric  *fabric
	store   *memory.Store
	hosts   map[string]*actors.Host
	ends    map[string]func()
	ran     sync.Map // conversation -> name of the host that took the last turn
	woken   sync.Map // name of a host that was told to send -> channel
	n       atomic.Int64
	sweep   time.Duration                 // of the sweepers, if not slow
	noted   sync.Map                      // provider's id of what was announced -> name of the host that was told
	makes   string                        // name of the host that makes calls; none otherwise
	called  atomic.Int32                  // how often it was told of some
	gather  time.Duration                 // of the hosts, if not the default
	suspect time.Duration                 // how long they wait with a note, if not by default
	notes   string                        // of the next host's process
	gate    atomic.Pointer[chan struct{}] // commits wait until it is closed, once they have said so
	arrives atomic.Pointer[chan struct{}]
}

const slow = 20 * time.Second

// announcement is what a host was told of.
type announcement struct {
	host string
	sent parley.Receipt
}

func newTown(tb testing.TB, names ...string) *town {
	tb.Helper()
	w := &town{
		TB: tb, fabric: &fabric{links: map[string]*thread{}}, store: memory.New(memory.Config{}),
		hosts: map[string]*actors.Host{}, ends: map[string]func(){},
	}
	for _, name := range names {
		w.settle(name)
	}
	tb.Cleanup(func() {
		for _, end := range w.ends {
			end()
		}
		if err := w.store.Close(); err != nil {
			tb.Error(err)
		}
	})
	return w
}

// witness notes who commits.
type witness struct {
	actors.Store
	town *town
	name string
}

func (s witness) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	if gate := s.town.gate.Load(); gate != nil {
		select {
		case *s.town.arrives.Load() <- struct{}{}:
		default:
		}
		<-*gate
	}
	errs, err := s.Store.Commit(ctx, commits)
	for i := range commits {
		if err == nil && errs[i] == nil {
			s.town.ran.Store(commits[i].Conversation, s.name)
		}
	}
	return errs, err
}

func (w *town) settle(name string) {
	w.Helper()
	w.settleOn(name, witness{w.store, w, name}, w.store)
}

func (w *town) settleOn(name string, store actors.Store, suspects actors.Suspects) {
	w.Helper()
	w.settleWith(name, store, suspects, w.store)
}

func (w *town) settleWith(name string, store actors.Store, suspects actors.Suspects, agenda actors.Agenda) {
	w.Helper()
	cfg := actors.Config{
		Store: store, Agenda: agenda, Suspects: suspects, Bot: func(parley.Channel) *parley.Bot { return counting() },
		Link: w.fabric.link(name), Address: name, SweepEvery: cmp.Or(w.sweep, slow), Gather: w.gather, SuspectFor: w.suspect, Notes: w.notes,
		Committed: func(ch parley.Channel) { w.woken.Store(name, ch) },
		Announced: func(sent []parley.Receipt) {
			for _, r := range sent {
				w.noted.Store(r.ProviderID, announcement{name, r})
			}
		},
	}
	if name == w.makes {
		cfg.Called = func() { w.called.Add(1) }
	}
	host, err := actors.New(cfg)
	if err != nil {
		w.Fatal(err)
	}
	ctx, stop := context.WithCancel(w.Context())
	ended := make(chan error, 1)
	go func() { ended <- host.Run(ctx) }()
	w.hosts[name] = host
	w.ends[name] = sync.OnceFunc(func() {
		stop()
		if err := <-ended; err != nil && !errors.Is(err, context.Canceled) {
			w.Error(err)
		}
	})
}

func (w *town) place(p plan) {
	for _, h := range w.hosts {
		h.Place(p)
	}
}

// say stores a text and tells a host of it; an empty name tells nobody.
func (w *town) say(to string, c parley.Conversation, text string) {
	w.Helper()
	id := fmt.Sprintf("m%d", w.n.Add(1))
	rows, err := w.store.Append(w.Context(), parley.Arrivals{Events: []parley.Event{{
		Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey(id),
		Input: parley.Message{ID: id, Text: text},
	}}})
	if err != nil {
		w.Fatal(err)
	}
	if h := w.hosts[to]; h != nil {
		h.Deliver(rows)
	}
}

// until waits for a condition, for less than the sweeper would need.
func (w *town) until(what string, ok func() bool) {
	w.Helper()
	for end := time.Now().Add(slow - slow/5); !ok(); time.Sleep(2 * time.Millisecond) {
		if time.Now().After(end) {
			w.Fatalf("%s: not in time", what)
		}
	}
}

func (w *town) counts(c parley.Conversation, n int) {
	w.Helper()
	w.until(fmt.Sprintf("%d effects in %s", n, c), func() bool {
		l, err := w.store.Load(w.Context(), c, 100)
		return err == nil && state(n)(l)
	})
}

func (w *town) ranOn(c parley.Conversation, name string) {
	w.Helper()
	// It is noted after the commit, whose effects may have been seen before.
	w.until(fmt.Sprintf("%s run on %s", c, name), func() bool { got, _ := w.ran.Load(c); return got == name })
}

func (w *town) held(shards map[string]int) {
	w.Helper()
	for name, want := range shards {
		w.until(fmt.Sprintf("%d shards on %s", want, name), func() bool { return w.hosts[name].Held() == want })
	}
}

// parity is a conversation in an even or an odd shard.
func parity(rest, nth int) parley.Conversation {
	for i := 0; ; i++ {
		if c := talk(i); int(c.Shard())%2 == rest {
			if nth--; nth < 0 {
				return c
			}
		}
	}
}

func TestEventsReachTheOwner(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.place(plan{owners: []string{"a", "b"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"a": parley.Shards / 2, "b": parley.Shards / 2})
	for i := range 20 {
		for _, from := range []string{"a", "b"} {
			w.say(from, parity(0, i), "hi")
			w.say(from, parity(1, i), "hi")
		}
	}
	for i := range 20 {
		w.counts(parity(0, i), 2)
		w.counts(parity(1, i), 2)
		w.ranOn(parity(0, i), "a")
		w.ranOn(parity(1, i), "b")
	}
	// All are on one channel: one node sends for it, and no other hears of it.
	ch := talk(0).Channel
	sends := []string{"a", "b"}[ch.Shard()%2]
	w.until("a hint for the sender", func() bool { got, _ := w.woken.Load(sends); return got == ch })
	if _, told := w.woken.Load([]string{"b", "a"}[ch.Shard()%2]); told {
		t.Error("a node was told to send that doesn't")
	}
}

// What one node has for another shares a parcel if it comes soon after the one
// before, but nobody who waits for something waits for that; and a node that leaves
// sends it at once.
func TestParcelsAreSentApart(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.gather = time.Second
	w.settle("a")
	w.settle("b")
	nodes := []string{"a", "b"}
	w.place(plan{owners: []string{"b", "a"}, nodes: nodes})
	w.held(map[string]int{"a": parley.Shards / 2, "b": parley.Shards / 2})
	var parcels atomic.Int64
	w.fabric.lose(func(from, _ string, p *wire.Parcel) bool {
		if from == "a" && len(p.GetRows()) > 0 {
			parcels.Add(1)
		}
		return false
	})
	const talks = 20
	for i := range talks {
		w.say("a", parity(0, i), "hi")
	}
	for i := range talks {
		w.counts(parity(0, i), 1)
	}
	if n := parcels.Load(); n > 2 {
		t.Errorf("%d rows in %d parcels, want at most 2", talks, n)
	}
	began := time.Now()
	w.place(plan{owners: []string{"b"}, nodes: nodes}) // in portions that follow each other
	w.held(map[string]int{"a": 0, "b": parley.Shards})
	if took := time.Since(began); took > 3*w.gather/2 {
		t.Errorf("shards changed hands within %v", took)
	}
	w.say("a", parity(0, 0), "one that is sent at once, or not")
	w.say("a", parity(0, 1), "one that is yet to be sent")
	w.ends["a"]()
	w.counts(parity(0, 1), 2)
}

// While shards change hands again and again, faster than they can, every event takes
// effect once, soon, and on one node after the other.
func TestHandOver(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.sweep = time.Second // for hints that met a shard on its way back to where it came from
	for _, name := range []string{"a", "b", "c"} {
		w.settle(name)
	}
	nodes := []string{"a", "b", "c"}
	plans := []plan{{[]string{"a"}, nodes}, {[]string{"a", "b"}, nodes}, {[]string{"c", "b", "a"}, nodes}, {[]string{"b", "c"}, nodes}}
	const talks, rounds = 30, 16
	for round := range rounds {
		w.place(plans[round%len(plans)])
		for i := range talks {
			w.say(nodes[(i+round)%3], talk(i), "hi")
		}
		time.Sleep(time.Duration(round%4) * 10 * time.Millisecond) // at different moments of the hand-over
	}
	for i := range talks {
		w.counts(talk(i), rounds)
	}
	w.held(map[string]int{"a": 0, "b": parley.Shards / 2, "c": parley.Shards / 2})
}

// What was stored while nobody told the owner is found when a shard is taken over,
// though its owner before is gone and never answers.
func TestTakeOver(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.place(plan{owners: []string{"a"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"a": parley.Shards})
	w.ends["a"]()
	w.fabric.lose(func(from, to string, _ *wire.Parcel) bool { return from == "a" || to == "a" })
	for i := range 20 {
		w.say("", talk(i), "hi")
	}
	w.hosts["b"].Place(plan{owners: []string{"b"}, nodes: []string{"b"}})
	for i := range 20 {
		w.counts(talk(i), 1)
		w.ranOn(talk(i), "b")
	}
}

// An owner that doesn't answer is not waited for. That it goes on all the same does
// no harm.
func TestTwoOwners(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	nodes := []string{"a", "b"}
	w.place(plan{owners: []string{"a"}, nodes: nodes})
	w.held(map[string]int{"a": parley.Shards})
	w.fabric.lose(func(string, string, *wire.Parcel) bool { return true })
	w.hosts["b"].Place(plan{owners: []string{"b"}, nodes: nodes})
	w.held(map[string]int{"b": parley.Shards})
	const talks, rounds = 20, 10
	for round := range rounds {
		for i := range talks {
			w.say(nodes[(i+round)%2], talk(i), "hi") // each of them hears of every other
		}
		time.Sleep(time.Duration(round%3) * 10 * time.Millisecond) // with and without a turn under way
	}
	for i := range talks {
		// Both may have consumed all that they know: then each has the rest in its inbox.
		w.counts(talk(i), rounds)
	}
	w.fabric.lose(nil)
	w.hosts["a"].Place(plan{owners: []string{"b"}, nodes: nodes})
	w.held(map[string]int{"a": 0, "b": parley.Shards})
}

// crowded is an agenda on which so much waits that only looks at little succeed.
type crowded struct {
	actors.Agenda
	most int
}

func (a crowded) Overdue(ctx context.Context, owned func(uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error) {
	if age > 0 {
		return a.Agenda.Overdue(ctx, owned, age, limit)
	}
	if limit > a.most {
		return nil, context.DeadlineExceeded
	}
	return slices.Repeat([]parley.Conversation{talk(1)}, limit), nil
}

// However much waits in shards that are taken over, they are opened.
func TestTakeOverOfMuch(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.settleWith("a", witness{w.store, w, "a"}, w.store, crowded{w.store, 20_000})
	w.say("", talk(1), "hi")
	w.place(plan{owners: []string{"a"}, nodes: []string{"a"}})
	w.held(map[string]int{"a": parley.Shards})
	w.counts(talk(1), 1)
}

// A node says that it has let go of a shard when the commits under way in it have
// ended, and not before.
func TestLeavingWaitsForTheCommit(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	nodes := []string{"a", "b"}
	w.place(plan{owners: []string{"a"}, nodes: nodes})
	w.held(map[string]int{"a": parley.Shards})
	gate := make(chan struct{})
	open := sync.OnceFunc(func() { close(gate) })
	t.Cleanup(open)
	w.gate.Store(&gate)
	committing := make(chan struct{}, 1)
	w.arrives.Store(&committing)
	w.say("a", talk(1), "hi")
	<-committing

	shard := talk(1).Shard()
	var others, this atomic.Bool
	w.fabric.lose(func(from, _ string, p *wire.Parcel) bool {
		for _, r := range p.GetReleased() {
			has := r.GetShards()[shard/8]&(1<<(shard%8)) != 0
			this.Store(this.Load() || from == "a" && has)
			others.Store(others.Load() || from == "a" && !has)
		}
		return false
	})
	w.place(plan{owners: []string{"b"}, nodes: nodes})
	w.until("others are let go of", others.Load)
	time.Sleep(100 * time.Millisecond) // those that have nothing to wait for are all told by then
	if this.Load() {
		t.Error("the shard is let go of while a commit in it is under way")
	}
	w.gate.Store(nil)
	open()
	w.until("it is let go of", this.Load)
	w.counts(talk(1), 1)
	w.ranOn(talk(1), "a")
}

// Who has lost a shard by its own view goes on until it is asked: its next owner may
// not have heard of it yet.
func TestStaleViewKeepsServing(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	nodes := []string{"a", "b"}
	w.place(plan{owners: []string{"a"}, nodes: nodes})
	w.held(map[string]int{"a": parley.Shards})
	w.hosts["a"].Place(plan{owners: []string{"b"}, nodes: nodes})
	for i := range 20 {
		w.say("a", talk(i), "hi")
	}
	for i := range 20 {
		w.counts(talk(i), 1)
		w.ranOn(talk(i), "a")
	}
}

// A hint that was sent to a node which doesn't run the shard is passed on.
func TestStaleViewPassesOn(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b", "c")
	nodes := []string{"a", "b", "c"}
	w.hosts["a"].Place(plan{owners: []string{"a"}, nodes: nodes})
	w.hosts["b"].Place(plan{owners: []string{"a"}, nodes: nodes})
	w.hosts["c"].Place(plan{owners: []string{"b"}, nodes: nodes}) // it hasn't heard yet
	w.held(map[string]int{"a": parley.Shards})
	w.say("c", talk(1), "hi")
	w.counts(talk(1), 1)
	w.ranOn(talk(1), "a")
}

// An event that is too large to be sent along is loaded by its owner.
func TestLargeEventIsLoaded(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.place(plan{owners: []string{"b"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"b": parley.Shards})
	var largest atomic.Int64
	w.fabric.lose(func(_, _ string, p *wire.Parcel) bool {
		largest.Store(max(largest.Load(), int64(proto.Size(p))))
		return false
	})
	w.say("a", talk(1), strings.Repeat("x", 100<<10))
	w.counts(talk(1), 1)
	if n := largest.Load(); n > 10<<10 {
		t.Errorf("a parcel of %d bytes", n)
	}
}

// What another node doesn't take isn't sent to it without end.
func TestAPeerThatTakesNothing(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.place(plan{owners: []string{"b"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"b": parley.Shards})
	var rows atomic.Int64
	w.fabric.lose(func(_, to string, p *wire.Parcel) bool {
		if to == "b" {
			rows.Add(int64(len(p.GetRows())))
		}
		return len(p.GetRows()) > 0
	})
	lost := make([]parley.Pending, 30_000)
	for i := range lost {
		lost[i] = parley.Pending{
			Row: parley.Row{Seq: parley.Seq(i + 1), Token: 1}, Conversation: talk(1),
			Input: parley.Message{Text: "hi"}, Data: []byte(`{"kind":"message","input":{}}`),
		}
	}
	for len(lost) > 0 {
		w.hosts["a"].Deliver(lost[:100])
		lost = lost[100:]
	}
	time.Sleep(50 * time.Millisecond) // what is sent is sent by then, or hasn't to be
	if n := rows.Load(); n < 1000 || n > 9000 {
		t.Errorf("%d rows were sent to a node that took none", n)
	}
	w.fabric.lose(nil)
	time.Sleep(2100 * time.Millisecond) // then they count as lost
	w.say("a", talk(2), "hi")
	w.counts(talk(2), 1)
}

// Whoever makes calls hears at once that a turn has decided one: its own, or that of
// a node which makes none.
func TestAHintForACaller(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	sends := talk(0).Channel.Shard() % 2
	w.makes = []string{"a", "b"}[sends]
	w.settle("a")
	w.settle("b")
	w.place(plan{owners: []string{"a", "b"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"a": parley.Shards / 2, "b": parley.Shards / 2})
	for i := range 2 {
		w.say("a", parity(i, 0), "hi")
		w.counts(parity(i, 0), 1)
	}
	if n := w.called.Load(); n > 0 {
		t.Errorf("told of %d calls, and there are none", n)
	}
	w.say("a", parity(int(sends), 0), "call")
	w.until("word of its own call", func() bool { return w.called.Load() == 1 })
	w.say("a", parity(1-int(sends), 0), "call")
	w.until("word of another's call", func() bool { return w.called.Load() == 2 })
}

// What a node has sent and can't note is told to who is to send for the channel; to nobody
// if that is itself.
func TestAnnounce(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	other := plan{owners: []string{"b"}, nodes: []string{"a", "b"}}
	w.place(other)
	w.held(map[string]int{"a": 0, "b": parley.Shards})
	sent := func(id string) parley.Receipt {
		return parley.Receipt{Channel: talk(1).Channel, Status: parley.StatusSent, ProviderID: id, Row: parley.NewID(time.Now(), [16]byte{1})}
	}
	first := sent("m1")
	if w.hosts["b"].Announce([]parley.Receipt{sent("kept")}) {
		t.Error("told, and there is nobody who is to send but b")
	}
	w.hosts["a"].Announce([]parley.Receipt{first, sent(""), sent("\xff"), sent("nul\x00"), sent(strings.Repeat("x", 1<<20)), sent("m2")})
	w.until("b is told", func() bool { _, ok := w.noted.Load("m2"); return ok })
	if got, _ := w.noted.Load("m1"); got != (announcement{"b", first}) {
		t.Errorf("told %+v, want b of %+v", got, first)
	}
	w.noted.Range(func(id, got any) bool {
		if id != "m1" && id != "m2" {
			t.Errorf("%+v", got)
		}
		return true
	})
}

// More than a bounded number of announcements doesn't wait for a node that takes none.
func TestAnnouncementsAreBounded(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.place(plan{owners: []string{"b"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"a": 0, "b": parley.Shards})
	all := make([]parley.Receipt, 5000)
	for i := range all {
		all[i] = parley.Receipt{Channel: talk(1).Channel, ProviderID: strconv.Itoa(i), Row: parley.NewID(time.Now(), [16]byte{1})}
	}
	if w.hosts["a"].Announce(all) {
		t.Error("all are said to be told")
	}
	w.until("b is told", func() bool { _, ok := w.noted.Load("4095"); return ok })
	if _, ok := w.noted.Load("4096"); ok {
		t.Error("all are told at once")
	}
}

// A hint for whoever sends is told again if it was lost: nobody else would look for
// the message soon.
func TestALostHintForASender(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b")
	w.place(plan{owners: []string{"a", "b"}, nodes: []string{"a", "b"}})
	w.held(map[string]int{"a": parley.Shards / 2, "b": parley.Shards / 2})
	ch := talk(0).Channel
	from, to := "a", "b"
	if ch.Shard()%2 == 0 {
		from, to = to, from
	}
	var lost atomic.Bool
	w.fabric.lose(func(_, _ string, p *wire.Parcel) bool {
		return len(p.GetChannels()) > 0 && lost.CompareAndSwap(false, true)
	})
	w.hosts[from].Notify(ch)
	w.until("a hint for the sender", func() bool { got, _ := w.woken.Load(to); return got == ch })
	if !lost.Load() {
		t.Error("no hint was lost")
	}
	// Once it is taken, it isn't told any more.
	sent := w.fabric.sent.Load()
	time.Sleep(2500 * time.Millisecond)
	if n := w.fabric.sent.Load() - sent; n > 2 {
		t.Errorf("%d parcels more", n)
	}
}

// A row that a process may have died of, and another after it, is not run a third
// time.
func TestSuspectsAreRunOnceMore(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.suspect = 2 * time.Second
	w.settle("a")
	w.settle("b")
	w.hosts["a"].Place(plan{owners: []string{"x", "a"}, nodes: []string{"a", "x"}})
	w.held(map[string]int{"a": parley.Shards / 2})
	guilty, innocent := parity(0, 1), parity(0, 2) // of x, which is about to die
	w.say("", guilty, "fatal")
	w.say("", innocent, "hi")
	l, err := w.store.Load(t.Context(), guilty, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Try(t.Context(), []parley.Row{l.Pending[0].Row}); err != nil { // by one that has died of it
		t.Fatal(err)
	}
	w.hosts["a"].Place(plan{owners: []string{"a"}, nodes: []string{"a"}})
	w.counts(innocent, 1)
	w.until("a dead letter", func() bool {
		dead, err := w.store.DeadLetters(t.Context(), parley.DeadQuery{Brand: "b", Limit: 10})
		return err == nil && len(dead) == 1 && dead[0].Conversation == guilty
	})
	if tried, err := w.store.Try(t.Context(), []parley.Row{{Seq: 2, Token: 0}}); err != nil || len(tried) > 0 {
		t.Errorf("tried: %v, %v", tried, err)
	}
}

// That a process may have died of what waits is not forgotten when the shard changes
// hands once more before anybody has looked.
func TestDoubtIsPassedOn(t *testing.T) {
	t.Parallel()
	w := newTown(t)
	w.suspect = 2 * time.Second
	w.settle("a")
	w.settle("b")
	nodes := []string{"a", "b"}
	w.place(plan{owners: []string{"x", "a"}, nodes: append(nodes, "x")})
	w.held(map[string]int{"a": parley.Shards / 2})
	guilty := parity(0, 1)
	w.say("", guilty, "fatal")
	l, err := w.store.Load(t.Context(), guilty, 1)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.store.Try(t.Context(), []parley.Row{l.Pending[0].Row}); err != nil { // by x, which has died of it
		t.Fatal(err)
	}
	w.fabric.lose(func(from, _ string, p *wire.Parcel) bool { return from == "b" && len(p.GetReleased()) > 0 })
	w.place(plan{owners: []string{"a"}, nodes: nodes})
	w.until("a asks for what was x's", func() bool {
		soon, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond) // b's answers are lost
		defer cancel()
		return w.hosts["a"].Inquire(soon)["a"].Claiming > 0
	})
	w.place(plan{owners: []string{"b", "a"}, nodes: nodes})
	w.until("a dead letter", func() bool {
		dead, err := w.store.DeadLetters(t.Context(), parley.DeadQuery{Brand: "b", Limit: 10})
		return err == nil && len(dead) == 1 && dead[0].Conversation == guilty
	})
}

// Nodes tell each other how they stand.
func TestInquire(t *testing.T) {
	t.Parallel()
	w := newTown(t, "a", "b", "c")
	w.place(plan{owners: []string{"b"}, nodes: []string{"a", "b", "c"}})
	w.held(map[string]int{"b": parley.Shards})
	all := w.hosts["a"].Inquire(t.Context())
	if len(all) != 3 || all["b"].Held != parley.Shards || all["b"].Offset.Abs() > time.Second {
		t.Errorf("%+v", all)
	}
	w.ends["c"]()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if all := w.hosts["a"].Inquire(ctx); len(all) != 2 {
		t.Errorf("%d answers, want 2", len(all))
	}
}
