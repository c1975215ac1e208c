package postgres

import (
	"bytes"
	"errors"
	"slices"

	"github.com/jackc/pgx/v5"

	"github.com/parleychat/parley"
)

// readAttemptsSQL reads what parley.Receipt.Whose asks for: what is claimed of the
// channel, and the heads of conversations that are in doubt.
const readAttemptsSQL = `
select o.id, o.conv, o.claimed, o.data, o.epoch, o.doubtful, o.at from parley.outbox o
where o.channel = $1 and o.due >= ` + dueClaimed + `
union all
select o.id, o.conv, o.claimed, o.data, o.epoch, o.doubtful, o.at
from unnest($2::bytea[]) as c (conv) cross join lateral (
    select p.* from parley.outbox p where p.conv = c.conv order by p.ordinal limit 1
) o
where o.due < ` + dueClaimed + ` and o.doubtful`

// addKey adds a key that isn't among keys.
func addKey(keys [][]byte, key []byte) [][]byte {
	if slices.ContainsFunc(keys, func(k []byte) bool { return bytes.Equal(k, key) }) {
		return keys
	}
	return append(keys, key)
}

// attempt is an attempt and its message.
type attempt struct {
	parley.Attempt
	message *unsent
}

func (f *folding) scanAttempt(r pgx.Rows) error {
	var epoch, at int64
	var doubtful bool
	m, err := scanUnsent(&tail{Rows: r, more: []any{&epoch, &doubtful, &at}})
	if errors.Is(err, errStored) {
		return nil // it was never handed over
	}
	if err != nil {
		return err
	}
	a := attempt{message: m}
	a.ID, a.Conversation, a.Send, a.At = m.id, m.conversation, m.send, fromMS(at)
	a.Claimed, a.Doubtful, a.Open = fromMS(m.claimed), doubtful, uint64(epoch) == f.lease.Epoch
	f.attempts = append(f.attempts, a)
	return nil
}

// tail is rows with more columns behind those that are scanned.
type tail struct {
	pgx.Rows
	more []any
}

// Scan scans the row.
func (t *tail) Scan(dest ...any) error { return t.Rows.Scan(append(dest, t.more...)...) }

// hear looks after an echo that may be somebody else's: see parley.Receipt.Whose. It
// reports whether that was all there is to do with it. An echo that can't be told
// yet goes behind the other receipts, so that it doesn't take their places.
func (f *folding) hear(r *parley.Receipt, c parley.Conversation) (bool, error) {
	said, ok := r.Said()
	if d := f.deliveries.by[r.ProviderID]; !ok || c.Contact == "" || d != nil && !d.ID.IsZero() {
		return false, nil
	}
	near := f.near(c)
	attempts := make([]parley.Attempt, len(near))
	for i := range near {
		attempts[i] = near[i].Attempt
	}
	switch of, i := r.Whose(&said, attempts, fromMS(f.now)); of {
	case parley.EchoOfOther:
		p, err := tells(c, said, r.EchoKey())
		p.Time = r.Time
		f.rows = append(f.rows, p)
		return true, err
	case parley.EchoUndecided:
		f.stay = append(f.stay, *r)
		return true, nil
	case parley.EchoProof:
		m := near[i].message
		f.attempts = slices.DeleteFunc(f.attempts, func(a attempt) bool { return a.message == m })
		delete(f.attempted, m.id)
		f.removed.add(m)
		f.deliveries.of(r.ProviderID).accept(m)
	case parley.EchoOfOurs:
	}
	return false, nil
}

// near is the attempts that an echo of c may be of.
func (f *folding) near(c parley.Conversation) (near []attempt) {
	for _, a := range f.attempts {
		sort, _ := a.Conversation.Contact.Split()
		if a.Conversation == c || a.Open && sort == parley.SubjectKey {
			near = append(near, a)
		}
	}
	return near
}
