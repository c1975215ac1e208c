package parley

import (
	"crypto/sha256"
	"encoding/binary"
	"fmt"
	"strconv"
	"time"
)

// Holdings is a part of what a store holds, in words that every store
// understands: the form in which one store is copied into another. Nothing of
// how a store keeps it, and nothing that follows from the rest, is in it.
type Holdings struct {
	// Numbers is above every number that the store has handed out; 0 if this part
	// doesn't say it.
	Numbers       uint64
	Conversations []Snapshot
	Merged        []Merged
	Contacts      []KnownContact
	Pending       []Pending // their Conversation is the one under whose name they are stored
	Unsent        []Unsent
	Timers        []DueTimer
	Older         []OlderKey
	History       []Record
	Dead          []DeadLetter
	Quarantined   []Quarantined
	Receipts      []NumberedReceipt
	Deliveries    []HandedOver
	Watermarks    []Watermark
	Epochs        []Epoch
	Registrations []Registration
	Calls         []PendingCall
	Silences      []Silence
}

// Items is how many items there are, and of which kind the last of them are.
func (h *Holdings) Items() (n uint64, kind string) {
	names := HoldingKinds()
	for i, k := range [holdingKinds]int{
		len(h.Conversations), len(h.Merged), len(h.Contacts), len(h.Pending), len(h.Unsent), len(h.Timers), len(h.Older), len(h.History),
		len(h.Dead), len(h.Quarantined), len(h.Receipts), len(h.Deliveries), len(h.Watermarks), len(h.Epochs), len(h.Registrations),
		len(h.Calls), len(h.Silences),
	} {
		if n += uint64(k); k > 0 {
			kind = names[i]
		}
	}
	return n, kind
}

// Merged says that one conversation has become part of another: directly or,
// if that was merged in its turn, by one step more; there is one for each step.
type Merged struct {
	Younger  Conversation
	Survivor Contact
}

// KnownContact is a contact key that is known, and the conversation that it
// means.
type KnownContact struct {
	Key   Conversation // its contact is the key
	Means Contact
	// Born orders conversations by age, if the key names its own; otherwise it is 0,
	// as it is for a conversation that is older than these numbers.
	Born uint64
}

// Unsent is a message of the outbox, and how its attempts stand.
type Unsent struct {
	Outgoing
	Attempts int       // that the provider refused for a time
	Doubtful bool      // one of them may have reached the provider
	Last     time.Time // when it was claimed last; zero if it never was
	Epoch    uint64    // of the lease under which it is claimed; 0 if no claim is open
	Due      time.Time // of the next attempt, if it waits for one
}

// Silence says that what a conversation had decided isn't to be sent any more, if it
// is still in the outbox: see Commit.Silence.
type Silence struct {
	Conversation Conversation
	UpTo         uint64    // the ordinal
	At           time.Time // when that was said
}

// DueTimer is a timer that has not fired.
type DueTimer struct {
	Conversation Conversation
	Timer        Timer
}

// OlderKey is the key of an event that took effect and has left the snapshot.
type OlderKey struct {
	Conversation Conversation
	Seen         SeenKey
}

// Record is what a commit has left in the history.
type Record struct {
	Conversation Conversation
	Version      uint64
	Day          int // on which it was written, counted from 1970
	Data         []byte
}

// NumberedReceipt is a receipt that is not folded yet. Those of a channel are
// folded in the order of their numbers.
type NumberedReceipt struct {
	Number uint64
	Receipt
}

// HandedOver is what is known of a message by its own receipts alone, and when it
// was claimed: what a [Watermark] from behind that says holds for it too.
type HandedOver struct {
	Delivery
	Claimed time.Time // zero if the message isn't one of ours
}

// Watermark says that everything sent to a conversation up to a time has a
// status.
type Watermark struct {
	Conversation Conversation
	Status       Status
	UpTo         time.Time // the provider's
	At           time.Time // when that became known
}

// Epoch is the last one of a channel's leases.
type Epoch struct {
	Channel Channel
	Number  uint64
}

// Sum is how many items there are of a kind, and a digest of them in whatever
// order: the sum of the digests of each.
type Sum struct {
	Items  uint64
	Digest [4]uint64
}

// Tally is what holdings come to, kind by kind. Two stores hold the same if
// their tallies are equal.
type Tally [holdingKinds]Sum

const (
	holdingKinds = 17
	firstKinds   = 15 // that there were from the first
)

// HoldingKinds names the kinds of a tally, in its order.
func HoldingKinds() [holdingKinds]string {
	return [...]string{
		"conversations", "merged", "contacts", "pending", "unsent", "timers", "older keys", "history", "dead letters",
		"quarantined", "receipts", "deliveries", "watermarks", "epochs", "registrations",
		"calls", "silences",
	}
}

// Add adds a part of a store's holdings. No item may come twice.
func (t *Tally) Add(h *Holdings) {
	addItems(&t[0], h.Conversations, func(s *Snapshot) []any {
		b, _ := s.AppendBinary(nil) // it never fails
		return []any{s.Conversation, b}
	})
	addItems(&t[1], h.Merged, func(m *Merged) []any { return []any{m.Younger, string(m.Survivor)} })
	addItems(&t[2], h.Contacts, func(c *KnownContact) []any { return []any{c.Key, string(c.Means), c.Born} })
	addItems(&t[3], h.Pending, func(p *Pending) []any {
		return []any{p.Conversation, uint64(p.Seq), uint64(p.Token), p.Received, p.Key, p.Time, p.Late, p.Data}
	})
	addItems(&t[4], h.Unsent, func(u *Unsent) []any {
		send, _ := EncodeEffect(u.Send) // what a store took has a form: see Send.Validate
		fields := []any{u.ID, u.Conversation, u.Ordinal, u.At, send, u.Attempts, u.Doubtful, u.Last, u.Epoch, u.Due}
		if u.Heard != (Heard{}) { // else the digest is what it was before there was any
			fields = append(fields, u.Heard.At, u.Heard.Entry, u.Heard.Stopped)
		}
		return fields
	})
	addItems(&t[5], h.Timers, func(d *DueTimer) []any {
		return []any{d.Conversation, d.Timer.ID, d.Timer.Name, d.Timer.Generation, d.Timer.Due}
	})
	addItems(&t[6], h.Older, func(k *OlderKey) []any { return []any{k.Conversation, k.Seen.Key, k.Seen.At} })
	addItems(&t[7], h.History, func(r *Record) []any { return []any{r.Conversation, r.Version, r.Day, r.Data} })
	addItems(&t[8], h.Dead, func(d *DeadLetter) []any {
		return []any{d.ID, d.Conversation, d.At, d.Cause, uint64(d.Seq), d.Data}
	})
	addItems(&t[9], h.Quarantined, func(q *Quarantined) []any {
		return []any{q.ID, string(q.App), string(q.Kind), q.ChannelID, q.Received, q.Cause, q.Body}
	})
	addItems(&t[10], h.Receipts, func(r *NumberedReceipt) []any {
		return []any{r.Channel, r.Number, string(r.Status), r.ProviderID, r.Row, string(r.Contact), r.Watermark, r.Time, r.Code, r.Reason}
	})
	addItems(&t[11], h.Deliveries, func(d *HandedOver) []any {
		return []any{d.ID, d.Conversation, d.ProviderID, string(d.Status), d.At, d.Code, d.Reason, d.Claimed}
	})
	addItems(&t[12], h.Watermarks, func(w *Watermark) []any { return []any{w.Conversation, string(w.Status), w.UpTo, w.At} })
	addItems(&t[13], h.Epochs, func(e *Epoch) []any { return []any{e.Channel, e.Number} })
	addItems(&t[14], h.Registrations, func(r *Registration) []any { return []any{string(r.App), r.Channel} })
	addItems(&t[15], h.Calls, func(c *PendingCall) []any {
		content, _ := c.EncodeContent() // what a store took has a form
		return []any{c.ID, c.Conversation, c.At, content, c.Attempts, c.Status, c.Cause, c.Due}
	})
	addItems(&t[16], h.Silences, func(s *Silence) []any { return []any{s.Conversation, s.UpTo, s.At} })
}

// addItems adds items of one kind, by the fields of each.
func addItems[T any](s *Sum, items []T, fields func(*T) []any) {
	var b []byte
	for i := range items {
		b = appendFields(b[:0], fields(&items[i]))
		digest := sha256.Sum256(b)
		for k := range s.Digest {
			s.Digest[k] += binary.BigEndian.Uint64(digest[8*k:])
		}
	}
	s.Items += uint64(len(items))
}

// appendFields frames fields, so that other fields are other bytes. Times are
// taken to the millisecond, as they are stored.
func appendFields(b []byte, fields []any) []byte {
	for _, field := range fields {
		switch f := field.(type) {
		case string:
			b = appendString(b, f)
		case []byte:
			b = append(binary.AppendUvarint(b, uint64(len(f))), f...)
		case Conversation:
			b = appendString(appendFields(b, []any{f.Channel}), string(f.Contact))
		case Channel:
			b = appendString(appendString(appendString(b, string(f.Brand)), string(f.Kind)), f.ID)
		case ID:
			b = append(b, f[:]...)
		case EventKey:
			b = append(b, f[:]...)
		case uint64:
			b = binary.AppendUvarint(b, f)
		case int:
			b = binary.AppendVarint(b, int64(f))
		case time.Time:
			b = appendTime(b, f)
		case bool:
			b = strconv.AppendBool(b, f)
		default:
			panic(fmt.Sprintf("parley: a field of type %T has no form", field)) // whoever adds a kind to Tally.Add sees it at once
		}
	}
	return b
}

// Items is how many items there are of all kinds.
func (t *Tally) Items() uint64 {
	n := uint64(0)
	for i := range t {
		n += t[i].Items
	}
	return n
}

// Digest identifies the holdings that come to the tally.
func (t *Tally) Digest() [32]byte {
	var b []byte
	for i, name := range HoldingKinds() {
		if i >= firstKinds && t[i].Items == 0 {
			continue // the digest is what it was before there were such
		}
		b = appendFields(b, []any{name, t[i].Items})
		for _, part := range t[i].Digest {
			b = binary.BigEndian.AppendUint64(b, part)
		}
	}
	return sha256.Sum256(b)
}
