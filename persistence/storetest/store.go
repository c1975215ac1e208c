// Package storetest is the exam for stores, written from the promises that the
// interfaces of ingress, actors and egress make. It looks at a store through
// those interfaces only: it assumes no particular number, no numbers without
// gaps and nothing of how rows are kept.
//
// Subtests are named after promises. [Run] is called from a test of the store:
//
//	func TestExam(t *testing.T) { storetest.Run(t, open) }
package storetest

import (
	"context"
	"slices"
	"testing"
	"time"

	"github.com/parleychat/parley"
)

// Inbox, Quarantine, Conversations, Agenda, Suspects, Outbox, Receipts, Calls and Operator are
// the parts of a Store, as their consumers declare them.
type (
	// Inbox is ingress.Inbox.
	Inbox interface {
		Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error)
	}
	// Quarantine is ingress.Quarantine.
	Quarantine interface {
		Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error)
		Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error)
	}
	// Conversations is actors.Store.
	Conversations interface {
		Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error)
		Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error)
		Commit(ctx context.Context, commits []parley.Commit) ([]error, error)
	}
	// Agenda is actors.Agenda.
	Agenda interface {
		Overdue(ctx context.Context, owned func(shard uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error)
		FireTimers(ctx context.Context, owned func(shard uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error)
	}
	// Suspects is actors.Suspects.
	Suspects interface {
		Try(ctx context.Context, rows []parley.Row) (tried []parley.Row, err error)
		Acquit(ctx context.Context, rows []parley.Row) error
	}
	// Outbox is egress.Outbox.
	Outbox interface {
		Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error)
		Recall(ctx context.Context, l parley.Lease, open []parley.ID, doubtfulWait time.Duration) (int, error)
		Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error)
		Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error
		Yield(ctx context.Context, holder string, channels []parley.Channel) error
	}
	// Receipts is egress.Receipts.
	Receipts interface {
		Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error)
	}
	// Calls is callout.Calls.
	Calls interface {
		ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error)
		SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error)
		YieldCalls(ctx context.Context, holder string) error
	}
	// Records is what an operator reads.
	Records interface {
		// History returns up to limit records of commits, those of versions greater
		// than after, in order.
		History(ctx context.Context, c parley.Conversation, after uint64, limit int) ([][]byte, error)
		// Unsent returns up to limit of c's messages that wait in the outbox, in the
		// order in which they leave it. Those of conversations that c has absorbed are
		// not among them.
		Unsent(ctx context.Context, c parley.Conversation, limit int) ([]parley.Outgoing, error)
		// Delivery returns what is known of the message with that id of the
		// provider's; false if nothing is.
		Delivery(ctx context.Context, ch parley.Channel, providerID string) (parley.Delivery, bool, error)
	}
	// Snapshots are what a bot's next version is held to before it is started.
	Snapshots interface {
		// Snapshots calls each with up to limit stored conversations behind after, in
		// an order that stays the same; the zero conversation is before all. One that
		// can't be read comes with its error.
		Snapshots(ctx context.Context, after parley.Conversation, limit int, each func(parley.Snapshot, error)) error
	}
	// Letters is what an operator does with dead letters: console.Letters, and what
	// the node makes of it.
	Letters interface {
		DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error)
		RetryDeadLetter(ctx context.Context, id parley.ID, reads int) (parley.Retried, error)
		DropDeadLetter(ctx context.Context, id parley.ID) (parley.DeadLetter, error)
	}
	// Registry remembers which channels are served through which apps.
	Registry interface {
		// Register notes r durably and reports whether that is news.
		Register(ctx context.Context, r parley.Registration) (fresh bool, err error)
		// Registered returns all that was registered, in no particular order.
		Registered(ctx context.Context) ([]parley.Registration, error)
	}
	// Upkeep is what the process that holds a store does with it.
	Upkeep interface {
		Backlog(ctx context.Context) (parley.Backlog, error)
		// Prune drops history and deliveries that have not changed for historyFor,
		// keys seen for longer than parley.SeenFor, and suspects noted longer ago than
		// parley.SuspectFor; at most two days late, and never early.
		Prune(ctx context.Context, historyFor time.Duration) error
		Close() error
	}
)

// Books is audit.Store's: what has been counted, beside what is there.
type Books interface {
	// Ledger reads all counts, and what is there, at one moment. Lines are in the order
	// of their keys; those in which all is 0 may be left out.
	Ledger(ctx context.Context) (parley.Ledger, error)
	// OpenBooks makes the ledger add up that was read as as, and says that everybody
	// counts from then on; ErrConflict if the books were opened or closed since.
	OpenBooks(ctx context.Context, as parley.Ledger) error
	// CloseBooks says that somebody writes who doesn't count.
	CloseBooks(ctx context.Context) error
	// Accepted shows the events that were accepted in a bucket, as long as each says so.
	Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error
	// TidyBooks forgets the events that were accepted in settled buckets, and in those
	// before one, and makes of these BucketBefore.
	TidyBooks(ctx context.Context, settled []int64, before int64) error
}

// Store is all that a store does.
type Store interface {
	Inbox
	Quarantine
	Conversations
	Agenda
	Suspects
	Outbox
	Receipts
	Calls
	Records
	Snapshots
	Letters
	Registry
	Books
	Upkeep
}

// Options say how a store is to be opened.
type Options struct {
	// Now is the clock that the store must use.
	Now func() time.Time
	// Reopen is a store that the same function opened before and that has been
	// closed: its data is to be opened again. A store that doesn't outlive its
	// Close answers nil, and the subtests about that are skipped.
	Reopen Store
}

// Open opens an empty store, or opens one again. It sees to it that the store is
// closed at the end of the test.
type Open func(t *testing.T, o Options) Store

// Run puts a store to the exam; to the named parts of it, if any are named.
func Run(t *testing.T, open Open, parts ...string) {
	t.Helper()
	for name, part := range map[string]func(t *testing.T, open Open){
		"Append": runAppend, "Quarantine": runQuarantine, "Contacts": runContacts, "Merge": runMerge,
		"Load": runLoad, "Commit": runCommit, "Older": runOlder, "Overdue": runOverdue, "Timers": runTimers,
		"Lease": runLease, "Yield": runYield, "Suspects": runSuspects, "Claim": runClaim, "Silence": runSilence, "Settle": runSettle, "Fold": runFold, "Hear": runHear, "Calls": runCalls,
		"Audit": runAudit, "Operator": runOperator, "Letters": runLetters, "Reopen": runReopen, "Concurrent": runConcurrent, "Model": runModel,
	} {
		if len(parts) > 0 && !slices.Contains(parts, name) {
			continue
		}
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			part(t, open)
		})
	}
}

// promise is one subtest, at a desk of its own.
type promise func(t *testing.T, d *desk)

func promises(t *testing.T, open Open, all map[string]promise) {
	t.Helper()
	for name, examine := range all {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			examine(t, sit(t, open))
		})
	}
}
