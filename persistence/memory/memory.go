// Package memory keeps everything in maps and slices behind one mutex. It is
// for the simulator and for tests, and it is the model that other stores are
// compared with: each method is written to be read beside the promise it keeps.
//
// It starts no goroutine, and given the same calls, clock and random source it
// gives the same answers. Nothing outlives Close. It takes time in proportion to
// what it holds.
//
// The package imports the root package only.
package memory

import (
	"cmp"
	"context"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"sync"
	"time"

	"github.com/parleychat/parley"
)

// ErrClosed is the answer of a store that has been closed.
var ErrClosed = errors.New("store is closed")

// Config says where a store takes the time and its tokens from.
type Config struct {
	// Now is the store's clock; nil is time.Now.
	Now func() time.Time
	// Random is where tokens and ids come from; nil is crypto/rand.
	Random io.Reader
}

// Store keeps conversations until it is closed. It is safe for concurrent use.
type Store struct {
	cfg Config

	mu       sync.Mutex
	closed   bool
	last     time.Time // handed out last
	at       time.Time // of the call under way; zero: it hasn't asked yet
	seq      uint64
	inbox    []parley.Pending // by number, and so by time
	aliases  map[parley.Conversation]parley.Contact
	births   map[parley.Conversation]uint64              // numbers them as they became known
	merged   map[parley.Conversation]parley.Conversation // where each went that was merged
	stored   map[parley.Conversation]*conversation
	agenda   []due
	suspects map[parley.Row]time.Time // when each was noted
	outbox   []*message               // in the order in which they were written
	calls    []*call
	channels map[parley.Channel]*channel
	dead     []parley.DeadLetter
	quar     []parley.Quarantined
	apps     []parley.Registration
	books    books
}

// conversation is what a conversation's commits have left.
type conversation struct {
	snapshot []byte // encoded: what is read is never what was written, but a copy
	version  parley.Version
	history  []record
	older    map[parley.EventKey]time.Time
}

type record struct {
	version uint64
	at      time.Time
	json    []byte
}

type due struct {
	parley.Timer
	conversation parley.Conversation
}

// channel is a channel's lease, receipts and deliveries.
type channel struct {
	lease      parley.Lease
	expiry     time.Time
	receipts   []parley.Receipt
	deliveries map[string]*delivery
	watermarks []watermark
}

// New makes an empty store.
func New(cfg Config) *Store {
	if cfg.Now == nil {
		cfg.Now = time.Now //nolint:forbidigo // the clock of the store is its own unless the caller brings one
	}
	if cfg.Random == nil {
		cfg.Random = rand.Reader
	}
	return &Store{
		books: books{
			opened: millis(cfg.Now()), posted: map[parley.PostingKey]parley.Posting{}, accepted: map[int64][]parley.Accepted{},
		},
		cfg: cfg, aliases: map[parley.Conversation]parley.Contact{}, births: map[parley.Conversation]uint64{},
		merged: map[parley.Conversation]parley.Conversation{},
		stored: map[parley.Conversation]*conversation{}, channels: map[parley.Channel]*channel{},
		suspects: map[parley.Row]time.Time{},
	}
}

// begin locks the store for one call; end unlocks it.
func (s *Store) begin(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		return ErrClosed
	}
	s.at = time.Time{}
	return nil
}

func (s *Store) end() { s.mu.Unlock() }

// Close forgets nothing yet answers ErrClosed from now on.
func (s *Store) Close() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.closed = true
	return nil
}

// now is the store's clock, in ms, which never goes back, and stands still in a call.
func (s *Store) now() time.Time {
	if !s.at.IsZero() {
		return s.at
	}
	if t := millis(s.cfg.Now()); t.After(s.last) {
		s.last = t
	}
	s.at = s.last
	return s.last
}

// millis is t as stores keep it: UTC, in whole ms.
func millis(t time.Time) time.Time {
	if t.IsZero() {
		return time.Time{}
	}
	return time.UnixMilli(t.UnixMilli()).UTC()
}

func (s *Store) token() (parley.Token, error) {
	var b [8]byte
	if _, err := io.ReadFull(s.cfg.Random, b[:]); err != nil {
		return 0, fmt.Errorf("draw a token: %w", err)
	}
	return parley.Token(binary.BigEndian.Uint64(b[:])), nil
}

func (s *Store) channel(name parley.Channel) *channel {
	ch, ok := s.channels[name]
	if !ok {
		ch = &channel{deliveries: map[string]*delivery{}}
		s.channels[name] = ch
	}
	return ch
}

func (s *Store) conversation(c parley.Conversation) *conversation {
	st, ok := s.stored[c]
	if !ok {
		st = &conversation{older: map[parley.EventKey]time.Time{}}
		s.stored[c] = st
	}
	return st
}

// Append is ingress.Inbox's.
func (s *Store) Append(ctx context.Context, a parley.Arrivals) ([]parley.Pending, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	rows, err := s.arrive(a)
	if err != nil {
		return nil, fmt.Errorf("append to inbox: %w", err)
	}
	return rows, nil
}

func (s *Store) arrive(a parley.Arrivals) ([]parley.Pending, error) {
	rows, err := s.prepare(a.Events)
	if err != nil {
		return nil, err
	}
	quarantined, err := s.prepareQuarantine(a.Quarantined)
	if err != nil {
		return nil, err
	}
	for i := range rows {
		if rows[i].Conversation, err = s.resolve(&a.Events[i]); err != nil {
			return nil, err
		}
	}
	for i := range rows {
		rows[i].Conversation = s.final(rows[i].Conversation) // a later event may have told more
		s.enqueue(&rows[i])
	}
	s.quar = append(s.quar, quarantined...)
	for _, r := range a.Receipts {
		ch := s.channel(r.Channel)
		r.Watermark, r.Time = millis(r.Watermark), millis(r.Time)
		ch.receipts = append(ch.receipts, r)
	}
	s.accept(&a, rows)
	return rows, nil
}

// prepare does all that may fail.
func (s *Store) prepare(events []parley.Event) ([]parley.Pending, error) {
	rows := make([]parley.Pending, len(events))
	for i, e := range events {
		if len(e.Contacts) == 0 || len(e.Contacts) > parley.MaxContacts || slices.Contains(e.Contacts, "") {
			return nil, errors.New("event has no contact, an empty one, or too many")
		}
		data, err := parley.EncodeInput(e.Input)
		if err != nil {
			return nil, err
		}
		token, err := s.token()
		if err != nil {
			return nil, err
		}
		rows[i] = parley.Pending{
			Row: parley.Row{Token: token}, Conversation: parley.Conversation{Channel: e.Channel},
			Key: e.Key, Time: millis(e.Time), Late: e.Late, Input: e.Input, Data: data,
		}
	}
	return rows, nil
}

func (s *Store) enqueue(p *parley.Pending) {
	s.seq++
	p.Seq, p.Received = parley.Seq(s.seq), s.now()
	s.inbox = append(s.inbox, *p)
}

func (s *Store) prepareQuarantine(entries []parley.Quarantined) ([]parley.Quarantined, error) {
	out := slices.Clone(entries)
	for i := range out {
		id, err := s.laterID()
		if err != nil {
			return nil, err
		}
		out[i].ID, out[i].Received, out[i].Body = id, s.now(), slices.Clone(out[i].Body)
	}
	return out, nil
}

// laterID makes an id that is larger than all before it: numbers stand where
// the time's random rest begins.
func (s *Store) laterID() (parley.ID, error) {
	var random [16]byte
	if _, err := io.ReadFull(s.cfg.Random, random[10:]); err != nil {
		return parley.ID{}, fmt.Errorf("draw an id: %w", err)
	}
	s.seq++
	random[6], random[7], random[8], random[9] = byte(s.seq>>22), byte(s.seq>>14), byte(s.seq>>8), byte(s.seq)
	return parley.NewID(s.now(), random), nil
}

// Quarantined is ingress.Quarantine's.
func (s *Store) Quarantined(ctx context.Context, app parley.App, ch parley.Channel, after parley.ID, limit int) ([]parley.Quarantined, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	var found []parley.Quarantined
	for _, q := range s.quar {
		if q.App == app && q.Kind == ch.Kind && q.ChannelID == ch.ID && compareIDs(q.ID, after) > 0 && len(found) < limit {
			found = append(found, q)
		}
	}
	return found, nil
}

func compareIDs(a, b parley.ID) int { return slices.Compare(a[:], b[:]) }

// Release is ingress.Quarantine's.
func (s *Store) Release(ctx context.Context, ids []parley.ID, a parley.Arrivals) ([]parley.Pending, error) {
	if err := s.begin(ctx); err != nil {
		return nil, err
	}
	defer s.end()
	there := func(id parley.ID) bool {
		return slices.ContainsFunc(s.quar, func(q parley.Quarantined) bool { return q.ID == id })
	}
	if !a.Empty() && slices.ContainsFunc(ids, func(id parley.ID) bool { return !there(id) }) {
		return nil, fmt.Errorf("release from quarantine: %w", parley.ErrConflict)
	}
	rows, err := s.arrive(a)
	if err != nil {
		return nil, fmt.Errorf("release from quarantine: %w", err)
	}
	s.quar = slices.DeleteFunc(s.quar, func(q parley.Quarantined) bool {
		gone := slices.Contains(ids, q.ID)
		if gone {
			s.post(parley.PostRelease(q.Received))
		}
		return gone
	})
	return rows, nil
}

// byDue orders timers as they are due; ids decide between equals.
func byDue(a, b due) int {
	return cmp.Or(a.Due.Compare(b.Due), compareIDs(a.ID, b.ID))
}
