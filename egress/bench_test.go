package egress_test

import (
	"context"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
)

// well is a store without cost: it never runs dry before size messages.
type well struct {
	mu    sync.Mutex
	left  int
	sent  int
	calls int
	empty chan struct{}
}

func (w *well) Lease(_ context.Context, ch parley.Channel, holder string, ttl time.Duration, _ parley.Lease) (parley.Lease, error) {
	return parley.Lease{Channel: ch, Holder: holder, Epoch: 1, TTL: ttl}, nil
}

func (w *well) Recall(context.Context, parley.Lease, []parley.ID, time.Duration) (int, error) {
	return 0, nil
}

func (w *well) Claim(_ context.Context, _ parley.Lease, places parley.Places, _, horizon time.Duration) ([]parley.Claimed, time.Duration, error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	rows := make([]parley.Claimed, min(places.All, w.left))
	for i := range rows {
		rows[i].ID = parley.ID{1, byte(w.left), byte(w.left >> 8), byte(w.left >> 16), byte(w.left >> 24)}
		w.left--
	}
	if w.left > 0 {
		return rows, 0, nil
	}
	return rows, horizon, nil
}

func (w *well) Settle(_ context.Context, _ parley.Lease, outcomes []parley.Outcome) error {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.calls++
	w.sent += len(outcomes)
	if w.left == 0 && w.sent > 0 {
		select {
		case w.empty <- struct{}{}:
		default:
		}
	}
	return nil
}

func (w *well) Yield(context.Context, string, []parley.Channel) error { return nil }

func (w *well) Fold(context.Context, parley.Lease, int) (parley.Folded, error) {
	return parley.Folded{}, nil
}

func (*well) Append(context.Context, parley.Arrivals) ([]parley.Pending, error) { return nil, nil }

// BenchmarkManager is what a message costs between store and provider, both of
// which cost nothing here: the CPU time of the whole process.
func BenchmarkManager(b *testing.B) {
	for _, c := range []struct {
		name    string
		latency time.Duration
	}{{"Instant", 0}, {"1ms", time.Millisecond}} {
		b.Run(c.name, func(b *testing.B) {
			w := &well{left: b.N, empty: make(chan struct{}, 1)}
			m, err := egress.New(egress.Config{
				Outbox: w, Receipts: w, Holder: "me",
				Provider: provider(func(_ context.Context, m parley.Claimed) egress.Answer {
					if c.latency > 0 {
						time.Sleep(c.latency)
					}
					return egress.Answer{Kind: egress.Accepted, ProviderID: "m"}
				}),
			})
			if err != nil {
				b.Fatal(err)
			}
			ctx, cancel := context.WithCancel(b.Context())
			done := make(chan error, 1)
			b.ReportAllocs()
			b.ResetTimer()
			before := cpu(b)
			go func() { done <- m.Run(ctx) }()
			for _, ch := range channels(20) {
				m.Wake(ch)
			}
			<-w.empty
			b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
			b.StopTimer()
			cancel()
			if err := <-done; err != nil {
				b.Fatal(err)
			}
			b.ReportMetric(float64(w.calls)/float64(b.N), "store-calls/op")
		})
	}
}

// BenchmarkManagerHinted is a message that comes alone: a hint, a claim, a call,
// a settle and a look whether there is more, on one of 100 channels in turn.
func BenchmarkManagerHinted(b *testing.B) {
	const under = 16 // messages under way
	w := &well{empty: make(chan struct{}, 1)}
	done, free := make(chan error, 1), make(chan struct{}, under)
	m, err := egress.New(egress.Config{
		Outbox: w, Receipts: w, Holder: "me",
		Provider: provider(func(context.Context, parley.Claimed) egress.Answer {
			<-free
			return egress.Answer{Kind: egress.Accepted, ProviderID: "m"}
		}),
	})
	if err != nil {
		b.Fatal(err)
	}
	ctx, cancel := context.WithCancel(b.Context())
	go func() { done <- m.Run(ctx) }()
	all := channels(100)
	b.ReportAllocs()
	b.ResetTimer()
	before := cpu(b)
	for i := range b.N {
		free <- struct{}{}
		w.mu.Lock()
		w.left++
		w.mu.Unlock()
		m.Wake(all[i%len(all)])
	}
	for range under {
		free <- struct{}{} // until every call is over
	}
	b.ReportMetric(float64(cpu(b)-before)/float64(b.N), "cpu-ns/op")
	b.StopTimer()
	for range under {
		<-free
	}
	cancel()
	if err := <-done; err != nil {
		b.Fatal(err)
	}
	b.ReportMetric(float64(w.calls)/float64(b.N), "store-calls/op")
}

// BenchmarkSender is the machine alone.
func BenchmarkSender(b *testing.B) {
	w := &well{left: b.N, empty: make(chan struct{}, 1)}
	now := time.Hour
	clerk := egress.Clerk{Outbox: w, Receipts: w, Clock: func() time.Duration { return now }}
	s := egress.NewSender(page, "me", egress.Policy{Random: middle})
	s.Wake(now)
	b.ReportAllocs()
	for w.sent < b.N {
		a := s.Next(now)
		if a.Kind == egress.Rest {
			now = a.Until
		}
		for _, h := range clerk.Do(b.Context(), s, a).Handovers {
			s.Answered(egress.Answer{Kind: egress.Accepted, ProviderID: "m", ID: h.ID, Epoch: h.Epoch}, now)
		}
	}
}

func cpu(b *testing.B) time.Duration {
	b.Helper()
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		b.Fatal(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}
