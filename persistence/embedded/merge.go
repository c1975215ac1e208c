package embedded

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"

	"github.com/parleychat/parley"
)

// writeArrivals writes a group of events. If the keys of one of them mean
// several conversations, nothing is written at first: these are merged, each
// pair in a group of its own, and the events are written then. That is a rare
// case and may take several fsyncs; in between, and for good if there is a
// crash, there are merged conversations and events that were not acknowledged.
func (s *Store) writeArrivals(ctx context.Context, kind writeKind, events []parley.Event, build func(t *txn, united bool) error) error {
	err := s.write(ctx, kind, func(t *txn) error { return build(t, false) })
	if !errors.Is(err, errApart) {
		return err
	}
	for i := range events {
		if err := s.unite(ctx, kind, &events[i]); err != nil {
			return err
		}
	}
	return s.write(ctx, kind, func(t *txn) error { return build(t, true) })
}

// unite merges what an event's keys mean, as far as may be. All of its keys are
// known afterwards, so that none of the group's events can bring up two
// conversations again.
func (s *Store) unite(ctx context.Context, kind writeKind, e *parley.Event) error {
	if len(e.Contacts) < 2 || len(e.Contacts) > parley.MaxContacts {
		return nil
	}
	for more := manyNamed(parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]}); more; {
		err := s.write(ctx, kind, func(t *txn) (err error) {
			more, err = t.unite(e)
			return err
		})
		if err != nil {
			return fmt.Errorf("merge conversations: %w", err)
		}
	}
	return nil
}

// unite makes all keys of an event known and merges two of the conversations
// that they mean. False: there was nothing to merge.
func (t *txn) unite(e *parley.Event) (bool, error) {
	var known [parley.MaxContacts]bool
	var meant []parley.Contact
	for i, k := range e.Contacts {
		canonical, ok, err := t.canonical(parley.Conversation{Channel: e.Channel, Contact: k})
		if err != nil {
			return false, err
		}
		if known[i] = ok; ok && !slices.Contains(meant, canonical) {
			meant = append(meant, canonical)
		}
	}
	m, err := t.planMerge(e.Channel, meant)
	if err != nil {
		return false, err
	}
	if len(meant) == 0 {
		meant = e.Contacts[:1]
	}
	t.makeKnown(e, known, meant[0])
	if m != nil {
		t.merge(m)
	}
	return m != nil, nil
}

// merge is a merge of two conversations, with all that had to be read for it.
type merge struct {
	ch         *channel
	into, from parley.Commit
	encoded    [2]encodedCommit // of into and from
	cancelled  int              // timers that are still in the due list
}

// planMerge merges the oldest of the conversations with the next that may be
// merged with it; nil if there is none.
func (t *txn) planMerge(name parley.Channel, meant []parley.Contact) (*merge, error) {
	if len(meant) < 2 {
		return nil, nil //nolint:nilnil // there is nothing to merge, and nothing wrong
	}
	births := make(map[parley.Contact]uint64, len(meant))
	for _, c := range meant {
		row, err := t.aliasRow(parley.Conversation{Channel: name, Contact: c})
		if err != nil {
			return nil, err
		}
		births[c] = row.birth
	}
	byBirth := slices.Clone(meant)
	slices.SortStableFunc(byBirth, func(a, b parley.Contact) int { return cmp.Compare(births[a], births[b]) })
	for _, younger := range byBirth[1:] {
		if m, err := t.pair(t.channel(name), byBirth[0], younger); m != nil || err != nil {
			return m, err
		}
	}
	return nil, nil //nolint:nilnil // none may be merged
}

// pair plans the merge of two; nil if they may not be merged: one has absorbed
// too many, or was stored by a newer program.
func (t *txn) pair(ch *channel, survivor, younger parley.Contact) (*merge, error) {
	a, err := t.snapshotOf(ch.own(survivor))
	var b parley.Snapshot
	if err == nil {
		b, err = t.snapshotOf(ch.own(younger))
	}
	if errors.Is(err, parley.ErrFormat) || err == nil && !parley.MayMerge(&a, &b) {
		return nil, nil //nolint:nilnil // they stay apart
	}
	if err != nil {
		return nil, err
	}
	random, err := t.random(16)
	if err != nil {
		return nil, err
	}
	m := &merge{ch: ch}
	m.into, m.from = parley.Merge(a, b, fromMS(t.now), [16]byte(random))
	for i, c := range []*parley.Commit{&m.into, &m.from} {
		n, err := t.inDueList(c.CancelTimers)
		if err != nil {
			return nil, err
		}
		m.cancelled += n
		if m.encoded[i], err = encodeCommit(c); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// merge writes a merge. The younger's rows and messages stay under its own keys;
// in the indexes its rows come to stand in the survivor's line, and its messages
// before the survivor's.
func (t *txn) merge(m *merge) {
	for i, c := range []*parley.Commit{&m.into, &m.from} {
		t.conv = m.ch.conversation(t.conv[:0], c.Conversation.Contact)
		t.take(m.ch, nil, c, m.encoded[i])
		t.counts.timers += len(c.SetTimers)
	}
	t.counts.timers -= m.cancelled
	survivor, younger := m.into.Conversation, m.from.Conversation
	t.setAlias(younger, aliasRow{canonical: survivor.Contact})
	t.aliases.put(younger, survivor.Contact)
	m.ch.join(survivor.Contact, younger.Contact)
	m.ch.goesBefore(younger.Contact, survivor.Contact)
	t.metrics.merged.Inc()
}

// join moves the younger's rows to the survivor's line.
func (ch *channel) join(survivor, younger parley.Contact) {
	gone, ok := ch.inbox[younger]
	if !ok {
		return
	}
	l := ch.line(survivor)
	for _, row := range gone.rows {
		l.stray(row.seq, gone.home(row.seq))
	}
	l.rows = append(l.rows, gone.rows...)
	l.sort()
	gone.rows, gone.merged = nil, &mergedLine{into: l}
	delete(ch.inbox, younger)
}
