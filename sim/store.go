package sim

import (
	"context"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/ingress"
)

// Store is what the line needs of a store.
type Store interface {
	Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error)
	Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error)
	Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error)
	Commit(ctx context.Context, commits []parley.Commit) ([]error, error)
	Overdue(ctx context.Context, owned func(shard uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error)
	FireTimers(ctx context.Context, owned func(shard uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error)
	Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error)
	Recall(ctx context.Context, l parley.Lease, open []parley.ID, wait time.Duration) (int, error)
	Claim(ctx context.Context, l parley.Lease, places parley.Places, wait, horizon time.Duration) ([]parley.Claimed, time.Duration, error)
	Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error
	Yield(ctx context.Context, holder string, channels []parley.Channel) error
	Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error)
	ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error)
	SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error)

	ingress.Quarantine
	actors.Suspects

	Register(ctx context.Context, r parley.Registration) (fresh bool, err error)
	Backlog(ctx context.Context) (parley.Backlog, error)
	DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error)
	RetryDeadLetter(ctx context.Context, id parley.ID, reads int) (parley.Retried, error)
}

// reached is the store as a node reaches it: each access is one at which the node may
// crash. What it began before its death, it doesn't begin after it.
type reached struct {
	Store

	node *node
}

// Append is the store's.
func (r reached) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	return access(r.node, "Append", func() ([]parley.Pending, error) { return r.Store.Append(ctx, a) })
}

// Load is the store's.
func (r reached) Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error) {
	return access(r.node, "Load", func() (parley.Loaded, error) { return r.Store.Load(ctx, c, limit) })
}

// Older is the store's.
func (r reached) Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error) {
	return access(r.node, "Older", func() (map[parley.EventKey]bool, error) { return r.Store.Older(ctx, c, keys) })
}

// Commit is the store's.
func (r reached) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	return access(r.node, "Commit", func() ([]error, error) { return r.Store.Commit(ctx, commits) })
}

// Overdue is the store's.
func (r reached) Overdue(ctx context.Context, owned func(shard uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error) {
	return access(r.node, "Overdue", func() ([]parley.Conversation, error) { return r.Store.Overdue(ctx, owned, age, limit) })
}

// FireTimers is the store's.
func (r reached) FireTimers(ctx context.Context, owned func(shard uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error) {
	var next time.Duration
	rows, err := access(r.node, "FireTimers", func() (rows []parley.Pending, err error) {
		rows, next, err = r.Store.FireTimers(ctx, owned, limit, horizon)
		return rows, err
	})
	return rows, next, err
}

// Lease is the store's.
func (r reached) Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	return access(r.node, "Lease", func() (parley.Lease, error) { return r.Store.Lease(ctx, ch, holder, ttl, have) })
}

// Recall is the store's.
func (r reached) Recall(ctx context.Context, l parley.Lease, open []parley.ID, wait time.Duration) (int, error) {
	return access(r.node, "Recall", func() (int, error) { return r.Store.Recall(ctx, l, open, wait) })
}

// Claim is the store's.
func (r reached) Claim(ctx context.Context, l parley.Lease, places parley.Places, wait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	var next time.Duration
	rows, err := access(r.node, "Claim", func() (rows []parley.Claimed, err error) {
		rows, next, err = r.Store.Claim(ctx, l, places, wait, horizon)
		return rows, err
	})
	return rows, next, err
}

// Settle is the store's.
func (r reached) Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	_, err := access(r.node, "Settle", func() (struct{}, error) { return struct{}{}, r.Store.Settle(ctx, l, outcomes) })
	return err
}

// Yield is the store's.
func (r reached) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	_, err := access(r.node, "Yield", func() (struct{}, error) { return struct{}{}, r.Store.Yield(ctx, holder, channels) })
	return err
}

// Fold is the store's.
func (r reached) Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error) {
	return access(r.node, "Fold", func() (parley.Folded, error) { return r.Store.Fold(ctx, l, limit) })
}

// ClaimCalls is the store's.
func (r reached) ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error) {
	var next time.Duration
	claimed, err := access(r.node, "ClaimCalls", func() (claimed []parley.ClaimedCall, err error) {
		claimed, next, err = r.Store.ClaimCalls(ctx, q, horizon)
		return claimed, err
	})
	return claimed, next, err
}

// SettleCalls is the store's.
func (r reached) SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error) {
	return access(r.node, "SettleCalls", func() (parley.SettledCalls, error) { return r.Store.SettleCalls(ctx, outcomes) })
}

// Try is the store's.
func (r reached) Try(ctx context.Context, rows []parley.Row) ([]parley.Row, error) {
	return access(r.node, "Try", func() ([]parley.Row, error) { return r.Store.Try(ctx, rows) })
}

// Acquit is the store's.
func (r reached) Acquit(ctx context.Context, rows []parley.Row) error {
	_, err := access(r.node, "Acquit", func() (struct{}, error) { return struct{}{}, r.Store.Acquit(ctx, rows) })
	return err
}
