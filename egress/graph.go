package egress

import (
	"context"
	"errors"

	"github.com/parleychat/parley"
	"github.com/parleychat/parley/meta"
)

// GraphClient calls the Graph API: a *meta.Client.
type GraphClient interface {
	Send(ctx context.Context, a meta.Account, o *parley.Outgoing) (providerID string, err error)
}

// Graph is the Graph API as a Provider.
type Graph struct {
	Client GraphClient
	// Account returns the right to send for a channel; false if there is none,
	// which pauses the channel until there is.
	Account func(ch parley.Channel) (meta.Account, bool)
}

// Send calls the Graph API once.
func (g Graph) Send(ctx context.Context, m parley.Claimed) Answer {
	account, ok := g.Account(m.Conversation.Channel)
	if !ok {
		return Answer{Kind: Blocked, Cause: "no account to send with is configured for the channel"}
	}
	var usage meta.Usage
	account.Heard = func(u meta.Usage) { usage = u }
	id, err := g.Client.Send(ctx, account, &m.Outgoing)
	a := Answer{Kind: Accepted, ProviderID: id, Wait: usage.Wait}
	if err != nil {
		a = failed(err)
	}
	a.Used = usage.Percent
	return a
}

func failed(err error) Answer {
	var e *meta.GraphError
	if !errors.As(err, &e) { // it could not be encoded, and never will be
		return Answer{Kind: Rejected, Cause: err.Error()}
	}
	return Answer{Kind: kindOf(e), Wait: e.RetryAfter, Tries: e.Tries, Cause: e.Error(), Code: e.Code, Why: e.Failure()}
}

// kindOf is what a class means for the message and its channel, by the error's
// scope.
func kindOf(e *meta.GraphError) AnswerKind {
	wide := e.Scope == meta.ScopeChannel || e.Scope == meta.ScopeApp
	switch e.Class {
	case meta.ClassUnknown:
		return Unknown
	case meta.ClassSent:
		return Accepted
	case meta.ClassRetry, meta.ClassWait:
		switch {
		case wide:
			return ThrottledChannel
		case e.Class == meta.ClassWait:
			return ThrottledUser
		}
		return Retryable
	case meta.ClassTenant:
		if wide {
			return Blocked
		}
	case meta.ClassPermanent:
		if e.Tries > 1 { // of media: sometimes it helps to ask again
			return Retryable
		}
	case meta.ClassUser:
	}
	return Rejected
}
