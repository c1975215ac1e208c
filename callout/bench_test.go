package callout_test

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/callout"
)

// spring is a store that always has calls to be made, and takes all answers.
type spring struct {
	mu    sync.Mutex
	left  int // calls to be given
	open  int // calls that are given and not settled
	ended chan struct{}
}

func (s *spring) ClaimCalls(_ context.Context, q parley.CallQuery, horizon time.Duration) ([]parley.ClaimedCall, time.Duration, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	var claimed []parley.ClaimedCall
	if len(q.Services) > 0 && s.left > q.Services[0].Limit && q.Services[0].Limit > 0 {
		horizon = 0
	}
	for _, p := range q.Services {
		for range min(p.Limit, s.left) {
			s.left--
			s.open++
			claimed = append(claimed, parley.ClaimedCall{
				OutgoingCall: parley.OutgoingCall{ID: parley.ID{byte(s.left), byte(s.left >> 8)}, Conversation: conv("a"), Call: order()}, Claim: 1,
			})
		}
	}
	return claimed, horizon, nil
}

func (s *spring) SettleCalls(_ context.Context, outcomes []parley.CallOutcome) (parley.SettledCalls, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open -= len(outcomes); s.open == 0 && s.left == 0 {
		close(s.ended)
	}
	return parley.SettledCalls{}, nil
}

func (s *spring) YieldCalls(context.Context, string) error { return nil }

func echo(b *testing.B) *httptest.Server {
	b.Helper()
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(w, r.Body)
	}))
	b.Cleanup(server.Close)
	return server
}

// BenchmarkRequest is the bare request, by 16 at once: what a call is held against.
func BenchmarkRequest(b *testing.B) {
	server := echo(b)
	transport := &http.Transport{MaxIdleConnsPerHost: callout.Concurrency}
	var all sync.WaitGroup
	work := make(chan struct{})
	for range callout.Concurrency {
		all.Go(func() {
			for range work {
				r, err := http.NewRequestWithContext(b.Context(), http.MethodPost, server.URL, strings.NewReader(`{"a":1}`))
				if err != nil {
					b.Error(err)
					return
				}
				answer, err := transport.RoundTrip(r)
				if err != nil {
					b.Error(err)
					return
				}
				_, _ = io.Copy(io.Discard, answer.Body)
				_ = answer.Body.Close()
			}
		})
	}
	b.ResetTimer()
	for range b.N {
		work <- struct{}{}
	}
	close(work)
	all.Wait()
	transport.CloseIdleConnections()
}

// BenchmarkCall is a call without its store: claimed, made, settled.
func BenchmarkCall(b *testing.B) {
	server := echo(b)
	s := &spring{left: b.N, ended: make(chan struct{})}
	c, err := callout.New(callout.Config{Calls: s, Services: []callout.Service{{Name: crm, URL: server.URL}}})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(b.Context())
	ended := make(chan error, 1)
	b.ResetTimer()
	go func() { ended <- c.Run(ctx) }()
	<-s.ended
	b.StopTimer()
	stop()
	if err := <-ended; err != nil {
		b.Fatal(fmt.Errorf("run: %w", err))
	}
}
