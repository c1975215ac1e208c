package actors

import (
	"context"
	"time"

	"github.com/parleychat/parley"
)

// Store keeps conversations.
//
// Of conversations that were merged, pending rows never move: what was stored
// under a younger one stays there, and somebody may even store more under it who
// doesn't know of the merge yet. They are the survivor's all the same: its Load,
// its Commit and its Older cover all that it has absorbed, step by step. Nothing
// is loaded or consumed under the younger's own name any more. Both versions move
// in a merge, so that a commit from before it, on either side, is ErrConflict.
type Store interface {
	// Load returns a conversation's snapshot (of zero Version if it has had no
	// turn) and its first pending rows, up to limit, in the order of Seq. They
	// include those of the conversations that it has absorbed, with c as their
	// Conversation. One that was merged has a Snapshot.MergedInto and no rows.
	Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error)
	// Older returns those of keys that took effect in c, or in what it has
	// absorbed, and have been moved out of its snapshot, within the last
	// parley.SeenFor.
	Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error)
	// Commit takes commits of different conversations. Each consumes the rows up
	// to its Through that Load would return; each is taken whole or
	// not at all; its error is at its index: nil if taken, ErrConflict if the
	// conversation or its inbox moved, another if it could not be written. All
	// that was taken is durable when Commit returns. An error of Commit itself
	// leaves open which of them were taken. What a commit silences (its Silence) is
	// silenced from then on, wherever it waits: unsent, claimed, doubtful.
	Commit(ctx context.Context, commits []parley.Commit) ([]error, error)
}

// Agenda tells what is due.
type Agenda interface {
	// Overdue returns up to limit conversations in shards that have had a
	// pending row for longer than age, those with the oldest rows first. For rows
	// of one that was merged it may name that one or its survivor, by the shard of
	// the one it names.
	Overdue(ctx context.Context, owned func(shard uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error)
	// FireTimers moves up to limit due timers to the inboxes of their
	// conversations, as TimerFired, each exactly once, durably, and returns the
	// rows. Due-ness is judged by the store's clock. The duration says how long
	// until the next timer is due, at most the given horizon; 0 if more are due.
	// A merge sets the timers of both sides anew, so that none is left of the
	// younger; what it had moved to the inbox before is a pending row like others.
	FireTimers(ctx context.Context, owned func(shard uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error)
}

// Suspects remembers the rows that a process may have died of, among all nodes.
type Suspects interface {
	// Try notes that rows are about to be run, durably before it returns, and
	// returns those of them that were noted before, in the order of Seq: somebody
	// began to run them, perhaps this very process, and never came to Acquit them,
	// so it may have died of it. Of two who try a row at the same time exactly one
	// isn't told so. After an error rows may have been noted.
	Try(ctx context.Context, rows []parley.Row) (tried []parley.Row, err error)
	// Acquit forgets rows, durably: they were run, and the process is still there.
	// Rows that aren't noted are passed over.
	//
	// The store doesn't forget them by itself when they are consumed, but after
	// parley.SuspectFor.
	Acquit(ctx context.Context, rows []parley.Row) error
}
