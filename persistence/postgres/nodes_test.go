package postgres_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/postgres"
	"github.com/parleychat/parley/persistence/storetest"
)

// nodes is some nodes' stores of one database as one: each call goes to the next,
// so that whatever one of them has done the others build on.
type nodes struct {
	url   string
	all   []*postgres.Store
	calls atomic.Uint64
}

func (n *nodes) next() *postgres.Store {
	return n.all[n.calls.Add(1)%uint64(len(n.all))]
}

// Close closes all of them.
func (n *nodes) Close() error {
	var errs []error
	for _, s := range n.all {
		errs = append(errs, s.Close())
	}
	return errors.Join(errs...)
}

func (n *nodes) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	return n.next().Append(ctx, a)
}

func (n *nodes) Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	return n.next().Quarantined(ctx, app, ch, after, limit)
}

func (n *nodes) Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	return n.next().Release(ctx, ids, a)
}

func (n *nodes) Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error) {
	return n.next().Load(ctx, c, limit)
}

func (n *nodes) Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error) {
	return n.next().Older(ctx, c, keys)
}

func (n *nodes) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	return n.next().Commit(ctx, commits)
}

func (n *nodes) Overdue(ctx context.Context, owned func(shard uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error) {
	return n.next().Overdue(ctx, owned, age, limit)
}

func (n *nodes) FireTimers(ctx context.Context, owned func(shard uint16) bool, limit int, horizon time.Duration) ([]parley.Pending, time.Duration, error) {
	return n.next().FireTimers(ctx, owned, limit, horizon)
}

func (n *nodes) Try(ctx context.Context, rows []parley.Row) ([]parley.Row, error) {
	return n.next().Try(ctx, rows)
}

func (n *nodes) Acquit(ctx context.Context, rows []parley.Row) error {
	return n.next().Acquit(ctx, rows)
}

func (n *nodes) Lease(ctx context.Context, ch parley.Channel, holder string, ttl time.Duration, have parley.Lease) (parley.Lease, error) {
	return n.next().Lease(ctx, ch, holder, ttl, have)
}

func (n *nodes) Yield(ctx context.Context, holder string, channels []parley.Channel) error {
	return n.next().Yield(ctx, holder, channels)
}

func (n *nodes) Recall(ctx context.Context, l parley.Lease, open []parley.ID, doubtfulWait time.Duration) (int, error) {
	return n.next().Recall(ctx, l, open, doubtfulWait)
}

func (n *nodes) Claim(ctx context.Context, l parley.Lease, places parley.Places, doubtfulWait, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	return n.next().Claim(ctx, l, places, doubtfulWait, horizon)
}

func (n *nodes) Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	return n.next().Settle(ctx, l, outcomes)
}

func (n *nodes) Fold(ctx context.Context, l parley.Lease, limit int) (parley.Folded, error) {
	return n.next().Fold(ctx, l, limit)
}

func (n *nodes) ClaimCalls(ctx context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error) {
	return n.next().ClaimCalls(ctx, q, horizon)
}

func (n *nodes) SettleCalls(ctx context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error) {
	return n.next().SettleCalls(ctx, outcomes)
}

func (n *nodes) YieldCalls(ctx context.Context, holder string) error {
	return n.next().YieldCalls(ctx, holder)
}

func (n *nodes) History(ctx context.Context, c parley.Conversation, after uint64, limit int) ([][]byte, error) {
	return n.next().History(ctx, c, after, limit)
}

func (n *nodes) Snapshots(ctx context.Context, after parley.Conversation, limit int, each func(parley.Snapshot, error)) error {
	return n.next().Snapshots(ctx, after, limit, each)
}

// Unsent is the store's.
func (n *nodes) Unsent(ctx context.Context, c parley.Conversation, limit int) ([]parley.Outgoing, error) {
	return n.next().Unsent(ctx, c, limit)
}

func (n *nodes) DeadLetters(ctx context.Context, q parley.DeadQuery) ([]parley.DeadLetter, error) {
	return n.next().DeadLetters(ctx, q)
}

func (n *nodes) RetryDeadLetter(ctx context.Context, id parley.ID, reads int) (parley.Retried, error) {
	return n.next().RetryDeadLetter(ctx, id, reads)
}

func (n *nodes) DropDeadLetter(ctx context.Context, id parley.ID) (parley.DeadLetter, error) {
	return n.next().DropDeadLetter(ctx, id)
}

func (n *nodes) Delivery(ctx context.Context, ch parley.Channel, providerID string) (parley.Delivery, bool, error) {
	return n.next().Delivery(ctx, ch, providerID)
}

func (n *nodes) Register(ctx context.Context, r parley.Registration) (bool, error) {
	return n.next().Register(ctx, r)
}

func (n *nodes) Registered(ctx context.Context) ([]parley.Registration, error) {
	return n.next().Registered(ctx)
}

func (n *nodes) Backlog(ctx context.Context) (parley.Backlog, error) {
	return n.next().Backlog(ctx)
}

func (n *nodes) Prune(ctx context.Context, historyFor time.Duration) error {
	return n.next().Prune(ctx, historyFor)
}

func (n *nodes) Ledger(ctx context.Context) (parley.Ledger, error) { return n.next().Ledger(ctx) }

func (n *nodes) OpenBooks(ctx context.Context, as parley.Ledger) error {
	return n.next().OpenBooks(ctx, as)
}

func (n *nodes) CloseBooks(ctx context.Context) error { return n.next().CloseBooks(ctx) }

func (n *nodes) Accepted(ctx context.Context, bucket int64, each func([]parley.Accepted) bool) error {
	return n.next().Accepted(ctx, bucket, each)
}

func (n *nodes) TidyBooks(ctx context.Context, settled []int64, before int64) error {
	return n.next().TidyBooks(ctx, settled, before)
}

func openNodes(t *testing.T, o storetest.Options) storetest.Store { //nolint:ireturn // storetest.Open has it so
	t.Helper()
	n := &nodes{}
	if old, ok := o.Reopen.(*nodes); ok {
		n.url = old.url
	} else {
		n.url = database(t)
	}
	for range 3 {
		n.all = append(n.all, open(t, postgres.Config{URL: n.url, Now: o.Now, Conns: 3}))
	}
	return n
}

// TestExamOfNodes: what nodes do beside each other holds whichever of them is asked.
// (The exam of merges is for one: another needn't know at once what was merged, see
// TestMergeByAnotherNode.)
func TestExamOfNodes(t *testing.T) {
	t.Parallel()
	storetest.Run(t, openNodes, "Quarantine", "Commit", "Timers", "Suspects", "Lease", "Yield", "Claim", "Settle", "Fold", "Hear", "Letters", "Concurrent")
}

// atOnce runs f for three nodes of one database at the same time.
func atOnce(t *testing.T, cfg postgres.Config, f func(k int, s *postgres.Store) error) {
	t.Helper()
	var wg sync.WaitGroup
	for k := range 3 {
		s := open(t, cfg)
		wg.Go(func() {
			if err := f(k, s); err != nil {
				t.Errorf("node %d: %v", k, err)
			}
		})
	}
	wg.Wait()
}

// TestRegisterByNodes: nodes that start together register the same channels. Each
// is news to one of them.
func TestRegisterByNodes(t *testing.T) {
	t.Parallel()
	const channels = 60
	var fresh [channels]atomic.Int32
	atOnce(t, postgres.Config{URL: database(t)}, func(k int, s *postgres.Store) error {
		for i := range channels {
			i = (i*7 + k) % channels
			news, err := s.Register(t.Context(), parley.Registration{App: "app", Channel: channelOf(i)})
			if err != nil {
				return err
			}
			if news {
				fresh[i].Add(1)
			}
		}
		found, err := s.Registered(t.Context())
		if len(found) != channels {
			return fmt.Errorf("%d registrations: %w", len(found), err)
		}
		return err
	})
	for i := range fresh {
		if n := fresh[i].Load(); n != 1 {
			t.Errorf("channel %d was news %d times", i, n)
		}
	}
}

// TestUpkeepByNodes: the upkeep of all nodes makes and drops the same days while
// turns go on. Only the wait for a lock may put it off.
func TestUpkeepByNodes(t *testing.T) {
	t.Parallel()
	const rounds = 6
	url, clock := database(t), newWall()
	c := session(t, url)
	stores := []*postgres.Store{}
	for range 3 {
		stores = append(stores, open(t, postgres.Config{URL: url, Now: clock.now}))
	}
	var wg sync.WaitGroup
	defer wg.Wait()
	for round := range rounds {
		for _, s := range stores {
			quarantine(t, s)
		}
		for k, s := range stores {
			wg.Go(func() {
				if err := s.Prune(t.Context(), 3*aDay); err != nil && !strings.Contains(err.Error(), "lock timeout") {
					t.Errorf("upkeep of node %d, round %d: %v", k, round, err)
				}
			})
		}
		for k, s := range stores {
			if err := takeTurn(t, s, fmt.Sprint(k, "-", round)); err != nil {
				t.Error(err)
			}
		}
		wg.Wait()
		clock.add(2 * aDay)
	}
	for range 2 { // what a lock put off
		prune(t, stores[0])
	}
	if err := stores[1].Ready(t.Context()); err != nil {
		t.Error(err)
	}
	if n := count(t, c, "parley.quarantine"); n != 3*rounds {
		t.Errorf("%d entries are left in the quarantine, want %d", n, 3*rounds)
	}
	if names := tables(t, c, "history"); len(names) != 11 {
		t.Errorf("days of history, 3 of them kept and 8 made: %v", names)
	}
	if names := tables(t, c, "quarantine"); len(names) != 11+5 {
		t.Errorf("days of the quarantine, beside those also the 5 older ones that have entries: %v", names)
	}
}

// TestOverdueByNodes: each node finds what is overdue in its own third of the
// shards, behind a backlog of the others' that is older.
func TestOverdueByNodes(t *testing.T) {
	t.Parallel()
	url, clock := database(t), newWall()
	s := open(t, postgres.Config{URL: url, Now: clock.now})
	const each = 40
	want := [3]map[parley.Conversation]bool{{}, {}, {}}
	for i := 0; len(want[0]) < each || len(want[1]) < each || len(want[2]) < each; i++ {
		e := hello(fmt.Sprint(i))
		c := parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]}
		if third := want[c.Shard()%3]; len(third) < each {
			appended(t, s, e, e)
			third[c] = true
			clock.add(time.Millisecond)
		}
	}
	clock.add(time.Minute)
	const limit = 5 // so few that a look doesn't reach behind the others' rows
	atOnce(t, postgres.Config{URL: url, Now: clock.now}, func(k int, s *postgres.Store) error {
		mine := func(shard uint16) bool { return int(shard%3) == k }
		all, err := s.Overdue(t.Context(), mine, time.Second, 10*each)
		if err != nil || len(all) != each {
			return fmt.Errorf("%d overdue, want %d: %w", len(all), each, err)
		}
		for len(all) > 0 {
			found, err := s.Overdue(t.Context(), mine, time.Second, limit)
			if err != nil || len(found) != limit || found[0] != all[0] {
				return fmt.Errorf("%d overdue, want the oldest %d: %w", len(found), limit, err)
			}
			for _, c := range found {
				if !want[k][c] {
					return fmt.Errorf("%s is of another node", c.Contact)
				}
				errs, err := s.Commit(t.Context(), []parley.Commit{turnOf(t, s, c)})
				if err := errors.Join(append(errs, err)...); err != nil {
					return err
				}
			}
			all = all[limit:]
		}
		return nil
	})
}
