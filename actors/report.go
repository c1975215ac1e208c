package actors

import (
	"context"
	"sync"
	"time"

	"github.com/parleychat/parley/actors/wire"
)

// Standing is how a node stands, by its own account.
type Standing struct {
	Address       string
	Name          string
	View          uint64        // a digest of the members that it sees
	Clock         time.Time     // its wall clock
	Offset        time.Duration // of its clock against the asking node's, roughly
	Held          int           // shards that it runs
	Claiming      int           // shards that it waits for
	Releasing     int           // shards that it lets go of
	Conversations int           // in memory
	Rows          int           // in memory
	Channels      int           // that it sends for at the moment
	Spooled       int           // updates that are on its disk only
}

// inquiries are those that wait for answers.
type inquiries struct {
	mu   sync.Mutex
	last uint64
	by   map[uint64]*inquiry
}

type inquiry struct {
	asked   time.Time
	waiting int
	answers map[string]Standing
	done    chan struct{} // closed when all have answered
}

// Inquire asks all nodes how they stand and returns, by address, what those have
// answered that did until ctx ended. This node is among them.
func (h *Host) Inquire(ctx context.Context) map[string]Standing {
	self := h.standing()
	if h.peers == nil {
		return map[string]Standing{self.Address: self}
	}
	q := &inquiry{asked: self.Clock, answers: map[string]Standing{self.Address: self}, done: make(chan struct{})}
	var others []string
	if p := h.placement.Load(); p != nil {
		for address := range (*p).Nodes() {
			if address != h.cfg.Address {
				others = append(others, address)
			}
		}
	}
	if q.waiting = len(others); q.waiting == 0 {
		return q.answers
	}
	id := h.inquiries.begin(q)
	defer h.inquiries.end(id)
	for _, address := range others {
		if p := h.peers.to(address); p != nil {
			p.add(func(p *peer) { p.inquiries = append(p.inquiries, &wire.Inquiry{Id: id}) })
		}
	}
	select {
	case <-q.done:
	case <-ctx.Done():
	}
	h.inquiries.mu.Lock()
	defer h.inquiries.mu.Unlock()
	return q.answers
}

func (qs *inquiries) begin(q *inquiry) uint64 {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	qs.last++
	qs.by[qs.last] = q
	return qs.last
}

func (qs *inquiries) end(id uint64) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	delete(qs.by, id)
}

// answered takes a report.
func (qs *inquiries) answered(from string, r *wire.Report) {
	qs.mu.Lock()
	defer qs.mu.Unlock()
	q := qs.by[r.GetId()]
	if q == nil {
		return // too late
	}
	if _, again := q.answers[from]; again {
		return
	}
	clock := fromMillis(r.GetClock())
	now := time.Now() //nolint:forbidigo // clocks are what is compared
	q.answers[from] = Standing{
		Address: from, Name: r.GetName(), View: r.GetView(), Clock: clock,
		Offset: clock.Sub(q.asked.Add(now.Sub(q.asked) / 2)), // it was asked half way
		Held:   int(r.GetHeld()), Claiming: int(r.GetClaiming()), Releasing: int(r.GetReleasing()),
		Conversations: int(r.GetConversations()), Rows: int(r.GetRows()), Channels: int(r.GetChannels()), Spooled: int(r.GetSpooled()),
	}
	if q.waiting--; q.waiting == 0 {
		close(q.done)
	}
}

// standing is how this node stands.
func (h *Host) standing() Standing {
	s := Standing{
		Address: h.cfg.Address, Clock: time.Now(), //nolint:forbidigo // the wall clock is asked for
		Held: h.territory.in(held), Claiming: h.territory.in(claiming), Releasing: h.territory.in(releasing),
		Conversations: h.Live(), Rows: int(h.crowd.rows.Load()),
	}
	if h.cfg.Stands != nil {
		h.cfg.Stands(&s)
	}
	return s
}

func (h *Host) report(id uint64) *wire.Report {
	s := h.standing()
	return &wire.Report{
		Id: id, Name: s.Name, Clock: s.Clock.UnixMilli(), View: s.View,
		Held: uint32(s.Held), Claiming: uint32(s.Claiming), Releasing: uint32(s.Releasing),
		Conversations: uint64(s.Conversations), Rows: uint64(max(s.Rows, 0)), Channels: uint32(s.Channels), Spooled: uint64(max(s.Spooled, 0)),
	}
}

// TellDrain tells the node at an address to drain.
func (h *Host) TellDrain(address string) {
	if h.peers == nil {
		return
	}
	if p := h.peers.to(address); p != nil {
		p.add(func(p *peer) { p.drain = true })
	}
}

// queue is what one goroutine has for another: as long as it gets, since what is
// in it is limited otherwise.
type queue[T any] struct {
	news chan struct{} // holds a word if there is something in it
	mu   sync.Mutex
	all  []T
}

func (q *queue[T]) add(one T) {
	q.mu.Lock()
	q.all = append(q.all, one)
	q.mu.Unlock()
	select {
	case q.news <- struct{}{}:
	default:
	}
}

func (q *queue[T]) take() []T {
	q.mu.Lock()
	defer q.mu.Unlock()
	all := q.all
	q.all = nil
	return all
}
