package egress

import (
	"context"
	"time"

	"github.com/parleychat/parley"
)

// Outbox keeps the messages to be sent. One sender at a time may work on a
// channel: the holder of its lease.
type Outbox interface {
	// Lease takes or renews the lease of a channel for ttl, by the store's
	// clock. Renewing keeps the epoch, also if the lease has expired and nobody
	// took it since; taking one that is free, that another let expire, or whose
	// holder is the same name without the epoch in hand raises it. ErrFenced:
	// another holds it. have is the lease in hand, zero if none.
	Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error)
	// Claim marks up to places.All messages as attempted in the lease's epoch and
	// returns them once the marks are durable. There are two lanes. places.Bulk of
	// them are for conversations that have only messages with Send.Bulk to send;
	// the others go before the rest of those, and what one lane leaves the other
	// takes. In each lane whoever became claimable first goes first. A
	// message that isn't bulk behind one that is brings its conversation into the
	// first lane, at the next claim at the latest. At most one message of each
	// conversation is claimed, its oldest unsent, and none while an earlier claim
	// of it is open. What a conversation had not sent when it was merged stays
	// under its own name and order; the survivor's messages, those of before the
	// merge included, are not claimed until all that it has absorbed have left
	// the outbox. One that was claimed already may still be settled. A message that was attempted in an earlier epoch and not
	// settled is doubtful: it is claimed again once doubtfulWait has passed since
	// that attempt. The duration says how long until a waiting message becomes
	// claimable, at most horizon; 0 if some are claimable now. What a commit has
	// silenced (parley.Commit.Silence) is claimed like others, and says so from the
	// first claim that begins after that commit is durable. ErrFenced: the
	// epoch has moved, or the lease has expired.
	Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error)
	// Recall looks for messages that the store holds for claimed in the lease's
	// epoch and that aren't among open, which are all that the holder has claimed
	// in it and not settled. There are some if the store has gone back in time (a
	// standby that was promoted without the last commits, a restore): their
	// settlement is lost, and nobody would ever claim them again. From now on they
	// count as attempted in an earlier epoch. It returns how many they are.
	// ErrFenced as for Claim.
	Recall(ctx context.Context, l parley.Lease, open []parley.ID, doubtfulWait time.Duration) (int, error)
	// Settle notes how attempts ended, durably. Sent leaves the outbox and is
	// remembered as a Delivery; Refused becomes a dead letter; Retry and Doubt
	// stay. An outcome of a message that isn't claimed in this epoch is ignored.
	// ErrFenced as for Claim; an expired lease that nobody took may still settle.
	Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error
	// Yield gives back the leases of channels that holder has: they expire now, by
	// the store's clock. nil channels are all that it has. Nothing else changes:
	// the epoch stays; holder may renew, as one whose lease has expired; another
	// may take it at once, which raises the epoch and makes doubtful what was
	// claimed and not settled.
	//
	// It may be called at any time and by anybody, for a holder that is alive too:
	// a lease is politeness, the epoch is what protects. A node calls it for itself
	// when it stops sending, and for a member that was lost, so that nobody waits
	// for the lease of the dead. Calling it again does nothing more. After an error
	// some of the leases may have been given back.
	Yield(ctx context.Context, holder string, channels []parley.Channel) error
}

// Receipts are what the provider reports of messages sent.
type Receipts interface {
	// Fold folds up to limit receipts of the channel into the deliveries they
	// are about, and removes them from the log. What they say failed becomes
	// SendFailed in the inbox of the conversation, or of what that was merged
	// into; an echo that turns out to be somebody else's (parley.Receipt.Whose)
	// becomes Echo there; those rows are returned. One that can't be told yet stays. A receipt's contact means
	// the conversation that an event's would.
	Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error)
	// Append stores receipts durably, as those that webhooks bring: see
	// ingress.Inbox. It needs no lease.
	Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error)
}
