package egress_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/egress"
	"github.com/parleychat/parley/meta"
)

type graphClient func(meta.Account, *parley.Outgoing) (string, error)

func (g graphClient) Send(_ context.Context, a meta.Account, o *parley.Outgoing) (string, error) {
	return g(a, o)
}

func TestGraph(t *testing.T) {
	t.Parallel()
	graph := func(class meta.Class, scope meta.Scope) *meta.GraphError {
		return &meta.GraphError{Class: class, Scope: scope, Code: 7, RetryAfter: time.Second}
	}
	for _, c := range []struct {
		name string
		err  error
		want egress.Answer
	}{
		{"Taken", nil, egress.Answer{Kind: egress.Accepted, ProviderID: "m.1"}},
		{"TooLong", fmt.Errorf("encode message: %w", &meta.LimitError{Limit: "MaxMessengerText", Have: 3000, Max: 2000}), egress.Answer{Kind: egress.Rejected}},
		{"Lost", &meta.GraphError{Class: meta.ClassUnknown, Cause: errors.New("timeout")}, egress.Answer{Kind: egress.Unknown}},
		{"SentAfterAll", graph(meta.ClassSent, meta.ScopeMessage), egress.Answer{Kind: egress.Accepted, Wait: time.Second, Code: 7}},
		{"NoConnection", &meta.GraphError{Class: meta.ClassRetry, Cause: errors.New("refused")}, egress.Answer{Kind: egress.Retryable}},
		{"Few", &meta.GraphError{Class: meta.ClassRetry, Code: 1, Tries: 4}, egress.Answer{Kind: egress.Retryable, Code: 1, Tries: 4}},
		{"Maintenance", graph(meta.ClassRetry, meta.ScopeChannel), egress.Answer{Kind: egress.ThrottledChannel, Wait: time.Second, Code: 7}},
		{"PairRate", graph(meta.ClassWait, meta.ScopeContact), egress.Answer{Kind: egress.ThrottledUser, Wait: time.Second, Code: 7}},
		{"Throughput", graph(meta.ClassWait, meta.ScopeChannel), egress.Answer{Kind: egress.ThrottledChannel, Wait: time.Second, Code: 7}},
		{"AppRate", graph(meta.ClassWait, meta.ScopeApp), egress.Answer{Kind: egress.ThrottledChannel, Wait: time.Second, Code: 7}},
		{"Token", graph(meta.ClassTenant, meta.ScopeChannel), egress.Answer{Kind: egress.Blocked, Wait: time.Second, Code: 7}},
		{"Template", graph(meta.ClassTenant, meta.ScopeMessage), egress.Answer{Kind: egress.Rejected, Wait: time.Second, Code: 7}},
		{"NoSuchUser", graph(meta.ClassUser, meta.ScopeContact), egress.Answer{Kind: egress.Rejected, Wait: time.Second, Code: 7}},
		{"Wrong", graph(meta.ClassPermanent, meta.ScopeMessage), egress.Answer{Kind: egress.Rejected, Wait: time.Second, Code: 7}},
		{"Media", &meta.GraphError{Class: meta.ClassPermanent, Tries: 2}, egress.Answer{Kind: egress.Retryable, Tries: 2}},
	} {
		t.Run(c.name, func(t *testing.T) {
			t.Parallel()
			o := outgoing(talk(page, "a"), 1)
			g := egress.Graph{
				Client: graphClient(func(a meta.Account, got *parley.Outgoing) (string, error) {
					if a.Token != "secret" || got.ID != o.ID {
						return "", fmt.Errorf("sent %s with %q", got.ID, a.Token)
					}
					if c.err != nil {
						return "", c.err
					}
					return "m.1", nil
				}),
				Account: func(ch parley.Channel) (meta.Account, bool) { return meta.Account{Token: "secret"}, ch == page },
			}
			got := g.Send(t.Context(), parley.Claimed{Outgoing: o})
			if (got.Cause == "") != (c.err == nil) {
				t.Errorf("cause %q of %v", got.Cause, c.err)
			}
			if diff := cmp.Diff(c.want, got, cmpopts.IgnoreFields(egress.Answer{}, "Cause")); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
	t.Run("WithoutAnAccountTheChannelWaits", func(t *testing.T) {
		t.Parallel()
		g := egress.Graph{Account: func(parley.Channel) (meta.Account, bool) { return meta.Account{}, false }}
		if a := g.Send(t.Context(), parley.Claimed{}); a.Kind != egress.Blocked || a.Cause == "" {
			t.Fatalf("got %+v", a)
		}
	})
}
