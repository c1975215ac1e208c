// Package egress carries what is in the outbox to the provider: in order within
// each conversation, once unless an answer was lost, and to a named end.
//
// Two parts. [Sender] is a machine for one channel: it decides, and does
// nothing. It has no goroutine, no clock and no I/O, so that a simulation drives
// the very code that the product runs. [Manager] is the shell around the
// machines of a node: it does what they say, one goroutine for each channel that
// has work, and a bounded pool of callers for the provider.
//
// Every attempt takes the same road. The store marks the message as attempted in
// the epoch of the channel's lease and makes that durable ([Outbox].Claim). Only
// then does the message reach a [Gate], which looks at the clock a last time:
// past half of the lease the message stays. What came of it is noted
// ([Outbox].Settle). Whoever stops in between leaves a mark without an outcome;
// the next epoch takes that message for doubtful and waits before it sends again.
//
// It imports parley and meta. Neither a wake-up nor the membership of a cluster
// matters for correctness here: only the epoch does, and the store compares it.
package egress

import (
	"context"
	"fmt"
	"time"

	"github.com/parleychat/parley"
)

// Provider takes messages: Meta's Graph API, or a simulation of it.
type Provider interface {
	// Send hands m over and says how that ended. It bounds its own time; the
	// sum of that time and half a lease should be less than the wait for
	// doubtful messages, so that a first attempt is over before a second begins.
	// When ctx is done it returns soon, with Unknown if the request may have
	// left. It must not retry by itself what may have been taken.
	Send(ctx context.Context, m parley.Claimed) Answer
}

// Deliverer passes durable inbox rows on to the actors of their conversations.
// It must not block and may drop any of them.
type Deliverer interface {
	Deliver(rows []parley.Pending)
}

// AnswerKind says what an answer means for the message and for its channel.
type AnswerKind uint8

// The kinds of answers.
const (
	// Accepted: the provider took the message.
	Accepted AnswerKind = iota + 1
	// Retryable: refused for a time, or never reached the provider.
	Retryable
	// ThrottledUser: too many messages to this contact. The other conversations
	// of the channel are not concerned.
	ThrottledUser
	// ThrottledChannel: too many messages of this channel or app. The channel
	// pauses.
	ThrottledChannel
	// Blocked: the brand must act first (token, permission, payment). The
	// channel pauses; its messages stay.
	Blocked
	// Rejected: this message will never be taken.
	Rejected
	// Unknown: the answer was lost, the message may have been taken.
	Unknown
	// Withheld: the message was not handed over, since its time had passed. Only
	// a Gate says so.
	Withheld
	// Barred: the message was not handed over, since the provider would refuse it
	// for what is known of its contact (Why). Only a Gate says so.
	Barred
)

// String is the name of the kind in metrics and logs.
func (k AnswerKind) String() string {
	switch k {
	case Accepted:
		return "accepted"
	case Retryable:
		return "retryable"
	case ThrottledUser:
		return "throttled_user"
	case ThrottledChannel:
		return "throttled_channel"
	case Blocked:
		return "blocked"
	case Rejected:
		return "rejected"
	case Unknown:
		return "unknown"
	case Withheld:
		return "withheld"
	case Barred:
		return "barred"
	}
	return fmt.Sprintf("answer_kind_%d", uint8(k))
}

// Answer is how one attempt ended. A Provider sets Kind to Used, a Gate the rest.
type Answer struct {
	Kind       AnswerKind
	ProviderID string         // the provider's id of the message, if Accepted
	Wait       time.Duration  // what the provider asked to wait, 0 if it didn't
	Tries      int            // how often it is worth trying in all, if Retryable; 0 if the policy decides
	Cause      string         // the refusal or the transport's error; no message text, no token
	Code       int            // the provider's error code, 0 if none
	Why        parley.Failure // of Rejected and Barred: what the bot hears; empty if it doesn't
	Used       int            // percent of a quota that is used, as the provider told beside the answer; 0 if it didn't

	ID    parley.ID
	Epoch uint64        // of the claim
	Age   time.Duration // of the message, by the node's wall clock
	Took  time.Duration // to hand it over and get the answer
	Left  time.Duration // when it was handed over, on the Gate's Clock; 0 if it was not
}

// Handover is a claimed message that may be handed to the provider until Until,
// and not after.
type Handover struct {
	parley.Claimed
	Epoch uint64        // of the claim
	Until time.Duration // on the clock that the Sender is driven by
	// From is when it should leave, on the same clock: messages that are claimed
	// together leave one after the other, as the pace has it.
	From time.Duration
}

// A Gate is the last step before the provider. It is used by many callers at
// once, and by a simulation alone.
type Gate struct {
	Provider Provider
	// Clock tells the time since the machine started, as [Config].Clock.
	Clock func() time.Duration
	// Now is the wall clock, for the age of messages and the length of calls.
	Now func() time.Time
}

// Pass hands h over unless its time has passed. The check stands directly before
// the call: a process that was suspended since the claim, or whose lease could
// not be renewed, must find out here; and a message that waited until its contact
// could no longer be written to. A panic of the
// provider's code is a rejection: it would come back with the message.
func (g Gate) Pass(ctx context.Context, h Handover) (a Answer) {
	began := g.Now() // for the call's length: unlike Clock, it costs no system call
	var left time.Duration
	defer func() {
		if r := recover(); r != nil {
			a = Answer{Kind: Rejected, Cause: fmt.Sprintf("panic while sending (%T)", r)}
		}
		ended := g.Now()
		a.ID, a.Epoch, a.Age, a.Took, a.Left = h.ID, h.Epoch, ended.Sub(h.At), ended.Sub(began), left
	}()
	now := g.Clock()
	if now >= h.Until {
		return Answer{Kind: Withheld, Cause: "lease is past its half"}
	}
	if why := h.Heard.Refuses(h.Conversation.Channel.Kind, &h.Send, began); why != "" {
		return Answer{Kind: Barred, Why: why, Cause: barred(why)}
	}
	left = now
	return g.Provider.Send(ctx, h.Claimed)
}

// barred is a refusal of ours in words.
func barred(why parley.Failure) string {
	switch why {
	case parley.WindowClosed:
		return "the contact has not written for too long"
	case parley.OptedOut:
		return "the contact has stopped marketing"
	case parley.OutcomeUnknown:
		return "its answer was lost, and it is not sent again"
	case parley.TakenOver:
		return "somebody else was given the word before it was sent"
	}
	return string(why)
}
