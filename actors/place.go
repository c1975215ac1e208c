package actors

import (
	"context"
	"encoding/binary"
	"log/slog"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors/wire"
)

const (
	placeEvery = 200 * time.Millisecond // between two looks at what is due in the territory
	openMost   = sweepMost              // conversations that are woken when shards are taken over
	openAgain  = 200 * time.Millisecond // after the store failed
)

const (
	// SleptFor is how long a process may not have run before it takes itself for
	// lost by the others: about the time in which they notice.
	SleptFor = 1200 * time.Millisecond
	// MaxPasses is how often a hint is passed on by nodes that don't run its shard.
	MaxPasses = 2
	// ClocksApart is how far a node's clock may be behind the store's: what was
	// received later than that after a take-over had nothing to do with it.
	ClocksApart = 5 * time.Second
)

// Place tells of another placement. It doesn't block.
func (h *Host) Place(p Placement) {
	h.placed.Store(&p)
	select {
	case h.replaced <- struct{}{}:
	default:
	}
}

// Held is the number of shards that this node runs or has yet to let go of.
func (h *Host) Held() int { return h.territory.in(held) + h.territory.in(releasing) }

// place keeps the territory as the placement wants it, until ctx ends.
func (h *Host) place(ctx context.Context) {
	tick := time.NewTimer(0) //nolint:forbidigo // the territory's one clock
	defer tick.Stop()
	h.awake.Store(int64(h.clock()))
	var nodes map[string]string
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.replaced:
			p := *h.placed.Load()
			h.peers.keep(nodes, p.Nodes())
			nodes = p.Nodes()
			h.former.Store(h.placement.Load())
			h.territory.Place(p, h.clock())
			h.placement.Store(&p)
		case <-tick.C:
			tick.Reset(h.untilLook(placeEvery))
			if now := h.clock(); h.slept(now) {
				h.log.WarnContext(ctx, "this process has not run for a while: it lets go of its conversations and asks for them again",
					slog.Duration("slept", now-time.Duration(h.awake.Load())))
				h.metrics.slept.Inc()
				h.territory.Evict(now)
			}
			h.awake.Store(int64(h.clock()))
			h.territory.Tick(h.clock())
			h.peers.again(h.clock())
		}
	}
}

// slept reports whether this process has not run for so long that others may have
// taken what it runs.
func (h *Host) slept(now time.Duration) bool {
	return h.peers != nil && now-time.Duration(h.awake.Load()) > SleptFor
}

// local is what the territory decides about.
type local struct{ h *Host }

func (l local) Hold(shard uint16) { l.h.system.Root.Send(l.h.shard(shard), &hold{}) }

func (l local) LetGo(shard uint16) { l.h.system.Root.Send(l.h.shard(shard), &letGo{}) }

func (l local) Ask(node string, claim uint64, shards ShardSet) {
	if p := l.h.peers.to(node); p != nil {
		p.release(claim, shards)
	}
}

func (l local) Answer(node string, claim uint64, shards ShardSet) {
	if p := l.h.peers.to(node); p != nil {
		p.answer(claim, shards)
	}
}

func (l local) Open(claim uint64, shards, doubted ShardSet) {
	l.h.opening.add(opening{claim: claim, shards: shards, doubted: doubted})
}

// opening is shards that nobody else runs any more.
type opening struct {
	claim           uint64
	shards, doubted ShardSet
}

// openShards looks for what waits in shards and serves them, until ctx ends.
func (h *Host) openShards(ctx context.Context) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-h.opening.news:
		}
		all := h.opening.take()
		var shards ShardSet
		for i := range all {
			all[i].shards.Each(shards.Add)
		}
		waiting, ok := h.waitingIn(ctx, shards)
		if !ok {
			return
		}
		doubted := time.Now().Add(ClocksApart) //nolint:forbidigo // compared with the store's clock, roughly
		for i := range all {
			o := &all[i]
			h.territory.Opened(o.claim, o.shards, func(shard uint16) {
				m := &serve{waiting: waiting[shard]}
				if o.doubted.Has(shard) {
					m.doubted = doubted
				}
				h.system.Root.Send(h.shard(shard), m)
			})
		}
		h.metrics.handedOver.Add(float64(shards.Len()))
		h.dueAt(1) // at once: some timers may be due
	}
}

// waitingIn returns the conversations in shards that have pending rows, up to
// openMost: the sweeper finds the others, as fast as they can be taken. It asks until
// the store answers; false if ctx ends.
func (h *Host) waitingIn(ctx context.Context, shards ShardSet) (map[uint16][]parley.Conversation, bool) {
	for {
		limited, cancel := context.WithTimeout(ctx, h.cfg.StoreTimeout)
		ids, err := h.cfg.Agenda.Overdue(limited, shards.Has, 0, openMost)
		cancel()
		switch {
		case err == nil:
			return byShard(ids), true
		case ctx.Err() != nil:
			return nil, false
		}
		h.log.ErrorContext(ctx, "look for what waits in shards that are taken over", slog.Any("error", err))
		h.metrics.openFailures.Inc()
		pause(ctx, openAgain)
	}
}

func byShard(ids []parley.Conversation) map[uint16][]parley.Conversation {
	found := map[uint16][]parley.Conversation{}
	for _, id := range ids {
		found[id.Shard()] = append(found[id.Shard()], id)
	}
	return found
}

func pause(ctx context.Context, d time.Duration) {
	t := time.NewTimer(d) //nolint:forbidigo // between two attempts
	defer t.Stop()
	select {
	case <-ctx.Done():
	case <-t.C:
	}
}

// route passes rows, which came passes times to a node that doesn't run their
// shard, to whom they belong: to a shard here, or to another node. Rows of a shard
// stay in their order. What can't be passed on waits in the inbox.
func (h *Host) route(rows []parley.Pending, passes uint32) {
	p := h.placement.Load()
	for len(rows) > 0 {
		n, owner := 1, h.owner(p, rows[0].Conversation.Shard())
		for n < len(rows) && h.owner(p, rows[n].Conversation.Shard()) == owner {
			n++
		}
		h.pass(owner, rows[:n:n], passes)
		rows = rows[n:]
	}
}

func (h *Host) owner(p *Placement, shard uint16) string {
	switch {
	case h.peers == nil:
		return h.cfg.Address
	case p == nil:
		return ""
	}
	return (*p).Owner(shard)
}

func (h *Host) pass(owner string, rows []parley.Pending, passes uint32) {
	if owner == h.cfg.Address {
		h.accept(rows, passes)
		return
	}
	dropped := len(rows)
	if owner != "" {
		if p := h.peers.to(owner); p != nil {
			dropped = p.hint(rows, passes, h.clock())
		}
	}
	h.metrics.dropped.Add(float64(dropped))
}

// passOn passes rows on that came to a shard which isn't run here.
func (h *Host) passOn(shard uint16, rows []parley.Pending, passes uint32) {
	to := h.next(shard)
	if passes >= MaxPasses || to == "" {
		h.metrics.dropped.Add(float64(len(rows)))
		return
	}
	h.metrics.passedOn.Add(float64(len(rows)))
	h.pass(to, rows, passes+1)
}

// next is where to pass on what came to a shard which isn't run here.
func (h *Host) next(shard uint16) string {
	var now, before Placement
	if p := h.placement.Load(); p != nil {
		now = *p
	}
	if p := h.former.Load(); p != nil {
		before = *p
	}
	return Onward(h.cfg.Address, now, before, shard)
}

// Onward is where a node passes on what came to it for a shard that it doesn't run: to
// its owner, or, if that is this node, which has yet to claim it, to who owned it before.
// Before a node joined that was its heir. Empty: to nobody. now and before are the node's
// placement and the one before; nil: none.
func Onward(self string, now, before Placement, shard uint16) string {
	if now == nil {
		return ""
	}
	if to := now.Owner(shard); to != self {
		return to
	}
	if to := ownerIn(before, shard); to != "" && to != self {
		if _, there := now.Nodes()[to]; there {
			return to
		}
	}
	return now.Heir(shard)
}

// sendWake passes a wake to the node that runs its conversation.
func (h *Host) sendWake(w wake) { h.wakeAt(h.owner(h.placement.Load(), w.id.Shard()), w) }

func (h *Host) wakeAt(owner string, w wake) {
	if owner == h.cfg.Address {
		h.system.Root.Send(h.shard(w.id.Shard()), &w)
		return
	}
	if owner == "" {
		return // the sweeper of whoever will run it finds it
	}
	if p := h.peers.to(owner); p != nil {
		p.wake(w, h.clock())
	}
}

// passWake passes on a wake that came to a shard which isn't run here.
func (h *Host) passWake(shard uint16, w wake) {
	h.wakeAt(h.next(shard), w)
}

// Notify tells whoever sends for a channel that there is something to send or to
// fold. It doesn't block.
func (h *Host) Notify(ch parley.Channel) {
	sender := h.cfg.Address
	if h.peers != nil {
		p := h.placement.Load()
		if p == nil {
			return
		}
		sender = (*p).Sender(ch.Shard())
	}
	switch sender {
	case h.cfg.Address:
		h.cfg.Committed(ch)
	case "":
	default:
		if p := h.peers.to(sender); p != nil {
			p.notify(ch)
		}
	}
}

// notifyCalls tells whoever may make the calls that a turn of the channel has
// decided: this node, or else the one that sends for the channel.
func (h *Host) notifyCalls(ch parley.Channel) {
	if h.cfg.Called != nil {
		h.cfg.Called()
		return
	}
	if h.peers == nil {
		return
	}
	p := h.placement.Load()
	if p == nil {
		return
	}
	if sender := (*p).Sender(ch.Shard()); sender != "" && sender != h.cfg.Address {
		if p := h.peers.to(sender); p != nil {
			p.notifyCalls()
		}
	}
}

// Announce tells whoever may have a channel by now of messages that this node has sent
// for it and can't note, as the store is out of its reach: so they aren't sent again. They
// are of one channel. It reports whether there is somebody: by the newest placement, also
// one that doesn't rule here yet, another node is to send for the channel. It doesn't
// block, and what it tells may get lost.
func (h *Host) Announce(sent []parley.Receipt) bool {
	placement := h.placed.Load()
	if h.peers == nil || placement == nil || len(sent) == 0 {
		return false
	}
	to := (*placement).Sender(sent[0].Channel.Shard())
	if to == "" || to == h.cfg.Address {
		return false
	}
	p := h.peers.to(to)
	if p == nil {
		return false
	}
	told := make([]*wire.Sent, len(sent))
	for i := range sent {
		told[i] = sentToWire(&sent[i])
	}
	n := p.announce(told)
	h.metrics.announced.Add(float64(n))
	return n == len(sent)
}

// receiveSent passes on what another node has sent.
func (h *Host) receiveSent(sent []*wire.Sent) {
	receipts := make([]parley.Receipt, 0, len(sent))
	for _, s := range sent {
		r, err := sentFromWire(s)
		if err != nil {
			h.metrics.unreadable.Inc()
			continue
		}
		receipts = append(receipts, r)
	}
	if len(receipts) > 0 && h.cfg.Announced != nil {
		h.cfg.Announced(receipts)
	}
}

// receive takes a parcel of another node's.
func (h *Host) receive(parcel *wire.Parcel) {
	from := h.peers.to(parcel.GetFrom())
	if from == nil || parcel.GetFrom() == h.cfg.Address {
		return
	}
	from.heardOf(parcel, h.peers.run)
	if n := len(parcel.ProtoReflect().GetUnknown()); n > 0 {
		h.metrics.unknown.Inc() // of a later program's
	}
	rows, err := RowsFromWire(parcel.GetRows())
	if err != nil {
		h.metrics.unreadable.Inc()
		h.log.Warn("rows from another node can't be read; they wait in the inbox", slog.String("from", parcel.GetFrom()), slog.Any("error", err))
	}
	for len(rows) > 0 {
		n, passes := 0, rows[0].Passes
		var same []parley.Pending
		for ; n < len(rows) && rows[n].Passes == passes; n++ {
			same = append(same, rows[n].Pending)
		}
		h.accept(same, passes)
		rows = rows[n:]
	}
	for _, w := range parcel.GetWakes() {
		wk, err := wakeFromWire(w)
		if err != nil {
			h.metrics.unreadable.Inc()
			continue
		}
		h.system.Root.Send(h.shard(wk.id.Shard()), &wk)
	}
	for _, ch := range parcel.GetChannels() {
		if ch := channelFromWire(ch); ch.Validate() == nil {
			h.cfg.Committed(ch)
		}
	}
	h.receiveRest(from, parcel)
}

func (h *Host) receiveRest(from *peer, parcel *wire.Parcel) {
	for _, r := range parcel.GetReleases() {
		h.territory.Release(from.address, r.GetClaim(), setFromWire(r.GetShards()), h.clock())
	}
	for _, r := range parcel.GetReleased() {
		h.territory.Released(from.address, r.GetClaim(), setFromWire(r.GetShards()), h.clock())
	}
	for _, q := range parcel.GetInquiries() {
		r := h.report(q.GetId())
		from.add(func(p *peer) { p.reports = append(p.reports, r) })
	}
	for _, r := range parcel.GetReports() {
		h.inquiries.answered(from.address, r)
	}
	h.receiveSent(parcel.GetSent())
	if parcel.GetCalls() && h.cfg.Called != nil {
		h.cfg.Called()
	}
	if parcel.GetDrain() && h.cfg.Drain != nil {
		h.cfg.Drain()
	}
}

// runID is at random.
func runID(random func() [16]byte) uint64 {
	b := random()
	return binary.LittleEndian.Uint64(b[:8])
}
