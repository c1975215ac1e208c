package embedded_test

import (
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/embedded"
)

// The benchmarks use the machine's disk (of the test's temporary folder) and
// report cpu-us/event: the CPU of the whole process, background work of the
// store included, for each event, by the kernel's account.

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// measure runs f b.N times and reports the CPU for each of its n events.
func measure(b *testing.B, n int, f func(i int)) {
	b.Helper()
	b.ReportAllocs()
	before := cpu(b)
	b.ResetTimer()
	for i := range b.N {
		f(i)
	}
	b.StopTimer()
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N*n)/1e3, "cpu-us/event")
}

func openForBench(b *testing.B) *embedded.Store {
	b.Helper()
	s, err := embedded.Open(embedded.Config{Dir: b.TempDir(), SyncEvery: -1})
	if err != nil {
		b.Fatal(err)
	}
	b.Cleanup(func() {
		if err := s.Close(); err != nil {
			b.Error(err)
		}
	})
	return s
}

const benchConversations = 20_000

func benchConversation(i int) parley.Conversation {
	return parley.Conversation{
		Channel: parley.Channel{Brand: "acme", Kind: parley.Messenger, ID: fmt.Sprint("10660000000000", i%8)},
		Contact: parley.Contact(fmt.Sprint("user:73829104", i%benchConversations)),
	}
}

func benchEvents(from, n int) []parley.Event {
	events := make([]parley.Event, n)
	now := time.Now()
	for i := range events {
		c := benchConversation(from + i)
		key := parley.EventKey{}
		binary.BigEndian.PutUint64(key[:], rand.Uint64())
		events[i] = parley.Event{
			Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: key, Time: now,
			Input: parley.Message{ID: fmt.Sprint("m_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-", i), Text: "I'd like a large margherita with extra cheese, please"},
		}
	}
	return events
}

func must[T any](tb testing.TB) func(T, error) T {
	tb.Helper()
	return func(v T, err error) T {
		tb.Helper()
		if err != nil {
			tb.Fatal(err)
		}
		return v
	}
}

// benchTurn is a commit as a bot makes it: one row consumed, 150 bytes of
// state, 8 keys seen, one reply, 300 bytes of history.
func benchTurn(p *parley.Pending, s parley.Snapshot, rng *rand.Rand) parley.Commit {
	c := parley.Commit{
		Conversation: p.Conversation, Base: s.Version, Through: p.Seq, Saw: []parley.Row{p.Row}, Next: s,
		History: make([]byte, 300),
	}
	c.Next.Version = parley.Version{Number: s.Version.Number + 1, Token: parley.Token(rng.Uint64())}
	c.Next.State, c.Next.Last, c.Next.Bot = make([]byte, 150), p.Received, "pizza"
	c.Next.Seen = append(c.Next.Seen, parley.SeenKey{Key: p.Key, At: p.Received})
	if len(c.Next.Seen) > 8 {
		c.Next.Seen = c.Next.Seen[1:]
	}
	c.Postings = []parley.Posting{{Brand: p.Conversation.Channel.Brand, Bucket: parley.BucketOf(p.Received), Effected: 1}}
	c.Next.Ordinal++
	var random [16]byte
	binary.BigEndian.PutUint64(random[8:], rng.Uint64())
	c.Outbox = []parley.Outgoing{{
		ID: parley.NewID(p.Received, random), Conversation: p.Conversation, Ordinal: c.Next.Ordinal, At: p.Received,
		Send: parley.Send{Text: "One large margherita with extra cheese. Anything to drink?"},
	}}
	return c
}

func BenchmarkAppend(b *testing.B) {
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprint("group=", n), func(b *testing.B) {
			s := openForBench(b)
			groups := make([][]parley.Event, 64)
			for i := range groups {
				groups[i] = benchEvents(i*n, n)
			}
			measure(b, n, func(i int) {
				must[[]parley.Pending](b)(s.Append(b.Context(), parley.Arrivals{Events: groups[i%len(groups)]}))
			})
		})
	}
}

// line is a whole turn at the store: append, commit, claim, settle, in groups;
// each part is reported by its CPU.
func BenchmarkLine(b *testing.B) {
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprint("group=", n), func(b *testing.B) { benchLine(b, n) })
	}
}

type lineBench struct {
	b         *testing.B
	s         *embedded.Store
	n         int
	rng       *rand.Rand
	snapshots map[parley.Conversation]parley.Snapshot
	leases    map[parley.Channel]parley.Lease
	parts     [4]time.Duration
}

func benchLine(b *testing.B, n int) {
	b.Helper()
	l := &lineBench{
		b: b, s: openForBench(b), n: n, rng: rand.New(rand.NewPCG(1, 2)),
		snapshots: map[parley.Conversation]parley.Snapshot{}, leases: map[parley.Channel]parley.Lease{},
	}
	for i := range 8 {
		ch := benchConversation(i).Channel
		l.leases[ch] = must[parley.Lease](b)(l.s.Lease(b.Context(), ch, "s", time.Hour, parley.Lease{}))
	}
	b.ResetTimer()
	for i := range b.N {
		l.round(i)
	}
	b.StopTimer()
	for i, name := range []string{"append", "commit", "claim", "settle"} {
		b.ReportMetric(float64(l.parts[i])/float64(b.N*n)/1e3, name+"-us")
	}
}

func (l *lineBench) round(i int) {
	events := benchEvents(i*l.n, l.n)
	t := cpu(l.b)
	next := func(part int) {
		now := cpu(l.b)
		if part >= 0 {
			l.parts[part] += now - t
		}
		t = now
	}
	rows := must[[]parley.Pending](l.b)(l.s.Append(l.b.Context(), parley.Arrivals{Events: events}))
	next(0)
	commits := make([]parley.Commit, len(rows))
	for j := range rows {
		commits[j] = benchTurn(&rows[j], l.snapshots[rows[j].Conversation], l.rng)
	}
	next(-1)
	for _, err := range must[[]error](l.b)(l.s.Commit(l.b.Context(), commits)) {
		if err != nil {
			l.b.Fatal(err)
		}
	}
	next(1)
	for j := range commits {
		l.snapshots[commits[j].Conversation] = commits[j].Next
	}
	for _, lease := range l.leases {
		next(-1)
		claimed, _, err := l.s.Claim(l.b.Context(), lease, parley.Places{All: 1024}, time.Minute, time.Minute)
		if err != nil {
			l.b.Fatal(err)
		}
		next(2)
		if len(claimed) == 0 {
			continue
		}
		outcomes := make([]parley.Outcome, len(claimed))
		for j := range claimed {
			outcomes[j] = parley.Outcome{ID: claimed[j].ID, Kind: parley.Sent, ProviderID: "m_" + claimed[j].ID.String()}
		}
		next(-1)
		if err := l.s.Settle(l.b.Context(), lease, outcomes); err != nil {
			l.b.Fatal(err)
		}
		next(3)
	}
}

func BenchmarkFold(b *testing.B) {
	const n = 256
	s := openForBench(b)
	ch := benchConversation(0).Channel
	lease := must[parley.Lease](b)(s.Lease(b.Context(), ch, "s", 24*time.Hour, parley.Lease{}))
	var total time.Duration
	for i := range b.N {
		receipts := make([]parley.Receipt, n)
		for j := range receipts {
			receipts[j] = parley.Receipt{
				Channel: ch, Status: parley.StatusDelivered, Contact: "user:1", Time: time.Now(),
				ProviderID: fmt.Sprint("m_AbCdEfGhIjKlMnOpQrStUvWxYz0123456789-", i, "-", j),
			}
		}
		must[[]parley.Pending](b)(s.Append(b.Context(), parley.Arrivals{Receipts: receipts}))
		before := cpu(b)
		if _, err := s.Fold(b.Context(), lease, n); err != nil {
			b.Fatal(err)
		}
		total += cpu(b) - before
	}
	b.ReportMetric(float64(total)/float64(b.N*n)/1e3, "cpu-us/receipt")
}
