package storetest

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parleychat/parley"
)

// equal compares what a store returns: nothing and an empty list are one, and bytes are
// looked at one by one only where they differ.
var equal = cmp.Options{
	cmp.FilterValues(bytes.Equal, cmp.Ignore()), cmpopts.EquateEmpty(),
}

// clock is the hand-driven clock of a test.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock {
	return &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
}

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) Add(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// desk is a store under examination. Its methods fail the test on an error that
// the caller doesn't ask for.
type desk struct {
	Store
	t     *testing.T
	clock *clock
	open  Open
	n     uint64

	proven int   // of the last fold
	tidied int64 // before which buckets have become one
}

func sit(t *testing.T, open Open) *desk {
	t.Helper()
	c := newClock()
	return &desk{Store: open(t, Options{Now: c.Now}), t: t, clock: c, open: open}
}

// reopen closes the store and opens it again; it skips the test if the store
// doesn't survive that.
func (d *desk) reopen() {
	d.t.Helper()
	if err := d.Close(); err != nil {
		d.t.Fatalf("close: %v", err)
	}
	again := d.open(d.t, Options{Now: d.clock.Now, Reopen: d.Store})
	if again == nil {
		d.t.Skip("this store doesn't outlive its Close")
	}
	d.Store = again
}

// The identities that most tests use.
func page() parley.Channel {
	return parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: "page1"}
}

func number() parley.Channel {
	return parley.Channel{Brand: "acme", Kind: parley.WhatsApp, ID: "447000"}
}

func conv(name string) parley.Conversation {
	return parley.Conversation{Channel: page(), Contact: parley.Contact(parley.UserKey + name)}
}

func all(uint16) bool { return true }

// event is a message in c with a key of its own.
func (d *desk) event(c parley.Conversation, text string) parley.Event {
	d.n++
	return parley.Event{
		Channel: c.Channel, Contacts: []parley.Contact{c.Contact},
		Key:  parley.NewEventKey("message", fmt.Sprint(d.n)),
		Time: d.clock.Now().Add(-time.Second), Input: parley.Message{ID: fmt.Sprint("m", d.n), Text: text},
	}
}

func (d *desk) append(events ...parley.Event) []parley.Pending {
	d.t.Helper()
	rows, err := d.Append(d.t.Context(), parley.Arrivals{Events: events})
	if err != nil {
		d.t.Fatalf("append: %v", err)
	}
	if len(rows) != len(events) {
		d.t.Fatalf("append of %d events returned %d rows", len(events), len(rows))
	}
	return rows
}

// say appends one message to c.
func (d *desk) say(c parley.Conversation, text string) parley.Pending {
	d.t.Helper()
	return d.append(d.event(c, text))[0]
}

func (d *desk) load(c parley.Conversation) parley.Loaded {
	d.t.Helper()
	l, err := d.Load(d.t.Context(), c, 100)
	if err != nil {
		d.t.Fatalf("load: %v", err)
	}
	return l
}

// nonce is a fresh one for each call.
func (d *desk) nonce() (b [16]byte) {
	d.n++
	binary.BigEndian.PutUint64(b[8:], d.n)
	binary.BigEndian.PutUint64(b[:8], d.n*0x9e3779b97f4a7c15)
	return b
}

// id is a fresh one.
func (d *desk) id() parley.ID { return parley.NewID(d.clock.Now(), d.nonce()) }

// turn makes a commit of what was loaded, without a bot: it takes the rows and
// raises the version.
func (d *desk) turn(l parley.Loaded) parley.Commit {
	d.n++
	c := parley.Commit{
		Conversation: l.Snapshot.Conversation, Base: l.Snapshot.Version, Next: l.Snapshot,
		History: fmt.Appendf(nil, `{"turn":%d}`, l.Snapshot.Version.Number+1),
	}
	c.Next.Version = parley.Version{Number: c.Base.Number + 1, Token: parley.Token(d.n * 0x9e3779b97f4a7c15)}
	for _, p := range l.Pending {
		c.Saw, c.Through = append(c.Saw, p.Row), p.Seq
		if !parley.OfOwn(p.Data) {
			effected(&c, p.Received).Effected++
		}
	}
	return c
}

// effected is the posting of a commit for what was received at a time.
func effected(c *parley.Commit, received time.Time) *parley.Posting {
	for i := range c.Postings {
		if c.Postings[i].Bucket == parley.BucketOf(received) {
			return &c.Postings[i]
		}
	}
	c.Postings = append(c.Postings, parley.Posting{Brand: c.Conversation.Channel.Brand, Bucket: parley.BucketOf(received)})
	return &c.Postings[len(c.Postings)-1]
}

// replies adds n outgoing messages to a commit.
func (d *desk) replies(c *parley.Commit, texts ...string) []parley.Outgoing {
	for _, text := range texts {
		c.Next.Ordinal++
		c.Outbox = append(c.Outbox, parley.Outgoing{
			ID: d.id(), Conversation: c.Conversation, Ordinal: c.Next.Ordinal, At: d.clock.Now(),
			Send: parley.Send{Text: text, QuickReplies: []parley.QuickReply{{Title: "yes", Payload: "\x00y"}}},
		})
	}
	return c.Outbox
}

// timer adds a timer to a commit.
func (d *desk) timer(c *parley.Commit, name string, in time.Duration) parley.Timer {
	c.Next.Generation++
	set := parley.Timer{ID: d.id(), Name: name, Generation: c.Next.Generation, Due: d.clock.Now().Add(in)}
	c.Next.Timers = append(c.Next.Timers, set)
	c.SetTimers = append(c.SetTimers, set)
	return set
}

func (d *desk) tryCommit(commits ...parley.Commit) []error {
	d.t.Helper()
	errs, err := d.Commit(d.t.Context(), commits)
	if err != nil {
		d.t.Fatalf("commit: %v", err)
	}
	if len(errs) != len(commits) {
		d.t.Fatalf("%d commits have %d errors", len(commits), len(errs))
	}
	return errs
}

func (d *desk) commit(commits ...parley.Commit) {
	d.t.Helper()
	for i, err := range d.tryCommit(commits...) {
		if err != nil {
			d.t.Fatalf("commit %d of %d: %v", i, len(commits), err)
		}
	}
}

// conflict expects that a commit is refused and changes nothing.
func (d *desk) conflict(c parley.Commit) {
	d.t.Helper()
	before := d.load(c.Conversation)
	if err := d.tryCommit(c)[0]; !errors.Is(err, parley.ErrConflict) {
		d.t.Fatalf("commit: got %v, want ErrConflict", err)
	}
	d.same("conversation after a refused commit", d.load(c.Conversation), before)
}

// send makes one turn of c that sends texts.
func (d *desk) send(c parley.Conversation, texts ...string) []parley.Outgoing {
	d.t.Helper()
	turn := d.turn(d.load(c))
	out := d.replies(&turn, texts...)
	d.commit(turn)
	return out
}

// sendBulk makes one turn of c that sends something of a campaign.
func (d *desk) sendBulk(c parley.Conversation, text string) []parley.Outgoing {
	d.t.Helper()
	turn := d.turn(d.load(c))
	out := d.replies(&turn, text)
	out[0].Send.Bulk, turn.Outbox[0].Send.Bulk = true, true
	d.commit(turn)
	return out
}

const leaseTTL = 10 * time.Second

func (d *desk) lease(holder string, have parley.Lease) parley.Lease {
	d.t.Helper()
	return d.leaseOf(page(), holder, have)
}

func (d *desk) leaseOf(ch parley.Channel, holder string, have parley.Lease) parley.Lease {
	d.t.Helper()
	l, err := d.Lease(d.t.Context(), ch, holder, leaseTTL, have)
	if err != nil {
		d.t.Fatalf("lease: %v", err)
	}
	return l
}

const doubtfulWait = 30 * time.Second

func (d *desk) claim(l parley.Lease, limit int) ([]parley.Claimed, time.Duration) {
	d.t.Helper()
	claimed, wait, err := d.Claim(d.t.Context(), l, parley.Places{All: limit}, doubtfulWait, time.Hour)
	if err != nil {
		d.t.Fatalf("claim: %v", err)
	}
	return claimed, wait
}

// claims expects just these messages, in any order.
func (d *desk) claims(l parley.Lease, want ...parley.Outgoing) []parley.Claimed {
	d.t.Helper()
	claimed, _ := d.claim(l, 100)
	var got []parley.Outgoing
	for _, c := range claimed {
		got = append(got, c.Outgoing)
	}
	byID := cmpopts.SortSlices(func(a, b parley.Outgoing) bool { return a.ID.String() < b.ID.String() })
	if diff := cmp.Diff(want, got, byID, equal); diff != "" {
		d.t.Fatalf("claimed (-want +got):\n%s", diff)
	}
	return claimed
}

func (d *desk) settle(l parley.Lease, outcomes ...parley.Outcome) {
	d.t.Helper()
	if err := d.Settle(d.t.Context(), l, outcomes); err != nil {
		d.t.Fatalf("settle: %v", err)
	}
}

func sent(o parley.Outgoing) parley.Outcome {
	return parley.Outcome{ID: o.ID, Kind: parley.Sent, ProviderID: "mid." + o.ID.String()}
}

func (d *desk) backlog() parley.Backlog {
	d.t.Helper()
	b, err := d.Backlog(d.t.Context())
	if err != nil {
		d.t.Fatalf("backlog: %v", err)
	}
	return b
}

func (d *desk) same(what string, got, want any) {
	d.t.Helper()
	if diff := cmp.Diff(want, got, equal); diff != "" {
		d.t.Fatalf("%s (-want +got):\n%s", what, diff)
	}
}

// fenced expects ErrFenced.
func (d *desk) fenced(what string, err error) {
	d.t.Helper()
	if !errors.Is(err, parley.ErrFenced) {
		d.t.Fatalf("%s: got %v, want ErrFenced", what, err)
	}
}
