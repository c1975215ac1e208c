package parley

import "time"

// The limits of a turn and of what a conversation may hold. A behaviour that
// passes one fails with a [TurnError] of kind [TurnLimit] that names it; its event becomes a dead
// letter and the conversation goes on from its last state.
const (
	// MaxEffects is the number of effects that one event may cause: a storm of
	// replies is a mistake of the bot, not traffic.
	MaxEffects = 32
	// MaxStateBytes is the size of a conversation's encoded state.
	MaxStateBytes = 64 << 10
	// MaxTextBytes is the size of one outgoing text. The platforms allow less
	// (2000 characters, 1000 bytes, 4096 characters); package meta checks those.
	MaxTextBytes = 16 << 10
	// MaxQuickReplies is the most that any platform shows (Messenger: 13).
	MaxQuickReplies = 13
	// MaxButtons is the most that any platform shows under one message or card.
	MaxButtons = 3
	// MaxCards is the most that any platform shows in one message.
	MaxCards = 10
	// MaxListRows is the most that any platform shows, over all sections of a list.
	MaxListRows = 10
	// MaxLineBytes is the size of a header or a footer, and of an id of Meta's that
	// a send names. The platforms' headers have 60 characters.
	MaxLineBytes = 1 << 10
	// MaxSendBytes is the size of one outgoing message that is more than a text, in
	// its stored form.
	MaxSendBytes = 64 << 10
	// MaxTimers is the number of live timers of one conversation.
	MaxTimers = 64
	// MaxPayloadBytes is the size of a quick reply's payload, which comes back as
	// a message's. The platforms allow less; package meta checks that.
	MaxPayloadBytes = 4 << 10
	// MaxNameBytes is the length of a name: of a timer, a behaviour, a call, a service,
	// an attribute, a tag, the title of a quick reply.
	MaxNameBytes = 128
	// MaxCauseBytes is the part of a failed turn's cause that is kept.
	MaxCauseBytes = 1 << 10
	// MaxTimerAhead is how far ahead a timer may be set.
	MaxTimerAhead = 366 * 24 * time.Hour
	// MaxCalls is the number of calls of one conversation that are under way.
	MaxCalls = 16
	// MaxCallBytes is the size of the body of a call.
	MaxCallBytes = 64 << 10
	// MaxAnswerBytes is the size of the answer to a call.
	MaxAnswerBytes = 64 << 10
	// MaxCallWithin is how long a call may take with all its attempts.
	MaxCallWithin = 24 * time.Hour
	// MaxAttributes is the number of attributes of one contact.
	MaxAttributes = 64
	// MaxAttributeBytes is the size of the value of an attribute.
	MaxAttributeBytes = 1 << 10
	// MaxTags is the number of tags of one contact.
	MaxTags = 64
	// MaxContacts is the number of keys that one event may bring for its contact.
	MaxContacts = 4
	// MaxPendingPerTurn is the number of inbox rows that one turn takes; more
	// wait for the next.
	MaxPendingPerTurn = 64
	// MaxAbsorbed is the number of conversations that may be merged into one. It
	// bounds what loading one costs; beyond it, conversations stay apart.
	MaxAbsorbed = 64
	// InlineSeen is the number of event keys that a snapshot itself remembers;
	// older ones move to the store's chunks by day.
	InlineSeen = 64
	// SeenFor is how long an event key is remembered: Meta delivers again for up
	// to seven days (WhatsApp, webhooks overview); one more for the clocks.
	SeenFor = 8 * 24 * time.Hour
	// ClockSkew is how far the provider's clock may run ahead of the store's
	// before its events are noted as coming from the future (Snapshot.Ahead),
	// which makes the recognition of repeats cost a read more often.
	ClockSkew = 2 * time.Minute
	// SuspectFor is how long it is remembered, unless it turns out before, that a
	// process may have died of an event: by then it has been tried again, if
	// anybody is there to do so.
	SuspectFor = 24 * time.Hour
	// HistoryFor is how long history is kept unless configured otherwise.
	HistoryFor = 30 * 24 * time.Hour
)
