package memory

import (
	"fmt"
	"io"
	"slices"
	"strings"

	"github.com/parleychat/parley"
)

// resolve says which conversation the keys mean: the first known one decides,
// and the unknown ones come to mean the same. If they mean several, these are
// merged into the oldest. Only WhatsApp users have several keys.
func (s *Store) resolve(e *parley.Event) (parley.Conversation, error) {
	key := func(c parley.Contact) parley.Conversation {
		return parley.Conversation{Channel: e.Channel, Contact: c}
	}
	several := func(c parley.Contact) bool {
		return strings.HasPrefix(string(c), parley.BSUIDKey) || strings.HasPrefix(string(c), parley.PhoneKey)
	}
	if e.Channel.Kind != parley.WhatsApp || !several(e.Contacts[0]) {
		return key(e.Contacts[0]), nil
	}
	var meant []parley.Conversation
	for _, c := range e.Contacts {
		if known, ok := s.aliases[key(c)]; ok && !slices.Contains(meant, s.final(key(known))) {
			meant = append(meant, s.final(key(known)))
		}
	}
	if len(meant) == 0 {
		s.births[key(e.Contacts[0])] = uint64(len(s.births)) + 1
		meant = []parley.Conversation{key(e.Contacts[0])}
	}
	for _, c := range e.Contacts {
		if _, ok := s.aliases[key(c)]; !ok {
			s.aliases[key(c)] = meant[0].Contact
		}
	}
	return s.final(meant[0]), s.unite(meant)
}

// final is where a conversation's rows belong: what it was merged into, if it
// was.
func (s *Store) final(c parley.Conversation) parley.Conversation {
	for {
		into, ok := s.merged[c]
		if !ok {
			return c
		}
		c = into
	}
}

// unite merges conversations into the oldest of them, as far as may be.
func (s *Store) unite(meant []parley.Conversation) error {
	if len(meant) < 2 {
		return nil
	}
	byBirth := slices.SortedFunc(slices.Values(meant), func(a, b parley.Conversation) int {
		return int(s.births[a]) - int(s.births[b])
	})
	for _, younger := range byBirth[1:] {
		if err := s.merge(byBirth[0], younger); err != nil {
			return fmt.Errorf("merge conversations: %w", err)
		}
	}
	return nil
}

func (s *Store) merge(survivor, younger parley.Conversation) error {
	a, err := s.snapshot(survivor)
	if err != nil {
		return err
	}
	b, err := s.snapshot(younger)
	if err != nil || !parley.MayMerge(&a, &b) {
		return err
	}
	var nonce [16]byte
	if _, err := io.ReadFull(s.cfg.Random, nonce[:]); err != nil {
		return fmt.Errorf("draw a nonce: %w", err)
	}
	into, from := parley.Merge(a, b, s.now(), nonce)
	for _, c := range []*parley.Commit{&into, &from} {
		if err := s.commit(c); err != nil { // they are what was just read, and always have a form
			return err
		}
	}
	s.merged[younger] = survivor
	return nil
}

// within reports whether c is part of whole: it is that, or was merged into it,
// at once or step by step.
func (s *Store) within(c, whole parley.Conversation) bool {
	for c != whole {
		into, ok := s.merged[c]
		if !ok {
			return false
		}
		c = into
	}
	return true
}
