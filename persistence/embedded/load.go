package embedded

import (
	"context"
	"fmt"
	"time"

	"github.com/cockroachdb/pebble/v2"

	"github.com/parleychat/parley"
)

// Load reads a conversation and its first pending rows: see actors.Store. What
// it returns is of one moment.
func (s *Store) Load(ctx context.Context, c parley.Conversation, limit int) (parley.Loaded, error) {
	if err := s.enter(ctx); err != nil {
		return parley.Loaded{}, err
	}
	defer s.leave()
	v := s.view(c, limit)
	loaded, err := v.load(c)
	if cerr := v.db.Close(); err == nil {
		err = cerr
	}
	if err != nil {
		return parley.Loaded{}, fmt.Errorf("load conversation: %w", err)
	}
	return loaded, nil
}

// view is the rows to read and the state of the database that they belong to.
type view struct {
	db    *pebble.Snapshot
	rows  []inboxRow
	homes []parley.Contact // under whose keys the rows are stored; nil if that is the conversation's
	more  bool
}

func (s *Store) view(c parley.Conversation, limit int) (v view) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ch, ok := s.channels[c.Channel]; ok {
		if l := ch.inbox[c.Contact]; l != nil {
			n := min(len(l.rows), max(limit, 0))
			v.rows, v.more = append(v.rows, l.rows[:n]...), n < len(l.rows)
			for i := 0; l.merged != nil && i < n; i++ {
				v.homes = append(v.homes, l.home(l.rows[i].seq))
			}
		}
	}
	v.db = s.db.NewSnapshot()
	return v
}

func (v *view) load(c parley.Conversation) (parley.Loaded, error) {
	loaded := parley.Loaded{Snapshot: parley.Snapshot{Conversation: c}, More: v.more}
	conv := appendConversation(nil, c)
	err := read(v.db, append([]byte{tableConv}, conv...), loaded.Snapshot.UnmarshalBinary)
	if err != nil {
		return parley.Loaded{}, err
	}
	loaded.Pending = make([]parley.Pending, len(v.rows))
	var key []byte
	for i, row := range v.rows {
		p := &loaded.Pending[i]
		p.Conversation, p.Seq = c, row.seq
		if v.homes != nil {
			conv = appendConversation(nil, parley.Conversation{Channel: c.Channel, Contact: v.homes[i]})
		}
		key = inboxKey(key[:0], conv, row.seq)
		err := read(v.db, key, func(row []byte) error { return decodePending(p, row) })
		if err != nil {
			return parley.Loaded{}, err
		}
		if p.Token != row.token {
			return parley.Loaded{}, fmt.Errorf("inbox row %d is not the one that the index knows", row.seq)
		}
	}
	return loaded, nil
}

// read decodes a value, if there is one.
func read(from pebble.Reader, key []byte, decode func([]byte) error) error {
	v, closer, err := from.Get(key)
	if err == pebble.ErrNotFound { //nolint:errorlint // Pebble returns it bare
		return nil
	}
	if err != nil {
		return fmt.Errorf("read table %c: %w", key[0], err)
	}
	err = decode(v)
	if cerr := closer.Close(); err == nil {
		err = cerr
	}
	return err
}

// Older looks keys up that have been moved out of the snapshot: see
// actors.Store. It costs one point lookup for each key and each day since
// parley.SeenFor; filters answer nearly all of them from memory.
func (s *Store) Older(ctx context.Context, c parley.Conversation, keys []parley.EventKey) (map[parley.EventKey]bool, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	s.mu.Lock()
	now := s.now()
	s.mu.Unlock()
	parts, err := s.parts(c)
	if err != nil {
		return nil, fmt.Errorf("look up older keys: %w", err)
	}
	found := map[parley.EventKey]bool{}
	for _, part := range parts {
		if err := s.olderOf(appendConversation(nil, part), keys, now, found); err != nil {
			return nil, fmt.Errorf("look up older keys: %w", err)
		}
	}
	return found, nil
}

// parts is the conversation and those that were merged into it.
func (s *Store) parts(c parley.Conversation) ([]parley.Conversation, error) {
	parts := []parley.Conversation{c}
	if !manyNamed(c) {
		return parts, nil
	}
	var snapshot parley.Snapshot
	err := read(s.db, appendConversation([]byte{tableConv}, c), snapshot.UnmarshalBinary)
	for _, contact := range snapshot.Absorbed {
		parts = append(parts, parley.Conversation{Channel: c.Channel, Contact: contact})
	}
	return parts, err
}

// olderOf looks up those of keys that are not found yet.
func (s *Store) olderOf(conv []byte, keys []parley.EventKey, now int64, found map[parley.EventKey]bool) error {
	since := now - parley.SeenFor.Milliseconds()
	var key []byte
	for _, k := range keys {
		for d := day(now) + 1; d >= day(since) && !found[k]; d-- { // tomorrow too: a turn's time may run ahead of a clock that was set back
			key = seenKey(key[:0], d, conv, k)
			err := read(s.db, key, func(v []byte) error {
				r, err := readRow(tableSeen, v)
				if err != nil {
					return err
				}
				if r.varint() >= since {
					found[k] = true
				}
				return r.end("key seen")
			})
			if err != nil {
				return err
			}
		}
	}
	return nil
}

// Overdue lists conversations with old rows: see actors.Agenda.
func (s *Store) Overdue(ctx context.Context, owned func(uint16) bool, age time.Duration, limit int) ([]parley.Conversation, error) {
	if err := s.enter(ctx); err != nil {
		return nil, err
	}
	defer s.leave()
	s.mu.Lock()
	defer s.mu.Unlock()
	before := s.now() - age.Milliseconds()
	var found []parley.Conversation
	listed := map[*inboxLine]bool{}
	s.arrived.front()
	for i := range s.arrived.queue {
		a := &s.arrived.queue[i]
		if a.row.received >= before || len(found) >= limit {
			break
		}
		if a.gone() || listed[a.line] {
			continue
		}
		listed[a.line] = true
		if owned(a.line.conversation.Shard()) {
			found = append(found, a.line.conversation)
		}
	}
	return found, nil
}
