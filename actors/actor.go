package actors

import (
	"log/slog"
	"unique"

	"github.com/asynkron/protoactor-go/actor"

	"github.com/parleychat/parley"
)

// The messages between the actors of a node.
type (
	hint struct{ rows []parley.Pending } // of one conversation (to its actor) or one shard (to a shard)
	wake struct {
		id   parley.Conversation
		seek bool // see Conversation.Seek
	}

	loaded struct {
		parley.Loaded
		err error
	}
	older struct {
		keys  []parley.EventKey // that were asked for
		found map[parley.EventKey]bool
		err   error
	}
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
}

// Receive takes one message and does what the machine then wants.
func (a *conversation) Receive(ctx actor.Context) {
	switch m := ctx.Message().(type) {
	case *hint:
		a.hints++
		a.machine.Hint(m.rows)
		a.load.add(-len(m.rows))
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
	case *committed:
		a.pauseIf(ctx, a.machine.Committed(m.next, m.err))
	case *resume:
		a.machine.Resume()
	case *retire:
		if a.machine.Idle() {
			ctx.Send(ctx.Parent(), &retiring{id: a.machine.ID(), hints: a.hints})
		}
		return
	default:
		return
	}
	a.advance(ctx)
	a.weigh()
}

// weigh tells how many rows are held here now.
func (a *conversation) weigh() {
	if n := int32(a.machine.Held()); n != a.held {
		a.load.add(int(n - a.held))
		a.held = n
	}
}

func (a *conversation) advance(ctx actor.Context) {
	id := a.machine.ID()
	switch a.machine.Next() {
	case Rest:
	case Load:
		a.host.ask(request{pid: ctx.Self(), id: id})
	case Ask:
		a.host.ask(request{pid: ctx.Self(), id: id, keys: a.machine.OlderKeys()})
	case Think:
		a.weigh() // a turn may last, and wait before it begins
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
	commit, ok := a.host.turns.step(bot, s, rows, older)
	if !ok { // another actor has this conversation, or will have
		ctx.Stop(ctx.Self())
		return
	}
	a.host.submit(work{pid: ctx.Self(), commit: commit})
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
	children map[name]child
	props    *actor.Props
	newborn  *conversation
}

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

func newShard(h *Host) *shard {
	s := &shard{host: h, children: map[name]child{}}
	s.props = actor.PropsFromProducer(
		func() actor.Actor { return s.newborn },
		actor.WithMailbox(actor.UnboundedLockfree()),
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
		s.forward(ctx, m.rows)
		s.host.hinted.Add(-int64(len(m.rows)))
	case *wake:
		s.tell(ctx, m.id, m)
	case *sweepIdle:
		s.askIdle(ctx, m.before)
	case *retiring:
		if c, ok := s.children[nameOf(m.id)]; ok && c.hints == m.hints {
			s.drop(ctx, nameOf(m.id), c)
		}
	case *replace:
		if c, ok := s.children[nameOf(m.id)]; ok {
			// Its goroutine never comes back; it must not be waited for.
			s.forget(nameOf(m.id), c)
		}
		s.tell(ctx, m.id, &wake{id: m.id})
	case *actor.Terminated:
		s.fell(ctx, m.Who)
	}
}

// fell deals with a conversation that has stopped and wasn't told to: there was
// a panic outside of the bot's code. It goes on after a while, as a new actor.
func (s *shard) fell(ctx actor.Context, who *actor.PID) {
	for n, c := range s.children {
		if c.pid.Equal(who) {
			s.forget(n, c)
			s.host.later(s.host.cfg.SweepEvery, ctx.Self(), &wake{id: n.conversation()})
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
