package ingress

import (
	"context"

	"github.com/parleychat/parley"
)

// Inbox makes arrivals durable.
type Inbox interface {
	// Append stores a as a whole or not at all, and returns when it is durable:
	// a kill or a loss of power after Append has returned loses nothing of it.
	// It returns the inbox rows of a.Events, in their order; each has a number
	// larger than that of every row whose Append had returned before this one
	// was called. ErrFull: no room, nothing stored. Any other error leaves open
	// whether a was stored; storing it again does no harm. Nobody ever changes
	// what a refers to, so that an append that was given up may go on reading it.
	//
	// An event's contact keys mean the conversation of the first that is known;
	// the unknown ones come to mean it too. If they mean several conversations,
	// these are merged (see parley.Merge) before the event is stored or with it:
	// the oldest survives, the one whose first key became known first, and the
	// row is the survivor's. From then on all keys of either mean the survivor,
	// and so on from merge to merge. A crash leaves a merge done or not begun,
	// never half of one, and merging what is merged changes nothing.
	// Conversations that parley.MayMerge keeps apart stay apart; the strongest
	// key's gets the event then, and it is counted.
	Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error)
}

// Quarantine keeps the updates that could not become events.
type Quarantine interface {
	// Quarantined returns up to limit entries of a channel of an app with an id
	// greater than after, oldest first.
	Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error)
	// Release takes entries out of the quarantine and appends what they became,
	// in one durable step. ErrConflict: some of them aren't there any more, because
	// another has released them, and a has something to append; nothing has changed.
	// Of two who release the same entry the second waits for the first.
	Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error)
}

// Deliverer passes durable rows on to the actors of their conversations. It
// must not block and may drop any of them: the inbox holds them all the while.
type Deliverer interface {
	Deliver(rows []parley.Pending)
}
