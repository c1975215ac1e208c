package postgres_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"syscall"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/persistence/pgserver"
	"github.com/parleychat/parley/persistence/postgres"
)

// The benchmarks report the CPU for each event of both sides: of this process,
// and of a private server's processes, which has fsync on.

// benchServer is the server under measurement and what reads its time.
type benchServer struct {
	*pgserver.Server
	store *postgres.Store
}

func openForBench(b *testing.B) *benchServer {
	b.Helper()
	server, err := pgserver.Start(b.Context(), pgserver.Config{Durable: true, Settings: map[string]string{
		"shared_buffers": "256MB", "max_wal_size": "4GB", "wal_compression": "off",
	}})
	if err != nil {
		b.Skip(err)
	}
	b.Cleanup(func() {
		if err := server.Stop(context.WithoutCancel(b.Context())); err != nil {
			b.Error(err)
		}
	})
	url := server.URL("postgres")
	if _, err := postgres.Migrate(b.Context(), url); err != nil {
		b.Fatal(err)
	}
	s := open(b, postgres.Config{URL: url})
	if err := s.Prune(b.Context(), parley.HistoryFor); err != nil {
		b.Fatal(err)
	}
	return &benchServer{Server: server, store: s}
}

// cpu is the time of both sides.
func (s *benchServer) cpu(b *testing.B) (client, server time.Duration) {
	b.Helper()
	client = s.clientCPU()
	server, err := s.CPU()
	if err != nil {
		b.Fatal(err)
	}
	return client, server
}

func (s *benchServer) clientCPU() time.Duration {
	var u syscall.Rusage
	_ = syscall.Getrusage(syscall.RUSAGE_SELF, &u) // it can't fail for oneself
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
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

// benchTurn is a commit as a bot makes it: one row consumed, 150 bytes of
// state, 8 keys seen, one reply, 300 bytes of history.
func benchTurn(p *parley.Pending, s parley.Snapshot) parley.Commit {
	c := parley.Commit{
		Conversation: p.Conversation, Base: s.Version, Through: p.Seq, Saw: []parley.Row{p.Row}, Next: s,
		History: make([]byte, 300),
	}
	c.Next.Version = parley.Version{Number: s.Version.Number + 1, Token: parley.Token(rand.Uint64())}
	c.Next.State, c.Next.Last, c.Next.Bot = make([]byte, 150), p.Received, "pizza"
	c.Next.Seen = append(c.Next.Seen, parley.SeenKey{Key: p.Key, At: p.Received})
	if len(c.Next.Seen) > 8 {
		c.Next.Seen = c.Next.Seen[1:]
	}
	c.Postings = []parley.Posting{{Brand: p.Conversation.Channel.Brand, Bucket: parley.BucketOf(p.Received), Effected: 1}}
	c.Next.Ordinal++
	var random [16]byte
	binary.BigEndian.PutUint64(random[8:], rand.Uint64())
	c.Outbox = []parley.Outgoing{{
		ID: parley.NewID(p.Received, random), Conversation: p.Conversation, Ordinal: c.Next.Ordinal, At: p.Received,
		Send: parley.Send{Text: "One large margherita with extra cheese. Anything to drink?"},
	}}
	return c
}

// BenchmarkLine is a whole turn at the store: append, commit, claim, settle, in
// groups; each part is reported by its CPU, the client's and the server's.
func BenchmarkLine(b *testing.B) {
	for _, n := range []int{1, 16, 128} {
		b.Run(fmt.Sprint("group=", n), func(b *testing.B) { benchLine(b, n) })
	}
}

type lineBench struct {
	*benchServer
	b         *testing.B
	n         int
	snapshots map[parley.Conversation]parley.Snapshot
	leases    map[parley.Channel]parley.Lease
	part      int
	client    [4]time.Duration
	server    [4]time.Duration
	atClient  time.Duration
	atServer  time.Duration
}

func benchLine(b *testing.B, n int) {
	b.Helper()
	l := &lineBench{
		benchServer: openForBench(b), b: b, n: n,
		snapshots: map[parley.Conversation]parley.Snapshot{}, leases: map[parley.Channel]parley.Lease{},
	}
	for i := range 8 {
		ch := benchConversation(i).Channel
		lease, err := l.store.Lease(b.Context(), ch, "s", time.Hour, parley.Lease{})
		if err != nil {
			b.Fatal(err)
		}
		l.leases[ch] = lease
	}
	b.ResetTimer()
	for i := range b.N {
		l.round(i)
	}
	b.StopTimer()
	for i, name := range []string{"append", "commit", "claim", "settle"} {
		b.ReportMetric(float64(l.client[i])/float64(b.N*n)/1e3, name+"-client-us")
		b.ReportMetric(float64(l.server[i])/float64(b.N*n)/1e3, name+"-server-us")
	}
}

// next ends the measurement of a part and begins that of another. Reading the
// server's time costs time of the client's, which belongs to neither.
func (l *lineBench) next(part int) {
	client, server := l.cpu(l.b)
	if l.part >= 0 {
		l.client[l.part] += client - l.atClient
		l.server[l.part] += server - l.atServer
	}
	l.part, l.atServer = part, server
	l.atClient = l.clientCPU()
}

func (l *lineBench) round(i int) {
	events := benchEvents(i*l.n, l.n)
	l.part = -1
	l.next(0)
	rows, err := l.store.Append(l.b.Context(), parley.Arrivals{Events: events})
	l.next(-1)
	if err != nil {
		l.b.Fatal(err)
	}
	commits := make([]parley.Commit, len(rows))
	for j := range rows {
		commits[j] = benchTurn(&rows[j], l.snapshots[rows[j].Conversation])
	}
	l.next(1)
	errs, err := l.store.Commit(l.b.Context(), commits)
	l.next(-1)
	if err != nil {
		l.b.Fatal(err)
	}
	for j := range commits {
		if errs[j] != nil {
			l.b.Fatal(errs[j])
		}
		l.snapshots[commits[j].Conversation] = commits[j].Next
	}
	for _, lease := range l.leases {
		l.send(lease)
	}
}

func (l *lineBench) send(lease parley.Lease) {
	l.next(2)
	claimed, _, err := l.store.Claim(l.b.Context(), lease, parley.Places{All: 1024}, time.Minute, time.Minute)
	l.next(-1)
	if err != nil {
		l.b.Fatal(err)
	}
	if len(claimed) == 0 {
		return
	}
	outcomes := make([]parley.Outcome, len(claimed))
	for j := range claimed {
		outcomes[j] = parley.Outcome{ID: claimed[j].ID, Kind: parley.Sent, ProviderID: "m_" + claimed[j].ID.String()}
	}
	l.next(3)
	if err := l.store.Settle(l.b.Context(), lease, outcomes); err != nil {
		l.b.Fatal(err)
	}
	l.next(-1)
}
