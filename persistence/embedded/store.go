package embedded

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"math"
	"os"
	"sync"
	"sync/atomic"
	"time"

	"github.com/cockroachdb/pebble/v2"
	"github.com/cockroachdb/pebble/v2/vfs"
	"github.com/prometheus/client_golang/prometheus"

	"github.com/parleychat/parley"
)

// The defaults of Config and the limits that are not in it.
const (
	DefaultReserveBytes     = 256 << 20
	DefaultCacheBytes       = 64 << 20 // Pebble's blocks
	DefaultOutboxCacheBytes = 32 << 20
	DefaultMemTableBytes    = 64 << 20

	// ExitBroken is the status with which a process ends whose store can't go on
	// (EX_IOERR of sysexits.h).
	ExitBroken = 74

	memTables        = 3       // at most: one being written, the others waiting for their flush
	versionCacheSize = 1 << 17 // conversations
	aliasCacheSize   = 1 << 16 // contact keys
	reserveNumbers   = 1 << 16 // numbers reserved at a time; the rest of a block is lost at a restart
	clockNoteMS      = 1000    // how often the clock is noted

	// DefaultSyncEvery is short beside what a person notices, and long beside an
	// fsync, which costs 0.1 to 0.2 ms of CPU whatever it is for.
	DefaultSyncEvery = 2 * time.Millisecond
)

// ErrClosed is the answer of a store that has been closed.
var ErrClosed = errors.New("store is closed")

// Config says where and how a store keeps its data. Only Dir is needed.
type Config struct {
	Dir string
	// Existing refuses a directory that isn't a store, instead of making one there.
	Existing bool
	// FS is the file system that Dir is in; nil is the machine's.
	FS vfs.FS
	// Now is the store's clock; nil is time.Now. It may be set back: the times
	// that the store gives never go back while it is open, and at most a second
	// behind the last when it is opened again.
	Now    func() time.Time
	Logger *slog.Logger // nil logs nothing
	// ReserveBytes is how much of the disk is kept free: below it new events are
	// refused, below half of it everything is.
	ReserveBytes uint64
	// Free tells the bytes that are free for Dir; nil asks FS.
	Free func() (uint64, error)
	// Random is where tokens and ids come from; nil is crypto/rand.
	Random io.Reader
	// Registerer takes the store's metrics; nil keeps them to itself.
	Registerer prometheus.Registerer
	// CacheBytes bounds the memory for blocks of files, OutboxCacheBytes that for
	// the contents of unsent messages, MemTableBytes each of Pebble's tables in
	// memory (there are at most three).
	CacheBytes       int64
	OutboxCacheBytes int
	MemTableBytes    uint64
	// SyncEvery is the least time between two fsyncs: what comes in between shares
	// the next. After a pause the first is not delayed. While much is written, Claim and
	// Settle wait up to three times as long for the fsync of somebody else. Negative: no
	// least time, and nobody waits.
	SyncEvery time.Duration
	// Fatal is called once, with the reason, when the store can't go on: the
	// write-ahead log or the manifest could not be written. nil logs the reason
	// and ends the process with status ExitBroken. It should not return: if it
	// does, every later call of the store fails with that reason.
	Fatal func(error)
}

func (c Config) withDefaults() Config {
	if c.FS == nil {
		c.FS = vfs.Default
	}
	if c.Now == nil {
		c.Now = time.Now //nolint:forbidigo // the clock of the store is its own unless the caller brings one
	}
	if c.Logger == nil {
		c.Logger = slog.New(slog.DiscardHandler)
	}
	if c.Random == nil {
		c.Random = rand.Reader
	}
	if c.Free == nil {
		c.Free = freeOf(c.FS, c.Dir)
	}
	if c.Fatal == nil {
		logger := c.Logger
		c.Fatal = func(err error) {
			logger.Error("store can't go on; the process ends, and finds what was acknowledged at its next start", "error", err)
			os.Exit(ExitBroken)
		}
	}
	c.SyncEvery = max(orDefault(c.SyncEvery, DefaultSyncEvery), 0)
	c.ReserveBytes = orDefault(c.ReserveBytes, DefaultReserveBytes)
	c.CacheBytes = orDefault(c.CacheBytes, DefaultCacheBytes)
	c.OutboxCacheBytes = orDefault(c.OutboxCacheBytes, DefaultOutboxCacheBytes)
	c.MemTableBytes = orDefault(c.MemTableBytes, DefaultMemTableBytes)
	return c
}

func orDefault[T ~int | ~int64 | ~uint64](v, def T) T {
	if v == 0 {
		return def
	}
	return v
}

// Store keeps conversations in one directory. It is safe for concurrent use.
type Store struct {
	cfg     Config
	db      *pebble.DB
	lock    *pebble.Lock
	metrics metrics

	calls  sync.WaitGroup        // under way; Close waits for them
	doomed atomic.Pointer[error] // set once, when the store can't go on

	checkpoint sync.Mutex // one at a time

	mu      sync.Mutex // orders all writes; guards everything below
	broken  error      // doomed or closed; answers every call
	tx      txn        // the scratch of the write under way
	sharing sharing
	room    room
	clock   clock
	opened  time.Time
	notedMS int64  // latest time noted on disk
	next    uint64 // number to be handed out next
	limit   uint64 // numbers below are reserved on disk
	lastID  monotonic

	channels map[parley.Channel]*channel
	arrived  arrivals
	versions cache[parley.Conversation, parley.Version]
	aliases  cache[parley.Conversation, parley.Contact]
	early    early
	contents int   // bytes of unsent messages that are in memory
	nextDue  int64 // no timer is due before this
	dueGone  bool  // the timer of nextDue may have been cancelled
	calling  calls
	counts   counts
	books    books
}

// counts is what Backlog tells and the indexes don't.
type counts struct{ unsent, timers, receipts, quarantined, dead int }

// never is the due time of no timer.
const never = math.MaxInt64

// channel is what is in memory of a channel.
type channel struct {
	name  parley.Channel
	key   []byte // its stored form
	inbox map[parley.Contact]*inboxLine
	outbox
	receipts     int
	firstReceipt uint64 // no receipt has a smaller number
}

// channel returns what is in memory of a channel; the names are copied, since
// the caller's may be part of a webhook's body.
func (s *Store) channel(name parley.Channel) *channel {
	ch, ok := s.channels[name]
	if !ok {
		key := appendChannel(nil, name)
		own := (&reader{b: key}).channel()
		ch = &channel{name: own, key: key, inbox: map[parley.Contact]*inboxLine{}, outbox: newOutbox()}
		s.channels[own] = ch
	}
	return ch
}

// conversation appends the stored form of the channel's conversation with c.
func (ch *channel) conversation(b []byte, c parley.Contact) []byte {
	return appendName(append(b, ch.key...), c)
}

// enter begins a call; leave ends it.
func (s *Store) enter(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.doomed.Load(); p != nil && s.broken == nil {
		s.broken = *p
	}
	if s.broken != nil {
		return s.broken
	}
	s.calls.Add(1)
	return nil
}

func (s *Store) leave() { s.calls.Done() }

// Close waits for the calls under way and closes the store; later calls answer
// ErrClosed. A store that is broken lets go of its lock and nothing else.
func (s *Store) Close() error {
	s.mu.Lock()
	was := s.broken
	s.broken = ErrClosed
	s.mu.Unlock()
	if errors.Is(was, ErrClosed) {
		return nil
	}
	s.calls.Wait()
	s.metrics.unregister()
	if p := s.doomed.Load(); p != nil && was == nil {
		was = *p
	}
	if was != nil {
		return errors.Join(was, s.lock.Close())
	}
	if err := errors.Join(s.db.Close(), s.lock.Close()); err != nil {
		return fmt.Errorf("close store: %w", err)
	}
	return nil
}

// fail breaks the store: what is on the disk can't be known any more.
func (s *Store) fail(err error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.failLocked(err)
}

func (s *Store) failLocked(err error) error {
	err = s.doom(err)
	if s.broken == nil { // else it is being closed
		s.broken = err
	}
	return err
}

// doom says that the store can't go on, once.
func (s *Store) doom(err error) error {
	err = fmt.Errorf("store is broken until the process starts anew: %w", err)
	if s.doomed.CompareAndSwap(nil, &err) {
		s.cfg.Fatal(err)
	}
	return *s.doomed.Load()
}

// now is the store's time in ms.
func (s *Store) now() int64 {
	t := s.cfg.Now()
	return s.clock.read(t.UnixMilli(), t.Sub(s.opened))
}
