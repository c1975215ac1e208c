package postgres

import (
	"bytes"
	"context"
	"errors"
	"slices"
	"strings"
	"sync"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

var (
	errContacts  = errors.New("event has no contact, an empty one, or too many")
	errUnsettled = errors.New("the contact's keys keep changing their meaning")
)

// resolveRounds bounds how often the keys of contacts are looked at again
// because another node made them known, or merged them, at the same time. Beside
// those there is a round for each merge that is made.
const resolveRounds = 8

// resolve says which conversations the events' contact keys mean. Only WhatsApp
// users have several keys. The first key that is known decides, and the unknown
// ones come to mean the same; if keys mean different conversations, these are
// merged first.
//
// What a node remembers of keys may be out of date, and does no harm: rows of a
// conversation that has been merged into another are found by that one.
func (s *Store) resolve(ctx context.Context, events []parley.Event) ([]parley.Conversation, error) {
	found := make([]parley.Conversation, len(events))
	var several []int // events whose contacts may have several keys
	for i := range events {
		e := &events[i]
		if err := checkNames(e); err != nil {
			return nil, err
		}
		found[i] = parley.Conversation{Channel: e.Channel, Contact: e.Contacts[0]}
		if e.Channel.Kind == parley.WhatsApp && manyNamed(e.Contacts[0]) {
			several = append(several, i)
		}
	}
	if len(several) == 0 {
		return found, nil
	}
	for range resolveRounds + len(several)*parley.MaxContacts {
		done, err := s.resolveSeveral(ctx, events, several, found)
		if err != nil || done {
			return found, err
		}
	}
	return nil, errUnsettled
}

// checkNames refuses names that can't be kept, or not read back.
func checkNames(e *parley.Event) error {
	if len(e.Contacts) == 0 || len(e.Contacts) > parley.MaxContacts || slices.Contains(e.Contacts, "") {
		return errContacts
	}
	if e.Channel.Validate() != nil {
		return errName
	}
	for _, c := range e.Contacts {
		if len(keyOf(e, c)) > keyBytesMax {
			return errTooLong
		}
	}
	return nil
}

// manyNamed reports whether the contact may be known by other keys too.
func manyNamed(c parley.Contact) bool {
	return strings.HasPrefix(string(c), parley.BSUIDKey) || strings.HasPrefix(string(c), parley.PhoneKey)
}

// resolveSeveral is one round. It is done if nothing had to be changed.
func (s *Store) resolveSeveral(ctx context.Context, events []parley.Event, several []int, found []parley.Conversation) (done bool, err error) {
	known, err := s.lookUp(ctx, keysOf(events, several))
	if err != nil {
		return false, err
	}
	fresh := map[string]string{} // keys to be made known
	for _, i := range several {
		canonical, others := meaning(&events[i], known)
		if len(others) > 0 && len(fresh) > 0 {
			return false, s.makeKnown(ctx, fresh) // what is merged must be known
		}
		for _, other := range others {
			// One at a time: what the merge changes is looked up again.
			if changed, err := s.merge(ctx, events[i].Channel, canonical, other); changed || err != nil {
				return false, err
			}
			s.metrics.unmerged.Inc()
		}
		for _, c := range events[i].Contacts {
			key := keyOf(&events[i], c)
			if _, ok := known[key]; !ok {
				known[key], fresh[key] = canonical, canonical
			}
		}
		if found[i], err = parseKey([]byte(canonical)); err != nil {
			return false, err
		}
	}
	if len(fresh) == 0 {
		return true, nil
	}
	return false, s.makeKnown(ctx, fresh)
}

func keyOf(e *parley.Event, c parley.Contact) string {
	return parley.Conversation{Channel: e.Channel, Contact: c}.String()
}

func keysOf(events []parley.Event, of []int) []string {
	var keys []string
	for _, i := range of {
		for _, c := range events[i].Contacts {
			keys = append(keys, keyOf(&events[i], c))
		}
	}
	slices.Sort(keys)
	return slices.Compact(keys)
}

// meaning is the conversation that the event's first known key means, or its
// first key if none is known, and what its other keys mean beside that.
func meaning(e *parley.Event, known map[string]string) (canonical string, others []string) {
	for _, c := range e.Contacts {
		means, ok := known[keyOf(e, c)]
		switch {
		case ok && canonical == "":
			canonical = means
		case ok && means != canonical:
			others = append(others, means)
		}
	}
	if canonical == "" {
		canonical = keyOf(e, e.Contacts[0])
	}
	return canonical, others
}

// lookUpSQL follows what keys mean to its end. A key may be made known as meaning
// a conversation that another node merges, or makes known as another's, at the
// same time, or has long done so; what that one means is then meant. There is no
// way round in it: a key is made known only as meaning one that already is.
const lookUpSQL = `
with recursive known as (
    select c.alias, c.canonical, 0 as steps from parley.contact c where c.alias = any($1::bytea[])
    union all
    select k.alias, c.canonical, k.steps + 1
    from known k join parley.contact c on c.alias = k.canonical
    where k.canonical <> k.alias and c.canonical <> k.canonical and k.steps < 16
)
select distinct on (k.alias) k.alias, k.canonical from known k order by k.alias, k.steps desc`

// lookUp returns what is known of keys: what the node remembers, the rest from
// the database.
func (s *Store) lookUp(ctx context.Context, keys []string) (map[string]string, error) {
	known := make(map[string]string, len(keys))
	var unknown [][]byte
	for _, k := range keys {
		if canonical, ok := s.aliases.get(k); ok {
			known[k] = canonical
		} else {
			unknown = append(unknown, []byte(k))
		}
	}
	if len(unknown) == 0 {
		return known, nil
	}
	b := s.begin()
	b.rows(func(r pgx.Rows) error {
		var alias, canonical []byte
		err := r.Scan(&alias, &canonical)
		known[string(alias)] = string(canonical)
		return err
	}, lookUpSQL, unknown)
	if err := s.send(ctx, s.entrance, b); err != nil {
		return nil, err
	}
	for _, k := range unknown {
		if canonical, ok := known[string(k)]; ok {
			s.aliases.put(string(k), canonical)
		}
	}
	return known, nil
}

// makeKnownSQL numbers keys; the number of a conversation's own key is its age.
const makeKnownSQL = `
insert into parley.contact (alias, canonical)
select r.alias, r.canonical from unnest($1::bytea[], $2::bytea[]) as r (alias, canonical)
on conflict (alias) do nothing`

// makeKnown notes what keys mean, unless somebody else has done so: that is then
// found in the next round. Keys are in order, as others may insert the same.
func (s *Store) makeKnown(ctx context.Context, fresh map[string]string) error {
	var keys, canonicals [][]byte
	for k := range fresh {
		keys = append(keys, []byte(k))
	}
	slices.SortFunc(keys, bytes.Compare)
	for _, k := range keys {
		canonicals = append(canonicals, []byte(fresh[string(k)]))
	}
	b := s.begin()
	b.exec(makeKnownSQL, keys, canonicals)
	return s.send(ctx, s.entrance, b)
}

// aliasesMax is how many keys a node remembers, twice; about 40 MB.
const aliasesMax = 100_000

// aliases are the meanings of keys that were looked up last, in two generations:
// when the younger is full, the older is forgotten.
type aliases struct {
	mu           sync.Mutex
	young, older map[string]string
}

func (a *aliases) get(key string) (string, bool) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if canonical, ok := a.young[key]; ok {
		return canonical, true
	}
	canonical, ok := a.older[key]
	if ok {
		a.keep(key, canonical)
	}
	return canonical, ok
}

func (a *aliases) put(key, canonical string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.keep(key, canonical)
}

func (a *aliases) keep(key, canonical string) {
	if a.young == nil || len(a.young) >= aliasesMax {
		a.young, a.older = map[string]string{}, a.young
	}
	a.young[key] = canonical
}

func (a *aliases) forget() {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.young, a.older = nil, nil
}
