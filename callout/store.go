package callout

import (
	"context"
	"time"

	"github.com/parleychat/parley"
)

// Calls keeps the calls that turns have decided, until they are answered. Any number
// of callers may work on them at once: each call is claimed by itself, for a lease.
type Calls interface {
	// ClaimCalls gives calls that are due, once that is durable: those of a service
	// that have been due for longest, up to its places. Until the end of its lease,
	// by the store's clock, nobody else is given a call; whoever claims it then is
	// given another token. The duration says how long until a call of one of the
	// query's Services that have places is due, at most horizon; 0 if one is now.
	ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error)
	// SettleCalls notes what came of claims, durably, all of it or nothing. An answer
	// removes the call and becomes a row of the inbox of its conversation, or of what
	// that was merged into, under the call's Key. Otherwise the call is due again
	// after Wait. An outcome counts only if its claim is the call's last, no outcome
	// of that counted before, and the call wasn't cancelled. The others are lost, and
	// only counted.
	SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error)
	// YieldCalls gives back what a holder has claimed and not settled: those calls are
	// due now, and no outcome of their claims counts any more. It may be called by
	// anybody: by a node that begins, for its own earlier run, and for one that was lost.
	YieldCalls(ctx context.Context, holder string) error
}

// Deliverer hears of rows of inboxes. It must not block.
type Deliverer interface {
	Deliver(rows []parley.Pending)
}
