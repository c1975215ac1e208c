package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

const lockContactsSQL = `
select alias, canonical, born from parley.contact where alias = any($1::bytea[]) order by alias for update`

// waitShortlySQL: nobody of ours has the row of a conversation for so long but one
// that is frozen, or whose disk is slow.
const waitShortlySQL = `select set_config('lock_timeout', '250', true)`

const lockSnapshotsSQL = `
select conv, snapshot from parley.conversation where conv = any($1::bytea[]) order by conv for update`

const noteMergedSQL = `
insert into parley.merged (survivor, younger, shard)
select $1::bytea, $2::bytea, $3::smallint
union all
select $1::bytea, m.younger, m.shard from parley.merged m where m.survivor = $2::bytea
on conflict do nothing`

const renameContactsSQL = `update parley.contact set canonical = $1 where canonical = $2`

var errMergeLost = errors.New("a conversation moved while it was locked")

// merging is two conversations on their way to become one.
type merging struct {
	store         *Store
	channel       parley.Channel
	keys          [][]byte
	now           int64
	ages          map[string]int64
	gone          bool // one of them has been merged already
	full          bool // they may not be merged
	older, former parley.Snapshot
	taken         []bool
}

// merge makes one conversation of two, in one transaction: see parley.Merge. The
// one that was known first survives. It reports whether something has changed,
// by this call or by another's before it.
//
// What is locked by somebody is not waited for, since other events wait behind the
// one that asks for the merge: the two stay apart until the next one that does.
//
// Pending rows stay where they are: whoever appends at the same moment may have
// looked the contact up before. The survivor's loads and commits cover them.
func (s *Store) merge(ctx context.Context, ch parley.Channel, a, b string) (changed bool, err error) {
	m := &merging{store: s, channel: ch, keys: [][]byte{[]byte(a), []byte(b)}, ages: map[string]int64{}}
	err = s.transact(ctx, s.entrance, m.lockContacts, m.lockSnapshots, m.write, m.check)
	switch {
	case m.gone:
		s.aliases.forget() // what it says is what misled us
		return true, nil
	case m.full, isLocked(err), errors.Is(err, parley.ErrFormat): // or one was stored by a newer program, which may merge it
		return false, nil
	case err != nil:
		return false, err
	}
	s.aliases.forget()
	s.metrics.merged.Inc()
	return true, nil
}

// lockContacts also makes both known. They are, but for those that a fail-over has
// lost while a node remembers them.
func (m *merging) lockContacts(b *batch) error {
	slices.SortFunc(m.keys, bytes.Compare)
	b.exec(makeKnownSQL, m.keys, m.keys)
	b.row([]any{&m.now}, readClockSQL, m.store.now())
	b.rows(func(r pgx.Rows) error {
		var alias, canonical []byte
		var born int64
		err := r.Scan(&alias, &canonical, &born)
		if bytes.Equal(alias, canonical) {
			m.ages[string(alias)] = born
		}
		return err
	}, lockContactsSQL, m.keys)
	return nil
}

var errNothingToMerge = errors.New("nothing to merge")

func (m *merging) lockSnapshots(b *batch) error {
	one, two := string(m.keys[0]), string(m.keys[1])
	if len(m.ages) != 2 {
		m.gone = true
		return errNothingToMerge
	}
	if m.ages[two] < m.ages[one] {
		one, two = two, one
	}
	var err, err2 error
	m.older.Conversation, err = parseKey([]byte(one))
	m.former.Conversation, err2 = parseKey([]byte(two))
	if err := errors.Join(err, err2); err != nil {
		return err
	}
	keys := [][]byte{[]byte(min(one, two)), []byte(max(one, two))}
	b.exec(waitShortlySQL)
	b.exec(insertConversationsSQL, keys)
	b.rows(func(r pgx.Rows) error {
		var key, snapshot []byte
		if err := r.Scan(&key, &snapshot); err != nil {
			return err
		}
		if string(key) == one {
			return unpackSnapshot(&m.older, snapshot)
		}
		return unpackSnapshot(&m.former, snapshot)
	}, lockSnapshotsSQL, keys)
	return nil
}

func (m *merging) write(b *batch) error {
	if m.older.MergedInto != "" || m.former.MergedInto != "" {
		m.gone = true
		return errNothingToMerge
	}
	if !parley.MayMerge(&m.older, &m.former) {
		m.full = true
		return errNothingToMerge
	}
	into, from := parley.Merge(m.older, m.former, fromMS(m.now), nonce())
	g := &group{}
	commits := []parley.Commit{into, from}
	for _, i := range inOrder(commits) {
		g.add(i, &commits[i])
	}
	m.taken = make([]bool, len(g.of))
	g.queue(b, m.store.now(), m.taken)
	survivor, younger := conversationKey(into.Conversation), conversationKey(from.Conversation)
	b.exec(noteMergedSQL, survivor, younger, int16(from.Conversation.Shard()))
	b.exec(renameContactsSQL, survivor, younger)
	return nil
}

// check makes sure that both commits were taken before the transaction is.
func (m *merging) check(*batch) error {
	for _, ok := range m.taken {
		if !ok {
			return errMergeLost
		}
	}
	return nil
}
