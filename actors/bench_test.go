package actors_test

import (
	"context"
	"fmt"
	"runtime"
	"syscall"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/actors"
	"github.com/parleychat/parley/persistence/embedded"
)

func cpu() time.Duration {
	var u syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &u); err != nil {
		panic(err)
	}
	return time.Duration(u.Utime.Nano() + u.Stime.Nano())
}

// openBench is a host on a real directory.
func openBench(b *testing.B) (*actors.Host, *embedded.Store) {
	b.Helper()
	store, err := embedded.Open(embedded.Config{Dir: b.TempDir()})
	if err != nil {
		b.Fatal(err)
	}
	h, err := actors.New(actors.Config{Store: store, Agenda: store, Bot: func(parley.Channel) *parley.Bot { return counting() }})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	go func(ended chan<- error) { ended <- h.Run(ctx) }(ended)
	b.Cleanup(func() {
		stop()
		if err := <-ended; err != nil {
			b.Error(err)
		}
		if err := store.Close(); err != nil {
			b.Error(err)
		}
	})
	return h, store
}

// BenchmarkTurn measures an append, a turn and its commit, for events of 5000
// conversations that arrive in groups.
func BenchmarkTurn(b *testing.B) {
	for _, group := range []int{1, 16, 128} {
		b.Run(fmt.Sprintf("group=%d", group), func(b *testing.B) {
			h, store := openBench(b)
			began := cpu()
			for i := 0; i < b.N; i += group {
				events := make([]parley.Event, 0, group)
				for j := range group {
					n := i + j
					events = append(events, parley.Event{
						Channel: talk(0).Channel, Contacts: []parley.Contact{talk(n % 5000).Contact},
						Key: parley.NewEventKey(fmt.Sprint(n)), Time: time.Now(),
						Input: parley.Message{ID: fmt.Sprintf("m_%060d", n), Text: "say something of the usual length"},
					})
				}
				rows, err := store.Append(b.Context(), parley.Arrivals{Events: events})
				if err != nil {
					b.Fatal(err)
				}
				h.Deliver(rows)
			}
			for {
				backlog, err := store.Backlog(b.Context())
				if err != nil {
					b.Fatal(err)
				}
				if backlog.Pending == 0 {
					break
				}
				time.Sleep(time.Millisecond)
			}
			b.ReportMetric(float64((cpu()-began).Nanoseconds())/float64(b.N)/1000, "cpu-µs/turn")
		})
	}
}

// BenchmarkIdle measures the memory of a conversation that is in memory and has
// nothing to do, after two turns each.
func BenchmarkIdle(b *testing.B) {
	const conversations = 100_000
	for range b.N {
		h, store := openBench(b)
		runtime.GC()
		var before, after runtime.MemStats
		runtime.ReadMemStats(&before)
		for i := 0; i < 2*conversations; i += 500 {
			events := make([]parley.Event, 0, 500)
			for j := range 500 {
				n := i + j
				c := parley.Conversation{Channel: talk(0).Channel, Contact: parley.Contact(fmt.Sprintf("user:%016d", n%conversations))}
				events = append(events, parley.Event{
					Channel: c.Channel, Contacts: []parley.Contact{c.Contact}, Key: parley.NewEventKey(fmt.Sprint(n)), Time: time.Now(),
					Input: parley.Message{ID: fmt.Sprintf("m_%060d", n), Text: "hi"},
				})
			}
			rows, err := store.Append(b.Context(), parley.Arrivals{Events: events})
			if err != nil {
				b.Fatal(err)
			}
			h.Deliver(rows)
		}
		for backlog := (parley.Backlog{Pending: 1}); backlog.Pending > 0; {
			backlog, _ = store.Backlog(b.Context())
			time.Sleep(10 * time.Millisecond)
		}
		runtime.GC()
		runtime.ReadMemStats(&after)
		b.ReportMetric(float64(h.Live()), "conversations")
		b.ReportMetric((float64(after.HeapAlloc)-float64(before.HeapAlloc))/float64(h.Live()), "B/conversation")
		runtime.KeepAlive(h)
	}
}
