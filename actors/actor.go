package actors

import (
	"log/slog"
	"math"
	"time"
	"unique"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/parleychat/parley"
)

// The messages between the actors of a node.
type (
	hint struct {
		rows   []parley.Pending // of one conversation (to its actor) or one shard (to a shard)
		passes uint32           // by nodes that don't run the shard
	}
	wake struct {
		id     parley.Conversation
		seek   bool // see Conversation.Seek
		passes uint32
	}

	// A shard holds back what comes for it until it is served, and lets go of its
	// conversations: see Territory.
	hold  struct{}
	serve struct {
		waiting []parley.Conversation // that have pending rows
		doubted time.Time             // rows received by then are doubted, see Conversation.Doubt; zero: none
	}
	letGo struct{}
	// A conversation that is told to leave does so when no commit of it is under way
	// and it has taken back its notes of what it won't run.
	leave struct{}
	left  struct{ id parley.Conversation }

	loaded struct {
		parley.Loaded
		err error
	}
	older struct {
		keys  []parley.EventKey // that were asked for
		found map[parley.EventKey]bool
		err   error
	}
	tried struct {
		rows []parley.Row // that somebody began to run and never finished
		err  error
	}
	forgone   struct{ err error } // what was noted and won't be run is acquitted
	committed struct {
		next parley.Snapshot
		err  error
	}
	resume struct{}

	// A shard stops an idle conversation in two steps: it asks (retire), and
	// takes the answer (retiring) only if no hint has gone out since. So no hint
	// is ever sent to an actor that is on its way out.
	retire   struct{}
	retiring struct {
		id    parley.Conversation
		hints uint32
	}
	sweepIdle struct{ before int64 } // tick
	// replace puts another actor in the place of one whose turn was abandoned.
	replace struct{ id parley.Conversation }
)

// conversation is the actor of one conversation: a shell around the machine
// Conversation. It does no I/O itself; loads and commits are asked of the
// host's loaders and committer, which answer with messages.
type conversation struct {
	host    *Host
	machine Conversation
	load    load
	hints   uint32 // messages received from the shard
	held    int32  // rows of load that the machine holds; the others are on their way
	leaving bool   // told to leave
	forgoes bool   // it waits for forgone
	left    bool   // it has said good-bye, and does nothing any more
}

// Receive takes one message and does what the machine then wants.
func (a *conversation) Receive(ctx actor.Context) {
	if a.left {
		return
	}
	switch m := ctx.Message().(type) {
	case *hint:
		a.hints++
		a.machine.Hint(m.rows)
		a.weigh(len(m.rows))
	case *wake:
		a.hints++
		if m.seek {
			a.machine.Seek()
		} else {
			a.machine.Wake()
		}
	case *loaded:
		if m.err != nil {
			a.host.log.Warn("load conversation", slog.String("conversation", a.name()), slog.Any("error", m.err))
		}
		a.pauseIf(ctx, a.machine.Loaded(m.Loaded, m.err))
	case *older:
		a.pauseIf(ctx, a.machine.Older(m.keys, m.found, m.err))
	case *tried:
		if m.err != nil {
			a.host.log.Warn("ask for suspects", slog.String("conversation", a.name()), slog.Any("error", m.err))
		}
		a.pauseIf(ctx, a.machine.Tried(m.rows, m.err))
	case *committed:
		a.pauseIf(ctx, a.machine.Committed(m.next, m.err))
	case *forgone:
		if m.err != nil {
			a.host.log.Warn("acquit what wasn't run", slog.String("conversation", a.name()), slog.Any("error", m.err))
		}
		a.forgoes = false
		a.machine.Forgo()
	case *resume:
		a.machine.Resume()
	case *leave:
		a.leaving = true
	case *retire:
		if a.machine.Idle() {
			ctx.Send(ctx.Parent(), &retiring{id: a.machine.ID(), hints: a.hints})
		}
		return
	default:
		return
	}
	if a.leaving {
		a.leave(ctx)
		return
	}
	a.advance(ctx)
	a.weigh(0)
}

// leave says good-bye, unless a commit is under way: what becomes of it should be
// decided before another node loads the conversation. Nor may that node find notes
// of rows that weren't run: it would hold them for what this one has died of.
func (a *conversation) leave(ctx actor.Context) {
	switch {
	case a.machine.Settling() || a.forgoes:
	case len(a.machine.Noted()) > 0:
		a.forgoes = true
		a.host.ask(request{pid: ctx.Self(), id: a.machine.ID(), forgo: a.machine.Noted()})
	default:
		a.left = true
		ctx.Send(ctx.Parent(), &left{id: a.machine.ID()})
	}
}

// weigh tells how many rows are held here now, and that some have arrived which were on
// their way, at once: were those taken off first, others would be let in for them.
func (a *conversation) weigh(arrived int) {
	held := int32(a.machine.Held())
	if more := int(held-a.held) - arrived; more != 0 {
		a.load.add(more)
	}
	a.held = held
}

func (a *conversation) advance(ctx actor.Context) {
	id := a.machine.ID()
	switch a.machine.Next() {
	case Rest:
	case Load:
		a.host.ask(request{pid: ctx.Self(), id: id})
	case Ask:
		a.host.ask(request{pid: ctx.Self(), id: id, keys: a.machine.OlderKeys()})
	case Try:
		a.host.ask(request{pid: ctx.Self(), id: id, try: a.machine.Trying()})
	case Think:
		if a.host.suspects(&a.machine) {
			a.machine.Reconsider()
			a.advance(ctx)
			return
		}
		a.weigh(0) // a turn may last, and wait before it begins
		a.think(ctx)
	case Pause:
		a.pauseIf(ctx, true)
	case Forward:
		a.host.forward(a.machine.MergedInto())
	}
}

// think runs the turn here, in the actor's own goroutine, and hands its commit
// to the committer.
func (a *conversation) think(ctx actor.Context) {
	bot := a.host.cfg.Bot(a.machine.ID().Channel)
	if a.host.turns.open(bot.Name) {
		a.machine.Hold()
		a.pauseIf(ctx, true)
		return
	}
	s, rows, older := a.machine.Turn()
	c := parley.Circumstance{Older: older, Format: a.host.cfg.Format(), BotVersion: a.host.cfg.BotVersion(bot.Name), Thread: a.host.cfg.Thread(s.Conversation.Channel)}
	commit, ok := a.host.turns.step(bot, s, rows, c, a.machine.Condemned())
	if !ok { // another actor has this conversation, or will have
		ctx.Stop(ctx.Self())
		return
	}
	if why := mustWait(&commit, c.Format); why != "" {
		a.host.putOff(bot, &s, &c, why)
		a.machine.PutOff()
		a.pauseIf(ctx, true)
		return
	}
	a.host.submit(work{pid: ctx.Self(), commit: commit, stored: rows[0].Received, acquit: a.machine.Acquitted()})
}

func (a *conversation) pauseIf(ctx actor.Context, paused bool) {
	if paused {
		a.host.later(a.machine.Backoff(), ctx.Self(), &resume{})
	}
}

func (a *conversation) name() string { return a.machine.ID().String() }

// shard is the actor of one shard: the only one that creates, addresses and
// stops the conversations in it.
//
// Idle conversations are many, so what is kept for each is small: the map's keys
// hold the channel as a handle, and all actors are made from the same Props,
// whose producer takes the one that child has just put into newborn.
type shard struct {
	host     *Host
	number   uint16
	children map[name]child
	props    *actor.Props
	newborn  *conversation

	state   holding
	back    []any          // hints and wakes held back, in order; the rows among them are counted
	leaving map[name]child // that were told to leave
	opened  *serve         // to be done when they have
	doubted time.Time      // rows received by then are doubted; zero: none
}

// maxBack is how many messages a shard holds back; beyond, rows wait in the inbox.
const maxBack = 1024

// name is a conversation's, in 24 bytes instead of 64.
type name struct {
	channel unique.Handle[parley.Channel]
	contact parley.Contact
}

func nameOf(id parley.Conversation) name {
	return name{channel: unique.Make(id.Channel), contact: id.Contact}
}

func (n name) conversation() parley.Conversation {
	return parley.Conversation{Channel: n.channel.Value(), Contact: n.contact}
}

func newShard(h *Host, number uint16) *shard {
	s := &shard{host: h, number: number, children: map[name]child{}, leaving: map[name]child{}}
	if h.peers == nil {
		s.state = held
	}
	s.props = actor.PropsFromProducer(
		func() actor.Actor { return s.newborn },
		actor.WithMailbox(actor.UnboundedLockfree()),
		actor.WithDispatcher(h.runners),
	)
	return s
}

type child struct {
	pid   *actor.PID
	load  *load  // the actor's own
	hints uint32 // messages sent to it
	used  int32  // tick of the last; there is one a second
}

// Receive takes one message.
func (s *shard) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *hint:
		s.hinted(ctx, m)
	case *wake:
		s.woken(ctx, m)
	case *sweepIdle:
		s.askIdle(ctx, m.before)
	case *retiring:
		if c, ok := s.children[nameOf(m.id)]; ok && c.hints == m.hints {
			s.drop(ctx, nameOf(m.id), c)
		}
	case *replace:
		s.replace(ctx, m.id)
	case *actor.Terminated:
		s.fell(ctx, m.Who)
	case *hold:
		s.state = claiming
	case *serve:
		s.opened = m
		s.open(ctx)
	case *letGo:
		s.letGo(ctx)
	case *left:
		if c, ok := s.leaving[nameOf(m.id)]; ok {
			ctx.Stop(c.pid)
			s.gone(ctx, nameOf(m.id))
		}
	}
}

// hinted passes rows to their conversations, if the shard is run here.
func (s *shard) hinted(ctx actor.Context, m *hint) {
	if s.state == claiming && len(s.back) < maxBack {
		s.back = append(s.back, m)
		return
	}
	s.host.hinted.Add(-int64(len(m.rows)))
	if s.state == held {
		s.forward(ctx, m.rows)
		return
	}
	s.host.crowd.brand(m.rows[0].Conversation.Channel.Brand).add(-int64(len(m.rows)))
	if s.state == claiming {
		s.host.metrics.dropped.Add(float64(len(m.rows)))
		return
	}
	s.host.passOn(s.number, m.rows, m.passes)
}

// woken passes a wake to its conversation, if the shard is run here.
func (s *shard) woken(ctx actor.Context, m *wake) {
	switch {
	case s.state == held:
		s.tell(ctx, m.id, m)
	case s.state == claiming && len(s.back) < maxBack:
		s.back = append(s.back, m)
	case s.state == foreign && m.passes < MaxPasses:
		again := *m
		again.passes++
		s.host.passWake(s.number, again)
	}
}

// open serves the shard from now on: first what has waited in the inbox, then what
// was held back. While conversations of an earlier time are leaving, it waits.
func (s *shard) open(ctx actor.Context) {
	if s.opened == nil || s.state != claiming || len(s.leaving) > 0 {
		return
	}
	m := s.opened
	s.opened, s.state, s.doubted = nil, held, m.doubted
	for _, id := range m.waiting {
		s.tell(ctx, id, &wake{id: id})
	}
	s.release(ctx)
}

// release does with what was held back what the state wants now.
func (s *shard) release(ctx actor.Context) {
	back := s.back
	s.back = nil
	for _, m := range back {
		switch m := m.(type) {
		case *hint:
			s.hinted(ctx, m)
		case *wake:
			s.woken(ctx, m)
		}
	}
}

// letGo ends all conversations of the shard, and reports when that is done.
func (s *shard) letGo(ctx actor.Context) {
	s.state, s.opened = foreign, nil
	for n, c := range s.children {
		s.forget(n, c)
		s.leaving[n] = c
		ctx.Send(c.pid, &leave{})
	}
	s.release(ctx)
	if len(s.leaving) == 0 {
		s.host.territory.Gone(s.number)
	}
}

// gone takes a conversation off the list of those that are leaving.
func (s *shard) gone(ctx actor.Context, n name) {
	delete(s.leaving, n)
	if len(s.leaving) > 0 {
		return
	}
	s.host.territory.Gone(s.number)
	s.open(ctx)
}

// replace puts another actor in the place of one that never comes back. It must
// not be waited for.
func (s *shard) replace(ctx actor.Context, id parley.Conversation) {
	n := nameOf(id)
	if _, ok := s.leaving[n]; ok {
		s.gone(ctx, n)
		return
	}
	if c, ok := s.children[n]; ok {
		s.forget(n, c)
	}
	s.woken(ctx, &wake{id: id, passes: MaxPasses})
}

// fell deals with a conversation that has stopped and wasn't told to: there was
// a panic outside of the bot's code. It goes on after a while, as a new actor.
func (s *shard) fell(ctx actor.Context, who *actor.PID) {
	for n, c := range s.children {
		if c.pid.Equal(who) {
			s.forget(n, c)
			s.host.later(s.host.cfg.SweepEvery, ctx.Self(), &wake{id: n.conversation(), passes: MaxPasses})
			return
		}
	}
	for n, c := range s.leaving {
		if c.pid.Equal(who) {
			s.gone(ctx, n)
			return
		}
	}
}

// forward splits rows by conversation; runs of one conversation stay together.
func (s *shard) forward(ctx actor.Context, rows []parley.Pending) {
	for len(rows) > 0 {
		n := 1
		for n < len(rows) && rows[n].Conversation == rows[0].Conversation {
			n++
		}
		c := s.child(ctx, rows[0].Conversation)
		c.load.take(n)
		ctx.Send(c.pid, &hint{rows: rows[:n:n]})
		rows = rows[n:]
	}
}

func (s *shard) tell(ctx actor.Context, id parley.Conversation, message any) {
	ctx.Send(s.child(ctx, id).pid, message)
}

// child is the actor of a conversation, which is about to be sent a message.
func (s *shard) child(ctx actor.Context, id parley.Conversation) child {
	n := nameOf(id)
	c, ok := s.children[n]
	if !ok {
		s.newborn = &conversation{host: s.host, machine: NewConversation(id), load: load{of: s.host.crowd.brand(id.Channel.Brand)}}
		s.newborn.machine.looks = int16(min(s.host.cfg.SuspectFor/lookEvery, math.MaxInt16))
		if !s.doubted.IsZero() {
			s.newborn.machine.Doubt(s.doubted)
		}
		c.load = &s.newborn.load
		c.pid = ctx.Spawn(s.props)
		s.newborn = nil
		s.host.live.Add(1)
	}
	c.hints++
	c.used = int32(s.host.tick.Load())
	s.children[n] = c
	return c
}

func (s *shard) askIdle(ctx actor.Context, before int64) {
	for _, c := range s.children {
		if int64(c.used) < before {
			ctx.Send(c.pid, &retire{})
		}
	}
}

func (s *shard) drop(ctx actor.Context, n name, c child) {
	s.forget(n, c)
	ctx.Stop(c.pid)
}

// forget takes a conversation off the list, with the rows that are on their way
// to it: nobody will report those any more.
func (s *shard) forget(n name, c child) {
	delete(s.children, n)
	c.load.drop()
	s.host.live.Add(-1)
}
