package actors

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors/wire"
)

// Link carries parcels between nodes: each at most once, and in order for as long
// as a connection lasts.
type Link interface {
	// Run receives parcels until ctx ends. receive may be called by several at once.
	Run(ctx context.Context, receive func(*wire.Parcel)) error
	// Send passes a parcel on to the node at an address, or loses it. It doesn't block.
	Send(address string, p *wire.Parcel)
	// Forget lets go of what there is for a node that is gone.
	Forget(address string)
}

const (
	peerBytes   = 64 << 20               // as peerRows, of the events of these
	peerRows    = 8192                   // rows and wakes on their way to one node, or waiting to be; beyond, they wait in the inbox
	parcelRows  = 512                    // of them in a parcel
	parcelBytes = 1 << 20                // of events in a parcel, one more apart
	takenAfter  = peerRows / 8           // rows that are received before that is told
	takenWithin = 100 * time.Millisecond // and the longest time until it is
	lostAfter   = 2 * time.Second        // without an answer: what was sent then counts as lost
	peerSent    = 4096                   // announced messages that wait to be told one node; beyond, they aren't, until they are announced again
)

// peers are the other nodes, as far as there is something for them. A peer is
// found when something is sent to it, and forgotten when it is in no placement any
// more.
type peers struct {
	self    string
	run     uint64 // of this process, at random
	link    Link
	clock   func() time.Duration
	pace    func() time.Duration // between two beats, see untilBeat
	metrics *metrics
	began   chan struct{} // closed when there is a link to send by

	mu    sync.Mutex
	by    map[string]*peer
	ended bool
	loops sync.WaitGroup
}

// peer is what this node has for another, and how much of it that one has taken.
// What is of unlimited number is bounded by peerRows. The rest is bounded by what
// there is: channels, claims, inquiries that are being waited for.
type peer struct {
	address string
	news    chan struct{} // holds a word if there is something to send
	haste   chan struct{} // holds a word if somebody waits for it
	gone    chan struct{} // closed when it is forgotten

	mu        sync.Mutex
	rows      []Routed
	wakes     []wake
	channels  map[parley.Channel]struct{}
	releases  []*wire.Release
	released  map[uint64]*ShardSet // by claim
	inquiries []*wire.Inquiry
	reports   []*wire.Report
	sent      []*wire.Sent
	drain     bool
	calls     bool // turns have decided some that it may make

	number uint64   // of the last parcel sent
	open   []posted // parcels that weren't taken yet, oldest first
	posted int      // rows in them
	bytes  int      // of events, waiting or sent

	heardRun, heard uint64 // the last parcel received
	untold          int    // rows received since that was told
	tell            bool   // there is a parcel of which it wasn't told
}

// posted is a parcel on its way. What becomes of lost rows is the sweeper's; but
// whoever sends looks at its channels by itself only now and then, so those are
// told again.
type posted struct {
	number   uint64
	rows     int
	bytes    int
	channels []parley.Channel
	at       time.Duration
}

// to is the peer at an address; nil if nothing is sent any more.
func (ps *peers) to(address string) *peer {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	p := ps.by[address]
	if p == nil && !ps.ended {
		p = &peer{
			address: address, news: make(chan struct{}, 1), haste: make(chan struct{}, 1), gone: make(chan struct{}),
			channels: map[parley.Channel]struct{}{}, released: map[uint64]*ShardSet{},
		}
		ps.by[address] = p
		ps.loops.Go(func() { ps.post(p) })
	}
	return p
}

// keep forgets the peers that are gone, or whose process is another than before.
func (ps *peers) keep(before, now map[string]string) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for address, p := range ps.by {
		name, there := now[address]
		if was, known := before[address]; there && (!known || was == name) {
			continue
		}
		delete(ps.by, address)
		close(p.gone)
		ps.link.Forget(address)
	}
}

// end stops sending, once what there is has been sent.
func (ps *peers) end() {
	ps.mu.Lock()
	ps.ended = true
	for _, p := range ps.by {
		close(p.gone)
	}
	clear(ps.by)
	ps.mu.Unlock()
	ps.loops.Wait()
}

// post sends what there is for a peer. What comes alone is sent at once; what comes
// after that shares the parcel of the next beat, unless somebody waits for it.
func (ps *peers) post(p *peer) {
	select {
	case <-ps.began:
	case <-p.gone:
		return
	}
	rest := time.NewTimer(0) //nolint:forbidigo // it paces, and nothing is decided by it
	defer rest.Stop()
	for p.due(rest.C) {
		rest.Reset(untilBeat(ps.pace()))
		ps.send(p)
	}
	if ps.isEnded() { // and not the peer
		ps.send(p)
	}
}

// due waits until a parcel ought to be sent; false if the peer is gone.
func (p *peer) due(rested <-chan time.Time) bool {
	select {
	case <-p.gone:
		return false
	case <-p.haste:
		return true
	case <-p.news:
	}
	select {
	case <-p.gone:
		return false
	case <-p.haste:
	case <-rested:
	}
	return true
}

func (ps *peers) send(p *peer) {
	for parcel := ps.pack(p); parcel != nil; parcel = ps.pack(p) {
		ps.link.Send(p.address, parcel)
	}
}

func (ps *peers) isEnded() bool {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	return ps.ended
}

func signal(to chan<- struct{}) {
	select {
	case to <- struct{}{}:
	default:
	}
}

// again tells again what counts as lost.
func (ps *peers) again(now time.Duration) {
	ps.mu.Lock()
	defer ps.mu.Unlock()
	for _, p := range ps.by {
		p.mu.Lock()
		if p.giveUp(now); len(p.channels) > 0 {
			signal(p.news)
		}
		p.mu.Unlock()
	}
}

// giveUp takes parcels for lost that weren't taken in time, or are with somebody
// who is gone.
func (p *peer) giveUp(now time.Duration) {
	if len(p.open) == 0 || now-p.open[0].at <= lostAfter {
		return
	}
	for i := range p.open {
		p.bytes -= p.open[i].bytes
		for _, ch := range p.open[i].channels {
			p.channels[ch] = struct{}{}
		}
	}
	p.open, p.posted = nil, 0
}

// full reports whether so much is on its way that more has to wait in the inbox.
func (p *peer) full(now time.Duration) bool {
	p.giveUp(now)
	return len(p.rows)+len(p.wakes)+p.posted >= peerRows || p.bytes >= peerBytes
}

// hint adds rows, and returns how many have to wait in the inbox.
func (p *peer) hint(rows []parley.Pending, passes uint32, now time.Duration) (dropped int) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full(now) {
		return len(rows)
	}
	for i := range rows {
		p.rows = append(p.rows, Routed{rows[i], passes})
		p.bytes += len(rows[i].Data)
	}
	signal(p.news)
	return 0
}

// wake adds a wake; false if it has to wait for the sweeper.
func (p *peer) wake(w wake, now time.Duration) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.full(now) {
		return false
	}
	p.wakes = append(p.wakes, w)
	signal(p.news)
	return true
}

// add changes what is bounded by itself, and is waited for.
func (p *peer) add(change func(*peer)) {
	p.mu.Lock()
	defer p.mu.Unlock()
	change(p)
	signal(p.haste)
}

func (p *peer) release(id uint64, shards ShardSet) {
	p.add(func(p *peer) { p.releases = append(p.releases, &wire.Release{Claim: id, Shards: shards[:]}) })
}

func (p *peer) answer(id uint64, shards ShardSet) {
	p.add(func(p *peer) {
		if set := p.released[id]; set != nil {
			shards.Each(set.Add)
			return
		}
		p.released[id] = &shards
	})
}

func (p *peer) notify(ch parley.Channel) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.channels[ch] = struct{}{}
	signal(p.news)
}

func (p *peer) notifyCalls() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.calls = true
	signal(p.news)
}

// announce adds what was sent and can't be noted here, and returns how much of it.
func (p *peer) announce(sent []*wire.Sent) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	n := min(len(sent), peerSent-len(p.sent))
	p.sent = append(p.sent, sent[:n]...)
	signal(p.haste)
	return n
}

// pack makes the next parcel; nil if there is nothing to send.
func (ps *peers) pack(p *peer) *wire.Parcel {
	p.mu.Lock()
	if p.nothing() {
		p.mu.Unlock()
		return nil
	}
	rows, wakes := p.take()
	p.number++
	parcel := &wire.Parcel{From: ps.self, Run: ps.run, Number: p.number, TakenRun: p.heardRun, Taken: p.heard}
	p.untold, p.tell = 0, false
	if n := len(rows) + len(wakes); n+len(p.channels) > 0 {
		bytes := 0
		for i := range rows {
			bytes += len(rows[i].Data)
		}
		p.open = append(p.open, posted{number: p.number, rows: n, bytes: bytes, channels: slices.Collect(maps.Keys(p.channels)), at: ps.clock()})
		p.posted += n
	}
	p.seal(parcel)
	p.mu.Unlock()

	encoded, notices, err := RowsToWire(rows)
	if err != nil {
		ps.metrics.unreadable.Inc() // they wait in the inbox
	}
	parcel.Rows, parcel.Wakes = encoded, notices
	for _, w := range wakes {
		parcel.Wakes = append(parcel.Wakes, wakeToWire(w))
	}
	return parcel
}

func (p *peer) nothing() bool {
	return len(p.rows) == 0 && len(p.wakes) == 0 && len(p.channels) == 0 && len(p.releases) == 0 && len(p.released) == 0 &&
		len(p.inquiries) == 0 && len(p.reports) == 0 && len(p.sent) == 0 && !p.drain && !p.calls && !p.tell
}

// take takes as many rows and wakes as a parcel may hold.
func (p *peer) take() (rows []Routed, wakes []wake) {
	n := min(len(p.wakes), parcelRows)
	wakes, p.wakes = p.wakes[:n:n], p.wakes[n:]
	n = 0
	for bytes := 0; n < min(len(p.rows), parcelRows) && bytes < parcelBytes; n++ {
		bytes += len(p.rows[n].Data)
	}
	rows, p.rows = p.rows[:n:n], p.rows[n:]
	return rows, wakes
}

// seal adds what is of limited number.
func (p *peer) seal(parcel *wire.Parcel) {
	for ch := range p.channels {
		parcel.Channels = append(parcel.Channels, channelToWire(ch))
	}
	clear(p.channels)
	for id, set := range p.released {
		parcel.Released = append(parcel.Released, &wire.Released{Claim: id, Shards: set[:]})
	}
	clear(p.released)
	parcel.Releases, p.releases = p.releases, nil
	parcel.Inquiries, p.inquiries = p.inquiries, nil
	parcel.Reports, p.reports = p.reports, nil
	parcel.Sent, p.sent = p.sent, nil
	parcel.Drain, p.drain = p.drain, false
	parcel.Calls, p.calls = p.calls, false // if it is lost, whoever makes calls looks by itself soon
}

// heardOf takes note of a parcel that came from the peer, and of what that says of
// the parcels sent to it.
func (p *peer) heardOf(parcel *wire.Parcel, run uint64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.heardRun, p.heard = parcel.GetRun(), parcel.GetNumber()
	p.untold += len(parcel.GetRows()) + len(parcel.GetWakes()) + len(parcel.GetChannels())
	switch {
	case p.untold >= takenAfter:
		p.tell = true
		signal(p.news)
	case p.untold > 0 && !p.tell:
		p.tell = true
		time.AfterFunc(takenWithin, func() { signal(p.news) })
	}
	if parcel.GetTakenRun() != run {
		return
	}
	for len(p.open) > 0 && p.open[0].number <= parcel.GetTaken() {
		p.posted -= p.open[0].rows
		p.bytes -= p.open[0].bytes
		p.open = p.open[1:]
	}
}
