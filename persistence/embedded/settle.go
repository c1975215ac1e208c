package embedded

import (
	"context"
	"encoding/binary"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// ending is an outcome with all that had to be read for it.
type ending struct {
	outcome  *parley.Outcome
	line     *line
	message  parley.Outgoing // if refused or returned
	delivery delivery        // if sent
	failed   bool            // it has failed, and its conversation is to hear of it
	failure  parley.Pending
}

// Settle notes how attempts ended: see egress.Outbox. A delivery that receipts
// have told of before gets to know its message here.
func (s *Store) Settle(ctx context.Context, l parley.Lease, outcomes []parley.Outcome) error {
	err := s.write(ctx, canWait, func(t *txn) error {
		ch := t.channel(l.Channel)
		if !ch.holds(l) {
			return parley.ErrFenced
		}
		endings := make([]ending, 0, len(outcomes))
		for i := range outcomes {
			e, ok, err := t.ending(ch, &outcomes[i])
			if err != nil {
				return err
			}
			if ok {
				endings = append(endings, e)
			}
		}
		for i := range endings {
			t.settle(ch, &endings[i])
		}
		return nil
	})
	if err != nil {
		return fmt.Errorf("settle: %w", err)
	}
	return nil
}

// ending reads what an outcome needs. Not ok: its message isn't claimed in the
// current epoch.
func (t *txn) ending(ch *channel, o *parley.Outcome) (ending, bool, error) {
	e := ending{outcome: o, line: ch.attempted[o.ID]}
	if e.line == nil || e.line.state != lineClaimed || e.line.mark.epoch != ch.lease.epoch {
		return e, false, nil
	}
	var err error
	switch o.Kind {
	case parley.Refused:
		e.message, err = t.content(ch, e.line)
	case parley.Sent:
		err = t.endSent(ch, &e)
	case parley.Returned:
		err = t.endReturned(ch, &e)
	case parley.Retry, parley.Doubt:
	default:
		err = fmt.Errorf("outcome of kind %d: no such kind", o.Kind)
	}
	return e, err == nil, err
}

// accept joins the provider's acceptance of a line's head into what receipts
// have said before.
func (d *delivery) accept(l *line, now int64) {
	d.id, d.contact, d.sent = l.queue[0].id, l.contact, l.mark.at
	if joined := parley.StatusSent.Join(d.status); joined != d.status {
		d.status, d.at = joined, now
	}
}

// failureOfOurs reports whether it failed and is known to be ours: then the
// conversation must hear of it.
func (d *delivery) failureOfOurs() bool {
	return d.status == parley.StatusFailed && !d.id.IsZero() && d.contact != ""
}

func (t *txn) endSent(ch *channel, e *ending) (err error) {
	e.delivery.providerID = e.outcome.ProviderID
	if t.early.mayKnow(ch.name, e.outcome.ProviderID, e.line.mark.at) {
		if e.delivery, err = t.delivery(ch, e.outcome.ProviderID); err != nil {
			return err
		}
	}
	told := e.delivery.failureOfOurs()
	e.delivery.accept(e.line, t.now)
	if !told && e.delivery.failureOfOurs() {
		e.failed = true
		e.failure, err = t.sendFailed(ch, &e.delivery)
	}
	return err
}

func (t *txn) endReturned(ch *channel, e *ending) (err error) {
	if e.message, err = t.content(ch, e.line); err != nil {
		return err
	}
	input, key := e.outcome.Failed(&e.message)
	e.failed = true
	e.failure, err = t.tells(e.message.Conversation, input, key)
	return err
}

func (t *txn) settle(ch *channel, e *ending) {
	if e.line.state != lineClaimed { // settled by an earlier outcome of this very call
		return
	}
	switch m := &e.line.mark; e.outcome.Kind {
	case parley.Sent:
		t.remove(ch, e.line)
		t.setDelivery(ch, &e.delivery)
		if e.failed {
			t.enqueue(&e.failure)
		}
	case parley.Returned:
		t.remove(ch, e.line)
		t.enqueue(&e.failure)
	case parley.Refused:
		t.buryMessage(ch, e)
		t.remove(ch, e.line)
	case parley.Retry:
		if !e.outcome.Uncounted {
			m.attempts++
		}
		t.postpone(ch, e)
	case parley.Doubt:
		m.doubtful = true
		t.postpone(ch, e)
	}
}

// postpone closes a claim; the message stays at the head of its line.
func (t *txn) postpone(ch *channel, e *ending) {
	wait := (e.outcome.Wait + time.Millisecond - 1).Milliseconds() // never early
	e.line.mark.epoch, e.line.mark.due = 0, t.now+max(wait, 0)
	ch.turn(e.line, lineWaiting)
	t.setMark(ch, e.line)
}

// remove takes the head of a line, with its mark, out of the outbox.
func (t *txn) remove(ch *channel, l *line) {
	head := &l.queue[0]
	t.contents -= head.bytes
	t.counts.unsent--
	t.conv = ch.conversation(t.conv[:0], l.contact)
	t.key = outboxKey(t.key[:0], t.conv, head.ordinal, head.id)
	t.delOnce(t.key)
	t.key = markKey(t.key[:0], t.conv)
	t.del(t.key)
	ch.pop(l)
	t.unsilence(l)
}

// buryMessage makes a dead letter of a refused message. It has the message's id.
func (t *txn) buryMessage(ch *channel, e *ending) {
	cause := e.outcome.Cause
	if e.outcome.Code != 0 {
		cause = fmt.Sprintf("%s (code %d)", cause, e.outcome.Code)
	}
	data, err := parley.EncodeEffect(e.message.Send)
	t.note(err)
	t.bury(&parley.DeadLetter{
		ID: e.outcome.ID, Conversation: parley.Conversation{Channel: ch.name, Contact: e.line.contact},
		At: fromMS(t.now), Cause: cause, Data: data,
	})
}

// sendFailed is a row that says so, ready to be enqueued.
func (t *txn) sendFailed(ch *channel, d *delivery) (parley.Pending, error) {
	input := parley.SendFailed{ID: d.id, ProviderID: d.providerID, Code: d.code, Reason: d.reason}
	return t.tells(parley.Conversation{Channel: ch.name, Contact: d.contact}, input,
		parley.NewEventKey("send_failed", ch.name.String(), d.providerID, "failed"))
}

// tells is a row that tells a conversation, or what that was merged into, of
// something.
func (t *txn) tells(c parley.Conversation, input parley.Input, key parley.EventKey) (parley.Pending, error) {
	data, err := parley.EncodeInput(input)
	if err != nil {
		return parley.Pending{}, err
	}
	random, err := t.random(8)
	if err != nil {
		return parley.Pending{}, err
	}
	c, err = t.final(c)
	if err != nil {
		return parley.Pending{}, err
	}
	return parley.Pending{
		Row:          parley.Row{Token: parley.Token(binary.BigEndian.Uint64(random))},
		Conversation: c,
		Key:          key,
		Input:        input, Data: data,
	}, nil
}
