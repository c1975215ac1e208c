package egress

import (
	"time"

	"github.com/parleychat/parley"
)

// awaitPoll is how often a message that waits for the one before it to arrive is
// looked at, and with it the receipts.
const awaitPoll = 500 * time.Millisecond

// maxAwaits bounds the contacts of whom it is remembered that a message is on its
// way. Beyond it nobody is waited for.
const maxAwaits = 1 << 16

// awaits is what is on its way to contacts, if the next message to them waits for
// that (Policy.AwaitDelivered): WhatsApp keeps no order by itself. It is in
// memory; who begins anew waits for nothing that was sent before.
type awaits struct {
	bound    time.Duration // 0: nothing is waited for
	to       map[parley.Contact]await
	contacts map[parley.ID]parley.Contact
}

type await struct {
	id    parley.ID
	until time.Duration
}

func newAwaits(bound time.Duration) awaits {
	return awaits{bound: bound, to: map[parley.Contact]await{}, contacts: map[parley.ID]parley.Contact{}}
}

// sent notes that the provider took a message.
func (w *awaits) sent(id parley.ID, c parley.Contact, now time.Duration) {
	if w.bound <= 0 {
		return
	}
	w.told(w.to[c].id)
	if len(w.to) >= maxAwaits {
		for c, a := range w.to {
			if a.until <= now {
				delete(w.to, c)
				delete(w.contacts, a.id)
			}
		}
	}
	if len(w.to) < maxAwaits {
		w.to[c], w.contacts[id] = await{id, now + w.bound}, c
	}
}

// told notes that a message has arrived, or that it won't.
func (w *awaits) told(id parley.ID) {
	if c, ok := w.contacts[id]; ok {
		delete(w.contacts, id)
		delete(w.to, c)
	}
}

// hold is how long a claimed message must be put back for; 0: it may go.
func (w *awaits) hold(m *parley.Claimed, now time.Duration) time.Duration {
	a, ok := w.to[m.Conversation.Contact]
	if !ok {
		return 0
	}
	if a.until <= now {
		w.told(a.id)
		return 0
	}
	return min(awaitPoll, a.until-now)
}
