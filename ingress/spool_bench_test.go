package ingress_test

import (
	"context"
	"fmt"
	"testing"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/ingress"
)

// BenchmarkSpool is an append of a group of events: straight to an inbox that
// costs nothing, through a closed breaker to it, and to the spool on the
// machine's disk, whose fsync is most of it.
func BenchmarkSpool(b *testing.B) {
	straight := instant{}
	through, spooling := spoolFor(b, instant{}), spoolFor(b, instant{parley.ErrUnavailable})
	for _, events := range []int{1, 64} {
		var group parley.Arrivals
		for i := range events {
			group.Events = append(group.Events, say(fmt.Sprintf("%03d Hello there, I would like a large pizza, please", i)).Events...)
		}
		for _, way := range []struct {
			name  string
			inbox ingress.Inbox
		}{{"straight", straight}, {"through", through}, {"spooling", spooling}} {
			b.Run(fmt.Sprintf("%s/%d", way.name, events), func(b *testing.B) {
				b.ReportAllocs()
				for b.Loop() {
					if _, err := way.inbox.Append(b.Context(), group); err != nil {
						b.Fatal(err)
					}
				}
			})
		}
	}
}

func spoolFor(b *testing.B, inbox ingress.Inbox) *ingress.Spool {
	b.Helper()
	s, err := ingress.OpenSpool(ingress.SpoolConfig{Inbox: inbox, Dir: b.TempDir(), MaxBytes: 8 << 30})
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

// instant is an inbox that answers at once.
type instant struct{ err error }

func (i instant) Append(context.Context, parley.Arrivals) ([]parley.Pending, error) {
	return nil, i.err
}

// BenchmarkArrivals is what the codec takes of it.
func BenchmarkArrivals(b *testing.B) {
	a := say("Hello there, I would like a large pizza, please")
	encoded, err := ingress.EncodeArrivals(a, true)
	if err != nil {
		b.Fatal(err)
	}
	b.Run("encode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ingress.EncodeArrivals(a, true); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			if _, err := ingress.DecodeArrivals(encoded); err != nil {
				b.Fatal(err)
			}
		}
	})
}
