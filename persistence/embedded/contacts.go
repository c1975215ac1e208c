package embedded

import (
	"encoding/binary"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/parleychat/parley"
)

// A contact key means the conversation that its row in tableAlias names. The
// key that names a conversation, its canonical key, has a row that names itself,
// with the conversation's birth number. When the conversation is merged, that
// one row comes to name the survivor, and all that meant the younger means the
// survivor by it: aliases are followed until a key names itself. Births fall
// from step to step, so there are no circles.

// errApart is the answer to an event whose keys mean several conversations.
var errApart = errors.New("contact keys mean several conversations")

// aliasFormat is that of the rows that have a birth number; the others are of
// rowFormat. An older program refuses it.
const aliasFormat = 2

// resolve says which conversation an event's contact keys mean. Only a WhatsApp
// user may be known by several: then the first key that is known decides, and
// those that aren't become further keys of the same conversation.
//
// If they mean several conversations, the answer is errApart; but if those that
// may be merged have been (united), the strongest key decides.
func (t *txn) resolve(e *parley.Event, united bool) (parley.Conversation, error) {
	if len(e.Contacts) == 0 || len(e.Contacts) > parley.MaxContacts || slices.Contains(e.Contacts, "") {
		return parley.Conversation{}, errContacts
	}
	c := parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]}
	if !manyNamed(c) {
		return c, nil
	}
	var known [parley.MaxContacts]bool
	found, apart := false, false
	for i, k := range e.Contacts {
		canonical, ok, err := t.canonical(parley.Conversation{Channel: e.Channel, Contact: k})
		if err != nil {
			return parley.Conversation{}, err
		}
		switch known[i] = ok; {
		case ok && !found:
			c.Contact, found = canonical, true
		case ok && canonical != c.Contact:
			apart = true
		}
	}
	if apart && !united {
		return parley.Conversation{}, errApart
	}
	if apart {
		t.metrics.unmerged.Inc()
	}
	t.makeKnown(e, known, c.Contact)
	return c, nil
}

// makeKnown lets the keys that aren't known mean the conversation.
func (t *txn) makeKnown(e *parley.Event, known [parley.MaxContacts]bool, canonical parley.Contact) {
	for i, k := range e.Contacts {
		if !known[i] {
			t.alias(parley.Conversation{Channel: e.Channel, Contact: k}, canonical)
		}
	}
}

// manyNamed reports whether the contact may be known by other keys too.
func manyNamed(c parley.Conversation) bool {
	return c.Channel.Kind == parley.WhatsApp &&
		(strings.HasPrefix(string(c.Contact), parley.BSUIDKey) || strings.HasPrefix(string(c.Contact), parley.PhoneKey))
}

// canonical follows a contact key to the conversation that it means.
func (t *txn) canonical(c parley.Conversation) (parley.Contact, bool, error) {
	at := c
	for hops := 0; ; hops++ {
		next, ok, err := t.named(at)
		if err != nil {
			return "", false, err
		}
		if !ok && hops == 0 {
			return "", false, nil
		}
		if !ok || next == at.Contact {
			if hops > 1 {
				t.aliases.put(cloneConversation(c), at.Contact) // the short way, next time
			}
			return at.Contact, true, nil
		}
		at.Contact = next
	}
}

// final is the conversation to which rows of c belong: c itself, or what it was
// merged into.
func (t *txn) final(c parley.Conversation) (parley.Conversation, error) {
	if !manyNamed(c) {
		return c, nil
	}
	canonical, ok, err := t.canonical(c)
	if ok {
		c.Contact = canonical
	}
	return c, err
}

// merged lists what c was merged into, step by step.
func (t *txn) merged(c parley.Conversation) ([]parley.Contact, error) {
	var steps []parley.Contact
	for manyNamed(c) {
		row, err := t.aliasRow(c)
		if err != nil || row.canonical == "" || row.canonical == c.Contact {
			return steps, err
		}
		c.Contact = row.canonical
		steps = append(steps, c.Contact)
	}
	return steps, nil
}

// named is what a key's row names, or what the cache knows to come of it.
func (t *txn) named(c parley.Conversation) (parley.Contact, bool, error) {
	if canonical, ok := t.aliases.get(c); ok {
		return canonical, true, nil
	}
	row, err := t.aliasRow(c)
	if err != nil || row.canonical == "" {
		return "", false, err
	}
	t.aliases.put(cloneConversation(c), row.canonical)
	return row.canonical, true, nil
}

// aliasRow is a row of tableAlias. The birth is that of a conversation's own
// key; 0 if it is older than the numbers.
type aliasRow struct {
	canonical parley.Contact // empty if there is no row
	birth     uint64
}

func (t *txn) aliasRow(c parley.Conversation) (aliasRow, error) {
	t.key = appendConversation(append(t.key[:0], tableAlias), c)
	v, err := t.get(t.key)
	if err != nil || v == nil {
		return aliasRow{}, err
	}
	born := len(v) > 0 && v[0] == aliasFormat
	if born {
		v[0] = rowFormat // else as usual
	}
	r, err := readRow(tableAlias, v)
	if err != nil {
		return aliasRow{}, err
	}
	row := aliasRow{canonical: parley.Contact(r.string())}
	if born {
		row.birth = r.uvarint()
	}
	return row, r.end("alias")
}

// alias lets an unknown key mean a conversation: one that is known, or a new
// one of that very name.
func (t *txn) alias(c parley.Conversation, canonical parley.Contact) {
	own := cloneConversation(parley.Conversation{Channel: c.Channel, Contact: canonical})
	key := cloneConversation(c)
	t.aliases.put(key, own.Contact)
	t.newKeys = append(t.newKeys, key)
	row := aliasRow{canonical: canonical}
	if c.Contact == canonical {
		row.birth = t.number()
	}
	t.setAlias(c, row)
}

func (t *txn) setAlias(c parley.Conversation, row aliasRow) {
	t.key = appendConversation(append(t.key[:0], tableAlias), c)
	if row.birth == 0 {
		t.set(t.key, appendName([]byte{rowFormat}, row.canonical))
		return
	}
	t.set(t.key, binary.AppendUvarint(appendName([]byte{aliasFormat}, row.canonical), row.birth))
}

// forgetKeys takes keys out of the cache whose rows won't be written.
func (t *txn) forgetKeys() {
	for _, key := range t.newKeys {
		t.aliases.drop(key)
	}
}

func cloneConversation(c parley.Conversation) parley.Conversation {
	return (&reader{b: appendConversation(nil, c)}).conversation()
}

// snapshotOf reads what the last commit of a conversation left.
func (t *txn) snapshotOf(c parley.Conversation) (parley.Snapshot, error) {
	s := parley.Snapshot{Conversation: c}
	t.key = appendConversation(append(t.key[:0], tableConv), c)
	v, err := t.get(t.key)
	if err != nil || v == nil {
		return s, err
	}
	if err := s.UnmarshalBinary(v); err != nil {
		return parley.Snapshot{}, fmt.Errorf("read conversation: %w", err)
	}
	return s, nil
}
