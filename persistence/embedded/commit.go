package embedded

import (
	"context"
	"encoding/binary"
	"fmt"

	"github.com/parleychat/parley"
)

// Commit takes commits of conversations: see actors.Store. Each is compared
// with what is stored, and then written together with the others that are in
// order; a group is one record of the log and one fsync.
func (s *Store) Commit(ctx context.Context, commits []parley.Commit) ([]error, error) {
	errs := make([]error, len(commits))
	encoded := make([]encodedCommit, len(commits))
	for i := range commits {
		encoded[i], errs[i] = encodeCommit(&commits[i])
	}
	taken, conflicts := 0, 0
	err := s.write(ctx, makesSpace, func(t *txn) error {
		for i := range commits {
			if errs[i] != nil {
				continue
			}
			conflict, err := t.commit(&commits[i], encoded[i])
			switch {
			case conflict:
				conflicts++
				errs[i] = parley.ErrConflict
			case err != nil:
				errs[i] = fmt.Errorf("commit: %w", err)
			default:
				taken++
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("commit: %w", err)
	}
	s.metrics.committed.Add(float64(taken))
	s.metrics.conflicts.Add(float64(conflicts))
	return errs, nil
}

// encodedCommit is what can be made of a commit outside the mutex.
type encodedCommit struct {
	snapshot []byte
	outbox   [][]byte
	calls    [][]byte
}

func encodeCommit(c *parley.Commit) (encodedCommit, error) {
	snapshot, err := c.Next.AppendBinary(make([]byte, 0, 128+len(c.Next.State)+24*len(c.Next.Seen)))
	if err != nil {
		return encodedCommit{}, fmt.Errorf("commit: encode snapshot: %w", err)
	}
	e := encodedCommit{snapshot: snapshot, outbox: make([][]byte, len(c.Outbox))}
	for i := range c.Outbox {
		if e.outbox[i], err = appendOutgoing(nil, &c.Outbox[i]); err != nil {
			return encodedCommit{}, fmt.Errorf("commit: %w", err)
		}
	}
	for i := range c.Calls {
		content, err := c.Calls[i].EncodeContent()
		if err != nil {
			return encodedCommit{}, fmt.Errorf("commit: %w", err)
		}
		e.calls = append(e.calls, content)
	}
	return e, nil
}

func appendOutgoing(b []byte, o *parley.Outgoing) ([]byte, error) {
	send, err := o.EncodeContent()
	if err != nil {
		return nil, err
	}
	format := byte(rowFormat)
	if o.Send.Bulk {
		format = bulkFormat
	}
	return appendBytes(appendTime(append(b, format), o.At), send), nil
}

// decodeOutgoing reads into o all but its key: id, conversation and ordinal.
func decodeOutgoing(o *parley.Outgoing, value []byte) error {
	r, err := readRow(tableOutbox, value)
	if err != nil {
		return err
	}
	o.At = r.time()
	send := r.raw()
	if err := r.end("message"); err != nil {
		return err
	}
	return o.DecodeContent(send)
}

// commit takes one commit, if nothing came between: neither another turn nor
// another row. All that may fail comes before the first write.
func (t *txn) commit(c *parley.Commit, e encodedCommit) (conflict bool, err error) {
	ch := t.channel(c.Conversation.Channel)
	t.conv = ch.conversation(t.conv[:0], c.Conversation.Contact)
	stored, err := t.version(c.Conversation)
	if err != nil {
		return false, err
	}
	line := ch.inbox[c.Conversation.Contact]
	if stored != c.Base || !saw(line, c) {
		return true, nil
	}
	live, err := t.inDueList(c.CancelTimers)
	if err != nil {
		return false, err
	}
	t.take(ch, line, c, e)
	t.counts.timers += len(c.SetTimers) - live
	return false, nil
}

// inDueList counts the timers that are in the due list.
func (t *txn) inDueList(timers []parley.Timer) (int, error) {
	n := 0
	for _, timer := range timers {
		t.key = timerKey(t.key[:0], toMS(timer.Due), timer.ID)
		v, err := t.get(t.key)
		if err != nil {
			return 0, err
		}
		if v != nil {
			n++
		}
	}
	return n, nil
}

// saw reports whether the turn saw just the rows that it would consume: all up
// to Through, each with its token. A row that came in below Through since, or
// one that has another token, is another inbox than the turn's.
func saw(line *inboxLine, c *parley.Commit) bool {
	n := line.through(c.Through)
	if n != len(c.Saw) {
		return false
	}
	for i, row := range c.Saw {
		if line.rows[i].seq != row.Seq || line.rows[i].token != row.Token {
			return false
		}
	}
	return true
}

// version is the stored version of the conversation whose stored form t.conv is.
func (t *txn) version(c parley.Conversation) (parley.Version, error) {
	if v, ok := t.versions.get(c); ok {
		return v, nil
	}
	t.key = append(append(t.key[:0], tableConv), t.conv...)
	value, err := t.get(t.key)
	if err != nil {
		return parley.Version{}, err
	}
	var stored parley.Snapshot
	if value != nil {
		if err := stored.UnmarshalBinary(value); err != nil {
			return parley.Version{}, err
		}
	}
	t.versions.put(cloneConversation(c), stored.Version)
	return stored.Version, nil
}

// take writes a commit; t.conv is its conversation's stored form.
func (t *txn) take(ch *channel, line *inboxLine, c *parley.Commit, e encodedCommit) {
	for _, row := range c.Saw {
		conv := t.conv
		if line.merged != nil {
			conv = ch.conversation(nil, line.home(row.Seq))
		}
		t.key = inboxKey(t.key[:0], conv, row.Seq)
		t.delOnce(t.key)
	}
	if line != nil {
		t.consume(ch, line, len(c.Saw))
	}
	t.key = append(append(t.key[:0], tableConv), t.conv...)
	t.set(t.key, e.snapshot)
	t.versions.put(ch.own(c.Conversation.Contact), c.Next.Version)
	if len(c.History) > 0 {
		t.key = historyKey(t.key[:0], day(t.now), t.conv, c.Next.Version.Number)
		t.val = append(append(t.val[:0], rowFormat), c.History...)
		t.set(t.key, t.val)
	}
	for _, k := range c.Evicted {
		t.key = seenKey(t.key[:0], day(toMS(k.At)), t.conv, k.Key)
		t.set(t.key, appendTime([]byte{rowFormat}, k.At))
	}
	t.takeTimers(c)
	for i := range c.Outbox {
		t.key = outboxKey(t.key[:0], t.conv, c.Outbox[i].Ordinal, c.Outbox[i].ID)
		t.set(t.key, e.outbox[i])
		t.addUnsent(ch, c.Conversation.Contact, &c.Outbox[i], e.outbox[i])
	}
	t.silence(ch, c)
	t.takeCalls(c, e.calls)
	for i := range c.Dead {
		t.bury(&c.Dead[i])
	}
	t.post(c.Postings...)
}

// own is the conversation in the copies of its names that are already kept.
func (ch *channel) own(c parley.Contact) parley.Conversation {
	return parley.Conversation{Channel: ch.name, Contact: parley.Contact([]byte(c))}
}

func (t *txn) takeTimers(c *parley.Commit) {
	for _, timer := range c.CancelTimers {
		due := toMS(timer.Due)
		t.dueGone = t.dueGone || due <= t.nextDue
		t.key = timerKey(t.key[:0], due, timer.ID)
		t.del(t.key)
	}
	for _, timer := range c.SetTimers {
		due := toMS(timer.Due)
		t.nextDue = min(t.nextDue, due)
		t.key = timerKey(t.key[:0], due, timer.ID)
		t.val = appendName(appendBytes(append(t.val[:0], rowFormat), t.conv), timer.Name)
		t.val = binary.AppendUvarint(t.val, timer.Generation)
		t.set(t.key, t.val)
	}
}

func (t *txn) bury(d *parley.DeadLetter) {
	t.counts.dead++
	t.key = deadKey(t.key[:0], d.Conversation.Channel.Brand, d.ID)
	t.val = appendDead(t.val[:0], d)
	t.set(t.key, t.val)
}
